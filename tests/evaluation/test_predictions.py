"""Predictions from files of any system, scored like a model's."""

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command import hmrb, refused
from conftest import machine, person, source, write_shard
from test_evaluate import scores_of, truth

from hmrb.batch import Batch, Prediction
from hmrb.body import load_body
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.predictions import Predictions, read_predictions
from hmrb.evaluation.saving import save_scores
from hmrb.store import Store

TURN = np.array([0.3, 0.0, 0.1], np.float32)


def off(batch: Batch) -> Prediction:
    """The truth with one elbow bent."""
    right = truth(batch)
    rotmats = right.rotmats.clone()
    from hmrb.geometry import rotvec_to_rotmat

    rotmats[:, 18] = rotmats[:, 18] @ rotvec_to_rotmat(torch.from_numpy(TURN))
    return Prediction(rotmats, right.betas, right.camera)


def judged(store: Store, found: Predictions) -> Scores:
    return scores_of(store, predictor=found.predictor, mean=found.mean())


@pytest.fixture
def shard(tiny_store: Store) -> Shard:
    return Shard(tiny_store.shard("synthetic", "test"))


def poses(store: Store) -> tuple[np.ndarray, np.ndarray]:
    """The predictions of `off` in axis-angle."""
    import cv2

    rotmats = scores_of(store, off).rotmats
    flat = [cv2.Rodrigues(matrix.astype(np.float64))[0][:, 0] for matrix in rotmats.reshape(-1, 3, 3)]
    return np.array(flat, np.float32).reshape(-1, 72), scores_of(store, off).betas.astype(np.float32)


def test_a_result_is_scored_again_without_its_model(tiny_store: Store, shard: Shard, tmp_path: Path) -> None:
    before = scores_of(tiny_store, off)
    save_scores(before, tmp_path / "eval", source(), machine())
    again = judged(tiny_store, read_predictions(tmp_path / "eval" / "synthetic_samples.h5", shard))
    for name, errors in before.errors.items():
        np.testing.assert_array_equal(again.errors[name], errors)


@pytest.mark.parametrize("kind", ["order", "names", "matrices", "two parts", "pickle"])
def test_files_of_other_systems(kind: str, tiny_store: Store, shard: Shard, tmp_path: Path) -> None:
    before, (pose, betas) = scores_of(tiny_store, off), poses(tiny_store)
    table = {"pose": pose, "betas": betas}
    if kind == "names":
        order = np.random.default_rng(0).permutation(len(pose))
        names = np.array([shard.name(row) for row in range(len(shard))])
        table = {"pose": pose[order], "shape": betas[order], "imgname": names[order]}
    if kind == "matrices":
        table["pose"] = before.rotmats.astype(np.float32)
    if kind == "two parts":
        table = {"global_orient": pose[:, :3], "body_pose": pose[:, 3:], "betas": betas}
    path = tmp_path / ("theirs.pkl" if kind == "pickle" else "theirs.npz")
    if kind == "pickle":
        path.write_bytes(pickle.dumps(table))
    else:
        np.savez(path, **table)
    again = judged(tiny_store, read_predictions(path, shard))
    np.testing.assert_allclose(again.errors["mpjpe"], before.errors["mpjpe"], atol=2e-2)  # axis-angles in fp32
    assert before.errors["mpjpe"].min() > 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"pose": None}, "found none of rotmats, pose, poses"),
        ({"betas": None}, "found none of betas, shape"),
        (
            {"pose": np.zeros((7, 66), np.float32)},
            "poses have 66 values, expected 72 for SMPL, or 216 as rotation matrices",
        ),
        ({"betas": np.zeros((7, 300), np.float32)}, r"shape has shape \(7, 300\), expected \(7, 10\) for 7 poses"),
        ({"pose": np.full((7, 72), np.nan, np.float32)}, "contains values that are not finite"),
        ({"row": np.arange(7) + 1}, "its rows do not match synthetic_test.h5"),
        ({"row": np.arange(7) // 2}, "more than one prediction for '0'"),
        ({"imgname": np.array(["person/000"] * 7)}, "more than one prediction for 'person/000'; provide one per"),
        ({"imgname": np.array(["person/000"] * 6)}, "6 names for 7 predictions"),
        ({"pose": None, "joints": np.zeros((7, 17, 2))}, r"joints have shape \(7, 17, 2\)"),
        ({"pose": None, "joints": 1000 * np.eye(17, 3)[None].repeat(7, 0)}, "Are they in millimetres?"),
        ({"pose": None, "vertices": np.zeros((5, 6, 3)), "joints": np.zeros((7, 17, 3))}, "7 joints, 5 vertices"),
        ({"pose": np.zeros((3, 72), np.float32), "betas": np.zeros((3, 10), np.float32)}, "3 predictions for the 7"),
    ],
)
def test_a_file_that_does_not_fit_is_refused(change: dict, said: str, shard: Shard, tmp_path: Path) -> None:
    table = {"pose": np.zeros((7, 72), np.float32), "betas": np.zeros((7, 10), np.float32)} | change
    np.savez(tmp_path / "a.npz", **{key: value for key, value in table.items() if value is not None})
    with pytest.raises(RequestError, match=said):
        read_predictions(tmp_path / "a.npz", shard)


def test_a_person_without_a_prediction_is_named(tiny_store: Store, shard: Shard, tmp_path: Path) -> None:
    names = np.array([shard.name(row) for row in range(6)])
    np.savez(tmp_path / "a.npz", pose=np.zeros((6, 72)), betas=np.zeros((6, 10)), imgname=names)
    said = "no prediction for 1 of the people to score, the first in row 6 of the shard"
    with pytest.raises(RequestError, match=said):
        judged(tiny_store, read_predictions(tmp_path / "a.npz", shard))


def test_the_command_writes_records_and_refuses_code(tiny_store: Store, tmp_path: Path) -> None:
    pose, betas = poses(tiny_store)
    np.savez(tmp_path / "theirs.npz", pose=pose, betas=betas)
    done = hmrb(
        "eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "synthetic", home=tiny_store.root
    )
    assert done.returncode == 0, done.stderr
    assert "PA-MPJPE" in done.stdout
    assert (tmp_path / "theirs" / "eval" / "synthetic.json").exists()
    (tmp_path / "bomb.pkl").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    bomb = hmrb("eval", "--from-predictions", str(tmp_path / "bomb.pkl"), "synthetic", home=tiny_store.root)
    refused(bomb, "no code from the file was run")


@pytest.mark.parametrize("given", ["joints", "vertices", "both"])
def test_joints_and_vertices_are_judged_as_far_as_they_go(
    given: str, tiny_store: Store, shard: Shard, tmp_path: Path
) -> None:
    before, body = scores_of(tiny_store, off), load_body("open")
    with torch.no_grad():
        mesh = body(torch.from_numpy(before.rotmats), torch.from_numpy(before.betas))
    parts = {"joints": body.joints(mesh, "h36m17").numpy(), "vertices": mesh.vertices.numpy()}
    np.savez(tmp_path / "a.npz", **{key: part + 0.5 for key, part in parts.items() if given in (key, "both")})
    again = judged(tiny_store, read_predictions(tmp_path / "a.npz", shard))
    mesh_metrics = {"pve", "pa_pve"} if given != "joints" else set()
    assert set(again.errors) == set(before.errors) - {"mpjae", "pa_mpjae", "pve", "pa_pve"} | mesh_metrics
    assert set(again.left_out) == set(before.errors) - set(again.errors)
    for name, errors in again.errors.items():
        np.testing.assert_allclose(
            errors, before.errors[name], atol=0.01, err_msg=name
        )  # mm; float32 error half a metre away from the origin


def test_the_mean_of_predicted_rotations_is_a_rotation() -> None:
    """That of turns by 0.7 to either side is no turn; their mean as matrices has a determinant below 0.6."""
    from hmrb.geometry import rotvec_to_rotmat

    turns = torch.tensor([[0, 0, 0.7], [0, 0, -0.7]])[:, None].repeat(1, 24, 1)
    parts = {"rotmats": rotvec_to_rotmat(turns), "betas": torch.tensor([[1.0], [3.0]]).repeat(1, 10)}
    parts["camera"] = torch.tensor([[1.0, 0, 0], [0.5, 0.2, 0]])
    mean = Predictions({key: part.numpy() for key, part in parts.items()}, np.arange(2), "made up").mean()
    assert isinstance(mean, Prediction)
    torch.testing.assert_close(mean.rotmats, torch.eye(3).repeat(1, 24, 1, 1), rtol=0, atol=1e-6)  # float32
    torch.testing.assert_close(mean.betas, torch.full((1, 10), 2.0))
    torch.testing.assert_close(mean.camera, torch.tensor([[0.75, 0.1, 0]]))


def test_joints_of_another_skeleton_are_refused(tiny_store: Store, shard: Shard, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", joints=np.zeros((7, 25, 3)))
    with pytest.raises(
        RequestError, match="needs the 17 joints of h36m17 including its root pelvis_extra; .* have 25 joints"
    ):
        judged(tiny_store, read_predictions(tmp_path / "a.npz", shard))


def flat_store(store: Store) -> Store:
    """The store with a benchmark of marked points, of which bodies need a camera."""
    write_shard(store.shard("coco", "val"), [person(i) for i in range(5)], "coco", "val")
    return store


CAMERA = np.tile([0.9, 0.1, 0.0], (5, 1))


@pytest.mark.parametrize("name", ["camera", "cam", "pred_cam", "pred_camera", "weak_perspective_camera"])
def test_a_camera_is_read_by_its_usual_names(name: str, tiny_store: Store, tmp_path: Path) -> None:
    shard = Shard(flat_store(tiny_store).shard("coco", "val"))
    np.savez(tmp_path / "a.npz", pose=np.zeros((5, 72)), betas=np.zeros((5, 10)), **{name: CAMERA})
    found = read_predictions(tmp_path / "a.npz", shard)
    assert found.has_camera
    np.testing.assert_allclose(found.parts["camera"], CAMERA)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "coco_val projects bodies with their camera, but these predictions are bodies without one; add camera or"),
        ({"cam": np.zeros((5, 3, 3))}, "bodies without one"),
        ({"cam": -CAMERA}, "most scales of the camera are not positive"),
        ({"joints": np.random.default_rng(0).normal(0, 0.3, (5, 54, 3))}, "are points without one"),
    ],
)
def test_marked_points_need_a_camera_before_anything_is_scored(
    given: dict[str, np.ndarray], said: str, tiny_store: Store, tmp_path: Path
) -> None:
    flat_store(tiny_store)
    names = np.array([f"person/{i:03d}" for i in range(5)])
    bodies = {} if "joints" in given else {"pose": np.zeros((5, 72)), "betas": np.zeros((5, 10))}
    np.savez(tmp_path / "theirs.npz", imgname=names, **bodies, **given)
    words = ("eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "coco_val", "--out")
    refused(hmrb(*words, str(tmp_path / "out"), home=tiny_store.root), *said.split("; "))
    assert not (tmp_path / "out").exists()


def test_a_record_has_no_camera_that_nobody_predicted(tiny_store: Store, tmp_path: Path) -> None:
    pose, betas = poses(tiny_store)
    np.savez(tmp_path / "theirs.npz", pose=pose, betas=betas)
    words = ("eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "synthetic")
    assert hmrb(*words, home=tiny_store.root).returncode == 0
    with h5py.File(tmp_path / "theirs" / "eval" / "synthetic_samples.h5") as file:
        assert "camera" not in file
        assert "rotmats" in file


def test_the_worst_are_drawn_of_bodies_with_a_camera_only(tiny_store: Store, tmp_path: Path) -> None:
    words = ("--bench", "synthetic", "--worst", "2", "--out", str(tmp_path / "out"))
    np.savez(tmp_path / "points.npz", joints=np.random.default_rng(0).normal(0, 0.3, (7, 17, 3)))
    np.savez(tmp_path / "bodies.npz", pose=np.zeros((7, 72)), betas=np.zeros((7, 10)))
    for name, said in (("points", "joints or vertices only"), ("bodies", "bodies.npz has none (camera, pred_cam")):
        done = hmrb("eval", "--from-predictions", str(tmp_path / f"{name}.npz"), *words, home=tiny_store.root)
        refused(done, "--worst", said)
        assert not (tmp_path / "out").exists()


def test_every_benchmark_is_checked_before_the_first_is_scored(tiny_store: Store, tmp_path: Path) -> None:
    pose, betas = poses(tiny_store)
    names = np.array([f"person/{i:03d}" for i in range(7)])
    np.savez(tmp_path / "theirs.npz", pose=pose, betas=betas, imgname=names)
    words = ("eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "synthetic", "synthetic-val")
    refused(hmrb(*words, home=tiny_store.root), "7 rows, but the benchmark's shard has 6 people")
    refused(hmrb(*words, "--by", "shoes", home=tiny_store.root), "--by shoes")
    assert not (tmp_path / "theirs").exists()
    refused(hmrb(*words[:2], "nofile.npz", "--bench", "3dpw", home=tiny_store.root), "nofile.npz: predictions: no such")


def test_vertices_of_another_body_are_refused(tiny_store: Store, shard: Shard, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", vertices=np.random.default_rng(0).normal(0, 0.3, (7, 6890, 3)))
    with pytest.raises(RequestError, match="needs the 6846 vertices of body 'open'; the predictions have 6890"):
        judged(tiny_store, read_predictions(tmp_path / "a.npz", shard))
