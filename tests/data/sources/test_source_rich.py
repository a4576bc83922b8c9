"""RICH: SMPL-X labels become SMPL's 24 joints, with the matrix and regressor that evaluations use."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw import rich as made
from raw.placed import store_with_body
from raw.sources import people_of, photos_of

from hmrb.body.expressive import SMPLX
from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources.rich import CONVERTERS, plan
from hmrb.errors import RequestError, RunError

EVERYBODY = [person for number in range(len(made.SHOTS)) for person in made.cast(number)]


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    made.write(tmp_path / "rich")
    return Raw(tmp_path / "rich", store=store_with_body(tmp_path / "home"))


def changed(path: Path, **values: Any) -> None:
    """The file with changed arrays; None removes one."""
    with np.load(path) as arrays:
        members = dict(arrays) | values
    np.savez(path, **{key: value for key, value in members.items() if value is not None})


def test_pictures_have_their_people_in_the_file_s_order(raw: Raw) -> None:
    photos = photos_of(plan(raw), "test")
    assert [photo.name for photo in photos] == [made.name_of(shot) for shot in made.SHOTS]
    assert [len(photo.people) for photo in photos] == [1] * 6 + [2] * 6
    for photo, (recording, camera, frame) in zip(photos, made.SHOTS, strict=True):
        for person in photo.people:
            assert person.columns == {"sequence": recording, "camera": camera, "frame": frame}
    assert [person.gender for photo in photos for person in photo.people] == ["female", "male"] * 9


def test_key_points_are_smpl_s_joints_relative_to_the_pelvis(raw: Raw) -> None:
    for person, true in zip(people_of(plan(raw), "test"), EVERYBODY, strict=True):
        np.testing.assert_allclose(person.keypoints3d[:, :3], made.joints(true), atol=1e-5)  # float32
        assert (person.keypoints3d[:, 3] == 1).all()
        assert not person.has_body
        np.testing.assert_array_equal(person.extra["smplx/pose"], true.pose[:22].ravel())
        np.testing.assert_array_equal(person.extra["smplx/betas"], true.betas)


def test_the_box_is_a_square_about_the_center(raw: Raw) -> None:
    for person, true in zip(people_of(plan(raw), "test"), EVERYBODY, strict=True):
        box = true.box()
        assert person.box[2] == person.box[3] == pytest.approx(box[2:].max(), rel=1e-5)
        np.testing.assert_allclose(person.box[:2] + person.box[2:] / 2, box[:2] + box[2:] / 2, rtol=1e-5)


def test_longer_poses_and_shapes_are_cut_and_pictures_may_lie_in_images(raw: Raw) -> None:
    before = people_of(plan(raw), "test")
    with np.load(raw.root / "rich_test.npz") as arrays:
        pose, shape = arrays["pose_cam"], arrays["shape"]
    longer = {"pose_cam": np.pad(pose, ((0, 0), (0, 99)), constant_values=1), "shape": np.pad(shape, ((0, 0), (0, 6)))}
    changed(raw.root / "rich_test.npz", **longer)
    (raw.root / "images").mkdir()
    (raw.root / "test").rename(raw.root / "images/test")
    photos = photos_of(plan(raw), "test")
    assert photos[0].file == raw.root / "images" / made.name_of(made.SHOTS[0])
    after = [person for photo in photos for person in photo.people]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one.keypoints3d, other.keypoints3d)


def test_hands_are_at_the_mean_of_the_file_and_bend_the_mesh(tmp_path: Path) -> None:
    members = made.members()
    # One more vertex next to the left hand's, which the first finger moves and whose y follows the finger's bend.
    beside = np.array([0.1, 0.0, 0.0])
    for key in ("v_template", "shapedirs", "posedirs", "weights"):
        members[key] = np.concatenate([members[key], members[key][22:23]])
    members["v_template"][24] += beside
    members["J_regressor"] = np.pad(members["J_regressor"], ((0, 0), (0, 1)))
    members["posedirs"][24, 1, 9 * (25 - 1) + 1] = 0.5
    np.savez(tmp_path / "SMPLX_MALE.npz", **members)
    found = SMPLX(tmp_path / "SMPLX_MALE.npz").vertices(np.zeros((1, 66), np.float32), np.zeros((1, 10), np.float32))
    mean = rotmat(np.full(3, 0.1))
    expected = members["v_template"][22] + mean @ (beside + [0, 0.5 * mean[0, 1], 0])
    np.testing.assert_allclose(found[0, 24], expected, atol=1e-6)


def test_intrinsics_are_the_file_s_if_it_has_them(raw: Raw) -> None:
    assert all(person.camera is None for person in people_of(plan(raw), "test"))
    focal = 1000.0 + np.arange(18)
    matrices = np.zeros((18, 3, 3))
    matrices[:, 0, 0], matrices[:, 1, 1], matrices[:, 0, 2], matrices[:, 1, 2], matrices[:, 2, 2] = (
        focal,
        900,
        700,
        500,
        1,
    )
    changed(raw.root / "rich_test.npz", cam_int=matrices)
    found = [person.camera for person in people_of(plan(raw), "test")]
    np.testing.assert_array_equal(found, [[one, 900, 700, 500] for one in focal])
    changed(raw.root / "rich_test.npz", cam_int=matrices[:3])
    with pytest.raises(RunError, match=r"cam_int has shape \(3, 3, 3\), expected \(18, 9\)"):
        plan(raw)


def test_converting_keeps_the_pictures_bytes(raw: Raw, tmp_path: Path) -> None:
    store = store_with_body(tmp_path / "out")
    (info,) = convert(CONVERTERS[0], plan(raw), store, ConversionOptions("a test"), ProgressReporter())
    assert (info.split, info.num_people, info.num_images) == ("test", 18, 12)
    sample = Shard(store.shard("rich", "test")).read(0)
    assert sample.jpeg == (raw.root / sample.name).read_bytes()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"pose_cam": None}, "no array named pose_cam"),
        ({"pose_cam": np.zeros((18, 63))}, "pose_cam has shape (18, 63), expected (18, 66)"),
        ({"scale": np.ones(3)}, "scale has shape (3,), expected (18, 1)"),
        ({"gender": np.array(["m"] * 17 + ["x"])}, "unknown gender 'x'; known: m, male, f, female"),
        ({"gender": np.array(["m"])}, "gender has 1 people, but imgname has 18"),
        ({"imgname": np.array(["a.jpeg"] * 18)}, "image name 'a.jpeg' is not like test/RECORDING/cam_03/"),
    ],
)
def test_labels_out_of_step_are_named(raw: Raw, values: dict[str, Any], said: str) -> None:
    changed(raw.root / "rich_test.npz", **values)
    with pytest.raises(RunError) as refusal:
        plan(raw)
    assert said in str(refusal.value)
    assert "rich_test.npz" in str(refusal.value)


def test_bodies_and_matrix_that_do_not_fit_are_named(raw: Raw, tmp_path: Path) -> None:
    bare = Raw(raw.root, store=type(raw.store)(tmp_path / "empty"))
    with pytest.raises(RequestError, match="SMPL_NEUTRAL.npz: no such file; get it from"):
        plan(bare)
    path = raw.root / "smplx2smpl.pkl"
    path.write_bytes(pickle.dumps({"matrix": made.matrix()[:, :20]}))
    with pytest.raises(RunError, match=r"SMPLX_FEMALE.npz: has 24 vertices, but the matrix to SMPL is for 20"):
        photos_of(plan(raw), "test")
    path.write_bytes(pickle.dumps({"matrix": made.matrix()[:100]}))
    with pytest.raises(RunError, match=r"smplx2smpl.pkl: its matrix has shape \(100, 24\), .* has 6846 vertices"):
        plan(raw)
    for odd in ([], {"matrix": [[1], [2, 3]]}, {"matrix": None}):
        path.write_bytes(pickle.dumps(odd))
        with pytest.raises(RunError, match=r"smplx2smpl.pkl: has no array named matrix"):
            plan(raw)
    path.write_bytes(pickle.dumps({"matrix": made.matrix()}))
    body = raw.root / "body_models/smplx/SMPLX_MALE.npz"
    for values, said in (
        ({"hands_meanl": None}, "SMPLX_MALE.npz: no array named hands_meanl"),
        ({"weights": np.zeros((24, 24))}, "weights has shape (24, 24), expected (24, 55) for SMPL-X"),
    ):
        changed(body, **values)
        with pytest.raises(RequestError) as refusal:
            SMPLX(body)
        assert said in str(refusal.value)
        np.savez(body, **made.members())


def test_what_is_missing_is_said(raw: Raw) -> None:
    for name in ("test", "body_models/smplx", "smplx2smpl.pkl", "rich_test.npz"):
        (raw.root / name).rename(raw.root / "away")
        with pytest.raises(RequestError, match=f"no {name}"):
            plan(raw)
        (raw.root / "away").rename(raw.root / name)
