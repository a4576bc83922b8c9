"""A page with the results of several runs: a table per metric and protocol that sorts, bars, links to the runs."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hmrb.evaluation.metric_table import HEADINGS
from hmrb.evaluation.records import Result
from hmrb.reports.page import Script, put, templates
from hmrb.reports.tables import Comparison, Row, TableColumn, about, best_rows, columns

BAR_PX = 150  # of the longest interval's end
PAGE = "index.html"


@dataclass(frozen=True, slots=True)
class _Bar:
    """A bar from 0 to a value, and its interval, in pixels."""

    end: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class _ShownTable:
    """A comparison as the page shows it."""

    comparison: Comparison
    about: str
    columns: list[TableColumn]
    best: list[bool]
    bars: list[_Bar]


def as_html(comparisons: Sequence[Comparison], links: dict[str, list[tuple[str, str]]] | None = None) -> str:
    """A self-contained page. `links` has, by experiment, words and addresses of its runs' pages."""
    tables = [
        _ShownTable(table, about(table), columns(table), best_rows(table), _bars(table.rows)) for table in comparisons
    ]
    return templates().get_template("runs_page.html.j2").render(
        title="hmrb results", tables=tables, links=links or {}, scripts=[Script.of("sort.js")],
        names=[table.metric for table in comparisons], head=HEADINGS, bar_px=BAR_PX,
    )  # fmt: skip


def write_runs_page(folder: Path, comparisons: Sequence[Comparison], results: Sequence[Result]) -> Path:
    """Writes the page to `folder` with links to the runs' pages; returns its path. Raises RunError."""
    page = as_html(comparisons, run_pages(results, folder))
    put(folder / PAGE, lambda part: part.write_text(page, encoding="utf-8"))
    return folder / PAGE


def run_pages(results: Sequence[Result], folder: Path) -> dict[str, list[tuple[str, str]]]:
    """By experiment, the seed and the address of each run's report.html, relative to a folder.

    Runs without a page have no link, and neither have those on another branch of the file system's root, because the
    way there would name its folders.
    """
    start, links = folder.resolve(), dict[str, dict[str, str]]()
    for result in results:
        near = () if result.path is None else result.path.resolve().parents[:2]
        page = next((place / "report.html" for place in near[::-1] if (place / "report.html").is_file()), None)
        if page and len(Path(os.path.commonpath([start, page])).parts) > 1:
            address = Path(os.path.relpath(page, start)).as_posix()
            links.setdefault(result.experiment, {})[address] = f"seed {result.seed}"
    return {name: [(words, address) for address, words in pages.items()] for name, pages in links.items()}


def _bars(rows: Sequence[Row]) -> list[_Bar]:
    longest = max(max(row.value, row.ci95[1]) for row in rows) or 1.0
    scale = BAR_PX / longest
    return [_Bar(*(max(value, 0) * scale for value in (row.value, *row.ci95))) for row in rows]
