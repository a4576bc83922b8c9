"""Predictions of another unit or format than their shape says are refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from hmrb.bodykind import SMPL_KIND
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.plausible import METRES, check_angles, check_betas, check_metres, check_rotations
from hmrb.evaluation.predictions import read_predictions
from hmrb.geometry import rotvec_to_rotmat
from hmrb.store import Store

FILE = Path("theirs.npz")


def rotations(dtype: torch.dtype = torch.float32) -> np.ndarray:
    rotvecs = torch.randn(40, 24, 3, generator=torch.Generator().manual_seed(0))
    return rotvec_to_rotmat(rotvecs).to(dtype).float().numpy()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rotations_of_any_precision_pass(dtype: torch.dtype) -> None:
    check_rotations(FILE, rotations(dtype), SMPL_KIND)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda r: 2 * r,
            r"960 of 960 matrices are no rotations, the first in row 0, joint 0 \(.*\): .* times 2 \(det",
        ),
        (lambda r: 1.01 * r, "a rotation times 1.01"),
        (lambda r: -r, "its determinant is -1, so it mirrors"),
        (lambda r: -2 * r, "times 2, and mirrored"),
        (lambda r: r * (1, 1, -1), "its determinant is -1, so it mirrors"),
        (lambda r: np.random.default_rng(0).normal(size=r.shape).astype(np.float32), "its columns are not orthonormal"),
        (lambda r: 0 * r, r"its columns are not orthonormal \(determinant 0\)"),
    ],
)
def test_matrices_that_are_no_rotations_are_refused(change: object, said: str) -> None:
    assert callable(change)
    with pytest.raises(RequestError, match=said):
        check_rotations(FILE, np.asarray(change(rotations()), np.float32), SMPL_KIND)


def test_a_single_wrong_matrix_is_named() -> None:
    matrices = rotations()
    matrices[5, 4] *= 1.02
    with pytest.raises(
        RequestError, match=r"1 of 960 matrices are no rotations, the first in row 5, joint 4 \(left_kn"
    ):
        check_rotations(FILE, matrices, SMPL_KIND)
    matrices[5, 4] /= 1.0175  # 0.0025 too long, so that squares are 0.005 off
    check_rotations(FILE, matrices, SMPL_KIND)


def test_poses_in_degrees_are_refused() -> None:
    poses = np.random.default_rng(0).normal(0, 0.3, (50, 24, 3))
    poses[:, 0] += (np.pi, 0, 0)
    check_angles(FILE, poses)
    with pytest.raises(
        RequestError, match=r"of the axis-angles are longer than a whole turn .* in row 0, joint 0.*degree"
    ):
        check_angles(FILE, np.degrees(poses))
    upright = np.zeros((50, 24, 3))
    upright[:, 0, 0] = 178.0
    with pytest.raises(RequestError, match="Are they in degrees"):
        check_angles(FILE, upright)
    poses[:5, 1:] *= 30  # a few odd people
    check_angles(FILE, poses)


def test_shapes_that_nobody_has_are_refused() -> None:
    betas = np.zeros((4, 10))
    betas[2, 3] = -50
    check_betas(FILE, betas)
    betas[2, 3] = -50.1
    with pytest.raises(RequestError, match="the shape of row 2 has -50.1 as value 3; betas are between -50 and 50"):
        check_betas(FILE, betas)


def spanning(diagonal: float, people: int = 9) -> np.ndarray:
    """People whose points' box has this diagonal."""
    return np.tile(np.linspace(0, diagonal / np.sqrt(3), 17)[:, None].repeat(3, 1), (people, 1, 1))


@pytest.mark.parametrize(
    ("factor", "said"), [(10, "decimetres"), (100, "centimetres"), (1000, "millimetres"), (0.001, "normalised")]
)
@pytest.mark.parametrize("what", ["joints", "vertices"])
def test_points_of_another_unit_are_refused(what: str, factor: float, said: str) -> None:
    for metres in (0.9, 1.7, 2.4):
        check_metres(FILE, what, spanning(metres))
        with pytest.raises(RequestError, match=rf"the median person's {what} span .* metres it is 0.25 to 4. .*{said}"):
            check_metres(FILE, what, factor * spanning(metres))


def test_both_limits_of_metres() -> None:
    low, high = METRES
    for good, bad in ((low * 1.001, low * 0.999), (high * 0.999, high * 1.001)):
        check_metres(FILE, "joints", spanning(good))
        with pytest.raises(RequestError, match="in metres it is"):
            check_metres(FILE, "joints", spanning(bad))


def test_a_few_odd_people_and_single_places_pass() -> None:
    points = spanning(1.7)
    points[:4] *= 1000
    check_metres(FILE, "joints", points)
    check_metres(FILE, "joints", np.zeros((5, 17, 3)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"rotmats": 2 * np.tile(np.eye(3), (7, 24, 1, 1))}, "no rotations"),
        ({"pose": np.full((7, 72), 90.0)}, "degrees"),
        ({"pose": np.zeros((7, 144))}, "144 values, which are 6D rotations; .* save rotation matrices"),
        ({"pose": np.zeros((7, 72)), "betas": np.full((7, 10), 300.0)}, "betas are between"),
        ({"joints": 100 * spanning(1.7, 7)}, "Are they in centimetres"),
        ({"vertices": 100 * spanning(1.7, 7)}, "Are they in centimetres"),
    ],
)
def test_files_are_looked_through(change: dict[str, np.ndarray], said: str, tiny_store: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **{"betas": np.zeros((7, 10))} | change)
    with pytest.raises(RequestError, match=said):
        read_predictions(tmp_path / "a.npz", Shard(tiny_store.shard("synthetic", "test")))
