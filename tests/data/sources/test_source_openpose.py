"""MTP and PROX: choice of the person, confidence, roots in the camera frame, mirrored images, matching fits."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from raw.openpose import CENTRAL, FOCAL, RECORDINGS, SIZE, TILT, mtp_person, rng_root, write_mtp, write_prox
from raw.people import LIMBS, NAMES, Someone, body, someone

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Person, Photo
from hmrb.store import Store

MTP, PROX = CONVERTERS["mtp"], CONVERTERS["prox"]


def photos(source: str, root: Path, split: str = "train", compat: bool = False) -> list[Photo]:
    (part,) = [part for part in CONVERTERS[source].plan(Raw(root, compat)) if part.split == split]
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def projected(person: Person, before: Someone) -> np.ndarray:
    """Pixels of the SMPL body at the person's position."""
    with torch.no_grad():
        mesh = body()(rotvec_to_rotmat(torch.tensor(person.pose))[None], torch.tensor(person.betas)[None])
        joints = body().joints(mesh, "smpl54")[0].numpy() + before.transl
    return before.focal * joints[:, :2] / joints[:, 2:] + np.array(SIZE) / 2 - 0.5


def test_mtps_root_is_in_the_cameras_frame(tmp_path: Path) -> None:
    people = write_mtp(tmp_path)["train"]
    for photo, number in zip(photos("mtp", tmp_path), (0, 1, 2, 3, 4, 6), strict=False):
        (person,) = photo.people
        assert np.abs(projected(person, people[number]) - people[number].pixels).max() < 0.01
        np.testing.assert_array_equal(person.pose[1:], people[number].pose[1:])
        assert person.has_body
        assert not person.transl.any()


def test_the_study_keeps_the_root_of_mtps_smpl_fit_and_the_first_person(tmp_path: Path) -> None:
    write_mtp(tmp_path)
    read = photos("mtp", tmp_path, compat=True)
    np.testing.assert_array_equal(read[2].people[0].pose[0], rng_root(2))
    np.testing.assert_allclose(
        read[CENTRAL].people[0].keypoints2d[1, :2],
        someone(900, SIZE, FOCAL, at=(0.15, 0.5)).points2d("prox")[1],
        rtol=1e-5,
    )


def test_the_person_nearest_the_middle_is_meant(tmp_path: Path) -> None:
    write_mtp(tmp_path)
    points = photos("mtp", tmp_path)[CENTRAL].people[0].keypoints2d
    np.testing.assert_allclose(points[1, :2], mtp_person(CENTRAL).points2d("prox")[1], rtol=1e-5)


def test_a_sure_point_counts_as_labelled_and_one_not_found_is_zero(tmp_path: Path) -> None:
    people = write_mtp(tmp_path)["train"]
    points = photos("mtp", tmp_path)[0].people[0].keypoints2d
    np.testing.assert_allclose(points[1, :2], people[0].points2d("prox")[1], rtol=1e-5)
    assert points[[1, 4, 0, 15], 2].tolist() == pytest.approx([1, 0.1, 0, 0])
    assert not points[[0, 15]].any()


def test_boxes_are_those_of_the_detected_points(tmp_path: Path) -> None:
    people = write_mtp(tmp_path)["train"]
    found = np.delete(people[1].points2d("prox"), [0, 15], 0)
    low, high = found.min(0), found.max(0)
    expected = [*((low + high) / 2 - 0.6 * (high - low)), *(1.2 * (high - low))]
    np.testing.assert_allclose(photos("mtp", tmp_path)[1].people[0].box, expected, rtol=1e-4, atol=1e-3)


def test_mtps_pictures_without_a_detected_person_are_left_out(tmp_path: Path) -> None:
    write_mtp(tmp_path)
    read = photos("mtp", tmp_path)
    assert len(read) == 11
    assert [photo.name for photo in read[:2]] == [
        "images/presented/0000_presented_pose.png",
        "images/mimicked/0001_mimicked_pose.png",
    ]
    assert len(photos("mtp", tmp_path, "val")) == 12
    assert [photo.people[0].gender for photo in read[:2]] == ["female", "male"]
    assert read[1].people[0].columns == {"part": "mimicked"}


def test_mtps_smplx_fit_is_kept_as_it_is(tmp_path: Path) -> None:
    people = write_mtp(tmp_path)["train"]
    extra = photos("mtp", tmp_path)[0].people[0].extra
    assert extra["smplx/left_hand_pose"].shape == (45,)
    assert extra["smplx/body_pose"].shape == (63,)
    assert "smplx/loss" not in extra
    np.testing.assert_allclose(extra["smplx/camera_rotation"].reshape(3, 3), TILT, atol=1e-6)
    np.testing.assert_allclose(TILT @ rotmat(extra["smplx/global_orient"]), rotmat(people[0].pose[0]), atol=1e-6)


def test_genders_may_be_missing(tmp_path: Path) -> None:
    write_mtp(tmp_path)
    (tmp_path / "subject_meta.json").unlink()
    assert {photo.people[0].gender for photo in photos("mtp", tmp_path)} == {"neutral"}


def test_proxs_pictures_are_mirrored_when_packed(tmp_path: Path) -> None:
    """The drawn limbs match the labelled points; on disk, and in the study, they are mirrored."""
    people = write_prox(tmp_path / "raw")
    for compat, expected in ((False, True), (True, False)):
        store = Store(tmp_path / str(compat))
        parts = PROX.plan(Raw(tmp_path / "raw", compat))
        convert(PROX, parts, store, ConversionOptions("a test", compat=compat), ProgressReporter())
        shard = Shard(store.shard("prox", "train"))
        assert shard.info.compat == ("study" if compat else "")
        sample = shard.read(0)
        picture = cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
        assert _shows(picture, people[0]) is expected
        np.testing.assert_allclose(sample.keypoints2d[1, :2], people[0].points2d("prox")[1], rtol=1e-5)


def _shows(picture: np.ndarray, person: Someone) -> bool:
    """Whether the middles of the thighs have the colours of the drawn thighs."""
    hits = []
    for start, end, colour in (LIMBS[0], LIMBS[2]):
        middle = (person.pixels[NAMES.index(start)] + person.pixels[NAMES.index(end)]) / 2
        x, y = middle.round().astype(int)
        hits.append(bool(np.abs(picture[y, x].astype(int) - colour).max() < 60))
    return all(hits)


def test_a_missing_fit_keeps_proxs_lists_in_step(tmp_path: Path) -> None:
    people = write_prox(tmp_path)
    read = photos("prox", tmp_path)
    numbers = [0, 1, *range(4, 12)]
    kept = [people[12 * place + number] for place in (0, 1) for number in numbers]
    assert len(read) == len(kept)
    for photo, before in zip(read, kept, strict=True):
        (person,) = photo.people
        np.testing.assert_allclose(person.keypoints2d[2, :2], before.points2d("prox")[2], rtol=1e-5)
        root = person.extra["smplx/global_orient"]
        if person.columns["has_smplx"]:
            np.testing.assert_allclose(root, before.pose[0], rtol=1e-6)
        else:
            assert not root.any()
    assert [photo.people[0].columns["has_smplx"] for photo in read[:4]] == [1, 1, 0, 1]


def test_proxs_fits_are_extra_and_no_smpl_body(tmp_path: Path) -> None:
    write_prox(tmp_path)
    person = photos("prox", tmp_path)[0].people[0]
    assert not person.has_body
    assert person.extra["smplx/left_hand_pose"].shape == (12,)
    assert person.extra["smplx/pose_embedding"].shape == (32,)
    assert person.columns == {"sequence": RECORDINGS[0], "scene": "BasementSittingBooth", "has_smplx": 1.0}


def test_proxs_fits_may_lie_in_fittings_or_be_missing(tmp_path: Path) -> None:
    write_prox(tmp_path)
    (tmp_path / "PROXD").rename(tmp_path / "fittings")
    assert "smplx/betas" in photos("prox", tmp_path)[0].people[0].extra
    (tmp_path / "fittings").rename(tmp_path / "elsewhere")
    person = photos("prox", tmp_path)[0].people[0]
    assert (dict(person.extra), person.columns["has_smplx"]) == ({}, 0)


def test_a_recording_of_many_frames_is_a_block_of_its_own(tmp_path: Path) -> None:
    write_prox(tmp_path)
    (part,) = PROX.plan(Raw(tmp_path))
    assert (list(part.items), part.photos_each) == (list(RECORDINGS), 12)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "smplify-xmc/smplx/params/presented/0002_presented_pose.pkl",
            {"betas": np.zeros(10)},
            "missing camera_rotation",
        ),
        ("smplify-xmc/smpl/params/presented/0002_presented_pose.pkl", {"pose": np.zeros(69)}, "pose must have 72"),
        (
            "keypoints/openpose/presented/0002_presented_pose.json",
            {"persons": []},
            "not a list of people with OpenPose's 25 keypoints",
        ),
        (
            "keypoints/openpose/presented/0002_presented_pose.json",
            {"people": [{"pose_keypoints_2d": [1.0] * 54}]},
            "not a list of people with OpenPose's 25 keypoints",
        ),
        ("train_val_split.json", {"test": ["a_b"]}, "contains neither train nor val"),
        ("train_val_split.json", {"train": ["ab"]}, "'ab' is not an image id"),
    ],
)
def test_a_damaged_file_is_named(file: str, content: dict[str, object], message: str, tmp_path: Path) -> None:
    write_mtp(tmp_path)
    data = json.dumps(content).encode() if file.endswith(".json") else pickle.dumps(content, protocol=2)
    (tmp_path / file).write_bytes(data)
    with pytest.raises(RunError, match=message) as error:
        photos("mtp", tmp_path)
    assert Path(file).name in str(error.value)


def test_an_id_that_climbs_out_is_refused(tmp_path: Path) -> None:
    write_mtp(tmp_path)
    (tmp_path / "train_val_split.json").write_text(json.dumps({"train": ["a_.._../../../x"]}))
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        photos("mtp", tmp_path)


def test_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="contains no recordings"):
        PROX.plan(Raw(tmp_path))
    (tmp_path / "recordings").mkdir()
    with pytest.raises(RequestError, match="contains no recording with a folder Color"):
        PROX.plan(Raw(tmp_path))


def test_mtp_becomes_shards(tmp_path: Path) -> None:
    write_mtp(tmp_path / "raw")
    store = Store(tmp_path / "home")
    infos = convert(MTP, MTP.plan(Raw(tmp_path / "raw")), store, ConversionOptions("a test"), ProgressReporter())
    assert [(info.split, info.num_people) for info in infos] == [("train", 11), ("val", 12)]
    sample = Shard(store.shard("mtp", "val")).read(0)
    assert (sample.name, sample.photo_px) == ("images/presented/0012_presented_pose.png", SIZE)
    assert sample.extra["smplx/left_hand_pose"].shape == (45,)
