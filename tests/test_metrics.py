import numpy as np
import pytest
import torch
from conftest import golden

from hmrb.geometry import rotvec_to_rotmat
from hmrb.metrics import METRICS, Posed, interval95, joint_distances_mm, mpjpe, pa_mpjpe, pve


def cloud(count: int = 6, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 14, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", ["random_full", "near_planar", "mirrored", "collinear", "identical", "float32"])
def test_errors_equal_the_study(case: str) -> None:
    g = golden("4_metrics")
    pred, truth = (torch.from_numpy(g[f"{case}/{side}"]).double() / 1000 for side in ("pred", "gt"))
    pred, truth = Posed(pred, pred), Posed(truth, truth)
    mask = torch.from_numpy(g[f"{case}/mask"]).bool()
    if not mask.all():
        pytest.skip("the study averages over masked joints; protocols here have none")
    assert float(mpjpe(pred, truth).mean()) == pytest.approx(float(g[f"{case}/mpjpe"]), abs=1e-3)
    assert float(pa_mpjpe(pred, truth).mean()) == pytest.approx(float(g[f"{case}/pa_mpjpe"]), abs=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_truth_scores_zero(name: str) -> None:
    truth = Posed(cloud(), cloud(seed=1))
    assert METRICS[name](truth, truth).max() < 2e-3  # mm; float32


def test_mpjpe_is_the_length_of_a_shift() -> None:
    truth = Posed(cloud(), cloud())
    moved = Posed(truth.joints + torch.tensor([0.03, 0, 0.04]), truth.vertices + torch.tensor([0.0, 0.1, 0]))
    torch.testing.assert_close(mpjpe(moved, truth), torch.full((6,), 50.0))
    torch.testing.assert_close(pve(moved, truth), torch.full((6,), 100.0))


def test_pa_mpjpe_ignores_a_similarity() -> None:
    turn = rotvec_to_rotmat(torch.tensor([0.3, -1.0, 2.0]))
    truth = Posed(cloud(), cloud())
    assert pa_mpjpe(Posed(2 * truth.joints @ turn + 3, truth.vertices), truth).max() < 2e-2


def test_each_person_counts_alone() -> None:
    truth = cloud()
    pred = truth.clone()
    pred[2, 5] += torch.tensor([0.14, 0, 0])
    distances = joint_distances_mm(pred, truth)
    assert distances[2, 5] == pytest.approx(140, abs=1e-3)
    assert distances.sum() == pytest.approx(140, abs=1e-3)


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        low, high = interval95(rng.exponential(100, 80), seed=trial)
        held += low <= 100 <= high
    assert 0.88 <= held / 200 <= 0.99
