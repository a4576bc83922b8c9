"""EFT's SMPL fits to six datasets of key points: pseudo ground truth, over pictures of the datasets themselves.

Joo, Neverova, Vedaldi: Exemplar Fine-Tuning for 3D Human Model Fitting Towards In-the-Wild 3D Human Pose Estimation,
3DV 2021. https://github.com/facebookresearch/eft

A fit has the weak-perspective camera of its box and no place in the picture: `transl` stays zero, the camera is kept as
extra `eft/camera` (s, x, y): a point of the body at (X, Y, Z) is at center + side / 2 * s * (X + x, Y + y) pixels, of
the box's center and side.
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
from hmrb.data.convert.pack import inside
from hmrb.errors import RequestError
from hmrb.records import Person, Photo

READ_CHARS = 1 << 20  # of a file that is far larger than what is kept of it
FIELDS = {
    "bbox_center": (2,), "bbox_scale": (), "parm_cam": (3,), "parm_shape": (SMPL_KIND.num_betas,),
    "parm_pose": (SMPL_KIND.num_joints, 3, 3), "gt_keypoint_2d": (49, 3),
}  # fmt: skip
NUM_VALUES = sum(int(np.prod(shape)) for shape in FIELDS.values())
Fits = Float[np.ndarray, "N F"]


@dataclass(frozen=True, slots=True)
class Fitted:
    """One file of fits: where it may lie, where the pictures may be, what leads to a picture in its dataset."""

    files: tuple[str, ...]
    pictures: tuple[str, ...]
    prefix: str
    has_sequences: bool = False


def plan(fitted: dict[str, Fitted], raw: Raw) -> list[SplitPlan]:
    """The splits whose files are there. Raises RequestError where there is none, or none of the pictures' folders."""
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
    """One picture and everybody fitted in it."""
    name, fits = item
    columns: dict[str, float | str] = {"sequence": name.split("/")[0]} if has_sequences else {}
    people = tuple(_person(row, columns) for row in fits)
    yield Photo(name=prefix + name, people=people, file=inside(pictures, name))


def _first(raw: Raw, names: tuple[str, ...]) -> Path | None:
    return next((path for name in names if (path := raw.root / name).exists()), None)


def _by_picture(path: Path) -> list[tuple[str, Fits]]:
    """Pictures in the order of their first fit."""
    rows: dict[str, list[np.ndarray]] = {}
    for number, entry in enumerate(_entries(path)):
        name = entry.get("imageName") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not name:
            raise RequestError(f"{path}: no imageName in entry {number} of its data; get the file again")
        rows.setdefault(name.replace("\\", "/"), []).append(_values(entry, path, number))
    return [(name, np.stack(rows.pop(name))) for name in list(rows)]


def _values(entry: dict[str, Any], path: Path, number: int) -> Float[np.ndarray, " F"]:
    parts = []
    for key, shape in FIELDS.items():
        try:
            part = np.asarray(entry[key], np.float32).reshape(shape)
        except (KeyError, TypeError, ValueError):
            raise RequestError(f"{path}: entry {number} has no {key} of shape {shape}; get the file again") from None
        if not np.isfinite(part).all():
            raise RequestError(f"{path}: {key} of entry {number} is not finite; get the file again")
        parts.append(part.ravel())
    return np.concatenate(parts)


def _entries(path: Path) -> Iterator[Any]:
    """The members of the list `data`, one at a time: the largest file has some 10 KB of text for each person."""
    decoder = json.JSONDecoder()
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(READ_CHARS)
            if not (start := re.search(r'"data"\s*:\s*\[', text)):
                raise RequestError(f"{path}: no list called data in it; is it a file of EFT's fits?")
            at = start.end()
            while True:
                at = _skip(text, at)
                if text[at : at + 1] == "]":
                    return
                try:
                    entry, at = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    if not (more := file.read(READ_CHARS)):
                        raise RequestError(f"{path}: cut short, or no JSON ({error.msg}); get it again") from None
                    text, at = text[at:] + more, 0
                    continue
                yield entry
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"{path}: can't be read ({error})") from None


def _skip(text: str, at: int) -> int:
    """Past spaces and commas."""
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
    """A file of fits under eft/ or beside the pictures, in the folder of the release or without it."""
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
    "The first 25 of the 49 key points (OpenPose's) are zeros.",
    "The box's side is 200 * bbox_scale, its margin of 1.2 inside.",
    "The camera belongs to the box: where in the picture's camera the body stands is not known.",
)


def _source(
    name: str, title: str, fitted: dict[str, Fitted], known: dict[str, int], *traps: str,
    benchmarks: tuple[str, ...] = (),
) -> Converter:  # fmt: skip
    files = "\n".join(
        f"  {one.files[0]}   (or {', '.join(dict.fromkeys(n.split('/')[-1] for n in one.files))} in its folder of the"
        f" release or beside the pictures)\n  {one.pictures[0]}/"
        for one in fitted.values()
    )
    return Converter(
        name=name,
        title=title,
        licence="CC-BY-NC 4.0 for the fits; pictures as their own dataset says",
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
        "Pictures are of COCO 2014, whose names begin with COCO_train2014_; COCO 2017's have other names.",
    ),
    _source(
        "eft_coco", "EFT-COCO", COCO_ALL, {"train": 79051, "val": 10510},
        "Pictures are of COCO 2014; those of val lie in val2014, which the file does not say.",
        benchmarks=("val",),
    ),
    _source(
        "eft_lspet", "EFT-LSPET", LSPET, {"train": 2946, "test": 2433},
        "The older LSPet_ver01.json has other people in it: the numbers are those of the ver10 files.",
        "Pictures are of HR-LSPET, im00001.png and so on.",
        benchmarks=("test",),
    ),
    _source(
        "eft_ochuman", "EFT-OCHuman", OCHUMAN, {"train": 2495, "test": 1783},
        "Pictures of test are among those of ochuman, whose single list the study trains on.",
        benchmarks=("test",),
    ),
    _source(
        "eft_posetrack", "EFT-PoseTrack", POSETRACK, {"train": 28856},
        "EFT does not trust PoseTrack's neck.",
    ),
    _source("eft_mpii", "EFT-MPII", MPII, {"train": 14361}),
)  # fmt: skip
