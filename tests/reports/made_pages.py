"""Pages of made-up results, the same on every machine."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conftest import machine, source, write_shard
from results import write

from hmrb.batch import Prediction
from hmrb.data.loader import read_view
from hmrb.data.shard import Shard, open_shard
from hmrb.evaluation.evaluate import evaluate
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import read_results
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import IMAGE_PX, Bodies
from hmrb.geometry import FOCAL_PX, rotvec_to_rotmat
from hmrb.parallel.world import World
from hmrb.reports.labelled import place_in_crop
from hmrb.reports.run_page import write_report
from hmrb.reports.runs_page import write_runs_page
from hmrb.reports.tables import compare
from hmrb.spec import parse_experiment
from hmrb.store import Store
from hmrb.synthetic.people import render_person

BENCHMARK = BENCHMARKS["synthetic"]
NUM_PEOPLE = 6
STANDING = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # bodies are y up, cameras y down


def report_page(folder: Path) -> Path:
    """The report of rendered people, each predicted worse than the one before, and of a made-up log."""
    store = Store(folder)
    bodies = Bodies.load("open", BENCHMARK, store, torch.device("cpu"))
    people = [render_person(bodies.neutral, "easy", "test", 0, i) for i in range(NUM_PEOPLE)]
    shard = open_shard(write_shard(folder / "shard.h5", people, split="test"), "synthetic")
    found = _predicted(bodies, shard)
    mean = Prediction(STANDING.repeat(1, 24, 1, 1), torch.zeros(1, 10), found.camera[:1])
    mean.rotmats[:, 1:] = torch.eye(3)

    def predictor(blocks: Sequence[np.ndarray]) -> Iterator[Prediction]:
        for rows in blocks:
            yield Prediction(found.rotmats[rows], found.betas[rows], found.camera[rows])

    scores = evaluate(predictor, mean, BENCHMARK, shard, bodies, World(0, 1, torch.device("cpu")))
    record = save_scores(scores, folder / "eval", source("made-up"), machine())
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in _log()))
    experiment = parse_experiment({"name": "made-up", "body": "open", "data": {"mix": {"synthetic": 1.0}}}, "made-up")
    return write_report(folder, experiment, [(record, scores)], store)


def runs_page(folder: Path) -> Path:
    """The page of two seeds of one recipe, a better one, a worse one and one that differs little."""
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 200)
    made = {("hmr", 0): 0, ("hmr", 1): 2, ("a better one", 0): -9, ("a worse one", 0): 25, ("much alike", 0): 0.1}
    runs = [
        write(folder, name, seed, people + change + rng.normal(0, 10, 200)) for (name, seed), change in made.items()
    ]
    results = read_results(runs)
    return write_runs_page(folder, compare(results, "pa_mpjpe", "hmr"), results)


def _predicted(bodies: Bodies, shard: Shard) -> Prediction:
    """The labels with noise at every joint, under the camera that puts each body on its person."""
    rng, parts = np.random.default_rng(0), []
    for row in range(len(shard)):
        sample, view = shard.read(row), read_view(shard, row)
        noise = torch.from_numpy(rng.normal(0, 0.04 * (1 + row), (24, 3)).astype(np.float32))
        rotmats = rotvec_to_rotmat(torch.tensor(sample.pose)) @ rotvec_to_rotmat(noise)
        betas = torch.tensor(sample.betas)
        mesh = bodies.neutral(rotmats[None], betas[None])
        x, y, z = place_in_crop(bodies, mesh, view, BENCHMARK.box_scale * view.side, IMAGE_PX, np.array([0, 0, 50.0]))
        parts.append((rotmats, betas, torch.tensor([2 * FOCAL_PX / (IMAGE_PX * z), x, y], dtype=torch.float32)))
    return Prediction(*map(torch.stack, zip(*parts, strict=True)))


def _log() -> list[dict[str, Any]]:
    """A training of 20 epochs as `log.jsonl` has it: a loss that falls, a score each epoch, speed."""
    rng, lines = np.random.default_rng(0), list[dict[str, Any]]()
    for step in range(20, 2001, 20):
        fall, noise = float(np.exp(-step / 500)), rng.normal(0, 0.02, 3)
        losses = {"total": 8 * fall + 1 + noise[0], "pose": 2 * fall + 0.3 + noise[1]}
        pace = {"images_per_s": 200 + 300 * noise[2], "data_wait": 0.1, "lr": 1e-4 * fall}
        lines.append({"step": step, **losses, **pace, "epoch": step / 100})
        if step % 100 == 0:
            score = 120 * fall + 60 + 100 * noise[2]
            lines.append({"step": step, "benchmark": "synthetic_val", "protocol": "p", "pa_mpjpe": score})
    return lines


PAGES: dict[str, Callable[[Path], Path]] = {"report": report_page, "runs": runs_page}
