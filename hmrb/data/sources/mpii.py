"""MPII Human Pose, from the stacked hourglass's train.h5 and valid.h5 or from the original .mat file.

Andriluka et al., 2D human pose estimation: new benchmark and state of the art analysis, CVPR 2014,
http://human-pose.mpi-inf.mpg.de. The .h5 files: Newell et al., ECCV 2016, https://github.com/princeton-vl/pose-hg-train.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import Columns, gather, hidden_share, photo, present
from hmrb.data.convert.boxes import box_centered
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.reasons import INCOMPLETE, NOT_ALL_POINTS
from hmrb.errors import RunError
from hmrb.formats.hdf5 import read_arrays
from hmrb.formats.matlab import read_mat

POINTS = 16
FILES = {"train": ("train.h5", "annot/train.h5"), "val": ("valid.h5", "annot/valid.h5")}
MAT = "mpii_human_pose_v1_u12_1.mat"
KEYS = ("imgname", "center", "scale", "part", "visible")

People = Iterator[tuple[str, Float[np.ndarray, "4"], Float[np.ndarray, "K 3"], Columns]]


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan people with all 16 points labelled. The .mat file has one split, which contains the hourglass's two."""
    shift = 0.0 if raw.compat else 1.0  # MATLAB counts pixels from 1
    read = partial(photo, raw.root)
    if not any((raw.root / name).exists() for names in FILES.values() for name in names):
        return [_part("train", _official, raw.need("train.h5", MAT), shift, read)]
    return [_part(split, _hourglass, path, shift, read) for split, path in present(raw, FILES).items()]


def _part(split: str, people: Callable[..., People], path: Path, shift: float, read: Callable[..., Any]) -> SplitPlan:
    left_out: Counter[str] = Counter()
    return SplitPlan(split, gather(people(path, shift, left_out)), read, left_out=left_out)


def _hourglass(path: Path, shift: float, left_out: Counter[str]) -> People:
    arrays = read_arrays(path, KEYS.__contains__, RunError)
    if missing := [key for key in KEYS if key not in arrays]:
        raise RunError(f"{path}: has no {', '.join(missing)}; download it again")
    names, centers, scales, parts, visible = (arrays[key] for key in KEYS)
    counts = [len(rows) for rows in (names, centers, scales, parts, visible)]
    if len(set(counts)) > 1:
        raise RunError(f"{path}: {', '.join(KEYS)} have {', '.join(map(str, counts))} rows; download it again")
    if parts.shape[1:] != (POINTS, 2):
        raise RunError(f"{path}: part has shape {parts.shape}, expected (N, {POINTS}, 2)")
    for row, name in enumerate(names):
        points = np.c_[parts[row], visible[row].reshape(POINTS)].astype(np.float32)
        yield from _person(_text(name), centers[row], float(scales[row]), points, shift, left_out)


def _official(path: Path, shift: float, left_out: Counter[str]) -> People:
    release = _first(read_mat(path, "RELEASE"), "RELEASE")
    pictures, is_train = _all(release, "annolist"), _all(release, "img_train")
    if not len(pictures) or len(pictures) != len(is_train):
        raise RunError(f"{path}: {len(pictures)} images in annolist, but {len(is_train)} in img_train")
    for picture in pictures[is_train == 1]:
        name = str(_first(_first(picture, "image"), "name"))
        for person in _all(picture, "annorect"):
            yield from _annotated(name, person, path, shift, left_out)


def _annotated(name: str, person: Any, path: Path, shift: float, left_out: Counter[str]) -> People:
    """A person of the .mat file; those without points, position or scale are left out."""
    marks, center, scale = (_first(person, key) for key in ("annopoints", "objpos", "scale"))
    if marks is None or center is None or scale is None:
        left_out[INCOMPLETE] += 1
        return
    points = np.zeros((POINTS, 3), np.float32)
    for point in _all(marks, "point"):
        number, x, y, seen = (_first(point, key) for key in ("id", "x", "y", "is_visible"))
        if number is None or x is None or y is None or not 0 <= number < POINTS:
            raise RunError(f"{path}: {name}: a point lacks id, x or y, or its id is above {POINTS - 1}")
        points[int(number)] = x, y, seen is not None and int(seen)
    at = np.array([_first(center, "x"), _first(center, "y")])
    yield from _person(name, at, float(scale), points, shift, left_out)


def _all(structure: Any, key: str) -> np.ndarray:
    """All values of a MATLAB structure's field; empty if there is no such field."""
    there = isinstance(structure, dict) or key in (getattr(structure, "dtype", np.dtype(int)).names or ())
    return np.asarray(structure[key]).ravel() if there else np.zeros(0)


def _first(structure: Any, key: str) -> Any:
    """The first value of a field, or None."""
    return next(iter(_all(structure, key)), None)


def _person(
    name: str,
    center: Float[np.ndarray, "2"],
    scale: float,
    points: Float[np.ndarray, "K 3"],
    shift: float,
    left_out: Counter[str],
) -> People:
    """One person if all points are labelled; the last column of `points` is the visibility."""
    if not (points[:, :2] > 0).all():
        left_out[NOT_ALL_POINTS] += 1
        return
    hidden = points[:, 2] == 0
    marked = np.c_[points[:, :2] - shift, np.ones(POINTS)]
    columns = hidden_share(np.ones(POINTS, bool), hidden)
    yield f"images/{name}", box_centered(np.asarray(center, np.float64) - shift, scale), marked, columns


def _text(name: Any) -> str:
    return name.decode() if isinstance(name, bytes) else str(name)


CONVERTERS = (
    Converter(
        name="mpii",
        title="MPII Human Pose",
        licence="simplified BSD",
        skeleton="mpii",
        splits=("train", "val"),
        plan=plan,
        tree=f"train.h5, valid.h5 from pose-hg-train   or {MAT}\nimages/015601864.jpg ...",
        traps=(
            "raw pixels count from 1, as in MATLAB",
            "only people with all 16 points labelled (visible or hidden) are kept",
            "the bounding box is a square of 200 * scale without a margin: head and feet may be outside it",
            "train.h5 excludes the people of valid.h5; the training images of the .mat file include both",
        ),
        study="pixels count from 1",
        study_fails=("pixel_grid",),
        benchmarks=("val",),
    ),
)
