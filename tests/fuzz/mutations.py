"""Changes of bytes, arrays and trees of plain values. A generator decides, so a seed gives the same case again."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np

Rng = np.random.Generator
DEEP: list[Any] = []
for _ in range(200):
    DEEP = [DEEP]
# Values in place of a value of a JSON file, a pickle or a spec.
ODD: tuple[Any, ...] = (
    None, "", "x", "../../x", "/dev/zero", "a\nb", "\ud800", "é" * 200, -1, 0, 1, 2**31, 2**63, 10**400, -0.5, 1e308,
    float("nan"), float("inf"), True, [], {}, [[1], [2, 3]], {"a": 1}, [None], ["x"], DEEP,
)  # fmt: skip
OTHERS = (
    b"", b"\0" * 300, b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\n", b"\xff\xfe\0\0",
    b"\x80\x04.", b"PK\x05\x06" + bytes(18), b"\x89HDF\r\n\x1a\n", b"{}", b"[" * 5000, b"\x93NUMPY\1\0",
)  # fmt: skip


def pick(rng: Rng, values: Any) -> Any:
    return values[int(rng.integers(len(values)))]


def changed_bytes(data: bytes, rng: Rng, start: int = 0) -> tuple[bytes, str]:
    """A file's bytes with one kind of damage, from byte `start` on."""
    out, size = bytearray(data), len(data)
    at = int(rng.integers(min(start, size - 1), size)) if size else 0
    length = int(min(rng.geometric(1 / 64), max(size - at, 1)))
    kind = pick(rng, ("flip", "flip", "flips", "cut", "splice", "zeros", "ones", "drop", "grow", "tail", "other"))
    if kind in ("flip", "flips"):
        for place in [at] if kind == "flip" else rng.integers(min(start, size - 1), size, 20).tolist():
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == "cut":
        del out[at:]
    elif kind == "splice":
        source = int(rng.integers(size))
        out[at : at + length] = data[source : source + length]
    elif kind in ("zeros", "ones"):
        out[at : at + length] = (b"\0" if kind == "zeros" else b"\xff") * len(out[at : at + length])
    elif kind == "drop":
        del out[at : at + length]
    elif kind == "grow":
        out[at:at] = rng.bytes(length)
    elif kind == "tail":
        out += rng.bytes(length)
    else:
        out = bytearray(pick(rng, OTHERS))
    return bytes(out), f"{kind} at byte {at}"


def changed_array(array: np.ndarray, rng: Rng) -> tuple[Any, str]:
    """An array of another type, shape or content; the value may be no array."""
    name = pick(rng, list(ARRAYS))
    try:
        with np.errstate(all="ignore"):
            return ARRAYS[name](array, rng), name
    except (ValueError, TypeError, IndexError, OverflowError):  # the change does not fit this array
        return np.zeros((0,)), "empty"


def _ragged(array: np.ndarray, rng: Rng) -> np.ndarray:
    rows = np.empty(len(array), object)
    for row in range(len(array)):
        rows[row] = np.atleast_1d(array[row]).ravel()[: row + 1].tolist()
    return rows


def _one(value: Any) -> Callable[[np.ndarray, Rng], np.ndarray]:
    def change(array: np.ndarray, rng: Rng) -> np.ndarray:
        out = array.copy()
        out.reshape(-1)[int(rng.integers(out.size))] = value
        return out

    return change


ARRAYS: dict[str, Callable[[np.ndarray, Rng], Any]] = {
    "None": lambda a, rng: np.array(None),
    "rows of None": lambda a, rng: np.array([None] * len(a), object),
    "0-d": lambda a, rng: a.reshape(-1)[0],
    "0-d text": lambda a, rng: np.array("x"),
    "empty": lambda a, rng: a[:0],
    "no axes but one": lambda a, rng: a.reshape(-1),
    "one row": lambda a, rng: a[:1],
    "a row less": lambda a, rng: a[:-1],
    "rows twice": lambda a, rng: np.concatenate([a, a]),
    "last axis cut": lambda a, rng: a[..., :-1],
    "last axis longer": lambda a, rng: np.concatenate([a, a], -1),
    "one more axis": lambda a, rng: a[:, None],
    "one more axis at the end": lambda a, rng: a[..., None],
    "turned": lambda a, rng: a.T,
    "Fortran": lambda a, rng: np.asfortranarray(a),
    "ragged": _ragged,
    "list": lambda a, rng: a.tolist(),
    "objects": lambda a, rng: a.astype(object),
    "dict": lambda a, rng: {"a": a},
    "an odd value": lambda a, rng: pick(rng, ODD),
    "rows of an odd value": lambda a, rng: [pick(rng, ODD)] * len(a),
    "NaN": _one(np.nan),
    "infinite": _one(np.inf),
    "huge": lambda a, rng: a * np.float64(1e30),
    "negative": lambda a, rng: -a,
    "complex": lambda a, rng: a.astype(complex),
    "bool": lambda a, rng: a.astype(bool),
    "int8": lambda a, rng: a.astype(np.int8),
    "uint64": lambda a, rng: np.full(a.shape, 2**64 - 1, np.uint64),
    "float16": lambda a, rng: a.astype(np.float16),
    "big-endian": lambda a, rng: a.astype(a.dtype.newbyteorder(">")),
    "text": lambda a, rng: a.astype("U16"),
    "bytes that are no UTF-8": lambda a, rng: np.full(a.shape, b"\xff\xfe\x80", "S8"),
    "dates": lambda a, rng: np.zeros(a.shape, "M8[s]"),
    "records": lambda a, rng: np.zeros(len(a), [("x", "f4"), ("y", "i4")]),
}


def changed_tree(tree: Any, rng: Rng) -> tuple[Any, str]:
    """A copy of a tree of dicts and lists with one value replaced, left out, doubled or exchanged."""
    parts: list[Any] = []
    holder = [deepcopy(tree)]
    _walk(holder, "", parts)
    table, key, where = pick(rng, parts)
    old, kind = table[key], pick(rng, ("replace", "replace", "replace", "drop", "double", "move", "rename"))
    if kind == "drop" and where:
        del table[key]
    elif kind == "double" and isinstance(table, list):
        table.insert(key, old)
    elif kind == "rename" and isinstance(table, dict):
        table[f"{key}x"] = table.pop(key)
    elif kind == "move":
        table[key] = deepcopy(pick(rng, [other[name] for other, name, _ in parts]))
    else:
        table[key] = pick(rng, ODD)
        kind = f"{repr(table[key])[:30]} in place of"
    return holder[0], f"{kind} {where or 'everything'}"


def _walk(node: Any, where: str, found: list[Any]) -> None:
    items = enumerate(node) if isinstance(node, list) else node.items()
    for key, value in list(items):
        path = f"{where}.{key}" if where else ("" if isinstance(node, list) and len(node) == 1 else str(key))
        found.append((node, key, path))
        if isinstance(value, dict | list):
            _walk(value, path, found)
