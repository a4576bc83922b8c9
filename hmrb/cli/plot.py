"""hmrb plot: draws figures for papers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Kind(StrEnum):
    """What a figure shows."""

    curves = "curves"
    bars = "bars"
    column = "column"
    answers = "answers"
    hidden = "hidden"
    share = "share"


def plot(
    kind: Annotated[
        Kind,
        typer.Argument(
            help="curves: logs over steps; bars: a metric with intervals; column: an error against --by. Of"
            " small_study: answers to a question; what hidden people cost; an error over the share of the people.",
            show_default=False,
        ),
    ],
    results: Annotated[list[Path], typer.Argument(help="Result files, or run folders.", show_default=False)],
    metric: Annotated[str, typer.Option(help="Metric; of curves, also a loss or a speed of the log.")] = "pa_mpjpe",
    by: Annotated[
        str | None,
        typer.Option(help="Column: one of hmrb eval --by, or another metric, person by person.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="File .svg or .pdf; without an ending, both.  [default: KIND]", show_default=False
        ),
    ] = None,
    width_mm: Annotated[float, typer.Option(min=30, max=500, help="Width of the figure; 85 is a column's.")] = 85,
) -> None:
    """Draw figures for a paper from records and logs, as SVG and PDF. Needs pip install 'hmrb[plot]'."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.records import read_results
    from hmrb.reports import answer_plots, plots
    from hmrb.reports.tables import compare

    if (kind is Kind.column) != (by is not None):
        raise RequestError("--by belongs to hmrb plot column, and names what the error is drawn against")
    questions = {
        Kind.answers: answer_plots.draw_answers, Kind.hidden: answer_plots.draw_hidden,
        Kind.share: answer_plots.draw_share,
    }  # fmt: skip
    with plots.styled():
        if kind is Kind.curves:
            name = metric.replace("-", "_")
            figure = plots.draw_curves(results, name, width_mm)
        elif kind in questions:
            figure = questions[kind](read_results(results), plots.metric_named(metric.replace("-", "_")), width_mm)
        elif kind is Kind.bars:
            figure = plots.draw_bars(plots.one_table(compare(read_results(results), metric, None)), width_mm)
        else:
            found, name = read_results(results), plots.metric_named(metric)
            plots.one_table(compare(found, name, None))
            figure = plots.draw_column(found, name, str(by).replace("-", "_"), width_mm)
        for path in plots.save_figure(figure, out or Path(kind.value)):
            typer.echo(path)
