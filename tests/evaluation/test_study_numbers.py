"""Reproduce the study's numbers for eight people with the command line: convert its file, score its predictions.

The numbers were recorded with random bodies that are too large to store. tests/goldens contains an exact reduction for
their H36M joints: for each joint and bone one vertex, the weighted mean of the vertices that the regressor uses from
that bone, and the joints of the skeleton. Six of the seven numbers follow from it. The seventh, PVE, needs every
vertex, but only in the poses of the eight people and of their predictions. tests/goldens contains each vertex's offset
in these poses before skinning, and the test builds blend shapes that produce these offsets. If $HMRB_REFERENCE_BODY
names the folder of the original bodies, the test uses them for all seven numbers.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from command import hmrb
from conftest import GOLDENS, PARENTS, golden

from hmrb.data.shard import Shard
from hmrb.formats.npz import Npz
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import GENDERS
from hmrb.store import Store

NUM_VERTICES = 6890
FIGURES = {
    "mpjpe": "mpjpe", "pa_mpjpe": "pa-mpjpe", "pck3d": "3dpck", "pa_pck3d": "pa-3dpck", "auc": "3dauc",
    "pa_auc": "pa-3dauc", "pve_study": "pve",
}  # fmt: skip


def small_body(gender: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A body in SMPL format with the recorded body's H36M joints in every pose, and its regressor."""
    kept = golden(f"4b_body_{gender}")
    count, skeleton = len(kept["bone"]), slice(len(kept["bone"]), len(kept["bone"]) + 24)
    members = {
        "v_template": np.zeros((NUM_VERTICES, 3), np.float32),
        "shapedirs": np.zeros((NUM_VERTICES, 3, 10), np.float32),
        "posedirs": np.zeros((NUM_VERTICES, 3, 207), np.float32),
        "weights": np.zeros((NUM_VERTICES, 24), np.float32),
        "J_regressor": np.zeros((24, NUM_VERTICES), np.float32),
        "kintree_table": np.array([PARENTS, range(24)]),
        "f": np.zeros((1, 3), np.int64),
    }
    for name, vertices, joints in (("v_template", "template", "joints"), ("shapedirs",) * 2 + ("joint_shapedirs",)):
        members[name][:count], members[name][skeleton] = kept[vertices], kept[joints]
    members["posedirs"][:count] = kept["posedirs"]
    members["weights"][:, 0] = 1
    members["weights"][:count] = np.eye(24)[kept["bone"]]
    members["J_regressor"][range(24), range(count, count + 24)] = 1
    regressor = np.zeros((17, NUM_VERTICES), np.float32)
    regressor[kept["joint"], range(count)] = kept["share"]
    return members, regressor


def small_bodies(folder: Path) -> None:
    folder.mkdir(parents=True)
    for gender in ("neutral", "male", "female"):
        members, regressor = small_body(gender)
        np.savez(folder / f"SMPL_{gender.upper()}.npz", **members)
    np.save(folder / "J_regressor_h36m.npy", regressor)
    np.save(folder / "J_regressor_extra.npy", np.eye(9, NUM_VERTICES, dtype=np.float32))


def whole_body(gender: str, poses: np.ndarray, betas: np.ndarray) -> dict[str, np.ndarray]:
    """A body in SMPL format that equals the recorded body only in these poses and shapes.

    `poses` (N, 24, 3, 3), `betas` (N, 10). The shape blend shapes reproduce the joints. The pose blend shapes, which
    can distinguish the N poses, add the remaining vertex offsets.
    """
    kept = golden(f"4b_whole_body_{gender}")
    regressor = np.zeros((24, NUM_VERTICES))
    regressor[kept["regressor_row"], kept["regressor_column"]] = kept["regressor_value"]
    shapedirs = np.tensordot(np.linalg.pinv(regressor), kept["joint_shapedirs"].astype(np.float64), 1)
    left = kept["moved"] - np.einsum("vcs,ns->nvc", shapedirs, betas)
    bends = (poses[:, 1:] - np.eye(3)).reshape(len(poses), -1)
    posedirs = (np.linalg.pinv(bends) @ left.reshape(len(poses), -1)).reshape(-1, NUM_VERTICES, 3)
    weights = np.zeros((NUM_VERTICES, 24), np.float32)
    np.put_along_axis(weights, kept["bone"].astype(np.int64), kept["weight"], 1)
    return {
        "v_template": kept["template"],
        "shapedirs": shapedirs.astype(np.float32),
        "posedirs": posedirs.transpose(1, 2, 0).astype(np.float32),
        "weights": weights,
        "J_regressor": regressor.astype(np.float32),
        "kintree_table": np.array([PARENTS, range(24)]),
        "f": np.zeros((1, 3), np.int64),
    }


def whole_bodies(folder: Path, truth: Shard, study: dict[str, np.ndarray]) -> None:
    """Replace the small bodies of both genders by whole bodies."""
    rotmats = rotvec_to_rotmat(torch.from_numpy(np.array(truth.arrays["pose"]))).numpy()
    for number, gender in enumerate(GENDERS[1:], 1):
        rows = truth.arrays["gender"][:] == number
        poses = np.concatenate([rotmats[rows], study["pred_pose"][rows]]).astype(np.float64)
        betas = np.concatenate([truth.arrays["betas"][:][rows], study["pred_betas"][rows]])
        np.savez(folder / f"SMPL_{gender.upper()}.npz", **whole_body(gender, poses, betas))


def test_the_command_line_gives_the_study_s_figures(tmp_path: Path) -> None:
    store, whole = Store(tmp_path / "home"), os.environ.get("HMRB_REFERENCE_BODY")
    if whole:
        store.bodies.mkdir(parents=True)
        (store.bodies / "smpl").symlink_to(whole)
    else:
        small_bodies(store.bodies / "smpl")
    packed = GOLDENS / "4b_pw3d_mini_humandata.npz"
    with Npz(packed) as file:
        names = [str(name) for name in file.read("image_path")]
    for name in names:  # the numbers do not depend on images
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((240, 320, 3), np.uint8))
    made = hmrb(
        "convert-data", "humandata", "--file", str(packed), "--images", str(tmp_path / "images"), "--as", "3dpw",
        "--allow-missing", "8",  # made-up keypoints, most of them outside their made-up pictures
        "--split", "test", home=store.root,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    study = golden("4b_evaluate_pw3d_mini")
    np.savez(tmp_path / "theirs.npz", rotmats=study["pred_pose"], betas=study["pred_betas"], imgname=np.array(names))

    def same(*metrics: str) -> None:
        done = hmrb(
            "eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "3dpw/study", "--metrics", *metrics,
            "--json", home=store.root,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        (record,) = json.loads(done.stdout)
        assert tuple(record["metrics"]) == metrics
        for name in metrics:
            value = record["metrics"][name]["value"]
            assert value == pytest.approx(float(study[f"metric.{FIGURES[name]}"]), abs=1e-3), name

    if whole:
        same(*FIGURES)
    else:
        same(*(name for name in FIGURES if name != "pve_study"))
        whole_bodies(store.bodies / "smpl", Shard(store.shard("3dpw", "test")), study)
        same("pve_study")
