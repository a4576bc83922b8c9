"""3DPW: gendered bodies in the camera frame, which project onto OpenPose's detections."""

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from raw import pw3d as made
from raw.pickled import save_python2
from raw.placed import joints, store_with_body

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources.pw3d import CONVERTERS, plan
from hmrb.errors import RequestError, RunError
from hmrb.formats.pickles import read_pickle
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS

SOURCE = CONVERTERS[0]


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    made.write_all(tmp_path / "3dpw")
    return Raw(tmp_path / "3dpw", store=store_with_body(tmp_path / "home"))


def photos(raw: Raw, split: str = "train") -> list[Photo]:
    part = next(part for part in plan(raw) if part.split == split)
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def test_people_of_a_frame_share_its_picture_and_those_not_placed_or_not_detected_are_left_out(raw: Raw) -> None:
    found = {photo.name: [person.columns["person"] for person in photo.people] for photo in photos(raw)}
    frames = {f"imageFiles/train_walk_00/image_{frame:05d}.jpg": [0, 1] for frame in range(made.FRAMES)}
    del frames[f"imageFiles/train_walk_00/image_{made.ALONE:05d}.jpg"]
    frames["imageFiles/train_walk_00/image_00002.jpg"] = [0]  # person 1 has no valid camera
    frames["imageFiles/train_walk_00/image_00005.jpg"] = [1]  # nothing of person 0 was detected
    assert found == frames


def meets_its_pixels(person: Person) -> None:
    """The body, projected with the person's camera, is at the labelled pixels."""
    smpl, pw3d = SKELETONS["smpl24"], SKELETONS["pw3d"]
    shared = [name for name in pw3d.joints if name in smpl.joints]
    assert len(shared) == 10
    points = joints(person)
    fx, fy, cx, cy = person.camera
    pixels = points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)
    there = pixels[[smpl.index(name) for name in shared]]
    # labels are float32, and a metre is 80 pixels
    np.testing.assert_allclose(there, person.keypoints2d[[pw3d.index(name) for name in shared], :2], atol=0.02)


def test_the_body_projects_onto_the_labelled_pixels(raw: Raw) -> None:
    for photo in photos(raw, "test"):
        for person in photo.people:
            meets_its_pixels(person)


def test_labels_are_the_persons_own(raw: Raw) -> None:
    who = made.cast(0)
    first, second = photos(raw)[1].people
    for person, true in ((first, who[0][1]), (second, who[1][1])):
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(true.pose[0]), atol=1e-5)  # axis-angle in float32
        np.testing.assert_array_equal(person.pose[1:], true.pose[1:])
        np.testing.assert_allclose(person.transl, true.transl, atol=1e-5)
        assert person.betas.shape == (10,)  # the file has two more
        assert person.keypoints2d[0].tolist() == [0, 0, 0]  # the nose was not detected
        assert person.keypoints2d[1, 2] == np.float32(0.7)
        seen = true.points2d("pw3d")[1:]
        size = 1.2 * (seen.max(0) - seen.min(0))
        corner = (seen.max(0) + seen.min(0) - size) / 2
        np.testing.assert_allclose(person.box, [*corner, *size], rtol=1e-5)
    assert (first.gender, second.gender) == ("male", "female")
    assert first.columns["sequence"] == "train_walk_00"


def test_pictures_of_half_the_size_get_labels_and_camera_of_half_the_size(tmp_path: Path) -> None:
    raw = Raw(tmp_path / "3dpw", store=store_with_body(tmp_path / "home"))
    made.write(raw.root)
    whole = photos(raw)
    pictures = sorted(raw.root.glob("imageFiles/*/*.jpg"))
    for path in pictures:
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
    pictures[0].write_bytes(b"damaged")  # the next one decides
    for before, after in zip(whole, photos(raw), strict=True):
        for one, half in zip(before.people, after.people, strict=True):
            np.testing.assert_allclose(half.camera, [150, 150, 79.5, 59.5])
            seen = one.keypoints2d[:, 2] > 0
            np.testing.assert_allclose(half.keypoints2d[seen, :2], one.keypoints2d[seen, :2] / 2 - 0.25, rtol=1e-5)
            assert not half.keypoints2d[~seen].any()
            np.testing.assert_allclose(half.box, [*(one.box[:2] / 2 - 0.25), *(one.box[2:] / 2)], rtol=1e-4)
            np.testing.assert_array_equal(half.transl, one.transl)
            meets_its_pixels(half)


def test_without_a_body_there_is_no_translation(raw: Raw, tmp_path: Path) -> None:
    bare = Raw(raw.root, store=type(raw.store)(tmp_path / "empty"))
    person = photos(bare)[0].people[0]
    assert person.has_body
    assert not person.transl.any()


def test_converting_writes_every_split_and_test_pictures_keep_their_bytes(raw: Raw, tmp_path: Path) -> None:
    store = store_with_body(tmp_path / "out")
    infos = convert(SOURCE, plan(raw), store, ConversionOptions("a test"), ProgressReporter())
    assert {info.split: info.num_people for info in infos} == {"train": 12, "val": 12, "test": 12}
    sample = Shard(store.shard("3dpw", "test")).read(0)
    assert sample.jpeg == (raw.root / sample.name).read_bytes()
    assert sample.gender == "male"


def test_a_split_without_files_is_left_out_and_none_at_all_is_said(tmp_path: Path) -> None:
    made.write(tmp_path, "test")
    assert [part.split for part in plan(Raw(tmp_path))] == ["test"]
    with pytest.raises(RequestError, match="contains no sequenceFiles"):
        plan(Raw(tmp_path / "imageFiles"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"poses2d": None}, "missing poses2d"),
        ({"trans": [np.zeros((3, 3))] * 2}, "trans has shape (3, 3), expected (8, 3)"),
        ({"genders": ["m", "x"]}, "unknown gender 'x'"),
        ({"betas": [np.zeros(10)]}, "betas has 1 people, but poses has 2"),
        ({"cam_poses": np.zeros((8, 3, 4))}, "cam_poses has shape (8, 3, 4)"),
        ({"cam_intrinsics": np.zeros((3, 4))}, "cam_intrinsics has shape (3, 4), expected (3, 3)"),
    ],
)
def test_a_sequence_out_of_step_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    made.write(tmp_path)
    path = tmp_path / "sequenceFiles/train/train_walk_00.pkl"
    table = read_pickle(path) | change
    save_python2(path, {key: value for key, value in table.items() if value is not None})
    with pytest.raises(RunError) as refusal:
        photos(Raw(tmp_path))
    assert said in str(refusal.value)
    assert "train_walk_00.pkl" in str(refusal.value)


def test_a_sequence_that_is_code_is_not_run(tmp_path: Path) -> None:
    made.write(tmp_path)
    (tmp_path / "sequenceFiles/train/train_walk_00.pkl").write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(RunError, match="asks for .*print"):
        photos(Raw(tmp_path))
