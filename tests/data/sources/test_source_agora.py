"""AGORA: tables and tensors without pandas, cameras, roots and translations by projection, children, both sizes."""

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import GOLDENS
from raw.agora import INVALID, KID, SIZE, Scanned, write, write_all
from raw.people import body

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources import CONVERTERS
from hmrb.data.sources.agora import frame_of
from hmrb.errors import RequestError, RunError
from hmrb.formats.pandas_pickles import read_frame, read_tensors
from hmrb.formats.pickles import PickleError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Person, Photo
from hmrb.store import Store

SOURCE = CONVERTERS["agora"]


def photos(root: Path, split: str = "train", compat: bool = False) -> list[Photo]:
    (part,) = [part for part in SOURCE.plan(Raw(root, compat)) if part.split == split]
    return [photo for item in part.items for photo in part.read(item)]


def pairs(root: Path, everybody: list[list[Scanned]], **how: object) -> list[tuple[Person, Scanned]]:
    read = photos(root, **how)  # type: ignore[arg-type]
    kept = [[one for one in people if one.is_valid] for people in everybody]
    return [pair for photo, people in zip(read, kept, strict=True) for pair in zip(photo.people, people, strict=True)]


def joints(person: Person) -> np.ndarray:
    with torch.no_grad():
        mesh = body()(rotvec_to_rotmat(torch.tensor(person.pose))[None], torch.tensor(person.betas)[None])
        return body().joints(mesh, "smpl54")[0].numpy() + person.transl


@pytest.mark.parametrize("version", ["1_1_5", "1_5_3", "2_2_3"])
def test_tables_of_older_pandas_are_read(version: str) -> None:
    table = read_frame(GOLDENS / f"frame_pandas_{version}.pkl", longest=10_000)
    assert table["imgPath"] == ["a.png", "b.png"]
    assert table["X"] == [[1.0, 2.5], [3.0]]
    assert table["isValid"] == [[True, False], [True]]
    assert (table["camX"], table["number"]) == ([1.5, 2.5], [7, 8])
    np.testing.assert_array_equal(table["gt_joints_2d"][0][0], np.arange(6.0).reshape(3, 2))
    assert table["gt_verts"] == [[None, None], [None]]
    whole = read_frame(GOLDENS / f"frame_pandas_{version}.pkl")["gt_verts"]
    np.testing.assert_array_equal(whole[1][0], np.zeros((500, 3)))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_tables_of_this_pandas_are_read(protocol: int, tmp_path: Path) -> None:
    table = pd.DataFrame({"a": [[1.5, 2], [3.0]], "b": ["x", "y"], "c": [1, 2], "d": [np.ones((2, 3)), None]})
    table.iloc[[1, 0]].to_pickle(tmp_path / "t.pkl", protocol=protocol)
    read = read_frame(tmp_path / "t.pkl")
    assert (read["a"], read["b"], read["c"]) == ([[3.0], [1.5, 2]], ["y", "x"], [2, 1])
    np.testing.assert_array_equal(read["d"][1], np.ones((2, 3)))


@pytest.mark.parametrize("protocol", [2, 4])
def test_tensors_are_read_as_arrays(protocol: int, tmp_path: Path) -> None:
    numbers = torch.arange(12.0).reshape(3, 4)
    held = {"view": numbers[1:, ::2], "parameter": torch.nn.Parameter(numbers.double()), "one": torch.tensor(3)}
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(held, protocol=protocol))
    read = read_tensors(tmp_path / "t.pkl")
    np.testing.assert_array_equal(read["view"], [[4, 6], [8, 10]])
    np.testing.assert_array_equal(read["parameter"], numbers.numpy())
    assert (read["parameter"].dtype, read["one"]) == (np.float64, 3)


class _View:
    """Pickles as a tensor that exceeds its storage of four numbers."""

    def __reduce__(self) -> tuple[object, ...]:
        rebuild = torch._utils._rebuild_tensor_v2  # type: ignore[attr-defined]
        return rebuild, (torch.zeros(4).storage(), 0, (5000,), (1,), False, {})


@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated")
def test_a_tensor_beyond_its_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.pkl").write_bytes(pickle.dumps(_View()))
    with pytest.raises(PickleError, match="tensor exceeds its storage"):
        read_tensors(tmp_path / "t.pkl")


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.pkl").write_bytes(pickle.dumps({"imgPath": []}))
    with pytest.raises(PickleError, match="does not contain a pandas table"):
        read_frame(tmp_path / "t.pkl")


def test_a_scan_on_the_ground_before_an_hdri_camera() -> None:
    """5 m ahead, 1 m to the right, 1.7 m below the camera; with a yaw of 90 degrees, only the half turn remains."""
    turn, shift = frame_of("ag_hdri.png", np.zeros(4), np.array([500.0, 100, 0, 90]))
    np.testing.assert_allclose(shift, [1, 1.7, 5], atol=1e-12)
    np.testing.assert_allclose(turn, np.diag([1, -1, -1]), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "yaw", "pitch", "at", "given"),
    [
        ("a_cam00_b.png", 135, 30, (400, -275, 265), np.zeros(4)),
        ("a_cam02_b.png", -45, 30, (-490, 170, 265), np.zeros(4)),
        ("a_ag2_b.png", 0, 15, (0, 0, 170), np.zeros(4)),
        ("archviz.png", 40, 0, (10, 20, 190), np.array([10.0, 20, 20, 40])),  # camera at 170 cm above the ground
    ],
)
def test_what_a_camera_looks_at_is_straight_ahead(
    name: str, yaw: float, pitch: float, at: tuple[float, ...], given: np.ndarray
) -> None:
    """Unreal's axes: x forward, y right, z up; positive yaw turns right, positive pitch looks down."""
    a, b = np.radians([yaw, pitch])
    ahead = np.array([np.cos(b) * np.cos(a), np.cos(b) * np.sin(a), -np.sin(b)])
    _, shift = frame_of(name, given, np.array([*(np.array(at) + 300 * ahead), 0]))
    np.testing.assert_allclose(shift, [0, 0, 3], atol=1e-9)


def test_bodies_stand_where_their_joints_are_labelled(tmp_path: Path) -> None:
    for person, before in pairs(tmp_path, write(tmp_path)):
        assert np.abs(joints(person)[:45] - person.keypoints3d[:, :3]).max() < 2e-5
        np.testing.assert_allclose(person.keypoints3d[:, :3], before.person.joints[:45], atol=1e-6)
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(before.person.pose[0]), atol=1e-5)
        fx, fy, cx, cy = person.camera
        pixels = joints(person)[:, :2] / joints(person)[:, 2:] * (fx, fy) + (cx, cy)
        factor = cx / (SIZE[0] / 2)  # of a large image
        np.testing.assert_allclose(pixels, factor * (before.person.pixels + 0.5), atol=0.02 * factor)


def test_joints_are_scaled_once_for_small_pictures_and_kept_for_large_ones(tmp_path: Path) -> None:
    everybody = write(tmp_path)
    read = photos(tmp_path)
    assert [photo.name.endswith("_1280x720.png") for photo in read] == [True, True, False, True, True]
    for photo, people, factor in zip(read, everybody, (1, 1, 3, 1, 1), strict=True):
        assert photo.file is not None
        assert photo.file.is_file()
        expected = factor * (people[0].person.pixels[:45] + 0.5)
        focal = factor * people[0].person.focal
        np.testing.assert_allclose(photo.people[0].camera, [focal, focal, factor * 640, factor * 360], rtol=1e-5)
        np.testing.assert_allclose(photo.people[0].keypoints2d[:, :2], expected, rtol=1e-5)
        np.testing.assert_array_equal(photo.people[0].keypoints2d[:, 2], 1)
        size = expected.max(0) - expected.min(0)
        np.testing.assert_allclose(photo.people[0].box[2:], 1.2 * size, rtol=1e-5)
    again = photos(tmp_path)
    np.testing.assert_array_equal(again[0].people[0].keypoints2d, read[0].people[0].keypoints2d)


def test_hidden_people_are_left_out_and_the_rest_tell_what_is_known(tmp_path: Path) -> None:
    write(tmp_path)
    read = photos(tmp_path)
    assert [len(photo.people) for photo in read] == [3] * 5
    assert INVALID == 1
    assert [person.gender for person in read[0].people] == ["male", "male", "female"]
    assert [photo.people[0].columns["scene"] for photo in read] == ["hdri", "cam00", "cam03", "ag2", "3d"]
    assert read[0].people[0].columns == {
        "occlusion": 12.5, "kid": 0.0, "age": "31-50", "ethnicity": "asian", "scene": "hdri",
    }  # fmt: skip


def test_children_keep_all_eleven_numbers_of_their_shape(tmp_path: Path) -> None:
    write(tmp_path)
    adult, kid = (photos(tmp_path)[0].people[row] for row in (0, KID - 1))
    assert (adult.columns["kid"], kid.columns["kid"]) == (0, 1)
    for key in ("smpl/betas", "smplx/betas"):
        assert (adult.extra[key][10], kid.extra[key][10]) == (0, pytest.approx(0.4))
    np.testing.assert_array_equal(kid.betas, kid.extra["smpl/betas"][:10])


def test_the_smplx_fit_is_kept_with_what_leads_to_the_camera(tmp_path: Path) -> None:
    for person, before in pairs(tmp_path, write(tmp_path)):
        turn = person.extra["smplx/camera_rotation"].reshape(3, 3)
        root = turn @ rotmat(person.extra["smplx/global_orient"])
        np.testing.assert_allclose(root, rotmat(before.person.pose[0]), atol=1e-5)
        pelvis = turn @ (before.person.rest + person.extra["smplx/transl"]) + person.extra["smplx/camera_translation"]
        np.testing.assert_allclose(pelvis, before.person.joints[0], atol=1e-5)
        assert person.extra["smplx/left_hand_pose"].shape == (45,)


def test_without_smplx_fits_there_is_no_smplx(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "smplx_gt").rename(tmp_path / "elsewhere")
    assert list(photos(tmp_path)[0].people[0].extra) == ["smpl/betas"]


def test_the_study_has_the_half_turn_on_the_other_side(tmp_path: Path) -> None:
    half = np.diag([1.0, -1, -1])
    for person, before in pairs(tmp_path, write(tmp_path), compat=True):
        turn = person.extra["smplx/camera_rotation"].reshape(3, 3)
        root = turn.T @ rotmat(before.person.pose[0])
        np.testing.assert_allclose(rotmat(person.pose[0]), turn @ half @ root @ half, atol=1e-5)
        assert np.abs(rotmat(person.pose[0]) - rotmat(before.person.pose[0])).max() > 0.05


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no camera_dataframe_smpl/\*_withjv\.pkl"):
        SOURCE.plan(Raw(tmp_path))
    write(tmp_path)
    table = tmp_path / "camera_dataframe_smpl/train_0_withjv.pkl"
    frame = pd.read_pickle(table)
    frame.drop(columns=["Yaw", "isValid"]).to_pickle(table)
    with pytest.raises(RunError, match=r"train_0_withjv\.pkl: missing columns: Yaw, isValid"):
        SOURCE.plan(Raw(tmp_path))
    short = frame.copy()
    short["gender"] = [row[:2] for row in frame["gender"]]
    short.to_pickle(table)
    with pytest.raises(RunError, match="gender of row 0 is missing for some people in the image"):
        SOURCE.plan(Raw(tmp_path))
    wide = frame.copy()
    wide["gt_joints_3d"] = [[np.zeros((127, 3))] * 4] * 3
    wide.to_pickle(table)
    with pytest.raises(
        RunError, match=r"joints of row 0 have shapes .*127.*the folder camera_dataframe_smpl must contain"
    ):
        SOURCE.plan(Raw(tmp_path))


def test_a_damaged_fit_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    fit = tmp_path / "smpl_gt/set_0/00000_scan.pkl"
    fit.write_bytes(pickle.dumps({"root_pose": torch.zeros(1, 4)}))
    with pytest.raises(RunError, match=r"00000_scan\.pkl: root_pose must have 3 finite numbers, but has 4"):
        photos(tmp_path)
    fit.write_bytes(pickle.dumps({"body_pose": torch.zeros(1, 69)}))
    with pytest.raises(RunError, match=r"00000_scan\.pkl: missing root_pose; download it again"):
        photos(tmp_path)


def test_it_becomes_shards(tmp_path: Path) -> None:
    write_all(tmp_path / "raw")
    store = Store(tmp_path / "home")
    infos = convert(
        SOURCE, SOURCE.plan(Raw(tmp_path / "raw")), store, ConversionOptions("a test", workers=2), ProgressReporter()
    )
    assert [(info.split, info.num_people, info.num_images) for info in infos] == [("train", 15, 5), ("val", 15, 5)]
    sample = Shard(store.shard("agora", "val")).read(4)
    assert sample.photo_px == SIZE
    assert np.abs(joints(sample)[:45] - sample.keypoints3d[:, :3]).max() < 2e-5
