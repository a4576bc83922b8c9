"""One HDF5 file for one split of a dataset: flat, uncompressed arrays that are memory-mapped when read.

Per person: box, keypoints2d, keypoints3d, pose, betas, transl, has_body, gender, name, image, columns/*.
Per picture: jpeg/offset into the one array jpeg/bytes, and origin: where the picture lies in the photo it was cut from.
"""

import hashlib
import os
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import h5py
import numpy as np

from hmrb.errors import RequestError, RunError
from hmrb.lookup import find
from hmrb.records import GENDERS, Sample
from hmrb.skeleton import SKELETONS

LAYOUT_VERSION = 1
NAME_BYTES = 128
COPY_BYTES = 1 << 24


class ShardError(RequestError):
    """A shard that is missing, cut short, of another layout, or not a shard."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """What a shard says of itself. `sha` is over every array, so the same labels and pictures have the same one."""

    dataset: str
    split: str
    skeleton: str
    body: str
    made_by: str
    sha: str
    num_people: int
    num_images: int


def row_arrays(num_joints: int) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and type of a person's entry in each array."""
    return {
        "box": ((4,), np.float32),
        "keypoints2d": ((num_joints, 3), np.float32),
        "keypoints3d": ((num_joints, 4), np.float32),
        "pose": ((24, 3), np.float32),
        "betas": ((10,), np.float32),
        "transl": ((3,), np.float32),
        "has_body": ((), np.uint8),
        "gender": ((), np.uint8),
        "name": ((), np.dtype(f"S{NAME_BYTES}")),
        "image": ((), np.int64),
    }


class ShardWriter:
    """Writes samples one by one in bounded memory; the file appears under its name when complete, or not at all.

    Samples that follow one another with the same JPEG share it. `with ShardWriter(...) as writer: writer.add(sample)`.
    """

    def __init__(self, path: Path, *, dataset: str, split: str, skeleton: str, body: str, made_by: str) -> None:
        self.path = path
        self._about: dict[str, Any] = {
            "dataset": dataset,
            "split": split,
            "skeleton": skeleton,
            "body": body,
            "made_by": made_by,
        }
        self._arrays = row_arrays(len(find("skeleton", skeleton, SKELETONS).joints))
        self._spools: dict[str, IO[bytes]] = {}
        self._types: dict[str, tuple[tuple[int, ...], Any]] = {}
        self._last_jpeg = b""
        self._num_people = self._num_images = self._end = 0

    def __enter__(self) -> "ShardWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._stack = ExitStack()
        self._folder = Path(
            self._stack.enter_context(tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".part-"))
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is None:
                self._guard(self._finish)
            for spool in self._spools.values():
                with suppress(OSError):  # a full disk refuses the last bytes again; they are thrown away here
                    spool.close()

    def add(self, sample: Sample) -> None:
        """Appends one person."""
        self._guard(lambda: self._add(sample))

    def _add(self, sample: Sample) -> None:
        name = sample.name.encode()
        if len(name) > NAME_BYTES:
            raise ShardError(f"{self.path}: image name '{sample.name}' is longer than {NAME_BYTES} bytes")
        if sample.jpeg != self._last_jpeg:
            self._append("jpeg/offset", (), np.int64, self._end)
            self._append("origin", (3,), np.float32, sample.origin)
            self._spool("jpeg/bytes", (), np.uint8).write(sample.jpeg)
            self._last_jpeg, self._end = sample.jpeg, self._end + len(sample.jpeg)
            self._num_images += 1
        values = {"has_body": sample.has_body, "gender": GENDERS.index(sample.gender), "name": name}
        for key, (shape, dtype) in self._arrays.items():
            value = self._num_images - 1 if key == "image" else values.get(key)
            self._append(key, shape, dtype, getattr(sample, key) if value is None else value)
        for key, number in sample.columns.items():
            self._append(f"columns/{key}", (), np.float32, number)
        self._num_people += 1

    def _append(self, key: str, shape: tuple[int, ...], dtype: Any, value: Any) -> None:
        row = np.asarray(value, dtype=dtype)
        if row.shape != shape:
            raise ShardError(f"{self.path}: {key} of person {self._num_people} has shape {row.shape}, expected {shape}")
        self._spool(key, shape, dtype).write(row.tobytes())

    def _spool(self, key: str, shape: tuple[int, ...], dtype: Any) -> IO[bytes]:
        if key not in self._spools:
            self._types[key] = (shape, dtype)
            self._spools[key] = open(self._folder / key.replace("/", "."), "wb")  # noqa: SIM115  closed in __exit__
        return self._spools[key]

    def _finish(self) -> None:
        if not self._num_people:
            raise ShardError(f"{self.path}: no person to write")
        self._append("jpeg/offset", (), np.int64, self._end)
        digest = hashlib.sha256(repr(sorted(self._about.items())).encode())
        part = self._folder / "whole.h5"
        with h5py.File(part, "w", libver="latest") as file:
            for key in sorted(self._spools):
                self._spools[key].close()
                self._copy(file, key, digest)
            sha = digest.hexdigest()[:16]
            counts = {"num_people": self._num_people, "num_images": self._num_images}
            for name, value in ({"layout": LAYOUT_VERSION, "sha": sha} | counts | self._about).items():
                file.attrs[name] = value
        with open(part, "rb") as whole:
            os.fsync(whole.fileno())
        os.replace(part, self.path)
        self.info = ShardInfo(**self._about, sha=sha, num_people=self._num_people, num_images=self._num_images)

    def _copy(self, file: h5py.File, key: str, digest: Any) -> None:
        shape, dtype = self._types[key]
        spool = self._folder / key.replace("/", ".")
        row_bytes = np.dtype(dtype).itemsize * int(np.prod(shape))
        num_rows, odd = divmod(spool.stat().st_size, row_bytes)
        wanted = {"jpeg/bytes": self._end, "jpeg/offset": self._num_images + 1, "origin": self._num_images}
        if odd or num_rows != wanted.get(key, self._num_people):
            raise ShardError(f"{self.path}: {key} is not given for every person")
        target = file.create_dataset(key, (num_rows, *shape), dtype)
        digest.update(key.encode())
        with open(spool, "rb") as rows:
            start = 0
            while block := rows.read(max(COPY_BYTES // row_bytes, 1) * row_bytes):
                digest.update(block)
                array = np.frombuffer(block, dtype).reshape(-1, *shape)
                target[start : start + len(array)] = array
                start += len(array)
        spool.unlink()

    def _guard(self, step: Any) -> None:
        try:
            step()
        except OSError as error:
            reason = error.strerror or str(error)
            raise RunError(f"{self.path}: could not be written ({reason}); nothing was left behind") from None


class Shard:
    """A shard open for reading. Arrays are mapped at first use, so it can be sent to worker processes unopened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info = _read_info(path)

    def __len__(self) -> int:
        return self.info.num_people

    def __reduce__(self) -> tuple[type["Shard"], tuple[Path]]:
        return Shard, (self.path,)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Every array of the shard, mapped read-only."""
        with h5py.File(self.path, "r") as file:
            found: dict[str, np.ndarray] = {}
            file.visititems(lambda key, node: found.update({key: _map(self.path, node)}) if _is_array(node) else None)
        expected = row_arrays(len(SKELETONS[self.info.skeleton].joints))
        if missing := [key for key in (*expected, "jpeg/bytes", "jpeg/offset", "origin") if key not in found]:
            raise ShardError(f"{self.path}: no {', '.join(missing)} in it; make it again: {_command(self.info)}")
        return found

    @property
    def columns(self) -> list[str]:
        """Names of the values by which results can be sliced."""
        return sorted(key.removeprefix("columns/") for key in self.arrays if key.startswith("columns/"))

    def name(self, row: int) -> str:
        """The picture's name in its dataset."""
        return bytes(self.arrays["name"][row]).decode()

    def jpeg(self, row: int) -> bytes:
        """The bytes of a person's picture."""
        image = self.arrays["image"][row]
        start, stop = self.arrays["jpeg/offset"][image : image + 2]
        return self.arrays["jpeg/bytes"][start:stop].tobytes()

    def read(self, row: int) -> Sample:
        """One person."""
        arrays = self.arrays
        return Sample(
            jpeg=self.jpeg(row),
            name=self.name(row),
            box=arrays["box"][row],
            keypoints2d=arrays["keypoints2d"][row],
            keypoints3d=arrays["keypoints3d"][row],
            pose=arrays["pose"][row],
            betas=arrays["betas"][row],
            transl=arrays["transl"][row],
            has_body=bool(arrays["has_body"][row]),
            gender=GENDERS[arrays["gender"][row]],
            origin=arrays["origin"][arrays["image"][row]],
            columns={key: float(arrays[f"columns/{key}"][row]) for key in self.columns},
        )


def open_shard(path: Path, dataset: str, command: str = "") -> Shard:
    """The shard at `path`, or a ShardError with the command that makes it."""
    if not path.exists():
        raise ShardError(f"no shard of '{dataset}' at {path}; make it: {command or f'hmrb convert-data {dataset}'}")
    return Shard(path)


def _read_info(path: Path) -> ShardInfo:
    try:
        with h5py.File(path, "r") as file:
            about = dict(file.attrs)
    except OSError as error:
        what = "is cut short" if "truncated" in str(error) else "is no HDF5 file that can be read"
        raise ShardError(f"{path}: {what}; delete it and make it again with hmrb convert-data") from None
    if "layout" not in about or "dataset" not in about:
        raise ShardError(f"{path}: an HDF5 file, but no shard of hmrb")
    if about["layout"] != LAYOUT_VERSION:
        name = about["dataset"]
        raise ShardError(
            f"{path} has layout {about['layout']}, this hmrb reads {LAYOUT_VERSION}; run hmrb convert-data {name}"
        )
    return ShardInfo(**{key: _plain(about[key]) for key in ShardInfo.__dataclass_fields__})


def _plain(value: Any) -> Any:
    return int(value) if isinstance(value, np.integer) else value


def _is_array(node: Any) -> bool:
    return isinstance(node, h5py.Dataset)


def _map(path: Path, node: Any) -> np.ndarray:
    offset = node.id.get_offset()
    if offset is None or node.size == 0:
        raise ShardError(f"{path}: {node.name} is not a flat array; make the shard again with hmrb convert-data")
    mapped = np.memmap(path, node.dtype, "r", offset, node.shape)
    return mapped.view(np.ndarray)  # rows of a memmap object cost ten times as much


def _command(info: ShardInfo) -> str:
    return f"hmrb convert-data {info.dataset}"
