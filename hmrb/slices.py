"""A benchmark's numbers by what the shard says of its people: a sequence, a gender, how much of them is hidden."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluate import Scores
from hmrb.lookup import did_you_mean
from hmrb.metrics import interval95
from hmrb.records import GENDERS

FEW = 8  # different numbers that are shown one by one; more are cut at their quartiles


@dataclass(frozen=True, slots=True)
class Slice:
    """People that a column has in common: how many, and mean and 95 % interval of each metric, in its unit."""

    label: str
    num_people: int
    metrics: dict[str, tuple[float, tuple[float, float]]]


def slices(scores: Scores, column: str) -> list[Slice]:
    """The people by a column of the shard, or by `gender` or `box_px`. Raises RequestError for a column it lacks."""
    sequences = scores.sequences
    out = []
    for label, rows in _groups(scores, column):
        within = None if sequences is None or column == "sequence" else sequences[rows]
        metrics = {
            name: (float(errors[rows].mean()), interval95(errors[rows], within))
            for name, errors in scores.errors.items()
        }
        out.append(Slice(label, int(rows.sum()), metrics))
    return out


def check_column(shard: Shard, column: str) -> None:
    """Raises RequestError where people of a shard can't be told apart by a column."""
    known = sorted([*shard.columns, "gender", "box_px"])
    if column not in known:
        near = did_you_mean(column, known)
        raise RequestError(f"--by {column}: {shard.path.name} has no such column.{near} It has: {', '.join(known)}")


def _groups(scores: Scores, column: str) -> Iterator[tuple[str, Bool[np.ndarray, " N"]]]:
    values, names = _column(scores, column)
    different = np.unique(values)
    if names or len(different) <= FEW:
        for value in different:
            yield names[int(value)] if names else f"{value:g}", values == value
        return
    edges = np.unique(np.quantile(values, [0, 0.25, 0.5, 0.75, 1]))
    for number, (low, high) in enumerate(pairwise(edges.tolist())):
        is_last = number == len(edges) - 2
        inside = (values >= low) & ((values <= high) if is_last else (values < high))
        if inside.any():
            yield f"{low:.3g} to {high:.3g}", inside


def _column(scores: Scores, column: str) -> tuple[Float[np.ndarray, " N"], list[str]]:
    """Each person's value, and what values stand for, where they stand for something."""
    shard, rows = scores.shard, scores.people.rows
    if column == "gender":
        return shard.arrays["gender"][rows].astype(np.float64), list(GENDERS)
    if column == "box_px":
        scale = shard.arrays["origin"][shard.arrays["image"][rows], 2]
        return shard.arrays["box"][rows, 2:].max(1).astype(np.float64) / scale, []
    check_column(shard, column)
    return shard.arrays[f"columns/{column}"][rows].astype(np.float64), shard.categories(column)
