"""3DOH50K: people occluded by objects, indoors, recorded by several cameras, with SMPL fits.

Zhang, Huang and Wang: Object-Occluded Human Shape and Pose Estimation from a Single Color Image, CVPR 2020.
https://www.yangangwang.com/papers/ZHANG-OOH-2020-03.html
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.annotated import entry, numbers, read_json
from hmrb.data.convert.boxes import box_corners, camera_of, from_root, turned, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pelvis import transl_to
from hmrb.errors import RunError
from hmrb.records import Person, Photo

FOLDERS = {"train": ("trainset", "train"), "test": ("testset", "test")}
UNITS = 7.0  # file units per metre, from isarandi/posepile
PEOPLE = 200  # people per item
ON_PIXELS = 0.1  # of the box size: joints further from their pixels are in another frame
# A person as one row of numbers: field names and shapes.
ROW = {
    "bbox": (2, 2), "pose": (SMPL_KIND.num_joints, 3), "betas": (SMPL_KIND.num_betas,),
    "smpl_joints_2d": (SMPL_KIND.num_joints, 2), "smpl_joints_3d": (SMPL_KIND.num_joints, 3),
    "intri": (3, 3), "extri": (4, 4),
}  # fmt: skip
FLAT = "smpl_joints_2d"
ENDS = np.cumsum([int(np.prod(shape)) for shape in ROW.values()])


@dataclass(frozen=True, slots=True)
class SplitRows:
    """Some people of a split: image names below its folder, ids in the file, and one row of numbers each."""

    folder: str
    pictures: tuple[str, ...]
    numbers: tuple[str, ...]
    rows: np.ndarray


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan each split with one item per PEOPLE people."""
    parts = []
    for split, folders in FOLDERS.items():
        paths = [
            path for folder in folders if raw.wants(split) and (path := raw.root / folder / "annots.json").exists()
        ]
        if paths:
            parts.append(SplitPlan(split, _people(paths[0]), partial(read, raw), photos_each=PEOPLE))
    if not parts:
        raw.need("trainset/annots.json", "testset/annots.json")
    return parts


def read(raw: Raw, people: SplitRows) -> Iterator[Photo]:
    """Read one person per image."""
    for picture, number, row in zip(people.pictures, people.numbers, people.rows, strict=True):
        choices = [f"{people.folder}/{picture}", f"{people.folder}/images/{number}.jpg"]
        name = next((name for name in choices if raw.file(name).exists()), choices[0])
        yield Photo(name=name, people=(_person(raw, row),), file=raw.file(name))


def _person(raw: Raw, row: Float[np.ndarray, " N"]) -> Person:
    parts = zip(ROW, np.split(row.astype(np.float64), ENDS[:-1]), strict=True)
    label = {key: part.reshape(ROW[key]) for key, part in parts}
    points = _placed(label)
    left, top, right, bottom = label["bbox"].ravel().tolist()
    betas = label["betas"].astype(np.float32)
    if raw.compat:
        keypoints3d = with_confidence(from_root(label["smpl_joints_3d"], label["smpl_joints_3d"][0]))
    else:
        keypoints3d = np.zeros((0, 4), np.float32) if points is None else with_confidence(points)
    return Person(
        box=box_corners(left, top, right, bottom, 1.2),
        keypoints2d=with_confidence(label["smpl_joints_2d"]),
        keypoints3d=keypoints3d,
        pose=turned(label["pose"], label["extri"][:3, :3]),
        betas=betas,
        transl=np.zeros(3, np.float32) if points is None else transl_to(points[0], betas, "neutral", raw.store),
        has_body=True,
        camera=camera_of(label["intri"]),
    )


def _placed(label: dict[str, np.ndarray]) -> Float[np.ndarray, "R 3"] | None:
    """Joints in metres in the camera frame. The file's frame is undocumented: camera and world frame are tried, and
    the one that projects onto the 2D joints is used; None if neither does.
    """
    raw, camera = label["smpl_joints_3d"], label["extri"]
    size = np.linalg.norm(label["bbox"][1] - label["bbox"][0])
    for points in (raw, raw @ camera[:3, :3].T + camera[:3, 3]):
        if (points[:, 2] > 0).all():
            pixels = (points / points[:, 2:]) @ label["intri"].T
            away = np.linalg.norm(pixels[:, :2] - label["smpl_joints_2d"], axis=1)
            if np.median(away) < ON_PIXELS * size:
                return points / UNITS
    return None


def _people(path: Path) -> list[SplitRows]:
    table = read_json(path)
    if not isinstance(table, dict):
        raise RunError(f"{path}: not a table of people by id")
    names = sorted(table)
    return [
        SplitRows(
            path.parent.name,
            tuple(_picture(table[name], f"{path}: {name}") for name in some),
            tuple(some),
            np.stack([_row(table[name], f"{path}: {name}") for name in some]),
        )
        for some in (names[start : start + PEOPLE] for start in range(0, len(names), PEOPLE))
    ]


def _picture(record: Any, source: str) -> str:
    return str(entry(record, "img_path", source)).replace("\\", "/").removeprefix("./")


def _row(record: Any, source: str) -> Float[np.ndarray, " N"]:
    """A person's entries concatenated; 2D joints may have a third column, which is dropped."""
    parts = {key: numbers(record, key, shape, source) for key, shape in ROW.items() if key != FLAT}
    parts[FLAT] = numbers(record, FLAT, (24, -1), source)[:, :2]
    return np.concatenate([parts[key].ravel() for key in ROW])


TREE = """
  trainset/annots.json
  trainset/images/0000.jpg           named by img_path or by the person's id
  testset/annots.json
  testset/images/..."""

CONVERTERS = (
    Converter(
        name="3doh50k",
        title="3DOH50K",
        licence="research",
        skeleton="smpl",
        splits=tuple(FOLDERS),
        plan=plan,
        tree=TREE,
        traps=(
            "raw 3D joints have seven units per metre: they are divided by 7",
            "the raw root rotation is in the world frame: it is transformed by extri",
            "the frame of the raw 3D joints is undocumented: camera or world, whichever projects onto the 2D joints; if"
            " neither does, the body is the only 3D label",
            "translations are computed from the pelvis and need bodies/smpl/SMPL_NEUTRAL.npz; without it they are"
            " zeros",
            "img_path contains backslashes",
        ),
        study="3D joints keep seven units per metre and their undocumented frame, relative to the pelvis",
        study_fails=("bone_lengths", "body_joints"),
        benchmarks=("test",),
    ),
)
