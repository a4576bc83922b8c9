"""PARE's losses on maps of parts, and the maps that they compare with."""

from dataclasses import replace
from functools import cache
from math import pi
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL, Mesh, load_body
from hmrb.body.part_maps import PartMaps
from hmrb.check import name_problems
from hmrb.errors import RunError
from hmrb.geometry import fit_weak_camera, project, rotvec_to_rotmat
from hmrb.models.part_attention import PartAttentionHead
from hmrb.spec import LossTerm, parse_experiment
from hmrb.training.loss_terms import LabelCounts, count_labels
from hmrb.training.losses import Losses

SIZE, CELLS = 112, (28, 28)
DISTANCES = {"parts": "cross_entropy", "part_heatmaps": "mse", "part_points": "l1"}


@cache
def body() -> SMPL:
    return load_body("open")


@cache
def people(count: int = 3) -> tuple[Mesh, Batch, Tensor]:
    """Posed people upright before the camera, labels that fit them, and the camera of the labels."""
    rng = torch.Generator().manual_seed(0)
    pose = 0.3 * torch.randn(count, 24, 3, generator=rng)
    pose[:, 0] = torch.tensor([pi, 0, 0])
    rotmats, betas = rotvec_to_rotmat(pose), torch.randn(count, 10, generator=rng)
    camera = torch.tensor([[0.9, 0.05, 0.2]]).repeat(count, 1)
    mesh = body()(rotmats, betas)
    pixels = project(body().joints(mesh, "smpl54"), camera, SIZE) + (SIZE - 1) / 2
    points = torch.cat([pixels, torch.ones(count, 54, 1)], 2)
    batch = Batch(
        torch.zeros(count, 3, SIZE, SIZE), points, torch.zeros(count, 54, 4), rotmats, betas,
        torch.ones(count, dtype=torch.bool), torch.arange(count),
    )  # fmt: skip
    return mesh, batch, camera


def taken(scores: Tensor, batch: Batch, **terms: Any) -> dict[str, Tensor]:
    prediction = Prediction(batch.rotmats, batch.betas, torch.tensor([[0.9, 0, 0]]).repeat(len(batch.row), 1))
    losses = Losses({name: LossTerm(distance=DISTANCES[name], weight=1, **terms) for name in DISTANCES}, body())
    return losses(replace(prediction, parts=scores), batch, LabelCounts.mean_of(count_labels(batch), 1))


def labels(cells: tuple[int, int] = CELLS) -> Tensor:
    mesh, _, camera = people()
    return PartMaps(body())(mesh, camera, SIZE, cells)


def test_parts_are_where_the_body_has_them() -> None:
    """Around each joint that is not hidden, its own part or a neighbour's."""
    mesh, _, camera = people()
    drawn = labels((56, 56))
    assert drawn.unique().tolist() == sorted({0, *drawn.unique().tolist()})
    assert len(drawn.unique()) > 20
    at = (project(mesh.chain, camera, SIZE) / 2 + 27.5).round().long()
    parents = body().parents
    for joint in (4, 5, 15, 18, 19):  # knees, head, elbows
        for person in range(3):
            column, row = at[person, joint].tolist()
            found = int(drawn[person, row, column]) - 1
            assert found in {joint, int(parents[joint]), *np.flatnonzero(parents == joint).tolist()}
    share = (drawn > 0).float().mean()
    assert 0.05 < share < 0.25


@pytest.mark.parametrize("cells", [(56, 56), (28, 28), (16, 12), (4, 4)])
@pytest.mark.parametrize("scale", [0.9, 1.5])
def test_a_gpu_s_way_draws_what_the_renderer_draws(cells: tuple[int, int], scale: float) -> None:
    mesh, _, _ = people()
    camera = torch.tensor([[scale, 0.05, 0.2]]).repeat(3, 1)
    maps = PartMaps(body())
    middle = torch.tensor([cells[1] - 1, cells[0] - 1]) / 2
    flat = project(mesh.vertices, camera, SIZE) * (cells[0] / SIZE) + middle
    one = maps.drawn_at_once(flat, mesh.vertices[..., 2], 8, cells)
    assert (one == maps(mesh, camera, SIZE, cells)).float().mean() > 0.999
    assert one.any()


def test_people_larger_than_the_crop_are_drawn_in_larger_cells() -> None:
    mesh, _, _ = people()
    camera, cells = torch.tensor([[2.5, 0.05, 0.2]]).repeat(3, 1), (56, 56)
    maps = PartMaps(body())
    flat = project(mesh.vertices, camera, SIZE) * (56 / SIZE) + 27.5
    one, two = maps.drawn_at_once(flat, mesh.vertices[..., 2], 8, cells), maps(mesh, camera, SIZE, cells)
    assert (one > 0).float().mean() > 0.3
    assert (one == two).float().mean() > 0.9


def test_a_tall_map_shows_the_crop_s_middle_columns() -> None:
    assert torch.equal(labels((16, 12)), labels((16, 16))[:, :, 2:14])


def test_the_camera_of_labels_is_found() -> None:
    mesh, batch, camera = people()
    points = body().joints(mesh, "smpl54")
    weights = batch.keypoints2d[..., 2].clone()
    weights[:, 10:] = 0
    found = fit_weak_camera(points, batch.keypoints2d[..., :2] - (SIZE - 1) / 2, weights, SIZE)
    torch.testing.assert_close(found, camera, atol=2e-3, rtol=0)
    turned = fit_weak_camera(-points, batch.keypoints2d[..., :2] - (SIZE - 1) / 2, weights, SIZE)
    assert (turned[:, 0] < 0).all()


def test_cross_entropy_is_that_of_the_rendered_parts() -> None:
    _, batch, _ = people()
    scores = torch.randn(3, 25, *CELLS, generator=torch.Generator().manual_seed(1))
    expected = torch.nn.functional.cross_entropy(scores, labels())
    assert float(taken(scores, batch)["parts"]) == pytest.approx(float(expected), rel=2e-2)  # the camera is fitted
    sure = 50 * torch.nn.functional.one_hot(labels(), 25).permute(0, 3, 1, 2).float()
    assert taken(sure, batch)["parts"] < 0.1 * taken(-sure, batch)["parts"]


def test_heat_maps_and_points_cost_nothing_where_they_are_right() -> None:
    mesh, batch, camera = people()
    joints = project(mesh.chain, camera, SIZE) / 4 + 13.5
    at = torch.stack(torch.meshgrid(torch.arange(28), torch.arange(28), indexing="xy"), -1)
    away = (at - joints[:, :, None, None]).square().sum(-1)
    scores = torch.cat([torch.zeros(3, 1, *CELLS), -2 * away], 1)  # bells about the joints
    assert taken(scores, batch)["part_points"] < 0.01
    assert taken(scores.roll(4, 3), batch)["part_points"] > 0.1
    to_cell = (at - joints.round()[:, :, None, None]).square().sum(-1)
    bells = torch.cat([torch.zeros(3, 1, *CELLS), torch.exp(-to_cell / 2)], 1)
    assert taken(bells, batch)["part_heatmaps"] < 1e-4
    assert taken(bells.roll(1, 2), batch)["part_heatmaps"] > 1e-3


@pytest.mark.parametrize("name", DISTANCES)
def test_only_people_with_a_body_and_points_to_place_it_pull(name: str) -> None:
    _, batch, _ = people()
    points = batch.keypoints2d.clone()
    points[1, 3:, 2] = 0  # three points are too few
    batch = replace(batch, keypoints2d=points, has_body=torch.tensor([True, True, False]))
    scores = torch.randn(3, 25, *CELLS, generator=torch.Generator().manual_seed(1)).requires_grad_()
    taken(scores, batch)[name].backward()
    pulled = scores.grad.abs().sum((1, 2, 3))
    assert pulled[0] > 0
    assert pulled[1:].tolist() == [0, 0]


@pytest.mark.parametrize("name", DISTANCES)
def test_a_term_s_gradient_is_its_slope_and_none_is_left_without_labels(name: str) -> None:
    _, batch, _ = people()
    scores = torch.randn(3, 25, *CELLS, generator=torch.Generator().manual_seed(1)).double()
    way = torch.randn(scores.shape, generator=torch.Generator().manual_seed(2)).double()
    leaf = scores.clone().requires_grad_()
    taken(leaf, batch)[name].backward()
    ahead, behind = (taken(scores + sign * 1e-6 * way, batch)[name] for sign in (1, -1))
    torch.testing.assert_close((leaf.grad * way).sum(), (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-7)
    none = taken(leaf, replace(batch, has_body=torch.zeros(3, dtype=torch.bool)))[name]
    none.backward()
    assert none == 0


def test_a_head_s_parts_are_there_in_training_alone() -> None:
    head, cells = PartAttentionHead(8, 6, 4), torch.randn(2, 8, 5, 5)
    assert head(cells).parts.shape == (2, 25, 5, 5)
    assert head.eval()(cells).parts is None


def test_the_network_gets_the_gradient_of_its_parts() -> None:
    head, cells = PartAttentionHead(8, 6, 4), torch.randn(2, 8, 5, 5)
    output = head(cells)
    leaves = output.detached()
    (leaves.rotmats.sum() + leaves.parts.square().sum()).backward()
    torch.autograd.backward(*output.pulled_by(leaves))
    assert head.keypoint_final_layer.weight.grad[0].abs().sum() > 0  # the background, which no pose reads
    again = head(cells)
    leaves = again.detached()
    leaves.betas.sum().backward()
    assert len(again.pulled_by(leaves)[0]) == 3


def test_a_head_without_parts_is_named() -> None:
    _, batch, _ = people()
    with pytest.raises(RunError, match="the head returns no parts"):
        taken(None, batch)


@pytest.mark.parametrize(
    ("losses", "head", "said"),
    [
        ({"parts": {"distance": "cross_entropy", "weight": 1}}, "iterative", "head iterative makes no maps of parts"),
        ({"parts": {"distance": "mse", "weight": 1}}, "part_attention", "distance: expected cross_entropy, got mse"),
        ({"pose": {"distance": "cross_entropy", "weight": 1}}, "iterative", "expected l1, mse or smooth_l1, got cross"),
    ],
)
def test_losses_that_do_not_fit_are_refused(losses: dict[str, Any], head: str, said: str) -> None:
    model = {"head": {"name": head}, "weights": "none", "backbone": "mini"}
    tree = {"name": "a", "body": "open", "data": {"mix": {"synthetic": 1.0}}, "model": model, "losses": losses}
    problems = name_problems(parse_experiment(tree, "a.yaml"))
    assert any(said in problem for problem in problems), problems
