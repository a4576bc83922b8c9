"""What a picture's header states, for the formats that OpenCV decodes: giants are refused before they are decoded."""

import re
import struct
from collections.abc import Callable, Iterator

from hmrb.errors import RunError

MOST_PIXELS = 100_000_000  # the largest photos of datasets have 50 million
TIFF = (b"II*\0", b"MM\0*")
_JPEG_SIZES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of frames, which state the size
_ALONE = {0x01, *range(0xD0, 0xD8)}  # markers without a length
_NETPBM = re.compile(rb"P[1-6fF](?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)")
HEAD_BYTES = 1 << 16  # in which the formats without a fixed place state their size


class UnreadablePicture(RunError):
    """An image that is missing, truncated or cannot be decoded.

    `may_pass` is True if the system did not let it be read now: the next attempt may succeed.
    """

    may_pass = False


def check_pixels(width: int, height: int, label: str) -> None:
    """Raises UnreadablePicture, with a message that starts with `label`, for a picture too large to decode."""
    if width * height > MOST_PIXELS:
        raise UnreadablePicture(
            f"{label}: image of {width} x {height} pixels; the limit is {MOST_PIXELS:,} pixels; scale it down"
        )


def header_size(data: bytes) -> tuple[int, int]:
    """Width and height that a picture's header states; 0, 0 if it states none or the format is unknown."""
    try:
        for start, size in SIZES.items():
            if data.startswith(start):
                return size(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_size(data)
        if data[4:8] == b"ftyp":
            return _largest(data, b"ispe", 4)
    except (struct.error, IndexError):
        pass
    return 0, 0


def _two(form: str, data: bytes, at: int) -> tuple[int, int]:
    first, second = struct.unpack_from(form, data, at)
    return abs(int(first)), abs(int(second))


def _jpeg_size(data: bytes) -> tuple[int, int]:
    return next((_two(">HH", data, at + 5)[::-1] for code, at in segments(data) if code in _JPEG_SIZES), (0, 0))


def segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Markers of a JPEG up to the pixels of its first scan, and where they begin."""
    at = 2
    while at + 4 <= len(data):
        if data[at] != 0xFF:
            return
        code = data[at + 1]
        if code == 0xFF:  # padding
            at += 1
            continue
        yield code, at
        if code == 0xDA:
            return
        at += 2 if code in _ALONE else 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def tiff_tags(data: bytes) -> Iterator[tuple[int, str, int]]:
    """Tags of a TIFF's first image: number, struct's format of the value, and where it is."""
    order = "<" if data[:1] == b"I" else ">"
    (at,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind = struct.unpack_from(f"{order}HH", data, entry)
        yield tag, f"{order}{'H' if kind == 3 else 'I'}", entry + 8


def _tiff_size(data: bytes) -> tuple[int, int]:
    sizes = {256: 0, 257: 0}  # ImageWidth, ImageLength
    for tag, form, at in tiff_tags(data):
        if tag in sizes:
            (sizes[tag],) = struct.unpack_from(form, data, at)
    return sizes[256], sizes[257]


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = _two("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _jpeg2000_size(data: bytes) -> tuple[int, int]:
    """From the SIZ marker of the code stream, which decoders use: right and lower edge."""
    at = data.find(b"\xff\x4f\xff\x51", 0, HEAD_BYTES)
    return _two(">II", data, at + 8) if at >= 0 else _two(">II", data, data.index(b"ihdr") + 4)[::-1]


def _exr_size(data: bytes) -> tuple[int, int]:
    """From the data window: left, top, right and bottom pixel."""
    at = data.find(b"dataWindow\0box2i\0", 0, HEAD_BYTES)
    if at < 0:
        return 0, 0
    left, top, right, bottom = struct.unpack_from("<iiii", data, at + 21)
    return abs(right - left) + 1, abs(bottom - top) + 1


def _largest(data: bytes, name: bytes, skip: int) -> tuple[int, int]:
    """The largest size in the boxes of an AVIF file's head."""
    places = [found.end() + skip for found in re.finditer(re.escape(name), data[:HEAD_BYTES])]
    return max((_two(">II", data, at) for at in places), key=lambda size: size[0] * size[1], default=(0, 0))


def _netpbm_size(data: bytes) -> tuple[int, int]:
    """The first two numbers after the magic number, behind comments of any length."""
    found = _NETPBM.match(data)
    return (_decimal(found[1]), _decimal(found[2])) if found else (0, 0)


def _radiance_size(data: bytes) -> tuple[int, int]:
    found = re.search(rb"\n[-+]Y (\d{1,12}) [-+]X (\d{1,12})", data[:HEAD_BYTES])
    return (int(found[2]), int(found[1])) if found else (0, 0)


def _decimal(word: bytes) -> int:
    return int(word[:12]) if word.isdigit() else 0


SIZES: dict[bytes, Callable[[bytes], tuple[int, int]]] = {
    b"\x89PNG\r\n\x1a\n": lambda data: _two(">II", data, 16),
    b"GIF8": lambda data: _two("<HH", data, 6),
    b"BM": lambda data: _two("<ii", data, 18),
    b"\xff\xd8": _jpeg_size,
    **dict.fromkeys(TIFF, _tiff_size),
    b"\0\0\0\x0cjP  ": _jpeg2000_size,
    b"\xff\x4f\xff\x51": _jpeg2000_size,
    b"\x76\x2f\x31\x01": _exr_size,
    b"Y\xa6j\x95": lambda data: _two(">II", data, 4),  # Sun raster
    b"#?": _radiance_size,
    **{b"P%d" % number: _netpbm_size for number in range(1, 7)},
    **dict.fromkeys((b"PF", b"Pf"), _netpbm_size),
}
