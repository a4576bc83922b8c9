"""Pictures that are not encoded: a header and the pixels, which can be used where they lie."""

import re

import numpy as np
from jaxtyping import UInt8

from hmrb.formats.picture_headers import UnreadablePicture, check_pixels

_HEADER = re.compile(rb"P6\n([1-9]\d{0,5}) ([1-9]\d{0,5})\n255\n")


def raw_picture(pixels: UInt8[np.ndarray, "H W 3"]) -> bytes:
    """RGB pixels as they are, behind a header that states their size: a binary PPM, which any reader reads."""
    height, width, _ = pixels.shape
    return b"P6\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def raw_pixels(data: bytes | UInt8[np.ndarray, " B"], label: str) -> UInt8[np.ndarray, "H W 3"] | None:
    """The pixels of a raw picture where they lie, read-only; None if it is another picture.

    Raises UnreadablePicture if some are missing, or if they are too many for any reader.
    """
    header = _HEADER.match(bytes(data[:24]))
    if header is None:
        return None
    width, height = int(header[1]), int(header[2])
    check_pixels(width, height, label)
    missing = header.end() + 3 * width * height - len(data)
    if missing > 0:
        raise UnreadablePicture(f"{label}: image is truncated")
    if missing < 0:  # several pictures in one file: a reader's task
        return None
    view = np.frombuffer(data, np.uint8, offset=header.end()).reshape(height, width, 3)
    view.flags.writeable = False
    return view
