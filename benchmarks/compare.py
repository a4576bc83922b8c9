"""Says which figures became worse by more than noise: of two trees in turn, or of a record and a new run.

A ratio above 1 is worse, whatever the figure's direction. Its interval is Student's, of the logarithms, at 99 %: of a
hundred figures that did not change, one is outside by chance.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median, variance
from typing import Any, Literal

from record import VERSIONS, number

# Student's t, 99 % two-sided, for 1, 2, ... degrees of freedom: NIST/SEMATECH e-Handbook, 1.3.6.7.2.
STUDENT = (63.657, 9.925, 5.841, 4.604, 4.032, 3.707, 3.499, 3.355, 3.250, 3.169)
MARGIN = 1.02  # a smaller change is not reported, however certain
KEY = ("processor", "instruction_sets", "cores", "system", *VERSIONS)
MARKS = {"worse": "!", "better": "+", "as before": " ", "not known": "?"}


@dataclass(frozen=True, slots=True)
class Change:
    """How many times as bad a figure is as before, with an interval; infinite if there are too few repeats."""

    name: str
    before: float
    now: float
    unit: str
    ratio: float
    low: float
    high: float

    @property
    def verdict(self) -> Literal["worse", "better", "as before", "not known"]:
        """Whether the figure is worse or better by more than noise and MARGIN."""
        if math.isinf(self.high):
            return "not known"
        if self.low > 1 and self.ratio > MARGIN:
            return "worse"
        return "better" if self.high < 1 and self.ratio < 1 / MARGIN else "as before"

    def __str__(self) -> str:
        inside = "too few repeats" if math.isinf(self.high) else f"{self.low:.2f} to {self.high:.2f}"
        return (
            f"{MARKS[self.verdict]} {self.name:<68} {number(self.before):>9} {number(self.now):>9} {self.unit:<10}"
            f" {self.ratio:6.2f}  {inside:<15} {self.verdict}"
        )


def of_pairs(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    """A figure of two trees that took turns: `values` of both are pairs. None if one is not above 0."""
    pairs = list(zip(old["values"], new["values"], strict=False))
    if not pairs or min(map(min, pairs)) <= 0:
        return None
    logs = [sign(new) * math.log(now / before) for before, now in pairs]
    wide = (
        STUDENT[min(len(logs) - 2, len(STUDENT) - 1)] * math.sqrt(variance(logs) / len(logs))
        if len(logs) > 1
        else math.inf
    )
    return change(name, old, new, fmean(logs), wide)


def of_records(name: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> Change | None:
    """A figure of a record and of a new run: two samples, each with its own spread. None if a value is not above 0."""
    sides = [old["values"], new["values"]]
    if not all(sides) or min(map(min, sides)) <= 0:
        return None
    before, now = ([math.log(value) for value in side] for side in sides)
    fewest = min(len(before), len(now))
    wide = math.inf
    if fewest > 1:  # the lesser count of degrees of freedom: the wider interval
        error = math.sqrt(variance(before) / len(before) + variance(now) / len(now))
        wide = STUDENT[min(fewest - 2, len(STUDENT) - 1)] * error
    return change(name, old, new, sign(new) * (fmean(now) - fmean(before)), wide)


def change(name: str, old: Mapping[str, Any], new: Mapping[str, Any], log: float, wide: float) -> Change:
    """A change from the mean logarithm of the ratio and half its interval's width."""
    low, high = (0.0, math.inf) if math.isinf(wide) else (math.exp(log - wide), math.exp(log + wide))
    return Change(name, median(old["values"]), median(new["values"]), new["unit"], math.exp(log), low, high)


def sign(figure: Mapping[str, Any]) -> int:
    """1 if less is better, else -1."""
    return 1 if figure["better"] == "lower" else -1


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """What two machines differ in, in words."""
    return [f"{name}: {one.get(name)} and {other.get(name)}" for name in KEY if one.get(name) != other.get(name)]


def told(changes: Sequence[Change]) -> list[str]:
    """The table, what became worse first, and the counts."""
    order = list(MARKS)
    head = f"  {'figure':<68} {'before':>9} {'now':>9} {'':<10} {'ratio':>6}  99 % interval"
    rows = [str(one) for one in sorted(changes, key=lambda one: (order.index(one.verdict), -one.ratio))]
    counts = {verdict: sum(one.verdict == verdict for one in changes) for verdict in MARKS}
    return [head, *rows, "", ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)]
