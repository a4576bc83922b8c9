"""How an evaluation is fed and in which precision it computes; neither changes what an fp32 evaluation measures."""

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_tree
from torch.backends import cuda, cudnn

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation import evaluate as evaluate_module
from hmrb.evaluation.evaluate import Feed, evaluate_model
from hmrb.evaluation.protocols import find_benchmark
from hmrb.evaluation.scoring import Bodies, Scorer
from hmrb.models.hmr import build_model
from hmrb.models.numerics import products_in
from hmrb.parallel.world import World
from hmrb.run import EvalOptions, machine, score_checkpoint
from hmrb.spec import ModelSpec
from hmrb.store import Store
from hmrb.training.learner import Learner

ALONE = World(0, 1, torch.device("cpu"))
BENCHMARK = find_benchmark("synthetic")


@pytest.fixture
def shard(tiny_store: Store) -> Shard:
    return Shard(tiny_store.shard("synthetic", "test"))


def test_workers_live_from_one_evaluation_to_the_next(shard: Shard) -> None:
    """Each epoch started new ones, which import torch."""
    feed, blocks = Feed(BENCHMARK, shard, 32, ALONE.device, workers=2), [np.arange(3), np.arange(3, 7)]
    first = [batch.row.tolist() for batch in feed(blocks)]
    loader = feed._loader
    assert loader is not None
    workers = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
    assert [batch.row.tolist() for batch in feed(blocks)] == first == [[0, 1, 2], [3, 4, 5, 6]]
    assert [worker.pid for worker in loader._iterator._workers] == workers  # type: ignore[union-attr]
    for pid in workers:
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("asked", "blocks", "workers"), [(None, 3, 0), (None, 9, 2), (None, 400, 4), (5, 3, 5), (0, 99, 0)]
)
def test_few_people_start_no_workers(
    shard: Shard, monkeypatch: pytest.MonkeyPatch, asked: int | None, blocks: int, workers: int
) -> None:
    seen: list[int] = []

    def loader(shard: Shard, blocks: Any, image_px: int, workers: int, *_: Any, **__: Any) -> Iterator[Any]:
        seen.append(workers)
        return iter(())

    monkeypatch.setattr(evaluate_module, "bench_loader", loader)
    monkeypatch.setattr(evaluate_module, "cores_per_process", lambda: 64.0)
    list(Feed(BENCHMARK, shard, 32, ALONE.device, asked)([np.arange(2)] * blocks))
    assert seen == [workers]


@pytest.mark.parametrize(("precision", "in_network"), [("fp32", (False, False)), ("tf32", (True, True))])
def test_only_the_network_of_a_tf32_evaluation_uses_it(
    shard: Shard, tiny_store: Store, monkeypatch: pytest.MonkeyPatch, precision: Any, in_network: tuple[bool, bool]
) -> None:
    """In training, TF32 is on: an evaluation meanwhile poses ground truth and measures without it."""
    seen: dict[str, tuple[bool, bool]] = {}
    model = build_model(ModelSpec(**tiny_tree()["model"]))
    model.backbone.register_forward_hook(lambda *_: seen.update(network=flags()))
    score = Scorer.score
    monkeypatch.setattr(Scorer, "score", lambda *given: (seen.update(metrics=flags()), score(*given))[1])
    bodies = Bodies.load("open", BENCHMARK, tiny_store, ALONE.device)
    with products_in(tf32=True):
        evaluate_model(model, Feed(BENCHMARK, shard, 32, ALONE.device), bodies, ALONE, precision)
        assert flags() == (True, True)
    assert seen == {"network": in_network, "metrics": (False, False)}


def flags() -> tuple[bool, bool]:
    return cuda.matmul.allow_tf32, cudnn.allow_tf32


def test_the_record_says_tf32() -> None:
    assert [machine(ALONE, 1, 1.0, precision).dtype for precision in ("fp32", "tf32")] == ["float32", "tf32"]


def test_tf32_on_a_cpu_is_refused_before_anything_is_read(tiny_store: Store, tmp_path: Any) -> None:
    with pytest.raises(RequestError, match="--precision tf32: needs a GPU"):
        score_checkpoint(tmp_path / "no.pt", [BENCHMARK], tiny_store, ALONE, tmp_path, EvalOptions(precision="tf32"))


@pytest.mark.parametrize(
    ("knobs", "precision"),
    [
        ({"precision": "fp32", "tf32": True}, "tf32"),
        ({"precision": "fp32", "tf32": False}, "fp32"),
        ({"precision": "bf16", "tf32": True}, "bf16"),
        ({}, "fp32"),
    ],
)
def test_a_run_selects_in_its_own_precision(knobs: dict[str, Any], precision: str) -> None:
    model = build_model(ModelSpec(**tiny_tree()["model"]))
    learner = Learner(model, model, torch.optim.Adam(model.parameters()), None, None, knobs=knobs)
    assert learner.eval_precision == precision
