from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
from conftest import golden

from hmrb.errors import RequestError
from hmrb.evaluation.intervals import difference, interval95
from hmrb.evaluation.metric_table import BETTER, DEGENERATE, METRIC_TABLE, MOTION, PCK2D, TITLES, UNITS
from hmrb.evaluation.metrics import (
    ANGLE_JOINTS,
    AUC_MM,
    METRICS,
    MetricPair,
    Posed,
    acceleration_error,
    degenerate,
    jitter,
    joint_distances_mm,
    measure,
    num_seen,
    pck2d,
)
from hmrb.geometry import fit_similarity, nearest_rotation, rotvec_to_rotmat

RECORDED = {
    "mpjpe": "mpjpe",
    "pa_mpjpe": "pa_mpjpe",
    "n_mpjpe": "scale_mpjpe",
    "pck3d": "3dpck",
    "pa_pck3d": "pa_3dpck",
    "auc": "3dauc",
    "pa_auc": "pa_3dauc",
}
CASES = (
    "random", "random_full", "zero_conf_rows", "near_planar", "mirrored", "collinear", "identical",
    "pred_all_one_point", "float32",
)  # fmt: skip
ALIGNED = ("mpjpe", "pve", "mpjae", "pck3d", "auc")  # metrics with a PA version


def recorded(file: str, case: str) -> tuple[dict[str, np.ndarray], Posed, Posed]:
    g = {key.removeprefix(f"{case}/"): value for key, value in golden(file).items() if key.startswith(f"{case}/")}
    pred, truth = (torch.from_numpy(g[side]) / 1000 for side in ("pred", "gt"))
    return g, Posed(pred), Posed(truth, seen=torch.from_numpy(g["mask"]))


def cloud(count: int = 6, seed: int = 0, points: int = 14) -> torch.Tensor:
    return torch.randn(count, points, 3, generator=torch.Generator().manual_seed(seed))


def person(seed: int = 0) -> Posed:
    """Six people with all inputs of metrics."""
    rotmats = rotvec_to_rotmat(cloud(seed=seed + 100, points=24))
    return Posed(
        cloud(seed=seed), cloud(seed=seed + 200, points=50), rotmats, root=cloud(seed=seed + 300, points=1)[:, 0]
    )


def moved(posed: Posed, scale: float = 1.7) -> Posed:
    """Rotate, scale and translate, including the pelvis rotation."""
    assert posed.vertices is not None
    assert posed.rotmats is not None
    turn = rotvec_to_rotmat(torch.tensor([0.3, -1.0, 2.0]))
    rotmats = posed.rotmats.clone()
    rotmats[:, 0] = turn @ rotmats[:, 0]
    joints, vertices = (scale * points @ turn.mT + 3 for points in (posed.joints, posed.vertices))
    return replace(posed, joints=joints, vertices=vertices, rotmats=rotmats)


def on_a_line(count: int, seed: int) -> torch.Tensor:
    return cloud(count, seed)[..., :1] * cloud(count, seed + 1, 1) + 0.2


NO_NUMBER = ("pred_all_one_point", "pa_mpjpe")  # the study's is NaN


@pytest.mark.parametrize(("case", "name"), [row for row in product(CASES, RECORDED) if row != NO_NUMBER])
def test_scores_equal_the_study(case: str, name: str) -> None:
    g, pred, truth = recorded("4_metrics", case)
    values = METRICS[name](pred, truth)
    mean = np.average(values.double(), weights=num_seen(truth))  # the study's mean is over the joints of all people
    assert mean == pytest.approx(float(g[RECORDED[name]]), abs=1e-3)  # mm and %; float32 metres, float32 recordings


@pytest.mark.parametrize("name", [name for name in RECORDED if name != "n_mpjpe"])
def test_scores_equal_the_evaluation_of_the_study(name: str) -> None:
    g, pred, truth = recorded("4b_evaluate_part", "mini3dpw")
    assert float(METRICS[name](pred, truth).mean()) == pytest.approx(float(g[RECORDED[name]]), abs=1e-3)


@pytest.mark.parametrize("case", [case for case in CASES if case != "pred_all_one_point"])
def test_joints_are_aligned_as_in_the_study(case: str) -> None:
    g, pred, truth = recorded("4_metrics", case)
    pair = MetricPair(pred, truth)
    close = {"atol": 1e-3, "rtol": 0.0}  # mm; float32 metres
    np.testing.assert_allclose(pair.pa_joint_mm.double(), g["pa_per_joint"], **close)
    if case != "collinear":  # the rotation about the line is arbitrary
        np.testing.assert_allclose(1000 * pair.similarity(pred.joints).double(), g["pa_aligned"], **close)
    right = (pair.pa_joint_mm < 50).numpy()[g["mask"]].mean()
    assert 100 * right == pytest.approx(float(g["pa_3dpck_thr50"]), abs=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_acceleration_errors_equal_the_study(case: str) -> None:
    g, pred, truth = recorded("4_metrics", case)
    errors = 1000 * acceleration_error(pred.joints, truth.joints, fps=1)
    np.testing.assert_allclose(errors, g["accel_nomask"], atol=2e-3 if case == "float32" else 1e-9)
    if case == "random":
        seen = torch.from_numpy(g["accel_vis"])
        errors = 1000 * acceleration_error(pred.joints, truth.joints, fps=1, seen=seen)
        np.testing.assert_allclose(errors, g["accel_masked"], atol=1e-9)


@pytest.mark.parametrize("name", METRICS)
def test_truth_has_the_best_score(name: str) -> None:
    best = {"lower": 0.0, "higher": 100 * 30 / 31 if "auc" in name else 100.0}[METRIC_TABLE[name].better]
    scores = METRICS[name](person(), person())
    torch.testing.assert_close(scores, torch.full((6,), best), atol=1e-3, rtol=0)  # mm and degrees; float32 metres
    worse = METRICS[name](person(seed=1), person())
    assert (worse < best).all() if METRIC_TABLE[name].better == "higher" else (worse > best + 1).all()


@pytest.mark.parametrize("name", ALIGNED)
def test_aligned_scores_ignore_a_similarity_and_plain_ones_do_not(name: str) -> None:
    pred, truth = person(seed=1), person()
    pred = replace(pred, joints=truth.joints + 0.05 * pred.joints)  # so that some joints are within the threshold
    plain, aligned = METRICS[name], METRICS[f"pa_{name}"]
    torch.testing.assert_close(aligned(moved(pred), truth), aligned(pred, truth), atol=2e-2, rtol=0)  # float32, 3 m off
    assert ((plain(moved(pred), truth) - plain(pred, truth)).abs() > 1).all()


def test_n_mpjpe_ignores_a_scale_alone() -> None:
    pred, truth = person(seed=1), person()
    n_mpjpe = METRICS["n_mpjpe"]
    bigger = replace(pred, joints=3 * pred.joints)
    torch.testing.assert_close(n_mpjpe(bigger, truth), n_mpjpe(pred, truth))
    assert ((n_mpjpe(moved(pred), truth) - n_mpjpe(pred, truth)).abs() > 1).all()


def test_distances_are_the_length_of_a_shift() -> None:
    truth = person()
    assert truth.vertices is not None
    assert truth.root is not None
    shifted = replace(
        truth,
        joints=truth.joints + torch.tensor([0.03, 0, 0.04]),
        vertices=truth.vertices + torch.tensor([0.0, 0.1, 0]),
        root=truth.root + torch.tensor([0.0, -0.3, 0]),
    )
    scores = measure(["mpjpe", "pve", "pve_study"], shifted, truth)
    for name, length in {"mpjpe": 50.0, "pve": 100.0, "pve_study": 200.0}.items():
        torch.testing.assert_close(scores[name], torch.full((6,), length), atol=1e-3, rtol=0)


def test_angles_are_of_limbs_in_the_camera() -> None:
    truth = person()
    assert truth.rotmats is not None
    rotmats = truth.rotmats.clone()
    rotmats[:, 1] = rotmats[:, 1] @ rotvec_to_rotmat(
        torch.tensor([0.0, 0.0, torch.pi / 3])
    )  # left hip, which also turns its knee
    rotmats[:, 20] = rotvec_to_rotmat(torch.tensor([1.0, 0.0, 0.0]))  # a wrist, whose angle is not compared
    angles = METRICS["mpjae"](replace(truth, rotmats=rotmats), truth)
    torch.testing.assert_close(angles, torch.full((6,), 2 * 60 / len(ANGLE_JOINTS)), atol=1e-3, rtol=0)


def test_shares_count_joints_strictly_below_their_limit() -> None:
    truth = Posed(torch.zeros(1, 4, 3))
    pred = Posed(torch.tensor([0.0, 0.075, 0.150, 1.0])[None, :, None] * torch.tensor([1.0, 0, 0]))
    assert METRICS["pck3d"](pred, truth) == 50
    below = [sum(limit > distance for limit in AUC_MM) for distance in (0, 75, 150, 1000)]
    assert METRICS["auc"](pred, truth) == pytest.approx(100 * sum(below) / 4 / 31, abs=1e-4)


def test_a_joint_that_is_not_seen_does_not_count() -> None:
    pred, truth = person(seed=1), person()
    seen = torch.ones(6, 14, dtype=torch.bool)
    seen[0, 3] = False
    truth = replace(truth, seen=seen)
    worse = replace(pred, joints=pred.joints.clone())
    worse.joints[0, 3] += 5
    for name in ("mpjpe", "pck3d", "auc"):
        torch.testing.assert_close(METRICS[name](worse, truth), METRICS[name](pred, truth))
    assert num_seen(truth).tolist() == [13, 14, 14, 14, 14, 14]


def test_each_person_counts_alone() -> None:
    truth = cloud()
    pred = truth.clone()
    pred[2, 5] += torch.tensor([0.14, 0, 0])
    distances = joint_distances_mm(pred, truth)
    assert distances[2, 5] == pytest.approx(140, abs=1e-3)
    assert distances.sum() == pytest.approx(140, abs=1e-3)


@pytest.mark.parametrize("name", METRICS)
def test_a_score_does_not_depend_on_who_else_is_there(name: str) -> None:
    pred, truth = person(seed=1), person()

    def third(posed: Posed) -> Posed:
        parts = (posed.joints, posed.vertices, posed.rotmats, posed.seen, posed.root)
        return Posed(*(None if part is None else part[2:3] for part in parts))

    assert METRICS[name](third(pred), third(truth)) == METRICS[name](pred, truth)[2]  # to the last digit


def test_several_metrics_share_one_alignment(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(source: torch.Tensor, target: torch.Tensor) -> object:
        asked.append(source.shape[1])
        return fit_similarity(source, target)

    monkeypatch.setattr("hmrb.evaluation.metrics.fit_similarity", counted)
    pred, truth = person(seed=1), person()
    together = measure(list(METRICS), pred, truth)
    assert sorted(asked) == [14, 50]  # joints are aligned once; PA-PVE aligns vertices
    for name, values in together.items():
        assert torch.equal(values, METRICS[name](pred, truth))


def test_a_missing_part_is_named() -> None:
    with pytest.raises(RequestError, match=r"PVE needs joints, vertices; the truth has no vertices"):
        METRICS["pve"](person(), Posed(cloud()))
    with pytest.raises(RequestError, match=r"no metric named 'mpjp'. Did you mean 'mpjpe'"):
        measure(["mpjp"], person(), person())


def test_every_name_has_a_title_and_a_unit() -> None:
    assert TITLES.keys() == UNITS.keys() == BETTER.keys() == {*METRICS, *PCK2D, *MOTION}
    assert len(set(TITLES.values())) == len(TITLES)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_people_of_whom_no_alignment_exists_are_named_and_never_nan(dtype: torch.dtype) -> None:
    truth, pred = person(), person(seed=1)
    joints, options = pred.joints.clone(), truth.joints.clone()
    joints[1], options[2] = torch.tensor([0.3, 0.1, 0.7]), torch.tensor([0.1, 0.2, 0.3])
    joints[3], options[4] = on_a_line(1, 7)[0], on_a_line(1, 9)[0]
    seen = torch.ones(6, 14, dtype=torch.bool)
    seen[0] = False
    pred = Posed(joints.to(dtype), pred.vertices.to(dtype), pred.rotmats.to(dtype), None, pred.root.to(dtype))
    truth = Posed(options.to(dtype), truth.vertices.to(dtype), truth.rotmats.to(dtype), seen, truth.root.to(dtype))
    assert [DEGENERATE[reason] for reason in degenerate(pred, truth)] == [
        "no joint of the truth is seen",
        "the prediction's joints lie at one point",
        "the truth's joints lie at one point",
        "the prediction's joints lie on a line",
        "the truth's joints lie on a line",
        "",
    ]
    scores = measure(list(METRICS), pred, truth)
    for values in scores.values():
        assert values.isfinite().all()
        assert values.dtype == dtype
    assert [scores[name][0] for name in ("mpjpe", "pa_mpjpe", "n_mpjpe", "pck3d", "pa_auc")] == [0] * 5
    middle = truth.joints[1].mean(0)
    to_middle = 1000 * (truth.joints[1] - middle).norm(dim=-1).mean()
    torch.testing.assert_close(scores["pa_mpjpe"][1], to_middle)
    assert scores["pa_pck3d"][1] == scores["pa_auc"][1] == 0
    assert scores["pa_mpjpe"][2] == pytest.approx(0, abs=1e-3)
    torch.testing.assert_close(scores["pa_mpjae"][1:5], scores["mpjae"][1:5])
    assert (scores["pa_mpjae"][[0, 5]] != scores["mpjae"][[0, 5]]).all()


def test_a_person_on_a_line_without_a_seen_joint_is_told_of_the_latter_and_not_turned() -> None:
    pred, truth = person(seed=1), person()
    pred, truth = replace(pred, joints=on_a_line(6, 7)), replace(truth, seen=torch.zeros(6, 14, dtype=torch.bool))
    assert degenerate(pred, truth).tolist() == [1] * 6
    torch.testing.assert_close(METRICS["pa_mpjae"](pred, truth), METRICS["mpjae"](pred, truth))


def test_a_prediction_at_the_root_has_no_scale() -> None:
    truth = person()
    torch.testing.assert_close(
        METRICS["n_mpjpe"](Posed(torch.zeros(6, 14, 3)), truth), 1000 * truth.joints.norm(dim=-1).mean(1)
    )


def test_the_study_s_people_of_no_alignment_are_found() -> None:
    for case, reason in {"pred_all_one_point": 2, "collinear": 4, "near_planar": 0, "mirrored": 0}.items():
        _, pred, truth = recorded("4_metrics", case)
        assert degenerate(pred, truth).tolist() == [reason] * len(pred.joints), case
    g, pred, truth = recorded("4_metrics", "zero_conf_rows")
    assert ((degenerate(pred, truth) == 1).numpy() == ~g["mask"].any(1)).all()
    assert not g["mask"].any(1).all()


def test_the_nearest_rotation_is_that_of_the_decomposition() -> None:
    matrices = cloud(4000, points=3).double()
    matrices[::3, :, 2] *= 1e-4  # flat
    matrices[1::50] = matrices[1::50, :1] * matrices[1::50, :, :1]  # of rank 1
    found = nearest_rotation(matrices)
    torch.testing.assert_close(found @ found.mT, torch.eye(3).double().expand_as(found), atol=1e-8, rtol=0)
    torch.testing.assert_close(torch.det(found), torch.ones(4000).double(), atol=1e-8, rtol=0)
    u, singular, vt = torch.linalg.svd(matrices)
    singular[:, 2] *= torch.det(u @ vt)
    reached = (found * matrices).sum((1, 2))
    torch.testing.assert_close(reached, singular.sum(1), atol=1e-9, rtol=0)  # the maximum trace


def test_pck2d_is_of_labelled_joints_in_shares_of_the_box() -> None:
    truth = torch.zeros(3, 4, 2)
    pred = torch.tensor([0.0, 4.9, 5.0, 11.0])[None, :, None] * torch.tensor([0.6, 0.8]).expand(3, 1, 2)
    confidence = torch.tensor([[1.0, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]])
    box_px = torch.tensor([100.0, 200.0, 100.0])
    assert pck2d(pred, truth, confidence, box_px, PCK2D["pck2d_05"]).tolist() == [50, 100, 0]
    assert pck2d(pred, truth, confidence, box_px, PCK2D["pck2d_10"]).tolist() == [75, 100, 0]


def test_acceleration_and_jerk_are_in_si_units() -> None:
    seconds = torch.arange(12, dtype=torch.float64) / 30
    path = torch.stack([seconds**3, 2 * seconds**2, seconds], -1)[:, None].expand(12, 5, 3)
    still = torch.zeros(12, 5, 3, dtype=torch.float64)
    straight = path * torch.tensor([0.0, 1, 1])
    torch.testing.assert_close(acceleration_error(straight, still, fps=30), torch.full((10,), 4.0).double())
    torch.testing.assert_close(acceleration_error(path, path, fps=30), torch.zeros(10).double())
    torch.testing.assert_close(jitter(path, fps=30), torch.full((9,), 6.0).double())
    assert len(jitter(path[:3], fps=30)) == len(acceleration_error(path[:2], still[:2], fps=30)) == 0


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        low, high = interval95(rng.exponential(100, 80), seed=trial)
        held += low <= 100 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_frames_of_a_sequence_are_drawn_together() -> None:
    rng = np.random.default_rng(0)
    grouped = alone = 0
    for trial in range(100):
        sequence = np.repeat([f"walk_{i:02d}" for i in range(30)], rng.integers(5, 40, 30))
        values = (
            60 + 10 * rng.normal(size=30)[np.unique(sequence, return_inverse=True)[1]] + rng.normal(size=len(sequence))
        )
        low, high = interval95(values, sequence, seed=trial)
        grouped += low <= 60 <= high
        low, high = interval95(values, seed=trial)
        alone += low <= 60 <= high
    assert 0.85 <= grouped / 100 <= 0.99
    assert alone / 100 < 0.6  # frames are not independent


def test_the_interval_is_of_the_mean_over_people_in_any_order() -> None:
    rng = np.random.default_rng(0)
    values, groups = rng.exponential(50, 300), rng.integers(0, 40, 300)
    low, high = interval95(values, groups)
    assert low < values.mean() < high
    order = rng.permutation(300)
    np.testing.assert_allclose(interval95(values[order], groups[order]), (low, high), rtol=1e-12)
    np.testing.assert_allclose(interval95(values, np.zeros(300)), values.mean())


def test_a_difference_has_the_interval_of_its_own_values() -> None:
    rng = np.random.default_rng(1)
    one, other, groups = rng.normal(60, 20, 90), rng.normal(61, 20, 90), np.repeat(np.arange(30), 3)
    assert difference(one, other, groups, seed=4).ci95 == interval95(one - other, groups, seed=4)


def test_a_difference_is_of_the_same_people() -> None:
    rng = np.random.default_rng(0)
    base = rng.exponential(80, 400)
    better = difference(base - 1 + rng.normal(0, 3, 400), base)
    low, high = better.ci95
    assert low < better.mean < high < 0  # 1 mm, although each system's interval is 15 mm wide
    assert better.p < 0.005
    assert difference(base, base).p == 1
    noise = [difference(base + rng.normal(0, 3, 400), base, seed=trial).p for trial in range(100)]
    assert sum(p < 0.05 for p in noise) <= 12  # 5 are expected
    other = base + rng.normal(0, 3, 400)
    copies = difference(np.repeat(other, 9), np.repeat(base, 9), np.repeat(np.arange(400), 9))
    np.testing.assert_allclose(copies.ci95, difference(other, base).ci95, rtol=1e-9)  # copies add no information
