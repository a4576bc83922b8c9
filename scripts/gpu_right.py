"""Sections of gpu_check.py that ask whether a card computes what a CPU computes, and how it fails."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from gpu_setup import (
    QUICKSTART,
    ROOT,
    Findings,
    Setup,
    Stepper,
    batches_of,
    cycled,
    in_memory,
    known_speed,
    quickstart,
    rendered,
    study,
    synthetic_shard,
)
from torch import Tensor

from hmrb.body import load_body
from hmrb.data.loader import on_device
from hmrb.errors import RunError
from hmrb.models.hmr import HMR, computing_in
from hmrb.spec import Experiment
from hmrb.training.failures import explained

TESTS_S = 105
CURVE_STEPS = 40
OOM_BATCH = 64  # of ResNet-50 in fp32 at 224 px: several GB of feature maps, of which 1 GB is granted
CURVE_AGREES = 1e-2  # relative: processes of a CPU differ by 1e-4 after 60 steps by order of summation (docs/scale.md)
PREDICTION_AGREES_MM = 0.1  # fp32 on a card against fp32 on the CPU


def run_tests(setup: Setup, found: Findings) -> None:
    """(a) `pytest -m gpu`, without plugins that the machine may lack."""
    words = [sys.executable, "-m", "pytest", "-o", "addopts=", "-m", "gpu", "-v", "-p", "no:cacheprovider", "tests/gpu"]
    try:
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=3600 if setup.tiny else TESTS_S)
        out, said, is_whole = done.stdout, done.stderr, done.returncode == 0
    except subprocess.TimeoutExpired as late:
        out, said, is_whole = (late.stdout or b"").decode(errors="replace"), f"late: ended after {TESTS_S} s", False
    counts = Counter(re.findall(r"^tests/\S.* (PASSED|FAILED|ERROR|SKIPPED)", out, re.M))
    for word in ("PASSED", "FAILED", "ERROR", "SKIPPED"):
        found.add(word.lower(), counts[word], "tests", counts[word] == 0 if word in ("FAILED", "ERROR") else None)
    if not is_whole:
        failed = "; ".join(re.findall(r"^(?:FAILED|ERROR) .*", out, re.M)) or said.strip()[-500:]
        found.add("what failed", failed, good=False)
        print(out[-8000:], file=sys.stderr)


def curve(setup: Setup, found: Findings) -> None:
    """(b) The quickstart's loss in fp32 on the card against the CPU; a resumed run against one without a break."""
    spec, steps = quickstart(setup, "optim.precision=fp32", *_sets(tf32=False)), setup.size(CURVE_STEPS, 4)
    there, cpu = _losses(setup, spec, steps), _losses(replace(setup, device=torch.device("cpu")), spec, steps)
    apart = [abs(a - b) / abs(b) for a, b in zip(there, cpu, strict=True)]
    found.add(f"loss of {steps} steps, largest relative difference", max(apart), "", max(apart) < CURVE_AGREES)
    found.add("the same over the first ten", max(apart[:10]))
    found.add("loss at the last step, card and CPU", f"{there[-1]:.5f} {cpu[-1]:.5f}")
    with deterministic():
        exact = quickstart(setup, "optim.precision=fp32", "optim.ema=0.9", *_sets(deterministic=True))
        whole, state = _states(setup, exact, 4, 8)
        again = Stepper(setup, exact, synthetic_shard(setup))
        again.learner.load(state)
        again.step = 4
        _walk(again, 4, 8)
        same = all(torch.equal(a, b) for a, b in zip(_weights(whole), _weights(again), strict=True))
    found.add("a resumed run has the same weights, bit for bit", "yes" if same else "no", good=same)


def _sets(**wanted: object) -> tuple[str, ...]:
    return tuple(f"speed.{name}={json.dumps(value)}" for name, value in known_speed(**wanted).items())


@contextmanager
def deterministic() -> Iterator[None]:
    """Torch's reproducible kernels, for an hmrb that can't ask for them in a spec too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _losses(setup: Setup, spec: Experiment, steps: int) -> list[float]:
    with single_precision():
        return _walk(Stepper(setup, spec, synthetic_shard(setup)), 0, steps)


def _walk(stepper: Stepper, start: int, stop: int) -> list[float]:
    """The losses of the run's steps from `start` to `stop`."""
    source = batches_of(stepper.setup, stepper.spec, synthetic_shard(stepper.setup), 0, False)
    batches = [next(source) for _ in range(stop)][start:]
    return [float(stepper(batch)["total"]) for batch in stepper.on_device(iter(batches))]


def _states(setup: Setup, spec: Experiment, middle: int, end: int) -> tuple[Stepper, dict[str, object]]:
    stepper = Stepper(setup, spec, synthetic_shard(setup))
    _walk(stepper, 0, middle)
    state = deepcopy(stepper.learner.state())
    _walk(stepper, middle, end)
    return stepper, state


def _weights(stepper: Stepper) -> list[Tensor]:
    return [*stepper.learner.model.state_dict().values(), *stepper.learner.to_evaluate.state_dict().values()]


@contextmanager
def single_precision(tf32: bool = False) -> Iterator[None]:
    """Products and convolutions in fp32, or in TF32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = tf32
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def waits(setup: Setup, found: Findings) -> None:
    """(c) Ten real steps in torch's sync-debug mode: where the host waits for the card."""
    spec = study(setup, "mini" if setup.tiny else "resnet50", setup.size(64, 4))
    shard = rendered(setup)
    stepper = Stepper(setup, spec, shard)
    batches = stepper.on_device(cycled(in_memory(setup, spec, shard)))
    for _ in range(3):
        stepper(next(batches))
    if setup.on_gpu:
        torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(10):
                stepper(next(batches))
    finally:
        if setup.on_gpu:
            torch.cuda.set_sync_debug_mode("default")
    at = Counter(
        f"{line.filename.rpartition('/hmrb/')[2]}:{line.lineno}"
        for line in caught
        if "synchronizing CUDA operation" in str(line.message)
    )
    mode = "sync-debug mode" if setup.on_gpu else "a CPU has no sync-debug mode"
    found.add(f"waits in ten steps, {mode}", sum(at.values()), "waits", not at)
    for place, count in at.most_common():
        found.add(f"waits at {place}", count, "waits")


def precisions(setup: Setup, found: Findings) -> None:
    """(e) Predictions of the card in fp32, TF32 and bf16 against fp32 on the CPU, in millimetres."""
    spec, shard = study(setup, "mini" if setup.tiny else "resnet50", setup.size(32, 4), "fp32"), rendered(setup)
    batch = in_memory(setup, spec, shard)[0]
    cpu = replace(setup, device=torch.device("cpu"))
    model = Stepper(cpu, spec, shard).learner.model.eval()
    truth = _vertices(cpu, model, batch, "fp32")
    model = model.to(setup.device)
    for name, precision, tf32 in (("fp32", "fp32", False), ("TF32", "fp32", True), ("bf16", "bf16", False)):
        with single_precision(tf32):
            apart = 1e3 * (_vertices(setup, model, batch, precision) - truth).norm(dim=-1)
        good = float(apart.max()) < PREDICTION_AGREES_MM if name == "fp32" else None
        found.add(f"vertices in {name}, mean distance", float(apart.mean()), "mm")
        found.add(f"vertices in {name}, largest distance", float(apart.max()), "mm", good)


@torch.no_grad()
def _vertices(setup: Setup, model: HMR, batch: object, precision: str) -> Tensor:
    (there,) = on_device([batch], setup.device)  # type: ignore[list-item]
    with computing_in(precision, setup.device):  # type: ignore[arg-type]
        output = model(there.image)
    with single_precision():
        mesh = load_body("open").to(setup.device)(output.rotmats.float(), output.betas.float())
    return mesh.vertices.cpu()


def failures(setup: Setup, found: Findings) -> None:
    """(g) A card without enough memory, and a run killed with SIGKILL."""
    if setup.on_gpu:
        _out_of_memory(setup, found)
    else:
        found.add("out of memory", "needs a card")
    _killed(setup, found)


def _out_of_memory(setup: Setup, found: Findings) -> None:
    shard, whole = rendered(setup), torch.cuda.get_device_properties(setup.device).total_memory
    spec = study(setup, "resnet50", OOM_BATCH, "fp32")
    stepper = Stepper(setup, spec, shard)
    batch = in_memory(setup, spec, shard)[0]
    (there,) = on_device([batch], setup.device)
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved(setup.device) + 1e9) / whole, setup.device)
    said = "no error"
    try:
        with explained(0, OOM_BATCH):
            stepper(there)
    except RunError as error:
        said = str(error)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, setup.device)
    found.add("out of memory: message", said, good="out of memory on the GPU" in said and "speed.device_batch" in said)
    torch.cuda.empty_cache()
    loss = float(stepper(there)["total"])
    found.add("the same step with enough memory afterwards", f"loss {loss:.3f}", good=loss == loss)


def _killed(setup: Setup, found: Findings) -> None:
    run, total = setup.folder / "killed", setup.size(400, 8)
    batch = setup.size(64, 4)
    sets = [f"optim.epochs={total // 4}", f"data.epoch_len={4 * batch}", f"optim.batch={batch}", "optim.warmup_steps=0"]
    sets += ["evals.select_on=null", "model.head.hidden=64"]
    words = [sys.executable, "-m", "hmrb", "train", str(QUICKSTART), "--out", str(run)]
    words += [word for one in sets for word in ("--set", one)]
    environment = os.environ | {"HMRB_HOME": str(setup.store.root)}
    process = subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (run / "last.pt").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    code = process.wait()
    found.add("exit code after SIGKILL", str(code), good=code == -signal.SIGKILL)
    done = subprocess.run([*words, "--resume"], env=environment, capture_output=True, text=True)
    steps = [json.loads(line)["step"] for line in (run / "log.jsonl").read_text().splitlines()]
    good = done.returncode == 0 and max(steps) == total
    found.add("a killed run resumed", f"exit code {done.returncode}, last step {max(steps)} of {total}", good=good)
    if done.returncode:
        found.add("what it said", done.stderr[-1000:])
