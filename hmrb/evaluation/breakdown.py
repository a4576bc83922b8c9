"""Break down a benchmark's results by properties of the people: sequence, gender, occlusion and others."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.intervals import interval95
from hmrb.geometry import rotvec_to_rotmat
from hmrb.lookup import did_you_mean
from hmrb.records import GENDERS

VIEWS = ("front", "right side", "back", "left side")  # side of the person that the camera sees
DERIVED = ("gender", "box_px", "truncation", "viewpoint", "body_shape")
FEW = 8  # up to this many distinct values form one group each; more values are split at the quartiles


@dataclass(frozen=True, slots=True)
class Subgroup:
    """A group of people: their number, and each metric's mean and 95 % interval in its unit."""

    label: str
    num_people: int
    metrics: dict[str, tuple[float, tuple[float, float]]]


def slices(scores: Scores, column: str) -> list[Subgroup]:
    """Group the people by a column of the shard or by a property derived from its labels (DERIVED).

    `box_px` is the longer side of the box in the photo, `truncation` the share of labelled 2D keypoints outside the
    photo, `viewpoint` the side of the labelled body that faces the camera, `body_shape` the distance of its shape from
    the mean (the norm of betas). Raises RequestError for an unknown column.
    """
    sequences = scores.sequences
    out = []
    for label, rows in _groups(scores, column):
        metrics = {}
        for name, errors in scores.errors.items():
            who = rows & scores.counted[name]
            if who.any():
                within = None if sequences is None or column == "sequence" else sequences[who]
                few = errors[who].astype(np.float64)
                metrics[name] = (float(few.mean()), interval95(few, within))
        out.append(Subgroup(label, int(rows.sum()), metrics))
    return out


def check_column(shard: Shard, column: str) -> None:
    """Raises RequestError unless the people of a shard can be grouped by a column."""
    known = sorted({*shard.columns, *DERIVED})
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
    """Each person's value, and the names of the values if the column is categorical."""
    shard, rows = scores.shard, scores.people.rows
    check_column(shard, column)
    if column in shard.columns:
        return shard.arrays[f"columns/{column}"][rows].astype(np.float64), shard.categories(column)
    if column == "gender":
        return shard.arrays["gender"][rows].astype(np.float64), list(GENDERS)
    if column == "body_shape":
        return np.linalg.norm(shard.arrays["betas"][rows].astype(np.float64), axis=1), []
    if column == "viewpoint":
        return _viewpoint(shard, rows).astype(np.float64), list(VIEWS)
    image = shard.arrays["image"][rows]
    origin = shard.arrays["origin"][image].astype(np.float64)
    if column == "box_px":
        return shard.arrays["box"][rows, 2:].max(1).astype(np.float64) / origin[:, 2], []
    points = shard.arrays["keypoints2d"][rows]
    places = (points[..., :2] + 0.5) / origin[:, None, 2:] - 0.5 + origin[:, None, :2]
    outside = (places < -0.5) | (places > shard.arrays["photo_px"][image][:, None] - 0.5)
    labelled = points[..., 2] > 0
    return (outside.any(2) & labelled).sum(1) / labelled.sum(1).clip(min=1), []


def _viewpoint(shard: Shard, rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """Index into VIEWS, from the body's facing direction (its z axis) in the camera frame; -z is towards the camera."""
    root = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][rows][:, 0])).numpy()
    right, away = root[:, 0, 2], root[:, 2, 2]
    turn = np.degrees(np.arctan2(right, -away))  # 0: faces the camera; 90: faces the image's right
    return np.floor((turn + 45) / 90).astype(np.int64) % 4
