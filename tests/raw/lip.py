"""LIP's tree: CSV files without a header, in either of two layouts."""

from pathlib import Path

import numpy as np

from raw.people import Someone
from raw.scenes import shoot

HIDDEN, MISSING, FEW = 3, 4, 5  # rows: head top hidden; head top unlabelled; only four visible points
HEADTOP = 9


def write(root: Path, split: str = "train", seed: int = 0, nested: bool = False) -> list[Someone]:
    """14 crops of one person."""
    pictures = root / ("TrainVal_images/TrainVal_images" if nested else "") / f"{split}_images"
    table = root / ("TrainVal_pose_annotations" if nested else "") / f"lip_{split}_set.csv"
    everybody, lines = [], []
    for row in range(14):
        name = f"{100034 + row}_{483681 + row}.jpg"
        person = shoot(pictures / name, seed + 2 * row + 1)[0]
        points = np.c_[person.points2d("lip_16").round(), np.zeros(16)].astype(int)
        if row == HIDDEN:
            points[HEADTOP, 2] = 1
        if row == FEW:
            points[4:, 2] = 1
        cells = [str(number) for number in points.ravel()]
        if row == MISSING:
            cells[3 * HEADTOP : 3 * HEADTOP + 3] = ["", "", ""]
        lines.append(",".join([name, *cells]))
        everybody.append(person)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text("\n".join(lines) + "\n")
    return everybody


TREES = {"lip": write}
