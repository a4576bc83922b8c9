"""MPII, from .h5 and from .mat files."""

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from raw import mpii
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.mpii import plan
from hmrb.errors import RequestError, RunError

FORMATS = pytest.mark.parametrize("write", [mpii.write, mpii.write_mat])
HALF_PIXEL = 0.51  # the trees round to integer pixels


@FORMATS
def test_both_formats_give_the_same_people_with_pixels_from_0(tmp_path: Path, write: Callable) -> None:
    truth = [person for number, person in enumerate(write(tmp_path)) if number != mpii.MISSING]
    people = people_of(plan(Raw(tmp_path)), "train")
    assert len(people) == len(truth) == 14
    for person, there in zip(people, truth, strict=True):
        np.testing.assert_allclose(person.keypoints2d[:, :2], there.points2d("mpii").clip(0), atol=HALF_PIXEL)
        assert (person.keypoints2d[:, 2] == 1).all()
        low, high = there.pixels[:24].min(0), there.pixels[:24].max(0)
        side = (high - low).max()
        np.testing.assert_allclose(person.box, [*((low + high - side) / 2), side, side], atol=1e-3)  # float32
    assert [person.columns["occlusion"] for person in people].index(1 / 16) == mpii.HIDDEN


@FORMATS
def test_people_of_a_picture_are_together(tmp_path: Path, write: Callable) -> None:
    write(tmp_path)
    photos = photos_of(plan(Raw(tmp_path)), "train")
    assert photos[0].name == "images/015600000.jpg"
    # One of the third image's two people has no head top.
    assert [len(photo.people) for photo in photos] == [2, 1, 1, 1, 2, 1, 2, 1, 2, 1]


def test_compat_leaves_pixels_counted_from_1(tmp_path: Path) -> None:
    mpii.write(tmp_path)
    ours, study = (people_of(plan(Raw(tmp_path, compat)), "train")[0] for compat in (False, True))
    np.testing.assert_array_equal(study.keypoints2d[:, :2], ours.keypoints2d[:, :2] + 1)
    np.testing.assert_allclose(study.box, ours.box + [1, 1, 0, 0], atol=1e-4)  # float32 of a few hundred pixels


def test_valid_h5_is_the_split_val(tmp_path: Path) -> None:
    mpii.write(tmp_path, "val", seed=40)
    assert [part.split for part in plan(Raw(tmp_path))] == ["val"]
    mpii.write(tmp_path)
    assert [part.split for part in plan(Raw(tmp_path))] == ["train", "val"]


def test_what_a_broken_file_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="contains no train.h5 or mpii_human_pose_v1_u12_1.mat"):
        plan(Raw(tmp_path))
    mpii.write_mat(tmp_path)
    path = tmp_path / "mpii_human_pose_v1_u12_1.mat"
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(RunError, match="mpii_human_pose_v1_u12_1.mat: not a MATLAB file up to v7, or truncated"):
        plan(Raw(tmp_path))
    mpii.write(tmp_path)
    with h5py.File(tmp_path / "train.h5", "a") as file:
        del file["scale"]
    with pytest.raises(RunError, match="train.h5: has no scale; download it again"):
        plan(Raw(tmp_path))
    with h5py.File(tmp_path / "train.h5", "a") as file:
        file["scale"] = np.ones(3)
    with pytest.raises(RunError, match="imgname, center, scale, part, visible have 15, 15, 3, 15, 15 rows"):
        plan(Raw(tmp_path))


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    mpii.write(tmp_path / "raw")
    assert made("mpii", tmp_path).num_people == 14
