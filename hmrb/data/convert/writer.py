"""Write shards: people are collected in blocks, and blocks are joined into one file. Writes are atomic.

The bytes depend only on the people and their order, not on the division into blocks.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from hmrb.bodykind import kind_of
from hmrb.data.checksums import whole_sha
from hmrb.data.publish import publish
from hmrb.data.shard import (
    CAMERA,
    CATEGORY_BYTES,
    LAYOUT_VERSION,
    NAME_BYTES,
    Shard,
    ShardError,
    ShardInfo,
    pictures_path,
    region_of,
    row_arrays,
)
from hmrb.errors import RunError
from hmrb.formats.writing import hdf5_file, replacing
from hmrb.lookup import find
from hmrb.records import GENDERS, Sample, without_unlabelled
from hmrb.skeleton import SKELETONS
from hmrb.system import reserve

BLOCK_BYTES = 1 << 26  # bytes of images held in memory before a block is written
COPY_BYTES = 1 << 24
PICTURES_BYTES = 32 << 30  # more bytes of images go to numbered files of about this size
HEADERS_BYTES = 1 << 16  # upper limit of an HDF5 file's overhead
PER_PICTURE = ("origin", "photo_px")
POINTS, BODY = ("keypoints2d", "keypoints3d"), ("pose", "betas", "transl")


class Block:
    """People held in memory, one list per array."""

    def __init__(self, about: dict[str, Any], label: str) -> None:
        self._about, self._label = about, label
        self._arrays = row_arrays(len(find("skeleton", about["skeleton"], SKELETONS).joints), kind_of(about["body"]))
        self._lists: dict[str, list[np.ndarray]] = {key: [] for key in (*self._arrays, *PER_PICTURE)}
        self._optional: dict[str, list[Any]] = {}
        self._categories: dict[str, dict[str, int]] = {}
        self._jpegs: list[bytes] = []
        self.num_people = self.num_bytes = 0

    def add(self, sample: Sample) -> None:
        """Append one person; an image identical to the previous person's is shared. Missing labels become zeros."""
        name = sample.name.encode()
        if len(name) > NAME_BYTES:
            raise ShardError(f"{self._label}: image name '{sample.name}' is longer than {NAME_BYTES} bytes")
        if not self._jpegs or sample.jpeg != self._jpegs[-1]:
            self._jpegs.append(sample.jpeg)
            self.num_bytes += len(sample.jpeg)
            self._append("origin", (3,), np.float32, sample.origin)
            self._append("photo_px", (2,), np.int32, sample.photo_px)
        values = {"has_body": sample.has_body, "gender": GENDERS.index(sample.gender), "name": name}
        for key, (shape, dtype) in self._arrays.items():
            value = len(self._jpegs) - 1 if key == "image" else values.get(key)
            value = getattr(sample, key) if value is None else value
            if key in POINTS:
                points = np.asarray(value)
                value = without_unlabelled(points) if len(points) else np.zeros(shape)
            if key in BODY and not sample.has_body:
                value = np.zeros_like(value)
            self._append(key, shape, dtype, value)
        for key, number in sample.columns.items():
            code = self._code(key, number) if isinstance(number, str) else number
            self._optional.setdefault(f"columns/{key}", []).append(np.float32(code))
        for key, value in sample.extra.items():
            self._optional.setdefault(f"extra/{key}", []).append(np.asarray(value, np.float32))
        if sample.camera is not None:
            self._optional.setdefault(CAMERA, []).append(np.asarray(sample.camera, np.float32))
        self.num_people += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays. Raises ShardError if a column or extra is missing for some person or its shapes differ."""
        for key, rows in self._optional.items():
            if len(rows) != self.num_people or len({row.shape for row in rows}) > 1:
                raise ShardError(f"{self._label}: {key} is not given for every person with the same shape")
        out = {key: np.array(rows) for key, rows in (self._lists | self._optional).items()}
        ends = np.cumsum([0, *map(len, self._jpegs)], dtype=np.int64)
        out |= {"jpeg/offset": ends, "jpeg/bytes": np.frombuffer(b"".join(self._jpegs), np.uint8)}
        names = {
            key: np.array([n.encode() for n in codes], f"S{CATEGORY_BYTES}") for key, codes in self._categories.items()
        }
        return out | {f"categories/{key}": value for key, value in names.items()}

    def write(self, path: Path) -> None:
        """Write the block as a separate shard."""
        arrays = self.arrays()
        _reserve(path.parent, [sum(array.nbytes for array in arrays.values())])
        with replacing(path) as part, hdf5_file(part) as file:
            for key, array in arrays.items():
                file[key] = array
            counts = {"num_people": self.num_people, "num_images": len(self._jpegs), "num_files": 0}
            for name, value in ({"layout": LAYOUT_VERSION, "sha": ""} | counts | self._about).items():
                file.attrs[name] = value

    def _append(self, key: str, shape: tuple[int, ...], dtype: Any, value: Any) -> None:
        row = np.asarray(value, dtype=dtype)
        if row.shape != shape:
            raise ShardError(
                f"{self._label}: {key} of person {self.num_people} has shape {row.shape}, expected {shape}"
            )
        self._lists[key].append(row)

    def _code(self, column: str, name: str) -> int:
        if len(name.encode()) > CATEGORY_BYTES:
            raise ShardError(f"{self._label}: {column} '{name}' is longer than {CATEGORY_BYTES} bytes")
        codes = self._categories.setdefault(column, {})
        return codes.setdefault(name, len(codes))


class ShardWriter:
    """Writes samples one by one in bounded memory. Writes are atomic: the file appears only when it is complete.

    Consecutive samples with the same image share it. Usage: `with ShardWriter(...) as out: out.add(sample)`.
    """

    info: ShardInfo

    def __init__(
        self,
        path: Path,
        *,
        dataset: str,
        split: str,
        skeleton: str,
        body: str,
        made_by: str,
        pictures: str = "original",
        selection: str = "",
        compat: str = "",
        source: str = "",
    ) -> None:
        self.path = path
        self._about = {
            "dataset": dataset, "split": split, "skeleton": skeleton, "body": body, "made_by": made_by,
            "pictures": pictures, "selection": selection, "compat": compat, "source": source, **region_of(pictures),
        }  # fmt: skip
        self._block = Block(self._about, str(path))
        self._blocks: list[Path] = []

    def __enter__(self) -> "ShardWriter":
        self._stack = ExitStack()

        def start() -> str:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._stack.enter_context(_scratch(self.path.parent))

        self._folder = Path(guard(self.path, start))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._flush()
                self.info = join(self._blocks, self.path, self._about)

    def add(self, sample: Sample) -> None:
        """Append one person."""
        self._block.add(sample)
        if self._block.num_bytes >= BLOCK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._block.num_people:
            path = self._folder / f"{len(self._blocks):06d}.h5"
            guard(self.path, lambda: self._block.write(path))
            self._blocks.append(path)
            self._block = Block(self._about, str(self.path))


def join(blocks: Sequence[Path], path: Path, about: dict[str, Any]) -> ShardInfo:
    """Join blocks, in order, into one shard. Raises RunError and leaves no files behind if it cannot be written."""
    if not blocks:
        raise ShardError(f"{path}: no person to write")

    def write() -> ShardInfo:
        with _scratch(path.parent) as folder:
            return _join(blocks, path, about, Path(folder))

    info: ShardInfo = guard(path, write)
    publish(path)
    return info


def guard(path: Path, step: Callable[[], Any]) -> Any:
    """Run `step`; a file system error becomes a RunError that names `path`."""
    try:
        return step()
    except OSError as error:
        raise RunError(f"{path}: could not be written ({error.strerror or error}); nothing was left behind") from None


def _scratch(parent: Path) -> tempfile.TemporaryDirectory[str]:
    """A folder for unfinished files; what cannot be deleted stays in it, under a name that nothing reads."""
    return tempfile.TemporaryDirectory(dir=parent, prefix=".part-", ignore_cleanup_errors=True)


def _join(blocks: Sequence[Path], path: Path, about: dict[str, Any], folder: Path) -> ShardInfo:
    sizes = [_Size.of(Shard(block)) for block in blocks]
    people, images, total = (sum(getattr(size, key) for size in sizes) for key in ("people", "images", "bytes"))
    groups = _grouped(sizes) if total > PICTURES_BYTES else []
    counts = {"num_people": people, "num_images": images, "num_files": len(groups)}
    first = {key: (a.shape, a.dtype) for key, a in Shard(blocks[0]).arrays.items() if not key.startswith("categories/")}
    lengths = {"jpeg/offset": images + 1, "jpeg/bytes": total} | dict.fromkeys(PER_PICTURE, images)
    if not any(_any_label(Shard(block)) for block in blocks):
        raise RunError(f"{path}: none of the {people} people has a label (a keypoint or a body); nothing was written")
    digests = {key: hashlib.sha256() for key in first}
    categories: dict[str, dict[bytes, int]] = {}
    main = folder / path.name
    rows = sum(people * dtype.itemsize * int(np.prod(shape[1:])) for shape, dtype in first.values())
    _reserve(folder, [rows + (0 if groups else total), *(sum(sizes[i].bytes for i in group) for group in groups)])
    with hdf5_file(main) as file:
        outs = {
            key: file.create_dataset(key, (lengths.get(key, people), *shape[1:]), dtype)
            for key, (shape, dtype) in sorted(first.items())
            if key != "jpeg/bytes" or not groups
        }
        done = _Size(0, 0, 0)
        for block, size in zip(blocks, sizes, strict=True):
            shard, is_last = Shard(block), block == blocks[-1]
            if odd := {key for key in shard.arrays if not key.startswith("categories/")} ^ first.keys():
                raise ShardError(f"{path}: {', '.join(sorted(odd))} is not given for every person")
            for key, rows, start in _rows(shard, done, categories, is_last):
                digests[key].update(np.ascontiguousarray(rows).data)
                if key in outs and len(rows):
                    outs[key][start : start + len(rows)] = rows
            done = done + size
        for column, names in sorted(categories.items()):
            file[f"categories/{column}"] = np.array(list(names), f"S{CATEGORY_BYTES}")
        sha = whole_sha(about, digests, categories)
        for name, value in ({"layout": LAYOUT_VERSION, "sha": sha, "sha_of": "content"} | counts | about).items():
            file.attrs[name] = value
    for number, group in enumerate(groups):
        _write_pictures([blocks[i] for i in group], pictures_path(main, number))
    for number in range(len(groups)):
        _publish(pictures_path(main, number), pictures_path(path, number))
    _publish(main, path)
    for old in path.parent.glob(f"{path.stem}.pictures-*.h5"):
        if old not in [pictures_path(path, number) for number in range(len(groups))]:
            old.unlink()  # left from a larger shard at the same path
    return ShardInfo(**about, num_people=people, num_images=images, num_files=len(groups), sha=sha, sha_of="content")


def _any_label(shard: Shard) -> bool:
    return bool(shard.arrays["has_body"].any() or any((shard.arrays[key][..., -1] > 0).any() for key in POINTS))


@dataclass(frozen=True, slots=True)
class _Size:
    """The size of a block."""

    people: int
    images: int
    bytes: int

    @classmethod
    def of(cls, shard: Shard) -> "_Size":
        return cls(shard.info.num_people, shard.info.num_images, int(shard.arrays["jpeg/offset"][-1]))

    def __add__(self, other: "_Size") -> "_Size":
        return _Size(self.people + other.people, self.images + other.images, self.bytes + other.bytes)


def _rows(
    shard: Shard, done: _Size, categories: dict[str, dict[bytes, int]], is_last: bool
) -> Iterator[tuple[str, np.ndarray, int]]:
    """Yield pieces of a block's arrays with their start in the joined arrays; adds its categories to `categories`."""
    for key, array in shard.arrays.items():
        column = key.removeprefix("columns/")
        if key == "image":
            yield key, array + done.images, done.people
        elif key == "jpeg/offset":
            yield key, (array if is_last else array[:-1]) + done.bytes, done.images
        elif key in PER_PICTURE:
            yield key, array, done.images
        elif key == "jpeg/bytes":
            for at in range(0, len(array), COPY_BYTES):
                yield key, array[at : at + COPY_BYTES], done.bytes + at
        elif key.startswith("columns/") and (names := shard.arrays.get(f"categories/{column}")) is not None:
            known = categories.setdefault(column, {})
            codes = np.array([known.setdefault(bytes(name), len(known)) for name in names], np.float32)
            yield key, codes[array.astype(np.int64)], done.people
        elif not key.startswith("categories/"):
            yield key, array, done.people


def _grouped(sizes: Sequence[_Size]) -> list[list[int]]:
    """Group block numbers by the file that stores their images."""
    groups: list[list[int]] = [[]]
    room = PICTURES_BYTES
    for number, size in enumerate(sizes):
        if groups[-1] and size.bytes > room:
            groups.append([])
            room = PICTURES_BYTES
        groups[-1].append(number)
        room -= size.bytes
    return groups


def _write_pictures(blocks: Sequence[Path], path: Path) -> None:
    pictures = [Shard(block).arrays["jpeg/bytes"] for block in blocks]
    with hdf5_file(path) as file:
        out = file.create_dataset("jpeg/bytes", (sum(map(len, pictures)),), np.uint8)
        at = 0
        for part in pictures:
            for start in range(0, len(part), COPY_BYTES):
                piece = part[start : start + COPY_BYTES]
                out[at + start : at + start + len(piece)] = piece
            at += len(part)


def _reserve(folder: Path, sizes: Sequence[int]) -> None:
    """Check that the disk has space for files of these sizes: HDF5 aborts the process if it cannot finish a file."""
    with ExitStack() as files:
        for size in sizes:
            file = files.enter_context(tempfile.TemporaryFile(dir=folder))
            reserve(file, size + HEADERS_BYTES, folder)


def _publish(part: Path, path: Path) -> None:
    with open(part, "rb") as whole:
        os.fsync(whole.fileno())
    os.replace(part, path)
