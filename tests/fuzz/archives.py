"""Changes of zip archives (.npz, checkpoints): members, flags and declared sizes."""

import io
import zipfile
from typing import Any

import numpy as np

from fuzz.mutations import ODD, Rng, changed_array, changed_bytes, changed_tree, pick

CENTRAL, LOCAL = b"PK\x01\x02", b"PK\x03\x04"
FIELDS = {
    "flags": 8,
    "compression": 10,
    "checksum": 16,
    "packed size": 20,
    "size": 24,
    "length of the name": 28,
    "place": 42,
}


def changed_zip(data: bytes, rng: Rng) -> tuple[bytes, str]:
    """An archive with one change of its bytes, its directory or a member."""
    kind = pick(rng, ("bytes", "bytes", "directory", "directory", "encrypted", "member", "member", "deflate", "twice"))
    if kind == "bytes":
        return changed_bytes(data, rng)
    if kind == "directory":
        at = pick(rng, _places(data, CENTRAL))
        field = pick(rng, list(FIELDS))
        out = bytearray(data)
        out[at + FIELDS[field] : at + FIELDS[field] + 2] = rng.bytes(2)
        return bytes(out), f"{field} of a member in the directory"
    if kind == "encrypted":
        out = bytearray(data)
        for at in _places(data, CENTRAL):
            out[at + 8] |= 1
        for at in _places(data, LOCAL):
            out[at + 6] |= 1
        return bytes(out), "all members are marked as encrypted"
    return _written_again(data, kind, rng)


def _written_again(data: bytes, kind: str, rng: Rng) -> tuple[bytes, str]:
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
        names = old.namelist()
        chosen = pick(rng, names)
        how = zipfile.ZIP_DEFLATED if kind == "deflate" else zipfile.ZIP_STORED
        for name in names:
            content, said = old.read(name), ""
            if name == chosen and kind == "member":
                content, said = changed_bytes(content, rng)
                kind = f"{said} of member"
            new.writestr(name, content, how)
        if kind == "twice":
            new.writestr(f"{chosen}2", old.read(chosen))
    return made.getvalue(), f"{kind} {chosen}"


def _places(data: bytes, signature: bytes) -> list[int]:
    found, at = [], data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 1)
    return found


def changed_table(arrays: dict[str, Any], rng: Rng) -> tuple[dict[str, Any], str]:
    """A table of arrays with one of them changed, left out, renamed or exchanged for another."""
    table, key = dict(arrays), pick(rng, list(arrays))
    kind = pick(rng, ("change", "change", "change", "change", "drop", "exchange", "odd"))
    value = table[key]
    if kind == "drop":
        del table[key]
    elif kind == "exchange":
        table[key] = arrays[pick(rng, list(arrays))]
    elif kind == "odd":
        table[key] = pick(rng, ODD)
    elif isinstance(value, np.ndarray) and value.size:
        table[key], kind = changed_array(value, rng)
    elif isinstance(value, dict | list) and value:
        table[key], kind = changed_tree(value, rng)
    return table, f"{kind} of {key}"


def npz(table: dict[str, Any]) -> bytes:
    """An .npz file of any values, ragged ones too."""
    file, whole = io.BytesIO(), {}
    for key, value in table.items():
        try:
            whole[key] = np.asarray(value)
        except (ValueError, OverflowError, RecursionError):
            whole[key] = np.array(None)
            whole[key][()] = value
    np.savez(file, **whole)
    return file.getvalue()
