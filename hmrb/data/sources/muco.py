"""MuCo-3DHP: people from MPI-INF-3DHP composited, one to four per image; RootNet's version of it.

Mehta, Sotnychenko, Mueller, Xu, Sridhar, Pons-Moll and Theobalt: Single-Shot Multi-Person 3D Pose Estimation From
Monocular RGB, 3DV 2018. https://vcai.mpi-inf.mpg.de/projects/SingleShotMultiPerson/
Bodies: SMPLify-X fits of Moon and Lee's I2L-MeshNet, ECCV 2020.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.annotated import entry, image_of, images_of, numbers, read_json
from hmrb.data.convert.boxes import with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.reasons import HIDDEN_PELVIS, NO_BODY, NO_FIT
from hmrb.data.convert.sizes import stated_size
from hmrb.errors import RequestError
from hmrb.records import Person, Photo

PELVIS = 14  # in muco_21
PICTURES = 200  # images per item
# A person as one row of numbers: field names and shapes.
ROW = {
    "bbox": (4,), "keypoints_img": (21, 2), "keypoints_cam": (21, 3), "keypoints_vis": (21,),
    "pose": (SMPL_KIND.num_joints, 3), "shape": (SMPL_KIND.num_betas,), "trans": (3,),
}  # fmt: skip
LABELLED, FITTED = tuple(ROW)[:4], tuple(ROW)[4:]
ENDS = np.cumsum([int(np.prod(shape)) for shape in ROW.values()])


@dataclass(frozen=True, slots=True)
class Pictures:
    """Some images: names, stated sizes, fx, fy, cx, cy (N, 4), numbers of people, and one row of numbers per person."""

    names: tuple[str, ...]
    sizes: tuple[tuple[int, int] | None, ...]
    intrinsics: np.ndarray
    counts: np.ndarray
    people: np.ndarray


def plan(half: str, raw: Raw) -> list[SplitPlan]:
    """Plan one item per PICTURES images. `half` is augmented, unaugmented, or "" for both."""
    path = raw.need("MuCo-3DHP.json", "data/MuCo-3DHP.json", "extras/MuCo-3DHP.json", "../extras/MuCo-3DHP.json")
    fits = _fits(
        raw.need("smpl_param.json", "data/smpl_param.json", "SMPLX/smpl_param.json", "muco/SMPLX/smpl_param.json")
    )
    found = (raw.root / name for name in ("", "data", "images", "muco/images"))
    folder = next((f for f in found if any((f / f"{kind}_set").is_dir() for kind in HALVES)), None)
    if folder is None:
        raise RequestError(f"{raw.root}: contains no augmented_set or unaugmented_set, nor do data and images")
    table = read_json(path)
    images = images_of(table, path)
    people: dict[Any, list[np.ndarray]] = {}
    left_out: Counter[str] = Counter()
    for annotation in entry(table, "annotations", path):
        number, image = entry(annotation, "id", path), image_of(images, annotation, path, left_out)
        if image is None or half not in ("", _half(entry(image, "file_name", path))):
            continue
        fit = fits.get(str(number))
        if fit is None or not np.isfinite(fit).all():
            left_out[NO_FIT if fit is None else NO_BODY] += 1
            continue
        row = _row(annotation, LABELLED, f"{path}: {number}")
        if row[ENDS[2] + PELVIS]:
            people.setdefault(image["id"], []).append(np.concatenate([row, fit]))
        else:
            left_out[HIDDEN_PELVIS] += 1
    kept = [(images[number], rows) for number, rows in people.items()]
    prefix = folder.relative_to(raw.root)
    items = [_pictures(path, kept[start : start + PICTURES], prefix) for start in range(0, len(kept), PICTURES)]
    if not items:
        raise RequestError(f"{path}: no person in {half or 'either'} half has a fit and a visible pelvis")
    return [SplitPlan("train", items, partial(read, raw), PICTURES, left_out)]


def read(raw: Raw, pictures: Pictures) -> Iterator[Photo]:
    """Read the images and the people in them who have a body."""
    rows = np.split(pictures.people, np.cumsum(pictures.counts)[:-1])
    each = zip(pictures.names, pictures.sizes, pictures.intrinsics, rows, strict=True)
    for name, stated_px, intrinsics, rows_here in each:
        about = {"half": _half(name)}
        people = tuple(_person(raw, row, intrinsics, about) for row in rows_here)
        yield Photo(name=name, people=people, file=raw.file(name), stated_px=stated_px)


def _person(raw: Raw, row: np.ndarray, intrinsics: np.ndarray, about: dict[str, str]) -> Person:
    parts = np.split(row, ENDS[:-1])
    box, pixels, points, visible, pose, betas, transl = (
        part.reshape(shape) for part, shape in zip(parts, ROW.values(), strict=True)
    )
    keypoints3d = np.zeros((0, 4), np.float32) if raw.compat else with_confidence(points / 1000, visible)
    return Person(
        box=box,
        keypoints2d=with_confidence(pixels, visible),
        keypoints3d=keypoints3d,
        pose=pose,
        betas=betas,
        transl=transl,
        has_body=True,
        columns=about,
        camera=intrinsics,
    )


def _pictures(path: Path, found: list[tuple[Mapping[str, Any], list[np.ndarray]]], prefix: Path) -> Pictures:
    return Pictures(
        names=tuple((prefix / image["file_name"]).as_posix() for image, _ in found),
        sizes=tuple(stated_size(image) for image, _ in found),
        intrinsics=np.stack([np.concatenate([numbers(image, key, (2,), path) for key in "fc"]) for image, _ in found]),
        counts=np.array([len(rows) for _, rows in found]),
        people=np.concatenate([rows for _, rows in found]),
    )


def _fits(path: Path) -> dict[str, np.ndarray]:
    """Pose, shape and translation by annotation id."""
    fits = read_json(path)
    return {str(key): _row(entry(fits, key, path), FITTED, f"{path}: {key}") for key in fits}


def _row(table: Any, keys: tuple[str, ...], source: str) -> np.ndarray:
    """The entries concatenated, float32."""
    return np.concatenate([numbers(table, key, ROW[key], source).ravel() for key in keys])


def _half(name: str) -> str:
    return "unaugmented" if "unaugmented" in name else "augmented"


HALVES = ("augmented", "unaugmented")
TREE = """
  MuCo-3DHP.json                     or in data/, in extras/, or in extras/ next to this folder
  smpl_param.json                    or in data/, or in SMPLX/
  augmented_set/...  unaugmented_set/...        or in data/ or images/"""


def _source(name: str, title: str, half: str) -> Converter:
    return Converter(
        name=name,
        title=title,
        licence="non-commercial research",
        skeleton="muco_21",
        splits=("train",),
        plan=partial(plan, half),
        tree=TREE,
        traps=(
            "this is RootNet's version, not the output of the official MATLAB code",
            "bodies are third-party fits, matched by annotation id; people without a fit are left out",
            "people with a hidden pelvis are left out; other hidden points have confidence 0",
            "images derive from MPI-INF-3DHP's training set, so the two datasets are not independent",
            "both JSON files are loaded together, which needs several GB of memory",
        ),
        study="no 3D keypoints, as in the file muco3dhp_no3dkp_train of the study's mixes",
    )


CONVERTERS = (
    _source("muco", "MuCo-3DHP", ""),
    _source("muco_augmented", "MuCo-3DHP, augmented half", "augmented"),
    _source("muco_unaugmented", "MuCo-3DHP, unaugmented half", "unaugmented"),
)
