"""EFT's fits: rotation matrices, bounding boxes, cameras of the box, grouping by image, names, layouts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from raw.eft import FILES, SIZE, fitted, write, write_all
from raw.people import body

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, Converter, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Person, Photo
from hmrb.store import Store

LSPET = FILES["eft_lspet"]["train"]


def photos(source: Converter, root: Path, split: str = "train") -> list[Photo]:
    (part,) = [part for part in source.plan(Raw(root)) if part.split == split]
    return [photo for item in part.items for photo in part.read(item)]


def projected(person: Person) -> np.ndarray:
    """The body's joints in the image, projected with the camera of the box."""
    with torch.no_grad():
        mesh = body()(rotvec_to_rotmat(torch.tensor(person.pose))[None], torch.tensor(person.betas)[None])
        joints = body().joints(mesh, "smpl54")[0].numpy()
    zoom, x, y = person.extra["eft/camera"]
    center, side = person.box[:2] + person.box[2:] / 2, person.box[2]
    return center + side / 2 * zoom * (joints[:, :2] + (x, y))


def test_a_fit_lies_on_its_key_points(tmp_path: Path) -> None:
    people = write(tmp_path, LSPET)
    read = photos(CONVERTERS["eft_lspet"], tmp_path)
    for photo, before in zip(read, people, strict=False):
        person = photo.people[0]
        assert np.abs(projected(person) - before.pixels).max() < 0.02  # matrices and cameras pass through float32
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(before.pose[0]), atol=1e-6)
        np.testing.assert_array_equal(person.betas, before.betas)
        assert person.has_body
        assert not person.transl.any()


def test_boxes_are_squares_of_200_times_the_scale(tmp_path: Path) -> None:
    write(tmp_path, LSPET)
    _, entry = fitted(3)
    box = photos(CONVERTERS["eft_lspet"], tmp_path)[3].people[0].box
    side = 200 * float(str(entry["bbox_scale"]))
    np.testing.assert_allclose(box[2:], side, rtol=1e-6)
    np.testing.assert_allclose(box[:2] + box[2:] / 2, np.array(entry["bbox_center"]), rtol=1e-5)


def test_key_points_without_a_label_are_zero(tmp_path: Path) -> None:
    people = write(tmp_path, LSPET)
    points = photos(CONVERTERS["eft_lspet"], tmp_path)[1].people[0].keypoints2d
    assert points.shape == (49, 3)
    assert not points[:25].any()
    assert not points[25 + 8].any()
    assert points[25:, 2].sum() == 23
    np.testing.assert_allclose(points[25, :2], people[1].points2d("smpl_24")[0], rtol=1e-6)


def test_people_of_one_picture_come_together(tmp_path: Path) -> None:
    people = write(tmp_path, LSPET, count=5)
    read = photos(CONVERTERS["eft_lspet"], tmp_path)
    assert [len(photo.people) for photo in read] == [2, 1, 1, 1, 1]
    np.testing.assert_array_equal(read[0].people[1].betas, people[5].betas)


def test_half_a_turn_survives(tmp_path: Path) -> None:
    write(tmp_path, LSPET, count=1)
    file = tmp_path / LSPET.path
    table = json.loads(file.read_text())
    turns = [np.diag([-1.0, -1, 1]), np.diag([1.0, -1, -1]), rotmat(np.array([0.6, 0.8, 0]) * (np.pi - 1e-4))]
    for joint, turn in enumerate(turns):
        table["data"][0]["parm_pose"][joint] = turn.round(7).tolist()
    file.write_text(json.dumps(table))
    pose = photos(CONVERTERS["eft_lspet"], tmp_path)[0].people[0].pose
    for joint, turn in enumerate(turns):
        assert np.abs(rotmat(pose[joint]) - turn).max() < 1e-6  # seven digits, and float32


@pytest.mark.parametrize(
    ("slug", "split", "name"),
    [
        ("eft_coco_part", "train", "train2014/COCO_train2014_000000000003.jpg"),
        ("eft_coco", "train", "train2014/COCO_train2014_000000000003.jpg"),
        ("eft_coco", "val", "val2014/COCO_val2014_000000000003.jpg"),
        ("eft_lspet", "train", "im00003.png"),
        ("eft_lspet", "test", "im00503.png"),
        ("eft_ochuman", "train", "images/000003.jpg"),
        ("eft_ochuman", "test", "images/000503.jpg"),
        ("eft_posetrack", "train", "images/train/000000_mpii_train/000004.jpg"),
        ("eft_mpii", "train", "images/000000003.jpg"),
    ],
)
def test_names_are_the_parent_datasets(slug: str, split: str, name: str, tmp_path: Path) -> None:
    write_all(slug, tmp_path)
    photo = photos(CONVERTERS[slug], tmp_path, split)[3]
    assert photo.name == name
    assert photo.file is not None
    assert photo.file.is_file()
    sequence = {"sequence": "000000_mpii_train"} if slug == "eft_posetrack" else {}
    assert photo.people[0].columns == sequence


def test_pictures_may_lie_beside_the_file_and_the_file_under_its_old_name(tmp_path: Path) -> None:
    write(tmp_path, LSPET)
    (tmp_path / LSPET.path).rename(tmp_path / "LSPet_ver01.json")
    for picture in (tmp_path / "lspet").iterdir():
        picture.rename(tmp_path / picture.name)
    (tmp_path / "lspet").rmdir()
    read = photos(CONVERTERS["eft_lspet"], tmp_path)
    assert len(read) == 12
    assert all(photo.file is not None and photo.file.is_file() for photo in read)


def test_the_newer_file_is_preferred(tmp_path: Path) -> None:
    write(tmp_path, LSPET, count=3)
    (tmp_path / "eft/LSPet_ver01.json").write_text('{"ver": 0.01, "data": []}')
    assert len(photos(CONVERTERS["eft_lspet"], tmp_path)) == 3


def test_a_file_longer_than_a_read_is_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    people = write(tmp_path, LSPET)
    monkeypatch.setattr("hmrb.data.sources.eft.READ_CHARS", 997)
    read = photos(CONVERTERS["eft_lspet"], tmp_path)
    betas = [person.betas for photo in read for person in photo.people]
    np.testing.assert_array_equal(betas, [people[n].betas for n in (0, 12, *range(1, 12))])


def test_a_split_whose_file_is_missing_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, FILES["eft_coco"]["val"])
    assert [part.split for part in CONVERTERS["eft_coco"].plan(Raw(tmp_path))] == ["val"]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no eft/COCO2014-All-ver01\.json or .*COCO2014-Val-ver10\.json"):
        CONVERTERS["eft_coco"].plan(Raw(tmp_path))
    write(tmp_path, FILES["eft_coco"]["val"])
    (tmp_path / "coco/val2014").rename(tmp_path / "coco/val2017")
    with pytest.raises(RequestError, match="contains no coco/val2014 or val2014"):
        CONVERTERS["eft_coco"].plan(Raw(tmp_path))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parm_pose": None}, r"entry 0 has no parm_pose of shape \(24, 3, 3\); download the file again"),
        ({"parm_shape": [0.0] * 9}, r"entry 0 has no parm_shape of shape \(10,\)"),
        ({"bbox_scale": float("nan")}, "bbox_scale of entry 0 is not finite"),
        ({"imageName": 7}, "entry 0 of data has no imageName"),
    ],
)
def test_an_entry_that_is_none_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    write(tmp_path, LSPET, count=1)
    file = tmp_path / LSPET.path
    table = json.loads(file.read_text())
    table["data"][0] |= change
    file.write_text(json.dumps(table))
    with pytest.raises(RunError, match=message):
        CONVERTERS["eft_lspet"].plan(Raw(tmp_path))


def test_a_file_that_is_cut_short_or_another_is_refused(tmp_path: Path) -> None:
    write(tmp_path, LSPET, count=2)
    file = tmp_path / LSPET.path
    file.write_text(file.read_text()[:-2000])
    with pytest.raises(RunError, match=r"LSPet_train_ver10\.json: not a JSON file, or truncated"):
        CONVERTERS["eft_lspet"].plan(Raw(tmp_path))
    file.write_text("[]")
    with pytest.raises(RunError, match=r"missing list 'data'; is this a file of EFT fits\?"):
        CONVERTERS["eft_lspet"].plan(Raw(tmp_path))


def test_a_name_that_climbs_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path, LSPET, count=1)
    file = tmp_path / LSPET.path
    file.write_text(file.read_text().replace("im00000.png", "../../secret.png"))
    with pytest.raises(RunError, match=r"names '\.\./\.\./secret\.png', which is outside this folder; rejected"):
        photos(CONVERTERS["eft_lspet"], tmp_path)


def test_it_becomes_shards(tmp_path: Path) -> None:
    write_all("eft_coco", tmp_path / "raw")
    store, source = Store(tmp_path / "home"), CONVERTERS["eft_coco"]
    infos = convert(source, source.plan(Raw(tmp_path / "raw")), store, ConversionOptions("a test"), ProgressReporter())
    assert [(info.split, info.num_people, info.num_images) for info in infos] == [("train", 13, 12), ("val", 13, 12)]
    shard = Shard(store.shard("eft_coco", "val"))
    sample = shard.read(2)
    assert (shard.info.skeleton, shard.info.pictures, sample.photo_px) == ("smpl_49", "original", SIZE)
    assert np.abs(projected(sample) - fitted(101)[0].pixels).max() < 0.02
