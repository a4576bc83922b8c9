"""How long several runs will take, said before they begin."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hmrb.cli.train import Training
    from hmrb.spec import Experiment

BATCH = 64  # pictures at a time when a network's speed is measured
MEASURE_S = 0.4
PASSES = 3  # a step's cost in forward passes: forward, and backward to weights and to inputs
LOADING_S = 1 / 643  # a picture read and augmented on one core, docs/shards.md
SCORING_S, START_S = 4e-3, 10.0  # a person scored, and a run's start: rough, of a 2-core machine


def forecast(waiting: "Sequence[Training]", asked: int, at_once: int, use_gpu: bool) -> str:
    """A line with the number of runs and the time that they take on this machine."""
    done = f" ({asked - len(waiting)} of {asked} are done already)" if len(waiting) < asked else ""
    if not waiting:
        return f"0 runs{done}"
    speeds: dict[str, float] = {}
    seconds = [_seconds(training, speeds, use_gpu) for training in waiting]
    total = max(sum(seconds) / at_once, max(seconds))
    runs = f"{len(waiting)} run{'s' * (len(waiting) != 1)}"
    return f"{runs}{done}, about {_spoken(total)} with {at_once} at a time"


def _seconds(training: "Training", speeds: dict[str, float], use_gpu: bool) -> float:
    from hmrb.data.loader import epoch_len
    from hmrb.data.shard import Shard
    from hmrb.evaluation.protocols import find_benchmark

    experiment, store = training.experiment, training.store
    shards = {name: Shard(store.shard(name, "train")) for name in experiment.data.mix}
    rows = [find_benchmark(name) for name in experiment.evals.benches]
    scored = sum(len(Shard(store.shard(row.dataset, row.split))) for row in rows)
    pictures = experiment.optim.epochs * epoch_len(shards, experiment.data)
    each = 1 / _speed(experiment, speeds, use_gpu)
    return START_S + pictures * (PASSES * each + LOADING_S) + scored * (each + SCORING_S)


def _speed(experiment: "Experiment", speeds: dict[str, float], use_gpu: bool) -> float:
    """Pictures a second that its network predicts here; measured once for each network."""
    import torch

    from hmrb.models.flops import images_per_s

    key = experiment.model.model_dump_json(exclude={"weights", "freeze_bn", "mean"})
    if key not in speeds:
        device = torch.device("cuda" if use_gpu else "cpu")
        speeds[key] = images_per_s(experiment.model, experiment.body, BATCH, device, MEASURE_S)
    return speeds[key]


def _spoken(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
