"""People of one's own in COCO's format: names of key points, folders of other machines, people who are left out."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import hmrb, refused
from raw.coco import write_coco

from hmrb.data.convert.joint_names import columns_of, known_joint, renamed
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.skeleton import SKELETONS, remap
from hmrb.store import Store

COCO_NAMES = [name.removesuffix("_extra") for name in SKELETONS["coco"].joints]


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    """Ten photos in `photos`, 15 people and a crowd, as COCO's own file lists them."""
    write_coco(tmp_path)
    (tmp_path / "train2014").rename(tmp_path / "photos")
    content = json.loads((tmp_path / "annotations/person_keypoints_train2014.json").read_text())
    for one in content["annotations"]:
        one["category_id"] = 1
    return content | {"categories": [{"id": 1, "name": "person", "keypoints": COCO_NAMES}]}


def convert(folder: Path, content: Any, *words: str, split: str = "train") -> Any:
    (folder / "mine.json").write_text(content if isinstance(content, str) else json.dumps(content))
    given = ("--file", str(folder / "mine.json"), "--images", str(folder / "photos"), "--as", "mydata")
    return hmrb("convert-data", "coco-json", *given, "--split", split, "--workers", "1", *words, home=folder / "home")


def points_of(folder: Path, split: str = "train") -> np.ndarray:
    shard = Shard(Store(folder / "home").shard("mydata", split))
    return np.asarray(remap(np.array(shard.arrays["keypoints2d"]), shard.info.skeleton, "coco"))


def test_the_people_of_a_file_are_those_of_coco(tmp_path: Path, table: dict[str, Any]) -> None:
    done = convert(tmp_path, table, split="test")
    assert done.returncode == 0, done.stderr
    assert "left out: 1 people: a crowd, not a person" in done.stdout
    shard = Shard(Store(tmp_path / "home").shard("mydata", "test"))
    assert (shard.info.num_people, shard.info.pictures) == (15, "original")
    assert shard.info.source.startswith("own: mine.json, coco_json, sha ")
    people = [one for one in table["annotations"] if not one["iscrowd"]]
    names = {picture["id"]: picture["file_name"] for picture in table["images"]}
    got = {shard.name(row): [] for row in range(15)}
    for row, points in enumerate(points_of(tmp_path, "test")):
        got[shard.name(row)].append((points, shard.arrays["box"][row]))
    for one in people:
        points, box = got[names[one["image_id"]]].pop(0)
        true = np.array(one["keypoints"], np.float32).reshape(17, 3)
        assert np.allclose(points[:, :2], np.where(true[:, 2:] > 0, true[:, :2], 0))
        assert np.array_equal(points[:, 2], true[:, 2] > 0)
        assert np.allclose(box, one["bbox"])
    assert "mydata_test.h5" in hmrb("verify", "mydata_test", home=tmp_path / "home").stdout
    assert "[own]" in hmrb("list-datasets", "--here", home=tmp_path / "home").stdout


def test_an_export_with_other_names_order_and_folders_is_the_same_data(tmp_path: Path, table: dict[str, Any]) -> None:
    assert convert(tmp_path, table).returncode == 0
    first, sha = points_of(tmp_path), Shard(Store(tmp_path / "home").shard("mydata", "train")).info.sha
    order = np.random.default_rng(0).permutation(17)
    other = deepcopy(table)
    spelt = [COCO_NAMES[k].replace("left_", "L-").replace("right_", "Right ").title() for k in order]
    spelt[list(order).index(0)] = "Nase"
    other["categories"] = [{"id": 7, "name": "car"}, {"id": 1, "name": "person", "keypoints": spelt}]
    for one in other["annotations"]:
        one["keypoints"] = np.array(one["keypoints"]).reshape(17, 3)[order].ravel().tolist()
    other["annotations"].append({"id": 901, "image_id": 9, "category_id": 7, "bbox": [0, 0, 5, 5]})
    for picture in other["images"]:
        picture["file_name"] = "C:\\export\\..\\" + picture["file_name"]
    done = convert(tmp_path, other, "--rename", "nose=Nase")
    assert done.returncode == 0, done.stderr
    assert np.array_equal(points_of(tmp_path), first)
    assert Shard(Store(tmp_path / "home").shard("mydata", "train")).info.sha == sha
    assert "the category has no key points" in done.stdout


def test_what_is_not_taken_is_counted(tmp_path: Path, table: dict[str, Any]) -> None:
    table["categories"][0]["keypoints"] = ["tail", *COCO_NAMES[1:]]
    people = [one for one in table["annotations"] if not one["iscrowd"]]
    people[0]["keypoints"] = [0] * 51
    del people[1]["bbox"]
    people[2]["keypoints"] = [5, 5, 2] + [0] * 48
    done = convert(tmp_path, table)
    assert done.returncode == 0, done.stderr
    assert "left out: key point 'tail' of 14 people, which has no known name; --rename OURS=tail" in done.stdout
    assert "1 people: no key point is labelled" in done.stdout
    assert "1 people: none of the labelled key points has a known name" in done.stdout
    assert "changed: 1 people without a box got 1.2 times that of their points" in done.stdout
    assert len(points_of(tmp_path)) == 13
    assert not points_of(tmp_path)[:, 0].any()


@pytest.mark.parametrize(
    ("change", "words", "code", "said"),
    [
        ({}, ("--rename", "nase=nose"), 2, "hmrb has no joint named 'nase'. Did you mean 'nose'"),
        ({}, ("--rename", "nose"), 2, "--rename nose: write it as OURS=THEIRS"),
        ({}, ("--rename", "nose=Nase"), 2, "the file has no key point 'Nase'; it has nose, left_eye"),
        ({}, ("--compat", "study"), 2, "--compat applies to raw files only"),
        ({"categories": []}, (), 2, "no category names its key points"),
        ({"categories": [{"id": 1, "keypoints": ["a", "b"]}]}, (), 2, "no key point has a known name"),
        ({"categories": [{"id": 1, "keypoints": ["nose", "Nose"]}]}, (), 2, "'nose' and 'Nose' are both nose"),
        ({"categories": [{"id": "x", "keypoints": ["nose"]}]}, (), 1, "the id of a category is 'x'"),
        ({"categories": [{"id": 1, "keypoints": ["nose"]}]}, (), 1, "'keypoints' is not an array of 1 x 3 numbers"),
        ({"annotations": []}, (), 1, "nobody in it can be used (it has no annotations)"),
        ({"annotations": 3}, (), 1, "'annotations' is not a list of tables"),
        ({"images": [{"id": [], "file_name": "a.jpg"}]}, (), 1, "the id of an image is a list or a table"),
        ({"images": {}}, (), 1, "'images' is not a list of tables"),
    ],
)
def test_what_is_wrong_with_a_file_or_request_is_said(
    change: dict[str, Any], words: tuple[str, ...], code: int, said: str, tmp_path: Path, table: dict[str, Any]
) -> None:
    refused(convert(tmp_path, table | change, *words), said, code=code)
    assert not list((tmp_path / "home").rglob("*.h5"))


def test_files_that_are_missing_or_damaged(tmp_path: Path, table: dict[str, Any]) -> None:
    refused(convert(tmp_path, "{"), "mine.json: not a JSON file, or truncated", code=1)
    refused(hmrb("convert-data", "coco-json", "--file", "x.json"), "set --file A.json, --images DIR and --as NAME")
    gone = ("--file", "x.json", "--images", str(tmp_path / "gone"), "--as", "a")
    refused(hmrb("convert-data", "coco-json", *gone), "gone: no such folder; it holds the pictures that x.json names")
    next((tmp_path / "photos").iterdir()).unlink()
    refused(convert(tmp_path, table), "1 images cannot be used, --allow-missing allows 0", code=1)
    assert convert(tmp_path, table, "--allow-missing", "1").returncode == 0


def test_two_names_are_never_one_picture(tmp_path: Path, table: dict[str, Any]) -> None:
    name = table["images"][0]["file_name"]
    for folder, picture in zip("ab", table["images"], strict=False):
        picture["file_name"] = f"{folder}/{name}"
    refused(convert(tmp_path, table), f"'a/{name}' and 'b/{name}' of mine.json would both be {name}")


@pytest.mark.parametrize(
    ("name", "joint"),
    [
        ("left_shoulder", "left_shoulder"), ("LShoulder", "left_shoulder"), ("shoulder-left", "left_shoulder"),
        ("RightHip", "right_hip_extra"), ("r_hip", "right_hip_extra"), ("rhip", "right_hip_extra"),
        ("RIGHT BIG TOE", "right_bigtoe"), ("head_top", "headtop"), ("Neck", "neck_extra"),
        ("left_hip_extra", "left_hip_extra"), ("head", ""), ("left_foot", ""), ("left right eye", ""), ("shoulder", ""),
        ("left_eye_inner", ""), ("", ""), ("nose_2", ""),
    ],
)  # fmt: skip
def test_names_of_key_points(name: str, joint: str) -> None:
    assert known_joint(name) == joint


def test_all_of_coco_s_names_are_known() -> None:
    assert [known_joint(name) for name in COCO_NAMES] == list(SKELETONS["coco"].joints)
    assert len(columns_of(COCO_NAMES, {})) == 17


def test_a_renamed_point_wins_and_is_renamed_once() -> None:
    joints = SKELETONS["smpl54"].joints
    found = columns_of(["neck", "throat"], renamed(["neck=throat"]))
    assert found == {1: joints.index("neck_extra")}
    with pytest.raises(RequestError, match="was renamed before"):
        renamed(["nose=a", "nose=b"])
