"""Measures a training step and an evaluation of ResNet-50 HMR on one core, with and without the speed settings.

(a) the complete training step at batch 8 (data, forward, body, five losses, adversary, backward, optimiser): plain fp32
    against bf16, channels_last, the fused optimiser and keep_memory.
(b) evaluation at batch 32 (network, body, metrics): plain fp32 against bf16, channels_last and keep_memory.
(c) the step at batch 32: the share outside the backbone's forward and backward, in fp32 and with the speed settings.
In (a) and (b) each kind runs in its own process, and the processes take turns; seconds are CPU time of the process.
With --checkpoint: the effect of bf16 on PA-MPJPE on the synthetic test set. Run `python benchmarks/step_rate.py`, or
with --only train, --steps 5, --json.
"""

import json
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from record import Better, Figure, arguments, finish
from torch import Tensor, nn

import hmrb.evaluation.evaluate
from hmrb.batch import Batch, Prediction
from hmrb.body import load_body
from hmrb.checkpoint import load_checkpoint
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.loader import StepDraws, on_device, train_loader
from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import Feed, evaluate, evaluate_checkpoint, network_predictor
from hmrb.evaluation.protocols import find_benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.models.backbones import build_backbone
from hmrb.models.head import mean_prediction
from hmrb.models.hmr import computing_in
from hmrb.parallel.world import World
from hmrb.spec import Experiment, ModelSpec, Precision, parse_experiment
from hmrb.store import Store
from hmrb.synthetic.people import render_people
from hmrb.system import keep_memory
from hmrb.training.adversary import draw_dataset
from hmrb.training.learner import Learner, build_learner, set_rates
from hmrb.training.losses import Losses
from hmrb.training.meter import Meter
from hmrb.training.step import train_step

ALONE = World(0, 1, torch.device("cpu"))
PLAIN = {"precision": "fp32", "channels_last": False, "fused": False, "keep_memory": False}
KNOBS = {"precision": "bf16", "channels_last": True, "fused": True, "keep_memory": True}
PEOPLE = 64
Values = dict[str, list[float]]  # of each number, one for each round


def main() -> None:
    """Runs the requested measurements and prints a table or JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--only", choices=("train", "eval", "rest"))
    parser.add_argument("--steps", type=int, default=5, help="steps of each kind")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--checkpoint", type=Path, help="a synthetic run's best.pt, for PA-MPJPE in bf16")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found: Values = accuracy(asked.checkpoint) if asked.checkpoint else {}
    with tempfile.TemporaryDirectory() as name:
        shard = made_up(Path(name))
        if asked.only in (None, "train"):
            found |= training(shard, asked.backbone, asked.steps)
        if asked.only in (None, "eval"):
            found |= evaluating(shard, asked.backbone)
        if asked.only in (None, "rest"):
            found |= rest(shard, asked.backbone, asked.steps)
    middle = {name: median(values) for name, values in found.items()}
    print(json.dumps(middle, indent=1) if asked.json else "\n".join(f"{k:58} {v:.4g}" for k, v in middle.items()))
    finish(asked, "step_rate", [figure(f"{asked.backbone}, {name}", values) for name, values in found.items()])


def figure(name: str, values: Sequence[float]) -> Figure:
    """A number as a figure; its unit is in its name."""
    units: dict[str, tuple[str, Better]] = {": s,": ("s", "lower"), "images/s": ("images/s", "higher")}
    units |= {" / ": ("times", "higher"), "share": ("of 1", "lower"), "mm": ("mm", "lower")}
    unit, better = next(said for word, said in units.items() if word in name)
    return Figure(name, values, unit, better)


def made_up(folder: Path, split: str = "train") -> Shard:
    """Rendered people in a shard for both training and the synthetic benchmark."""
    path = folder / f"synthetic_{split}.h5"
    about = {"dataset": "synthetic", "split": split, "skeleton": "smpl54", "body": "open", "made_by": "a benchmark"}
    with ShardWriter(path, **about) as out:
        for sample in render_people(load_body("open"), "full", "train", 3, range(PEOPLE), 256):
            out.add(sample)
    return Shard(path)


def experiment(backbone: str, batch: int, precision: str, **speed: bool) -> Experiment:
    """The study's recipe on rendered people."""
    tree = {
        "name": "step_rate",
        "body": "open",
        "model": {"backbone": backbone, "weights": "none", "mean": "labels"},
        "data": {"mix": {"synthetic": 1.0}, "workers": 0},
        "adversary": {"poses": "labels"},
        "optim": {"batch": batch, "precision": precision},
        "evals": {"benches": [], "select_on": None},
        "speed": speed,
    }
    return parse_experiment(tree, "step_rate")


def steps(spec: Experiment, path: Path, watch: Callable[[Learner], None] = lambda learner: None) -> Iterator[float]:
    """CPU seconds of each step of a run, from requesting its batch to writing its log line."""
    torch.manual_seed(0)
    shards = {"synthetic": Shard(path)}
    learner, losses = build_learner(spec, shards, Store.default(), ALONE), Losses(spec.losses, load_body("open"))
    watch(learner)
    meter, many = Meter(ALONE), 10_000
    loader = train_loader(draw_dataset(spec, shards, Store.default()), StepDraws(spec.optim.batch, 0, many, 0, 1), 0)
    batches = on_device(meter.waits(loader), ALONE.device, spec.speed.channels_last)
    for step in range(many):
        begun = time.process_time()
        batch = next(batches)
        set_rates(learner.optimiser, spec.optim, step, many)
        meter.add(train_step(learner, losses, batch, step, spec.optim, ALONE), len(batch.row))
        json.dumps(meter.facts())
        yield time.process_time() - begun


def apart(walk: Callable[..., Iterator[float]], *args: Any) -> Iterator[float]:
    """Runs the generator `walk` in its own process, which idles until the next value is requested."""
    here, there = multiprocessing.get_context("spawn").Pipe()
    multiprocessing.get_context("spawn").Process(target=_walk, args=(there, walk, args), daemon=True).start()
    while True:
        here.send(True)
        yield here.recv()


def _walk(asked: Connection, walk: Callable[..., Iterator[float]], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    steps = walk(*args)
    with suppress(EOFError):  # the parent closed the pipe
        while asked.recv():
            asked.send(next(steps))


def in_turn(kinds: Sequence[Iterator[float]], count: int) -> list[list[float]]:
    """The seconds of each kind in `count` rounds, after two warm-up rounds."""
    rounds = [[next(kind) for kind in kinds] for _ in range(count + 2)][2:]
    return [list(kind) for kind in zip(*rounds, strict=True)]


def training(shard: Shard, backbone: str, count: int) -> Values:
    """Plain fp32 against the speed settings at batch 8."""
    kinds = [apart(steps, experiment(backbone, 8, **settings), shard.path) for settings in (PLAIN, KNOBS)]  # type: ignore[arg-type]
    kinds += [apart(bare, backbone, settings) for settings in (PLAIN, KNOBS)]
    plain, fast, bare_plain, bare_fast = in_turn(kinds, count)
    return {
        "train b8: s, plain fp32": plain, "train b8: s, knobs": fast, "train b8: plain / knobs": over(plain, fast),
        "backbone alone, b8: plain / knobs": over(bare_plain, bare_fast),
    }  # fmt: skip


def over(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """The ratio in each round."""
    return [above / below for above, below in zip(one, other, strict=True)]


def bare(backbone: str, settings: dict[str, Any]) -> Iterator[float]:
    """CPU seconds of the backbone's forward and backward at batch 8: the lower bound of a step."""
    if settings["keep_memory"]:
        keep_memory()
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    network = build_backbone(ModelSpec(backbone=backbone, weights="none"))[0].train().to(memory_format=layout)
    image = torch.randn(8, 3, 224, 224).contiguous(memory_format=layout)
    while True:
        begun = time.process_time()
        network.zero_grad(set_to_none=True)
        with computing_in(settings["precision"], ALONE.device):
            features = network(image)
        features.float().sum().backward()
        yield time.process_time() - begun


def evaluating(shard: Shard, backbone: str) -> Values:
    """Plain fp32 against the speed settings at batch 32, over all rendered people."""
    ways = {
        "plain fp32": PLAIN, "channels_last, memory kept": KNOBS | {"precision": "fp32"}, "and bf16": KNOBS,
    }  # fmt: skip
    plain, *others = in_turn([apart(evaluations, backbone, shard.path, settings) for settings in ways.values()], 5)
    out = {
        f"eval b32: images/s, {way}": [PEOPLE / one for one in took]
        for way, took in zip(ways, (plain, *others), strict=True)
    }
    return out | {"eval b32: plain / knobs": over(plain, others[-1])}


def evaluations(backbone: str, path: Path, settings: dict[str, Any]) -> Iterator[float]:
    """CPU seconds of each evaluation of all rendered people."""
    hmrb.evaluation.evaluate.BATCH = 32
    shard, benchmark = Shard(path), find_benchmark("synthetic")
    spec = experiment(backbone, 8, **settings)
    model = build_learner(spec, {"synthetic": shard}, Store.default(), ALONE).model.eval()
    bodies = Bodies.load("open", benchmark, Store.default(), ALONE.device)
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format

    def predict(batch: Batch) -> Prediction:
        with computing_in(settings["precision"], ALONE.device):
            found: Prediction = model(batch.image.contiguous(memory_format=layout))
        return found

    with torch.no_grad():
        mean = mean_prediction(model.head, 1)
    while True:
        begun = time.process_time()
        predictor = network_predictor(predict, Feed(benchmark, shard, 224, ALONE.device, workers=0))
        evaluate(predictor, mean, benchmark, shard, bodies, ALONE, 224)
        yield time.process_time() - begun


class Timed(nn.Module):
    """A backbone that measures its own forward and backward time."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone, self.seconds, self._begun = backbone, 0.0, 0.0
        first = next(p for p in backbone.parameters() if p.ndim == 4)  # its gradient is the last to be ready
        first.register_post_accumulate_grad_hook(lambda _: self._end())

    def forward(self, image: Tensor) -> Tensor:
        """Features of the wrapped backbone, timed."""
        begun = time.process_time()
        features: Tensor = self.backbone(image)
        self.seconds = time.process_time() - begun
        features.register_hook(lambda _: self._begin())
        return features

    def _begin(self) -> None:
        self._begun = time.process_time()

    def _end(self) -> None:
        self.seconds += time.process_time() - self._begun


def rest(shard: Shard, backbone: str, count: int) -> Values:
    """The share of a step at batch 32 outside the backbone."""
    out = {}
    for name, settings in {"fp32, channels_last, fused": KNOBS | {"precision": "fp32"}, "knobs": KNOBS}.items():
        timed: list[Any] = []

        def watch(learner: Learner, timed: list[Any] = timed) -> None:
            timed.append(Timed(learner.model.backbone))
            learner.model.backbone = timed[0]

        walk = steps(experiment(backbone, 32, **settings), shard.path, watch)  # type: ignore[arg-type]
        next(walk)
        shares = [(1 - timed[0].seconds / total, total) for total in (next(walk) for _ in range(count))]
        out[f"train b32: s, {name}"] = [total for _, total in shares]
        out[f"train b32: share outside the backbone, {name}"] = [share for share, _ in shares]
    return out


def accuracy(path: Path) -> Values:
    """PA-MPJPE of a checkpoint on the synthetic test set in both precisions."""
    checkpoint = load_checkpoint(path)
    precisions: tuple[Precision, ...] = ("fp32", "bf16")
    runs = [evaluate_checkpoint(checkpoint, find_benchmark("synthetic"), Store.default(), ALONE, p) for p in precisions]
    exact, half = (run.errors["pa_mpjpe"] for run in runs)
    return {
        "synthetic PA-MPJPE, fp32, mm": [float(exact.mean())],
        "synthetic PA-MPJPE, bf16, mm": [float(half.mean())],
        "of a person, mean absolute difference, mm": [float(np.abs(half - exact).mean())],
    }


if __name__ == "__main__":
    main()
