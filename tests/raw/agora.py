"""AGORA: pickled pandas tables, fits as pickled torch tensors and arrays, images of the smaller size."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from raw.people import Someone, draw, save, someone

SIZE = (1280, 720)  # of the smaller images; labels refer to images three times as large
FOCAL = (50 / 36 * 1280, 18 / 36 * 1280, 18 / 36 * 1280, 28 / 36 * 1280, 28 / 36 * 1280)  # by image; from the release
SMALL = "_1280x720"
# Image and its camera's yaw, pitch (degrees) and position (cm), from the release; the last uses its own camera.
VIEWS = (
    ("ag_trainset_hdri_50mm_{}", 0, 0, (0, 0, 170)),
    ("ag_trainset_3dpeople_cam00_{}", 135, 30, (400, -275, 265)),
    ("ag_trainset_body_cam03_{}", 45, 30, (-490, -275, 265)),
    ("ag_trainset_ag2_brushify_15_15_{}", 0, 15, (0, 0, 170)),
    ("ag_trainset_archviz_{}", -70.0, 0, (120.0, 300.0, 20.0)),
)
INVALID = 1  # index of the hidden person in every image
KID = 2  # index of the child


@dataclass(frozen=True)
class Scanned:
    """A person, the translation of its SMPL fit in the scan's frame, and whether the person is valid."""

    person: Someone
    is_valid: bool


def _rotation(degrees: float, axis: int) -> np.ndarray:
    return np.asarray(cv2.Rodrigues(np.radians(degrees) * np.eye(3)[axis])[0])


def scanned(number: int) -> Someone:
    """A person of image number // 10, equally large in all."""
    focal = FOCAL[number % 100 // 10]
    return someone(number, SIZE, focal, at=(0.2 + 0.2 * (number % 4), 0.5), depth=3.6 * focal / 1200)


def write(root: Path, split: str = "train", first: int = 0) -> list[list[Scanned]]:
    """Write five images of four people in two tables; the third image exists only in the larger size."""
    folder = {"train": "train", "val": "validation"}[split]
    rows, everybody = [], []
    for view, (name, yaw, pitch, at) in enumerate(VIEWS):
        people = [scanned(first + 10 * view + number) for number in range(4)]
        name = f"{name.format(f'{first:05d}')}.png"
        on_disk = name if view == 2 else name.replace(".png", f"{SMALL}.png")
        picture = draw(people, SIZE, view)
        if view == 2:
            picture = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_NEAREST)
        save(root / "images" / folder / on_disk, picture)
        row: dict[str, object] = {"imgPath": name}
        if view == 4:
            row |= dict(zip(("camX", "camY", "camZ", "camYaw"), (*at, yaw), strict=True))
        lists: dict[str, list[object]] = {}
        for number, person in enumerate(people):
            seed = first + 10 * view + number
            told = _scan(root, person, seed, yaw, pitch, np.array(at, float), own_camera=view == 4)
            told |= {
                "gender": ("male", "female")[seed % 2], "kid": number == KID, "age": "31-50", "ethnicity": "asian",
                "occlusion": 95.5 if number == INVALID else 12.5, "isValid": number != INVALID,
            }  # fmt: skip
            for key, value in told.items():
                lists.setdefault(key, []).append(value)
        rows.append(row | lists)
        everybody.append([Scanned(person, number != INVALID) for number, person in enumerate(people)])
    tables = root / "camera_dataframe_smpl"
    tables.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate((rows[:3], rows[3:])):
        pd.DataFrame(part).to_pickle(tables / f"{folder}_{number}_withjv.pkl")
    return everybody


def _scan(
    root: Path, person: Someone, seed: int, yaw: float, pitch: float, at: np.ndarray, own_camera: bool
) -> dict[str, object]:  # fmt: skip
    """Write both fits of a person; returns the person's table entries."""
    rng = np.random.default_rng([seed, 9])
    scan_yaw, there = float(rng.uniform(-180, 180)), rng.normal(0, 0.2, 3)  # the fit's translation
    look = _rotation(pitch, 0) @ _rotation(-yaw, 1)
    turn = look @ _rotation(scan_yaw - 90, 1) @ np.diag([1.0, -1, -1])
    root_there = cv2.Rodrigues(turn.T @ cv2.Rodrigues(person.pose[0].astype(float))[0])[0].ravel()
    shift = person.transl + person.rest - turn @ (person.rest + there)
    camera = np.array([at[1], -at[2], at[0]]) / 100 + (np.array([0, -1.7, 0]) if own_camera else 0)
    x, y, z = look.T @ shift + camera
    name = f"set_{seed % 2}/{seed:05d}_scan"
    betas = [*person.betas.tolist(), *([0.4] if seed % 10 == KID else [])]
    smpl = {
        "root_pose": torch.tensor(root_there, dtype=torch.float32)[None, None],
        "body_pose": torch.nn.Parameter(torch.from_numpy(person.pose[1:].copy())[None]),
        "betas": torch.tensor([betas]),
        "translation": torch.tensor(there, dtype=torch.float32)[None],
    }
    smplx = {
        "global_orient": root_there[None], "body_pose": person.pose[1:22].reshape(1, 63), "transl": there[None],
        "betas": np.array([betas]), "expression": rng.normal(0, 1, (1, 10)),
        **{f"{side}_hand_pose": rng.normal(0, 1, (1, 45)) for side in ("left", "right")},
        **{f"{part}_pose": np.zeros((1, 3)) for part in ("jaw", "leye", "reye")},
    }  # fmt: skip
    for kind, fit in (("smpl_gt", smpl), ("smplx_gt", smplx)):
        path = root / kind / f"{name}.pkl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(fit, protocol=2))
    pixels = person.pixels + 0.5  # the official projection puts the principal point at half the width
    return {
        "X": 100 * z, "Y": 100 * x, "Z": -100 * y, "Yaw": scan_yaw,
        "gt_path_smpl": f"smpl_gt/{name}.obj", "gt_path_smplx": f"smplx_gt/{name}.obj",
        "gt_joints_2d": 3 * pixels[:45], "gt_joints_3d": person.joints[:45], "gt_verts": np.zeros((850, 3)),
    }  # fmt: skip


def write_all(root: Path) -> None:
    write(root, "train")
    write(root, "val", first=100)


TREES: dict[str, Callable[[Path], None]] = {"agora": write_all}
