"""UP-3D: projection of the fit to the image, boxes of the rendered body, lists, and one-word files."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from raw.people import body
from raw.up3d import SIZE, fitted, write, write_all

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Person, Photo
from hmrb.store import Store

SOURCE = CONVERTERS["up3d"]


def photos(root: Path, split: str = "train", compat: bool = False) -> list[Photo]:
    (part,) = [part for part in SOURCE.plan(Raw(root, compat)) if part.split == split]
    return [photo for item in part.items for photo in part.read(item)]


def projected(person: Person) -> np.ndarray:
    with torch.no_grad():
        mesh = body()(rotvec_to_rotmat(torch.tensor(person.pose))[None], torch.tensor(person.betas)[None])
        joints = body().joints(mesh, "smpl54")[0].numpy() + person.transl
    focal, x, y = person.extra["up3d/camera"]
    return focal * joints[:, :2] / joints[:, 2:] + (x, y)


def test_a_fit_lies_on_the_picture_through_its_crop(tmp_path: Path) -> None:
    people = write(tmp_path, "train")
    for photo, before in zip(photos(tmp_path), people, strict=True):
        (person,) = photo.people
        assert np.abs(projected(person) - before.pixels).max() < 0.05  # a translation of 48 m in float32
        np.testing.assert_array_equal(person.pose, before.pose)
        assert person.has_body


def test_joints_are_lsps_with_their_own_confidence(tmp_path: Path) -> None:
    people = write(tmp_path, "train", count=1)
    points = photos(tmp_path)[0].people[0].keypoints2d
    assert not points[0].any()
    np.testing.assert_allclose(points[1:, :2], people[0].points2d("lsp")[1:], rtol=1e-6)
    np.testing.assert_array_equal(points[1:, 2], 1)


def test_boxes_are_nine_tenths_of_the_drawn_body(tmp_path: Path) -> None:
    people = write(tmp_path, "train", count=1)
    low, high = (getattr(people[0].pixels[:24], side)(0).astype(int) for side in ("min", "max"))
    size = 0.9 * (high + 1 - low)
    expected = [*((low + high + 1 - size) / 2), *size]
    np.testing.assert_allclose(photos(tmp_path)[0].people[0].box, expected, rtol=1e-6)


def test_quality_and_dataset_are_columns(tmp_path: Path) -> None:
    write(tmp_path, "train", count=3)
    read = photos(tmp_path)
    assert [photo.people[0].columns for photo in read] == [
        {"quality": "high", "dataset": "mpii"},
        {"quality": "high", "dataset": "lsp"},
        {"quality": "medium", "dataset": "mpii"},
    ]
    (tmp_path / "00000_quality_info.txt").unlink()
    assert photos(tmp_path)[0].people[0].columns["quality"] == ""


def test_lists_are_the_splits_and_the_study_trains_on_val_too(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert [(part.split, len(part.items)) for part in SOURCE.plan(Raw(tmp_path))] == [
        ("train", 12), ("val", 12), ("test", 12),
    ]  # fmt: skip
    assert [len(part.items) for part in SOURCE.plan(Raw(tmp_path, compat=True))] == [24, 12, 12]
    assert photos(tmp_path, "val")[1].name == "00021_image.png"


def test_both_folders_are_accepted_and_neither_is_named(tmp_path: Path) -> None:
    write_all(tmp_path)
    assert len(photos(tmp_path / "up-3d")) == 12
    (tmp_path / "none").mkdir()
    with pytest.raises(RequestError, match=r"contains no up-3d/train\.txt or .*train\.txt"):
        SOURCE.plan(Raw(tmp_path / "none"))


def _spoil(root: Path, name: str) -> None:
    fit = pickle.loads((root / "00000_body.pkl").read_bytes())
    if name == "betas":
        del fit["betas"]
    elif name == "pose":
        fit["pose"] = fit["pose"][:69]
    elif name == "rt":
        fit["rt"][0] = 0.1
    elif name == "joints":
        np.save(root / "00000_joints.npy", np.zeros((2, 14)))
    elif name == "cut":
        (root / "00000_joints.npy").write_bytes((root / "00000_joints.npy").read_bytes()[:150])
    elif name == "crop":
        (root / "00000_fit_crop_info.txt").write_text("300 300 0 0 0 0")
    elif name == "render":
        (root / "00000_render_light.png").unlink()
    elif name == "list":
        (root / "train.txt").write_text("/00000_image.jpg\n")
    elif name == "climb":
        (root / "train.txt").write_text("/../../secret_image.png\n")
    (root / "00000_body.pkl").write_bytes(pickle.dumps(fit, protocol=2))


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("betas", RunError, r"00000_body\.pkl: missing betas; download it again"),
        ("pose", RunError, r"00000_body\.pkl: pose has 69 numbers, expected 72"),
        ("rt", RunError, r"the camera is rotated \(rt\)"),
        ("joints", RunError, r"00000_joints\.npy: shape \(2, 14\), expected \(3, 14\)"),
        ("cut", RunError, r"00000_joints\.npy: not a readable \.npy file of numbers"),
        ("crop", RunError, r"00000_fit_crop_info\.txt: does not contain the six numbers of a crop"),
        ("render", RunError, r"00000_render_light\.png: image cannot be (read|decoded)"),
        (
            "list",
            RunError,
            r"train\.txt: '/00000_image\.jpg' is not an image name; lines must be like /00000_image\.png",
        ),
        ("climb", RunError, "which is outside this folder; rejected"),
    ],
)
def test_a_damaged_file_is_named(name: str, error: type[Exception], message: str, tmp_path: Path) -> None:
    write(tmp_path, "train", count=1)
    _spoil(tmp_path, name)
    with pytest.raises(error, match=message):
        photos(tmp_path)


def test_it_becomes_shards(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    store = Store(tmp_path / "home")
    infos = convert(SOURCE, SOURCE.plan(Raw(tmp_path / "raw")), store, ConversionOptions("a test"), ProgressReporter())
    assert [info.num_people for info in infos] == [12, 12, 12]
    sample = Shard(store.shard("up3d", "test")).read(3)
    assert sample.photo_px == SIZE
    assert sample.columns == {"quality": "medium" if 43 % 3 == 2 else "high", "dataset": "lsp"}
    assert np.abs(projected(sample) - fitted(43).pixels).max() < 0.05
