"""Sections of gpu_check.py that measure speed: training, evaluation, the whole quickstart."""

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import timm
import torch
from gpu_setup import (
    QUICKSTART,
    Findings,
    Setup,
    Stepper,
    batches_of,
    cycled,
    in_memory,
    known_speed,
    rate,
    rendered,
    study,
    synthetic_shard,
)

from hmrb.batch import Batch
from hmrb.data.loader import normalised
from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import Feed, Scores, evaluate_model
from hmrb.evaluation.protocols import Benchmark, find_benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.models.backbones import build_backbone
from hmrb.models.hmr import HMR, computing_in
from hmrb.spec import ModelSpec, Precision
from hmrb.training.utilisation import Utilisation

MODELS = {
    "ResNet-50": ("resnet50", "resnet50"),
    "HRNet-W32": ("hrnet_w32", "hrnet_w32"),
    "ViT-B": ("vit_b16", "vit_base_patch16_224"),
}
"""Names of hmrb and of timm."""
TINY_MODELS = {"ResNet-10": ("resnet10t", "resnet10t")}
BATCHES, TINY_BATCHES = (64, 256), (2, 4)
SHARDS, MEMORY, BARE, PLAIN = "from shards", "from memory", "bare backbone", "plain loop of timm and torch"
WAYS = (SHARDS, MEMORY, BARE, PLAIN)
NUM_OUTPUTS = 24 * 6 + 10 + 3  # of the plain loop: as many numbers as a body has
KNOBS: tuple[dict[str, Any], ...] = (
    {"channels_last": False}, {"fused": False}, {"pin_memory": False}, {"prefetch": False}, {"checkpointing": True},
    {"device_batch": 32}, {"cudnn_benchmark": False}, {"deterministic": True}, {"tf32": False}, {"compile": True},
)  # fmt: skip
"""Each is changed alone from the defaults."""


def rate_name(model: str, batch: int, way: str) -> str:
    """What a figure of training speed is called."""
    return f"{model}, {batch} pictures, {way}"


def evaluation_name(precision: str) -> str:
    """What a figure of evaluation speed is called."""
    return f"evaluation of ResNet-50, {precision}"


def knob_name(knob: dict[str, Any]) -> str:
    """What a changed setting is called."""
    return ", ".join(f"{name}: {value}" for name, value in knob.items())


def training(setup: Setup, found: Findings) -> None:
    """(d) Images per second of training in bf16, against a bare backbone and a plain loop; each knob alone."""
    shard = rendered(setup)
    models = TINY_MODELS if setup.tiny else MODELS
    for batch in TINY_BATCHES if setup.tiny else BATCHES:
        any_spec = study(setup, next(iter(models.values()))[0], batch)
        loading = batches_of(setup, any_spec, shard, setup.workers, setup.on_gpu)  # its workers start once for all
        for name, (ours, of_timm) in models.items():
            spec = study(setup, ours, batch)
            ready = in_memory(setup, spec, shard)
            for way in WAYS:
                with _failing_alone(setup, found, rate_name(name, batch, way)):
                    source = loading if way == SHARDS else cycled(ready)
                    if way == BARE:
                        work = bare(setup, ours, batch)
                    elif way == PLAIN:
                        work = plain(setup, of_timm, ready)
                    else:
                        work = _step(Stepper(setup, spec, shard), source)
                    of_hmrb = way in (SHARDS, MEMORY)
                    _measure(setup, found, name, batch, way, work, _use(setup, ours) if of_hmrb else None)
        del loading
    name, batch = next(iter(models)), (TINY_BATCHES if setup.tiny else BATCHES)[0]
    for knob in KNOBS[:2] if setup.tiny else KNOBS:
        if known_speed(**knob) == knob:
            with _failing_alone(setup, found, rate_name(name, batch, knob_name(knob))):
                precision = "fp32" if "tf32" in knob else "bf16"
                spec = study(setup, models[name][0], batch, precision, **knob)
                work = _step(Stepper(setup, spec, shard), cycled(in_memory(setup, spec, shard)))
                _measure(setup, found, name, batch, knob_name(knob), work, None)


class _failing_alone:
    """A measurement that fails says why, frees its memory and leaves the others."""

    def __init__(self, setup: Setup, found: Findings, what: str) -> None:
        self._setup, self._found, self._what = setup, found, what

    def __enter__(self) -> None:
        if self._setup.on_gpu:
            torch.cuda.reset_peak_memory_stats(self._setup.device)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, Exception):
            self._found.add(f"{self._what}: failed", f"{type(error).__name__}: {str(error)[:300]}", good=False)
        gc.collect()
        if self._setup.on_gpu:
            torch.cuda.empty_cache()
        return isinstance(error, Exception)


def _measure(
    setup: Setup,
    found: Findings,
    name: str,
    batch: int,
    way: str,
    work: Callable[[], object],
    use: Utilisation | None,
) -> None:
    """Adds images/s, peak memory, and MFU of a model of hmrb's."""
    images_per_s = rate(setup, work, batch)
    found.add(rate_name(name, batch, way), images_per_s, "images/s")
    if setup.on_gpu:
        peak = torch.cuda.max_memory_allocated(setup.device) / 1e9
        found.add(f"{rate_name(name, batch, way)}: peak memory", peak, "GB")
    mfu = use.facts(images_per_s).get("mfu") if use else None
    if mfu is not None:
        found.add(f"{rate_name(name, batch, way)}: MFU", mfu)


@cache
def _use(setup: Setup, backbone: str) -> Utilisation:
    return Utilisation.of(study(setup, backbone, 1), setup.world)


def _step(stepper: Stepper, batches: Iterator[Batch]) -> Callable[[], object]:
    there = stepper.on_device(batches)
    return lambda: stepper(next(there))


def bare(setup: Setup, backbone: str, batch: int) -> Callable[[], object]:
    """Forward and backward of hmrb's backbone on a picture that is there: the most that a step can reach."""
    side = setup.size(224, 32)
    network = build_backbone(ModelSpec(backbone=backbone, weights="none", image_px=side))[0].train().to(setup.device)
    network = network.to(memory_format=torch.channels_last)
    image = torch.randn(batch, 3, side, side, device=setup.device).contiguous(memory_format=torch.channels_last)

    def step() -> None:
        network.zero_grad(set_to_none=True)
        with computing_in("bf16", setup.device):
            features = network(image)
        features.float().sum().backward()

    return step


def plain(setup: Setup, name: str, batches: list[Batch]) -> Callable[[], object]:
    """What a user would write with timm and torch: pictures from memory, autocast, fused Adam, a mean squared error."""
    side: dict[str, Any] = {"img_size": setup.size(224, 32)} if name.startswith("vit") else {}
    network = timm.create_model(name, pretrained=False, num_classes=NUM_OUTPUTS, **side).train().to(setup.device)
    network = network.to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), 2.5e-4, fused=True)
    target = torch.zeros(len(batches[0].row), NUM_OUTPUTS, device=setup.device)
    source = cycled(batches)

    def step() -> None:
        image = normalised(next(source).image.to(setup.device, non_blocking=True))
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(setup.device.type, torch.bfloat16):
            output = network(image.contiguous(memory_format=torch.channels_last))
        torch.nn.functional.mse_loss(output.float(), target).backward()
        optimiser.step()

    return step


def evaluation(setup: Setup, found: Findings) -> None:
    """(e) Frames per second of ResNet-50's evaluation on the quickstart's training people, workers' start included."""
    shard, benchmark = synthetic_shard(setup), find_benchmark("synthetic")
    spec = study(setup, "mini" if setup.tiny else "resnet50", setup.size(64, 4), "fp32")
    model = Stepper(setup, spec, shard).learner.model
    bodies = Bodies.load("open", benchmark, setup.store, setup.device)
    precisions: tuple[Precision, ...] = ("bf16", "fp32")
    for precision in precisions:
        start = time.perf_counter()
        scores = scored(setup, model, benchmark, shard, bodies, precision)
        frames = len(scores.people.rows)
        found.add(evaluation_name(precision), frames / (time.perf_counter() - start), "frames/s")
    found.add("evaluation, people", frames)


def scored(
    setup: Setup, model: HMR, benchmark: Benchmark, shard: Shard, bodies: Bodies, precision: Precision
) -> Scores:
    """`evaluate_model` with all cores loading."""
    feed = Feed(benchmark, shard, setup.size(224, 32), setup.device, setup.workers)
    return evaluate_model(model, feed, bodies, setup.world, precision)


def whole_quickstart(setup: Setup, found: Findings) -> None:
    """(f) The quickstart's command, rendering and report included: seconds and PA-MPJPE."""
    run = setup.folder / "quickstart"
    words = [sys.executable, "-m", "hmrb", "train", str(QUICKSTART), "--out", str(run)]
    if setup.tiny:
        sets = ("optim.epochs=1", "optim.batch=4", "optim.warmup_steps=0", "model.head.hidden=16")
        words += [word for one in sets for word in ("--set", one)]
    start = time.perf_counter()
    done = subprocess.run(words, env=os.environ | {"HMRB_HOME": str(setup.store.root)}, capture_output=True, text=True)
    found.add("quickstart, seconds", time.perf_counter() - start, "s", done.returncode == 0)
    if done.returncode:
        found.add("what it said", done.stderr[-1000:])
        return
    record = json.loads((run / "eval" / "synthetic.json").read_text(encoding="utf-8"))
    found.add("quickstart, PA-MPJPE", record["metrics"]["pa_mpjpe"]["value"], "mm")
    log = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = sorted(line["images_per_s"] for line in log if "images_per_s" in line)
    if rates:
        found.add("quickstart, training, median", rates[len(rates) // 2], "images/s")
