"""Changes of HDF5 files: of their metadata through h5py, of their bytes, and of the bytes of one array."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fuzz.mutations import ODD, Rng, changed_array, changed_bytes, pick
from fuzz.verdict import Change

HEAD_BYTES = 4096  # where h5py puts most of a small file's metadata


def changed_hdf5(path: Path, rng: Rng) -> Change:
    """One change of a file in place."""
    name = pick(rng, list(CHANGES))
    with h5py.File(path, "r") as file:
        keys: list[str] = []
        file.visititems(lambda key, node: keys.append(key) if isinstance(node, h5py.Dataset) else None)
    key = str(pick(rng, keys))
    try:
        said = CHANGES[name](path, key, rng)
    except (TypeError, ValueError, OSError, KeyError, AttributeError, RuntimeError) as error:
        return Change(f"none: {name} of {key} cannot be written: {str(error)[:60]}")
    return Change(f"{name} of {key}{said}")


def content_flip(path: Path, rng: Rng) -> Change:
    """One bit of the content of a flat array; checksums notice it."""
    with h5py.File(path, "r") as file:
        spans: list[tuple[str, int, int]] = []

        def look(key: str, node: Any) -> None:
            if isinstance(node, h5py.Dataset) and node.size and node.id.get_offset() is not None:
                spans.append((key, node.id.get_offset(), node.nbytes))

        file.visititems(look)
    key, offset, size = pick(rng, spans)
    data = bytearray(path.read_bytes())
    data[offset + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return Change(f"a bit of the content of {key}", is_noticed=True)


def _bytes(path: Path, key: str, rng: Rng) -> str:
    data, said = changed_bytes(path.read_bytes(), rng)
    path.write_bytes(data)
    return f": {said}"


def _head(path: Path, key: str, rng: Rng) -> str:
    data = path.read_bytes()
    head, said = changed_bytes(data[:HEAD_BYTES], rng)
    path.write_bytes((head + bytes(HEAD_BYTES))[:HEAD_BYTES] + data[HEAD_BYTES:])
    return f": {said}"


def _edited(edit: Callable[[h5py.File, str, Rng], str | None]) -> Callable[[Path, str, Rng], str]:
    def change(path: Path, key: str, rng: Rng) -> str:
        with h5py.File(path, "r+") as file:
            return edit(file, key, rng) or ""

    return change


def _array(file: h5py.File, key: str, rng: Rng) -> str:
    value, said = changed_array(file[key][()], rng)
    del file[key]
    file[key] = value
    return f": {said}"


def _attribute(file: h5py.File, key: str, rng: Rng) -> str:
    node = file if rng.random() < 0.8 else file[key]
    name, value = pick(rng, list(file.attrs) or ["layout"]), pick(rng, ODD)
    if value is None:
        del node.attrs[name]
    else:
        node.attrs[name] = value
    return f": {name} = {repr(value)[:30]}"


def _declared(file: h5py.File, key: str, rng: Rng) -> None:
    shape = (10**9, *file[key].shape[1:])
    kind = file[key].dtype
    del file[key]
    file.create_dataset(key, shape, kind, chunks=(1000, *shape[1:]))


def _remade(**options: Any) -> Callable[[h5py.File, str, Rng], None]:
    def edit(file: h5py.File, key: str, rng: Rng) -> None:
        value = file[key][()]
        del file[key]
        file.create_dataset(key, data=value, **options)

    return edit


def _put(make: Callable[[str], Any]) -> Callable[[h5py.File, str, Rng], None]:
    def edit(file: h5py.File, key: str, rng: Rng) -> None:
        del file[key]
        file[key] = make(key)

    return edit


def _texts(file: h5py.File, key: str, rng: Rng) -> None:
    count = len(file[key])
    del file[key]
    file.create_dataset(key, data=["text"] * count, dtype=h5py.string_dtype())


def _references(file: h5py.File, key: str, rng: Rng) -> None:
    count, other = len(file[key]), file.ref
    del file[key]
    file.create_dataset(key, data=[other] * count, dtype=h5py.ref_dtype)


def _outside(file: h5py.File, key: str, rng: Rng) -> None:
    value = file[key]
    shape, kind = value.shape, value.dtype
    del file[key]
    file.create_dataset(key, shape, kind, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def _group(file: h5py.File, key: str, rng: Rng) -> None:
    del file[key]
    file.create_group(key)


def _more(file: h5py.File, key: str, rng: Rng) -> None:
    file[f"columns/{'x' * 300}"] = np.zeros(3)


CHANGES: dict[str, Callable[[Path, str, Rng], str]] = {
    "bytes": _bytes,
    "bytes again": _bytes,
    "head": _head,
    "head again": _head,
    "array": _edited(_array),
    "another array": _edited(_array),
    "attribute": _edited(_attribute),
    "another attribute": _edited(_attribute),
    "a billion rows": _edited(_declared),
    "chunks": _edited(_remade(chunks=True)),
    "compression": _edited(_remade(compression="gzip")),
    "a checksum": _edited(_remade(fletcher32=True)),
    "a link to nowhere": _edited(_put(lambda key: h5py.SoftLink("/nowhere"))),
    "a link to itself": _edited(_put(lambda key: h5py.SoftLink(f"/{key}"))),
    "a link to another file": _edited(_put(lambda key: h5py.ExternalLink("/etc/passwd", "/x"))),
    "no value": _edited(_put(lambda key: h5py.Empty("f4"))),
    "texts of any length": _edited(_texts),
    "references": _edited(_references),
    "storage elsewhere": _edited(_outside),
    "a group in place": _edited(_group),
    "an unknown array": _edited(_more),
}
