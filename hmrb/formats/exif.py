"""EXIF of JPEG, PNG, WebP and TIFF: how the camera was held, and its focal length. Broken EXIF counts as none.

AVIF says how it was held in boxes of its own (HEIF, ISO/IEC 23008-12).
"""

import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hmrb.formats.picture_headers import TIFF, segments

FULL_FRAME_MM = math.hypot(36, 24)  # diagonal of 35 mm film, to which FocalLengthIn35mmFilm refers (EXIF 2.32)
UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # FocalPlaneResolutionUnit
MOST_TAGS = 512  # of a directory
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 9: 4, 10: 8}
_FORMS = {3: "H", 4: "I", 9: "i"}
ORIENTATION, EXIF_IFD = 0x0112, 0x8769
FOCAL_MM, FOCAL_35MM, WIDTH, HEIGHT = 0x920A, 0xA405, 0xA002, 0xA003
PLANE_X, PLANE_UNIT = 0xA20E, 0xA210
MOST_BOXES = 4096  # of an AVIF's box
Corners = tuple[int, int, int, int]
AS_STORED: Corners = (0, 1, 2, 3)  # the corners of a picture, row by row
ORIENTATIONS = {
    AS_STORED: 1, (1, 0, 3, 2): 2, (3, 2, 1, 0): 3, (2, 3, 0, 1): 4,
    (0, 2, 1, 3): 5, (2, 0, 3, 1): 6, (3, 1, 2, 0): 7, (1, 3, 0, 2): 8,
}  # EXIF's number by where the corners go  # fmt: skip
SAME_SHAPE = 0.01  # relative difference of two aspect ratios; rounding to whole pixels stays below


@dataclass(frozen=True, slots=True)
class Exif:
    """What a file says about its camera: EXIF orientation (1: upright), and its tags as numbers."""

    orientation: int
    tags: Mapping[int, float]

    def focal_px(self, width: int, height: int) -> tuple[float, str] | None:
        """Focal length in pixels of the picture of this size, and the tags it comes from; None if it is not known.

        A picture that was cut after it was taken has another shape than the camera noted: nothing is known of it.
        """
        longer, shorter = max(width, height), min(width, height)
        noted = self.tags.get(WIDTH, 0), self.tags.get(HEIGHT, 0)
        if min(noted) > 0 and abs(longer * min(noted) / (shorter * max(noted)) - 1) > SAME_SHAPE:
            return None
        if (film := self.tags.get(FOCAL_35MM, 0)) > 0:
            return film / FULL_FRAME_MM * math.hypot(width, height), "EXIF FocalLengthIn35mmFilm"
        length, plane, unit = (self.tags.get(tag, 0) for tag in (FOCAL_MM, PLANE_X, PLANE_UNIT))
        if min(length, plane, *noted) > 0 and int(unit) in UNIT_MM:
            return length * plane / UNIT_MM[int(unit)] * longer / max(
                noted
            ), "EXIF FocalLength and FocalPlaneResolution"
        return None


def read_exif(data: bytes) -> Exif:
    """The EXIF of an encoded image; orientation 1 and no tags if it has none, or one that is broken.

    Of an AVIF only the orientation that its boxes state: HEIF forbids to apply EXIF's as well.
    """
    if data[4:8] == b"ftyp":
        return Exif(_orientation_of_heif(data), {})
    try:
        block = _block(data)
        tags = _tags(block) if block[:4] in TIFF else {}
    except (struct.error, IndexError, ValueError, ZeroDivisionError, OverflowError):
        tags = {}
    kept = {tag: value for tag, value in tags.items() if math.isfinite(value)}
    orientation = kept.get(ORIENTATION, 1)
    return Exif(int(orientation) if orientation in range(1, 9) else 1, kept)


def is_animated(data: bytes) -> bool:
    """Whether a GIF, PNG or WebP has several frames."""
    if data[:4] == b"GIF8":
        return _has_two_frames(data)
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return b"acTL" in data[: data.find(b"IDAT")]
    return data[:4] == b"RIFF" and data[12:16] == b"VP8X" and bool(data[20] & 2)


def _has_two_frames(data: bytes) -> bool:
    """Walks a GIF's blocks up to its second image."""

    def table(flags: int) -> int:
        return 3 << (flags & 7) + 1 if flags & 0x80 else 0

    images = 0
    try:
        at = 13 + table(data[10])
        while images < 2 and data[at] in (0x21, 0x2C):
            if data[at] == 0x2C:
                images += 1
                at += 11 + table(data[at + 9])
            else:
                at += 2
            while data[at]:  # sub-blocks
                at += 1 + data[at]
            at += 1
    except IndexError:
        pass
    return images > 1


def _block(data: bytes) -> bytes:
    """The TIFF structure with the tags; empty if there is none."""
    if data[:2] == b"\xff\xd8":
        for code, at in segments(data):
            if code == 0xE1 and data[at + 4 : at + 10] == b"Exif\0\0":
                return data[at + 10 : at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")]
        return b""
    if data[:4] in TIFF:
        return data
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        return _chunk(data, 8, b"eXIf", ">")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return _chunk(data, 12, b"EXIF", "<").removeprefix(b"Exif\0\0")
    return b""


def _chunk(data: bytes, at: int, name: bytes, order: str) -> bytes:
    """The content of a chunk of a PNG (size, name, content, checksum) or a WebP (name, size, content)."""
    while at + 8 <= len(data):
        is_png = order == ">"
        (size,) = struct.unpack_from(f"{order}I", data, at if is_png else at + 4)
        if data[at + 4 : at + 8] == name if is_png else data[at : at + 4] == name:
            return data[at + 8 : at + 8 + size]
        at += 8 + size + (4 if is_png else size % 2)
    return b""


def _orientation_of_heif(data: bytes) -> int:
    """The orientation that the turns (irot) and mirrors (imir) of the main picture amount to; 1 if they are broken."""
    try:
        meta = dict(_boxes(data, 0, len(data)))[b"meta"]
        inside = dict(_boxes(data, meta[0] + 4, meta[1]))
        properties = dict(_boxes(data, *inside[b"iprp"]))
        parts = [*_boxes(data, *properties[b"ipco"])]
        at = inside[b"pitm"][0]
        (main,) = struct.unpack_from(">I" if data[at] else ">H", data, at + 4)
        corners = AS_STORED
        for number in _associated(data, properties[b"ipma"][0], main):
            if 0 < number <= len(parts):
                name, (start, stop) = parts[number - 1]
                corners = _moved(corners, name, data[start]) if start < stop else corners
        return ORIENTATIONS[corners]
    except (struct.error, LookupError):
        return 1


def _moved(corners: Corners, name: bytes, value: int) -> Corners:
    """Where the corners are after a property of a picture: irot turns it counterclockwise, imir mirrors it."""
    a, b, c, d = corners
    if name == b"imir":
        return (b, a, d, c) if value & 1 else (c, d, a, b)  # left and right change, or top and bottom
    for _ in range(value & 3 if name == b"irot" else 0):
        a, b, c, d = b, d, a, c
    return a, b, c, d


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, tuple[int, int]]]:
    """The boxes between two places: name, and where their content begins and ends. Raises struct.error."""
    for _ in range(MOST_BOXES):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        stop = at + size if size else end
        if not at + head <= stop <= end:
            return
        yield name, (at + head, stop)
        at = stop


def _associated(data: bytes, at: int, item: int) -> list[int]:
    """The numbers, from 1, of the properties of an item of an AVIF, in their order. Raises struct.error."""
    is_long, is_wide = data[at] > 0, bool(data[at + 3] & 1)
    (entries,) = struct.unpack_from(">I", data, at + 4)
    at += 8
    for _ in range(min(entries, MOST_BOXES)):
        found, count = struct.unpack_from(">IB" if is_long else ">HB", data, at)
        at += 5 if is_long else 3
        numbers = struct.unpack_from(f">{count}{'H' if is_wide else 'B'}", data, at)
        at += count * (2 if is_wide else 1)
        if found == item:
            return [number & (0x7FFF if is_wide else 0x7F) for number in numbers]
    return []


def _tags(block: bytes) -> dict[int, float]:
    """The numbers of the first directory and of the EXIF directory."""
    order = "<" if block[:1] == b"I" else ">"
    (first,) = struct.unpack_from(f"{order}I", block, 4)
    tags = _directory(block, first, order)
    if EXIF_IFD in tags:
        tags = _directory(block, int(tags[EXIF_IFD]), order) | tags
    return tags


def _directory(block: bytes, at: int, order: str) -> dict[int, float]:
    (count,) = struct.unpack_from(f"{order}H", block, at)
    out: dict[int, float] = {}
    for entry in range(at + 2, at + 2 + 12 * min(count, MOST_TAGS), 12):
        tag, kind, number = struct.unpack_from(f"{order}HHI", block, entry)
        if number != 1 or kind not in (*_FORMS, 5, 10):
            continue
        where = entry + 8
        if _SIZES[kind] > 4:
            (where,) = struct.unpack_from(f"{order}I", block, where)
        if kind in _FORMS:
            (out[tag],) = struct.unpack_from(f"{order}{_FORMS[kind]}", block, where)
        else:
            top, bottom = struct.unpack_from(f"{order}{'II' if kind == 5 else 'ii'}", block, where)
            if bottom:
                out[tag] = top / bottom
    return out
