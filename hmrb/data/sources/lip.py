"""LIP, Look Into Person: crops of single people.

Gong et al., Look into person: self-supervised structure-sensitive learning and a new benchmark for human parsing,
CVPR 2017, https://www.sysu-hcp.net/projects/cv/38.html.
"""

import csv
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import Columns, gather, hidden_share, photo, present
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import unreadable
from hmrb.data.convert.reasons import FEW_VISIBLE
from hmrb.errors import RunError

POINTS = 16
FEWEST = 5  # minimum number of visible points per person, as in the study
LABELS = ("", "TrainVal_pose_annotations/")
PICTURES = ("{}_images", "TrainVal_images/TrainVal_images/{}_images", "TrainVal_images/{}_images")


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan people with at least five visible points."""
    files = {split: [f"{folder}lip_{split}_set.csv" for folder in LABELS] for split in ("train", "val")}
    return [_part(raw, split, path) for split, path in present(raw, files).items()]


def _part(raw: Raw, split: str, path: Path) -> SplitPlan:
    folder = raw.need(*(name.format(split) for name in PICTURES)).relative_to(raw.root).as_posix()
    left_out: Counter[str] = Counter()
    return SplitPlan(split, gather(_people(path, folder, left_out)), partial(photo, raw.root), left_out=left_out)


def _people(
    path: Path, folder: str, left_out: Counter[str]
) -> Iterator[tuple[str, Float[np.ndarray, "4"], Float[np.ndarray, "K 3"], Columns]]:
    for line, (name, *cells) in enumerate(_rows(path), 1):
        try:
            marks = np.array([float(cell or "nan") for cell in cells]).reshape(POINTS, 3)
        except ValueError:
            raise RunError(f"{path}: line {line} is not an image name and {3 * POINTS} numbers") from None
        labelled = np.isfinite(marks).all(1)
        visible = labelled & (marks[:, 2] == 0)
        if visible.sum() >= FEWEST:
            points = np.where(visible[:, None], np.c_[marks[:, :2], np.ones(POINTS)], 0)
            columns = hidden_share(labelled, labelled & ~visible)
            yield f"{folder}/{name}", box_around(points, seen=visible), points, columns
        else:
            left_out[FEW_VISIBLE] += 1


def _rows(path: Path) -> list[list[str]]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            return [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error, "cannot be read as CSV") from None


CONVERTERS = (
    Converter(
        name="lip",
        title="LIP, Look Into Person",
        licence="non-commercial research",
        skeleton="lip_16",
        splits=("train", "val"),
        plan=plan,
        tree=(
            "lip_{train,val}_set.csv and {train,val}_images/100034_483681.jpg ...\n"
            "or TrainVal_pose_annotations/lip_{train,val}_set.csv and\n"
            "   TrainVal_images/TrainVal_images/{train,val}_images/..."
        ),
        traps=(
            "the CSV files have no header: image name, then x, y and a visibility code for each of 16 points",
            "code 0 is visible, 1 hidden; unlabelled points have empty cells",
            "hidden points are not used, as in the study; people with fewer than five visible points are left out",
        ),
        benchmarks=("val",),
    ),
)
