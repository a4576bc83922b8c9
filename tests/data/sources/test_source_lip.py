"""LIP, read from artificial trees in its format."""

from pathlib import Path

import numpy as np
import pytest
from raw import lip
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.lip import plan
from hmrb.errors import RequestError, RunError

HALF_PIXEL = 0.51  # the tree rounds to whole pixels


@pytest.mark.parametrize("nested", [False, True])
def test_visible_points_count_in_both_layouts(tmp_path: Path, nested: bool) -> None:
    truth = [person for row, person in enumerate(lip.write(tmp_path, nested=nested)) if row != lip.FEW]
    parts = plan(Raw(tmp_path))
    folder = "TrainVal_images/TrainVal_images/" if nested else ""
    assert photos_of(parts, "train")[0].name == f"{folder}train_images/100034_483681.jpg"
    for row, (person, there) in enumerate(zip(people_of(parts, "train"), truth, strict=True)):
        points = there.points2d("lip_16")
        rows = [at for at in range(16) if at != lip.HEADTOP or row not in (lip.HIDDEN, lip.MISSING)]
        np.testing.assert_allclose(person.keypoints2d[rows, :2], points[rows], atol=HALF_PIXEL)
        assert (person.keypoints2d[rows, 2] == 1).all()
        size = points[rows].max(0) - points[rows].min(0)
        np.testing.assert_allclose(person.box[2:], 1.2 * size, atol=2.5 * HALF_PIXEL)


def test_hidden_and_missing_points_do_not_count_but_only_one_is_occlusion(tmp_path: Path) -> None:
    lip.write(tmp_path)
    people = people_of(plan(Raw(tmp_path)), "train")
    assert len(people) == 13
    for row, share in ((lip.HIDDEN, 1 / 16), (lip.MISSING, 0)):
        assert people[row].keypoints2d[lip.HEADTOP].tolist() == [0, 0, 0]
        assert people[row].columns["occlusion"] == share


def test_what_a_broken_file_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match="contains no lip_train_set.csv or TrainVal_pose_annotations/lip_train_set.csv"
    ):
        plan(Raw(tmp_path))
    lip.write(tmp_path, "val")
    assert [part.split for part in plan(Raw(tmp_path))] == ["val"]
    path = tmp_path / "lip_val_set.csv"
    path.write_text("name,x,y,v\n" + path.read_text())
    with pytest.raises(RunError, match="lip_val_set.csv: line 1 is not an image name and 48 numbers"):
        plan(Raw(tmp_path))


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    lip.write(tmp_path / "raw")
    assert made("lip", tmp_path).num_people == 13
