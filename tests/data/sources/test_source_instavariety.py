"""TFRecords, and InstaVariety and VLOG, which use them."""

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from raw import instavariety as toy
from raw.sources import made, people_of, photos_of
from raw.tfrecord import write_records

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.formats.tfrecord import _crc, _masked, read_example, records
from hmrb.skeleton import SKELETONS

FLOAT32 = 1e-3  # of a few hundred pixels, through [-1, 1] and back
FEATURES = {
    "text": [b"one", b"", b"three" * 100],
    "numbers": np.array([1.5, -2, 3e8], np.float32),
    "whole": np.array([0, 1, 127, 128, -1, 2**40, -(2**63)]),
    "nothing": np.zeros(0, np.float32),
}


@pytest.mark.parametrize("packed", [True, False])
def test_what_protobuf_and_tensorboard_write_is_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "toy.tfrecord"
    write_records(path, [{"first": [b"x"]}, FEATURES], packed)
    first, second = (read_example(record) for record in records(path))
    assert first == {"first": [b"x"]}
    assert second["text"] == FEATURES["text"]
    np.testing.assert_array_equal(second["numbers"], FEATURES["numbers"])
    np.testing.assert_array_equal(second["whole"], FEATURES["whole"])
    assert len(second["nothing"]) == 0


def test_a_file_that_is_cut_short_or_another_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.tfrecord"
    write_records(path, [FEATURES, FEATURES])
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(RunError, match="toy.tfrecord: not a TFRecord file, or truncated after 1 records"):
        list(records(path))
    path.write_bytes(b"\x05" + whole[1:])
    with pytest.raises(RunError, match="not a TFRecord file, or truncated after 0 records"):
        list(records(path))
    path.write_bytes(whole[:12] + b"\xff" * (len(whole) - 12))
    with pytest.raises(RunError, match="toy.tfrecord: record 0 is not a tf.train.Example"):
        read_example(next(records(path)))


def test_a_record_of_gigabytes_is_refused_by_its_header(tmp_path: Path) -> None:
    path = tmp_path / "toy.tfrecord"
    length = struct.pack("<Q", 2 << 30)
    path.write_bytes(length + struct.pack("<I", _masked(_crc(length))))
    with pytest.raises(RunError, match=r"record 0 has 2,147,483,648 bytes; the limit is 1,073,741,824"):
        list(records(path))


def test_sources_name_heels_before_knees_and_ankles_last() -> None:
    joints = SKELETONS[CONVERTERS["instavariety"].skeleton].joints
    assert (joints[0], joints[5], joints[23:]) == ("right_heel", "left_heel", ("left_ankle", "right_ankle"))


@pytest.mark.parametrize("phis", [True, False])
def test_points_are_pixels_of_the_crop(tmp_path: Path, phis: bool) -> None:
    truth = [t for n, t in enumerate(toy.write(tmp_path, phis=phis)) if n % toy.FRAMES != toy.UNSEEN]
    people = people_of(CONVERTERS["instavariety"].plan(Raw(tmp_path)), "train")
    assert len(people) == len(truth) == 18
    for person, there in zip(people, truth, strict=True):
        pixels = there.points2d("instavariety_nop")
        rows = person.keypoints2d[:, 2] == 1
        np.testing.assert_allclose(person.keypoints2d[rows, :2], pixels[rows], atol=FLOAT32)
        size = pixels[rows].max(0) - pixels[rows].min(0)
        np.testing.assert_allclose(person.box[2:], 1.2 * size, atol=FLOAT32)
        assert rows.sum() == 25 or np.flatnonzero(~rows).tolist() == [toy.WRIST]
    assert people[toy.NO_WRIST].keypoints2d[toy.WRIST].tolist() == [0, 0, 0]


def test_a_frame_has_its_picture_its_name_and_its_video(tmp_path: Path) -> None:
    toy.write(tmp_path)
    photos = photos_of(CONVERTERS["vlog"].plan(Raw(tmp_path)), "train")
    assert [photo.name for photo in photos[2:4]] == [
        "train/insta_variety_00_copy00/0000/000003",
        "train/insta_variety_00_copy00/0001/000000",
    ]
    assert photos[0].people[0].columns == {"sequence": "yoga/video0"}
    assert cv2.imdecode(np.frombuffer(photos[0].data, np.uint8), cv2.IMREAD_COLOR).shape == (224, 224, 3)


def test_without_toes_they_are_not_labelled(tmp_path: Path) -> None:
    toy.write(tmp_path, toes=False)
    points = people_of(CONVERTERS["instavariety"].plan(Raw(tmp_path)), "train")[0].keypoints2d
    assert (points[:19, 2] == 1).all()
    assert not points[19:].any()


def test_splits_are_folders(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no train/\*.tfrecord"):
        CONVERTERS["instavariety"].plan(Raw(tmp_path))
    toy.write(tmp_path, "test")
    assert [part.split for part in CONVERTERS["instavariety"].plan(Raw(tmp_path))] == ["test"]


def test_what_a_record_lacks_is_said(tmp_path: Path) -> None:
    path = tmp_path / "train/a.tfrecord"
    write_records(path, [{"meta/N": np.array([2]), "image/encoded": [b""]}])
    with pytest.raises(RunError, match="a.tfrecord: record 0 has no image/xys, image/visibilities, image/face_pts"):
        photos_of(CONVERTERS["vlog"].plan(Raw(tmp_path)), "train")
    features = {
        "meta/N": np.array([2]), "image/encoded": [b""], "image/xys": np.zeros(56, np.float32),
        "image/visibilities": np.zeros(28, int), "image/face_pts": np.zeros(30, np.float32),
    }  # fmt: skip
    write_records(path, [features])
    with pytest.raises(RunError, match="a.tfrecord: record 0 has 1 images for 2 frames"):
        photos_of(CONVERTERS["vlog"].plan(Raw(tmp_path)), "train")
    write_records(path, [features | {"image/face_pts": np.zeros(29, np.float32)}])
    with pytest.raises(RunError, match="a.tfrecord: record 0: points do not match meta/N"):
        photos_of(CONVERTERS["vlog"].plan(Raw(tmp_path)), "train")


@pytest.mark.parametrize("name", ["instavariety", "vlog"])
def test_a_tree_becomes_a_shard(tmp_path: Path, name: str) -> None:
    toy.TREES[name](tmp_path / "raw")
    assert made(name, tmp_path).num_people == 18
