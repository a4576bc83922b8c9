"""Penn Action, read from an artificial tree in its format."""

from pathlib import Path

import numpy as np
import pytest
from raw import penn_action
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.penn_action import plan
from hmrb.errors import RequestError, RunError
from hmrb.skeleton import SKELETONS

HALF_PIXEL = 1e-3  # float32 of a few hundred pixels
MIRROR = SKELETONS["penn_action"].mirror()


def test_the_right_side_comes_first_in_the_file_and_pixels_count_from_1(tmp_path: Path) -> None:
    truth = penn_action.write(tmp_path)
    photos = photos_of(plan(Raw(tmp_path)), "train")
    frames = [(f"{video + 1:04d}", frame) for video in range(penn_action.TRAIN) for frame in (0, 10, 20)]
    assert [photo.name for photo in photos] == [f"frames/{video}/{frame + 1:06d}.jpg" for video, frame in frames]
    for photo, at in zip(photos, frames, strict=True):
        points, there = photo.people[0].keypoints2d, truth[at].points2d("penn_action")
        rows = slice(1, None) if at[1] == penn_action.HIDDEN else slice(None)
        np.testing.assert_allclose(points[rows, :2], there[rows], atol=HALF_PIXEL)
        assert (points[rows, 2] == 1).all()
        size = there[rows].max(0) - there[rows].min(0)
        np.testing.assert_allclose(photo.people[0].box[2:], 1.2 * size, rtol=1e-4)


def test_a_hidden_point_does_not_count_and_columns_say_what_is_known(tmp_path: Path) -> None:
    penn_action.write(tmp_path)
    person = people_of(plan(Raw(tmp_path)), "train")[1]
    assert person.keypoints2d[0].tolist() == [0, 0, 0]
    assert person.columns == {"sequence": "0001", "action": "baseball_pitch", "view": "front", "occlusion": 1 / 13}


def test_a_video_s_file_says_its_split(tmp_path: Path) -> None:
    penn_action.write(tmp_path)
    parts = plan(Raw(tmp_path))
    assert [(part.split, len(part.items)) for part in parts] == [("train", 5), ("test", 2)]


def test_compat_believes_the_documentation_and_trains_on_all(tmp_path: Path) -> None:
    truth = penn_action.write(tmp_path)
    parts = plan(Raw(tmp_path, compat=True))
    assert [(part.split, len(part.items)) for part in parts] == [("train", 7)]
    first, second = people_of(parts, "train")[:2]
    there = truth["0001", 0].points2d("penn_action")[MIRROR] + 1
    np.testing.assert_allclose(first.keypoints2d[:, :2], there, atol=HALF_PIXEL)
    assert second.keypoints2d[0].tolist() == [1, 1, 1]


def test_what_a_broken_file_lacks_is_said(tmp_path: Path) -> None:
    from scipy.io import savemat

    with pytest.raises(RequestError, match=r"contains no labels/\*.mat"):
        plan(Raw(tmp_path))
    penn_action.write(tmp_path)
    path = tmp_path / "labels/0001.mat"
    table = {"train": 1, "x": np.ones((3, 13)), "y": np.ones((3, 13)), "action": "run", "pose": "front"}
    savemat(str(path), table)
    with pytest.raises(RunError, match="0001.mat: missing variables: visibility"):
        photos_of(plan(Raw(tmp_path)), "train")
    savemat(str(path), table | {"visibility": np.ones((2, 13))})
    with pytest.raises(RunError, match=r"0001.mat: x, y and visibility have shapes \(3, 13\), \(3, 13\), \(2, 13\)"):
        photos_of(plan(Raw(tmp_path)), "train")


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    penn_action.write(tmp_path / "raw")
    assert made("penn_action", tmp_path).num_people == 15
