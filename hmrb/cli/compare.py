"""hmrb compare: compares two results on the same people."""

from pathlib import Path
from typing import Annotated

import typer


def compare(
    first: Annotated[Path, typer.Argument(help="A result file, or a run's folder that holds one.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="The result to compare it with.", show_default=False)],
    metrics: Annotated[
        list[str],
        typer.Option("--metrics", help="Only these metrics.  [default: all of the protocol]", show_default=False),
    ] = [],  # noqa: B006
    json_: Annotated[bool, typer.Option("--json", help="Print only the differences, as JSON.")] = False,
) -> None:
    """Compare two checkpoints person by person. Refuses results of different protocols."""
    import json
    from dataclasses import asdict

    from hmrb.errors import RequestError
    from hmrb.evaluation.intervals import interval_text
    from hmrb.evaluation.metric_table import HEADINGS
    from hmrb.evaluation.records import read_results
    from hmrb.lookup import find
    from hmrb.reports.tables import paired

    found = [read_results([path]) for path in (first, second)]
    for path, results in zip((first, second), found, strict=True):
        if len(results) > 1:
            benches = ", ".join(result.record.benchmark for result in results)
            raise RequestError(f"{path} has results of {benches}; name one file")
    (one,), (two,) = found
    differences = paired(one, two)
    if metrics:
        known = {row.metric: row.metric for row in differences}
        chosen = {find("metric of both results", name, known) for name in metrics}
        differences = [row for row in differences if row.metric in chosen]
    if json_:
        typer.echo(json.dumps([asdict(row) | {"is_sure": row.is_sure} for row in differences], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    console = Console(width=max(console.width, 110), markup=False)  # an interval on one line
    console.print(f"{one.record.protocol}, {one.record.num_people} people", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", one.experiment, two.experiment, "difference", "95 %", "p", "people better", ""):
        table.add_column(title, justify="right" if title else "left")
    for row in differences:
        cells = [f"{row.first:.1f}", f"{row.second:.1f}", f"{row.difference:+.1f}", interval_text(row.ci95, "+")]
        cells.append("-" if row.people == 1 else "<0.001" if row.p < 0.001 else f"{row.p:.3f}")
        said = "" if row.is_sure else "may be chance"
        table.add_row(HEADINGS[row.metric], *cells, f"{100 * row.share_better:.0f} %", said)
    console.print(table)
