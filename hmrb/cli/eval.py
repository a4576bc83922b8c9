"""hmrb eval: a checkpoint on benchmarks."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmrb.cli.launch import CpuProcs, Gpus
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time

if TYPE_CHECKING:
    from hmrb.benchmarks import Benchmark
    from hmrb.cli.launch import Processes
    from hmrb.cli.many import Command
    from hmrb.store import Store
    from hmrb.world import World

ALL_PRESENT = "all-present"


@dataclass(frozen=True, slots=True)
class Scoring:
    """A checkpoint on benchmarks, for every process of a world."""

    path: Path
    benchmarks: tuple[str, ...]
    by: tuple[str, ...]
    folder: Path
    store: "Store"
    check: bool
    json: bool

    @property
    def name(self) -> str:
        """For people, in Slurm's queue."""
        return f"eval-{self.path.stem if self.path.parent == Path() else self.path.parent.name}"

    def prepare(self) -> None:
        """Looks for all that is needed. Raises RequestError with what is missing."""
        from hmrb.benchmarks import find_benchmark
        from hmrb.checkpoint import load_checkpoint
        from hmrb.run import check_files

        benchmarks = [find_benchmark(name) for name in self.benchmarks]
        check_files(benchmarks, load_checkpoint(self.path), self.store, self.by)

    def run(self, world: "World") -> None:
        """Scores. Raises RunError where the spec expects other numbers and `check` asks for them."""
        import json

        from hmrb.benchmarks import find_benchmark
        from hmrb.checkpoint import load_checkpoint
        from hmrb.errors import RunError
        from hmrb.run import score_checkpoint, unmet

        benchmarks = [find_benchmark(name) for name in self.benchmarks]
        records = score_checkpoint(self.path, benchmarks, self.store, world, self.folder, self.json, self.by)
        if not world.is_main:
            return
        if self.json:
            typer.echo(json.dumps(records, indent=1))
        expected = load_checkpoint(self.path).experiment().expected if self.check else ()
        if problems := unmet(expected, records):
            raise RunError("the spec expects other numbers:\n" + "\n".join(problems))

    def command(self, processes: "Processes") -> "Command":
        """The same as a command line."""
        from hmrb.cli.many import Command

        folder = self.folder.absolute()
        words = ["eval", str(self.path.absolute()), "--out", str(folder), *processes.words()]
        words += [f"--bench={name}" for name in self.benchmarks] + [f"--by={column}" for column in self.by]
        words += ["--check"] * self.check + ["--json"] * self.json
        return Command(self.name, tuple(words), folder / "eval.log")


def eval_(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)
    ] = None,
    more: Annotated[list[str], typer.Argument(help="More benchmarks.", metavar="[BENCH]...", show_default=False)] = [],  # noqa: B006
    bench: Annotated[
        list[str],
        typer.Option("--bench", help="Benchmarks: names, study (its five) or all-present.", show_default=False),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  [default: the checkpoint's]", show_default=False)
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(help="Score the bodies in this file instead: .npz, .pkl, _samples.h5.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Say what this benchmark measures, and nothing else.", show_default=False)
    ] = None,
    by: Annotated[
        list[str],
        typer.Option("--by", help="Tell people apart by a column: occlusion, gender, box_px.", show_default=False),
    ] = [],  # noqa: B006
    check: Annotated[
        bool, typer.Option("--check", help="Fail where the numbers that the spec expects are not met.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the records as JSON, nothing else.")] = False,
    gpus: Gpus = None,
    cpu_procs: CpuProcs = 1,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Score a checkpoint on benchmarks: --bench 3dpw h36m. What they are: hmrb list-benches."""
    from hmrb.benchmarks import ROWS, find_benchmark
    from hmrb.errors import RequestError

    if explain is not None:
        for what, words in find_benchmark(explain).explained().items():
            typer.echo(f"{what + ':':<12} {words}")
        return
    if from_predictions is not None:
        _score_file(from_predictions, [*bench, *([str(checkpoint)] if checkpoint else []), *more], out, json_, by)
        return
    if checkpoint is None:
        raise RequestError("which checkpoint? hmrb eval CHECKPOINT --bench NAME [NAME ...]")
    names = [*bench, *more]
    if check and not names:
        names = _expected(checkpoint)
    if not names:
        known = ", ".join(sorted(row.name for row in ROWS if not row.is_variant))
        raise RequestError(f"which benchmarks? --bench NAME [NAME ...]. Known: {known}; hmrb list-benches has more")

    from hmrb.checkpoint import Run
    from hmrb.cli.launch import launch, plan_processes
    from hmrb.cli.slurm import plan_nodes, request, submit
    from hmrb.store import Store

    store = Store.default()
    benchmarks = tuple(benchmark.name for benchmark in _chosen(names, store))
    path = checkpoint
    if checkpoint.is_dir():
        run = Run(checkpoint)
        path = run.best if run.best.exists() else run.last
    scoring = Scoring(path, benchmarks, tuple(by), out or path.parent, store, check, json_)
    if not slurm:
        launch(plan_processes(gpus, cpu_procs), scoring)
        return
    processes = plan_nodes(gpus, cpu_procs)
    asked = request(processes, 0, partition, time, sbatch, 1)
    scoring.prepare()
    submit([scoring.command(processes)], asked, scoring.folder.absolute() / "slurm", follow)


def _score_file(path: Path, names: list[str], out: Path | None, json_: bool, by: list[str]) -> None:
    import json

    from hmrb.errors import RequestError
    from hmrb.run import score_predictions
    from hmrb.store import Store

    if not names:
        raise RequestError("which benchmarks? hmrb eval --from-predictions FILE --bench NAME")
    store = Store.default()
    records = score_predictions(path, _chosen(names, store), store, out or path.parent / path.stem, quiet=json_, by=by)
    if json_:
        typer.echo(json.dumps(records, indent=1))


def _expected(checkpoint: Path) -> list[str]:
    """The benchmarks of the rows that the checkpoint's spec expects."""
    from hmrb.checkpoint import load_checkpoint
    from hmrb.errors import RequestError

    names = list(dict.fromkeys(row.benchmark for row in load_checkpoint(checkpoint).experiment().expected))
    if not names:
        raise RequestError(f"--check: the spec of {checkpoint} expects no number; give it rows in `expected:`")
    return names


def _chosen(names: Sequence[str], store: "Store") -> "list[Benchmark]":
    """The benchmarks by their names and those of groups, each once."""
    from hmrb.benchmarks import GROUPS, ROWS, find_benchmark
    from hmrb.errors import RequestError

    here = [row.name for row in ROWS if not row.is_variant and store.shard(row.dataset, row.split).exists()]
    groups = {**GROUPS, ALL_PRESENT: here}
    members = [member for name in names for member in groups.get(name.replace("_", "-"), [name])]
    if not members:
        raise RequestError(f"{ALL_PRESENT}: no benchmark's shard is in {store.root / 'shards'}; hmrb convert-data")
    return list(dict.fromkeys(find_benchmark(name) for name in members))
