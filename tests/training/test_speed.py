"""Speed settings change results only by rounding, take effect, and are reported."""

import gzip
import json
import platform
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import tiny_tree

from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD, DrawDataset, StepDraws, normalised, on_device, train_loader
from hmrb.data.shard import open_shard
from hmrb.errors import RequestError
from hmrb.parallel.world import World
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.learner import Learner, build_learner
from hmrb.training.logger import Logger
from hmrb.training.profile import RANGES, profiled
from hmrb.training.step import train_step
from hmrb.training.utilisation import Utilisation

ALONE = World(0, 1, torch.device("cpu"))


def experiment(backbone: str = "mini", **speed: Any) -> Experiment:
    tree = tiny_tree()
    return parse_experiment(tree | {"speed": speed, "model": tree["model"] | {"backbone": backbone}}, "tiny")


def run(
    spec: Experiment, store: Store, steps: int = 3, profiler: Any = None, state: dict[str, Any] | None = None
) -> tuple[Learner, list[float]]:
    """Train a few steps, from `state` if given; returns the learner and the loss of each step."""
    from hmrb.body import load_body
    from hmrb.training.losses import Losses

    shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
    torch.manual_seed(0)
    learner = build_learner(spec, shards, store, ALONE)
    if state:
        learner.load(deepcopy(state))
    losses = Losses(spec.losses, load_body("open"))
    dataset = draw_dataset(spec, shards, store)
    loader = train_loader(dataset, StepDraws(4, 0, steps, 0, 1), 0)
    totals = []
    for step, batch in enumerate(on_device(loader, ALONE.device, spec.speed.channels_last)):
        totals.append(float(train_step(learner, losses, batch, step, spec.optim, ALONE)["total"]))
        if profiler:
            profiler.step()
    return learner, totals


def test_pictures_are_normalised_on_the_device_as_by_hand() -> None:
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    by_hand = (levels.numpy().astype(np.float64) - np.reshape(IMAGENET_MEAN, (3, 1, 1))) / np.reshape(
        IMAGENET_STD, (3, 1, 1)
    )
    # Single precision: the mean is rounded to 4e-6 of an 8-bit level, and a level is 0.017.
    np.testing.assert_allclose(normalised(levels).numpy(), by_hand, rtol=0, atol=3e-7)


def test_a_batch_lies_in_memory_as_asked(tiny_store: Store) -> None:
    shards = {"synthetic": open_shard(tiny_store.shard("synthetic", "train"), "synthetic")}
    spec = experiment()
    loader = train_loader(DrawDataset(shards, spec.data, 24, 0), StepDraws(4, 0, 1, 0, 1), 0)
    (read,) = loader
    assert read.image.dtype == torch.uint8
    (last,), (first,) = (list(on_device(loader, ALONE.device, channels_last)) for channels_last in (True, False))
    assert last.image.is_contiguous(memory_format=torch.channels_last)
    assert first.image.is_contiguous()
    assert torch.equal(first.image, last.image)


@pytest.mark.parametrize("knob", [{"channels_last": False}, {"fused": False}, {"checkpointing": True}])
def test_a_knob_moves_the_loss_by_rounding_alone(tiny_store: Store, knob: dict[str, bool]) -> None:
    (_, plain), (learner, turned) = run(experiment(), tiny_store), run(experiment(**knob), tiny_store)
    assert turned == pytest.approx(plain, rel=1e-4)  # before the third step, Adam used rounded gradients
    assert {name: learner.knobs[name] for name in knob} == knob
    assert learner.state()["knobs"] == dict(learner.knobs)


@pytest.mark.parametrize("knob", [{"channels_last": False}, {"fused": False}])
@pytest.mark.parametrize("is_turned_off", [True, False])
def test_a_run_goes_on_under_other_knobs(tiny_store: Store, knob: dict[str, bool], is_turned_off: bool) -> None:
    before, after = (experiment(), experiment(**knob)) if is_turned_off else (experiment(**knob), experiment())
    state = run(before, tiny_store)[0].state()
    (same, _), (other, _) = run(before, tiny_store, state=state), run(after, tiny_store, state=state)
    assert other.optimiser.param_groups[0]["fused"] is after.speed.fused
    # Rounding reaches 8e-7 in three steps; with another weight's moments the difference was 3e-3.
    for (name, weights), others in zip(same.model.named_parameters(), other.model.parameters(), strict=True):
        torch.testing.assert_close(others, weights, rtol=0, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has no mallopt")
def test_memory_that_is_kept_is_not_asked_of_the_system_again() -> None:
    program = (
        "import resource, sys, torch; from hmrb.system import keep_memory\n"
        "is_kept = sys.argv[1] == 'kept' and keep_memory()\n"
        "for _ in range(20):\n"  # the first few find no free block of sufficient size
        "    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt; torch.zeros(1 << 24).add_(1)\n"
        "print(is_kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)"
    )
    told = [
        subprocess.run([sys.executable, "-c", program, how], capture_output=True, text=True, check=True).stdout.split()
        for how in ("kept", "given back")
    ]
    (is_kept, few), (is_not, many) = told
    assert (is_kept, is_not) == ("True", "False")
    assert int(few) < 10 < int(many)  # 64 MB are 16,384 small or 32 large pages


def test_the_record_says_that_memory_is_kept(tiny_store: Store) -> None:
    learner, _ = run(experiment(keep_memory=False), tiny_store, steps=1)
    assert learner.knobs["keep_memory"] is False
    learner, _ = run(experiment(), tiny_store, steps=1)
    assert learner.knobs["keep_memory"] is (platform.libc_ver()[0] == "glibc")


def test_kept_maps_are_fewer_with_checkpointing(tiny_store: Store) -> None:
    def kept(**speed: Any) -> int:
        learner, _ = run(experiment(**speed), tiny_store, steps=0)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.numel()) or t, lambda t: t):
            learner.model.backbone(torch.zeros(4, 3, 32, 32))
        return sum(sizes)

    assert kept(checkpointing=True) < 0.7 * kept()


def test_a_backbone_without_checkpointing_is_refused(tiny_store: Store) -> None:
    message = r"speed\.checkpointing: timm does not support it for SelecSls; leave it out"
    with pytest.raises(RequestError, match=message):
        run(experiment("selecsls42", checkpointing=True), tiny_store)


def test_a_profile_is_a_trace_and_a_table_of_shares(tiny_store: Store, tmp_path: Path) -> None:
    said: list[str] = []

    class Listening(Logger):
        def say(self, line: str) -> None:
            said.append(line)

    spec = experiment()
    with profiled(3, tmp_path, ALONE, Listening(), Utilisation.of(spec, ALONE)) as profiler:
        run(spec, tiny_store, steps=8, profiler=profiler)
    table, _, rate = (tmp_path / "profile" / "summary.txt").read_text().partition("\n\n")
    assert re.fullmatch(r"\d+ images/s\n", rate)
    lines = table.splitlines()
    shares = {line[:30].strip(): float(line.split()[-1].rstrip("%")) for line in lines[1:]}
    within = [name for name in RANGES if name != "data wait"]  # measured by the training loop
    assert set(shares) == {*within, "everything else", "a step"}
    assert shares["a step"] == 100
    assert sum(shares[name] for name in (*within, "everything else")) == pytest.approx(100, abs=1)  # rounded
    assert shares["forward"] + shares["backward"] > 10
    with gzip.open(tmp_path / "profile" / "trace-0.json.gz", "rt") as trace:
        names = [event.get("name", "") for event in json.load(trace)["traceEvents"]]
    assert names.count("hmrb: backward") == 3
    assert lines[0] in said[0]
