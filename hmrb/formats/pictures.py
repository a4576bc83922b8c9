"""Decode images into pixel arrays: one decoder for all, which refuses giant images and turns none unless asked to."""

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.errors import RunError
from hmrb.formats.files import LOOKED_BYTES, reason, what_bytes_are
from hmrb.formats.picture_headers import TIFF, header_size, segments, tiff_tags
from hmrb.system import NO_WAITING

MOST_PIXELS = 100_000_000  # the largest photos of datasets have 50 million
MOST_BYTES = 500_000_000  # of an encoded image
FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
PICTURES = ("a JPEG picture", "a PNG picture", "a GIF picture")


class UnreadablePicture(RunError):
    """An image that is missing, truncated or cannot be decoded; `may_pass`: the system did not let read it now."""

    may_pass = False


def refused_picture(path: Path, error: OSError) -> UnreadablePicture:
    """The refusal of an image that the system did not let read."""
    unreadable = UnreadablePicture(f"{path}: image cannot be read: {reason(error)}")
    unreadable.may_pass = True
    return unreadable


def decoded(data: bytes, label: str, *, orientation: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image to RGB pixels. Raises UnreadablePicture with a message that starts with `label`.

    `orientation` is EXIF's: 1 leaves the stored pixels as they are, as in datasets, whose labels are for these.
    """
    width, height = header_size(data)
    if width * height > MOST_PIXELS:
        raise UnreadablePicture(
            f"{label}: image of {width} x {height} pixels; the limit is {MOST_PIXELS:,} pixels; scale it down"
        )
    try:
        image = cv2.imdecode(np.frombuffer(_unturned(data), np.uint8), FLAGS)
    except cv2.error:
        image = None
    if image is None:
        found = what_bytes_are(data[:LOOKED_BYTES])
        said = f": it is {found}" if found and found not in PICTURES else ""
        raise UnreadablePicture(f"{label}: image cannot be decoded{said}")
    if data[:2] == b"\xff\xd8" and not _is_whole_jpeg(data):
        raise UnreadablePicture(f"{label}: image is truncated")  # decoders fill the rest with grey
    return upright(np.asarray(image), orientation)


def upright(image: UInt8[np.ndarray, "H W 3"], orientation: int) -> UInt8[np.ndarray, "Y X 3"]:
    """Turn and mirror pixels that were stored in an EXIF orientation (1 to 8); any other number changes nothing."""
    if orientation in (5, 6, 7, 8):
        image = image.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def read_picture(path: Path) -> bytes:
    """The bytes of an image file. Raises UnreadablePicture if it is no regular file, too large or not readable."""
    try:
        descriptor = os.open(path, os.O_RDONLY | NO_WAITING)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UnreadablePicture(f"{path}: image cannot be read: it is not a regular file")
            if os.fstat(descriptor).st_size > MOST_BYTES:
                raise UnreadablePicture(f"{path}: image cannot be read: it is larger than {MOST_BYTES:,} bytes")
            return file.read(MOST_BYTES)
    except OSError as error:
        raise refused_picture(path, error) from None
    except ValueError as error:  # a NUL in the name
        raise UnreadablePicture(f"{str(path)!r}: image cannot be read: {error}") from None


def read_pixels(path: Path) -> UInt8[np.ndarray, "H W 3"]:
    """The RGB pixels of an image file. Raises UnreadablePicture."""
    return decoded(read_picture(path), str(path))


def _unturned(data: bytes) -> bytes:
    """A TIFF whose orientation is set to upright, because OpenCV turns TIFFs even if asked not to; others as is."""
    if data[:4] not in TIFF:
        return data
    with suppress(struct.error):
        for tag, form, at in tiff_tags(data):
            if tag == 274:
                return data[:at] + struct.pack(form, 1) + data[at + struct.calcsize(form) :]
    return data


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether the pixels have an end. It may lie anywhere after their start: cameras add previews and notes."""
    start = next((at for code, at in segments(data) if code == 0xDA), 2)
    return data.find(b"\xff\xd9", start) >= 0
