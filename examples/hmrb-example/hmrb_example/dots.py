"""A dataset of a raw format that hmrb does not know: beside each picture a text file of its person's key points."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.errors import RunError
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS

COCO = SKELETONS["coco"]
SPLITS = ("train", "test")


def dots() -> Converter:
    """The converter that hmrb finds by the entry point in pyproject.toml."""
    return Converter(
        name="example_dots",
        title="Dots, an example",
        licence="yours",
        skeleton=COCO.name,
        splits=SPLITS,
        plan=plan,
        tree="train/0001.jpg and train/0001.txt, lines `left_knee 81.5 120`; also test/",
        traps=("one person per picture; joints without a line are not labelled",),
        benchmarks=("test",),
    )


def plan(raw: Raw) -> list[SplitPlan]:
    """The splits that are there and wanted. An item is what `read` gets: here one text file."""
    there = [split for split in SPLITS if raw.wants(split) and (raw.root / split).is_dir()]
    return [SplitPlan(split, raw.some(f"{split}/*.txt"), read) for split in there]


def read(labels: Path) -> Iterator[Photo]:
    """The picture beside a text file and its person; runs in any process."""
    points = np.zeros((len(COCO.joints), 3), np.float32)
    for number, line in enumerate(labels.read_text(encoding="utf-8").splitlines(), 1):
        try:
            joint, x, y = line.split()
            points[COCO.index(joint)] = float(x), float(y), 1
        except ValueError:
            raise RunError(f"{labels}: line {number} is no joint of {', '.join(COCO.joints)} with x and y") from None
    person = Person(box=box_around(points, 1.2, points[:, 2] > 0), keypoints2d=points)
    yield Photo(name=f"{labels.parent.name}/{labels.stem}.jpg", people=(person,), file=labels.with_suffix(".jpg"))
