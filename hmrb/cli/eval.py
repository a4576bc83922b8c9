"""hmrb eval: a checkpoint on benchmarks."""

from pathlib import Path
from typing import Annotated

import typer


def eval_(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint, or a run's folder.", show_default=False)],
    more: Annotated[list[str], typer.Argument(help="More benchmarks.", metavar="[BENCH]...", show_default=False)] = [],  # noqa: B006
    bench: Annotated[
        list[str], typer.Option("--bench", help="Benchmarks: one or several names.", show_default=False)
    ] = [],  # noqa: B006
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.  [default: the checkpoint's]", show_default=False)
    ] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print the records as JSON, nothing else.")] = False,
) -> None:
    """Score a checkpoint on benchmarks: --bench 3dpw h36m."""
    from hmrb.benchmarks import BENCHMARKS
    from hmrb.checkpoint import Run, load_checkpoint
    from hmrb.data.shard import open_shard
    from hmrb.errors import RequestError
    from hmrb.lookup import find
    from hmrb.run import score_checkpoint
    from hmrb.store import Store
    from hmrb.world import start_world

    names = [*bench, *more]
    if not names:
        raise RequestError(f"which benchmarks? --bench NAME [NAME ...]. Known: {', '.join(sorted(BENCHMARKS))}")
    benchmarks = [find("benchmark", name, BENCHMARKS) for name in names]
    path = checkpoint
    if checkpoint.is_dir():
        run = Run(checkpoint)
        path = run.best if run.best.exists() else run.last
    load_checkpoint(path)
    store = Store.default()
    for benchmark in benchmarks:
        open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
    records = score_checkpoint(path, benchmarks, store, start_world(), out or path.parent, quiet=json_)
    if json_:
        import json

        typer.echo(json.dumps(records, indent=1))
