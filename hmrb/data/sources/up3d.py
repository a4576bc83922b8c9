"""UP-3D: manually verified SMPL fits to images of LSP, LSP-Extended, MPII and FashionPose.

Lassner, Romero, Kiefel, Bogo, Black, Gehler: Unite the People: Closing the Loop Between 3D and 2D Human
Representations, CVPR 2017. https://files.is.tuebingen.mpg.de/classner/up/

Each fit uses a crop of the image, with a focal length of 5000 px and the principal point at the crop's centre. `transl`
is in that camera's frame. Extra `up3d/camera` (f, x, y) is the same camera in the full image: a point (X, Y, Z)
projects to f * X / Z + x, f * Y / Z + y.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import Box, box_mask
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import raw_file, unreadable
from hmrb.errors import RunError
from hmrb.formats.inside import inside
from hmrb.formats.npz import read_npy
from hmrb.formats.pickles import read_pickle
from hmrb.formats.pictures import UnreadablePicture, read_pixels
from hmrb.records import Person, Photo

MASK_FACTOR = 0.9
PICTURE = "_image.png"
SIZES = {"pose": SMPL_KIND.pose_numbers, "betas": SMPL_KIND.num_betas, "t": 3, "trans": 3, "rt": 3, "f": 1}


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan train, val and test by the release's lists; with `raw.compat`, train is trainval, as in the study."""
    lists = {"train": "trainval" if raw.compat else "train", "val": "val", "test": "test"}
    lists = {split: f"{name}.txt" for split, name in lists.items() if raw.wants(split)}
    folder = raw.need(*(f"{place}{name}" for place in ("up-3d/", "") for name in lists.values())).parent
    parts = []
    for split, name in lists.items():
        if (path := folder / name).exists():
            bases = _bases(path)
            # The study does not read the crops: without them there is no camera.
            has_camera = not raw.compat or all(_crop(folder, base).exists() for base in bases)
            parts.append(SplitPlan(split, bases, partial(read, folder, has_camera)))
    return parts


def read(folder: Path, has_camera: bool, base: str) -> Iterator[Photo]:
    """Read one image with its single person."""
    name = f"{base}{PICTURE}"
    yield Photo(name=name, people=(_person(folder, has_camera, base),), file=folder / name)


def _crop(folder: Path, base: str) -> Path:
    return folder / f"{base}_fit_crop_info.txt"


def _bases(path: Path) -> list[str]:
    """Base names of the images in a list; its lines are like /00000_image.png."""
    bases = []
    for line in filter(None, map(str.strip, path.read_text(encoding="utf-8", errors="replace").splitlines())):
        base = line.removeprefix("/").removesuffix(PICTURE)
        if base == line.removeprefix("/"):
            raise RunError(f"{path}: '{line}' is not an image name; lines must be like /00000{PICTURE}")
        inside(path.parent, base)
        bases.append(base)
    return bases


def _person(folder: Path, has_camera: bool, base: str) -> Person:
    fit, path = _fit(folder / f"{base}_body.pkl"), folder / f"{base}_joints.npy"
    points = _joints(path)
    points[points[:, 2] <= 0] = 0
    return Person(
        box=_box(folder / f"{base}_render_light.png"),
        keypoints2d=points,
        pose=fit["pose"].reshape(SMPL_KIND.num_joints, 3),
        betas=fit["betas"],
        transl=fit["t"] + fit["trans"],
        has_body=True,
        columns={
            "quality": _word(folder / f"{base}_quality_info.txt"),
            "dataset": _word(folder / f"{base}_dataset_info.txt"),
        },
        extra={"up3d/camera": _camera(_crop(folder, base), float(fit["f"][0]))} if has_camera else {},
    )


def _fit(path: Path) -> dict[str, np.ndarray]:
    with raw_file(path):
        content: Any = read_pickle(path)
    fit = {}
    for key, size in SIZES.items():
        try:
            fit[key] = np.asarray(content[key], np.float32).ravel()
        except (KeyError, TypeError, ValueError):
            raise RunError(f"{path}: missing {key}; download it again") from None
        if fit[key].shape != (size,):
            raise RunError(f"{path}: {key} has {fit[key].size} numbers, expected {size}")
    if fit["rt"].any():
        raise RunError(f"{path}: the camera is rotated (rt), but no fit of the release has a rotated camera")
    return fit


def _joints(path: Path) -> Float[np.ndarray, "14 3"]:
    """LSP's points in pixels with the stored confidence."""
    with raw_file(path):
        rows = read_npy(path)
    if rows.shape != (3, 14):
        raise RunError(f"{path}: shape {rows.shape}, expected (3, 14)")
    return np.ascontiguousarray(rows.T, np.float32)


def _box(path: Path) -> Box:
    """Bounding box of the body rendered over white."""
    try:
        drawn = read_pixels(path)
    except UnreadablePicture as error:
        raise RunError(f"{error}; the person's bounding box is computed from it") from None
    box = box_mask(drawn.min(2) < 255, MASK_FACTOR)
    if not box.any():
        raise RunError(f"{path}: shows no body; the person's bounding box is computed from it")
    return box


def _camera(path: Path, focal_px: float) -> Float[np.ndarray, "3"]:
    """The fit's camera in the full image. The file has the fitted crop's height and width, then y0 y1 x0 x1."""
    try:
        height, width, top, bottom, left, right = (float(n) for n in path.read_text(encoding="utf-8").split())
        factor = (height / (bottom - top) + width / (right - left)) / 2
    except (OSError, ValueError, ZeroDivisionError) as error:
        raise unreadable(path, error, "does not contain the six numbers of a crop") from None
    return np.array([focal_px / factor, width / 2 / factor + left, height / 2 / factor + top], np.float32)


def _word(path: Path) -> str:
    """Content of a one-word file; "" if it does not exist."""
    return path.read_text(encoding="utf-8", errors="replace").strip() if path.exists() else ""


CONVERTERS = (
    Converter(
        name="up3d",
        title="UP-3D",
        licence="CC-BY-NC 4.0",
        skeleton="lsp",
        splits=("train", "val", "test"),
        plan=plan,
        tree=(
            "DIR/   (or DIR/up-3d/)\n"
            "  train.txt val.txt trainval.txt test.txt   lines like /00000_image.png\n"
            "  00000_image.png  00000_joints.npy  00000_body.pkl  00000_render_light.png  00000_fit_crop_info.txt\n"
            "  00000_quality_info.txt  00000_dataset_info.txt   (optional)"
        ),
        traps=(
            "A fit refers to a crop of its image: projection needs fit_crop_info, stored as extra up3d/camera.",
            "Bounding boxes are the boxes of the rendered body, scaled by 0.9.",
            "Images are from LSP, LSP-Extended and MPII and may include people of their test sets.",
            "Fits marked medium in quality_info are included; column `quality` has the mark.",
        ),
        study="train is trainval.txt, so val is trained on; fit_crop_info is optional",
        benchmarks=("val", "test"),
    ),
)
