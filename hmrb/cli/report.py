"""hmrb report: a table from results."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.reports.tables import Comparison


class Format(StrEnum):
    """How a table is written."""

    rich = "rich"
    md = "md"
    csv = "csv"
    html = "html"
    json = "json"


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files, or folders of runs.", show_default=False)],
    metric: Annotated[list[str], typer.Option(help="The metric in the table; again for more tables.")] = ["pa_mpjpe"],  # noqa: B006
    overview: Annotated[bool, typer.Option("--overview", help="All metrics of each result, in Markdown.")] = False,
    against: Annotated[
        str | None, typer.Option(help="An experiment; adds differences to it.", show_default=False)
    ] = None,
    studies: Annotated[
        bool, typer.Option("--studies", help="A table for each published table that results are held against.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="How the table is written.")] = Format.rich,
) -> None:
    """Put results side by side: seeds of one experiment in a row, each protocol in a table of its own."""
    import json
    from dataclasses import asdict

    from hmrb.evaluation.records import read_results
    from hmrb.reports import tables
    from hmrb.reports.tables import as_csv, as_html, as_markdown, compare

    found = read_results(results)
    if overview:
        typer.echo("\n".join(tables.overview(result.record) for result in found), nl=False)
        return
    comparisons = [table for name in metric for table in compare(found, name, against, studies)]
    if format_ is Format.json:
        typer.echo(json.dumps([asdict(comparison) for comparison in comparisons], indent=1))
    elif format_ is Format.md:
        typer.echo("\n".join(as_markdown(comparison) for comparison in comparisons), nl=False)
    elif format_ is Format.csv:
        typer.echo(as_csv(comparisons), nl=False)
    elif format_ is Format.html:
        typer.echo(as_html(comparisons))
    else:
        for comparison in comparisons:
            show(comparison)


def show(comparison: "Comparison") -> None:
    """A table on the terminal."""
    from rich.console import Console
    from rich.table import Table

    from hmrb.reports.tables import about, cells

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
