"""Check the structure of a MATLAB file of v5 to v7 before scipy reads it: scipy's reader believes it and can crash.

Format: MAT-File Level 5, https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import struct
import zlib
from dataclasses import dataclass

HEADER = 128
MOST_BYTES = 4 << 30  # of an unpacked variable; those of MPI-INF-3DHP have 0.1 GB
MAX_DEPTH = 32
MATRIX, COMPRESSED = 14, 15
SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 2,
    5: 4,
    6: 4,
    7: 4,
    9: 8,
    12: 8,
    13: 8,
    16: 1,
    17: 2,
    18: 4,
}  # bytes of a number, by type
CELL, STRUCT, OBJECT, CHAR, SPARSE, NUMBERS = 1, 2, 3, 4, 5, range(6, 16)
COMPLEX = 1 << 11  # bit of a matrix's flags


@dataclass(frozen=True, slots=True)
class _Element:
    """A part of the file: its type, and its data from `start` to `end`; the next part begins at `next`."""

    kind: int
    start: int
    end: int
    next: int


def check_mat5(data: bytes) -> None:
    """Raises ValueError if a part exceeds the part around it, or has another number of values than it states."""
    orders = {b"IM": "<", b"MI": ">"}
    if len(data) < HEADER or data[126:128] not in orders:
        raise ValueError("its header is damaged")
    _Checker(orders[data[126:128]]).file(data)


@dataclass(frozen=True, slots=True)
class _Checker:
    order: str

    def file(self, data: bytes) -> None:
        at = HEADER
        while at < len(data):
            part = self.element(data, at, len(data))
            if part.kind == COMPRESSED:
                unpacked = zlib.decompressobj()
                content = unpacked.decompress(data[part.start : part.end], MOST_BYTES)
                if not unpacked.eof:
                    raise ValueError(f"a variable is truncated, or larger than {MOST_BYTES:,} bytes")
                self.matrix(content, self.element(content, 0, len(content)), 0)
            else:
                self.matrix(data, part, 0)
            at = part.next

    def element(self, data: bytes, at: int, end: int) -> _Element:
        """The part at a place, which must end before `end`."""
        if at + 8 > end:
            raise ValueError(f"a part is missing at byte {at}")
        kind, size = struct.unpack_from(f"{self.order}II", data, at)
        if kind >> 16:  # up to 4 bytes of data beside a short tag
            kind, size, start, following = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise ValueError(f"a short part of {size} bytes at byte {at}")
        else:
            start = at + 8
            following = start + size if kind == COMPRESSED else start + -(-size // 8) * 8
        if start + size > end or kind not in (*SIZES, MATRIX, COMPRESSED):
            raise ValueError(f"a part of type {kind} and {size:,} bytes at byte {at} exceeds what is around it")
        return _Element(kind, start, start + size, following)

    def matrix(self, data: bytes, whole: _Element, depth: int) -> int:
        """Check a matrix and those in it; returns where the next part begins."""
        if whole.kind != MATRIX or depth > MAX_DEPTH:
            raise ValueError(f"type {whole.kind} in place of a matrix, at depth {depth}")
        if whole.start == whole.end:  # an empty cell
            return whole.next
        flags, at = self.numbers(data, whole.start, whole.end, 6)
        shape, at = self.numbers(data, at, whole.end, 5)
        if len(flags) != 2 or len(shape) < 2 or min(shape) < 0:
            raise ValueError(f"a matrix of shape {tuple(shape)}")
        at = self.texts(data, at, whole.end)[1]
        kind, count = flags[0] & 0xFF, math.prod(shape)
        if kind in (CELL, STRUCT, OBJECT):
            if kind == OBJECT:
                at = self.texts(data, at, whole.end)[1]
            if kind != CELL:
                length, at = self.numbers(data, at, whole.end, 5)
                size, at = self.texts(data, at, whole.end)
                if len(length) != 1 or length[0] < 1 or size % length[0]:
                    raise ValueError("names of fields of another length than stated")
                count *= size // length[0]
            for _ in range(count):
                at = self.matrix(data, self.element(data, at, whole.end), depth + 1)
        elif kind in NUMBERS or kind == CHAR:
            if flags[0] & COMPLEX:
                raise ValueError("a matrix of complex numbers; expected real ones")
            at = self.values(data, at, whole.end, count, kind == CHAR)
        else:
            raise ValueError(f"a matrix of class {kind}; allowed are numbers, text, cells and structures")
        return whole.next

    def numbers(self, data: bytes, at: int, end: int, kind: int) -> tuple[list[int], int]:
        """The 4-byte integers of a part of one type, and where the next part begins."""
        part = self.element(data, at, end)
        count = (part.end - part.start) // 4
        if part.kind != kind or count > MAX_DEPTH:
            raise ValueError(f"type {part.kind} in place of type {kind} at byte {at}")
        code = "i" if kind == 5 else "I"
        return list(struct.unpack_from(f"{self.order}{count}{code}", data, part.start)), part.next

    def texts(self, data: bytes, at: int, end: int) -> tuple[int, int]:
        """The size of a part of 1-byte letters, and where the next part begins."""
        part = self.element(data, at, end)
        if part.kind not in (1, 2):
            raise ValueError(f"type {part.kind} in place of a name at byte {at}")
        return part.end - part.start, part.next

    def values(self, data: bytes, at: int, end: int, count: int, is_text: bool) -> int:
        """Check the number of a matrix's values; returns where the next part begins."""
        part = self.element(data, at, end)
        have = (part.end - part.start) / SIZES.get(part.kind, math.inf)
        if have != count and not (is_text and have >= count):  # UTF-8 takes more bytes than letters
            raise ValueError(f"{have:g} values at byte {at}, but the shape has {count}")
        return part.next
