"""OCHuman, read from an artificial tree in its format."""

import json
from pathlib import Path

import numpy as np
import pytest
from raw import ochuman
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources import ochuman as source
from hmrb.errors import RequestError, RunError

HALF_PIXEL = 0.006  # the tree rounds to hundredths


def test_everybody_with_key_points_is_there_to_train_on(tmp_path: Path) -> None:
    truth = [person for number, person in enumerate(ochuman.write(tmp_path)) if number != ochuman.BOX_ONLY]
    people = people_of(source.plan(Raw(tmp_path)), "train")
    assert len(people) == len(truth) == 14
    for person, there in zip(people, truth, strict=True):
        rows = person.keypoints2d[:, 2] == 1
        assert rows.sum() >= 18
        np.testing.assert_allclose(person.keypoints2d[rows, :2], there.points2d("ochuman_19")[rows], atol=HALF_PIXEL)
        np.testing.assert_array_equal(person.box, there.box(1.1).round().astype(int))
        assert person.columns["max_iou"] == 0.5


def test_a_missing_nose_is_not_a_hidden_one(tmp_path: Path) -> None:
    ochuman.write(tmp_path)
    people = people_of(source.plan(Raw(tmp_path)), "train")
    missing, own, others = (people[n - 1] for n in (ochuman.MISSING, ochuman.SELF, ochuman.OTHER))
    assert missing.keypoints2d[ochuman.NOSE].tolist() == [0, 0, 0]
    assert [person.keypoints2d[ochuman.NOSE, 2] for person in (own, others)] == [1, 1]
    assert [person.columns["occlusion"] for person in (missing, own, others)] == [0, 1 / 19, 1 / 19]


def test_val_and_test_are_the_first_and_the_last_numbers_of_those_with_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ochuman.write(tmp_path)
    monkeypatch.setattr(source, "VAL_PICTURES", 3)
    parts = source.plan(Raw(tmp_path))
    assert [part.split for part in parts] == ["train", "val", "test"]
    # Image k has id 7 k mod 10: ids 0, 1, 2 are images 0, 3, 6, whose file names count from 1.
    names = [photo.name for photo in photos_of(parts, "val")]
    assert names == ["images/000001.jpg", "images/000004.jpg", "images/000007.jpg"]
    assert len(people_of(parts, "val")) + len(people_of(parts, "test")) == 13  # one has no keypoints, one no mask


def test_compat_takes_corners_for_sizes(tmp_path: Path) -> None:
    truth = ochuman.write(tmp_path)
    x, y, width, height = truth[0].box(1.1).round().astype(int)
    box = people_of(source.plan(Raw(tmp_path, compat=True)), "train")[0].box
    assert box.tolist() == [x, y, x + width, y + height]


def test_points_are_found_by_their_names(tmp_path: Path) -> None:
    ochuman.write(tmp_path)
    path = tmp_path / "ochuman.json"
    table = json.loads(path.read_text())
    straight = people_of(source.plan(Raw(tmp_path)), "train")[0].keypoints2d
    table["keypoint_names"].reverse()
    first = table["images"][0]["annotations"][0]
    first["keypoints"] = np.reshape(first["keypoints"], (19, 3))[::-1].ravel().tolist()
    path.write_text(json.dumps(table))
    np.testing.assert_array_equal(people_of(source.plan(Raw(tmp_path)), "train")[0].keypoints2d, straight)
    table["keypoint_names"][2] = "muzzle"
    path.write_text(json.dumps(table))
    with pytest.raises(
        RunError, match="ochuman.json: missing keypoints nose; the file has left_eye, right_eye, muzzle"
    ):
        source.plan(Raw(tmp_path))


def test_what_a_broken_tree_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="contains no ochuman.json"):
        source.plan(Raw(tmp_path))
    (tmp_path / "ochuman.json").write_text('{"images": []}')
    with pytest.raises(RunError, match="ochuman.json: missing 'keypoint_names'; is this the dataset's original file"):
        source.plan(Raw(tmp_path))


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    ochuman.write(tmp_path / "raw")
    assert made("ochuman", tmp_path).num_people == 14
