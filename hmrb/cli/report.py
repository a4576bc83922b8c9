"""hmrb report: builds tables from results."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.evaluation.records import Result
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
    metrics: Annotated[
        list[str],
        typer.Option(
            "--metrics", "--metric", help="Metrics, a table for each.  [default: pa_mpjpe]", show_default=False
        ),
    ] = [],  # noqa: B006
    overview: Annotated[
        bool, typer.Option("--overview", help="Print all metrics of each result, in Markdown.")
    ] = False,
    against: Annotated[
        str | None, typer.Option(help="Baseline experiment; adds each difference to it.", show_default=False)
    ] = None,
    studies: Annotated[
        bool,
        typer.Option(
            "--studies",
            help="One table per published table, with the difference to its numbers; per question of small_study.",
        ),
    ] = False,
    agreement: Annotated[
        bool,
        typer.Option("--agreement", help="How far rows of small_study are in the published order: Kendall's tau-b."),
    ] = False,
    bench: Annotated[
        list[str], typer.Option("--bench", help="Only results of these benchmarks.", show_default=False)
    ] = [],  # noqa: B006
    format_: Annotated[Format, typer.Option("--format", help="Output format.")] = Format.rich,
    json_: Annotated[bool, typer.Option("--json", help="Print only the tables, as JSON; also --format json.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="File to write; its suffix is a format: .md, .csv, .tex, .html, .json. With --format html, a folder"
            " for a page that links to the runs' pages.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Compare results in tables. One row per experiment, over its seeds; one table per protocol."""
    from hmrb.evaluation.metric_table import TITLES
    from hmrb.evaluation.records import read_results
    from hmrb.reports import tables
    from hmrb.reports.runs_page import write_runs_page

    absent = {path: str(path).replace("-", "_") for path in results if metrics and not path.exists()}
    more = {path: name for path, name in absent.items() if name in TITLES}
    names = [*metrics, *more.values()] or ["pa_mpjpe"]
    found = _of_benches(read_results([path for path in results if path not in more]), bench)
    format_ = _format(out, Format.json if json_ else format_, overview)
    if overview:
        _put("\n".join(tables.overview(result.record) for result in found), out)
        return
    if agreement:
        _put(_agreement(found, names), out)
        return
    comparisons = [table for name in names for table in _compared(found, name, against, studies)]
    if format_ is Format.html and out and not out.suffix:
        typer.echo(write_runs_page(out, comparisons, found))
    elif format_ is Format.rich:
        for comparison in comparisons:
            show(comparison)
    else:
        _put(_text(comparisons, format_), out)


def _of_benches(results: "list[Result]", names: list[str]) -> "list[Result]":
    """The results of these benchmarks; of all if none is named. Raises RequestError if there are none."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import find_benchmark

    wanted = {find_benchmark(name).name for name in names}
    found = [result for result in results if not wanted or result.record.benchmark in wanted]
    if results and not found:
        there = ", ".join(sorted({result.record.benchmark for result in results}))
        raise RequestError(f"--bench {' '.join(names)}: no result of it; there are results of {there}")
    return found


def _compared(results: "list[Result]", metric: str, base: str | None, by_study: bool) -> "list[Comparison]":
    """The tables of a metric; with `by_study`, results of the study in small answer its questions."""
    from hmrb.reports.answers import answers
    from hmrb.reports.questions import question_of
    from hmrb.reports.tables import compare

    asked = [result for result in results if by_study and question_of(result.experiment)]
    others = [result for result in results if not (by_study and question_of(result.experiment))]
    theirs = {result.experiment for result in asked}
    if asked and others and base is not None:  # it is of one kind; compare refuses a name of neither
        if base.replace("-", "_") in {name.replace("-", "_") for name in theirs}:
            return [*answers(asked, metric, base), *compare(others, metric, None, by_study)]
        return [*answers(asked, metric), *compare(others, metric, base, by_study)]
    tables = answers(asked, metric, base) if asked else []
    return [*tables, *(compare(others, metric, base, by_study) if others or not asked else [])]


def _agreement(results: "list[Result]", metrics: list[str]) -> str:
    """How far the study in small orders its rows as the study did, in Markdown."""
    from hmrb.cli.shipped import shipped_specs
    from hmrb.reports.agreement import agreements, as_markdown
    from hmrb.reports.questions import QUESTIONS
    from hmrb.spec import load_experiment

    names = {name for question in QUESTIONS.values() for name in question.published.values()}
    published = {name: load_experiment(shipped_specs()[name]).published for name in sorted(names)}
    return as_markdown([row for metric in metrics for row in agreements(results, metric, published)])


def _format(out: Path | None, asked: Format, is_overview: bool) -> Format:
    """The format of a file's suffix, unless another was asked for. Raises RequestError for a suffix of none."""
    from hmrb.errors import RequestError

    if out is None or asked is not Format.rich or is_overview:
        return asked
    known = {f".{name}": name for name in Format if name is not Format.rich}
    if out.suffix not in known:
        raise RequestError(f"--out {out}: no format has this suffix; known: {', '.join(known)}, or add --format")
    return known[out.suffix]


def _text(comparisons: "list[Comparison]", format_: Format) -> str:
    """Tables in a format that is no terminal's."""
    import json
    from dataclasses import asdict

    from hmrb.reports.latex import as_latex
    from hmrb.reports.runs_page import as_html
    from hmrb.reports.tables import as_csv, as_markdown

    if format_ is Format.json:
        return json.dumps([asdict(comparison) for comparison in comparisons], indent=1) + "\n"
    if format_ is Format.md:
        return "\n".join(as_markdown(comparison) for comparison in comparisons)
    if format_ is Format.tex:
        return as_latex(comparisons)
    return as_csv(comparisons) if format_ is Format.csv else as_html(comparisons) + "\n"


def _put(text: str, out: Path | None) -> None:
    """Prints a text, or writes it to a file and names the file. Raises RunError."""
    from hmrb.errors import RunError
    from hmrb.formats.files import reason
    from hmrb.formats.writing import replacing

    if out is None:
        typer.echo(text, nl=False)
        return
    try:
        with replacing(out) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out}: could not be written ({reason(error)})") from None
    typer.echo(f"{out}: written")


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
    console = Console(width=max(console.width, 140 if comparison.prefix else 110), markup=False)
    console.print(about(comparison), highlight=False)
    console.print(table)
