"""hmrb list-benches: lists the benchmarks and which of them have a shard in the store."""

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.evaluation.protocols import Benchmark
    from hmrb.store import Store

FULL_WIDTH = 200  # width for a pipe: one line per benchmark
ALL_COLUMNS = ("name", "protocol", "shard", "truth", "joints", "root", "metrics", "here")
FEW_COLUMNS = ("name", "truth", "joints", "here")


def list_benches(
    here: Annotated[bool, typer.Option("--here", help="Only benchmarks with a shard in the store.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print complete rows as JSON.")] = False,
) -> None:
    """List the benchmarks. Shows ground truth, joints and root. Details: hmrb eval --explain NAME."""
    from hmrb.evaluation.protocols import ROWS
    from hmrb.store import Store

    store = Store.default()
    rows = [row for row in ROWS if not here or _is_here(row, store)]
    if json_:
        _print_json(rows, store)
        return

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = FULL_WIDTH
    columns = ALL_COLUMNS if console.width >= FULL_WIDTH else FEW_COLUMNS
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("name", "here"))
    for row in rows:
        table.add_row(*(_cells(row, store)[column] for column in columns))
    console.print(table)
    console.print(f"here: whether the shard is in {store.root / 'shards'}.", soft_wrap=True)
    console.print(
        "Any other shard is one with rules of these: hmrb eval RUN --bench NAME --protocol pck2d", soft_wrap=True
    )


def _is_here(row: "Benchmark", store: "Store") -> bool:
    return store.shard(row.dataset, row.split).exists()


def _print_json(rows: "list[Benchmark]", store: "Store") -> None:
    import json
    from dataclasses import asdict

    records = [
        asdict(row)
        | {
            "protocol": row.protocol,
            "full_name": row.full_name,
            "joint_names": row.joint_names,
            "shard": str(store.shard(row.dataset, row.split)),
            "here": _is_here(row, store),
        }
        for row in rows
    ]
    typer.echo(json.dumps(records, indent=1))


def _cells(row: "Benchmark", store: "Store") -> dict[str, str]:
    from hmrb.evaluation.metric_table import TITLES

    return {
        "name": row.name,
        "protocol": row.protocol.partition("/")[2],
        "shard": f"{row.dataset} {row.split}",
        "truth": row.truth,
        "joints": f"{len(row.joint_names)} {row.joints}",
        "root": " + ".join(row.root),
        "metrics": ", ".join(TITLES[name] for name in row.metrics),
        "here": "yes" if _is_here(row, store) else "-",
    }
