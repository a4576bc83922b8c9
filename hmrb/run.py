"""A run from beginning to end: train, score the chosen checkpoint, draw the report."""

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from hmrb.benchmarks import Benchmark, find_benchmark
from hmrb.checkpoint import Checkpoint, Run, code_version, load_checkpoint
from hmrb.data.shard import open_shard
from hmrb.errors import RequestError
from hmrb.evaluate import Bodies, People, Scores, evaluate, evaluate_checkpoint, save_scores
from hmrb.metrics import TITLES
from hmrb.predictions import read_predictions
from hmrb.report import print_slices, print_table, write_report
from hmrb.slices import check_column, slices
from hmrb.spec import Expected, Experiment
from hmrb.store import Store
from hmrb.train import train
from hmrb.watch import Watcher, watching
from hmrb.world import World

PREDICTED_PX = 32  # pictures are not looked at


def run_experiment(experiment: Experiment, run: Run, store: Store, world: World) -> None:
    """Trains, then evaluates the spec's benchmarks and writes the report. Every process of the world calls it."""
    if world.is_main:
        with watching(run.folder) as watcher:
            train(experiment, run, store, world, watcher)
    else:
        train(experiment, run, store, world, Watcher())
    world.barrier()
    path = run.best if run.best.exists() else run.last
    benchmarks = [find_benchmark(name) for name in experiment.evals.benches]
    score_checkpoint(path, benchmarks, store, world, run.folder)


def check_files(benchmarks: Sequence[Benchmark], checkpoint: Checkpoint, store: Store, by: Sequence[str] = ()) -> None:
    """Raises RequestError with every shard, body and column that is missing or does not fit, before anything runs."""
    problems: list[str] = []
    body = checkpoint.experiment().body
    for benchmark in benchmarks:
        try:
            shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
            People.of(benchmark, shard)
            for column in by:
                check_column(shard, column)
        except RequestError as error:
            problems.append(str(error))
    for benchmark in {benchmark.truth: benchmark for benchmark in benchmarks}.values():
        try:
            Bodies.load(body, benchmark, store, torch.device("cpu"))
        except RequestError as error:
            problems.append(str(error))
    if problems:
        raise RequestError("\n".join(dict.fromkeys(problems)))


def score_checkpoint(
    path: Path,
    benchmarks: Sequence[Benchmark],
    store: Store,
    world: World,
    folder: Path,
    quiet: bool = False,
    by: Sequence[str] = (),
) -> list[dict[str, Any]]:
    """Scores a checkpoint and writes results and report into `folder`; gives the records, sliced `by` columns too."""
    checkpoint = load_checkpoint(path)
    scored: list[tuple[dict[str, Any], Scores]] = []
    for benchmark in benchmarks:
        start = time.perf_counter()
        scores = evaluate_checkpoint(checkpoint, benchmark, store, world)
        seconds = time.perf_counter() - start
        if world.is_main:
            about = about_checkpoint(checkpoint, path, world) | {
                "images_per_s": round(len(scores.people.rows) / seconds, 1),
                "slices": {column: [asdict(part) for part in slices(scores, column)] for column in by},
            }
            scored.append((save_scores(scores, folder / "eval", about), scores))
    if world.is_main:
        page = write_report(folder, checkpoint.experiment(), scored, store)
        if not quiet:
            print_table([record for record, _ in scored])
            print_slices([record for record, _ in scored])
            for record, _ in scored:
                for reason, count in record["skipped"].items():
                    print(f"{record['benchmark']}: skipped {count} of {record['shard']['num_people']} people: {reason}")
            print(f"report: {page}")
    world.barrier()
    return [record for record, _ in scored]


def score_predictions(
    path: Path, benchmarks: Sequence[Benchmark], store: Store, folder: Path, quiet: bool = False, by: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Scores the bodies in a file of predictions, without the model that made them; writes and gives the records."""
    records = []
    world = World(0, 1, torch.device("cpu"))
    for benchmark in benchmarks:
        shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
        bodies = Bodies.load(shard.info.body, benchmark, store, world.device)
        found = read_predictions(path, shard)
        scores = evaluate(found.of, found.mean, benchmark, shard, bodies, world, image_px=PREDICTED_PX)
        neutral = bodies.by_gender["neutral"]
        about = {
            "experiment": path.stem,
            "checkpoint": {"path": str(path), "sha": file_sha(path), "step": 0},
            "chosen_by": f"unknown: predictions in {path.name}",
            "body": {"name": neutral.name, "sha": "unknown"},
            "trained_on": {},
            "spec": {"name": path.stem, "seed": 0, "published": []},
            "mean_body": "the mean of the predictions",
            "slices": {column: [asdict(part) for part in slices(scores, column)] for column in by},
            **_here(world),
        }
        records.append(save_scores(scores, folder / "eval", about))
    if not quiet:
        print_table(records)
        print_slices(records)
    return records


def about_checkpoint(checkpoint: Checkpoint, path: Path, world: World) -> dict[str, Any]:
    """What a record says of where its number comes from."""
    experiment = checkpoint.experiment()
    return {
        "experiment": experiment.name,
        "checkpoint": {"path": str(path), "sha": file_sha(path), "step": checkpoint.step},
        "chosen_by": checkpoint.chosen_by,
        "body": checkpoint.body,
        "trained_on": checkpoint.shards,
        "spec": experiment.model_dump(mode="json"),
        **_here(world),
    }


def _here(world: World) -> dict[str, Any]:
    """What a record says of where it was made."""
    return {
        "device": torch.cuda.get_device_name(world.device)
        if world.device.type == "cuda"
        else platform.processor() or "cpu",
        "processes": world.size,
        "dtype": "float32",
        "hmrb": code_version(),
        "torch": str(torch.__version__),
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def file_sha(path: Path) -> str:
    """16 hex digits of a file's SHA-256."""
    import hashlib

    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def unmet(expected: Sequence[Expected], records: Sequence[dict[str, Any]]) -> list[str]:
    """What a spec expects of its checkpoint and these records do not show, in words; empty where all is met."""
    out = []
    for row in expected:
        name = find_benchmark(row.benchmark).name
        found = [record["metrics"][row.metric] for record in records if record["benchmark"] == name]
        what = f"{name} {TITLES[row.metric]} {row.value:g} ± {row.tolerance:g} ({row.source})"
        if not found:
            out.append(f"{what}: not measured")
        elif abs(found[0]["mm"] - row.value) > row.tolerance:
            out.append(f"{what}: {found[0]['mm']:.2f}")
    return out
