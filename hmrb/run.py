"""A complete run: train, evaluate the selected checkpoint, write the report."""

import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from hmrb.checkpoint import Checkpoint, Run, code_version, load_checkpoint
from hmrb.data.checksums import check_once, is_verified
from hmrb.data.shard import Shard, open_shard, plain_name
from hmrb.errors import RequestError, joined
from hmrb.evaluation.breakdown import check_column, slices
from hmrb.evaluation.evaluate import Crop, ScoredPeople, Scores, evaluate, evaluate_checkpoint, open_benchmark
from hmrb.evaluation.metric_table import TITLES
from hmrb.evaluation.prediction_files import CAMERAS
from hmrb.evaluation.predictions import Predictions, read_predictions
from hmrb.evaluation.protocols import Benchmark, find_benchmark, through_smpl
from hmrb.evaluation.records import Machine, Provenance, Record
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import IMAGE_PX, Bodies
from hmrb.evaluation.truths import Truths
from hmrb.formats.files import short_sha
from hmrb.missing import bench_needs, refuse_missing, shard_needs
from hmrb.models.numerics import check_precision
from hmrb.parallel.world import World
from hmrb.reports.gallery import write_worst
from hmrb.reports.printed import print_slices, print_table
from hmrb.reports.run_page import write_report
from hmrb.spec import EvalPrecision, Expected, Experiment
from hmrb.store import Store
from hmrb.training.logger import Logger, run_logger
from hmrb.training.loop import train
from hmrb.training.tracking import tracked


def run_experiment(experiment: Experiment, run: Run, store: Store, world: World, track: Sequence[str] = ()) -> None:
    """Trains, then evaluates the spec's benchmarks and writes the report. Every rank must call it.

    `track` names the trackers that are told of it.
    """
    with tracked(track if world.is_main else (), experiment, run.folder) as tracking:
        if world.is_main:
            with run_logger(run.folder, tracking) as logger:
                train(experiment, run, store, world, logger)
        else:
            train(experiment, run, store, world, Logger())
        world.barrier()
        path = world.from_first(lambda: run.best if run.best.exists() else run.last)
        benchmarks = [find_benchmark(name) for name in experiment.evals.benches]
        workers = 0 if experiment.data.workers == 0 else None
        for record in score_checkpoint(path, benchmarks, store, world, run.folder, EvalOptions(workers=workers)):
            tracking.result(record)


def check_files(benchmarks: Sequence[Benchmark], checkpoint: Checkpoint, store: Store, by: Sequence[str] = ()) -> None:
    """Raises RequestError with every missing or incompatible shard, body and column, before anything runs."""
    body = checkpoint.experiment().body
    refuse_missing(bench_needs(benchmarks, body, store), f"this evaluation of {checkpoint.experiment().name}")
    problems: list[RequestError] = []
    rows: dict[tuple[str, str], Benchmark] = {}
    for row in benchmarks:
        try:
            benchmark, shard = open_benchmark(row, body, store)
            rows[benchmark.truth, benchmark.regressor] = benchmark
            check_once(shard, store)
            ScoredPeople.of(benchmark, shard)
            for column in by:
                check_column(shard, column)
        except RequestError as error:
            problems.append(error)
    for benchmark in rows.values():
        try:
            Bodies.load(body, benchmark, store, torch.device("cpu"))
        except RequestError as error:
            problems.append(error)
    if problems:
        raise joined(problems)


DTYPES: dict[EvalPrecision, str] = {"fp32": "float32", "tf32": "tf32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class EvalOptions:
    """Options of an evaluation: columns to break results down by, size of the sheet of worst people, precision.

    `lean` omits the predictions from the files; `precision` is the network's; `quiet` prints nothing;
    `workers` is the number of loading processes per process, None chooses; `crop` is what the network sees.
    """

    by: tuple[str, ...] = ()
    worst: int = 0
    lean: bool = False
    precision: EvalPrecision = "fp32"
    quiet: bool = False
    workers: int | None = None
    crop: Crop = "dataset"


def score_checkpoint(
    path: Path,
    benchmarks: Sequence[Benchmark],
    store: Store,
    world: World,
    folder: Path,
    options: EvalOptions = EvalOptions(),
    truths: Truths | None = None,
) -> list[Record]:
    """Evaluates a checkpoint, writes results and report to `folder` and returns the records.

    `truths` keeps the posed ground truth for other checkpoints.
    """
    world.from_first(lambda: check_precision(options.precision, world.device))
    checkpoint = world.from_first(lambda: load_checkpoint(path))
    experiment = checkpoint.experiment()
    scored: list[tuple[Record, Scores]] = []
    for benchmark in benchmarks:
        start = time.perf_counter()
        scores = evaluate_checkpoint(
            checkpoint, benchmark, store, world, options.precision, options.workers, truths, options.crop
        )
        seconds = time.perf_counter() - start
        if world.is_main:
            source = provenance_of(checkpoint, path, benchmark)
            made = machine(world, len(scores.people.rows), seconds, options.precision)
            record = _save(scores, store, folder, source, made, options)
            scored.append((record, scores))
            if options.worst:
                bodies = Bodies.load(experiment.body, scores.benchmark, store, torch.device("cpu"))
                sheet = folder / "eval" / f"{scores.benchmark.file_stem}_worst.jpg"
                write_worst(sheet, bodies, scores, experiment.model.image_px, options.worst)
    if world.is_main:
        page = write_report(folder, experiment, scored, store)
        if not options.quiet:
            print_table([record for record, _ in scored])
            print_slices([record for record, _ in scored])
            print(f"report: {page}")
            print_files([record for record, _ in scored], folder, options)
    world.barrier()
    return [record for record, _ in scored]


@dataclass(frozen=True, slots=True)
class _Checked:
    """A file of predictions, read for a benchmark that it can be scored on."""

    benchmark: Benchmark
    shard: Shard
    bodies: Bodies
    found: Predictions


def score_predictions(
    path: Path, benchmarks: Sequence[Benchmark], store: Store, folder: Path, options: EvalOptions = EvalOptions()
) -> list[Record]:
    """Scores a file of predictions, without its model. Writes and returns the records.

    Everything that can be refused is refused before the first benchmark is scored.
    """
    if not path.is_file():
        raise RequestError(f"{path}: predictions: no such file")
    needs = [need for row in benchmarks for need in shard_needs(row.dataset, row.split, store)]
    refuse_missing(dict.fromkeys(needs), "scoring these predictions")
    records = []
    world = World(0, 1, torch.device("cpu"))
    for ready in [_checked(path, benchmark, store, world, options) for benchmark in benchmarks]:
        start = time.perf_counter()
        benchmark, found = ready.benchmark, ready.found
        scores = evaluate(found.predictor, found.mean(), benchmark, ready.shard, ready.bodies, world)
        if not found.has_camera:
            scores = replace(scores, camera=scores.camera[:0])  # a record has no camera that nobody predicted
        source = _of_file(path, ready.bodies.predicted.name)
        seconds = time.perf_counter() - start
        records.append(_save(scores, store, folder, source, machine(world, len(scores.people.rows), seconds), options))
        if options.worst:
            sheet = folder / "eval" / f"{benchmark.file_stem}_worst.jpg"
            write_worst(sheet, ready.bodies, scores, IMAGE_PX, options.worst)
    if not options.quiet:
        print_table(records)
        print_slices(records)
        print_files(records, folder, options)
    return records


def print_files(records: Sequence[Record], folder: Path, options: EvalOptions) -> None:
    """Prints the names of the files that an evaluation wrote."""
    stems = [find_benchmark(record.benchmark).file_stem for record in records]
    endings = (".json", "_samples.h5", *(["_worst.jpg"] if options.worst else []))
    for stem in stems:
        print(f"results: {', '.join(str(folder / 'eval' / f'{stem}{ending}') for ending in endings)}")


def _checked(path: Path, benchmark: Benchmark, store: Store, world: World, options: EvalOptions) -> _Checked:
    shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
    check_once(shard, store)
    rows = ScoredPeople.of(benchmark, shard).rows
    for column in options.by:
        check_column(shard, column)
    bodies = Bodies.load(shard.info.body, benchmark, store, world.device)
    found = read_predictions(path, shard, bodies.predicted.kind)
    found.check_covers(rows)
    found.check_fits(benchmark, shard, bodies)
    if options.worst and found.are_points:
        raise RequestError("--worst needs bodies to draw; this file has joints or vertices only")
    if options.worst and not found.has_camera:
        raise RequestError(
            f"--worst draws bodies over their pictures and needs their camera; {path} has none ({', '.join(CAMERAS)}:"
            " N 3, scale and shift)"
        )
    return _Checked(benchmark, shard, bodies, found)


def _of_file(path: Path, body: str) -> Provenance:
    return Provenance(
        experiment=path.stem,
        checkpoint={"path": path.name, "sha": short_sha(path), "step": 0},
        chosen_by=f"unknown: predictions in {path.name}",
        body={"name": body, "sha": "unknown"},
        trained_on={},
        siblings_trained_on=None,
        spec={"name": path.stem, "seed": 0, "published": []},
        mean_body="the mean of the predictions",
    )


def _save(
    scores: Scores, store: Store, folder: Path, source: Provenance, made: Machine, options: EvalOptions
) -> Record:
    parts = {column: slices(scores, column) for column in options.by}
    verified = is_verified(scores.shard, store)
    return save_scores(scores, folder / "eval", source, made, parts, options.lean, verified)


def provenance_of(checkpoint: Checkpoint, path: Path, benchmark: Benchmark) -> Provenance:
    """Provenance of a checkpoint's results on a benchmark."""
    experiment = checkpoint.experiment()
    kin = (benchmark.dataset, *benchmark.siblings)
    return Provenance(
        experiment=experiment.name,
        checkpoint={
            "path": f"{path.absolute().parent.name}/{path.name}",  # a record tells nobody the folders of a machine
            "sha": short_sha(path),
            "step": checkpoint.step,
            "hmrb": checkpoint.code_version,
        },
        chosen_by=checkpoint.chosen_by,
        body=checkpoint.body,
        trained_on=checkpoint.shards,
        siblings_trained_on=(
            tuple(n for n in checkpoint.shards if plain_name(n) in kin) if checkpoint.shards else None
        ),
        spec=experiment.model_dump(mode="json"),
        knobs=checkpoint.training.get("knobs", {}),
    )


def machine(world: World, people: int, seconds: float, precision: EvalPrecision = "fp32") -> Machine:
    """The device, versions and throughput of an evaluation."""
    is_cuda = world.device.type == "cuda"
    return Machine(
        device=torch.cuda.get_device_name(world.device) if is_cuda else platform.processor() or "cpu",
        processes=world.size,
        dtype=DTYPES[precision],
        hmrb=code_version(),
        torch=str(torch.__version__),
        numpy=np.__version__,
        python=platform.python_version(),
        date=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seconds=round(seconds, 2),
        images_per_s=round(people / seconds, 1),
    )


def unmet(expected: Sequence[Expected], records: Sequence[Record]) -> list[str]:
    """A message for each expected number that these records miss; empty if all are met."""
    out = []
    for row in expected:
        benchmark = find_benchmark(row.benchmark)
        name, names = benchmark.name, (benchmark.name, through_smpl(benchmark).name)
        found = [
            record.metrics[row.metric]
            for record in records
            if record.benchmark in names and row.metric in record.metrics
        ]
        what = f"{name} {TITLES[row.metric]} {row.value:g} ± {row.tolerance:g} ({row.source})"
        if not found:
            out.append(f"{what}: not measured")
        elif abs(found[0].value - row.value) > row.tolerance:
            out.append(f"{what}: {found[0].value:.2f}")
    return out
