"""hmrb eval: a checkpoint on benchmarks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.benchmarks import Benchmark
    from hmrb.store import Store

ALL_PRESENT = "all-present"


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
) -> None:
    """Score a checkpoint on benchmarks: --bench 3dpw h36m. What they are: hmrb list-benches."""
    from hmrb.benchmarks import ROWS, find_benchmark
    from hmrb.errors import RequestError, RunError

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

    from hmrb.checkpoint import Run, load_checkpoint
    from hmrb.run import check_files, score_checkpoint, unmet
    from hmrb.store import Store
    from hmrb.world import start_world

    store = Store.default()
    benchmarks = _chosen(names, store)
    path = checkpoint
    if checkpoint.is_dir():
        run = Run(checkpoint)
        path = run.best if run.best.exists() else run.last
    loaded = load_checkpoint(path)
    check_files(benchmarks, loaded, store, by)
    records = score_checkpoint(path, benchmarks, store, start_world(), out or path.parent, quiet=json_, by=by)
    if json_:
        import json

        typer.echo(json.dumps(records, indent=1))
    if check and (problems := unmet(loaded.experiment().expected, records)):
        raise RunError("the spec expects other numbers:\n" + "\n".join(problems))


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
