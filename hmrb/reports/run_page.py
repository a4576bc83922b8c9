"""The report of an evaluation: a table on stdout, and one HTML page with curves, errors and people.

All numbers come from records and logs. Charts are SVG paths, which the template colours for light and dark pages.
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmrb.body import load_body
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.intervals import interval_text
from hmrb.evaluation.metric_table import BETTER, PACE, TITLES, UNITS
from hmrb.evaluation.records import Number, Record
from hmrb.reports.gallery import SLICED, draw_people, put, ranked_by
from hmrb.spec import Experiment, dump_experiment
from hmrb.store import Store

WIDTH, HEIGHT = 360, 180  # of a chart, in px; text stays readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 42, 348, 10, 156  # of the plot inside a chart
POINTS = 150  # maximum points of a curve; longer logs are averaged in this many segments
LOG_FROM = 10  # ratio of highest to lowest value from which an axis is logarithmic
MARGIN = 0.08  # free space above the values, as a share of their range
BINS = 32
TAIL = 99.5  # percentile of errors at which the histogram ends
HISTOGRAMS = ("pa_mpjpe", "mpjpe")


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels of a chart; `low` maps to `start`, `high` to `stop`."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False

    @classmethod
    def upright(cls, values: Float[np.ndarray, " N"]) -> "Scale":
        """A vertical axis for these values: logarithmic if their range is wide, else linear."""
        low, high = float(values.min()), float(values.max())
        if low > 0 and high > LOG_FROM * low:
            return cls(low, high, BOTTOM, TOP, is_log=True)
        margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
        return cls(min(max(low - margin, 0.0), low), high + margin, BOTTOM, TOP)

    @classmethod
    def upright_from_0(cls, values: Float[np.ndarray, " N"]) -> "Scale":
        """A linear vertical axis from 0, for bars."""
        return cls(0, (1 + MARGIN) * float(values.max()) or 1, BOTTOM, TOP)

    def __call__(self, values: Any) -> Float[np.ndarray, " N"]:
        """Maps values to pixels."""
        bend = np.log if self.is_log else np.asarray
        low, high = bend(self.low), bend(self.high)
        return self.start + (bend(values) - low) / (high - low) * (self.stop - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the range, as (pixel, label)."""
        if self.is_log:
            decades = 10.0 ** np.arange(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            digits = [1] if self.high > 1000 * self.low else [1, 3] if self.high > 50 * self.low else [1, 2, 5]
            values = np.outer(decades[:: math.ceil(len(decades) / 6)], digits).ravel()
        else:
            rough = (self.high - self.low) / 5
            power = 10.0 ** math.floor(math.log10(rough))
            step = power * next(digit for digit in (1, 2, 5, 10) if digit * power >= rough)
            values = np.arange(math.ceil(self.low / step), math.floor(self.high / step + 1e-9) + 1) * step
        values = values[(values >= self.low) & (values <= self.high)]
        return [(float(at), _short(value)) for value, at in zip(values, self(values), strict=True)]


@dataclass(frozen=True, slots=True)
class Shape:
    """An SVG path; `style` is its class in the template, `hint` its tooltip."""

    style: str
    path: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Chart:
    """Shapes between two axes. `keys` is the legend: the meaning of each style."""

    title: str
    note: str
    x: list[tuple[float, str]]
    y: list[tuple[float, str]]
    shapes: list[Shape]
    keys: dict[str, str]


def print_table(records: Sequence[Record]) -> None:
    """Prints one row per benchmark and metric, then the provenance of each benchmark's results."""
    console = Console(markup=False)
    table = Table("benchmark", "metric", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))  # fits 80 columns
    for title in ("mean", "95 % interval", "mean body", "ratio", "people"):
        table.add_column(title, justify="right", no_wrap=True)
    for record in records:
        for name, metric in record.metrics.items():
            numbers = [f"{metric.value:.1f}", interval_text(metric.ci95), f"{metric.mean_body:.1f}", _ratio(metric)]
            cells = [record.benchmark, f"{TITLES[name]} {metric.unit}", *numbers, str(metric.people)]
            table.add_row(*map(Text, cells))
    if records:
        console.print(table)
    for record in records:
        source, shard = record.source, record.conditions.shard
        lines = [  # short ones: a terminal breaks a line anywhere, also in a hash
            f"{record.benchmark}: {record.protocol}",
            f"  shard {shard['sha']}  body {source.body['name']} {source.body['sha']}",
            f"  checkpoint {source.checkpoint['sha']}",
        ]
        lines += [
            f"{record.benchmark}: skipped {n} of {shard['num_people']} people: {why}"
            for why, n in record.skipped.items()
        ]
        lines += [
            f"{record.benchmark}: {n} degenerate people, included in the means: {why}"
            for why, n in record.degenerate.items()
        ]
        lines += [f"{record.benchmark}: no {TITLES[name]}: {why}" for name, why in record.left_out.items()]
        if source.siblings_trained_on:
            lines.append(
                f"{record.benchmark}: note: training data {', '.join(map(repr, source.siblings_trained_on))} and the"
                " test set share people, places or photos (see docs/results.md)"
            )
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_slices(records: Sequence[Record]) -> None:
    """Prints one table per benchmark and column of `--by`."""
    console = Console(markup=False)
    for record in records:
        for column, parts in record.slices.items():
            table = Table(column, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
            table.add_column("people", justify="right")
            shown = [name for name in SLICED if name in record.metrics] or list(record.metrics)[:3]
            for name in shown:
                table.add_column(f"{TITLES[name]} {record.metrics[name].unit}, 95 %", justify="right", no_wrap=True)
            for part in parts:
                means = [part.metrics.get(name) for name in shown]
                numbers = [f"{mean[0]:.1f}  {interval_text(mean[1])}" if mean else "" for mean in means]
                table.add_row(*map(Text, [part.label, str(part.num_people), *numbers]))
            console.print(f"{record.benchmark} by {column}", highlight=False)
            console.print(table)


def write_report(folder: Path, experiment: Experiment, scored: Sequence[tuple[Record, Scores]], store: Store) -> Path:
    """Writes report.html to `folder` and the people it shows to `folder`/overlays; returns the page's path.

    The page is self-contained. Its curves come from the folder's log.jsonl, if there is one.
    """
    body = load_body(experiment.body, store=store)
    log = _read_log(folder / "log.jsonl")
    pages = Environment(
        loader=PackageLoader("hmrb.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters |= {"ratio": _ratio, "interval": interval_text}
    page = pages.get_template("run_page.html.j2").render(
        experiment=experiment,
        spec=dump_experiment(experiment),
        benches=[
            {
                "record": record,
                "histograms": [histogram(scores, name) for name in HISTOGRAMS if name in scores.errors],
                "people": draw_people(folder / "overlays", body, scores, experiment.model.image_px),
                "ranked_by": ranked_by(scores),
                "stem": scores.benchmark.file_stem,
            }
            for record, scores in scored
        ],
        last=next((line for line in reversed(log) if "epoch" in line), None),
        curves=curves(log),
        titles=TITLES,
        units=UNITS,
        plot={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "bottom": BOTTOM},
    )
    put(folder / "report.html", lambda part: part.write_text(page, encoding="utf-8"))
    return folder / "report.html"


def curves(log: Sequence[dict[str, Any]]) -> list[Chart]:
    """One chart per score, loss and speed measure over the steps of a run."""
    scored, steps = [line for line in log if "benchmark" in line], [line for line in log if "benchmark" not in line]
    charts = []
    for bench in dict.fromkeys(line["benchmark"] for line in scored):
        facts = _series([line for line in scored if line["benchmark"] == bench])
        for name in [name for name in TITLES if name in facts]:
            charts.append(score_chart(name, bench, *facts[name]))
    facts = _series(steps)
    losses = [name for name in facts if name not in (*PACE, "step", "epoch")]
    charts += [line_chart(f"loss: {name}", *facts[name], Scale.upright) for name in losses]
    return charts + [line_chart(PACE[name], *facts[name], Scale.upright_from_0) for name in PACE if name in facts]


def line_chart(
    title: str, steps: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"], upright: Callable[..., Scale]
) -> Chart:
    """A value over the steps; a long log is drawn as segment means with a band from minimum to maximum."""
    x, y = Scale(0, steps[-1] or 1, LEFT, RIGHT), upright(values)
    starts = np.linspace(0, len(values), min(len(values), POINTS), endpoint=False).astype(int)
    counts = np.diff(starts, append=len(values))
    across = x(np.add.reduceat(steps, starts) / counts)
    low, high = y(np.minimum.reduceat(values, starts)), y(np.maximum.reduceat(values, starts))
    band = _path(np.append(across, across[::-1]), np.append(low, high[::-1]))
    line = _path(across, y(np.add.reduceat(values, starts) / counts))
    shapes = [Shape("band", band), Shape("line" if len(values) > 1 else "dot", line)]
    note = f"last {values[-1]:.4g}, mean {values.mean():.4g}"
    return Chart(title, note, x.ticks(), y.ticks(), shapes, {})


def score_chart(metric: str, bench: str, steps: Float[np.ndarray, " N"], values: Float[np.ndarray, " N"]) -> Chart:
    """A benchmark's score over the steps, one dot each, with the best one marked."""
    x, y = Scale(0, steps[-1] or 1, LEFT, RIGHT), Scale.upright(values)
    best = int(values.argmin() if BETTER[metric] == "lower" else values.argmax())
    hints = [f"step {step:.0f}: {value:.1f} {UNITS[metric]}" for step, value in zip(steps, values, strict=True)]
    styles = ["dot best" if i == best else "dot" for i in range(len(values))]
    dots = [Shape(*dot) for dot in zip(styles, map(_path, x(steps)[:, None], y(values)[:, None]), hints, strict=True)]
    chart = line_chart(f"{TITLES[metric]} on {bench}, {UNITS[metric]}", steps, values, Scale.upright)
    note = f"last {values[-1]:.1f}, best {values[best]:.1f} at step {steps[best]:.0f}"
    return replace(chart, note=note, shapes=chart.shapes + dots)


def histogram(scores: Scores, metric: str) -> Chart:
    """Histogram of an error over people, for the prediction and the mean body. The last bin holds the tail."""
    errors, baseline = scores.errors[metric], scores.baseline[metric]
    limit = float(np.percentile(np.concatenate([errors, baseline]), TAIL)) or 1.0
    edges = np.linspace(0, limit, BINS + 1)
    counts, others = (np.histogram(np.minimum(values, limit), edges)[0] for values in (errors, baseline))
    x, y = Scale(0, limit, LEFT, RIGHT), Scale.upright_from_0(np.append(counts, others).astype(np.float64))
    at, top, outline = x(edges), y(counts), np.repeat(y(others), 2)
    shapes = []
    for i in np.flatnonzero(counts):
        bar = f"M{at[i] + 0.6:.1f} {BOTTOM}V{top[i]:.1f}H{at[i + 1] - 0.6:.1f}V{BOTTOM}z"
        shapes.append(Shape("bar", bar, f"{edges[i]:.0f} to {edges[i + 1]:.0f} {UNITS[metric]}: {counts[i]} people"))
    shapes.append(Shape("outline", _path(np.repeat(at, 2), np.concatenate([[BOTTOM], outline, [BOTTOM]]))))
    unit = UNITS[metric]
    keys = {
        "bar": f"prediction, mean {errors.mean():.1f} {unit}",
        "outline": f"mean body, mean {baseline.mean():.1f} {unit}",
    }
    note = f"the last bin holds all values over {edges[-2]:.0f} {unit}"
    return Chart(f"People by {TITLES[metric]}, {UNITS[metric]}", note, x.ticks(), y.ticks(), shapes, keys)


def _ratio(metric: Number) -> str:
    return f"{metric.value / metric.mean_body:.2f}" if metric.mean_body else "-"


def _series(lines: Sequence[dict[str, Any]]) -> dict[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]]:
    """Steps and finite values of each numeric field in the lines of a log."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, int | float) and math.isfinite(value):
                pairs.setdefault(name, []).append((line["step"], value))
    return {name: tuple(np.array(rows, np.float64).T) for name, rows in pairs.items()}


def _read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a run's log; empty without a log. Truncated lines are skipped."""
    lines = []
    for text in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else ():
        with suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and "step" in line]


def _path(x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"]) -> str:
    """An SVG path through these points; the final h0 makes a single point visible."""
    return "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in zip(x, y, strict=True)) + "h0"


def _short(value: float) -> str:
    """Short form of a number: 1.5e-4, 0.002, 35, 4k, 1.5M."""
    if 0 < abs(value) < 1e-3:
        return f"{value:.1e}".replace("e-0", "e-").replace(".0e", "e")
    power, letter = (1e6, "M") if abs(value) >= 1e6 else (1e3, "k") if abs(value) >= 1e3 else (1, "")
    return f"{value / power:.4g}{letter}"
