"""hmrb report: a table from results."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Format(StrEnum):
    """How a table is written."""

    rich = "rich"
    md = "md"
    csv = "csv"
    json = "json"


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files, or folders of runs.", show_default=False)],
    metric: Annotated[str, typer.Option(help="The metric in the table.")] = "pa_mpjpe",
    against: Annotated[
        str | None, typer.Option(help="An experiment; adds differences to it.", show_default=False)
    ] = None,
    format_: Annotated[Format, typer.Option("--format", help="How the table is written.")] = Format.rich,
) -> None:
    """Put results side by side: seeds of one experiment in a row, each protocol in a table of its own."""
    import json
    from dataclasses import asdict

    from hmrb.tables import about, as_csv, as_markdown, cells, compare, read_results

    comparisons = compare(read_results(results), metric, against)
    if format_ is Format.json:
        typer.echo(json.dumps([asdict(comparison) for comparison in comparisons], indent=1))
        return
    for comparison in comparisons:
        if format_ is Format.md:
            typer.echo(as_markdown(comparison))
            continue
        if format_ is Format.csv:
            typer.echo(as_csv(comparison), nl=False)
            continue
        from rich.console import Console
        from rich.table import Table

        head, *lines = cells(comparison)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for i, title in enumerate(head):
            width = max(len(line[i]) for line in [head, *lines])
            table.add_column(title, justify="right" if i else "left", min_width=width)
        for line in lines:
            table.add_row(*line)
        console = Console()
        console = Console(width=max(console.width, 110))
        console.print(about(comparison), highlight=False)
        console.print(table)
