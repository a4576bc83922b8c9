"""MuPoTs-3D: groups of people indoors and outdoors, with multi-camera 3D joints. A test set that the study trains on.

Mehta, Sotnychenko, Mueller, Xu, Sridhar, Pons-Moll and Theobalt: Single-Shot Multi-Person 3D Pose Estimation From
Monocular RGB, 3DV 2018. https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson/
"""

import re
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.data.convert.boxes import box_around, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import NOT_VALID
from hmrb.errors import RunError
from hmrb.formats.matlab import read_mat
from hmrb.records import Person, Photo

SHAPES = {"annot2": (2, 17), "annot3": (3, 17), "univ_annot3": (3, 17), "isValidFrame": (1, 1)}


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan one item per sequence."""
    paths = list(raw.root.glob("TS*/annot.mat")) or raw.some("MultiPersonTestSet/TS*/annot.mat")
    paths.sort(key=lambda path: int(re.sub(r"\D", "", path.parent.name) or 0))
    return [SplitPlan("train", paths, partial(read, raw), photos_each=400)]


def read(raw: Raw, path: Path) -> Iterator[Photo]:
    """Read the images of a sequence, numbered from 0, and their valid people."""
    annotations = read_mat(path, "annotations")["annotations"]
    hidden = np.zeros(annotations.shape)
    if not raw.compat and (labels := path.with_name("occlusion.mat")).exists():
        hidden = _hidden(labels, annotations.shape)
    left_out: Counter[str] = Counter()
    for frame, row in enumerate(annotations):
        people = []
        for number, cell in enumerate(row):
            person = {key: _numbers(path, cell, key) for key in SHAPES}
            if not person["isValidFrame"].any():
                left_out[NOT_VALID] += 1
                continue
            points = person["univ_annot3" if raw.compat else "annot3"].T / 1000
            people.append(
                Person(
                    box=box_around(person["annot2"].T),
                    keypoints2d=with_confidence(person["annot2"].T),
                    keypoints3d=with_confidence(points),
                    columns={
                        "sequence": path.parent.name,
                        "person": float(number),
                        "occlusion": float(hidden[frame, number]),
                    },
                )
            )
        image = path.parent / f"img_{frame:06d}.jpg"
        if people:
            yield Photo(name=image.relative_to(raw.root).as_posix(), people=tuple(people), file=image)
    yield from counted(path.parent.name, left_out)


def _hidden(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """Fraction of hidden joints by frame and person."""
    try:
        labels = read_mat(path, "occlusion_labels")["occlusion_labels"]
        if labels.shape != shape:
            raise RunError(f"{path}: occlusion_labels has {labels.shape} frames and people, but annot.mat has {shape}")
        return np.array(
            [[np.mean(np.asarray(cell, float)) if np.size(cell) else 0.0 for cell in row] for row in labels]
        )
    except (RunError, TypeError, ValueError) as error:
        raise RunError(f"{error}. This file is optional: without it, the column occlusion is 0") from None


def _numbers(path: Path, cell: Any, key: str) -> np.ndarray:
    try:
        value = np.asarray(cell[key][0, 0], np.float64)
    except (ValueError, IndexError, TypeError):
        raise RunError(f"{path}: a cell of annotations has no {key}") from None
    if value.shape != SHAPES[key]:
        raise RunError(f"{path}: {key} has shape {value.shape}, expected {SHAPES[key]}")
    return value


TREE = """
  MultiPersonTestSet/TS1/annot.mat
  MultiPersonTestSet/TS1/occlusion.mat           optional: the column occlusion
  MultiPersonTestSet/TS1/img_000000.jpg"""

CONVERTERS = (
    Converter(
        name="mupots3d",
        title="MuPoTs-3D",
        licence="non-commercial research",
        skeleton="mpi_inf_3dhp_test",
        splits=("train",),
        plan=plan,
        tree=TREE,
        traps=(
            "this test set is named train because the study trains on it: do not report MuPoTs scores of such a model",
            "3D points are annot3; univ_annot3 has a normalised height and does not project onto the pixels",
            "images are numbered from 0, like annotations",
            "hidden joints keep confidence 1; the column occlusion is the fraction of hidden joints",
        ),
        study="3D points are univ_annot3; occlusion.mat is not read",
        study_fails=("projection",),
    ),
)
