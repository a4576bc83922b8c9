"""EFT's SMPL fits to six keypoint datasets: pseudo ground truth for the images of these datasets.

Joo, Neverova, Vedaldi: Exemplar Fine-Tuning for 3D Human Model Fitting Towards In-the-Wild 3D Human Pose Estimation,
3DV 2021. https://github.com/facebookresearch/eft

A fit has a weak-perspective camera for its bounding box but no 3D position: `transl` is zero, and the camera is stored
as extra `eft/camera` (s, x, y). A body point (X, Y, Z) projects to center + side / 2 * s * (X + x, Y + y) in pixels,
with the box's center and side.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_centered, rotvec
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import unreadable
from hmrb.errors import RunError
from hmrb.formats.inside import inside
from hmrb.records import Person, Photo

READ_CHARS = 1 << 20  # characters to read at once; most of the file's content is not kept
FIELDS = {
    "bbox_center": (2,), "bbox_scale": (), "parm_cam": (3,), "parm_shape": (SMPL_KIND.num_betas,),
    "parm_pose": (SMPL_KIND.num_joints, 3, 3), "gt_keypoint_2d": (49, 3),
}  # fmt: skip
NUM_VALUES = sum(int(np.prod(shape)) for shape in FIELDS.values())
Fits = Float[np.ndarray, "N F"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A file of fits: its possible paths, the possible image folders, and the prefix of image names."""

    files: tuple[str, ...]
    pictures: tuple[str, ...]
    prefix: str
    has_sequences: bool = False


def plan(fitted: dict[str, Fitted], raw: Raw) -> list[SplitPlan]:
    """Plan the splits whose files exist. Raises RequestError if no file or no image folder exists."""
    fitted = {split: one for split, one in fitted.items() if raw.wants(split)}
    there = {split: file for split, one in fitted.items() if (file := _first(raw, one.files)) is not None}
    if not there:
        raw.need(*(name for one in fitted.values() for name in one.files))
    parts = []
    for split, file in there.items():
        one = fitted[split]
        pictures = raw.need(*one.pictures)
        parts.append(SplitPlan(split, _by_picture(file), partial(read, pictures, one.prefix, one.has_sequences)))
    return parts


def read(pictures: Path, prefix: str, has_sequences: bool, item: tuple[str, Fits]) -> Iterator[Photo]:
    """Read one image and all its fitted people."""
    name, fits = item
    columns: dict[str, float | str] = {"sequence": name.split("/")[0]} if has_sequences else {}
    people = tuple(_person(row, columns) for row in fits)
    yield Photo(name=prefix + name, people=people, file=inside(pictures, name))


def _first(raw: Raw, names: tuple[str, ...]) -> Path | None:
    return next((path for name in names if (path := raw.root / name).exists()), None)


def _by_picture(path: Path) -> list[tuple[str, Fits]]:
    """Group fits by image, in the order of each image's first fit."""
    rows: dict[str, list[np.ndarray]] = {}
    for number, entry in enumerate(_entries(path)):
        name = entry.get("imageName") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise RunError(f"{path}: entry {number} of data has no imageName; download the file again")
        rows.setdefault(name.replace("\\", "/"), []).append(_values(entry, path, number))
    return [(name, np.stack(rows.pop(name))) for name in list(rows)]


def _values(entry: dict[str, Any], path: Path, number: int) -> Float[np.ndarray, " F"]:
    parts = []
    for key, shape in FIELDS.items():
        try:
            part = np.asarray(entry[key], np.float32).reshape(shape)
        except (KeyError, TypeError, ValueError):
            raise RunError(f"{path}: entry {number} has no {key} of shape {shape}; download the file again") from None
        if not np.isfinite(part).all():
            raise RunError(f"{path}: {key} of entry {number} is not finite; download the file again")
        parts.append(part.ravel())
    return np.concatenate(parts)


def _entries(path: Path) -> Iterator[Any]:
    """Iterate over the list `data` without loading the file: the largest has about 10 KB of text per person."""
    decoder = json.JSONDecoder()
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(READ_CHARS)
            if not (start := re.search(r'"data"\s*:\s*\[', text)):
                raise RunError(f"{path}: missing list 'data'; is this a file of EFT fits?")
            at = start.end()
            while True:
                at = _skip(text, at)
                if text[at : at + 1] == "]":
                    return
                try:
                    entry, at = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    if not (more := file.read(READ_CHARS)):
                        raise RunError(
                            f"{path}: not a JSON file, or truncated ({error.msg}); download it again"
                        ) from None
                    text, at = text[at:] + more, 0
                    continue
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error, "not a text file") from None


def _skip(text: str, at: int) -> int:
    """Position after whitespace and commas."""
    match = re.compile(r"[\s,]*").match(text, at)
    return match.end() if match else at


def _person(row: Float[np.ndarray, " F"], columns: dict[str, float | str]) -> Person:
    values, at = {}, 0
    for key, shape in FIELDS.items():
        size = int(np.prod(shape))
        values[key] = row[at : at + size].reshape(shape)
        at += size
    points = values["gt_keypoint_2d"].copy()
    points[points[:, 2] <= 0] = 0
    return Person(
        box=box_centered(values["bbox_center"], float(values["bbox_scale"])),
        keypoints2d=points,
        pose=np.stack([rotvec(matrix) for matrix in values["parm_pose"]]).astype(np.float32),
        betas=values["parm_shape"],
        has_body=True,
        columns=columns,
        extra={"eft/camera": values["parm_cam"]},
    )


def _anywhere(folder: str, *names: str) -> tuple[str, ...]:
    """Possible paths of a file of fits: in eft/ or next to the images, with or without the release's folder."""
    folders = ("eft/", "", f"eft/{folder}/", f"{folder}/") if folder else ("eft/", "")
    return tuple(f"{place}{name}" for name in names for place in folders)


def _coco(folder: str, *names: str) -> Fitted:
    beside = (f"coco/{folder}", folder, f"eft/{folder}", f"coco/images/{folder}")
    return Fitted(_anywhere("coco_2014_train_fit", *names), beside, f"{folder}/")


_LSPET, _OCHUMAN = ("lspet", "hr-lspet", "eft/lspet", "."), ("ochuman/images", "images", "eft/images")
COCO_PART = {"train": _coco("train2014", "COCO2014-Part-ver01.json", "COCO2014-Part-ver10.json")}
COCO_ALL = {
    "train": _coco("train2014", "COCO2014-All-ver01.json", "COCO2014-All-ver10.json"),
    "val": _coco("val2014", "COCO2014-Val-ver10.json"),
}
LSPET = {
    "train": Fitted(_anywhere("LSPet_fit", "LSPet_train_ver10.json", "LSPet_ver01.json"), _LSPET, ""),
    "test": Fitted(_anywhere("LSPet_fit", "LSPet_test_ver10.json"), _LSPET, ""),
}
OCHUMAN = {
    split: Fitted(_anywhere("OCHuman_fit", f"OCHuman_{split}_ver10.json"), _OCHUMAN, "images/")
    for split in ("train", "test")
}
POSETRACK = {
    "train": Fitted(
        _anywhere("PoseTrack_fit", "PoseTrack_ver01.json", "PoseTrack_ver10.json"),
        ("posetrack/images/train", "images/train", "eft/images/train"),
        "images/train/",
        has_sequences=True,
    )
}
MPII = {
    "train": Fitted(
        _anywhere("MPII_fit", "MPII_ver01.json", "MPII_ver10.json"),
        ("mpii/images", "images", "eft/images"),
        "images/",
    )
}
_TRAPS = (
    "Poses are rotation matrices.",
    "The first 25 of the 49 keypoints (OpenPose's) are zeros.",
    "The bounding box has side 200 * bbox_scale, which includes a margin of factor 1.2.",
    "The camera is relative to the box: the body's position in the image's camera frame is unknown.",
)


def _source(
    name: str, title: str, fitted: dict[str, Fitted], known: dict[str, int], *traps: str,
    benchmarks: tuple[str, ...] = (),
) -> Converter:  # fmt: skip
    files = "\n".join(
        f"  {one.files[0]}   (or {', '.join(dict.fromkeys(n.split('/')[-1] for n in one.files))} in the release's"
        f" folder or next to the images)\n  {one.pictures[0]}/"
        for one in fitted.values()
    )
    return Converter(
        name=name,
        title=title,
        licence="CC-BY-NC 4.0 for the fits; images under their own dataset's licence",
        skeleton="smpl_49",
        splits=tuple(fitted),
        plan=partial(plan, fitted),
        tree=f"DIR/\n{files}",
        traps=(*_TRAPS, *traps),
        benchmarks=benchmarks,
        known=known,
    )


CONVERTERS = (
    _source(
        "eft_coco_part", "EFT-COCO-Part", COCO_PART, {"train": 28344},
        "Images are from COCO 2014, with names that start with COCO_train2014_; COCO 2017 uses other names.",
    ),
    _source(
        "eft_coco", "EFT-COCO", COCO_ALL, {"train": 79051, "val": 10510},
        "Images are from COCO 2014; the images of val are in val2014, which the file does not state.",
        benchmarks=("val",),
    ),
    _source(
        "eft_lspet", "EFT-LSPET", LSPET, {"train": 2946, "test": 2433},
        "The older LSPet_ver01.json contains different people; the published numbers are for the ver10 files.",
        "Images are from HR-LSPET: im00001.png and so on.",
        benchmarks=("test",),
    ),
    _source(
        "eft_ochuman", "EFT-OCHuman", OCHUMAN, {"train": 2495, "test": 1783},
        "The images of test are also in ochuman, whose single list the study trains on.",
        benchmarks=("test",),
    ),
    _source(
        "eft_posetrack", "EFT-PoseTrack", POSETRACK, {"train": 28856},
        "EFT does not use PoseTrack's neck keypoint.",
    ),
    _source("eft_mpii", "EFT-MPII", MPII, {"train": 14361}),
)  # fmt: skip
