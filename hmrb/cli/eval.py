"""hmrb eval: evaluates checkpoints on benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from hmrb.cli.launch import CpuProcs, Gpus
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time

if TYPE_CHECKING:
    from hmrb.cli.launch import Processes
    from hmrb.cli.many import Command
    from hmrb.evaluation.protocols import Benchmark
    from hmrb.evaluation.records import Record
    from hmrb.parallel.world import World
    from hmrb.run import EvalOptions
    from hmrb.store import Store

ALL_PRESENT = "all-present"


@dataclass(frozen=True, slots=True)
class Scoring:
    """An evaluation job: checkpoints on benchmarks. Results go to `out`, or to each checkpoint's folder."""

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
        return f"eval-{_results_of(self.paths[0]).name or self.paths[0].stem}"

    @property
    def folder(self) -> None:
        """None: an evaluation is not restarted."""
        return None

    def prepare(self) -> None:
        """Renders missing synthetic people, checks every other file. Raises RequestError with what is missing."""
        from hmrb.checkpoint import load_checkpoint
        from hmrb.run import check_files

        _render_missing(self.benchmarks, self.store, self.options.quiet)
        for path in self.paths:
            check_files(self.benchmarks, load_checkpoint(path), self.store, self.options.by)

    def run(self, world: "World") -> None:
        """Evaluates. With `check`, raises RunError if a result differs from the number that a spec expects."""
        from hmrb.checkpoint import load_checkpoint
        from hmrb.errors import RunError
        from hmrb.parallel.world import keep_memory
        from hmrb.run import score_checkpoint, unmet

        if world.device.type == "cpu":
            keep_memory()
        records, problems = [], []
        for path in self.paths:
            folder = self.out or _results_of(path)
            found = score_checkpoint(path, self.benchmarks, self.store, world, folder, self.options)
            records += found
            if self.check and world.is_main:
                problems += unmet(load_checkpoint(path).experiment().expected, found)
        if not world.is_main:
            return
        if self.options.quiet:
            _print_json(records)
        elif len(self.paths) > 1:
            _print_means(self.paths, self.benchmarks)
        if problems:
            raise RunError("results differ from the numbers that the spec expects:\n" + "\n".join(problems))

    def command(self, processes: "Processes") -> "Command":
        """The same job as a command line."""
        from hmrb.cli.many import Command

        folder, options = (self.out or _results_of(self.paths[0])).absolute(), self.options
        words = ["eval", *(str(path.absolute()) for path in self.paths), *processes.words()]
        words += ["--out", str(folder)] if self.out else []
        words += [f"--bench={row.name}" for row in self.benchmarks] + [f"--by={column}" for column in options.by]
        words += [f"--metrics={name}" for name in self.metrics]
        words += ["--check"] * self.check + ["--json"] * options.quiet + ["--lean"] * options.lean
        words += [f"--precision={options.precision}"]
        words += [f"--worst={options.worst}"] * bool(options.worst)
        return Command(self.name, tuple(words), folder / "eval.log")


def eval_(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint, a run's folder, or demo.", show_default=False)
    ] = None,
    more: Annotated[
        list[str],
        typer.Argument(help="More checkpoints, benchmarks, metrics.", metavar="[MORE]...", show_default=False),
    ] = [],  # noqa: B006
    bench: Annotated[
        list[str],
        typer.Option("--bench", help="Benchmarks: names, study (the study's five) or all-present.", show_default=False),
    ] = [],  # noqa: B006
    metrics: Annotated[
        list[str],
        typer.Option(
            "--metrics", help="Compute only these metrics.  [default: all of the protocol]", show_default=False
        ),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  [default: the checkpoint's folder]", show_default=False)
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(help="Score the predictions in this file: .npz, .pkl or _samples.h5.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Print what this benchmark measures, then exit.", show_default=False)
    ] = None,
    by: Annotated[
        list[str],
        typer.Option("--by", help="Break results down by a column: occlusion, gender, viewpoint.", show_default=False),
    ] = [],  # noqa: B006
    worst: Annotated[int, typer.Option(min=0, help="Draw a sheet of the N people with the largest error.")] = 0,
    precision: Annotated[
        str, typer.Option(help="Precision of the network: fp32, bf16 or fp16. The record states it.")
    ] = "fp32",
    lean: Annotated[bool, typer.Option("--lean", help="Save each person's errors but not the predictions.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail if a result differs from the number that the spec expects.")
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
            typer.echo(f"{what + ':':<12} {words}")
        return
    if from_predictions is not None:
        more, checkpoint = [*([str(checkpoint)] if checkpoint else []), *more], None
    elif checkpoint is None:
        raise RequestError("which checkpoint? hmrb eval CHECKPOINT --bench NAME [NAME ...]")
    others, names, asked = _sort_arguments(more, bool(metrics))
    names, asked = [*bench, *names], [*metrics, *asked]

    from hmrb.lookup import find
    from hmrb.run import EvalOptions
    from hmrb.spec import Precision
    from hmrb.store import Store

    precisions: dict[str, Precision] = {name: name for name in get_args(Precision)}
    store, options = (
        Store.default(),
        EvalOptions(
            tuple(column.replace("-", "_") for column in by),
            worst,
            lean,
            find("precision", precision, precisions),
            json_,
        ),
    )
    if checkpoint is None:
        assert from_predictions is not None
        if others:
            raise RequestError(f"--from-predictions scores one file and no checkpoint; leave out {others[0]}")
        if not names:
            raise RequestError("which benchmarks? hmrb eval --from-predictions FILE --bench NAME")
        from hmrb.run import score_predictions

        folder = out or from_predictions.parent / from_predictions.stem
        records = score_predictions(from_predictions, _chosen(names, asked, store), store, folder, options)
        if json_:
            _print_json(records)
        return
    paths = tuple(_file(path) for path in (checkpoint, *others))
    if out and len(paths) > 1:
        raise RequestError("--out takes one checkpoint; the results of several go to the folder of each")
    if check and not names:
        names = _expected(paths)
    if not names:
        raise RequestError(f"which benchmarks? --bench NAME [NAME ...]. {_known()}")

    from hmrb.cli.launch import launch, plan_processes
    from hmrb.cli.slurm import plan_nodes, request, submit

    scoring = Scoring(paths, tuple(_chosen(names, asked, store)), options, out, store, check, tuple(asked))
    if not slurm:
        launch(plan_processes(gpus, cpu_procs), scoring)
        return
    processes = plan_nodes(gpus, cpu_procs)
    submission = request(processes, 0, partition, time, sbatch, 1)
    scoring.prepare()
    submit([scoring.command(processes)], submission, (out or _results_of(paths[0])).absolute() / "slurm", follow)


def _render_missing(benchmarks: "Sequence[Benchmark]", store: "Store", quiet: bool) -> None:
    """Renders synthetic splits that the benchmarks need and the store lacks; prints to stderr if quiet."""
    import sys
    from contextlib import nullcontext, redirect_stdout

    from hmrb.cli.convert_data import make_dataset
    from hmrb.data.sources import CONVERTERS

    rendered = {name for name, source in CONVERTERS.items() if source.makes_itself}
    for dataset, split in dict.fromkeys((row.dataset, row.split) for row in benchmarks if row.dataset in rendered):
        if not store.shard(dataset, split).exists():
            with redirect_stdout(sys.stderr) if quiet else nullcontext():
                typer.echo(f"{dataset} {split} is missing: creating it (hmrb convert-data {dataset} --split {split})")
                make_dataset(dataset, store, split)


def _print_json(records: "Sequence[Record]") -> None:
    import json

    typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))


def _print_means(paths: Sequence[Path], benchmarks: "Sequence[Benchmark]") -> None:
    """Prints one row per experiment: mean, standard deviation over seeds, interval."""
    from hmrb.cli.report import show
    from hmrb.evaluation.records import read_results
    from hmrb.reports.tables import compare

    for benchmark in benchmarks:
        results = read_results([_results_of(path) / "eval" / f"{benchmark.file_stem}.json" for path in paths])
        for metric in results[0].errors:
            for table in compare(results, metric, None):
                show(table)


def _file(path: Path) -> Path:
    """The checkpoint at a path; for a run's folder, its best checkpoint, else its last; `demo`: the package's."""
    from hmrb.checkpoint import Run
    from hmrb.models.demo import named_checkpoint

    path = named_checkpoint(path)
    run = Run(path)
    return (run.best if run.best.exists() else run.last) if path.is_dir() else path


def _results_of(checkpoint: Path) -> Path:
    """The folder for a checkpoint's results: its own; for the package's, which may be read-only, runs/demo."""
    from hmrb.models.demo import DEMO, DEMO_NAME

    return Path("runs") / DEMO_NAME if checkpoint == DEMO else checkpoint.parent


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
    from hmrb.evaluation.protocols import ALIASES, BENCHMARKS, GROUPS
    from hmrb.models.demo import DEMO_NAME

    key, path = word.replace("-", "_"), Path(word)
    if key in {*BENCHMARKS, *ALIASES, *GROUPS, ALL_PRESENT.replace("-", "_")}:
        return False
    if path.exists() or word == DEMO_NAME:
        return True
    families = {name.partition("/")[0] for name in BENCHMARKS}
    if path.suffix == ".pt" or ("/" in word and key.partition("/")[0] not in families):
        raise RequestError(f"{word}: no such checkpoint or run; hmrb list-benches lists the benchmarks")
    return False


def _known() -> str:
    from hmrb.evaluation.protocols import ROWS

    known = ", ".join(sorted(row.name for row in ROWS if not row.is_variant))
    return f"Known: {known}; hmrb list-benches lists more"


def _expected(checkpoints: Sequence[Path]) -> list[str]:
    """The benchmarks in the `expected:` rows of the checkpoints' specs."""
    from hmrb.checkpoint import load_checkpoint
    from hmrb.errors import RequestError

    expected = {path: load_checkpoint(path).experiment().expected for path in checkpoints}
    for path, rows in expected.items():
        if not rows:
            raise RequestError(f"--check: the spec of {path} expects no number; add rows to its `expected:`")
    return list(dict.fromkeys(row.benchmark for rows in expected.values() for row in rows))


def _chosen(names: Sequence[str], metrics: Sequence[str], store: "Store") -> "list[Benchmark]":
    """The benchmarks of these names and groups, without duplicates, limited to the requested metrics."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import GROUPS, ROWS, find_benchmark

    here = [row.name for row in ROWS if not row.is_variant and store.shard(row.dataset, row.split).exists()]
    groups = {**GROUPS, ALL_PRESENT: here}
    members = [member for name in names for member in groups.get(name.replace("_", "-"), [name])]
    if not members:
        raise RequestError(
            f"{ALL_PRESENT}: {store.root / 'shards'} has no benchmark's shard; create one with hmrb convert-data"
        )
    chosen = list(dict.fromkeys(find_benchmark(name) for name in members))
    return [row.only(tuple(metrics)) for row in chosen] if metrics else chosen
