"""AI Challenger's keypoints, as lists and in COCO format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw import aic
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.aic import plan
from hmrb.errors import RequestError, RunError

FORMATS = pytest.mark.parametrize("write", [aic.write, aic.write_coco])
HALF_PIXEL = 0.51  # the trees round to integer pixels


@FORMATS
def test_both_formats_give_the_same_people(tmp_path: Path, write: Callable) -> None:
    truth = [person for number, person in enumerate(write(tmp_path)) if number != aic.NOBODY]
    people = people_of(plan(Raw(tmp_path)), "train")
    assert len(people) == len(truth) == 14
    for number, (person, there) in enumerate(zip(people, truth, strict=True)):
        rows = [row for row in range(14) if number != aic.UNLABELLED or row != aic.WRIST]
        np.testing.assert_allclose(person.keypoints2d[rows, :2], there.points2d("aic_14")[rows], atol=HALF_PIXEL)
        assert (person.keypoints2d[rows, 2] == 1).all()
        np.testing.assert_array_equal(person.box, there.box(1.1).round().astype(int))
    assert people[aic.UNLABELLED].keypoints2d[aic.WRIST].tolist() == [0, 0, 0]
    assert [person.columns["occlusion"] for person in people].index(1 / 14) == aic.HIDDEN


@FORMATS
def test_pictures_lie_in_the_challenge_s_folder(tmp_path: Path, write: Callable) -> None:
    write(tmp_path, "val")
    (part,) = plan(Raw(tmp_path))
    assert part.split == "val"
    photo = photos_of([part], "val")[1]
    assert photo.name == f"{aic.PICTURES['val']}/{1:040x}.jpg"
    assert photo.file is not None
    assert photo.file.exists()


def test_compat_takes_corners_for_sizes_and_codes_for_confidence(tmp_path: Path) -> None:
    truth = aic.write(tmp_path)
    people = people_of(plan(Raw(tmp_path, compat=True)), "train")
    assert len(people) == 15
    x, y, width, height = truth[0].box(1.1).round().astype(int)
    assert people[0].box.tolist() == [x, y, x + width, y + height]
    assert people[aic.UNLABELLED].keypoints2d[aic.WRIST].tolist() == [0, 0, 3]
    assert people[aic.HIDDEN].keypoints2d[aic.WRIST, 2] == 2
    assert (people[aic.NOBODY].keypoints2d == [0, 0, 3]).all()


def test_what_a_broken_file_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="contains no ai_challenger_keypoint_train_20170909/keypoint_train_annotations"
    ):
        plan(Raw(tmp_path))
    aic.write(tmp_path)
    path = tmp_path / aic.LISTS["train"]
    table = json.loads(path.read_text())
    del table[3]["human_annotations"]["human1"]
    path.write_text(json.dumps(table))
    with pytest.raises(
        RunError,
        match="keypoint_train_annotations_20170909.json: missing 'human1'; is this the dataset's original file",
    ):
        plan(Raw(tmp_path))
    table[2]["keypoint_annotations"]["human1"].pop()
    path.write_text(json.dumps(table))
    with pytest.raises(RunError, match="20170909.json: 'human1' is not an array of 14 x 3 numbers"):
        plan(Raw(tmp_path))


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    aic.write(tmp_path / "raw")
    assert made("aic", tmp_path).num_people == 14
    assert made("aic", tmp_path, compat=True).compat == "study"
