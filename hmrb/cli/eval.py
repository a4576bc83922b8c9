"""hmrb eval: a checkpoint on benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.benchmarks import Benchmark
    from hmrb.results import Record
    from hmrb.store import Store

ALL_PRESENT = "all-present"


def eval_(
    checkpoint: Annotated[
        Path | None, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)
    ] = None,
    more: Annotated[
        list[str],
        typer.Argument(help="More checkpoints, benchmarks, metrics.", metavar="[MORE]...", show_default=False),
    ] = [],  # noqa: B006
    bench: Annotated[
        list[str],
        typer.Option("--bench", help="Benchmarks: names, study (its five) or all-present.", show_default=False),
    ] = [],  # noqa: B006
    metrics: Annotated[
        list[str],
        typer.Option("--metrics", help="Only these metrics.  [default: all of the protocol]", show_default=False),
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  [default: the checkpoint's]", show_default=False)
    ] = None,
    from_predictions: Annotated[
        Path | None,
        typer.Option(help="Score what this file holds instead: .npz, .pkl, _samples.h5.", show_default=False),
    ] = None,
    explain: Annotated[
        str | None, typer.Option(help="Say what this benchmark measures, and nothing else.", show_default=False)
    ] = None,
    by: Annotated[
        list[str],
        typer.Option("--by", help="Tell people apart by a column: occlusion, gender, viewpoint.", show_default=False),
    ] = [],  # noqa: B006
    worst: Annotated[int, typer.Option(min=0, help="Draw a sheet of the worst N people.")] = 0,
    lean: Annotated[bool, typer.Option("--lean", help="Keep the numbers of each person, not the predictions.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail where the numbers that the spec expects are not met.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print the records as JSON, nothing else.")] = False,
) -> None:
    """Score checkpoints on benchmarks: --bench 3dpw h36m. What they are: hmrb list-benches."""
    from hmrb.benchmarks import find_benchmark
    from hmrb.errors import RequestError, RunError

    if explain is not None:
        for what, words in find_benchmark(explain).explained().items():
            typer.echo(f"{what + ':':<12} {words}")
        return
    if from_predictions is not None:
        more, checkpoint = [*([str(checkpoint)] if checkpoint else []), *more], None
    elif checkpoint is None:
        raise RequestError("which checkpoint? hmrb eval CHECKPOINT --bench NAME [NAME ...]")
    others, names, asked = _told_apart(more, bool(metrics))
    names, asked = [*bench, *names], [*metrics, *asked]

    from hmrb.run import Wanted
    from hmrb.store import Store

    store, wanted = Store.default(), Wanted(tuple(by), worst, lean, json_)
    if checkpoint is None:
        assert from_predictions is not None
        if not names:
            raise RequestError("which benchmarks? hmrb eval --from-predictions FILE --bench NAME")
        from hmrb.run import score_predictions

        folder = out or from_predictions.parent / from_predictions.stem
        records = score_predictions(from_predictions, _chosen(names, asked, store), store, folder, wanted)
        if json_:
            _print_json(records)
        return
    paths = [_file(path) for path in (checkpoint, *others)]
    if out and len(paths) > 1:
        raise RequestError("--out is for one checkpoint; results of several go beside each")
    if check and not names:
        names = _expected(paths)
    if not names:
        raise RequestError(f"which benchmarks? --bench NAME [NAME ...]. {_known()}")

    from hmrb.checkpoint import load_checkpoint
    from hmrb.run import check_files, score_checkpoint, unmet
    from hmrb.world import start_world

    benchmarks, records, problems = _chosen(names, asked, store), [], []
    loaded = [load_checkpoint(path) for path in paths]
    for one in loaded:
        check_files(benchmarks, one, store, by)
    world = start_world()
    for path, one in zip(paths, loaded, strict=True):
        found = score_checkpoint(path, benchmarks, store, world, out or path.parent, wanted)
        records += found
        if check:
            problems += unmet(one.experiment().expected, found)
    if json_:
        _print_json(records)
    elif len(paths) > 1 and world.is_main:
        _print_means(paths, benchmarks)
    if problems:
        raise RunError("the spec expects other numbers:\n" + "\n".join(problems))


def _print_json(records: "list[Record]") -> None:
    import json

    typer.echo(json.dumps([record.model_dump(mode="json") for record in records], indent=1))


def _print_means(paths: list[Path], benchmarks: "list[Benchmark]") -> None:
    """Checkpoints of one experiment with several seeds as one row: mean, spread over seeds, interval."""
    from hmrb.cli.report import show
    from hmrb.results import read_results
    from hmrb.tables import compare

    for benchmark in benchmarks:
        results = read_results([path.parent / "eval" / f"{benchmark.file_stem}.json" for path in paths])
        for metric in results[0].errors:
            for table in compare(results, metric, None):
                show(table)


def _file(path: Path) -> Path:
    """The checkpoint at a path; of a run's folder the chosen one."""
    from hmrb.checkpoint import Run

    run = Run(path)
    return (run.best if run.best.exists() else run.last) if path.is_dir() else path


def _told_apart(words: list[str], has_metrics: bool) -> tuple[list[Path], list[str], list[str]]:
    """Checkpoints, benchmarks and metrics among the words that came without an option of their own."""
    from hmrb.metrics import TITLES

    paths, names, metrics = [], [], []
    for word in words:
        if Path(word).suffix == ".pt" or Path(word).is_dir():
            paths.append(Path(word))
        elif has_metrics and word.replace("-", "_") in TITLES:
            metrics.append(word)
        else:
            names.append(word)
    return paths, names, metrics


def _known() -> str:
    from hmrb.benchmarks import ROWS

    known = ", ".join(sorted(row.name for row in ROWS if not row.is_variant))
    return f"Known: {known}; hmrb list-benches has more"


def _expected(checkpoints: list[Path]) -> list[str]:
    """The benchmarks of the rows that the checkpoints' specs expect."""
    from hmrb.checkpoint import load_checkpoint
    from hmrb.errors import RequestError

    expected = {path: load_checkpoint(path).experiment().expected for path in checkpoints}
    for path, rows in expected.items():
        if not rows:
            raise RequestError(f"--check: the spec of {path} expects no number; give it rows in `expected:`")
    return list(dict.fromkeys(row.benchmark for rows in expected.values() for row in rows))


def _chosen(names: Sequence[str], metrics: Sequence[str], store: "Store") -> "list[Benchmark]":
    """The benchmarks by their names and those of groups, each once, with the metrics that are asked for."""
    from hmrb.benchmarks import GROUPS, ROWS, find_benchmark
    from hmrb.errors import RequestError

    here = [row.name for row in ROWS if not row.is_variant and store.shard(row.dataset, row.split).exists()]
    groups = {**GROUPS, ALL_PRESENT: here}
    members = [member for name in names for member in groups.get(name.replace("_", "-"), [name])]
    if not members:
        raise RequestError(f"{ALL_PRESENT}: no benchmark's shard is in {store.root / 'shards'}; hmrb convert-data")
    chosen = list(dict.fromkeys(find_benchmark(name) for name in members))
    return [row.only(tuple(metrics)) for row in chosen] if metrics else chosen
