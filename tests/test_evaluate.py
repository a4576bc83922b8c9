import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from hmrb.benchmarks import BENCHMARKS, Benchmark, by_gender
from hmrb.data.shard import Shard
from hmrb.errors import RunError
from hmrb.evaluate import Bodies, Scores, evaluate, save_scores
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Batch, Prediction
from hmrb.store import Store
from hmrb.world import World

ALONE = World(0, 1, torch.device("cpu"))
SYNTHETIC = BENCHMARKS["synthetic"]


def scores_of(store: Store, predict, benchmark: Benchmark = SYNTHETIC) -> Scores:
    shard = Shard(store.shard("synthetic", "test"))
    bodies = Bodies.load("open", benchmark, store, ALONE.device)

    def mean(count: int) -> Prediction:
        return Prediction(torch.eye(3).repeat(count, 24, 1, 1), torch.zeros(count, 10), torch.ones(count, 3))

    return evaluate(predict, mean, benchmark, shard, bodies, ALONE, image_px=32)


def truth(batch: Batch) -> Prediction:
    return Prediction(rotvec_to_rotmat(batch.pose), batch.betas, torch.ones(len(batch.row), 3))


def test_truth_scores_zero(tiny_store: Store) -> None:
    scores = scores_of(tiny_store, truth)
    for name, errors in scores.errors.items():
        assert len(errors) == 7
        assert errors.max() < 0.01, name  # mm: printed as 0.0
    assert scores.joint_errors.shape == (7, 14)
    assert all(baseline.min() > 10 for baseline in scores.baseline.values())


def test_a_turned_root_costs_mpjpe_and_no_pa_mpjpe(tiny_store: Store) -> None:
    turn = rotvec_to_rotmat(torch.tensor([0.0, 0.5, 0.0]))

    def turned(batch: Batch) -> Prediction:
        right = truth(batch)
        rotmats = right.rotmats.clone()
        rotmats[:, 0] = turn @ rotmats[:, 0]
        return Prediction(rotmats, right.betas, right.camera)

    scores = scores_of(tiny_store, turned)
    assert scores.errors["mpjpe"].min() > 20
    assert scores.errors["pve"].min() > 20
    assert scores.errors["pa_mpjpe"].max() < 0.05


def test_gendered_truth_is_posed_with_its_own_body(tiny_store: Store) -> None:
    bodies = Bodies.load("open", BENCHMARKS["3dpw"], tiny_store, ALONE.device).by_gender
    rotmats, betas = torch.eye(3).repeat(3, 24, 1, 1), torch.zeros(3, 10)
    for part in ("", "h36m17"):
        mesh = by_gender(bodies, ["male", "neutral", "female"], rotmats, betas, part)
        for row, name in enumerate(("male", "neutral", "female")):
            assert torch.equal(mesh.vertices[row], bodies[name](rotmats[:1], betas[:1], part).vertices[0])


def test_a_prediction_that_is_not_finite_is_named(tiny_store: Store) -> None:
    def broken(batch: Batch) -> Prediction:
        right = truth(batch)
        betas = torch.where(batch.row[:, None] == 4, torch.nan, right.betas)
        return Prediction(right.rotmats, betas, right.camera)

    with pytest.raises(RunError, match=r"synthetic: the prediction for person/004 \(row 4\) is not finite"):
        scores_of(tiny_store, broken)


def test_a_record_says_what_its_numbers_are(tiny_store: Store, tmp_path: Path) -> None:
    scores = scores_of(tiny_store, truth)
    save_scores(scores, tmp_path, {"experiment": "tiny"})
    record = json.loads((tmp_path / "synthetic.json").read_text())
    assert record["protocol"] == SYNTHETIC.protocol
    assert record["shard"]["sha"] == scores.shard.info.sha
    assert record["body_sha"] == scores.body_sha
    assert (record["num_people"], record["skipped"], record["labelled_joints"]) == (7, {}, 7 * 14)
    assert record["truth_bodies"] == {"neutral": {"sha": scores.body_sha, "people": 7}}
    assert len(record["regressor_sha"]) == 16
    assert record["regressor_sha"] != scores.body_sha
    for metric in record["metrics"].values():
        low, high = metric["ci95"]
        assert low <= metric["mm"] <= high
        assert metric["mean_body_mm"] > metric["mm"]
    with h5py.File(tmp_path / "synthetic_samples.h5") as file:
        assert [name.decode() for name in file["name"]] == [f"person/{i:03d}" for i in range(7)]
        np.testing.assert_array_equal(file["error_mm/mpjpe"], scores.errors["mpjpe"])
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


def test_rows_that_are_missing_or_double_are_an_error() -> None:
    values = torch.arange(6.0).view(3, 2)
    assert torch.equal(ALONE.gather_rows(torch.tensor([2, 0, 1]), values, 3), values[[1, 2, 0]])
    with pytest.raises(RunError, match=r"rows \[2, 3\] were evaluated \[0, 0\] times"):
        ALONE.gather_rows(torch.tensor([0, 1]), values[:2], 4)
    with pytest.raises(RunError, match=r"rows \[1\] were evaluated \[2\] times"):
        ALONE.gather_rows(torch.tensor([0, 1, 1]), values, 2)
