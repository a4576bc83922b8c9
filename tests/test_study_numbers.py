"""The study's own numbers for eight people, out of the command line: its file converted, its predictions judged.

The bodies that the numbers were recorded with are random and too large to keep. tests/goldens has what their H36M
joints are made of, exactly: for each joint and bone one vertex, the weighted mean of those that the regressor takes
from that bone; and the joints of the skeleton. So six of the seven numbers are had from small files; the seventh, PVE,
needs every vertex: $HMRB_REFERENCE_BODY names the folder with the whole bodies, and the test then asks for all seven.
"""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import GOLDENS, PARENTS, golden
from test_cli import hmrb

from hmrb.npz import Npz
from hmrb.store import Store

NUM_VERTICES = 6890
FIGURES = {
    "mpjpe": "mpjpe", "pa_mpjpe": "pa-mpjpe", "pck3d": "3dpck", "pa_pck3d": "pa-3dpck", "auc": "3dauc",
    "pa_auc": "pa-3dauc", "pve_study": "pve",
}  # fmt: skip


def small_body(gender: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A body in SMPL's format whose H36M joints are the recorded body's in every pose, and their regressor."""
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
    for name in names:  # no number depends on a picture
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((240, 320, 3), np.uint8))
    made = hmrb(
        "convert-data", "humandata", "--file", str(packed), "--images", str(tmp_path / "images"), "--as", "3dpw",
        "--split", "test", home=store.root,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    study = golden("4b_evaluate_pw3d_mini")
    np.savez(tmp_path / "theirs.npz", rotmats=study["pred_pose"], betas=study["pred_betas"], imgname=np.array(names))
    asked = [name for name in FIGURES if whole or name != "pve_study"]
    done = hmrb(
        "eval", "--from-predictions", str(tmp_path / "theirs.npz"), "--bench", "3dpw/study", "--metrics", *asked,
        "--json", home=store.root,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert list(record["metrics"]) == asked
    for name in asked:
        value = record["metrics"][name]["value"]
        assert value == pytest.approx(float(study[f"metric.{FIGURES[name]}"]), abs=1e-3), name
