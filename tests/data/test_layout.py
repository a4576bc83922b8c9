"""A shard's arrays are held against the layout before they are mapped; wrong ones are one message."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import person, write_shard

from hmrb.data.shard import Shard, ShardError

Change = Callable[[h5py.File], None]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_shard(tmp_path / "synthetic_train.h5", [person(i) for i in range(5)])


def replaced(key: str, change: Callable[[np.ndarray], np.ndarray], **how: object) -> Change:
    def step(file: h5py.File) -> None:
        array = change(file[key][()])
        del file[key]
        file.create_dataset(key, data=array, **how)

    return step


def filled(key: str, value: object) -> Change:
    return lambda file: file[key].__setitem__(slice(None), value)


def texts(key: str) -> Change:
    def step(file: h5py.File) -> None:
        shape = file[key].shape if key in file else (5,)
        if key in file:
            del file[key]
        file.create_dataset(key, data=np.full(shape, "zz", object), dtype=h5py.string_dtype())

    return step


def added(key: str, array: np.ndarray) -> Change:
    return lambda file: file.__setitem__(key, array)


def elsewhere(file: h5py.File) -> None:
    del file["betas"]
    file.create_dataset("betas", (5, 10), np.float32, external=[("other.bin", 0, 200)])


def references(file: h5py.File) -> None:
    file.create_dataset("extra/r", (5,), h5py.ref_dtype)


WRONG: dict[str, tuple[Change, str]] = {
    **{f"objects in {key}": (texts(key), f"{key} has type object") for key in ("name", "betas", "gender", "extra/a")},
    "references": (references, "extra/r has type object"),
    "records": (added("extra/r", np.zeros(5, [("a", "f4")])), r"extra/r has type \[\('a', '<f4'\)\]"),
    "unknown": (added("junk", np.zeros(5)), "unknown array junk"),
    "other floats": (replaced("betas", lambda a: a.astype("f8")), r"betas has type float64.*expected float32"),
    "other byte order": (replaced("betas", lambda a: a.astype(">f4")), r"betas has type >f4"),
    "short": (replaced("betas", lambda a: a[:-2]), r"shape \(3, 10\); expected float32 of shape \(5, 10\)"),
    "one axis more": (replaced("box", lambda a: a[None]), r"box has type float32 and shape \(1, 5, 4\)"),
    "scalar": (replaced("box", lambda a: a[0, 0]), r"box has type float32 and shape \(\)"),
    "empty": (replaced("image", lambda a: a[:0]), r"image has type int64 and shape \(0,\)"),
    "short column": (replaced("columns/occlusion", lambda a: a[1:]), r"columns/occlusion .* shape \(4,\)"),
    "chunked": (replaced("pose", lambda a: a, chunks=(1, 24, 3)), "pose is not a flat array"),
    "compressed": (replaced("pose", lambda a: a, compression="gzip"), "pose is not a flat array"),
    "elsewhere": (elsewhere, "betas is not a flat array"),
    "gender": (filled("gender", 255), "gender is 255 in row 0; allowed are 0 to 2"),
    "has_body": (filled("has_body", 2), "has_body is 2 in row 0; allowed are 0 to 1"),
    "image": (filled("image", 255), "image is 255 in row 0; allowed are 0 to 4"),
    "negative image": (filled("image", -1), "image is -1 in row 0; allowed are 0 to 4"),
    "offset": (replaced("jpeg/offset", lambda a: a[::-1].copy()), "jpeg/offset must begin at 0 and never fall"),
    "offset's end": (replaced("jpeg/offset", lambda a: np.r_[a[:-1], a[-1] + 1]), "but jpeg/bytes has"),
    "codes": (added("categories/occlusion", np.array([b"a"])), "columns/occlusion is .*allowed are 0 to 0"),
    "people": (lambda file: file.attrs.__setitem__("num_people", 6), r"betas .* expected float32 of shape \(6, 10\)"),
    "images": (lambda file: file.attrs.__setitem__("num_images", 4), r"jpeg/offset .* expected int64 of shape \(5,\)"),
    "no skeleton": (lambda file: file.attrs.__setitem__("skeleton", np.arange(3)), "attribute skeleton is array"),
    "many people": (lambda file: file.attrs.__setitem__("num_people", 2.5), "attribute num_people is 2.5, expected a"),
    "fewer than none": (lambda file: file.attrs.__setitem__("num_files", -1), "must not be negative"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_breaks_the_layout_is_one_message(path: Path, kind: str) -> None:
    change, message = WRONG[kind]
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(ShardError, match=message):
        _ = Shard(path).arrays


def test_pointers_in_a_file_never_become_objects(path: Path) -> None:
    """A shard whose bytes are the address of a function: with the check gone, the array would hold that function."""
    with h5py.File(path, "r+") as file:
        texts("extra/a")(file)
        offset = file["extra/a"].id.get_offset()
    content = bytearray(path.read_bytes())
    content[offset : offset + 8] = id(exec).to_bytes(8, "little")
    path.write_bytes(content)
    with pytest.raises(ShardError, match="extra/a has type object and shape"):
        _ = Shard(path).arrays


def test_flipped_bits_of_a_shard_s_structure_are_one_message(path: Path) -> None:
    content, rng = path.read_bytes(), np.random.default_rng(0)
    with h5py.File(path) as file:
        labels = min(file[key].id.get_offset() for key in ("box", "pose", "name", "jpeg/bytes"))
    said = []
    for at in rng.integers(0, max(labels, 2048), 150):
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        try:
            _ = Shard(path).arrays
        except ShardError as error:
            said.append(str(error))
    assert said
    assert all(str(path) in message for message in said)


def test_types_that_other_programs_write_are_read(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file.attrs["made_by"] = np.bytes_("a MATLAB script")
        file["columns/age"] = np.arange(5)
        file["extra/weight"] = np.zeros((5, 2, 3), np.float64)
        file["extra/suit"] = np.array([b"a"] * 5)
    shard = Shard(path)
    assert shard.info.made_by == "a MATLAB script"
    assert shard.read(3).columns["age"] == 3
    assert shard.read(3).extra["suit"] == b"a"
