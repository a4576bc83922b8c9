"""Read .npz and .npy files safely: arrays whole or by row, pickled objects through hmrb.formats.pickles' allow-list.

Arrays that are read whole are limited: together at most `most` bytes, and beyond FREE_BYTES at most UNPACKED times the
file's size, since labels and meshes do not compress further.
"""

import lzma
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np

from hmrb.formats.files import ZIP, instead, reason
from hmrb.formats.pickles import Allowed, PickleError, load_pickle

DEFLATE = 1032  # zlib's maximum compression ratio
MOST_BYTES = 16 << 30  # of the arrays of a file together; predicted meshes of 35,000 people are 3 GB
FREE_BYTES = 256 << 20
UNPACKED = 50  # times the file's size
NPY_BYTES = 1 << 30  # of a .npy file; regressors are 1 to 2 MB
BLOCK_BYTES = 1 << 22  # bytes of rows held in memory at once
BROKEN_NPY = (ValueError, TypeError, LookupError, EOFError, SyntaxError, ArithmeticError, MemoryError, TokenError)
_BROKEN = (*BROKEN_NPY, OSError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError)


class Npz:
    """An open .npz file of arrays, including object arrays. Headers cannot make it allocate more than the data present.

    Usage: `with Npz(path) as file: file.read("pose")`. Raises PickleError.
    """

    def __init__(self, path: Path, also: Allowed | None = None, most: int = MOST_BYTES) -> None:
        self.path, self._also, self._most, self._taken = path, also, most, 0
        try:
            self._file = open(path, "rb")  # noqa: SIM115  __exit__ closes it, even under half-read members
        except OSError as error:
            raise PickleError(f"{path}: {reason(error)}") from None
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
            self._file.close()
            found = instead(path, ZIP)
            raise PickleError(f"{path}: not an .npz file, or truncated; download it again{found}") from None
        self._file_bytes = path.stat().st_size
        if any(info.file_size > DEFLATE * info.compress_size + 64 for info in self._zip.infolist()):
            self._file.close()
            raise PickleError(f"{path}: declares more data than the file can contain; download it again")
        self._sizes = {info.filename.removesuffix(".npy"): info.file_size for info in self._zip.infolist()}

    def __enter__(self) -> "Npz":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def __contains__(self, key: str) -> bool:
        return key in self._sizes

    @property
    def keys(self) -> tuple[str, ...]:
        """The names of the arrays."""
        return tuple(self._sizes)

    def read(self, key: str) -> Any:
        """Read one array; a 0-d object array returns the object itself."""
        with self._open(key) as member:
            shape, dtype = self._header(key, member)
            self._take(key, shape)
            if dtype.hasobject:
                value = load_pickle(member, f"{self.path}: {key}", self._also)
                if not isinstance(value, np.ndarray) or value.shape != shape:
                    raise PickleError(f"{self.path}: {key} does not match its header")
                return value.item() if shape == () else value
        with self._open(key) as member:
            return self._guard(key, lambda: np.lib.format.read_array(member, allow_pickle=False))

    def _take(self, key: str, shape: tuple[int, ...]) -> None:
        """Refuse an array, before it is read, that exceeds the limits together with those before it."""
        self._taken += self._sizes[key]
        limit = min(self._most, max(FREE_BYTES, UNPACKED * self._file_bytes))
        if self._taken > limit:
            raise PickleError(
                f"{self.path}: {key} of shape {shape} unpacks to {self._sizes[key]:,} bytes; the limit for a file of"
                f" {self._file_bytes:,} bytes is {limit:,}"
            )

    def rows(self, key: str) -> Iterator[Any]:
        """Iterate over the rows of an array; numeric arrays are read in bounded memory."""
        with self._open(key) as member:
            shape, dtype = self._header(key, member)
            if dtype.hasobject or not shape or (len(shape) > 1 and self._fortran(key)):
                values = self.read(key)
                if not isinstance(values, list | tuple | np.ndarray) or np.shape(values) == ():
                    raise PickleError(f"{self.path}: {key} is a single value, expected rows")
                yield from values
                return
            row_bytes = dtype.itemsize * math.prod(shape[1:])
            per_block = max(BLOCK_BYTES // max(row_bytes, 1), 1)
            for start in range(0, shape[0], per_block):
                count = min(per_block, shape[0] - start)
                block = self._guard(key, lambda: member.read(count * row_bytes))  # noqa: B023  called immediately
                if len(block) != count * row_bytes:
                    raise PickleError(f"{self.path}: {key} is truncated; download the file again")
                yield from np.frombuffer(block, dtype).reshape(count, *shape[1:])

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one array."""
        with self._open(key) as member:
            return self._header(key, member)[0]

    def _open(self, key: str) -> BufferedIOBase:
        if key not in self._sizes:
            raise PickleError(f"{self.path}: no array named {key}; the file contains {', '.join(self._sizes)}")
        name = f"{key}.npy" if f"{key}.npy" in self._zip.NameToInfo else key
        return self._guard(key, lambda: self._zip.open(name))

    def _header(self, key: str, member: BufferedIOBase) -> tuple[tuple[int, ...], np.dtype[Any]]:
        (shape, _, dtype), start = self._guard(key, lambda: (_read_header(member), member.tell()))
        if dtype.kind == "c":
            raise PickleError(f"{self.path}: {key} has values of type {dtype}; numbers must be real")
        claimed, there = math.prod(shape) * dtype.itemsize, self._sizes[key] - start
        if not dtype.hasobject and claimed != there:
            raise PickleError(
                f"{self.path}: {key} of shape {shape} and type {dtype} needs {claimed} bytes, but has {there}"
            )
        return shape, dtype

    def _fortran(self, key: str) -> bool:
        with self._open(key) as member:
            return self._guard(key, lambda: _read_header(member))[1]

    def _guard(self, key: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except _BROKEN as error:
            raise PickleError(f"{self.path}: {key} cannot be read ({error}); download the file again") from None


def read_npy(path: Path) -> np.ndarray:
    """Read a .npy file of numbers or text. Raises PickleError."""
    try:
        with open(path, "rb") as file:
            shape, _, dtype = _read_header(file)
            size, start = path.stat().st_size, file.tell()
            needs = math.prod(shape) * dtype.itemsize
            if dtype.hasobject:
                raise ValueError("it contains Python objects; allowed are numbers and text")
            if dtype.kind == "c":
                raise ValueError(f"it has values of type {dtype}; numbers must be real")
            if needs != size - start or needs > NPY_BYTES:
                raise ValueError(
                    f"an array of shape {shape} and type {dtype} needs {needs:,} bytes, but the file has"
                    f" {size - start:,}; the limit is {NPY_BYTES:,}"
                )
            file.seek(0)
            return np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise PickleError(f"{path}: {reason(error)}") from None
    except BROKEN_NPY as error:
        said = instead(path, "a NumPy array (.npy)") or f" ({' '.join(str(error).split())[:200]})"
        raise PickleError(f"{path}: not a readable .npy file of numbers{said}") from None


def _read_header(member: BufferedIOBase | IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"unsupported .npy format version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    if any(n < 0 for n in shape):
        raise ValueError(f"impossible shape {shape}")
    return shape, fortran, dtype
