import math

import pytest
import torch
from conftest import golden

from hmrb.geometry import (
    align_similarity,
    nearest_rotation,
    project,
    rot6d_to_rotmat,
    rotmat_to_rot6d,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
)


def test_rotations_and_projection_equal_the_study() -> None:
    g = {key: torch.from_numpy(value) for key, value in golden("1_geometry").items()}
    exact = {"rtol": 0, "atol": 2e-6}  # float32 rounding in a few products
    torch.testing.assert_close(rot6d_to_rotmat(g["rot6d"]), g["rot6d_rotmat"], **exact)
    torch.testing.assert_close(rotvec_to_rotmat(g["aa"]), g["aa_rotmat"], **exact)
    torch.testing.assert_close(rotmat_to_rotvec(g["aa_rotmat"]), g["rotmat_aa"], **exact)
    pixels = project(g["pts3d"], g["cam"], 224)
    torch.testing.assert_close(pixels, g["project_points_f5000_224"], rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 1e-7, 1e-4, 0.5, 3.0, math.pi - 1e-4, math.pi])
def test_axis_angle_survives_the_way_to_a_matrix_and_back(angle: float) -> None:
    axis = torch.nn.functional.normalize(
        torch.randn(50, 3, generator=torch.Generator().manual_seed(0)).double(), dim=-1
    )
    matrix = rotvec_to_rotmat(axis * angle)
    torch.testing.assert_close(rotvec_to_rotmat(rotmat_to_rotvec(matrix)), matrix, rtol=0, atol=1e-6)


def test_rotation_has_a_gradient_at_no_rotation() -> None:
    rotvec = torch.zeros(2, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(rotvec_to_rotmat, rotvec)


def test_six_numbers_name_a_rotation() -> None:
    matrix = rotvec_to_rotmat(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)))
    torch.testing.assert_close(rot6d_to_rotmat(rotmat_to_rot6d(matrix)), matrix, rtol=0, atol=1e-6)


def test_alignment_undoes_any_similarity() -> None:
    rng = torch.Generator().manual_seed(2)
    cloud = torch.randn(8, 14, 3, generator=rng, dtype=torch.double)
    turn = rotvec_to_rotmat(torch.randn(8, 3, generator=rng, dtype=torch.double))
    moved = 2.5 * cloud @ turn + torch.randn(8, 1, 3, generator=rng, dtype=torch.double)
    torch.testing.assert_close(align_similarity(moved, cloud), cloud)


def test_alignment_does_not_mirror() -> None:
    cloud = torch.randn(1, 14, 3, generator=torch.Generator().manual_seed(3))
    mirrored = cloud * torch.tensor([-1.0, 1, 1])
    assert (align_similarity(mirrored, cloud) - cloud).norm(dim=-1).mean() > 0.1


def test_alignment_of_a_single_point_is_finite() -> None:
    cloud = torch.randn(1, 14, 3, generator=torch.Generator().manual_seed(4))
    aligned = align_similarity(torch.zeros(1, 14, 3), cloud)
    torch.testing.assert_close(aligned, cloud.mean(1, keepdim=True).expand_as(cloud))


def test_mean_of_opposite_turns_is_no_turn() -> None:
    turns = rotvec_to_rotmat(torch.tensor([[0.0, 0, 0.7], [0, 0, -0.7]]))
    torch.testing.assert_close(nearest_rotation(turns.mean(0)), torch.eye(3), rtol=0, atol=1e-6)
