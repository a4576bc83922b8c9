"""Figures for papers, from records and logs: learning curves, bars with intervals, errors against a column.

matplotlib draws them (`pip install 'hmrb[plot]'`). Text stays text in both formats, and names are never read as
formulas. The same records give the same file.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import HEADINGS, PACE, TITLES
from hmrb.evaluation.records import Result
from hmrb.formats.optional import needed
from hmrb.lookup import find
from hmrb.reports.charts import read_log, series
from hmrb.reports.page import put
from hmrb.reports.tables import Comparison, best_rows

MM_PER_INCH = 25.4
SUFFIXES = (".svg", ".pdf")
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")  # Okabe and Ito
DASHES = ("-", "--", "-.", ":")
MARKS = "osD^vP"
STYLE = {
    "font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.6, "lines.linewidth": 1.2,
    "lines.markersize": 3.5, "legend.frameon": False, "legend.fontsize": 7, "text.parse_math": False,
    "text.usetex": False, "svg.fonttype": "none", "svg.hashsalt": "hmrb", "pdf.fonttype": 42,
}  # fmt: skip


def styled() -> AbstractContextManager[None]:
    """Draw inside of it. Raises RequestError if matplotlib is not installed."""
    made: AbstractContextManager[None] = needed("matplotlib", "'hmrb[plot]'", "to draw figures").rc_context(STYLE)
    return made


def draw_curves(runs: Sequence[Path], value: str, width_mm: float) -> Any:
    """A score, loss or speed of the runs' logs over their steps, one line per run and benchmark.

    Raises RequestError if a run has no log, or none of the logs has the value.
    """
    lines: list[tuple[str, Float[np.ndarray, " N"], Float[np.ndarray, " N"]]] = []
    known: set[str] = set()
    for run in runs:
        log = read_log(run / "log.jsonl")
        if not log:
            raise RequestError(f"{run}: has no log.jsonl; curves need the folder of a run that hmrb train wrote")
        for bench in dict.fromkeys(line.get("benchmark", "") for line in log):
            found = series([line for line in log if line.get("benchmark", "") == bench])
            known |= found.keys() - {"step", "epoch"}
            if value in found:
                lines.append((", ".join(filter(None, (run.resolve().name, bench))), *found[value]))
    if not lines:
        raise RequestError(f"no log has '{value}'; they have {', '.join(sorted(known))}")
    figure, axes = new_figure(width_mm, 0.62)
    for i, (label, steps, values) in enumerate(lines):
        few = len(values) <= 40
        dash = DASHES[i // len(COLOURS) % len(DASHES)]
        mark = MARKS[i % len(MARKS)] if few else None
        axes.plot(steps, values, color=COLOURS[i % len(COLOURS)], linestyle=dash, marker=mark, label=as_label(label))
    axes.set_xlabel("step")
    axes.set_ylabel(HEADINGS.get(value) or PACE.get(value) or as_label(f"loss: {value}"))
    put_legend(figure, axes)
    return figure


def draw_bars(comparison: Comparison, width_mm: float) -> Any:
    """One bar per experiment from 0, with its interval; the best one's number is bold."""
    rows = comparison.rows
    figure, axes = new_figure(width_mm, 0.16 + 0.075 * len(rows))
    values = np.array([row.value for row in rows])
    away = np.abs(np.array([row.ci95 for row in rows]).T - values)
    axes.barh(range(len(rows)), values, xerr=away, color=COLOURS[0], alpha=0.55, ecolor="black", capsize=2, height=0.7)
    reach = max(row.ci95[1] for row in rows)
    for i, (row, is_best) in enumerate(zip(rows, best_rows(comparison), strict=True)):
        weight = "bold" if is_best else "normal"
        axes.text(max(row.ci95[1], row.value) + 0.015 * reach, i, f"{row.value:.1f}", va="center", fontweight=weight)
    axes.set_xlim(0, 1.12 * reach or 1)
    axes.set_yticks(range(len(rows)), [as_label(row.experiment) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(HEADINGS[comparison.metric])
    return figure


def draw_column(results: Sequence[Result], metric: str, column: str, width_mm: float) -> Any:
    """An error against a column: the groups of `hmrb eval --by`, or another metric person by person.

    Raises RequestError if a record lacks the metric or the column.
    """
    figure, axes = new_figure(width_mm, 0.62)
    labels = _labels(results)
    ticks: list[str] = []
    for i, (result, label) in enumerate(zip(results, labels, strict=True)):
        colour, mark = COLOURS[i % len(COLOURS)], MARKS[i % len(MARKS)]
        if metric not in result.errors:
            raise RequestError(f"{label} has no {metric}; it has {', '.join(result.errors)}")
        if column in result.errors:
            who = result.counted[metric] & result.counted[column]
            axes.plot(
                result.errors[column][who], result.errors[metric][who], mark, color=colour, alpha=0.5, markersize=2,
                markeredgewidth=0, label=as_label(label), rasterized=bool(who.sum() > 5000),
            )  # fmt: skip
            axes.set_xlabel(HEADINGS[column])
            continue
        slices = [part for part in _slices(result, column, label) if metric in part.metrics]
        ticks += [part.label for part in slices if part.label not in ticks]
        values = np.array([part.metrics[metric][0] for part in slices])
        away = np.abs(np.array([part.metrics[metric][1] for part in slices]).reshape(-1, 2).T - values)
        shift = 0.5 * (i - (len(results) - 1) / 2) / max(len(results), 2)
        places = np.array([ticks.index(part.label) for part in slices]) + shift
        axes.errorbar(places, values, yerr=away, fmt=mark, color=colour, capsize=2, label=as_label(label))
        axes.set_xlabel(as_label(column.replace("_", " ")))
    if ticks:
        is_crowded = sum(map(len, ticks)) > 0.42 * width_mm
        axes.set_xticks(range(len(ticks)), [as_label(tick) for tick in ticks])
        axes.tick_params("x", rotation=20 if is_crowded else 0)
        axes.set_xlim(-0.6, len(ticks) - 0.4)
    axes.set_ylabel(HEADINGS[metric])
    axes.set_ylim(bottom=0)
    put_legend(figure, axes)
    return figure


def save_figure(figure: Any, path: Path) -> list[Path]:
    """Writes a figure; as .svg and as .pdf if the path has neither ending. Returns the paths. Raises RequestError."""
    if path.suffix and path.suffix.lower() not in SUFFIXES:
        raise RequestError(f"{path}: a figure is .svg or .pdf; without an ending, both are written")
    paths = [path] if path.suffix else [path.with_name(f"{path.name}{suffix}") for suffix in SUFFIXES]
    for file in paths:
        kind = file.suffix[1:].lower()
        dates = {"Date": None} if kind == "svg" else {"CreationDate": None}
        put(file, lambda part, kind=kind, dates=dates: figure.savefig(part, format=kind, metadata=dates))  # type: ignore[misc]
    return paths


def one_table(tables: Sequence[Comparison]) -> Comparison:
    """The only table. Raises RequestError for results of several protocols, whose numbers have no common axis."""
    if len(tables) > 1:
        protocols = ", ".join(f"{table.protocol} (shard {table.shard_sha})" for table in tables)
        raise RequestError(
            f"a figure has results of one protocol; these are of {protocols}. Name files of one benchmark"
        )
    return tables[0]


def metric_named(name: str) -> str:
    """A metric by the name that a user wrote. Raises UnknownName."""
    return find("metric", name, {metric: metric for metric in TITLES})


def _slices(result: Result, column: str, label: str) -> Any:
    slices = result.record.slices
    if column not in slices:
        have = ", ".join([*slices, *result.errors])
        raise RequestError(
            f"{label} has no column {column}; it has {have}. hmrb eval CHECKPOINT --by {column} breaks its result down"
        )
    return slices[column]


def _labels(results: Sequence[Result]) -> list[str]:
    names = [result.experiment for result in results]
    return [
        f"{name}, seed {result.seed}" if names.count(name) > 1 else name
        for name, result in zip(names, results, strict=True)
    ]


def new_figure(width_mm: float, shape: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure `width_mm` wide and `shape` times as high, and its axes; an array of several in one row."""
    width = width_mm / MM_PER_INCH
    figure = needed("matplotlib.figure", "'hmrb[plot]'", "to draw figures").Figure(
        figsize=(width, width * shape), layout="constrained"
    )
    return figure, figure.add_subplot() if columns == 1 else figure.subplots(1, columns, sharey=True)


def put_legend(figure: Any, axes: Any) -> None:
    """A legend above the axes, if there is more than one thing to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if len(handles) > 1:
        figure.legend(handles, labels, loc="outside upper left", ncols=1 if max(map(len, labels)) > 24 else 2)


def as_label(name: str) -> str:
    """A name as a label: one printable line. matplotlib leaves out what begins with an underscore, so a space does."""
    plain = "".join(letter for letter in " ".join(name.split()) if letter.isprintable())
    return f" {plain}" if plain.startswith("_") else plain
