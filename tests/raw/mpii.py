"""MPII's tree: the stacked hourglass's .h5 files, or MPII's original .mat file."""

from pathlib import Path

import h5py
import numpy as np

from raw.people import Someone
from raw.scenes import shoot

HIDDEN, MISSING = 3, 4  # indices of people with a hidden and a missing head top
HEADTOP = 9
STRUCT = dict[str, np.ndarray]


def write(root: Path, split: str = "train", seed: int = 0) -> list[Someone]:
    """Ten images, 15 people; pixels count from 1."""
    rows = _people(root, seed)
    columns = list(zip(*rows, strict=True))
    names, centers, scales, points = columns[0], columns[2], columns[3], np.array(columns[4])
    with h5py.File(root / {"train": "train.h5", "val": "valid.h5"}[split], "w") as file:
        file["imgname"] = np.array([name.encode() for name in names])
        file["center"], file["scale"] = np.array(centers), np.array(scales)
        file["part"], file["visible"] = points[..., :2].astype(np.int64), points[..., 2]
        file["index"], file["person"] = np.arange(len(names)), np.zeros(len(names))
    return list(columns[1])


def write_mat(root: Path, seed: int = 0) -> list[Someone]:
    """The same people, a test image, and people with incomplete labels."""
    from scipy.io import savemat

    rows = _people(root, seed)
    names = sorted({row[0] for row in rows})
    pictures = []
    for name in names:
        rects = [_rect(center, scale, points) for picture, _, center, scale, points in rows if picture == name]
        rects.append({"x1": 1.0, "scale": np.zeros((0, 0)), "objpos": np.zeros((0, 0)), "annopoints": np.zeros((0, 0))})
        pictures.append({"image": {"name": name}, "annorect": _structs(rects)})
    pictures.append({"image": {"name": "000000001.jpg"}, "annorect": np.zeros((0, 0))})
    is_train = np.array([[1] * len(names) + [0]])
    release = {"annolist": _structs(pictures), "img_train": is_train, "version": "12"}
    savemat(str(root / "mpii_human_pose_v1_u12_1.mat"), {"RELEASE": release})
    return [row[1] for row in rows]


def _rect(center: np.ndarray, scale: float, points: np.ndarray) -> dict:
    marked = [
        # Empty if hidden, a number or a character if visible: the real file has all three.
        {"x": x, "y": y, "id": number, "is_visible": np.zeros((0, 0)) if not seen else "1" if number % 2 else 1}
        for number, (x, y, seen) in enumerate(points.tolist())
        if x > 0
    ]
    objpos = {"x": center[0], "y": center[1]}
    return {"x1": 1.0, "scale": scale, "objpos": objpos, "annopoints": {"point": _structs(marked)}}


def _structs(rows: list[dict]) -> np.ndarray:
    """MATLAB's array of structures."""
    out = np.empty((1, len(rows)), [(key, object) for key in rows[0]])
    for at, row in enumerate(rows):
        for key, value in row.items():
            out[0, at][key] = value
    return out


def _people(root: Path, seed: int) -> list[tuple[str, Someone, np.ndarray, float, np.ndarray]]:
    """Image, person, center, scale and points in pixels from 1; a point's last number is its visibility."""
    rows = []
    for number in range(10):
        name = f"{seed + number + 15600000:09d}.jpg"
        for person in shoot(root / "images" / name, seed + number):
            points = np.c_[person.points2d("mpii").round() + 1, np.ones(16)].clip(1)
            if len(rows) == HIDDEN:
                points[HEADTOP, 2] = 0
            if len(rows) == MISSING:
                points[HEADTOP] = 0
            low, high = person.pixels[:24].min(0), person.pixels[:24].max(0)
            rows.append((name, person, (low + high) / 2 + 1, float((high - low).max() / 200), points))
    return rows


TREES = {"mpii": write}
