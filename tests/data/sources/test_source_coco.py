"""COCO, COCO-WholeBody, CrowdPose and PoseTrack18, read from artificial trees in their formats."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from raw import coco
from raw.sources import made, people_of, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.coco import plan_coco, plan_crowdpose, plan_posetrack, plan_wholebody
from hmrb.errors import RequestError, RunError

HALF_PIXEL = 0.006  # the trees round to hundredths


def kept(people: list, *left_out: int) -> list:
    return [person for number, person in enumerate(people) if number not in left_out]


def test_coco_s_people_have_their_pixels_boxes_and_names(tmp_path: Path) -> None:
    truth = kept(coco.write_coco(tmp_path), coco.NO_LIMB)
    people = people_of(plan_coco(Raw(tmp_path)), "train")
    assert len(people) == len(truth) == 14
    for person, there in zip(people, truth, strict=True):
        np.testing.assert_allclose(person.keypoints2d[:, :2], there.points2d("coco"), atol=HALF_PIXEL)
        np.testing.assert_allclose(person.box, there.box(1.1), atol=0.06)
    names = [photo.name for photo in photos_of(plan_coco(Raw(tmp_path)), "train")]
    assert names == [f"train2014/COCO_train2014_{number:012d}.jpg" for number in range(9, 19)]


def test_a_hidden_point_counts_and_a_missing_limb_drops_its_owner(tmp_path: Path) -> None:
    coco.write_coco(tmp_path)
    people = people_of(plan_coco(Raw(tmp_path)), "train")
    assert all((person.keypoints2d[:, 2] == 1).all() for person in people)
    hidden = [person.columns["occlusion"] for person in people]
    assert hidden == [1 / 17 if number == coco.HIDDEN else 0 for number in range(14)]


def test_a_face_without_labels_is_confidence_0_and_0_pixels(tmp_path: Path) -> None:
    coco.write_coco(tmp_path)
    path = tmp_path / "annotations/person_keypoints_train2014.json"
    table = json.loads(path.read_text())
    table["annotations"][0]["keypoints"][:3] = [12, 34, 0]
    path.write_text(json.dumps(table))
    nose = people_of(plan_coco(Raw(tmp_path)), "train")[0].keypoints2d[0]
    assert nose.tolist() == [0, 0, 0]


def test_keypoints_that_are_null_are_none(tmp_path: Path) -> None:
    coco.write_coco(tmp_path)
    path = tmp_path / "annotations/person_keypoints_train2014.json"
    table = json.loads(path.read_text())
    table["annotations"].append(table["annotations"][0] | {"id": 10**6, "keypoints": None})
    path.write_text(json.dumps(table))
    assert len(people_of(plan_coco(Raw(tmp_path)), "train")) == 14


def test_coco_has_the_splits_whose_files_are_there(tmp_path: Path) -> None:
    coco.write_coco(tmp_path, "val", pictures=2)
    assert [part.split for part in plan_coco(Raw(tmp_path))] == ["val"]
    coco.write_coco(tmp_path, "train", pictures=2)
    coco.write_coco(tmp_path, "val2017", pictures=2)
    assert [part.split for part in plan_coco(Raw(tmp_path))] == ["train", "val", "val2017"]
    shutil.rmtree(tmp_path / "val2014")
    assert [part.split for part in plan_coco(Raw(tmp_path))] == ["train", "val2017"]


def test_coco_val2017_has_what_2d_evaluations_need(tmp_path: Path) -> None:
    truth = kept(coco.write_coco(tmp_path, "val2017"), coco.NO_LIMB)
    photos = photos_of(plan_coco(Raw(tmp_path)), "val2017")
    assert [photo.name for photo in photos] == [f"val2017/{number:012d}.jpg" for number in range(9, 19)]
    people = [person for photo in photos for person in photo.people]
    for person, there in zip(people, truth, strict=True):
        np.testing.assert_allclose(person.keypoints2d[:, :2], there.points2d("coco"), atol=HALF_PIXEL)
        assert (person.keypoints2d[:, 2] == 1).all()  # the hidden wrist too
        np.testing.assert_allclose(person.box, there.box(1.1), atol=0.06)


@pytest.mark.parametrize("folder", ["", "train_2017"])
def test_the_parts_of_a_whole_body_count_where_they_are_valid(tmp_path: Path, folder: str) -> None:
    truth = kept(coco.write_wholebody(tmp_path, folder=folder), coco.NO_LIMB)
    parts = plan_wholebody(Raw(tmp_path))
    name = photos_of(parts, "train")[0].name
    assert name == f"{folder}/train2017/000000000009.jpg".lstrip("/")
    feet = slice(17, 23)
    for person, there in zip(people_of(parts, "train"), truth, strict=True):
        points = person.keypoints2d
        assert points.shape == (133, 3)
        np.testing.assert_allclose(points[feet, :2], there.points2d("coco_wholebody")[feet], atol=HALF_PIXEL)
        assert (points[feet, 2] == 0.75).all()
        assert (points[23:91, 2] == 1).all()
        assert not points[91:112].any()
        assert (points[112:, 2] == 1).all()


def test_compat_leaves_codes_of_2_as_confidence(tmp_path: Path) -> None:
    coco.write_wholebody(tmp_path)
    points = people_of(plan_wholebody(Raw(tmp_path, compat=True)), "train")[0].keypoints2d
    assert (points[:17, 2] == 1).all()
    assert (points[23:91, 2] == 2).all()


def test_crowdpose_keeps_people_that_are_whole_and_inside(tmp_path: Path) -> None:
    truth = kept(coco.write_crowdpose(tmp_path), coco.NO_LIMB, coco.OUTSIDE)
    people = people_of(plan_crowdpose(Raw(tmp_path)), "train")
    found = [person.keypoints2d[:, :2] for person in people]
    np.testing.assert_allclose(found, [there.points2d("crowdpose") for there in truth], atol=HALF_PIXEL)
    assert {person.columns["crowd"] for person in people} == {0.25}


@pytest.mark.parametrize("labels", ["posetrack_data", ""])
def test_posetrack_has_a_file_a_sequence(tmp_path: Path, labels: str) -> None:
    truth = coco.write_posetrack(tmp_path, labels=labels)
    part = plan_posetrack(Raw(tmp_path))[0]
    assert len(part.items) == 2
    # In each sequence of 12 people, person 4 lacks a wrist and the last one a bounding box.
    expected = [there for start in (0, 12) for there in kept(truth[start : start + 12], coco.NO_LIMB, 11)]
    people = people_of([part], "train")
    for person, there in zip(people, expected, strict=True):
        labelled = np.delete(np.arange(17), [3, 4])
        np.testing.assert_allclose(
            person.keypoints2d[labelled, :2], there.points2d("posetrack")[labelled], atol=HALF_PIXEL
        )
        assert not person.keypoints2d[[3, 4]].any()
    assert {person.columns["sequence"] for person in people} == {"000000_bonn_train", "000001_bonn_train"}
    assert {person.columns["track"] for person in people} == {0, 1}
    assert photos_of([part], "train")[0].name == "images/train/000000_bonn_train/000000.jpg"


def test_posetrack_s_points_are_found_by_name(tmp_path: Path) -> None:
    coco.write_posetrack(tmp_path)
    path = tmp_path / "posetrack_data/annotations/train/000000_bonn_train.json"
    straight = people_of(plan_posetrack(Raw(tmp_path)), "train")[0].keypoints2d
    table = json.loads(path.read_text())
    table["categories"][0]["keypoints"].reverse()
    for annotation in table["annotations"]:
        annotation["keypoints"] = np.reshape(annotation["keypoints"], (17, 3))[::-1].ravel().tolist()
    path.write_text(json.dumps(table))
    np.testing.assert_array_equal(people_of(plan_posetrack(Raw(tmp_path)), "train")[0].keypoints2d, straight)
    table["categories"][0]["keypoints"][0] = "tail"
    path.write_text(json.dumps(table))
    with pytest.raises(RunError, match="000000_bonn_train.json: missing keypoints right_ankle; the file has tail, "):
        photos_of(plan_posetrack(Raw(tmp_path)), "train")


def test_what_a_broken_file_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="contains no annotations/person_keypoints_train2014.json or "):
        plan_coco(Raw(tmp_path))
    coco.write_coco(tmp_path)
    path = tmp_path / "annotations/person_keypoints_train2014.json"
    whole = path.read_text()
    path.write_text(whole[:1000])
    with pytest.raises(RunError, match="person_keypoints_train2014.json: not a JSON file, or truncated"):
        plan_coco(Raw(tmp_path))
    path.write_text(whole.replace('"bbox"', '"box"'))
    with pytest.raises(
        RunError, match="person_keypoints_train2014.json: missing 'bbox'; is this the dataset's original file"
    ):
        plan_coco(Raw(tmp_path))
    path.write_text(whole.replace('"keypoints": [', '"keypoints": [1, ', 1))
    with pytest.raises(RunError, match="'keypoints' is not an array of 17 x 3 numbers"):
        plan_coco(Raw(tmp_path))


def test_a_name_that_climbs_out_is_refused(tmp_path: Path) -> None:
    coco.write_crowdpose(tmp_path)
    path = tmp_path / "crowdpose_train.json"
    path.write_text(path.read_text().replace("100001.jpg", "../../100001.jpg"))
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        photos_of(plan_crowdpose(Raw(tmp_path)), "train")


@pytest.mark.parametrize("name", sorted(coco.TREES))
def test_a_tree_becomes_a_shard(tmp_path: Path, name: str) -> None:
    coco.TREES[name](tmp_path / "raw")
    info = made(name, tmp_path)
    assert info.split == "train"
    assert info.num_people >= 12
