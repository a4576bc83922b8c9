"""Decode images into pixel arrays: one decoder for all, which refuses giant images and turns none unless asked to."""

import os
import stat
import struct
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hmrb.formats.files import LOOKED_BYTES, reason, what_bytes_are
from hmrb.formats.jpeg_tiles import part_of_jpeg
from hmrb.formats.picture_headers import MOST_PIXELS as MOST_PIXELS
from hmrb.formats.picture_headers import TIFF, check_pixels, header_size, segments, tiff_tags
from hmrb.formats.picture_headers import UnreadablePicture as UnreadablePicture
from hmrb.formats.raw_pictures import raw_pixels
from hmrb.system import NO_WAITING

MOST_BYTES = 500_000_000  # of an encoded image
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)  # of OpenCV; what cannot be decoded is said by hmrb
FLAGS = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
REDUCED = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}
JPEG = b"\xff\xd8"
PICTURES = ("a JPEG picture", "a PNG picture", "a GIF picture")


def refused_picture(path: Path, error: OSError) -> UnreadablePicture:
    """The refusal of an image that the system did not let read."""
    unreadable = UnreadablePicture(f"{path}: image cannot be read: {reason(error)}")
    unreadable.may_pass = True
    return unreadable


def decoded(data: bytes, label: str, *, orientation: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image to RGB pixels. Raises UnreadablePicture with a message that starts with `label`.

    `orientation` is EXIF's: 1 leaves the stored pixels as they are, as in datasets, whose labels are for these.
    """
    return upright(_decoded(data, label, FLAGS), orientation)


def decoded_shrunk(data: bytes, label: str, times: int) -> UInt8[np.ndarray, "Y X 3"]:
    """Decode a JPEG 2, 4 or 8 times smaller, rounded up, as the decoder computes it from its blocks' frequencies.

    Raises UnreadablePicture.
    """
    image = _decoded(data, label, REDUCED[times] | cv2.IMREAD_IGNORE_ORIENTATION)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def decoded_where(data: bytes, label: str, matrix: Float[np.ndarray, "2 3"], size: int) -> UInt8[np.ndarray, "H W 3"]:
    """The picture of which only those pixels are decoded that a crop of `size` px shows, if its format allows that.

    `matrix` maps pixels of the picture to those of the crop. The other pixels are arbitrary. Raises UnreadablePicture.
    """
    _check_size(data, label)
    part = part_of_jpeg(data, matrix, size)
    if part is None:
        return decoded(data, label)
    shown = _pixels(part.data, label, FLAGS)
    picture = np.empty((part.height, part.width, 3), np.uint8)
    height, width = shown.shape[:2]
    picture[part.top : part.top + height, part.left : part.left + width] = shown
    return picture


def _decoded(data: bytes, label: str, flags: int) -> UInt8[np.ndarray, "H W 3"]:
    _check_size(data, label)
    raw = raw_pixels(data, label) if flags == FLAGS else None
    image = _pixels(_unturned(data), label, flags) if raw is None else raw.copy()
    if data[:2] == JPEG and not _is_whole_jpeg(data):
        raise UnreadablePicture(f"{label}: image is truncated")  # decoders fill the rest with grey
    return image


def _pixels(data: bytes, label: str, flags: int) -> UInt8[np.ndarray, "H W 3"]:
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        found = what_bytes_are(data[:LOOKED_BYTES])
        said = f": it is {found}" if found and found not in PICTURES else ""
        raise UnreadablePicture(f"{label}: image cannot be decoded{said}")
    return np.asarray(image)


def _check_size(data: bytes, label: str) -> None:
    check_pixels(*header_size(data), label)


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
