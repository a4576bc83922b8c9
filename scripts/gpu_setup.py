"""What the sections of gpu_check.py share: where they run, where figures go, made-up data, and training steps."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from hmrb.batch import Batch
from hmrb.body import load_body
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.loader import StepDraws, on_device, train_loader
from hmrb.data.shard import Shard, open_shard
from hmrb.parallel.world import World
from hmrb.spec import Experiment, SpeedSpec, load_experiment, parse_experiment
from hmrb.store import Store
from hmrb.synthetic.people import render_people
from hmrb.training.adversary import draw_dataset
from hmrb.training.compiling import compile_parts
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

ROOT = Path(__file__).parents[1]
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
MANY = 100_000  # steps of a loader that nobody reads to its end
PREPARED = 8  # batches in memory, used in turn


@dataclass(frozen=True, slots=True)
class Setup:
    """The device, a scratch folder, and whether everything is as small as in a test on a CPU."""

    device: torch.device
    folder: Path
    tiny: bool

    @property
    def on_gpu(self) -> bool:
        """Whether there is a card to measure."""
        return self.device.type == "cuda"

    @property
    def world(self) -> World:
        """This process alone."""
        return World(0, 1, self.device)

    @property
    def store(self) -> Store:
        """Shards of the scratch folder."""
        return Store(self.folder / "home")

    def size(self, whole: int, tiny: int) -> int:
        """A number, or its small form."""
        return tiny if self.tiny else whole

    @property
    def workers(self) -> int:
        """Loading processes: one per core, except two that the training process keeps busy."""
        return 0 if self.tiny else max(len(os.sched_getaffinity(0)) - 2, 1)

    def synchronise(self) -> None:
        """Waits for the device."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True, slots=True)
class Figure:
    """One result: a number with its unit, or words. `good` is False where it shows a fault, None if it can't."""

    what: str
    value: float | str
    unit: str = ""
    good: bool | None = None


class Findings:
    """Receives the figures of a section; writes each to a file at once, so that a section cut short keeps them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.figures: list[Figure] = []

    def add(self, what: str, value: float | str, unit: str = "", good: bool | None = None) -> None:
        """Notes a figure."""
        figure = Figure(what, value, unit, good)
        self.figures.append(figure)
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(figure)) + "\n")


def read_figures(path: Path) -> list[Figure]:
    """The figures that a section has written; a last line cut short is left out."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return [Figure(**json.loads(line)) for line in lines if line.endswith("\n")]


def rendered(setup: Setup) -> Shard:
    """A shard of rendered people in pictures of 256 px, made once; small ones in the tiny form."""
    path = setup.folder / "people.h5"
    if not path.exists():
        _render(path, "full", "train", setup.size(256, 12), setup.size(256, 48))
    return Shard(path)


def make_tiny_store(setup: Setup) -> None:
    """A few rendered people as the quickstart's dataset, instead of the 11,000 that the quickstart renders."""
    for split, people in {"train": 16, "val": 6, "test": 6}.items():
        path = setup.store.shard("synthetic", split)
        if not path.exists():
            _render(path, "easy", split, people, 48)


def _render(path: Path, preset: str, split: str, people: int, side: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    about = {"dataset": "synthetic", "split": split, "skeleton": "smpl54", "body": "open", "made_by": "gpu_check.py"}
    with ShardWriter(path, **about) as out:
        for sample in render_people(load_body("open"), preset, split, 3, range(people), side):
            out.add(sample)


def known_speed(**wanted: Any) -> dict[str, Any]:
    """Those speed settings that this hmrb has."""
    return {name: value for name, value in wanted.items() if name in SpeedSpec.model_fields}


def study(setup: Setup, backbone: str, batch: int, precision: str = "bf16", **speed: Any) -> Experiment:
    """The study's recipe on rendered people: its losses, its regressor, an adversary."""
    tree = {
        "name": "gpu_check", "body": "open",
        "model": {"backbone": backbone, "weights": "none", "mean": "labels", "image_px": setup.size(224, 32)},
        "data": {"mix": {"synthetic": 1.0}, "workers": setup.workers},
        "adversary": {"poses": "labels"},
        "optim": {"batch": batch, "precision": precision},
        "evals": {"benches": [], "select_on": None},
        "speed": speed,
    }  # fmt: skip
    return parse_experiment(tree, "gpu_check")


def quickstart(setup: Setup, *overrides: str) -> Experiment:
    """The quickstart's spec."""
    small = ("optim.batch=4", "model.image_px=32", "model.head.hidden=16") if setup.tiny else ()
    return load_experiment(QUICKSTART, (*small, *overrides))


def batches_of(setup: Setup, spec: Experiment, shard: Shard, workers: int, pin_memory: bool) -> Iterator[Batch]:
    """Batches of a run's draws on the host, without end."""
    shards = {"synthetic": shard}
    dataset = draw_dataset(spec, shards, setup.store)
    return iter(train_loader(dataset, StepDraws(spec.optim.batch, 0, MANY, 0, 1), workers, pin_memory))


def in_memory(setup: Setup, spec: Experiment, shard: Shard) -> list[Batch]:
    """A few batches on the host, in page-locked memory if the spec pins it."""
    source = batches_of(setup, spec, shard, 0, False)
    batches = [next(source) for _ in range(setup.size(PREPARED, 2))]
    return [batch.pin_memory() for batch in batches] if setup.on_gpu and spec.speed.pin_memory else batches


class Stepper:
    """A learner with its losses: one training step a call, as the training loop makes it."""

    def __init__(self, setup: Setup, spec: Experiment, shard: Shard) -> None:
        torch.manual_seed(0)
        self.setup, self.spec, self.step = setup, spec, 0
        self.learner: Learner = build_learner(spec, {"synthetic": shard}, setup.store, setup.world)
        self.losses = Losses(spec.losses, load_body("open").to(setup.device))
        if spec.speed.compile:
            compile_parts(self.learner, self.losses, setup.world)

    def on_device(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The batches as the training loop moves them."""
        return on_device(batches, self.setup.device, self.spec.speed.channels_last, self.spec.speed.prefetch)

    def __call__(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step; returns the terms of the loss, on the device."""
        torch.manual_seed(self.step)
        terms = train_step(self.learner, self.losses, batch, self.step, self.spec.optim, self.setup.world)
        self.step += 1
        return terms


def cycled(batches: Sequence[Batch]) -> Iterator[Batch]:
    """The same batches again and again."""
    while True:
        yield from batches


def rate(setup: Setup, work: Callable[[], object], images: int, warm_up: int = 5, seconds: float = 2.0) -> float:
    """Images per second of a call that computes `images`; the device's queue is empty before and after."""
    for _ in range(setup.size(warm_up, 1)):
        work()
    setup.synchronise()
    start, count, limit = time.perf_counter(), 0, 0.1 if setup.tiny else seconds
    while not count or time.perf_counter() - start < limit:
        work()
        count += 1
    setup.synchronise()
    return count * images / (time.perf_counter() - start)


def synthetic_shard(setup: Setup) -> Shard:
    """The quickstart's training shard if it is there, else rendered people."""
    path = setup.store.shard("synthetic", "train")
    return open_shard(path, "synthetic") if path.exists() else rendered(setup)
