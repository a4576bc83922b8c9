"""Decode a part of a JPEG: what lies between restart markers stands alone, so tiles that nobody looks at are left out.

A tile is a restart interval that divides the rows of blocks (MCUs, 16 x 16 px in most pictures). The tiles that are
looked at become a smaller JPEG, which the ordinary decoder decodes; its pixels are those of the whole picture. ITU-T
T.81, annexes B and F.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from hmrb.formats.picture_headers import segments

SOF0, SOF1, DHT, EOI, SOS, DRI, RST0 = 0xC0, 0xC1, 0xC4, 0xD9, 0xDA, 0xDD, 0xD0
MOST_HEADER = 1 << 16  # bytes of a header that is kept; previews make some longer
RESTARTS = 8  # markers are numbered modulo 8
EDGE_PX = 4  # a decoder mixes colours with the next sample, 2 px away, before the edge of a part


@dataclass(frozen=True, slots=True)
class TiledHeader:
    """A baseline JPEG's size and the size of its tiles in px.

    `grey` is the code of a tile without content, empty if the picture's own tables cannot say it.
    """

    width: int
    height: int
    tile_width: int
    tile_height: int
    grey: bytes
    size_at: int
    """Where the header states height and width."""

    @property
    def across(self) -> int:
        """Number of tiles in a row."""
        return -(-self.width // self.tile_width)

    @property
    def down(self) -> int:
        """Number of rows of tiles."""
        return -(-self.height // self.tile_height)


@dataclass(frozen=True, slots=True)
class PartOfJpeg:
    """A smaller JPEG, its left and top in the picture, and the picture's width and height; pixels."""

    data: bytes
    left: int
    top: int
    width: int
    height: int


def tiled_header(data: bytes) -> tuple[TiledHeader, int] | None:
    """The header and where the pixels begin; None if the JPEG has no tiles."""
    if data[:3] != b"\xff\xd8\xff":
        return None
    start = next((at for code, at in segments(data) if code == SOS), 0)
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    header = _header(data[:end]) if start and end < min(len(data), MOST_HEADER) else None
    return (header, end) if header else None


def part_of_jpeg(data: bytes, matrix: Float[np.ndarray, "2 3"], size: int) -> PartOfJpeg | None:
    """The part of a JPEG that a crop of `size` px shows; `matrix` maps pixels of the picture to those of the crop.

    Tiles of the part that the crop does not show are grey. None if the JPEG has no tiles or shows all of them, and for
    data that is not as a header or the numbers of its restart markers say.
    """
    found = tiled_header(data)
    if found is None:
        return None
    header, start = found
    first, behind = _shown(header, matrix, size)
    rows = np.flatnonzero(first < behind)
    if not len(rows) or int((behind - first).sum()) == header.across * header.down:
        return None
    tiles = _tiles(data, start, header.across * header.down)
    if tiles is None:
        return None
    low, high = int(first[rows].min()), int(behind[rows].max())
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    if not header.grey:
        first[top:bottom], behind[top:bottom] = low, high
    scan = _joined(data, tiles, header, first, behind, (low, high, top, bottom))
    left_px, top_px = low * header.tile_width, top * header.tile_height
    width = min(high * header.tile_width, header.width) - left_px
    height = min(bottom * header.tile_height, header.height) - top_px
    head = bytearray(data[:start])
    head[header.size_at : header.size_at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return PartOfJpeg(bytes(head) + scan, left_px, top_px, header.width, header.height)


@lru_cache(maxsize=64)
def _header(head: bytes) -> TiledHeader | None:
    """The header of a baseline JPEG with one scan and whole tiles in each row; None for any other."""
    frame, interval, codes = -1, 0, dict[int, dict[int, str]]()
    for code, at in segments(head):
        if code in (SOF0, SOF1):
            frame = at + 4
        elif 0xC0 <= code <= 0xCF and code != DHT:
            return None
        elif code == DRI:
            interval = int.from_bytes(head[at + 4 : at + 6], "big")
        elif code == DHT:
            codes |= _huffman(head[at + 4 : at + 2 + int.from_bytes(head[at + 2 : at + 4], "big")])
    scan = head[head.rindex(b"\xff\xda") + 4 :]
    count = head[frame + 5] if 0 <= frame < len(head) - 6 else 0
    if count not in (1, 3) or len(scan) != 4 + 2 * count or scan[0] != count or not interval or head[frame] != 8:
        return None
    parts = [head[frame + 6 + 3 * i : frame + 9 + 3 * i] for i in range(count)]
    if any(len(part) < 3 or not part[1] & 15 or not part[1] >> 4 for part in parts):
        return None
    factors = [(part[1] >> 4, part[1] & 15) for part in parts] if count > 1 else [(1, 1)]
    wide, tall = (8 * max(factor[axis] for factor in factors) for axis in (0, 1))
    height, width = (int.from_bytes(head[frame + at : frame + at + 2], "big") for at in (1, 3))
    if not width or not height or -(-width // wide) % interval:
        return None
    bits, can_be_grey = "", True
    for i, (x, y) in enumerate(factors):
        tables = scan[2 + 2 * i]
        nothing = [codes.get(place, {}).get(0) for place in (tables >> 4, 16 + (tables & 15))]
        if scan[1 + 2 * i] != parts[i][0]:
            return None
        can_be_grey = can_be_grey and None not in nothing
        bits += "".join(code or "" for code in nothing) * (x * y)
    bits *= interval
    bits += "1" * (-len(bits) % 8)
    grey = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0") if can_be_grey else b""
    return TiledHeader(width, height, wide * interval, tall, grey, frame + 1)


def _huffman(tables: bytes) -> dict[int, dict[int, str]]:
    """By table (number, 16 more for AC): the code of each value as bits."""
    found: dict[int, dict[int, str]] = {}
    while len(tables) > 16:
        lengths, at, code = tables[1:17], 17, 0
        own = found[tables[0]] = {}
        for length, count in enumerate(lengths, 1):
            for value in tables[at : at + count]:
                own[value] = format(code, f"0{length}b")
                code += 1
            at, code = at + count, code << 1
        tables = tables[at:]
    return found


def _shown(header: TiledHeader, matrix: Float[np.ndarray, "2 3"], size: int) -> tuple[np.ndarray, np.ndarray]:
    """For each row of tiles, the first tile that a crop shows and the one behind the last."""
    tall, reach = header.tile_height, EDGE_PX
    top = np.arange(header.down) * tall
    edges = np.stack([top - reach, top + tall - 1 + reach]).astype(np.float64)
    low, high = np.full(header.down, -np.inf), np.full(header.down, np.inf)
    for x_weight, y_weight, shift in matrix.tolist():
        wide = reach * float(np.hypot(x_weight, y_weight)) * 2 + 1
        rest = shift + y_weight * edges
        if abs(x_weight) < 1e-9:
            is_out = (rest.max(0) < -wide) | (rest.min(0) > size - 1 + wide)
            high = np.where(is_out, -np.inf, high)
            continue
        ends = np.stack([(-wide - rest) / x_weight, (size - 1 + wide - rest) / x_weight])
        low, high = np.maximum(low, ends.min((0, 1))), np.minimum(high, ends.max((0, 1)))
    first = np.floor(low / header.tile_width).clip(0, header.across)
    behind = (np.floor(high / header.tile_width) + 1).clip(0, header.across)
    return first.astype(np.int64), np.maximum(behind, first).astype(np.int64)


def _tiles(data: bytes, start: int, count: int) -> Int[np.ndarray, "2 N"] | None:
    """Where the tiles of a scan begin and end; None if its markers are not as they should be."""
    scan = np.frombuffer(data, np.uint8, offset=start)
    marks = np.flatnonzero(scan[:-1] == 0xFF)
    codes = scan[marks + 1]
    marks, codes = marks[codes != 0], codes[codes != 0]
    expected = RST0 + np.arange(count) % RESTARTS
    expected[-1] = EOI
    if len(marks) < count or not np.array_equal(codes[:count], expected):
        return None
    ends = marks[:count] + start
    return np.stack([np.concatenate([[start], ends[:-1] + 2]), ends])


def _joined(
    data: bytes,
    tiles: Int[np.ndarray, "2 N"],
    header: TiledHeader,
    first: Int[np.ndarray, " R"],
    behind: Int[np.ndarray, " R"],
    within: Sequence[int],
) -> bytes:
    """The tiles of some columns and rows with new markers; those that are not shown are grey."""
    low, high, top, bottom = within
    grey, (begins, ends) = header.grey + b"\xff\xd0", tiles.reshape(2, header.down, header.across)[:, top:bottom]
    first, behind = first[top:bottom, None].clip(low, high), behind[top:bottom, None].clip(low, high)
    columns = np.arange(low, high)
    is_shown = (columns >= first) & (columns < behind)
    parts: list[bytes] = []
    for row, (one, other) in enumerate(np.concatenate([first, behind], 1).tolist()):
        parts.append(grey * (one - low))
        if one < other:
            parts.append(data[begins[row, one] : ends[row, other - 1] + 2])
        parts.append(grey * (high - other))
    scan = np.frombuffer(bytearray(b"".join(parts)), np.uint8)
    marks = np.where(is_shown, (ends - begins)[:, low:high] + 2, len(grey)).cumsum() - 1
    scan[marks] = RST0 + np.arange(len(marks)) % RESTARTS
    scan[marks[-1]] = EOI
    return scan.tobytes()
