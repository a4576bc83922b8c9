"""hmrb report: builds tables from results."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.reports.tables import Comparison


class Format(StrEnum):
    """Output format of a table."""

    rich = "rich"
    md = "md"
    csv = "csv"
    html = "html"
    tex = "tex"
    json = "json"


def report(
    results: Annotated[list[Path], typer.Argument(help="Result files, or run folders.", show_default=False)],
    metric: Annotated[list[str], typer.Option(help="Metric of the table; repeat for more tables.")] = ["pa_mpjpe"],  # noqa: B006
    overview: Annotated[
        bool, typer.Option("--overview", help="Print all metrics of each result, in Markdown.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Baseline experiment; adds each difference to it.", show_default=False)
    ] = None,
    studies: Annotated[
        bool, typer.Option("--studies", help="One table per published table, with the difference to its numbers.")
    ] = False,
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the page of --format html, which then links to the runs' pages.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare results in tables. One row per experiment, over its seeds; one table per protocol."""
    import json
    from dataclasses import asdict

    from hmrb.errors import RequestError
    from hmrb.evaluation.records import read_results
    from hmrb.reports import tables
    from hmrb.reports.latex import as_latex
    from hmrb.reports.runs_page import as_html, write_runs_page
    from hmrb.reports.tables import as_csv, as_markdown, compare

    if out and (format_ is not Format.html or overview):
        raise RequestError("-o is the folder of --format html; a shell writes the others: hmrb report ... > FILE")
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
    elif format_ is Format.tex:
        typer.echo(as_latex(comparisons), nl=False)
    elif format_ is Format.html:
        typer.echo(write_runs_page(out, comparisons, found) if out else as_html(comparisons))
    else:
        for comparison in comparisons:
            show(comparison)


def show(comparison: "Comparison") -> None:
    """Prints a table to the terminal."""
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
    console = Console(markup=False)
    console = Console(width=max(console.width, 110), markup=False)
    console.print(about(comparison), highlight=False)
    console.print(table)
