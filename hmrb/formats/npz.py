"""An .npz read with care: arrays whole or row by row, objects in it through the allow-list of hmrb.formats.pickles."""

import math
import zipfile
import zlib
from collections.abc import Callable, Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.formats.pickles import Allowed, PickleError, load_pickle

DEFLATE = 1032  # times shorter, at most, is what zlib makes of anything
BLOCK_BYTES = 1 << 22  # of rows in memory at once
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, RuntimeError, MemoryError)


class Npz:
    """An .npz of arrays, some of them of pickled objects. Whatever its headers claim, no more is made than is there.

    `with Npz(path) as file: file.read("pose")`. Raises PickleError.
    """

    def __init__(self, path: Path, also: Allowed | None = None) -> None:
        self.path, self._also = path, also
        try:
            self._file = open(path, "rb")  # noqa: SIM115  closed in __exit__, under half-read members too
        except OSError as error:
            raise PickleError(f"{path}: can't be read ({error.strerror or error})") from None
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError):
            self._file.close()
            raise PickleError(f"{path}: no .npz, or one that is cut short; get it again") from None
        if any(info.file_size > DEFLATE * info.compress_size + 64 for info in self._zip.infolist()):
            self._file.close()
            raise PickleError(f"{path}: claims to hold more than its bytes can; get it again")
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
        """Names of the arrays."""
        return tuple(self._sizes)

    def read(self, key: str) -> Any:
        """One array; a single pickled object comes out of the array around it."""
        with self._open(key) as member:
            shape, dtype = self._header(key, member)
            if dtype.hasobject:
                value = load_pickle(member, f"{self.path}: {key}", self._also)
                if not isinstance(value, np.ndarray) or value.shape != shape:
                    raise PickleError(f"{self.path}: {key} is not the array that its header describes")
                return value.item() if shape == () else value
        with self._open(key) as member:
            return self._guard(key, lambda: np.lib.format.read_array(member, allow_pickle=False))

    def rows(self, key: str) -> Iterator[Any]:
        """The rows of an array one after another, in bounded memory where they are numbers."""
        with self._open(key) as member:
            shape, dtype = self._header(key, member)
            if dtype.hasobject or not shape or (len(shape) > 1 and self._fortran(key)):
                yield from self.read(key)
                return
            row_bytes = dtype.itemsize * math.prod(shape[1:])
            per_block = max(BLOCK_BYTES // max(row_bytes, 1), 1)
            for start in range(0, shape[0], per_block):
                count = min(per_block, shape[0] - start)
                block = self._guard(key, lambda: member.read(count * row_bytes))  # noqa: B023  called at once
                if len(block) != count * row_bytes:
                    raise PickleError(f"{self.path}: {key} is cut short; get the file again")
                yield from np.frombuffer(block, dtype).reshape(count, *shape[1:])

    def shape(self, key: str) -> tuple[int, ...]:
        """The shape of one array."""
        with self._open(key) as member:
            return self._header(key, member)[0]

    def _open(self, key: str) -> BufferedIOBase:
        if key not in self._sizes:
            raise PickleError(f"{self.path}: no {key} in it; there are {', '.join(self._sizes)}")
        name = f"{key}.npy" if f"{key}.npy" in self._zip.NameToInfo else key
        return self._guard(key, lambda: self._zip.open(name))

    def _header(self, key: str, member: BufferedIOBase) -> tuple[tuple[int, ...], np.dtype[Any]]:
        (shape, _, dtype), start = self._guard(key, lambda: (_read_header(member), member.tell()))
        claimed, there = math.prod(shape) * dtype.itemsize, self._sizes[key] - start
        if not dtype.hasobject and claimed != there:
            raise PickleError(
                f"{self.path}: {key} of shape {shape} and type {dtype} should be {claimed} bytes, {there} are there"
            )
        return shape, dtype

    def _fortran(self, key: str) -> bool:
        with self._open(key) as member:
            return self._guard(key, lambda: _read_header(member))[1]

    def _guard(self, key: str, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except _BROKEN as error:
            raise PickleError(f"{self.path}: {key} can't be read ({error}); get the file again") from None


def _read_header(member: BufferedIOBase) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(member)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(member)
    raise ValueError(f"an array of format {version}")
