"""Hold a shard's arrays against its layout, docs/shards.md: names, types and shapes before mapping, then values."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hmrb.formats.hdf5 import Flat

NUMBERS_AND_TEXT = ("f", "i", "u", "b", "S")
NUM_GENDERS = 3
Rows = Mapping[str, tuple[tuple[int, ...], Any]]
BYTES = Flat((None,), (np.dtype(np.uint8),))


def layout(rows: Rows, num_people: int, num_images: int) -> Callable[[str], Flat | None]:
    """What each array of a shard must be, by its name; None for a name that the layout does not have."""
    fixed = {key: Flat((num_people, *shape), (np.dtype(kind),)) for key, (shape, kind) in rows.items()} | {
        "jpeg/bytes": BYTES,
        "jpeg/offset": Flat((num_images + 1,), (np.dtype(np.int64),)),
        "origin": Flat((num_images, 3), (np.dtype(np.float32),)),
        "photo_px": Flat((num_images, 2), (np.dtype(np.int32),)),
        "extra/camera": Flat((num_people, 4), ("f",)),
    }

    def of(key: str) -> Flat | None:
        if key.startswith("columns/"):
            return Flat((num_people,), ("f", "i", "u", "b"))
        if key.startswith("categories/"):
            return Flat((None,), ("S",))
        if key.startswith("extra/") and key not in fixed:
            return Flat((num_people,), NUMBERS_AND_TEXT, more=True)
        return fixed.get(key)

    return of


def pictures_layout(key: str) -> Flat | None:
    """What the arrays of a separate file of pictures must be."""
    return BYTES if key == "jpeg/bytes" else None


def wrong_values(arrays: Mapping[str, np.ndarray], num_images: int, num_files: int) -> str:
    """The first value that would lead a reader outside of an array; empty if there is none."""
    limits = {"gender": NUM_GENDERS, "has_body": 2, "image": num_images}
    for key, limit in limits.items():
        if problem := _outside(key, arrays[key], limit):
            return problem
    for key, names in arrays.items():
        column = key.replace("categories/", "columns/", 1)
        if key.startswith("categories/") and column in arrays:
            if problem := _outside(column, arrays[column], len(names)):
                return problem
            if not all(_is_text(bytes(name)) for name in names):
                return f"{key} has a name that is not UTF-8"
    offset = arrays["jpeg/offset"]
    if offset[0] != 0 or (offset[1:] < offset[:-1]).any():
        return "jpeg/offset must begin at 0 and never fall"
    if not num_files and offset[-1] != len(arrays["jpeg/bytes"]):
        return f"jpeg/offset ends at {offset[-1]}, but jpeg/bytes has {len(arrays['jpeg/bytes'])} bytes"
    return ""


def _outside(key: str, values: np.ndarray, limit: int) -> str:
    """A problem if values are not whole numbers from 0 to `limit` - 1."""
    bad = ~((values >= 0) & (values < limit))  # NaN is in no range
    if values.dtype.kind == "f":
        bad |= values != np.floor(values)
    if not bad.any():
        return ""
    row = int(np.flatnonzero(bad)[0])
    return f"{key} is {values[row]} in row {row}; allowed are 0 to {limit - 1}"


def _is_text(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
