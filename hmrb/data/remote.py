"""Shards elsewhere: a local copy of the labels, named by the shard's hash, with a hole where the pictures are.

The copy is the shard's own file without the bytes of its pictures, so it is read and mapped like any other. Beside it
are the places of the pictures, which `hmrb.data.ranges` fetches, and their checksums if the object has some:
`<shard>.<sha>.sums` holds the SHA-256 of all pictures, then 8 bytes of BLAKE2b of each.
"""

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from hmrb import objects, system
from hmrb.errors import RequestError, RunError
from hmrb.formats.hdf5 import BROKEN
from hmrb.objects import StoredObject

HEADER_BLOCK = 1 << 18  # bytes of a request while the header is looked for
SUM_BYTES = 8


@dataclass(frozen=True, slots=True)
class PictureFile:
    """Where an object's bytes of pictures start and stop; equal if it has none."""

    url: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Header:
    """What a shard's object says about itself, before its labels are copied."""

    sha: str
    num_files: int
    start: int
    stop: int


def located(path: Path) -> Path:
    """The file to read for a shard's path: itself, or the copy of the labels of the object that it stands for.

    Raises RequestError if the object is not a shard, RunError if it cannot be read or copied.
    """
    there = objects.pointed(path)
    if there is None:
        return path
    name = objects.plain(there.url.rpartition("/")[2], there.url)
    known = objects.cache_root() / "known" / there.key
    sha = known.read_text(encoding="utf-8") if there.version and known.is_file() else ""
    if not re.fullmatch("[0-9a-f]{16}", sha):
        sha = header_of(there).sha
        with objects.part_of(known, there.url) as part:
            part.write_text(sha, encoding="utf-8")
    folder = objects.cache_root() / "labels" / sha / there.key
    copy = folder / name
    if not places_path(copy).is_file():
        with _alone(folder):
            if not places_path(copy).is_file():
                _copy(there, copy)
    return copy


def places_path(copy: Path) -> Path:
    """The file with the places of a copy's pictures; it is written last, so a copy that has it is complete."""
    return copy.with_name(f"{copy.stem}.places.json")


def sums_path(copy: Path) -> Path:
    """The checksums of a copy's pictures."""
    return copy.with_name(f"{copy.stem}.sums")


def places(copy: Path) -> list[PictureFile]:
    """The places of the pictures of a copy of labels; empty for a shard that is here."""
    path = places_path(copy)
    if not path.is_file():
        return []
    try:
        return [
            PictureFile(str(row["url"]), int(row["start"]), int(row["stop"])) for row in json.loads(path.read_text())
        ]
    except (ValueError, TypeError, KeyError):
        raise RequestError(f"{path}: damaged; delete {path.parent}, which is a copy of labels") from None


def header_of(there: StoredObject) -> Header:
    """The hash of a shard elsewhere and the place of its pictures. Raises RequestError if it is not a shard."""
    source = _Source(there)
    try:
        with h5py.File(source, "r") as file:
            sha, files = file.attrs["sha"], int(file.attrs["num_files"])
            sha = sha.decode() if isinstance(sha, bytes) else str(sha)
            start, stop = _extent(file.get("jpeg/bytes"), there)
    except BROKEN as error:
        if source.failure:
            raise source.failure from None
        raise RequestError(f"{there.url}: not a readable hmrb shard ({objects.said(error)})") from None
    if not re.fullmatch("[0-9a-f]{16}", sha) or not 0 <= files < 1 << 20:
        raise RequestError(f"{there.url}: not a complete hmrb shard: its sha is {sha[:40]!r}")
    return Header(sha, files, start, stop)


def _extent(node: Any, there: StoredObject) -> tuple[int, int]:
    """Where the bytes of pictures start and stop in an object."""
    if node is None or not node.size:
        return there.size, there.size
    start = node.id.get_offset()
    if start is None or node.dtype != np.uint8 or node.ndim != 1 or not 0 <= start <= start + node.nbytes <= there.size:
        raise ValueError("jpeg/bytes is not a flat array of bytes within it")
    return start, start + node.nbytes


def _copy(there: StoredObject, copy: Path) -> None:
    """Copy a shard's labels, the headers of its files of pictures, and its checksums."""
    header = header_of(there)
    found = [PictureFile(there.url, header.start, header.stop)]
    _with_hole(there, header.start, header.stop, copy)
    if header.num_files:
        found = []
        for number in range(header.num_files):
            url = f"{there.url.removesuffix('.h5')}.pictures-{number:03d}.h5"
            part = objects.object_at(url)
            if part is None:
                raise RunError(f"{url}: no such object; it must contain pictures of {there.url}")
            with h5py_errors(part) as source, h5py.File(source, "r") as file:
                start, stop = _extent(file.get("jpeg/bytes"), part)
            found.append(PictureFile(url, start, stop))
            _with_hole(part, start, stop, copy.with_name(url.rpartition("/")[2]))
    sums = objects.object_at(sums_url(there.url, header.sha))
    if sums is not None:
        with objects.part_of(sums_path(copy), sums.url) as name, open(name, "wb") as file:
            for start in range(0, sums.size, objects.PIECE):
                file.write(objects.read(sums.url, start, min(start + objects.PIECE, sums.size)))
    with objects.part_of(places_path(copy), there.url) as name:
        name.write_text(json.dumps([asdict(row) for row in found]))


def sums_url(url: str, sha: str) -> str:
    """The object with the checksums of a shard's pictures; its name holds the shard's hash."""
    return f"{url.removesuffix('.h5')}.{sha}.sums"


@contextmanager
def h5py_errors(there: StoredObject) -> Iterator["_Source"]:
    """A source for h5py whose errors in the block become one message."""
    source = _Source(there)
    try:
        yield source
    except BROKEN as error:
        if source.failure:
            raise source.failure from None
        raise RequestError(f"{there.url}: not a readable HDF5 file ({objects.said(error)})") from None


def _with_hole(there: StoredObject, start: int, stop: int, path: Path) -> None:
    """Copy an object without the bytes from `start` to `stop`, which stay a hole: zeros that take no space."""
    ends = [(0, start), (stop, there.size)]
    pieces = [(at, min(at + objects.PIECE, end)) for begin, end in ends for at in range(begin, end, objects.PIECE)]
    with objects.part_of(path, there.url, start + there.size - stop) as part, open(part, "r+b") as file:
        file.truncate(there.size)
        with ThreadPoolExecutor(min(objects.readers(), 8)) as pool:
            for (at, _), data in zip(
                pieces, pool.map(lambda ends: objects.read(there.url, *ends), pieces), strict=True
            ):
                file.seek(at)
                file.write(data)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one process at a time into the block, where the system has locks."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / ".lock", "ab")  # noqa: SIM115
    except OSError as error:
        raise RunError(f"{folder}: cannot be written ({error.strerror}); set HMRB_CACHE to another folder") from None
    with file:
        with suppress(OSError):
            system.lock(file, wait=True)
        yield


class _Source(io.RawIOBase):
    """An object as a file for h5py, read in blocks that are kept. `failure` is what a request raised."""

    def __init__(self, there: StoredObject) -> None:
        self._there, self._at, self._blocks = there, 0, dict[int, bytes]()
        self.failure: Exception | None = None

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._there.size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        count = max(min(len(view), self._there.size - self._at), 0)
        done = 0
        while done < count:
            number, within = divmod(self._at, HEADER_BLOCK)
            data = self._block(number)[within : within + count - done]
            view[done : done + len(data)] = data
            done, self._at = done + len(data), self._at + len(data)
        return done

    def _block(self, number: int) -> bytes:
        if number not in self._blocks:
            start = number * HEADER_BLOCK
            try:
                self._blocks[number] = objects.read(self._there.url, start, min(start + HEADER_BLOCK, self._there.size))
            except (RequestError, RunError) as error:
                self.failure = error
                raise OSError("a request failed") from None
        return self._blocks[number]
