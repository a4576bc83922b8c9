"""Packed annotations of other projects: values are converted to our units, joints and records."""

import io
import pickle
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import GOLDENS
from raw.pickled import Bomb

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter
from hmrb.data.convert.from_packed import repack
from hmrb.data.convert.pack import Packing
from hmrb.data.convert.packed_fields import MORE_SHAPE, Notes
from hmrb.data.convert.packed_files import (
    pictures_in,
    read_4dhumans,
    read_bedlam,
    read_human_data,
    read_spin,
)
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Sample, without_unlabelled
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

# smpl_54's indices in HumanData's list of 190, from the study's name tables.
SLOTS = [*range(22), 188, 189, *range(55, 65 + 1), *range(66, 75 + 1), *range(144, 152 + 1)]
MINI = GOLDENS / "4b_pw3d_mini_humandata.npz"
RNG = np.random.default_rng(0)


def picture(width: int = 20, height: int = 10, kind: str = ".jpg") -> bytes:
    return cv2.imencode(kind, np.full((height, width, 3), 90, np.uint8))[1].tobytes()


def named(name: str) -> bytes:
    return b"\xff\xd8" + name.encode()


def write(folder: Path, **arrays: Any) -> Path:
    path = folder / "packed.npz"
    np.savez(path, **arrays)
    return path


def slot(joint: str) -> int:
    return SKELETONS["smpl54"].index(joint)


def refuses(samples: Iterator[Sample], *said: str) -> None:
    with pytest.raises((RequestError, RunError)) as refusal:
        list(samples)
    for words in said:
        assert words in str(refusal.value)


def test_a_human_data_file_of_the_study() -> None:
    people = list(read_human_data(MINI, named))
    with np.load(MINI, allow_pickle=False) as stored:
        boxes, two, three = (stored[key] for key in ("bbox_xywh", "keypoints2d", "keypoints3d"))
        mask = stored["keypoints2d_mask"]
    columns = np.flatnonzero(mask)
    order = [int(np.searchsorted(columns, place)) for place in SLOTS]
    np.testing.assert_array_equal(columns[order], SLOTS)
    assert [sample.name for sample in people] == [f"{row:03d}.jpg" for row in range(8)]
    assert [sample.gender[0] for sample in people] == list("mffmfmff")
    assert people[3].jpeg == named("003.jpg")
    for row, sample in enumerate(people):
        np.testing.assert_array_equal(sample.box, boxes[row, :4])
        for ours, theirs in ((sample.keypoints2d, two), (sample.keypoints3d, three)):
            np.testing.assert_array_equal(ours, without_unlabelled(theirs[row][order].astype(np.float32)))
        assert sample.has_body
    np.testing.assert_allclose(people[0].pose[0], [-1.2434107, -0.9266685, 1.1234983], atol=1e-6)  # its global_orient
    np.testing.assert_allclose(people[0].pose[1], [0.281938225, 0.0697280541, -0.178236321], atol=1e-6)
    np.testing.assert_allclose(people[0].transl, [-0.8211639, -1.1054388, 0.29316106], atol=1e-6)
    assert not np.array_equal(people[0].betas, people[1].betas)


def human_data(**changes: Any) -> dict[str, Any]:
    two = RNG.uniform(0, 100, (3, 190, 3))
    two[..., 2] = 1
    smpl = {"global_orient": np.ones((3, 3)), "body_pose": np.zeros((3, 69)), "betas": np.ones((3, 10))}
    return {
        "image_path": ["a.jpg", "a.jpg", "b.jpg"],
        "bbox_xywh": np.array([[0, 0, 4, 8]] * 3),
        "keypoints2d": two,
        "keypoints2d_mask": np.isin(np.arange(190), [0, 188]).astype(np.uint8),
        "smpl": smpl,
    } | changes


def test_a_human_data_file_that_is_not_compressed(tmp_path: Path) -> None:
    content = human_data(has_smpl=np.array([1, 0, 1]), meta={"gender": [0, 1, -1]})
    content["keypoints2d"][1, 0] = np.nan
    content["keypoints2d"][2, 0, 2] = 2
    people = list(read_human_data(write(tmp_path, **content), named))
    assert [sample.has_body for sample in people] == [True, False, True]
    assert [sample.gender for sample in people] == ["female", "male", "neutral"]
    confidences = np.array([sample.keypoints2d[:, 2] for sample in people])
    np.testing.assert_array_equal(confidences.sum(1), [2, 1, 2])  # masked; NaN is missing; 2 is clipped to 1
    np.testing.assert_array_equal(people[1].keypoints2d[0], [0, 0, 0])
    np.testing.assert_allclose(people[0].keypoints2d[slot("left_hand"), :2], content["keypoints2d"][0, 188, :2], 1e-6)
    assert not people[0].keypoints3d.any()
    assert people[0].box.tolist() == [0, 0, 4, 8]
    np.testing.assert_array_equal(people[0].pose[:2], [[1, 1, 1], [0, 0, 0]])
    assert people[0].betas.shape == (10,)
    assert not people[1].pose.any()


def test_human_data_of_fewer_joints_of_another_convention_and_without_a_body(tmp_path: Path) -> None:
    two = np.ones((3, 144, 3))
    old = human_data(keypoints2d=two, keypoints2d_mask=np.ones(144))
    assert sum(sample.keypoints2d[:, 2].sum() for sample in read_human_data(write(tmp_path, **old), named)) == 3 * 43
    coco = human_data(keypoints2d=np.ones((3, 17, 3)), keypoints2d_convention="coco", meta={})
    del coco["keypoints2d_mask"], coco["smpl"]
    (first, *_) = read_human_data(write(tmp_path, **coco), named)
    assert first.keypoints2d[:, 2].sum() == 17
    assert first.keypoints2d[slot("left_hip_extra"), 2] == 1
    assert (first.has_body, first.gender) == (False, "neutral")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"bbox_xywh": np.zeros((2, 5))}, "bbox_xywh has 2 rows for 3 images"),
        ({"keypoints2d": np.zeros((3, 54, 3))}, "keypoints2d has shape (3, 54, 3), expected (3, 190, 3)"),
        ({"__keypoints_compressed__": True}, "keypoints2d has shape (3, 190, 3), expected (3, 2, 3)"),
        ({"smpl": {"betas": np.zeros((3, 10))}}, "smpl has no global_orient, body_pose"),
        ({"meta": {"gender": ["x"] * 3}}, "unknown gender 'x'; known: m, male"),
        ({"meta": {"gender": ["m"]}}, "1 genders for 3 images"),
        ({"keypoints2d_convention": "cocoo"}, "no skeleton named 'cocoo'. Did you mean 'coco'"),
    ],
)
def test_a_human_data_file_that_does_not_fit_itself(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    refuses(read_human_data(write(tmp_path, **human_data(**change)), named), said)


@pytest.mark.parametrize("key", ["smpl", "meta", "image_path"])
def test_a_bomb_in_a_human_data_file_does_not_go_off(key: str, tmp_path: Path) -> None:
    path = write(tmp_path, **human_data(**{key: np.array([Bomb(tmp_path / "ran")], object)}))
    refuses(read_human_data(path, named), f"{key}: asks for posix.system")
    assert not (tmp_path / "ran").exists()


def spin(**changes: Any) -> dict[str, Any]:
    part, spatial = np.zeros((2, 24, 3)), np.zeros((2, 24, 4))
    part[:, 0], spatial[:, 13] = (30, 40, 1), (0.1, -0.7, 0.2, 1)
    return {
        "imgname": np.array(["a.jpg", "b.jpg"]),
        "center": np.array([[50.0, 60.0], [10.0, 20.0]]),
        "scale": np.array([0.5, 1.0]),
        "part": part,
        "S": spatial,
        "pose": np.full((2, 72), 0.1),
        "shape": np.ones((2, 10)),
    } | changes


def test_a_file_of_spin(tmp_path: Path) -> None:
    more = {"has_smpl": np.array([0, 1]), "gender": np.array(["m", "f"]), "openpose": np.ones((2, 25, 3))}
    first, second = read_spin(write(tmp_path, **spin(**more)), named)
    np.testing.assert_array_equal(first.box, [0, 10, 100, 100])
    np.testing.assert_array_equal(second.box, [-90, -80, 200, 200])
    np.testing.assert_array_equal(first.keypoints2d[slot("right_ankle")], [30, 40, 1])
    assert first.keypoints2d[:, 2].sum() == 1  # OpenPose's points map to no SMPL joint, as in the study
    np.testing.assert_allclose(first.keypoints3d[slot("headtop")], [0.1, -0.7, 0.2, 1], atol=1e-7)
    assert (first.has_body, second.has_body) == (False, True)
    assert (first.gender, second.gender) == ("male", "female")
    np.testing.assert_allclose(second.pose, 0.1, atol=1e-7)
    (whole, _) = read_spin(write(tmp_path, **spin(**more)), named, skeleton="smpl_49")
    np.testing.assert_array_equal(whole.keypoints2d[:25], 1)


def test_a_file_of_spin_with_the_least_in_it(tmp_path: Path) -> None:
    content = {key: value for key, value in spin().items() if key in ("imgname", "center", "scale", "pose", "shape")}
    (first, _) = read_spin(write(tmp_path, **content), named)
    assert first.has_body
    assert not first.keypoints2d.any()
    bare = {key: value for key, value in content.items() if key not in ("pose", "shape")}
    assert not next(read_spin(write(tmp_path, **bare), named)).has_body
    refuses(read_spin(write(tmp_path, **bare | {"imgname": np.array(["a"])}), named), "center has 2 rows for 1 images")
    refuses(read_spin(write(tmp_path, part=np.zeros(3)), named), "no array named imgname; the file contains part")
    wide = content | {"pose": np.zeros((2, 165))}
    refuses(read_spin(write(tmp_path, **wide), named), "'a.jpg': pose, shape and translation have [165, 10, 3] numbers")


def bedlam(**changes: Any) -> dict[str, Any]:
    camera = np.tile(np.eye(4), (2, 1, 1))
    camera[:, :3, 3] = (0, 1, 5)
    return {
        "imgname": np.array(["scene/a.jpg", "closeup/b.jpg"]),
        "center": np.array([[50.0, 60.0]] * 2),
        "scale": np.array([0.5] * 2),
        "gtkps": np.full((2, 24, 2), 7.0),
        "pose_cam": np.full((2, 72), 0.2),
        "shape": np.ones((2, 10)),
        "trans_cam": np.ones((2, 3)),
        "cam_ext": camera,
        "gender": np.array(["neutral", "female"]),
    } | changes


def test_a_file_of_bedlam(tmp_path: Path) -> None:
    first, second = read_bedlam(write(tmp_path, **bedlam()), lambda name: picture(20, 10))
    assert first.has_body
    np.testing.assert_array_equal(first.transl, [1, 2, 6])
    np.testing.assert_array_equal(first.keypoints2d[:24], [[7, 7, 1]] * 24)
    assert not first.keypoints2d[24:].any()
    assert second.gender == "female"
    shapes = [cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), 1).shape for sample in (first, second)]
    assert shapes == [(10, 20, 3), (20, 10, 3)]  # close-ups are stored rotated


def test_bedlam_s_closeups_are_turned_clockwise(tmp_path: Path) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:8, :16] = 255  # top left
    jpeg = cv2.imencode(".jpg", stored)[1].tobytes()
    _, second = read_bedlam(write(tmp_path, **bedlam()), lambda name: jpeg)
    turned = cv2.imdecode(np.frombuffer(second.jpeg, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert turned[4, 12] > 200  # top right
    assert max(turned[4, 4], turned[28, 4], turned[28, 12]) < 50


def test_bedlam_s_smplx_and_children_are_no_smpl_bodies(tmp_path: Path) -> None:
    smplx = bedlam(pose_cam=np.ones((2, 165)), gtkps=np.ones((2, 127, 3)))
    (first, _) = read_bedlam(write(tmp_path, **smplx), lambda name: picture())
    assert not first.has_body
    assert not first.pose.any()
    assert first.keypoints2d[:, 2].sum() == 43  # SMPL-X has neither SMPL's hands nor the extra joints
    child = np.ones((2, 11))
    child[1, 10] = 0
    first, second = read_bedlam(write(tmp_path, **bedlam(shape=child)), lambda name: picture())
    assert (first.has_body, second.has_body) == (False, True)
    refuses(read_bedlam(write(tmp_path, **bedlam(gtkps=np.ones((2, 99, 2)))), named), "gtkps has 99 joints; known: 24")


def person(**changes: Any) -> dict[str, Any]:
    two, three = np.zeros((44, 3), np.float32), np.zeros((44, 4), np.float32)
    two[25], three[43] = (30, 40, 0.9), (0, 0.1, 0.2, 1)  # right ankle, head: the first and last of SPIN's 19
    return {
        "keypoints_2d": two,
        "keypoints_3d": three,
        "center": np.array([50.0, 60.0]),
        "scale": 0.5,
        "body_pose": np.full(72, 0.1, np.float32),
        "betas": np.ones(10, np.float32),
        "has_body_pose": 1.0,
        "has_betas": np.array(1.0),
        "extra_info": {"fitting_loss": np.float32(3)},
    } | changes


def write_tar(folder: Path, *members: tuple[str, bytes]) -> Path:
    path = folder / "000000.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_a_tar_of_4d_humans(tmp_path: Path) -> None:
    people = [person(), person(has_betas=0.0)]
    path = write_tar(
        tmp_path,
        ("set/a_1.jpg", named("a")),
        ("set/a_1.data.pyd", pickle.dumps(people)),
        ("set/a_1.detection.npz", b"masks"),
        ("set/b_2.data.pyd", pickle.dumps([person(body_pose=np.full(72, np.nan))])),
        ("set/b_2.png", picture(kind=".png")),
    )
    first, second, third = read_4dhumans(path)
    assert [sample.name for sample in (first, second, third)] == ["set/a_1", "set/a_1", "set/b_2"]
    assert first.jpeg == second.jpeg == named("a")
    assert third.jpeg.startswith(b"\xff\xd8")
    np.testing.assert_array_equal(first.box, [0, 10, 100, 100])
    np.testing.assert_allclose(first.keypoints2d[slot("right_ankle")], [30, 40, 0.9])
    np.testing.assert_allclose(first.keypoints3d[slot("head_extra")], [0, 0.1, 0.2, 1])
    assert [sample.has_body for sample in (first, second, third)] == [True, False, False]
    np.testing.assert_allclose(first.pose, 0.1)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ((("a.jpg", b""),), "'a' has jpg; a person needs jpg and data.pyd"),
        ((("a.jpg", named("a")), ("a.data.pyd", pickle.dumps([{"scale": 1}]))), "a person has no keypoints_2d"),
        ((("a.jpg", named("a")), ("a.data.pyd", pickle.dumps([3]))), "a person is not a dict"),
        ((("a.jpg", named("a")), ("a.data.pyd", b"")), "a.data.pyd: file is truncated or empty"),
        ((("a.png", b"no"), ("a.data.pyd", pickle.dumps([person()]))), "image cannot be decoded"),
        (
            (("a.jpg", named("a")), ("a.data.pyd", pickle.dumps([person(keypoints_2d=np.zeros((17, 3)))]))),
            "a: keypoints_2d has shape (17, 3), expected (44, 3)",
        ),
    ],
)
def test_a_tar_that_is_not_of_4d_humans(members: tuple[tuple[str, bytes], ...], said: str, tmp_path: Path) -> None:
    refuses(read_4dhumans(write_tar(tmp_path, *members)), "000000.tar: ", said)


def test_a_tar_with_a_bomb_cut_short_or_gone(tmp_path: Path) -> None:
    bomb = pickle.dumps([person(extra_info=Bomb(tmp_path / "ran"))])
    path = write_tar(tmp_path, ("a.jpg", named("a")), ("a.data.pyd", bomb))
    refuses(read_4dhumans(path), "a.data.pyd: asks for posix.system")
    assert not (tmp_path / "ran").exists()
    path.write_bytes(path.read_bytes()[:700])
    refuses(read_4dhumans(path), "000000.tar: not a tar file, or truncated")
    path.write_bytes(b"hello" * 200)
    refuses(read_4dhumans(path), "000000.tar: not a tar file, or truncated")
    refuses(read_4dhumans(tmp_path / "gone.tar"), "gone.tar: cannot be read (No such file")


def test_pictures_come_as_jpeg_whatever_they_were(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(picture())
    (tmp_path / "b.png").write_bytes(picture(kind=".png"))
    (tmp_path / "c.png").write_bytes(b"")
    read: Callable[[str], bytes] = pictures_in(tmp_path)
    assert read("a.jpg") == picture()
    assert cv2.imdecode(np.frombuffer(read("b.png"), np.uint8), 1).shape == (10, 20, 3)
    with pytest.raises(UnreadablePicture, match=r"c\.png: image cannot be decoded"):
        read("c.png")
    with pytest.raises(UnreadablePicture, match=r"d\.jpg: image cannot be read: no such file"):
        read("d.jpg")


def test_what_is_read_can_be_written_as_a_shard(tmp_path: Path) -> None:
    path = tmp_path / "mini_train.h5"
    about = {"dataset": "mini", "split": "train", "skeleton": "smpl54", "body": "smpl", "made_by": "a test"}
    with ShardWriter(path, **about) as writer:
        for sample in read_human_data(MINI, lambda name: picture()):
            writer.add(sample)
    assert len(Shard(path)) == 8
    assert Shard(path).read(2).name == "002.jpg"


def child(count: int) -> np.ndarray:
    """Shape numbers of a child and of grown people."""
    shape = np.ones((count, 11))
    shape[1:, 10] = 0
    return shape


def test_an_11th_shape_number_is_no_plain_smpl_in_any_file(tmp_path: Path) -> None:
    smpl = {"global_orient": np.ones((3, 3)), "body_pose": np.zeros((3, 69)), "betas": child(3)}
    tar = write_tar(
        tmp_path, ("a.jpg", named("a")), ("a.data.pyd", pickle.dumps([person(betas=row) for row in child(2)]))
    )
    readings: list[Callable[[Notes], Iterator[Sample]]] = [
        lambda notes: read_human_data(write(tmp_path, **human_data(smpl=smpl)), named, notes=notes),
        lambda notes: read_spin(write(tmp_path, **spin(shape=child(2), part=np.ones((2, 24, 3)))), named, notes=notes),
        lambda notes: read_bedlam(write(tmp_path, **bedlam(shape=child(2))), lambda name: picture(), notes=notes),
        lambda notes: read_4dhumans(tar, notes=notes),
    ]
    for read in readings:
        notes = Notes()
        first, second, *_ = read(notes)
        assert (first.has_body, second.has_body) == (False, True)
        assert first.keypoints2d.any()
        assert not first.betas.any()
        assert first.extra["smpl/betas"].tolist() == [1.0] * 11
        assert first.extra["smpl/pose"].shape == second.extra["smpl/pose"].shape == (24, 3)
        assert notes.changed == {MORE_SHAPE: 1}


def smplerx(points: int = 144, mask: bool = True, **changes: Any) -> dict[str, Any]:
    """SMPLer-X's layout: names with the ending `_smplx`, SMPL-X parameters, no SMPL."""
    out = {
        "image_path": ["a.jpg", "b.jpg", "c.jpg"],
        "bbox_xywh": np.array([[0, 0, 4, 8, 1.0]] * 3),
        "keypoints2d_smplx": np.full((3, points, 3), 5.0),
        "keypoints3d_smplx": np.full((3, points, 4), 0.5),
        "smplx": {"global_orient": np.ones((3, 3)), "betas": np.ones((3, 10))},
    }
    if mask:
        out |= {f"keypoints{n}d_smplx_mask": np.ones(points) for n in (2, 3)}
    return out | changes


@pytest.mark.parametrize(("points", "mask"), [(144, True), (144, False), (190, True), (190, False)])
def test_human_data_of_smplx_points(points: int, mask: bool, tmp_path: Path) -> None:
    people = list(read_human_data(write(tmp_path, **smplerx(points, mask)), named))
    assert len(people) == 3
    for sample in people:
        assert sample.keypoints2d[slot("left_knee")].tolist() == [5, 5, 1]
        assert sample.keypoints3d[slot("left_knee"), 0] == 0.5
        assert (sample.keypoints2d[:, 2] > 0).sum() == (43 if points == 144 else 54)  # SMPL-X has no SMPL hands
        assert not sample.has_body


def converted(folder: Path, content: dict[str, Any], kind: str = "humandata", limit: int = 0) -> list[str]:
    """Converts to LSP's training set; what the ticker was told."""
    said: list[str] = []

    class Listening(ProgressReporter):
        def say(self, line: str) -> None:
            said.append(line)

    images = folder / "images"
    images.mkdir(exist_ok=True)
    for name in content.get("image_path", content.get("imgname")):
        (images / name).write_bytes(picture())
    making = ConversionOptions("a test", packing=Packing("region", 64), missing_limit=limit)
    repack(kind, write(folder, **content), images, "lsp", "train", Store(folder), making, Listening())
    return said


def test_raw_regions_are_refused_for_a_split_that_keeps_its_pictures(tmp_path: Path) -> None:
    making = ConversionOptions("a test", packing=Packing("region", 64, form="raw"))
    with pytest.raises(RequestError, match="--pictures raw: test keeps the original pictures.*leave --pictures out"):
        repack("spin", write(tmp_path, **spin()), tmp_path, "lsp", "test", Store(tmp_path), making, ProgressReporter())
    assert not list(tmp_path.rglob("*.h5"))


def test_a_file_of_people_without_labels_is_refused(tmp_path: Path) -> None:
    bare = smplerx()
    bare = {key: value for key, value in bare.items() if not key.startswith("keypoints")}
    with pytest.raises(RunError) as error:
        converted(tmp_path, bare)
    assert str(error.value) == (
        f"{tmp_path / 'packed.npz'}: none of its 3 people has a label. It has bbox_xywh, image_path, smplx;"
        " labels are read from keypoints2d, keypoints3d, keypoints2d_smplx, keypoints3d_smplx, smpl"
    )
    assert not Store(tmp_path).shard("lsp", "train").exists()
    unlabelled = Sample(jpeg=picture(), name="a.jpg", box=np.array([0, 0, 4, 8], np.float32))
    with pytest.raises(RunError, match=r"none of the 1 people has a label \(a keypoint or a body\)"):
        with ShardWriter(
            tmp_path / "a.h5", dataset="lsp", split="train", skeleton="lsp", body="smpl", made_by="a test"
        ) as out:
            out.add(unlabelled)


def many(count: int, **changes: Any) -> dict[str, Any]:
    """A file of SPIN's format in which everybody is labelled."""
    return {
        "imgname": np.array(["a.jpg"] * count),
        "center": np.full((count, 2), 8.0),
        "scale": np.full(count, 0.05),
        "part": np.ones((count, 24, 3)),
    } | changes


def test_boxes_that_are_none_are_left_out_and_counted(tmp_path: Path) -> None:
    scale = np.full(60, 0.05)
    scale[[3, 4, 5]] = (np.nan, 0, -0.05)
    far = np.full((60, 2), 8.0)
    far[7] = 900
    said = converted(tmp_path, many(60, scale=scale, center=far), "spin")
    assert said == [
        "left out: 2 people: the box has no size or a negative size",
        "left out: 1 people: the box is not finite",
        "left out: 1 people: the box is outside the image",
    ]
    assert len(Shard(Store(tmp_path).shard("lsp", "train"))) == 56
    scale[6] = 0
    with pytest.raises(RunError, match=r"4 of 60 people cannot be used, more than 5%: left out: 3 people: .*missing 4"):
        converted(tmp_path, many(60, scale=scale), "spin")
    assert len(converted(tmp_path, many(60, scale=scale), "spin", limit=4)) == 2


BROKEN: list[tuple[str, dict[str, Any], str]] = [
    ("spin", {"part": np.zeros((2, 17, 3))}, "part has shape (2, 17, 3), expected (2, 24, 3)"),
    ("spin", {"part": np.zeros((2, 24, 2))}, "part has shape (2, 24, 2), expected (2, 24, 3)"),
    ("spin", {"S": np.zeros((2, 24, 3))}, "S has shape (2, 24, 3), expected (2, 24, 4)"),
    ("spin", {"center": np.zeros((2, 1, 2))}, "center has shape (2, 1, 2), expected (2, 2)"),
    ("spin", {"scale": np.zeros((2, 3))}, "scale has shape (2, 3), expected (2,) or (2, 1) or (2, 2)"),
    ("spin", {"has_smpl": np.zeros((2, 24))}, "has_smpl has shape (2, 24), expected (2,) or (2, 1)"),
    ("spin", {"shape": np.zeros((2, 10, 1))}, "shape has shape (2, 10, 1), expected (2, any)"),
    ("spin", {"center": np.array([None, None])}, "center of person 0 has shape (), expected (2, 2)"),
    ("spin", {"scale": np.array(["a", "b"])}, "scale of person 0 is not a table of numbers, expected (2,)"),
    ("spin", {"part": np.array([[[1, 2]], [1]], object)}, "part has shape (2, 1), expected (2, 24, 3)"),
    ("spin", {"part": np.array([[[1, 2], [1]], 1], object)}, "part of person 0 is not a table of numbers"),
    ("spin", {"pose": np.array([[[1, 2], [1]], 1], object)}, "is not a table of numbers"),
    ("spin", {"center": np.array(3.0)}, "center has shape (), expected one row per person"),
    ("spin", {"imgname": np.array("a.jpg")}, "imgname has shape (), expected (N,), one name per person"),
    ("spin", {"imgname": np.array([])}, "imgname has shape (0,), expected (N,), one name per person"),
    ("spin", {"imgname": np.array([["a", "b"]])}, "imgname has shape (1, 2), expected (N,), one name per person"),
    ("spin", {"imgname": np.array(None)}, "imgname has shape (), expected (N,), one name per person"),
    ("spin", {"imgname": np.array([b"\xff\xfe", b"b"])}, "is not UTF-8"),
    ("spin", {"S": np.ones((2, 24, 4), complex)}, "S has values of type complex128; numbers must be real"),
    ("spin", {"pose": np.array([[10**400] * 72] * 2, object)}, "is not a table of numbers"),
    ("humandata", {"smpl": np.array([])}, "smpl is not a table of arrays"),
    ("humandata", {"keypoints2d_mask": np.array(1)}, "keypoints2d_mask has shape (), but human_data has 190 joints"),
    ("humandata", {"bbox_xywh": np.zeros((3, 3))}, "bbox_xywh has shape (3, 3), expected (3, 4) or (3, 5)"),
    ("humandata", {"keypoints2d": np.array(None)}, "keypoints2d has shape (), expected (3, 190, 3)"),
    ("bedlam", {"gtkps": np.zeros((2, 24, 4))}, "gtkps has shape (2, 24, 4), expected (2, any, 2) or (2, any, 3)"),
    ("bedlam", {"cam_ext": np.zeros((2, 3, 4))}, "cam_ext has shape (2, 3, 4), expected (2, 4, 4)"),
]


@pytest.mark.parametrize(("kind", "change", "said"), BROKEN, ids=[said[:40] for *_, said in BROKEN])
def test_arrays_of_another_shape_get_one_message(kind: str, change: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = {"spin": spin, "humandata": human_data, "bedlam": bedlam}[kind](**change)
    read = {"spin": read_spin, "humandata": read_human_data, "bedlam": read_bedlam}[kind]
    refuses(read(write(tmp_path, **content), lambda name: picture()), said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"keypoints_2d": None}, "keypoints_2d has shape (), expected (44, 3)"),
        ({"keypoints_3d": [[1, 2], [3]]}, "keypoints_3d is not a table of numbers"),
        ({"center": np.zeros((1, 2))}, "center has shape (1, 2), expected (2,)"),
        ({"scale": np.zeros(0)}, "scale has shape (0,), expected () or (1,) or (2,)"),
        ({"body_pose": None}, "pose, shape and translation have [1, 10, 3] numbers, expected [72, 10, 3]"),
    ],
)
def test_people_of_4d_humans_of_another_shape_get_one_message(
    change: dict[str, Any], said: str, tmp_path: Path
) -> None:
    people = pickle.dumps([person(**change)])
    refuses(read_4dhumans(write_tar(tmp_path, ("a.jpg", named("a")), ("a.data.pyd", people))), said)


def test_a_person_of_billions_of_pixels_is_left_out_and_counted(tmp_path: Path) -> None:
    notes, people = Notes(), pickle.dumps([person(scale=np.array(1e20)), person()])
    path = write_tar(tmp_path, ("a.jpg", named("a")), ("a.data.pyd", people))
    assert len(list(read_4dhumans(path, notes=notes))) == 1
    assert notes.left_out == {"the box exceeds 1,000,000 pixels": 1}
