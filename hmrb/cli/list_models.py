"""hmrb list-models: lists the checkpoints that others have published and which of them are in the store."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pathlib import Path

    from hmrb.models.zoo import ZooModel
    from hmrb.spec import Published
    from hmrb.store import Store

FULL_WIDTH = 800  # width for a pipe: one line per model
NARROW = 180  # narrower terminals get FEW_COLUMNS
COLUMNS = ("name", "title", "file", "published", "body", "hmrb", "licences", "obtained", "here")
FEW_COLUMNS = ("name", "published", "hmrb", "here")
MARKDOWN = ("name", "title", "file", "published", "body", "hmrb", "licences", "obtained")
LEGEND = (
    "published: mm, or % for PCK, under the named protocol of hmrb; ? doubtful, --json says why.",
    "hmrb: eval, it runs and is scored here; train, a network to start from; -, score its own predictions.",
)


def list_models(
    word: Annotated[str, typer.Argument(help="Only models with this word in a field.", show_default=False)] = "",
    here: Annotated[bool, typer.Option("--here", help="Only models whose file is in the store.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print complete rows, with sources, as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/models.md.")] = False,
) -> None:
    """List published checkpoints: where to get them, licences, published numbers. Use a name with hmrb eval NAME."""
    from hmrb.errors import RequestError
    from hmrb.models.zoo import ZOO, near
    from hmrb.store import Store

    store = Store.default()
    rows = [row for row in ZOO.values() if word.lower() in " ".join((row.name, row.family.title, row.title)).lower()]
    if not rows:
        raise RequestError(f"no published model has '{word}' in its name or title.{near(word)}")
    if markdown and json_:
        raise RequestError("--json and --markdown are two ways to print the same; give one")
    if markdown:
        _print_markdown(rows)
        return
    found = {row.name: row.here(store) for row in rows}
    if here and not json_ and not any(found.values()):
        raise RequestError(f"none of {len(rows)} models was ever downloaded here: {store.models} has no file of theirs")
    rows = [row for row in rows if not here or found[row.name]]
    if json_:
        _print_json(rows, found)
    else:
        _print_table(rows, found, store)


def _print_json(rows: "list[ZooModel]", found: "dict[str, Path | None]") -> None:
    import json

    records = [row.model_dump(mode="json") | {"here": str(found[row.name] or "") or None} for row in rows]
    typer.echo(json.dumps(records, indent=1, ensure_ascii=False))


def _print_table(rows: "list[ZooModel]", found: "dict[str, Path | None]", store: "Store") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = FULL_WIDTH
    columns = COLUMNS if console.width >= NARROW else FEW_COLUMNS
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in ("name", "here"))
    for row in rows:
        cells = _cells(row) | {"here": "yes" if found[row.name] else "never downloaded"}
        table.add_row(*(cells[column] for column in columns))
    console.print(table)
    for line in LEGEND:
        console.print(line, soft_wrap=True)
    here = sum(path is not None for path in found.values())
    console.print(f"here: {here} of {len(found)} files are in {store.models}.", soft_wrap=True)
    if columns == FEW_COLUMNS:
        console.print(f"A terminal of {NARROW} columns, a pipe or --json shows more columns.", soft_wrap=True)


def _print_markdown(rows: "list[ZooModel]") -> None:
    lines = [MARKDOWN, ("---",) * len(MARKDOWN)]
    for row in rows:
        cells: dict[str, Any] = _cells(row)
        cells |= {"name": f"`{row.name}`", "file": f"`{row.file}`" if row.file else "-"}
        cells["obtained"] = f"[link]({row.obtained})" if row.obtained.startswith("http") else row.obtained
        cells["obtained"] += "" if row.access == "open" else f", {row.access}"
        lines.append(tuple(cells[column] for column in MARKDOWN))
    for line in lines:
        typer.echo(f"| {' | '.join(line)} |")


def _cells(row: "ZooModel") -> dict[str, str]:
    from hmrb.evaluation.protocols import find_benchmark

    by_protocol: dict[str, list[str]] = {}
    for number in row.published:
        by_protocol.setdefault(find_benchmark(number.benchmark).name, []).append(_number(number))
    runs = {"model": "eval", "backbone": "train"}[row.kind] if row.imports else "-"
    return {
        "name": row.name,
        "title": row.title,
        "file": row.file or "-",
        "published": "; ".join(f"{name}: {', '.join(numbers)}" for name, numbers in by_protocol.items()) or "-",
        "body": row.body,
        "hmrb": runs,
        "licences": f"code {row.code_licence or 'not stated'}; weights {row.weights_licence or 'not stated'}",
        "obtained": row.obtained if row.access == "open" else f"{row.obtained}, {row.access}",
    }


def _number(number: "Published") -> str:
    from hmrb.evaluation.metric_table import TITLES

    return f"{TITLES[number.metric]} {number.value:g}{' ?' if number.doubt else ''}"
