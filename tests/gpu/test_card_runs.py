"""Whole runs, evaluation and profile on a card."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from on_card import CARD, CPU, CUDA, Tiny, command, tiny

from hmrb.data.shard import open_shard
from hmrb.evaluation.evaluate import Feed, Scores, evaluate_model
from hmrb.evaluation.protocols import find_benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.parallel.world import HostCopy, Pending, World
from hmrb.store import Store
from hmrb.training.logger import Logger
from hmrb.training.profile import profiled
from hmrb.training.utilisation import Utilisation

pytestmark = CARD


def scored(run: Tiny, device: torch.device, precision: str = "fp32", workers: int = 0) -> Scores:
    benchmark = find_benchmark("synthetic")
    shard = open_shard(run.store.shard("synthetic", "test"), "synthetic")
    bodies = Bodies.load("open", benchmark, run.store, device)
    model, world = run.learner.to_evaluate.to(device), World(0, 1, device)
    return evaluate_model(model, Feed(benchmark, shard, 32, device, workers), bodies, world, precision)


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_an_evaluation_has_the_errors_of_the_cpu(tiny_store: Store, precision: str) -> None:
    run = Tiny(tiny_store, tiny())
    run.run(2)
    on_card, on_cpu = scored(run, CUDA, precision), scored(run, CPU)
    most_mm = 0.5 if precision == "fp32" else 20.0
    assert np.abs(on_card.errors["pa_mpjpe"] - on_cpu.errors["pa_mpjpe"]).max() < most_mm


def test_workers_change_no_score(tiny_store: Store) -> None:
    run = Tiny(tiny_store, tiny())
    alone, helped = scored(run, CUDA), scored(run, CUDA, workers=2)
    assert np.array_equal(alone.errors["pa_mpjpe"], helped.errors["pa_mpjpe"])


def profile_of(store: Store, folder: Path) -> list[str]:
    run = Tiny(store, tiny())
    use = Utilisation.of(run.spec, run.world)
    with profiled(3, folder, run.world, Logger(), use) as profiler:
        for batch in run.batches(8):
            run.train(batch)
            profiler.step()
    return (folder / "profile" / "summary.txt").read_text().splitlines()


def test_a_profile_has_the_time_of_each_phase_on_the_card(tiny_store: Store, tmp_path: Path) -> None:
    lines = profile_of(tiny_store, tmp_path)
    table = {line[:30].strip(): line[30:].split() for line in lines[1 : lines.index("")]}
    device_ms = {name: float(cells[2]) for name, cells in table.items()}
    for phase in ("forward", "backward", "losses", "optimiser", "adversary"):
        assert device_ms[phase] > 0, phase
    whole = device_ms.pop("a step")
    assert whole <= float(table["a step"][0])
    assert sum(device_ms.values()) == pytest.approx(whole, rel=0.2)  # copies may run beside the step
    assert device_ms["everything else"] < 0.2 * whole  # what no phase has launched


def test_a_profile_names_the_largest_gaps_and_the_memory(tiny_store: Store, tmp_path: Path) -> None:
    text = "\n".join(profile_of(tiny_store, tmp_path))
    assert text.count("ms a step (longest") == 3
    assert "peak memory" in text
    assert ("MFU" in text) or ("no published" in text)


def test_a_copy_to_the_host_brings_the_number() -> None:
    value = torch.arange(1000, device=CUDA).sum()
    assert HostCopy(Pending(value)).wait() == 499_500
    assert Pending(value).to_host().number() == 499_500


@pytest.mark.parametrize("launcher", ["alone", "torchrun"])
def test_a_run_trains_evaluates_and_reports(tiny_store: Store, tmp_path: Path, launcher: str) -> None:
    words = command(tiny_store, tmp_path, "--set", "optim.epochs=1")
    environment = os.environ | {"HMRB_HOME": str(tiny_store.root)}
    environment.pop("HMRB_DEVICE", None)
    if launcher == "alone":
        words += ["--gpus", "1"]
    else:
        words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", *words[2:]]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[0]["knobs"]["device"] == "cuda"
    facts = next(line for line in log if "total" in line)
    assert facts["peak_gb"] > 0
    record = json.loads((tmp_path / "run" / "eval" / "synthetic.json").read_text())
    assert record["machine"]["device"] == torch.cuda.get_device_name(0)


DDP = """
import os, sys, torch
from pathlib import Path
sys.path[:0] = sys.argv[2:4]
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from hmrb.store import Store
from on_card import CUDA, Tiny, tiny
distributed.init_process_group("cpu:gloo,cuda:nccl", init_method=f"file://{sys.argv[1]}/meet", rank=0, world_size=1)
torch.cuda.set_device(CUDA)
store = Store(Path(sys.argv[1]) / "home")
bare, ddp = Tiny(store, tiny()), Tiny(store, tiny())
ddp.learner.wrapped = DistributedDataParallel(ddp.learner.model, gradient_as_bucket_view=True)
ddp.learner.wrapped.broadcast_buffers = False
print(max(abs(a - b) / abs(a) for a, b in zip(bare.run(4), ddp.run(4))))
distributed.destroy_process_group()
"""


def test_ddp_of_one_process_with_nccl_has_the_same_losses(tiny_store: Store, tmp_path: Path) -> None:
    here = Path(__file__).parent
    words = [sys.executable, "-c", DDP, str(tmp_path), str(here), str(here.parent)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-2
