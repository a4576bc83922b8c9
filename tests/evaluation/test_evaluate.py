from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from conftest import machine, source

from hmrb.batch import Batch, Prediction
from hmrb.data.seen import Looking
from hmrb.data.shard import Shard
from hmrb.errors import RunError
from hmrb.evaluation.evaluate import Feed, Predictor, Scores, evaluate, network_predictor
from hmrb.evaluation.metric_table import BETTER
from hmrb.evaluation.posing import by_gender
from hmrb.evaluation.protocols import BENCHMARKS, Benchmark, find_benchmark
from hmrb.evaluation.records import Record, read_result
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import Bodies, BodyOrPoints
from hmrb.geometry import rotvec_to_rotmat
from hmrb.parallel.world import World
from hmrb.store import Store

ALONE = World(0, 1, torch.device("cpu"))
SYNTHETIC = BENCHMARKS["synthetic"]


def scores_of(
    store: Store,
    predict: Callable[[Batch], Prediction] | None = None,
    benchmark: Benchmark = SYNTHETIC,
    world: World = ALONE,
    predictor: Predictor | None = None,
    mean: BodyOrPoints | None = None,
) -> Scores:
    """Scores of a test method; `predictor`, if given, replaces predictions from images."""
    shard = Shard(store.shard("synthetic", "test"))
    bodies = Bodies.load("open", benchmark, store, ALONE.device)

    if predictor is None:
        assert predict is not None
        predictor = network_predictor(predict, Feed(benchmark, shard, 32, ALONE.device))
    return evaluate(predictor, mean or resting(), benchmark, shard, bodies, world, image_px=32)


def resting() -> Prediction:
    """The mean body of test methods."""
    return Prediction(torch.eye(3).repeat(1, 24, 1, 1), torch.zeros(1, 10), torch.ones(1, 3))


def truth(batch: Batch) -> Prediction:
    return Prediction(batch.rotmats, batch.betas, torch.ones(len(batch.row), 3))


def test_truth_scores_zero(tiny_store: Store) -> None:
    scores = scores_of(tiny_store, truth)
    assert list(scores.errors) == list(SYNTHETIC.metrics)
    for name, errors in scores.errors.items():
        assert len(errors) == 7
        if BETTER[name] == "lower":
            assert errors.max() < 0.01, name  # printed as 0.0
            assert scores.baseline[name].min() > 5, name
        else:
            assert errors.min() == pytest.approx(100 if "pck" in name else 100 * 30 / 31), name
            assert scores.baseline[name].max() < 96, name
    assert scores.joint_errors.shape == (7, 14)


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
    written = save_scores(scores, tmp_path, source(), machine())
    result = read_result(tmp_path / "synthetic.json")
    record, conditions = result.record, result.record.conditions
    assert record == written
    assert record.protocol == SYNTHETIC.protocol
    assert conditions.shard["sha"] == scores.shard.info.sha
    assert conditions.body_sha == scores.body_sha
    assert (record.num_people, record.skipped, record.labelled_joints) == (7, {}, 7 * 14)
    assert conditions.truth_bodies == {"neutral": {"sha": scores.body_sha, "people": 7}}
    assert len(conditions.regressor_sha) == 16
    assert conditions.regressor_sha != scores.body_sha
    for metric in record.metrics.values():
        low, high = metric.ci95
        assert low <= metric.value <= high
        assert (metric.mean_body > metric.value) == (metric.better == "lower")
    with h5py.File(tmp_path / "synthetic_samples.h5") as file:
        assert [name.decode() for name in file["name"]] == [f"person/{i:03d}" for i in range(7)]
        np.testing.assert_array_equal(file["error/mpjpe"], scores.errors["mpjpe"])
        np.testing.assert_array_equal(file["rotmats"], scores.rotmats)
    np.testing.assert_array_equal(result.errors["pve"], scores.errors["pve"])
    assert sorted(path.name for path in tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("look", ["seen", "area", "seen_area"])
def test_other_pixels_are_another_protocol_that_its_record_states(tiny_store: Store, tmp_path: Path, look: str) -> None:
    row = find_benchmark(f"synthetic_{look}")
    looked: list[torch.Tensor] = []

    def predict(batch: Batch) -> Prediction:
        looked.append(batch.image)
        return truth(batch)

    scores = scores_of(tiny_store, predict, row)
    plain = scores_of(tiny_store, predict)
    assert torch.equal(looked[0], looked[1])  # the people are as large as their crops
    save_scores(scores, tmp_path, source(), machine())
    record = read_result(tmp_path / f"synthetic_{look}.json").record
    assert record.protocol == row.protocol != plain.benchmark.protocol
    assert f"-{look.replace('_', '-')}@1" in record.protocol
    assert record.comparable != read_result_of(plain, tmp_path).comparable


def read_result_of(scores: Scores, folder: Path) -> Record:
    return save_scores(scores, folder, source(), machine())


def test_an_evaluation_decodes_by_its_protocol(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Looking] = []
    at = Looking.at

    def noted(self: Looking, *more: Any) -> Any:
        asked.append(self)
        return at(self, *more)

    monkeypatch.setattr(Looking, "at", noted)
    for name, looking in (("synthetic", Looking()), ("synthetic_seen_area", Looking("seen", "area"))):
        asked.clear()
        scores_of(tiny_store, truth, find_benchmark(name))
        assert set(asked) == {looking}


def test_rows_that_are_missing_or_double_are_an_error() -> None:
    values = torch.arange(6.0).view(3, 2)
    assert torch.equal(ALONE.gather_rows(torch.tensor([2, 0, 1]), {"error": values}, 3)["error"], values[[1, 2, 0]])
    with pytest.raises(RunError, match=r"rows \[2, 3\] were evaluated \[0, 0\] times"):
        ALONE.gather_rows(torch.tensor([0, 1]), {"error": values[:2]}, 4)
    with pytest.raises(RunError, match=r"rows \[1\] were evaluated \[2\] times"):
        ALONE.gather_rows(torch.tensor([0, 1, 1]), {"error": values}, 2)
