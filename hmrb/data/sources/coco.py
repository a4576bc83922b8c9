"""Datasets in COCO's keypoint format: COCO itself, COCO-WholeBody, CrowdPose and PoseTrack18.

COCO: Lin et al., ECCV 2014, https://cocodataset.org. COCO-WholeBody: Jin et al., ECCV 2020,
https://github.com/jin-s13/COCO-WholeBody. CrowdPose: Li et al., CVPR 2019, https://github.com/Jeff-sjtu/CrowdPose.
PoseTrack18: Andriluka et al., CVPR 2018, https://posetrack.net.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import (
    AnnotatedPicture,
    Columns,
    entry,
    gather,
    hidden_share,
    image_of,
    images_of,
    numbers,
    photo,
    present,
    read_json,
)
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import CROWD, NO_BOX, NO_LIMBS, NO_POINTS, NOT_ALL_INSIDE
from hmrb.data.convert.sizes import stated_size
from hmrb.errors import RunError
from hmrb.records import Photo
from hmrb.skeleton import SKELETONS

LIMBS = slice(5, 17)  # shoulders to ankles, in COCO's 17 and in PoseTrack's
BODY = 17
COCO_PICTURES = {"train": "train2014", "val": "val2014", "val2017": "val2017"}
# The other parts of COCO-WholeBody, in the order of its 133 points: key, number of points, key of the valid flag.
PARTS = (
    ("foot_kpts", 6, "foot_valid"), ("face_kpts", 68, "face_valid"),
    ("lefthand_kpts", 21, "lefthand_valid"), ("righthand_kpts", 21, "righthand_valid"),
)  # fmt: skip
POSETRACK_NAMES = {"head_bottom_pt": "head_bottom", "headtop": "head_top"}  # ours: theirs
LABELS = ("", "annotations/", "json/")  # folders that may contain CrowdPose's files

Points = Float[np.ndarray, "K 3"]
Picture = Mapping[str, Any]


def plan_coco(raw: Raw) -> list[SplitPlan]:
    """Plan people with all twelve limb points labelled, for the splits whose images exist."""
    folders = {split: (name, f"images/{name}") for split, name in COCO_PICTURES.items()}
    there = [split for split, names in folders.items() if any((raw.root / name).is_dir() for name in names)]
    files = {
        split: (f"annotations/person_keypoints_{name}.json", f"person_keypoints_{name}.json")
        for split, name in COCO_PICTURES.items()
        if split in (there or COCO_PICTURES)
    }
    return [_part(raw, split, path, folders[split], _body, _has_limbs) for split, path in present(raw, files).items()]


def plan_wholebody(raw: Raw) -> list[SplitPlan]:
    """Plan people with all twelve limb points labelled, on the images of COCO 2017."""
    files = {
        split: (f"annotations/coco_wholebody_{split}_v1.0.json", f"coco_wholebody_{split}_v1.0.json")
        for split in ("train", "val")
    }
    points = partial(_whole_body, 2.0 if raw.compat else 1.0)
    return [
        _part(raw, split, path, (f"{split}2017", f"train_2017/{split}2017", f"images/{split}2017"), points, _has_limbs)
        for split, path in present(raw, files).items()
    ]


def plan_crowdpose(raw: Raw) -> list[SplitPlan]:
    """Plan people with all 14 points labelled and inside the image."""
    files = {split: [f"{label}crowdpose_{split}.json" for label in LABELS] for split in ("train", "val", "test")}
    return [
        _part(raw, split, path, ("images",), partial(_labelled, 14), _is_inside, ("crowdIndex", "crowd"))
        for split, path in present(raw, files).items()
    ]


def plan_posetrack(raw: Raw) -> list[SplitPlan]:
    """Plan one item per sequence; each has its own annotation file."""
    folders = {split: (f"posetrack_data/annotations/{split}", f"annotations/{split}") for split in ("train", "val")}
    return [
        SplitPlan(split, raw.some(f"{folder.relative_to(raw.root)}/*.json"), partial(read_sequence, raw.root))
        for split, folder in present(raw, folders).items()
    ]


def read_sequence(root: Path, path: Path) -> Iterator[Photo]:
    """Read the labelled images of a PoseTrack sequence; people without a bounding box are left out."""
    table = read_json(path)
    rows = _posetrack_rows(table, path)
    images = images_of(table, path)
    left_out: Counter[str] = Counter()

    def people() -> Iterator[tuple[str, Any, Points, Columns]]:
        for person in entry(table, "annotations", path):
            points = _labelled(BODY, person, path)[rows]
            if not (person.get("bbox") and _has_limbs(points, {})):
                left_out[NO_LIMBS if person.get("bbox") else NO_BOX] += 1
                continue
            if picture := image_of(images, person, path, left_out):
                columns: Columns = {"sequence": path.stem, "track": float(person.get("track_id", -1))}
                yield _text(picture, "file_name", path), numbers(person, "bbox", (4,), path), points, columns

    for marked in gather(people(), {_text(p, "file_name", path): stated_size(p) for p in images.values()}):
        yield from photo(root, marked)
    yield from counted(path.stem, left_out)


def _part(
    raw: Raw,
    split: str,
    path: Path,
    folders: Sequence[str],
    points_of: Callable[[Picture, Path], Points],
    keeps: Callable[[Points, Picture], bool],
    column: tuple[str, str] | None = None,
) -> SplitPlan:
    """Plan the people of one file that `keeps` accepts. `column` is a field of the image and its column name."""
    folder = raw.need(*folders).relative_to(raw.root).as_posix()
    table = read_json(path)
    images = images_of(table, path)
    left_out: Counter[str] = Counter()

    def people() -> Iterator[tuple[str, Any, Points, Columns]]:
        for person in entry(table, "annotations", path):
            codes = numbers(person, "keypoints", (-1,), path)[2::3] if person.get("keypoints") else np.zeros(0)
            if person.get("iscrowd") or not codes.any():
                left_out[CROWD if person.get("iscrowd") else NO_POINTS] += 1
                continue
            if not (picture := image_of(images, person, path, left_out)):
                continue
            points = points_of(person, path)
            if not keeps(points, picture):
                left_out[RULES[keeps]] += 1
                continue
            columns: Columns = hidden_share(codes > 0, codes == 1)
            if column:
                columns = {**columns, column[1]: float(entry(picture, column[0], path))}
            yield name_of(picture), numbers(person, "bbox", (4,), path), points, columns

    def name_of(picture: Picture) -> str:
        return f"{folder}/{_text(picture, 'file_name', path)}"

    items: list[AnnotatedPicture] = gather(people(), {name_of(p): stated_size(p) for p in images.values()})
    return SplitPlan(split, items, partial(photo, raw.root), left_out=left_out)


def _labelled(count: int, person: Picture, path: Path) -> Points:
    """Points with confidence 1 if they are labelled: visible (code 2) or hidden (code 1)."""
    points = numbers(person, "keypoints", (count, 3), path)
    points[:, 2] = points[:, 2] > 0
    points[points[:, 2] == 0] = 0
    return points


def _body(person: Picture, path: Path) -> Points:
    return _labelled(BODY, person, path)


def _whole_body(most: float, person: Picture, path: Path) -> Points:
    """Whole-body points; feet, face and hands keep the stored confidence (a score or a code), at most `most`."""
    points = [_labelled(BODY, person, path)]
    for key, count, valid in PARTS:
        part = numbers(person, key, (count, 3), path)
        part[:, 2] = part[:, 2].clip(0, most) if entry(person, valid, path) else 0
        part[part[:, 2] == 0] = 0
        points.append(part)
    return np.concatenate(points)


def _has_limbs(points: Points, _: Picture) -> bool:
    return bool((points[LIMBS, 2] > 0).all())


def _is_inside(points: Points, picture: Picture) -> bool:
    size = [entry(picture, key, picture["file_name"]) for key in ("width", "height")]
    return bool((points[:, 2] > 0).all() and (points[:, :2] >= 0).all() and (points[:, :2] < size).all())


RULES: dict[Callable[[Points, Picture], bool], str] = {_has_limbs: NO_LIMBS, _is_inside: NOT_ALL_INSIDE}


def _posetrack_rows(table: Any, path: Path) -> list[int]:
    """Index of each of our points in the file, which lists its point names under `categories`."""
    theirs = list(entry(entry(entry(table, "categories", path), 0, path), "keypoints", path))
    ours = [POSETRACK_NAMES.get(joint, joint) for joint in SKELETONS["posetrack"].joints]
    if missing := [joint for joint in ours if joint not in theirs]:
        raise RunError(f"{path}: missing keypoints {', '.join(missing)}; the file has {', '.join(theirs)}")
    return [theirs.index(joint) for joint in ours]


def _text(table: Picture, key: str, path: Path) -> str:
    return str(entry(table, key, path))


CONVERTERS = (
    Converter(
        name="coco",
        title="COCO",
        licence="annotations CC-BY 4.0, images under Flickr's terms",
        skeleton="coco",
        splits=tuple(COCO_PICTURES),
        plan=plan_coco,
        tree=(
            "annotations/person_keypoints_{train,val}2014.json\n{train,val}2014/COCO_train2014_000000000009.jpg ...\n"
            "annotations/person_keypoints_val2017.json\nval2017/000000000139.jpg ..."
        ),
        traps=(
            "train and val are from 2014; val2017, the 5,000 images that 2D evaluations use, is a subset of val",
            "only people with all of points 5 to 16 labelled (visible or hidden) are kept",
            "confidence 1 means labelled, visible or hidden; column occlusion is the fraction of hidden points",
            "the bounding box is the annotated one, without a margin",
        ),
        benchmarks=("val", "val2017"),
    ),
    Converter(
        name="coco_wholebody",
        title="COCO-WholeBody 1.0",
        licence="annotations CC-BY-NC 4.0",
        skeleton="coco_wholebody",
        splits=("train", "val"),
        plan=plan_wholebody,
        tree=(
            "annotations/coco_wholebody_{train,val}_v1.0.json\n"
            "{train,val}2017/000000000009.jpg ...   or train_2017/{train,val}2017/..."
        ),
        traps=(
            "the images are from COCO 2017, not 2014",
            "feet, face and hands are used only if the file marks the part as valid; their confidence is a score or a"
            " code",
            "hips are mapped to SMPL's joints, as in the study, although they were annotated in images",
        ),
        study="feet, face and hands keep confidences up to 2",
        study_fails=("confidences",),
        benchmarks=("val",),
    ),
    Converter(
        name="crowdpose",
        title="CrowdPose",
        licence="non-commercial research",
        skeleton="crowdpose",
        splits=("train", "val", "test"),
        plan=plan_crowdpose,
        tree="crowdpose_{train,val,test}.json   or annotations/..., json/...\nimages/100000.jpg ...",
        traps=(
            "only people with all 14 points labelled and inside the image are kept",
            "head, neck and hips are mapped to SMPL's joints, as in the study, although they were annotated in images",
        ),
        benchmarks=("val", "test"),
    ),
    Converter(
        name="posetrack",
        title="PoseTrack18",
        licence="CC-BY-NC (unverified)",
        skeleton="posetrack",
        splits=("train", "val"),
        plan=plan_posetrack,
        tree=(
            "posetrack_data/annotations/{train,val}/000001_bonn_train.json ...   or annotations/...\n"
            "images/{train,val}/000001_bonn_train/000000.jpg ..."
        ),
        traps=(
            "people without a bounding box are left out; ears are never labelled",
            "hips are mapped to SMPL's joints, as in the study, although they were annotated in images",
        ),
        benchmarks=("val",),
    ),
)
