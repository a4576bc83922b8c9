"""RICH: people in scanned scenes, seen by several cameras, with SMPL-X fits; its test set, as it is evaluated.

Huang, Yi, Höschle, Safroshkin, Alexiadis, Polikovsky, Scharstein and Black: Capturing and Inferring Dense Full-Body
Human-Scene Contact, CVPR 2022. https://rich.is.tue.mpg.de

There are no SMPL labels. Evaluations of SMPL pose the labelled SMPL-X body, bring its vertices to SMPL's by a matrix
and regress SMPL's 24 joints from them (BEDLAM's train/dataset/dataset.py, CameraHMR's core/datasets/dataset_val.py,
WHAM's lib/eval/evaluate_rich.py, GVHMR's metric_rich.py): the same joints are stored here, as 3D key points.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.body.expressive import load_smplx, smpl_joint_rows
from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_centered, from_root, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.errors import RequestError
from hmrb.formats.npz import Npz
from hmrb.records import Person, Photo

LABELS = ("rich_test.npz", "eval_data_parsed/rich_test.npz", "test-labels/rich_test.npz")
MATRIX = ("smplx2smpl.pkl", "utils/smplx2smpl.pkl", "train-eval-utils/smplx2smpl.pkl")
BODIES = "body_models/smplx"
GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}
NAME = re.compile(r"(?:.*/)?([^/]+)/cam_(\d+)/(\d+)_\d+\.\w+")  # recording, camera, frame
POSE, BETAS = 66, SMPL_KIND.num_betas  # root to wrists; jaw, eyes and hands are no part of the evaluations


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """Somebody in a picture: box, gender, SMPL-X pose (rotvec, root in the camera's frame) and shape."""

    box: Float[np.ndarray, "4"]
    gender: str
    pose: Float[np.ndarray, "66"]
    betas: Float[np.ndarray, " S"]


Picture = tuple[str, list[LabelledPerson]]


def plan(raw: Raw) -> list[SplitPlan]:
    """The people that BEDLAM's or CameraHMR's rich_test.npz names, an item a picture."""
    labels, matrix, bodies = raw.need(*LABELS), raw.need(*MATRIX), raw.need(BODIES)
    pictures: dict[str, list[LabelledPerson]] = {}
    for name, person in _people(labels):
        pictures.setdefault(name, []).append(person)
    folder = raw.need("test", "images/test").parent
    rows = smpl_joint_rows(matrix, raw.store)
    return [SplitPlan("test", list(pictures.items()), partial(read, raw.root, folder, bodies, rows))]


def read(root: Path, folder: Path, bodies: Path, rows: Float[np.ndarray, "R V"], picture: Picture) -> Iterator[Photo]:
    """A picture and its people, their joints relative to the pelvis."""
    name, labelled = picture
    file = Raw(root).file((folder.relative_to(root) / name).as_posix())
    recording, camera, frame = _shot(name)
    people = tuple(
        Person(
            box=person.box,
            keypoints3d=_joints(bodies / f"SMPLX_{person.gender.upper()}.npz", rows, person),
            gender=person.gender,
            columns={"sequence": recording, "camera": float(camera), "frame": float(frame)},
            extra={"smplx/pose": person.pose, "smplx/betas": person.betas},
        )
        for person in labelled
    )
    yield Photo(name=name, people=people, file=file)


def _joints(path: Path, rows: Float[np.ndarray, "R V"], person: LabelledPerson) -> Float[np.ndarray, "R 4"]:
    vertices = load_smplx(path).vertices(person.pose[None], person.betas[None])[0]
    if len(vertices) != rows.shape[1]:
        raise RequestError(f"{path}: has {len(vertices)} vertices, the matrix to SMPL is for {rows.shape[1]}")
    joints = rows @ vertices
    return with_confidence(from_root(joints, joints[0]))


def _people(path: Path) -> Iterator[tuple[str, LabelledPerson]]:
    """In the file's order, by the names of their pictures."""
    with Npz(path) as file:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in file.read("imgname")]
        centers, poses, betas = (
            _numbers(file, key, len(names), size) for key, size in (("center", 2), ("pose_cam", POSE), ("shape", BETAS))
        )
        scales = _numbers(file, "scale", len(names), 1)
        genders = np.asarray(file.read("gender")).astype(str).ravel()
    if len(genders) != len(names):
        raise RequestError(f"{path}: gender of {len(genders)} people, imgname of {len(names)}")
    for row, name in enumerate(names):
        _shot(name, f"{path}: ")
        if genders[row] not in GENDERS:
            raise RequestError(f"{path}: no gender is called '{genders[row]}'; known: {', '.join(GENDERS)}")
        box = box_centered(centers[row], float(scales[row].max()))
        yield name, LabelledPerson(box, GENDERS[genders[row]], poses[row], betas[row])


def _numbers(file: Npz, key: str, count: int, least: int) -> Any:
    """Rows of numbers, the first `least` of each where it is a pose or a shape and longer."""
    array = np.asarray(file.read(key))
    width = array[:1].size
    if len(array) != count or width < least or array.dtype.kind not in "fiu":
        raise RequestError(f"{file.path}: {key} has shape {array.shape}, expected ({count}, {least})")
    rows = array.reshape(count, width).astype(np.float32)
    return rows if key == "scale" else np.ascontiguousarray(rows[:, :least])


def _shot(name: str, source: str = "") -> tuple[str, int, int]:
    """Recording, camera and frame of a picture."""
    if not (match := NAME.fullmatch(name)):
        raise RequestError(f"{source}picture '{name}' is not named as test/RECORDING/cam_03/00004_03.jpeg")
    return match[1], int(match[2]), int(match[3])


TREE = """
  rich_test.npz                                     BEDLAM's (eval_data_parsed/) or CameraHMR's (test-labels/)
  test/Gym_010_pushup1/cam_03/00004_03.jpeg         or images/test/...
  body_models/smplx/SMPLX_MALE.npz, SMPLX_FEMALE.npz
  smplx2smpl.pkl                                    BEDLAM's (utils/) or CameraHMR's (train-eval-utils/)"""

CONVERTERS = (
    Converter(
        name="rich",
        title="RICH",
        licence="research, by registration (unverified)",
        skeleton="smpl",
        splits=("test",),
        plan=plan,
        tree=TREE,
        traps=(
            "who is evaluated, in which frames and cameras, is only in rich_test.npz: the official lists do not say",
            "labels are SMPL-X: there is no SMPL body to pose, so 3D key points are its 24 joints, relative to the"
            " pelvis, and no vertices",
            "SMPL-X is posed by gender from root to wrists, hands at the mean of its file, as by BEDLAM, WHAM and"
            " GVHMR; CameraHMR has them flat",
            "joints are regressed by the neutral SMPL, as by CameraHMR, WHAM and GVHMR; BEDLAM takes the gender's",
            "needs bodies/smpl/SMPL_NEUTRAL.npz in the store",
            "a recording is seen by several cameras: the column sequence is the recording, camera has the number",
            "the box is a square of side 200 * scale about the file's center, its margin inside",
        ),
        benchmarks=("test",),
    ),
)
