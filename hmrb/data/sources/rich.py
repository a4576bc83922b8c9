"""RICH: people in scanned scenes, recorded by several cameras, with SMPL-X fits; its test set, as commonly evaluated.

Huang, Yi, Höschle, Safroshkin, Alexiadis, Polikovsky, Scharstein and Black: Capturing and Inferring Dense Full-Body
Human-Scene Contact, CVPR 2022. https://rich.is.tue.mpg.de

There are no SMPL labels. SMPL evaluations pose the labelled SMPL-X body, convert its vertices to SMPL's with a matrix
and regress SMPL's 24 joints from them (BEDLAM's train/dataset/dataset.py, CameraHMR's core/datasets/dataset_val.py,
WHAM's lib/eval/evaluate_rich.py, GVHMR's metric_rich.py). The same joints are stored here as 3D keypoints.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_centered, camera_of, from_root, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import raw_file
from hmrb.errors import RunError
from hmrb.formats.npz import Npz
from hmrb.records import Person, Photo

LABELS = ("rich_test.npz", "eval_data_parsed/rich_test.npz", "test-labels/rich_test.npz")
MATRIX = ("smplx2smpl.pkl", "utils/smplx2smpl.pkl", "train-eval-utils/smplx2smpl.pkl")
BODIES = "body_models/smplx"
GENDERS = {"m": "male", "male": "male", "f": "female", "female": "female"}
NAME = re.compile(r"(?:.*/)?([^/]+)/cam_(\d+)/(\d+)_\d+\.\w+")  # recording, camera, frame
POSE, BETAS = 66, SMPL_KIND.num_betas  # root to wrists; jaw, eyes and hands are not evaluated


@dataclass(frozen=True, slots=True)
class LabelledPerson:
    """A person in an image: bounding box, gender, SMPL-X pose (axis-angle, root in the camera frame) and shape.

    `camera` is fx, fy, cx, cy in pixels, None if the file has none.
    """

    box: Float[np.ndarray, "4"]
    gender: str
    pose: Float[np.ndarray, "66"]
    betas: Float[np.ndarray, " S"]
    camera: Float[np.ndarray, "4"] | None


Picture = tuple[str, list[LabelledPerson]]


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan the people in BEDLAM's or CameraHMR's rich_test.npz with one item per image."""
    labels, matrix, bodies = raw.need(*LABELS), raw.need(*MATRIX), raw.need(BODIES)
    pictures: dict[str, list[LabelledPerson]] = {}
    for name, person in _people(labels):
        pictures.setdefault(name, []).append(person)
    folder = raw.need("test", "images/test").parent
    from hmrb.body.expressive import smpl_joint_rows  # torch: the names of datasets are known without it
    from hmrb.body.official import find_body

    find_body(raw.store.bodies / "smpl", "neutral")  # a missing body is no damage of the matrix
    with raw_file(matrix):
        rows = smpl_joint_rows(matrix, raw.store)
    return [SplitPlan("test", list(pictures.items()), partial(read, raw.root, folder, bodies, rows))]


def read(root: Path, folder: Path, bodies: Path, rows: Float[np.ndarray, "R V"], picture: Picture) -> Iterator[Photo]:
    """Read an image and its people; 3D joints are relative to the pelvis."""
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
            camera=person.camera,
        )
        for person in labelled
    )
    yield Photo(name=name, people=people, file=file)


def _joints(path: Path, rows: Float[np.ndarray, "R V"], person: LabelledPerson) -> Float[np.ndarray, "R 4"]:
    from hmrb.body.expressive import load_smplx

    with raw_file(path):
        vertices = load_smplx(path).vertices(person.pose[None], person.betas[None])[0]
    if len(vertices) != rows.shape[1]:
        raise RunError(f"{path}: has {len(vertices)} vertices, but the matrix to SMPL is for {rows.shape[1]}")
    joints = rows @ vertices
    return with_confidence(from_root(joints, joints[0]))


def _people(path: Path) -> Iterator[tuple[str, LabelledPerson]]:
    """The people in the file's order, each with its image name."""
    with raw_file(path), Npz(path) as file:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in file.read("imgname")]
        centers, poses, betas = (
            _numbers(file, key, len(names), size) for key, size in (("center", 2), ("pose_cam", POSE), ("shape", BETAS))
        )
        scales = _numbers(file, "scale", len(names), 1)
        matrices = _numbers(file, "cam_int", len(names), 9).reshape(-1, 3, 3) if "cam_int" in file else None
        genders = np.asarray(file.read("gender")).astype(str).ravel()
    if len(genders) != len(names):
        raise RunError(f"{path}: gender has {len(genders)} people, but imgname has {len(names)}")
    for row, name in enumerate(names):
        _shot(name, f"{path}: ")
        if genders[row] not in GENDERS:
            raise RunError(f"{path}: unknown gender '{genders[row]}'; known: {', '.join(GENDERS)}")
        box = box_centered(centers[row], float(scales[row].max()))
        camera = None if matrices is None else camera_of(matrices[row])
        yield name, LabelledPerson(box, GENDERS[genders[row]], poses[row], betas[row], camera)


def _numbers(file: Npz, key: str, count: int, least: int) -> Any:
    """Rows of at least `least` numbers, cut to `least` except for `scale`."""
    array = np.asarray(file.read(key))
    width = array[:1].size
    if len(array) != count or width < least or array.dtype.kind not in "fiu":
        raise RunError(f"{file.path}: {key} has shape {array.shape}, expected ({count}, {least})")
    rows = array.reshape(count, width).astype(np.float32)
    return rows if key == "scale" else np.ascontiguousarray(rows[:, :least])


def _shot(name: str, source: str = "") -> tuple[str, int, int]:
    """Recording, camera and frame from an image name."""
    if not (match := NAME.fullmatch(name)):
        raise RunError(f"{source}image name '{name}' is not like test/RECORDING/cam_03/00004_03.jpeg")
    return match[1], int(match[2]), int(match[3])


TREE = """
  rich_test.npz                                     from BEDLAM (eval_data_parsed/) or CameraHMR (test-labels/)
  test/Gym_010_pushup1/cam_03/00004_03.jpeg         or images/test/...
  body_models/smplx/SMPLX_MALE.npz, SMPLX_FEMALE.npz
  smplx2smpl.pkl                                    from BEDLAM (utils/) or CameraHMR (train-eval-utils/)"""

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
            "only rich_test.npz states which people, frames and cameras are evaluated; the official lists do not",
            "labels are SMPL-X and there is no SMPL body: 3D keypoints are SMPL's 24 joints relative to the pelvis,"
            " and there are no vertices",
            "gendered SMPL-X is posed from root to wrists with the model file's mean hands, as in BEDLAM, WHAM and"
            " GVHMR; CameraHMR uses flat hands",
            "joints are regressed with the neutral SMPL, as in CameraHMR, WHAM and GVHMR; BEDLAM uses the gendered one",
            "bodies/smpl/SMPL_NEUTRAL.npz must be in the store",
            "several cameras see a recording: the column sequence is the recording, camera is the camera number",
            "the bounding box is a square of side 200 * scale around the file's center, margin included",
            "intrinsics are the file's cam_int, if it has them; RICH's lenses distort, and cam_int does not say how",
        ),
        benchmarks=("test",),
    ),
)
