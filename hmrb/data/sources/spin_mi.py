"""SPIN-MI: MPI-INF-3DHP's training images with SPIN's keypoints and its multi-view body fits.

Kolotouros, Pavlakos, Black and Daniilidis: Learning to Reconstruct 3D Human Pose and Shape via Model-fitting in the
Loop, ICCV 2019. https://github.com/nkolot/SPIN
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_centered
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import raw_file
from hmrb.data.sources.mpi_inf_3dhp import MpiInf3dhpClip, pictures
from hmrb.errors import RequestError, RunError
from hmrb.formats.npz import Npz
from hmrb.records import Person, Photo
from hmrb.skeleton import remap

POINTS = "mpi_inf_3dhp_train.npz"
# Files with bodies, and their keys for poses, shapes and the flag of a good fit.
FITS = {
    "mpi-inf-3dhp_mview_fits.npz": ("pose", "shape", "has_smpl"),
    "mpi_inf_3dhp.npz": ("pose", "betas", "valid_fit"),
    POINTS: ("pose", "shape", "has_smpl"),
}
WIDTHS = {"center": (2,), "scale": (), "part": (24, 3), "openpose": (25, 3), "S": (24, 4)}
FOLDERS = ("", "dataset_extras/", "static_fits/", "spin_fits/", "data/dataset_extras/", "data/static_fits/")
NAME = re.compile(r"(S\d+/Seq\d+)/(?:imageFrames/)?video_(\d+)/(?:frame_)?(\d+)\.jpg")


@dataclass(frozen=True, slots=True)
class Rows:
    """People of one clip in frame order: float32 arrays keyed by their names in the files."""

    clip: MpiInf3dhpClip
    arrays: dict[str, np.ndarray]


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan one item per clip."""
    path = raw.need(*(folder + POINTS for folder in FOLDERS))
    arrays, names = _read(path)
    arrays |= _bodies(raw, path, len(names))
    clips: dict[tuple[str, int], list[tuple[int, int]]] = {}
    for row, name in enumerate(names):
        match = NAME.fullmatch(name)
        if not match:
            raise RunError(f"{path}: image name '{name}' is not like S1/Seq1/video_0/000001.jpg or as in SPIN")
        clips.setdefault((match[1], int(match[2])), []).append((int(match[3]) - 1, row))
    items = []
    for (sequence, camera), found in clips.items():
        frames, rows = np.array(sorted(found)).T
        items.append(
            Rows(MpiInf3dhpClip(sequence, camera, frames), {key: array[rows] for key, array in arrays.items()})
        )
    return [SplitPlan("train", items, partial(read, raw), photos_each=750)]


def read(raw: Raw, rows: Rows) -> Iterator[Photo]:
    """Read the people of a clip, one per image."""
    for row, photo in enumerate(pictures(raw, rows.clip)):
        person = {key: array[row] for key, array in rows.arrays.items()}
        points = np.concatenate([person["openpose"], person["part"]])
        points[:, 2] = points[:, 2].clip(0, 1)
        points[points[:, 2] <= 0] = 0
        has_body = bool(person["good"] > 0 and np.isfinite(person["pose"]).all() and np.isfinite(person["betas"]).all())
        made = Person(
            box=box_centered(person["center"], float(person["scale"])),
            keypoints2d=points,
            keypoints3d=remap(person["S"] * (person["S"][:, 3:] > 0), "smpl_24", "smpl_49"),
            columns={"sequence": rows.clip.sequence, "camera": float(rows.clip.camera)},
        )
        if has_body:
            made = replace(
                made,
                pose=person["pose"].reshape(SMPL_KIND.num_joints, 3),
                betas=person["betas"][: SMPL_KIND.num_betas],
                has_body=True,
            )
        yield replace(photo, people=(made,))


def _read(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    with raw_file(path), Npz(path) as file:
        names = [name.decode() if isinstance(name, bytes) else str(name) for name in file.rows("imgname")]
        arrays = {}
        for key, width in WIDTHS.items():
            is_left_out = key == "openpose" and key not in file
            values = np.zeros((len(names), *width)) if is_left_out else np.asarray(file.read(key))
            arrays[key] = _checked(path, key, values, (len(names), *width))
    return arrays, names


def _bodies(raw: Raw, points: Path, count: int) -> dict[str, np.ndarray]:
    """Poses, shapes and flags from the first file that has them."""
    for name, keys in FITS.items():
        path = next((raw.root / (folder + name) for folder in FOLDERS if (raw.root / (folder + name)).exists()), None)
        if path is None:
            continue
        with raw_file(path), Npz(path) as file:
            if keys[0] not in file:
                continue
            pose, betas, good = (np.asarray(file.read(key)) for key in keys)
        return {
            "pose": _checked(path, keys[0], pose, (count, SMPL_KIND.pose_numbers)),
            "betas": _checked(path, keys[1], betas, (count, SMPL_KIND.num_betas)),
            "good": _checked(path, keys[2], np.ravel(good), (count,)),
        }
    raise RequestError(f"{raw.root}: {points.name} has no poses, and there is no {' or '.join(list(FITS)[:2])} either")


def _checked(path: Path, key: str, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape != shape:
        raise RunError(f"{path}: {key} has shape {values.shape}, expected {shape} for {shape[0]} images")
    return values.astype(np.float32)


TREE = """
  mpi_inf_3dhp_train.npz             from SPIN's dataset_extras
  mpi-inf-3dhp_mview_fits.npz        from SPIN's static_fits; or mpi_inf_3dhp.npz from its spin_fits
  S1/Seq1/video_0/000001.jpg         images or videos, as for mpi_inf_3dhp"""

CONVERTERS = (
    Converter(
        name="spin_mi",
        title="SPIN-MI",
        licence="non-commercial research",
        skeleton="smpl_49",
        splits=("train",),
        plan=plan,
        tree=TREE,
        traps=(
            "only some people have a good fit (has_smpl, valid_fit); the others have only keypoints",
            "annotations use SPIN's file names; images extracted as in the study, or the videos, are also found",
            "3D points are relative to the pelvis, and there is no translation",
            "if both kinds of fits exist, the multi-view fits (mview_fits) are used",
        ),
        known={"train": 96507},
    ),
)
