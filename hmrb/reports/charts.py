"""Charts as SVG paths between two axes, which the page colours: curves over steps, histograms over people."""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.evaluation.metric_table import BETTER, HEADINGS, PACE, TITLES, UNITS

WIDTH, HEIGHT = 360, 180  # of a chart, in px; text stays readable on a phone
LEFT, RIGHT, TOP, BOTTOM = 42, 348, 10, 156  # of the plot inside a chart
POINTS = 150  # maximum points of a curve; longer logs are averaged in this many segments
LOG_FROM = 10  # ratio of highest to lowest value from which an axis is logarithmic
MARGIN = 0.08  # free space above the values, as a share of their range
BINS = 32
TAIL = 99.5  # percentile of errors at which the histogram ends


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps values to pixels of a chart; `low` maps to `start`, `high` to `stop`. Ticks are `least` apart or more."""

    low: float
    high: float
    start: float
    stop: float
    is_log: bool = False
    least: float = 0

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
            rough = max((self.high - self.low) / 5, self.least)
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


def curves(log: Sequence[dict[str, Any]]) -> list[Chart]:
    """One chart per score, loss and speed measure over the steps of a run."""
    scored, steps = [line for line in log if "benchmark" in line], [line for line in log if "benchmark" not in line]
    charts = []
    for bench in dict.fromkeys(line["benchmark"] for line in scored):
        facts = series([line for line in scored if line["benchmark"] == bench])
        for name in [name for name in TITLES if name in facts]:
            charts.append(score_chart(name, bench, *facts[name]))
    facts = series(steps)
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
    chart = line_chart(f"{HEADINGS[metric]} on {bench}", steps, values, Scale.upright)
    note = f"last {values[-1]:.1f}, best {values[best]:.1f} at step {steps[best]:.0f}"
    return replace(chart, note=note, shapes=chart.shapes + dots)


def histogram(metric: str, errors: Float[np.ndarray, " N"], baseline: Float[np.ndarray, " N"]) -> Chart:
    """Histogram of an error over people, for the prediction and the mean body. The last bin holds the tail."""
    limit = float(np.percentile(np.concatenate([errors, baseline]), TAIL)) or 1.0
    edges = np.linspace(0, limit, BINS + 1)
    counts, others = (np.histogram(np.minimum(values, limit), edges)[0] for values in (errors, baseline))
    x = Scale(0, limit, LEFT, RIGHT)
    y = replace(Scale.upright_from_0(np.append(counts, others).astype(np.float64)), least=1)  # people are whole
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
    return Chart(f"People by {HEADINGS[metric]}", note, x.ticks(), y.ticks(), shapes, keys)


def series(lines: Sequence[dict[str, Any]]) -> dict[str, tuple[Float[np.ndarray, " N"], Float[np.ndarray, " N"]]]:
    """Steps and finite values of each numeric field in the lines of a log."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        for name, value in line.items():
            if isinstance(value, int | float) and math.isfinite(value):
                pairs.setdefault(name, []).append((line["step"], value))
    return {name: tuple(np.array(rows, np.float64).T) for name, rows in pairs.items()}


def read_log(path: Path) -> list[dict[str, Any]]:
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
