"""SURREAL: images are mirrored back, and the body then matches its pixels."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io
from raw import surreal as made
from raw.placed import joints, store_with_body

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.sources.surreal import CONVERTERS, plan
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

SOURCE = CONVERTERS[0]


def photos(raw: Raw, split: str = "train") -> list[Photo]:
    part = next(part for part in plan(raw) if part.split == split)
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def test_the_body_projects_onto_the_labels_of_the_mirrored_picture(tmp_path: Path) -> None:
    true = made.write(tmp_path / "raw")
    found = photos(Raw(tmp_path / "raw", store=store_with_body(tmp_path / "home")))
    seen = [frame for frame in range(made.FRAMES) if frame != made.OUT]
    for frame, photo in zip(seen, found, strict=True):
        (person,), who = photo.people, true[frame]
        assert photo.mirrored
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(who.pose[0]), atol=1e-5)  # float32 throughout
        np.testing.assert_allclose(person.transl, who.transl, atol=1e-4)
        np.testing.assert_allclose(person.keypoints3d[:, :3], who.joints[:24], atol=1e-4)
        there = joints(person)
        fx, fy, cx, cy = person.camera
        pixels = there[:, :2] / there[:, 2:] * (fx, fy) + (cx, cy)
        np.testing.assert_allclose(pixels, person.keypoints2d[:, :2], atol=0.52)  # labels are integers
        assert person.gender == ("female", "male")[frame % 2]
        size = 1.2 * (person.keypoints2d[:, :2].max(0) - person.keypoints2d[:, :2].min(0))
        np.testing.assert_allclose(person.box[2:], size, rtol=1e-5)
        assert person.columns == {"sequence": "01_01_c0001"}


@pytest.mark.parametrize("extracted", [None, 0, 1])
def test_the_picture_is_the_one_that_the_labels_are_of(tmp_path: Path, extracted: int | None) -> None:
    true = made.write(tmp_path, extracted=extracted)
    found = photos(Raw(tmp_path))
    frame = 2
    (sample,) = pack(found[frame], Packing())
    picture = cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR_RGB)
    difference = np.abs(picture.astype(int) - made.draw([true[frame]], made.SIZE, frame))
    assert difference.mean() < 6  # the codec causes 3.2; another frame, swapped channels or mirroring cause at least 8
    folder = "train/run0/01_01/"
    names = {None: "01_01_c0001.mp4/000002", 0: "images_01_01_c0001/frame_000002.jpg"}
    assert found[frame].name == folder + names.get(extracted, "images_01_01_c0001/frame_000003.jpg")


def test_a_clip_of_one_frame_has_an_axis_less(tmp_path: Path) -> None:
    (who,) = made.write(tmp_path, frames=1)
    path = tmp_path / "train/run0/01_01/01_01_c0001_info.mat"
    assert scipy.io.loadmat(path)["joints2D"].shape == (2, 24)
    (photo,) = photos(Raw(tmp_path))
    np.testing.assert_allclose(photo.people[0].keypoints3d[:, :3], who.joints[:24], atol=1e-4)


def test_malformed_subjects_are_left_out_and_cmu_is_found(tmp_path: Path) -> None:
    for clip in ("18_01_c0001", "19_03_c0002", "143_21_c0001", "143_22_c0001"):
        made.write(tmp_path / "cmu", "test", clip)
    (part,) = plan(Raw(tmp_path))
    assert [path.parent.name for path in part.items] == ["143_22"]
    assert part.split == "test"
    assert len(plan(Raw(tmp_path, compat=True))[0].items) == 4


def test_as_in_the_study_the_picture_stays_and_the_pose_is_mirrored(tmp_path: Path) -> None:
    made.write(tmp_path)
    path = tmp_path / "train/run0/01_01/01_01_c0001_info.mat"
    table = scipy.io.loadmat(path)
    found = photos(Raw(tmp_path, compat=True))
    assert len(found) == made.FRAMES
    person = found[1].people[0]
    assert not found[1].mirrored
    np.testing.assert_array_equal(person.keypoints2d[:, :2], table["joints2D"][..., 1].T)
    np.testing.assert_array_equal(person.keypoints3d[1, :3], table["joints3D"][:, 2, 1] * (-1, 1, 1))
    np.testing.assert_array_equal(person.pose[17], table["pose"][48:51, 1] * (1, -1, -1))
    np.testing.assert_array_equal(person.pose[0], table["pose"][:3, 1] * (1, -1, -1))


def test_converting_writes_all_splits(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    infos = convert(
        SOURCE, plan(Raw(tmp_path / "raw")), Store(tmp_path / "home"), ConversionOptions("a test"), ProgressReporter()
    )
    assert {info.split: info.num_people for info in infos} == {"train": 13, "val": 13, "test": 13}


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no train/run0/\*/\*_info.mat"):
        plan(Raw(tmp_path))
    made.write(tmp_path)
    folder = tmp_path / "train/run0/01_01"
    path = folder / "01_01_c0001_info.mat"
    whole = {key: value for key, value in scipy.io.loadmat(path).items() if not key.startswith("_")}
    for change, said in (
        ({"joints3D": whole["joints3D"][..., :2]}, r"joints3D has shape \(3, 24, 2\), expected \(3, 24, 5\)"),
        ({"gender": np.full((5, 1), 2)}, "gender has values other than 0"),
    ):
        scipy.io.savemat(path, whole | change)
        with pytest.raises(RunError, match=f"01_01_c0001_info.mat: {said}"):
            photos(Raw(tmp_path))
    scipy.io.savemat(path, {key: value for key, value in whole.items() if key != "zrot"})
    with pytest.raises(RunError, match="missing variables: zrot"):
        photos(Raw(tmp_path))
    scipy.io.savemat(path, whole)
    (folder / "01_01_c0001.mp4").write_bytes(b"no video")
    with pytest.raises(RunError, match=r"images cannot be used.*01_01_c0001.mp4/000000: image cannot be decoded"):
        convert(SOURCE, plan(Raw(tmp_path)), Store(tmp_path / "home"), ConversionOptions("a test"), ProgressReporter())
