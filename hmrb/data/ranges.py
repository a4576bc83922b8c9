"""Pictures of a shard elsewhere: each a range of an object, fetched ahead by threads, checked, and kept on disk.

The folder of kept pictures is bounded (`$HMRB_CACHE_GB`, 20) and shared by all processes of a machine: one file per
picture, in FOLDERS folders. A process that has added a part of a folder's share looks at its size, and deletes the
oldest.
"""

import os
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from itertools import accumulate
from pathlib import Path

import numpy as np

from hmrb import objects
from hmrb.data.remote import SUM_BYTES, PictureFile, places, sums_path
from hmrb.errors import RequestError, RunError

FOLDERS = 16
LOOKS = 32  # a process looks at a folder after it has added this part of its share
FULL, EMPTIED = 0.75, 0.6  # of a folder's share: when the oldest are deleted, and how much stays
LONGEST_RANGE = 1 << 20  # bytes: neighbouring pictures are fetched by one request
MOST_AHEAD = 256 << 20  # bytes of pictures on their way or waiting, in a process
SEQUENCE_AHEAD = 64  # pictures fetched ahead of a reader that goes through a shard in order
DAMAGED = 3  # attempts at a picture whose checksum is wrong


class Ranges:
    """Reads the pictures of one shard. `offsets` are the starts of pictures in the bytes of all files."""

    def __init__(self, sha: str, files: Sequence[PictureFile], offsets: np.ndarray, sums: np.ndarray | None) -> None:
        self._sha, self._files, self._offsets, self._sums = sha, files, offsets, sums
        self._starts = [0, *accumulate(file.stop - file.start for file in files)]
        self._coming: dict[int, Future[dict[int, bytes]]] = {}
        self._bytes_ahead, self._last = 0, (-1, b"")

    @property
    def url(self) -> str:
        """The shard's URL, or that of its first file of pictures."""
        return self._files[0].url

    def read(self, image: int) -> bytes:
        """The bytes of a picture. Raises RunError, which names the object and the range."""
        last, data = self._last
        if image == last:  # neighbours in a shard share pictures
            return data
        if image == last + 1 and image not in self._coming:
            self.ahead(range(image, min(image + SEQUENCE_AHEAD, len(self._offsets) - 1)))
        found = future.result() if (future := self._taken(image)) else self._group([image])
        self._last = image, found[image]
        return found[image]

    def ahead(self, images: Sequence[int]) -> None:
        """Begin to fetch pictures that will be read soon."""
        wanted = sorted(set(images).difference(self._coming))
        self._bytes_ahead += sum(map(self._length, wanted))
        for group in self._grouped(wanted):
            future = _pool(os.getpid()).submit(self._group, group)
            self._coming |= dict.fromkeys(group, future)
        while self._bytes_ahead > MOST_AHEAD and len(self._coming) > 1:  # those that nobody came for
            self._taken(next(iter(self._coming)))

    def _taken(self, image: int) -> "Future[dict[int, bytes]] | None":
        future = self._coming.pop(image, None)
        self._bytes_ahead -= self._length(image) if future else 0
        return future

    def pieces(self, size: int) -> Iterator[bytes]:
        """The bytes of all pictures in order, `size` at a time, from the objects themselves."""
        for file in self._files:
            ends = [(at, min(at + size, file.stop)) for at in range(file.start, file.stop, size)]
            with ThreadPoolExecutor(min(objects.readers(), 4)) as pool:
                for at in range(0, len(ends), 8):  # no more than this in memory
                    yield from pool.map(lambda end, url=file.url: objects.read(url, *end), ends[at : at + 8])

    def _length(self, image: int) -> int:
        return int(self._offsets[image + 1] - self._offsets[image])

    def _place(self, image: int) -> tuple[str, int, int]:
        """URL, start and stop of a picture."""
        start, stop = self._offsets[image : image + 2].tolist()
        number = min(bisect_right(self._starts, start), len(self._files)) - 1
        file = self._files[number]
        shift = file.start - self._starts[number]
        return file.url, start + shift, stop + shift

    def _grouped(self, images: Sequence[int]) -> Iterator[list[int]]:
        """Pictures in order, those together that one short range holds."""
        group: list[int] = []
        for image in images:
            if group:
                url, start, _ = self._place(group[0])
                same, _, stop = self._place(image)
                if image != group[-1] + 1 or same != url or stop - start > LONGEST_RANGE:
                    yield group
                    group = []
            group.append(image)
        if group:
            yield group

    def _group(self, images: list[int]) -> dict[int, bytes]:
        """Pictures that are neighbours, from the disk, or by one request for those that are not there."""
        found = {image: data for image in images if (data := self._kept(image)) is not None}
        for group in self._grouped([image for image in images if image not in found]):
            found |= self._fetched(group)
        return found

    def _kept(self, image: int) -> bytes | None:
        try:
            data = kept_path(self._sha, image).read_bytes()
        except OSError:
            return None
        return data if len(data) == self._length(image) and self._is_right(image, data) else None

    def _fetched(self, images: list[int]) -> dict[int, bytes]:
        url, start, _ = self._place(images[0])
        stop = self._place(images[-1])[2]
        for _ in range(DAMAGED):
            data = objects.read(url, start, stop)
            found = {}
            for image in images:
                at = int(self._offsets[image] - self._offsets[images[0]])
                found[image] = data[at : at + self._length(image)]
            damaged = [image for image, part in found.items() if not self._is_right(image, part)]
            if not damaged:
                for image, part in found.items():
                    keep(kept_path(self._sha, image), part)
                return found
        _, start, stop = self._place(damaged[0])
        raise RunError(
            f"{url}, bytes {start:,} to {stop:,}: picture {damaged[0]} is damaged: it does not have the checksum that"
            " was stored with it; copy the shard there again"
        )

    def _is_right(self, image: int, data: bytes) -> bool:
        if self._sums is None:
            return True
        return blake2b(data, digest_size=SUM_BYTES).digest() == self._sums[image].tobytes()


def ranges_of(copy: Path, sha: str, offsets: np.ndarray) -> Ranges | None:
    """The reader of a shard's pictures if its file is a copy of labels. Raises RequestError."""
    if not (files := places(copy)):
        return None
    if sum(file.stop - file.start for file in files) != offsets[-1]:
        raise RequestError(f"{files[0].url}: its files of pictures do not belong to this version of the shard")
    sums = None
    if (path := sums_path(copy)).is_file():
        table = np.fromfile(path, np.uint8)
        if len(table) != 32 + SUM_BYTES * (len(offsets) - 1):
            raise RequestError(f"{files[0].url}: its checksums are of {len(table):,} bytes; copy the shard there again")
        sums = table[32:].reshape(-1, SUM_BYTES)
    return Ranges(sha, files, offsets, sums)


def pictures_sha(copy: Path) -> bytes:
    """The SHA-256 of all pictures that the checksums of a shard elsewhere state; empty if it has none."""
    path = sums_path(copy)
    return path.read_bytes()[:32] if path.is_file() else b""


def kept_path(sha: str, image: int) -> Path:
    """Where a picture is kept."""
    return objects.cache_root() / "pictures" / f"{image % FOLDERS:x}" / f"{sha}-{image}"


def limit_bytes() -> int:
    """The size of the folder of kept pictures: `$HMRB_CACHE_GB`."""
    return int(1e9 * objects.number_of("HMRB_CACHE_GB", 20, 0))


def keep(path: Path, data: bytes) -> None:
    """Keep a picture on disk, in place of the oldest. A disk that is full or refuses is told once."""
    share = limit_bytes() // FOLDERS
    if _stopped or len(data) > share * EMPTIED:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        try:
            with open(handle, "wb") as file:
                file.write(data)
            os.replace(name, path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as error:
        _stopped.append(path)
        print(f"hmrb: {path.parent}: pictures are no longer kept there ({error.strerror or error})", file=sys.stderr)
        return
    _added[path.parent] = _added.get(path.parent, share) + len(data)
    if _added[path.parent] > share // LOOKS:
        _added[path.parent] = 0
        empty(path.parent, share)


def empty(folder: Path, share: int) -> None:
    """Delete the oldest files of a folder that is nearly full; `share` is its limit in bytes."""
    files = []
    for entry in os.scandir(folder):
        with suppress(OSError):  # another process deleted it
            files.append((entry.stat().st_mtime_ns, entry.stat().st_size, entry.path))
    left = sum(size for _, size, _ in files)
    if left <= FULL * share:
        return
    for _, size, name in sorted(files):
        if left <= EMPTIED * share:
            return
        with suppress(OSError):
            os.unlink(name)
        left -= size


@cache
def _pool(process: int) -> ThreadPoolExecutor:
    """The threads that fetch; a forked process has none of its parent's."""
    return ThreadPoolExecutor(objects.readers(), thread_name_prefix="hmrb-range")


_added: dict[Path, int] = {}
_stopped: list[Path] = []
