"""Human3.6M: joints in metres, boxes from masks, MoSh's rotated root, extracted images or frames from videos."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from raw import h36m as made
from raw.pickled import save_python2
from raw.placed import joints

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.sources.h36m import CONVERTERS, plan
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

SOURCE = CONVERTERS[0]


def photos(root: Path, split: str = "train") -> list[Photo]:
    part = next(part for part in plan(Raw(root)) if part.split == split)
    return [photo for item in part.items for photo in part.read(item)]


def test_splits_are_subjects_and_cameras(tmp_path: Path) -> None:
    made.write_all(tmp_path)
    items = {part.split: [f"{clip.subject} {clip.file}" for clip in part.items] for part in plan(Raw(tmp_path))}
    assert items["train"] == [*(f"S1 Directions 1.{camera}" for camera in made.CAMERAS), "S5 Photo.60457274"]
    assert [name for name in items["test_p1"] if name.startswith("S9")] == [
        f"S9 WalkDog 1.{camera}" for camera in made.CAMERAS
    ]
    assert items["test_p2"] == [name for name in items["test_p1"] if name.endswith("60457274")]


def test_every_fifth_frame_has_its_labels_in_metres_and_the_mask_s_box(tmp_path: Path) -> None:
    true = made.write(tmp_path, "S1", "Directions 1", made.FRONT)
    made.write_metadata(tmp_path / "metadata.xml")
    found = photos(tmp_path)
    assert len(found) == 3
    for photo, who in zip(found, true[::5], strict=True):
        (person,) = photo.people
        np.testing.assert_allclose(person.keypoints2d, np.c_[who.points2d("h36m"), np.ones(17)], rtol=1e-6)
        np.testing.assert_allclose(person.keypoints3d[:, :3], who.points3d("h36m"), atol=1e-6)
        low, high = (np.array(corner) for corner in made.mask_corners(who))
        np.testing.assert_allclose(person.box, [*((low + high - 0.9 * (high - low)) / 2), *(0.9 * (high - low))])
        assert person.columns == {"sequence": "S1 Directions 1.60457274", "action": "Directions"}
        assert person.camera.tolist() == [250.75, 249.75, 99.5, 101.25]
    assert [photo.name for photo in found] == [
        f"S1/images/S1_Directions_1.60457274/S1_Directions_1.60457274_{number:06d}.jpg" for number in (1, 6, 11)
    ]


def test_mosh_s_body_lies_on_the_joints(tmp_path: Path) -> None:
    true = made.write(tmp_path, "S1", "Directions 1", made.FRONT)
    for photo, who in zip(photos(tmp_path), true[::5], strict=True):
        (person,) = photo.people
        assert person.has_body
        assert not person.transl.any()
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(who.pose[0]), atol=1e-5)
        np.testing.assert_allclose(joints(person) - joints(person)[0], who.joints[:24] - who.joints[0], atol=1e-4)


def test_without_mosh_or_beyond_its_end_there_is_no_body(tmp_path: Path) -> None:
    made.write(tmp_path, "S1", "Directions 1", made.FRONT, mosh=False)
    assert not any(photo.people[0].has_body for photo in photos(tmp_path))
    table = {"new_poses": np.zeros((2, 72)), "betas": np.zeros(10)}
    save_python2(tmp_path / "mosh/S1/Directions 1_cam3_aligned.pkl", table)
    assert [photo.people[0].has_body for photo in photos(tmp_path)] == [True, True, False]


def test_a_mosh_of_no_numbers_is_one_message(tmp_path: Path) -> None:
    made.write(tmp_path, "S1", "Directions 1", made.FRONT, mosh=False)
    path = tmp_path / "mosh/S1/Directions 1_cam3_aligned.pkl"
    for odd in ([], {"new_poses": {"a": 1}, "betas": np.zeros(10)}, {"new_poses": np.zeros((3, 72)), "betas": "x"}):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(odd, 2))
        with pytest.raises(RunError, match=r"aligned.pkl: new_poses and betas are not arrays of numbers"):
            photos(tmp_path)


def test_frames_come_from_the_videos_where_nothing_was_extracted(tmp_path: Path) -> None:
    true = made.write(tmp_path, "S1", "Photo", made.FRONT, 3, videos=True, masks="bb")
    found = photos(tmp_path)
    assert [photo.name for photo in found] == [f"S1/Videos/Photo.60457274.mp4/{n:06d}" for n in (0, 5, 10)]
    for number, photo in zip((0, 5, 10), found, strict=True):
        picture = made.draw([true[number]], made.SIZE, 3 + number)
        assert photo.pixels is not None
        # the codec causes a difference of 3.4; the next frame or swapped channels cause 8
        assert np.abs(photo.pixels.astype(int) - picture).mean() < 6


def test_names_with_five_digits_and_s1_s_names_of_actions_are_known(tmp_path: Path) -> None:
    made.write(tmp_path, "S1", "TakingPhoto 1", made.FRONT, digits=5)
    first = photos(tmp_path)[0]
    assert first.name.endswith("_00001.jpg")
    assert first.file is not None
    assert first.file.exists()
    assert first.people[0].columns["action"] == "Photo"


def test_an_empty_mask_leaves_the_box_of_the_joints(tmp_path: Path) -> None:
    true = made.write(tmp_path, "S1", "Directions 1", made.FRONT)
    with h5py.File(tmp_path / "S1/MySegmentsMat/ground_truth_bs/Directions 1.60457274.mat", "r+") as file:
        file["#refs#/0000"][...] = 0
    points = true[0].points2d("h36m")
    size = 1.2 * (points.max(0) - points.min(0))
    np.testing.assert_allclose(photos(tmp_path)[0].people[0].box[2:], size, rtol=1e-5)


def test_converting_writes_all_splits(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    infos = convert(
        SOURCE, plan(Raw(tmp_path / "raw")), Store(tmp_path / "home"), ConversionOptions("a test"), ProgressReporter()
    )
    assert {info.split: info.num_people for info in infos} == {"train": 15, "test_p1": 24, "test_p2": 15}


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no S\*/MyPoseFeatures/D3_Positions_mono/\*.cdf"):
        plan(Raw(tmp_path))
    made.write(tmp_path, "S1", "Directions 1", made.FRONT)
    flat = tmp_path / "S1/MyPoseFeatures/D2_Positions/Directions 1.60457274.cdf"
    whole = flat.read_bytes()
    flat.write_bytes(whole[:60])
    with pytest.raises(RunError, match=r"D2_Positions/Directions 1.60457274.cdf: not a CDF file with a Pose"):
        photos(tmp_path)
    made.save_cdf(flat, np.zeros((7, 64)))
    with pytest.raises(RunError, match="7 frames in 2D and 11 in 3D"):
        photos(tmp_path)
    flat.write_bytes(whole)
    mask = tmp_path / "S1/MySegmentsMat/ground_truth_bs/Directions 1.60457274.mat"
    made.save_masks(mask, made.cast(0, 4))
    with pytest.raises(RunError, match="has 4 masks, but frame 10 is labelled"):
        photos(tmp_path)
    mask.unlink()
    with pytest.raises(RequestError, match="contains no S1/MySegmentsMat/ground_truth_bs/.* or .*ground_truth_bb/"):
        plan(Raw(tmp_path))


def test_metadata_with_a_doctype_is_refused(tmp_path: Path) -> None:
    made.write(tmp_path, "S1", "Directions 1", made.FRONT)
    made.write_metadata(tmp_path / "metadata.xml", '<!DOCTYPE m [<!ENTITY a "b">]>')
    with pytest.raises(RunError, match="metadata.xml: cannot be read as XML: it has a DOCTYPE"):
        plan(Raw(tmp_path))
    (tmp_path / "metadata.xml").write_text("<metadata><w0>[1 2]</w0></metadata>")
    with pytest.raises(RunError, match="w0 has 2 numbers, expected 300"):
        plan(Raw(tmp_path))
