"""What the tests of a card share: the one reason to skip them, and a tiny run on the card."""

import copy
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import tiny_tree

from hmrb.batch import Batch
from hmrb.body import load_body
from hmrb.data.loader import StepDraws, on_device, train_loader
from hmrb.data.shard import open_shard
from hmrb.parallel.world import World
from hmrb.spec import Experiment, SpeedSpec, parse_experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.compiling import compile_parts
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

if torch.cuda.is_available():  # torch asks for it once, at the first product of a process
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
CARD = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
    pytest.mark.filterwarnings("default"),  # of drivers and compilers
]
CUDA, CPU = torch.device("cuda", 0), torch.device("cpu")
STEPS = 5


def tiny(precision: str = "fp32", ema: float = 0.9, **speed: Any) -> Experiment:
    """The tiny experiment without dropout, whose draws differ between devices. Skips if `speed` has no such field."""
    if unknown := [name for name in speed if name not in SpeedSpec.model_fields]:
        pytest.skip(f"no speed.{unknown[0]} in this version")
    tree = tiny_tree()
    tree["model"]["head"]["dropout"] = 0.0
    tree["optim"] |= {"precision": precision, "ema": ema, "lr": 1e-4}
    return parse_experiment(tree | {"speed": speed}, "tiny")


class Tiny:
    """A tiny run on a device, from its first step or from a state."""

    def __init__(self, store: Store, spec: Experiment, device: torch.device = CUDA) -> None:
        torch.manual_seed(0)
        self.spec, self.store, self.world = spec, store, World(0, 1, device)
        self.shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
        self.learner: Learner = build_learner(spec, self.shards, store, self.world)
        self.losses = Losses(spec.losses, load_body("open").to(device))
        self.step = 0
        if spec.speed.compile:
            compile_parts(self.learner, self.losses, self.world)

    def batches(self, stop: int) -> list[Batch]:
        """The batches from the next step on, on the device."""
        dataset = draw_dataset(self.spec, self.shards, self.store)
        draws, speed = StepDraws(self.spec.optim.batch, self.step, stop, 0, 1), self.spec.speed
        pinned = speed.pin_memory and self.world.device.type == "cuda"
        loader = train_loader(dataset, draws, 0, pinned)
        return list(on_device(loader, self.world.device, speed.channels_last, speed.prefetch))

    def run(self, stop: int = STEPS) -> list[float]:
        """Trains up to a step; returns the losses."""
        return [float(self.train(batch)["total"]) for batch in self.batches(stop)]

    def train(self, batch: Batch) -> dict[str, torch.Tensor]:
        """One step."""
        torch.manual_seed(self.step)
        terms = train_step(self.learner, self.losses, batch, self.step, self.spec.optim, self.world)
        self.step += 1
        return terms

    def resumed(self, spec: Experiment | None = None) -> "Tiny":
        """Another process's run that goes on from here."""
        other = Tiny(self.store, spec or self.spec, self.world.device)
        other.learner.load(copy.deepcopy(self.learner.state()))
        other.step = self.step
        return other

    def weights(self) -> list[torch.Tensor]:
        """Weights, buffers and averaged weights, on the CPU."""
        models = (self.learner.model, self.learner.to_evaluate)
        return [value.detach().cpu().clone() for model in models for value in model.state_dict().values()]


def command(store: Store, folder: Path, *words: str) -> list[str]:
    """The words of `hmrb train` for the tiny experiment."""
    spec = folder / "tiny.yaml"
    spec.write_text(yaml.safe_dump(tiny_tree()))
    return [sys.executable, "-m", "hmrb", "train", str(spec), "--out", str(folder / "run"), *words]
