"""hmrb eval: evaluates checkpoints on benchmarks."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from hmrb.cli import benches
from hmrb.cli.launch import CpuProcs, Gpus
from hmrb.cli.lines import for_terminal
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time

if TYPE_CHECKING:
    from hmrb.cli.launch import Processes
    from hmrb.cli.many import Command
    from hmrb.evaluation.evaluate import Crop
    from hmrb.evaluation.protocols import Benchmark
    from hmrb.evaluation.records import Record
    from hmrb.parallel.world import World
    from hmrb.run import EvalOptions
    from hmrb.store import Store


@dataclass(frozen=True, slots=True)
class Scoring:
    """An evaluation job: checkpoints on benchmarks. Results go to `out`, or to each checkpoint's folder.

    `words` are the checkpoints as they were asked for: paths, and names of the model zoo.
    """

    words: tuple[str, ...]
    paths: "tuple[Path, ...]"
    benchmarks: "tuple[Benchmark, ...]"
    options: "EvalOptions"
    out: Path | None
    store: "Store"
    check: bool
    metrics: tuple[str, ...] = ()
    """The requested metrics; empty: all metrics of each benchmark."""

    @property
    def name(self) -> str:
        """The job's name in Slurm's queue."""
        return f"eval-{self.folder_of(self.paths[0]).name or self.paths[0].stem}"

    @property
    def folder(self) -> None:
        """None: an evaluation is not restarted."""
        return None

    def prepare(self) -> None:
        """Renders missing synthetic people, checks every other file. Raises RequestError with what is missing."""
        from hmrb.checkpoint import load_checkpoint
        from hmrb.run import check_files

        benches.render_missing(self.benchmarks, self.store, self.options.quiet)
        for path in self.paths:
            check_files(self.benchmarks, load_checkpoint(path), self.store, self.options.by)

    def run(self, world: "World") -> None:
        """Evaluates. With `check`, raises RunError if a result differs from the number that a spec expects."""
        from hmrb.errors import RunError
        from hmrb.evaluation.protocols import find_benchmark
        from hmrb.evaluation.truths import Truths
        from hmrb.run import score_checkpoint, unmet
        from hmrb.system import keep_memory

        if world.device.type == "cpu":
            keep_memory()
        truths = Truths.for_processes(world.size) if len(self.paths) > 1 else None
        records, problems, stems = [], [], []
        for word, path in zip(self.words, self.paths, strict=True):
            folder = self.folder_of(path)
            found = score_checkpoint(path, self.benchmarks, self.store, world, folder, self.options, truths)
            records += found
            stems.append([find_benchmark(record.benchmark).file_stem for record in found])
            if self.check and world.is_main:
                problems += unmet(benches.expected(word, path), found)
        if not world.is_main:
            return
        if self.options.quiet:
            _print_json(records)
        elif len(self.paths) > 1:
            _print_means([self.folder_of(path) for path in self.paths], stems)
        if problems:
            raise RunError("results differ from the expected numbers:\n" + "\n".join(problems))
        if self.check and not self.options.quiet:
            met = benches.all_expected(self.words, self.paths)
            typer.echo(f"as expected: {', '.join(map(benches.said, met))}")

    def folder_of(self, path: Path) -> Path:
        """Where the results of a checkpoint go."""
        from hmrb.finding import results_folder

        return self.out or results_folder(path, self.store)

    def check_folders(self) -> None:
        """Raises RequestError if two checkpoints would write to the same files, or fewer numbers replaced more."""
        from hmrb.errors import RequestError

        before: dict[Path, Path] = {}
        for path in self.paths:
            folder = self.folder_of(path)
            other = before.get(folder.resolve())
            if other is not None:
                raise RequestError(
                    f"{other} and {path} would write their results to one folder, {folder}; evaluate one at a time,"
                    " each with its own -o"
                )
            before[folder.resolve()] = path
            for row in self.benchmarks:
                benches.refuse_less(folder / "eval" / f"{row.file_stem}.json", path, row, self.options)

    def command(self, processes: "Processes") -> "Command":
        """The same job as a command line."""
        from hmrb.cli.many import Command

        folder, options = self.folder_of(self.paths[0]).absolute(), self.options
        both = zip(self.words, self.paths, strict=True)
        named = (word if benches.zoo_row(word) else str(path.absolute()) for word, path in both)
        words = ["eval", *named, *processes.words()]
        words += ["--out", str(folder)] if self.out else []
        words += [f"--bench={row.name}" for row in self.benchmarks] + [f"--by={column}" for column in options.by]
        words += [f"--metrics={name}" for name in self.metrics]
        words += ["--check"] * self.check + ["--json"] * options.quiet + ["--lean"] * options.lean
        words += [f"--precision={options.precision}", *([f"--crop={options.crop}"] * (options.crop != "dataset"))]
        words += [f"--worst={options.worst}"] * bool(options.worst)
        words += [] if options.workers is None else [f"--workers={options.workers}"]
        return Command(self.name, tuple(words), folder / "eval.log")


def eval_(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(help="A checkpoint, a run's folder, demo, or a name of hmrb list-models.", show_default=False),
    ] = None,
    more: Annotated[
        list[str],
        typer.Argument(help="More checkpoints, benchmarks, metrics.", metavar="MORE", show_default=False),
    ] = [],  # noqa: B006
    bench: Annotated[
        list[str],
        typer.Option(
            "--bench",
            help="Benchmarks: names, study (the study's five), all-present, or shards.  [default: the spec's]",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    protocol: Annotated[
        str,
        typer.Option(
            help="For shards that are no benchmark: pck2d, mpjpe14, ... or a YAML file, NAME: PROTOCOL.",
            show_default=False,
        ),
    ] = "",
    metrics: Annotated[
        list[str],
        typer.Option(
            "--metrics", help="Compute only these metrics.  [default: all of the protocol]", show_default=False
        ),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for results; the file of --template.  [default: the checkpoint's folder]",
            show_default=False,
        ),
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(help="Score the predictions in this file: .npz, .pkl or _samples.h5.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Print what this benchmark measures, then exit.", show_default=False)
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            metavar="BENCH", help="Write its people, to be filled with predictions: -o people.npz.", show_default=False
        ),
    ] = None,
    by: Annotated[
        list[str],
        typer.Option("--by", help="Break results down by a column: occlusion, gender, viewpoint.", show_default=False),
    ] = [],  # noqa: B006
    worst: Annotated[int, typer.Option(min=0, help="Draw a sheet of the N people with the largest error.")] = 0,
    precision: Annotated[
        str, typer.Option(help="Precision of the network: fp32, tf32, bf16 or fp16. The record states it.")
    ] = "fp32",
    crop: Annotated[
        str, typer.Option(help="What the network sees: the dataset's square, or the method's own crop (method).")
    ] = "dataset",
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Loading processes per process; 0 loads in the process itself.  [default: by cores and people]",
            show_default=False,
        ),
    ] = None,
    lean: Annotated[bool, typer.Option("--lean", help="Save each person's errors but not the predictions.")] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="Fail if a result differs from the expected or published number."),
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print only the records, as JSON.")] = False,
    gpus: Gpus = None,
    cpu_procs: CpuProcs = 1,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Evaluate checkpoints on benchmarks: --bench 3dpw h36m. hmrb list-benches lists them."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import find_benchmark

    if explain is not None:
        for what, words in find_benchmark(explain).explained().items():
            typer.echo(for_terminal(f"{what + ':':<12} {words}", 13))
        return
    if template is not None:
        _write_template(template, protocol, out)
        return
    if from_predictions is not None:
        more, checkpoint = [*([str(checkpoint)] if checkpoint else []), *more], None
    elif checkpoint is None:
        raise RequestError("which checkpoint? hmrb eval CHECKPOINT --bench NAME [NAME ...]")
    others, names, asked = _sort_arguments(more, bool(metrics))
    names, asked = [*bench, *names], [*metrics, *asked]

    from hmrb.lookup import find
    from hmrb.spec import EvalPrecision, auto_workers
    from hmrb.store import Store

    precisions: dict[str, EvalPrecision] = {name: name for name in get_args(EvalPrecision)}
    crops: dict[str, Crop] = {"dataset": "dataset", "method": "method"}
    store, network_precision = Store.default(), find("precision", precision, precisions)
    seen = find("crop", crop, crops)
    if from_predictions is not None and seen != "dataset":
        raise RequestError(f"--crop {crop}: predictions of a file are made already; leave it out")
    asked_for = tuple(str(word) for word in (checkpoint, *others) if word is not None)
    rows = benches.chosen(names, asked, store, protocol) if names else []  # names are checked before files
    benches.check_request(asked_for, from_predictions, names, out)

    from hmrb.run import EvalOptions  # torch, which takes seconds

    columns = tuple(column.replace("-", "_") for column in by)
    options = EvalOptions(columns, worst, lean, network_precision, json_, workers, seen)
    if from_predictions is not None:
        from hmrb.run import score_predictions

        folder = out or from_predictions.parent / from_predictions.stem
        records = score_predictions(from_predictions, rows, store, folder, options)
        if json_:
            _print_json(records)
        return

    from functools import partial

    from hmrb.finding import find_model

    paths = tuple(find_model(word, store, partial(typer.echo, err=True)) for word in asked_for)
    if check:
        benches.all_expected(asked_for, paths)
    if not names:
        names = benches.of(asked_for, paths, check)
        if not names:
            raise RequestError(f"which benchmarks? --bench NAME [NAME ...]. {benches.known()}")
        rows = benches.chosen(names, asked, store, protocol)

    from hmrb.cli.launch import launch, plan_processes
    from hmrb.cli.slurm import check_slurm, plan_nodes, request, submit

    scoring = Scoring(asked_for, paths, tuple(rows), options, out, store, check, tuple(asked))
    scoring.check_folders()
    if not slurm:
        launch(plan_processes(gpus, cpu_procs), scoring)
        return
    processes = plan_nodes(gpus, cpu_procs)
    loading = auto_workers(math.inf, on_gpu=True) if processes.use_gpu else 0
    submission = request(processes, loading if workers is None else workers, partition, time, sbatch, 1)
    check_slurm()
    scoring.prepare()
    submit([scoring.command(processes)], submission, scoring.folder_of(paths[0]).absolute() / "slurm", follow)


def _print_json(records: "Sequence[Record]") -> None:
    import json

    typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))


def _write_template(name: str, protocol: str, out: Path | None) -> None:
    from hmrb.missing import refuse_missing, shard_needs
    from hmrb.store import Store

    store = Store.default()
    (benchmark,) = benches.chosen([name], (), store, protocol)
    refuse_missing(shard_needs(benchmark.dataset, benchmark.split, store), f"the template of {name}")
    benches.render_missing([benchmark], store, quiet=False)
    from hmrb.data.shard import open_shard
    from hmrb.evaluation.template import write_template

    shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
    path = out or Path(f"{benchmark.file_stem}_people.npz")
    people = write_template(benchmark, shard, path)
    for reason, count in people.skipped.items():
        typer.echo(f"left out: {count} people: {reason}; {benchmark.name} does not score them")
    more = f" --protocol {protocol}" if protocol else ""
    typer.echo(
        f"{path}: {len(people.rows)} people: row, imgname, bbox (x, y, width, height in pixels of the photo). Add pose"
        " and betas, or joints or vertices, in this order (docs/results.md), and save it; then\n"
        f"hmrb eval --from-predictions {path} --bench {name}{more}"
    )


def _print_means(folders: Sequence[Path], stems: Sequence[Sequence[str]]) -> None:
    """Prints one row per experiment: mean, standard deviation over seeds, interval. `stems` are each one's records."""
    from hmrb.cli.report import show
    from hmrb.evaluation.records import read_results
    from hmrb.reports.tables import compare

    for row in zip(*stems, strict=True):
        results = read_results([folder / "eval" / f"{stem}.json" for folder, stem in zip(folders, row, strict=True)])
        for metric in results[0].errors:
            for table in compare(results, metric, None):
                show(table)


def _sort_arguments(words: list[str], has_metrics: bool) -> tuple[list[Path], list[str], list[str]]:
    """Sorts positional arguments into checkpoints, benchmarks and metrics."""
    from hmrb.evaluation.metric_table import TITLES

    paths, names, metrics = [], [], []
    for word in words:
        if has_metrics and word.replace("-", "_") in TITLES:
            metrics.append(word)
        elif _is_path(word):
            paths.append(Path(word))
        else:
            names.append(word)
    return paths, names, metrics


def _is_path(word: str) -> bool:
    """Whether a word means a file or folder and no benchmark. Raises RequestError if that is not there."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import ALIASES, BENCHMARKS, GROUPS, find_benchmark
    from hmrb.lookup import UnknownName

    key, path = word.replace("-", "_"), Path(word)
    if key in {*BENCHMARKS, *ALIASES, *GROUPS, benches.ALL_PRESENT.replace("-", "_")}:
        return False
    if path.exists() or benches.is_model(word):
        return True
    with suppress(UnknownName):
        find_benchmark(word)
        return False
    families = {name.partition("/")[0] for name in BENCHMARKS}
    if path.suffix == ".pt" or ("/" in word and key.partition("/")[0] not in families):
        raise RequestError(f"{word}: no such checkpoint or run; hmrb list-benches lists the benchmarks")
    return False
