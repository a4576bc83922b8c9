"""Measures the start of a run up to its first step: seconds per part, median over fresh processes.

The parts are what `hmrb train` does, in that order. Run `python benchmarks/first_step.py`, or with --spec, --runs 5,
--json. It needs the spec's shards: for the quickstart, `hmrb convert-data synthetic`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from record import Figure, arguments, finish

PARTS = (
    "interpreter", "imports", "spec and its names", "files and model checked", "shards and body",
    "model and optimiser", "log and TensorBoard", "first batch", "first step",
)  # fmt: skip


def main() -> None:
    """Measures in fresh processes and prints a table or JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--spec", type=Path, default=Path("specs/quickstart.yaml"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--made-up", action="store_true", help="with a small shard of rendered people in a new store")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    parser.add_argument("--begun", type=float, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.begun:
        print(json.dumps(once(asked.spec, asked.begun)))
        return
    times = []
    with tempfile.TemporaryDirectory() as folder:
        if asked.made_up:
            os.environ["HMRB_HOME"] = folder
            make_shards(Path(folder) / "shards")
        for _ in range(asked.runs):
            command = [sys.executable, __file__, "--spec", str(asked.spec), "--begun", str(time.time())]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            times.append(json.loads(done.stdout.splitlines()[-1]))
    found = {part: median(run[part] for run in times) for part in PARTS}
    found |= {"to the first step": median(sum(run.values()) for run in times)}
    print(json.dumps(found, indent=1) if asked.json else "\n".join(f"{k:28} {v:6.2f} s" for k, v in found.items()))
    figures = [Figure(part, [run[part] for run in times], "s") for part in PARTS]
    finish(asked, "first_step", [*figures, Figure("to the first step", [sum(run.values()) for run in times], "s")])


def make_shards(folder: Path) -> None:
    """The shards that the quickstart asks for, of few people."""
    from step_rate import made_up

    folder.mkdir()
    for split in ("train", "val", "test"):
        made_up(folder, split)


def once(spec: Path, begun: float) -> dict[str, float]:
    """Seconds of each part in this process; `begun` is the time at which its parent started it."""
    marks = [begun, time.time()]

    def mark() -> None:
        marks.append(time.time())

    import torch

    from hmrb.body import load_body
    from hmrb.check import name_problems, resolve
    from hmrb.data.loader import StepDraws, on_device, stream_seed, train_loader
    from hmrb.data.shard import open_shard
    from hmrb.parallel.world import start_world
    from hmrb.preflight import require_files
    from hmrb.spec import load_experiment
    from hmrb.store import Store
    from hmrb.training.adversary import draw_dataset
    from hmrb.training.learner import build_learner
    from hmrb.training.logger import run_logger
    from hmrb.training.losses import Losses
    from hmrb.training.step import train_step

    mark()
    experiment = load_experiment(spec)
    assert not name_problems(experiment)
    experiment = resolve(experiment)
    mark()
    store, world = Store.default(), start_world()
    require_files([experiment], store)
    mark()
    shards = {name: open_shard(store.shard(name, "train"), name) for name in experiment.data.mix}
    losses = Losses(experiment.losses, load_body(experiment.body, store=store))
    mark()
    torch.manual_seed(stream_seed(experiment.seed, "weights"))
    learner = build_learner(experiment, shards, store, world)
    mark()
    with tempfile.TemporaryDirectory() as folder, run_logger(Path(folder)) as logger:
        logger.start(0, 1, 1)
    mark()
    dataset = draw_dataset(experiment, shards, store)
    loader = train_loader(dataset, StepDraws(experiment.optim.batch, 0, 1, 0, 1), learner.knobs["workers"])
    (batch,) = on_device(loader, world.device)
    mark()
    float(train_step(learner, losses, batch, 0, experiment.optim, world)["total"])
    mark()
    return dict(zip(PARTS, (after - before for before, after in pairwise(marks)), strict=True))


if __name__ == "__main__":
    main()
