"""Read HDF5 files of unknown origin: every error is one message, and no array is read or mapped unchecked.

Files are read without HDF5's lock: many network file systems have none, and hmrb replaces files instead of changing
them. Object types (variable-length strings, references) are always refused: the file's bytes would become pointers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hmrb import system
from hmrb.errors import RequestError
from hmrb.formats.files import HDF5, instead, is_about_the_file, reason

MOST_BYTES = 16 << 30  # of an array that is read whole; the largest that hmrb writes are predictions, 1 kB a person
DEFLATE = 1032  # zlib's maximum compression ratio
FREE_BYTES = 1 << 20  # arrays up to this size may be unwritten
KINDS = {"f": "floats", "i": "integers", "u": "unsigned integers", "b": "booleans", "S": "texts of fixed length"}
# A damaged or crafted file makes h5py raise any of these.
BROKEN = (
    OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, MemoryError,
    AssertionError,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flat:
    """What an array must be: its shape, with None where any length fits, and its types.

    `types` are exact types, or kinds of numpy: `f`, `i`, `u`, `S`. With `more`, further axes may follow.
    """

    shape: tuple[int | None, ...]
    types: tuple[np.dtype[Any] | str, ...]
    more: bool = False

    def fits(self, node: h5py.Dataset) -> bool:
        """Whether an array has this shape and type."""
        have = node.shape[: len(self.shape)] if self.more else node.shape
        same = len(have) == len(self.shape) and all(n in (None, m) for n, m in zip(self.shape, have, strict=True))
        return same and any(
            node.dtype.kind == kind if isinstance(kind, str) else node.dtype == kind for kind in self.types
        )

    def __str__(self) -> str:
        sizes = [f"{'any' if n is None else n}," for n in self.shape] + (["...,"] if self.more else [])
        shape = " ".join(sizes) if len(sizes) == 1 else " ".join(sizes).rstrip(",")
        names = [KINDS.get(kind, str(kind)) if isinstance(kind, str) else str(kind) for kind in self.types]
        return f"{' or '.join(names)} of shape ({shape})"


@contextmanager
def opened(path: Path, kind: type[Exception] = RequestError, advice: str = "") -> Iterator[h5py.File]:
    """Open a file for reading. Errors of h5py, in the block too, become a `kind` with one message.

    `advice` ends the message if the content is broken; not if the file cannot be accessed or another program writes it.
    """
    try:
        with open(path, "rb"):
            pass
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except BROKEN as error:
        raise kind(f"{path}: {_problem(path, error, advice)}") from None


def _problem(path: Path, error: BaseException, advice: str) -> str:
    if not is_about_the_file(error):
        return reason(error)
    if _is_held(path) or "already open for write" in str(error):
        return "held open for writing by another program; wait until it has ended"
    if isinstance(error, OSError) and "truncated" in str(error):
        return f"file is truncated{advice}"
    if found := instead(path, HDF5):
        return f"not a readable HDF5 file{found}{advice}"
    said = " ".join(str(error).split())[:200]
    return f"not a readable HDF5 file ({said}){advice}"


def _is_held(path: Path) -> bool:
    """Whether another program has locked the file for writing, as HDF5 does."""
    try:
        with open(path, "rb") as file:
            system.lock(file, shared=True)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """All arrays of a file by path; links to elsewhere are not followed. Raises ValueError for a name in no UTF-8."""
    found: dict[str, h5py.Dataset] = {}

    def add(key: str | bytes, node: h5py.HLObject) -> None:
        if isinstance(key, bytes):
            raise ValueError(f"a name in it is no UTF-8: {key!r}")
        if isinstance(node, h5py.Dataset):
            found[key] = node

    file.visititems(add)
    return found


def read_arrays(
    path: Path, wanted: Callable[[str], bool] = lambda name: True, kind: type[Exception] = RequestError
) -> dict[str, np.ndarray]:
    """Read the arrays whose names are `wanted`, compressed or not. Raises `kind` with one message."""
    with opened(path, kind) as file:
        return {key: read_array(path, key, node, kind) for key, node in datasets(file).items() if wanted(key)}


def read_array(path: Path, key: str, node: h5py.Dataset, kind: type[Exception] = RequestError) -> np.ndarray:
    """Read an array of an open file whole, unless its type or size is refused with a `kind`."""
    if node.dtype.hasobject or node.dtype.names or node.dtype.kind == "c":
        raise kind(f"{path}: {key} has type {node.dtype}; allowed are real numbers and texts of fixed length")
    if node.external or node.is_virtual:
        raise kind(f"{path}: {key} is stored in another file; it must be in this one")
    stored = node.id.get_storage_size()
    if node.nbytes > max(DEFLATE * stored, FREE_BYTES) or node.nbytes > MOST_BYTES:
        raise kind(
            f"{path}: {key} of shape {node.shape} needs {node.nbytes:,} bytes, but the file has {stored:,} of it, and"
            f" the limit is {MOST_BYTES:,}; it is damaged or was not written to its end"
        )
    return np.asarray(node[()])


def mapped(
    path: Path, layout: Callable[[str], Flat | None], kind: type[Exception], advice: str = ""
) -> dict[str, np.ndarray]:
    """Map all arrays of a file read-only. `layout` tells what each must be; None means that the name is unknown."""
    with opened(path, kind, advice) as file:
        size = path.stat().st_size
        found = datasets(file)
        for key, node in found.items():
            if problem := _misfit(key, node, layout(key), size):
                raise kind(f"{path}: {problem}; see docs/shards.md{advice}")
        return {key: _map(path, node) for key, node in found.items()}


def _misfit(key: str, node: h5py.Dataset, want: Flat | None, file_bytes: int) -> str:
    """Why an array must not be mapped; empty if it may be."""
    if want is None:
        return f"unknown array {key}"
    if node.shape is None:
        return f"{key} has no shape; expected {want}"
    if node.dtype.hasobject or node.dtype.itemsize != node.id.get_type().get_size() or not want.fits(node):
        return f"{key} has type {node.dtype} and shape {node.shape}; expected {want}"
    if not node.size:
        return ""
    plan, offset = node.id.get_create_plist(), node.id.get_offset()
    if plan.get_layout() != h5py.h5d.CONTIGUOUS or plan.get_nfilters() or plan.get_external_count() or offset is None:
        return f"{key} is not a flat array: it is chunked, compressed, unwritten or in another file"
    if offset + node.nbytes > file_bytes:
        return f"{key} ends at byte {offset + node.nbytes:,} of a file of {file_bytes:,}: the file is truncated"
    return ""


def _map(path: Path, node: h5py.Dataset) -> np.ndarray:
    if node.size == 0:
        return np.zeros(node.shape, node.dtype)
    array = np.memmap(path, node.dtype, "r", node.id.get_offset(), node.shape)
    return array.view(np.ndarray)  # indexing rows of a memmap object is ten times slower
