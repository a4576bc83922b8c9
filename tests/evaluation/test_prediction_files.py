"""Files of predictions in every shape that people save: read, or refused with one message."""

import json
import pickle
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.predictions import read_predictions
from hmrb.store import Store


@pytest.fixture
def shard(tiny_store: Store) -> Shard:
    return Shard(tiny_store.shard("synthetic", "test"))


def table(count: int = 7) -> dict[str, np.ndarray]:
    return {"pose": np.full((count, 72), 0.1, np.float32), "betas": np.arange(10.0 * count).reshape(count, 10) % 3}


def batches() -> list[dict[str, Any]]:
    whole = table()
    names = [f"person/{i:03d}" for i in range(7)]
    cuts = [slice(0, 3), slice(3, 6), slice(6, 7)]
    return [{"pose": whole["pose"][at], "betas": whole["betas"][at], "imgname": names[at]} for at in cuts]


def as_objects(array: np.ndarray) -> np.ndarray:
    rows = np.empty(len(array), object)
    rows[:] = list(array)
    return rows


def pickled(content: Any) -> Callable[[Path], None]:
    return lambda path: path.with_suffix(".pkl").write_bytes(pickle.dumps(content)) and None


def zipped(**content: Any) -> Callable[[Path], None]:
    return lambda path: np.savez(path.with_suffix(".npz"), **content)


def upper_case(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), **table())
    path.with_suffix(".npz").rename(path.with_suffix(".NPZ"))


def hdf5(**content: Any) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with h5py.File(path.with_suffix(".h5"), "w") as file:
            for key, value in (table() | content).items():
                file.create_dataset(key, **value) if isinstance(value, dict) else file.create_dataset(key, data=value)

    return write


def linked(path: Path) -> None:
    hdf5()(path)
    with h5py.File(path.with_suffix(".h5"), "a") as file:
        del file["pose"]
        file["pose"] = h5py.SoftLink("/nowhere")


def made(path: Path) -> Path:
    (one,) = path.parent.glob("theirs.*")
    return one


READ = {
    "upper-case suffix": upper_case,
    "defaultdict": pickled(defaultdict(list, table())),
    "defaultdict without a default": pickled(defaultdict(None, table())),
    "batches": pickled(batches()),
    "a tuple of batches": pickled(tuple(batches())),
    "lists of rows": pickled({key: list(part) for key, part in table().items()}),
    "rows saved as objects": zipped(**{key: as_objects(part) for key, part in table().items()}),
    "half precision": zipped(**{key: part.astype(np.float16) for key, part in table().items()}),
    "HDF5 and names of bytes": hdf5(imgname=np.array([f"person/{i:03d}" for i in range(7)], "S")),
    "an aid that does not fit": pickled(table() | {"cam": "left", "bbox": [[1], [1, 2]], "scale": 3}),
}


@pytest.mark.parametrize("kind", READ)
def test_harmless_files_are_read(kind: str, shard: Shard, tmp_path: Path) -> None:
    READ[kind](tmp_path / "theirs")
    found = read_predictions(made(tmp_path / "theirs"), shard)
    np.testing.assert_array_equal(found.parts["betas"], table()["betas"].astype(np.float32))
    assert found.place.tolist() == list(range(7))
    assert not found.has_camera


BIG = {"shape": (10**12, 72), "dtype": "f4", "chunks": (1, 72)}
WIDE = {"shape": (7, 10**11), "dtype": "f4", "chunks": (1, 1000)}
TEXT = {"shape": (7,), "dtype": h5py.string_dtype()}
REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no rows": (zipped(**table(0)), r"contains no predictions \(0 rows\)"),
    "no batches": (pickled([]), "contains an empty list, expected a dict of arrays"),
    "a number": (pickled(3), "contains a value of type int, expected a dict of arrays"),
    "a scalar pose": (zipped(**table() | {"pose": np.float32(1)}), "pose is a single value"),
    "a scalar pose in a pickle": (pickled(table() | {"pose": 1.0}), "pose is a single value"),
    "no pose": (pickled(table() | {"pose": None}), "pose contains objects, which are not numbers"),
    "ragged rows": (pickled(table() | {"pose": [[1.0] * 72] * 6 + [[1.0]]}), "pose contains rows of different lengths"),
    "arrays of batches": (pickled(table() | {"pose": [np.zeros((4, 72)), np.zeros((3, 72))]}), "concatenate batches"),
    "text": (zipped(**table() | {"betas": np.full((7, 10), "0.1")}), "betas contains values of type <U3"),
    "truth values": (zipped(**table() | {"betas": np.zeros((7, 10), bool)}), "betas contains values of type bool"),
    "complex numbers": (zipped(**table() | {"betas": np.zeros((7, 10), complex)}), "values of type complex128"),
    "numbers over float32": (zipped(**table() | {"betas": np.full((7, 10), 1e200)}), "values that are not finite"),
    "one row too many": (zipped(**table(8)), "betas has 8 rows, but|pose has 8 rows, but the benchmark's shard has 7"),
    "rows of nothing": (zipped(pose=np.zeros((7, 0)), betas=np.zeros((7, 10))), "poses have 0 values"),
    "persons, not batches": (pickled([{"pose": p, "betas": b} for p, b in zip(*table().values(), strict=True)]),
                             "pose of the batches has rows of shape"),
    "batches that differ": (pickled(batches()[:2] + [table(1)]), "batch 2 has no imgname, but others have"),
    ".npy": (lambda path: np.save(path.with_suffix(".npy"), np.zeros(3)), "is a .npy file; predictions are read from"),
    "JSON": (lambda path: path.with_suffix(".json").write_text(json.dumps({"pose": []})), "is a JSON file"),
    "torch": (lambda path: torch.save({"pose": torch.zeros(7, 72)}, path.with_suffix(".pt")), "is a torch file"),
    "torch by another name": (lambda path: torch.save({}, path.with_suffix(".npz")), "is a torch file"),
    "an empty file": (lambda path: path.with_suffix(".pkl").write_bytes(b""), "truncated or empty"),
    "HDF5 of 10^12 rows": (hdf5(pose=BIG), "pose has 1000000000000 rows, but the benchmark's shard has 7 people"),
    "HDF5 of wide rows": (hdf5(pose=WIDE), "more than 131072 numbers per person are not read"),
    "HDF5 of text": (hdf5(imgname=TEXT), "imgname has entries of variable length or objects, which are not read"),
    "HDF5 of ragged rows": (hdf5(pose={"shape": (7,), "dtype": h5py.vlen_dtype(np.float32)}), "entries of var"),
    "HDF5 of one value": (hdf5(pose=np.float32(1)), "pose is a single value"),
    "a link to nowhere": (linked, "found none of rotmats, pose"),
    "no HDF5": (lambda path: path.with_suffix(".h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 99), "not a readable"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_other_files_are_refused_with_one_message(kind: str, shard: Shard, tmp_path: Path) -> None:
    write, said = REFUSED[kind]
    write(tmp_path / "theirs")
    with pytest.raises(RequestError, match=said):
        read_predictions(made(tmp_path / "theirs"), shard)
