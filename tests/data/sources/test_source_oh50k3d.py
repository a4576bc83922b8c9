"""3DOH50K: seven units per metre, roots transformed to the camera frame."""

import json
from pathlib import Path

import numpy as np
import pytest
from raw import oh50k3d as made
from raw.placed import joints, store_with_body

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.sources.oh50k3d import CONVERTERS, plan
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

SOURCE = CONVERTERS[0]


def photos(raw: Raw, split: str = "train") -> list[Photo]:
    part = next(part for part in plan(raw) if part.split == split)
    return [photo for item in part.items for photo in part.read(item)]


def test_joints_are_metres_and_the_body_lies_on_them(tmp_path: Path) -> None:
    true = made.write(tmp_path / "raw")
    found = photos(Raw(tmp_path / "raw", store=store_with_body(tmp_path / "home")))
    for number, (photo, who) in enumerate(zip(found, true, strict=True)):
        (person,) = photo.people
        assert photo.name == f"trainset/images/{number:05d}.jpg"
        assert photo.file is not None
        assert photo.file.exists()
        np.testing.assert_allclose(person.keypoints2d[:, :2], who.pixels[:24], rtol=1e-5)
        np.testing.assert_allclose(person.box, who.box(1.2), rtol=1e-4)
        if number == made.ELSEWHERE:  # its 3D joints do not project onto its 2D joints
            assert not person.keypoints3d.any()
            assert not person.transl.any()
        else:
            np.testing.assert_allclose(person.keypoints3d[:, :3], who.joints[:24], atol=1e-5)
            np.testing.assert_allclose(joints(person), who.joints[:24], atol=1e-4)


def test_as_in_the_study_joints_keep_their_unit_and_lose_their_place(tmp_path: Path) -> None:
    true = made.write(tmp_path)
    person = photos(Raw(tmp_path, compat=True))[0].people[0]
    expected = 7 * (true[0].joints[:24] - true[0].joints[0])
    np.testing.assert_allclose(person.keypoints3d[:, :3], expected, atol=1e-4)


def test_pictures_are_found_by_number_where_the_path_is_of_another_machine(tmp_path: Path) -> None:
    made.write(tmp_path)
    path = tmp_path / "trainset/annots.json"
    table = json.loads(path.read_text())
    table["00000"]["img_path"] = "moved\\00000.jpg"
    path.write_text(json.dumps(table))
    assert photos(Raw(tmp_path))[0].name == "trainset/images/00000.jpg"


def test_converting_writes_both_splits(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    infos = convert(
        SOURCE, plan(Raw(tmp_path / "raw")), Store(tmp_path / "home"), ConversionOptions("a test"), ProgressReporter()
    )
    assert {info.split: info.num_people for info in infos} == {"train": 12, "test": 12}


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no trainset/annots.json or testset/annots.json"):
        plan(Raw(tmp_path))
    made.write(tmp_path)
    path = tmp_path / "trainset/annots.json"
    whole = json.loads(path.read_text())
    for change, said in (
        ({"extri": [1, 2]}, "'extri' is not an array of 4 x 4 numbers"),
        ({"img_path": None}, "missing 'img_path'"),
        ({"pose": None}, "missing 'pose'"),
    ):
        record = {key: value for key, value in (whole["00003"] | change).items() if value is not None}
        path.write_text(json.dumps(whole | {"00003": record}))
        with pytest.raises(RunError, match=f"annots.json: 00003: {said}"):
            plan(Raw(tmp_path))
    path.write_text(json.dumps(whole)[:50])
    with pytest.raises(RunError, match="annots.json: not a JSON file, or truncated"):
        plan(Raw(tmp_path))
    whole["00003"]["img_path"] = "..\\..\\..\\etc\\passwd"
    path.write_text(json.dumps(whole))
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        photos(Raw(tmp_path))
