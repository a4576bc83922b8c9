"""AI Challenger keypoints, from the original annotation lists or from their re-release in COCO format.

Wu et al., AI Challenger: a large-scale dataset for going deeper in image understanding, arXiv 1711.06475, 2017,
https://github.com/AIChallenger/AI_Challenger_2017. The first host is gone; mirrors exist.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import (
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
from hmrb.data.convert.boxes import box_corners
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.reasons import NO_POINTS
from hmrb.data.convert.sizes import stated_size

# Split: the challenge's name, the dates in its folder names, the date in the image folder's name.
FOLDERS = {
    "train": ("train", ("20170909", "20170902"), "20170902"),
    "val": ("validation", ("20170911",), "20170911"),
}
POINTS = 14
VISIBLE, HIDDEN, UNLABELLED = 1, 2, 3  # the challenge's codes
HIDDEN_COCO = 1  # the re-release's codes: 0 not labelled, 1 hidden, 2 visible

People = Iterator[tuple[str, Float[np.ndarray, "4"], Float[np.ndarray, "K 3"], Columns]]


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan all people with a labelled point. The format is detected from each file's content."""
    return [_part(raw, split, path) for split, path in present(raw, _files()).items()]


def _files() -> dict[str, list[str]]:
    return {
        split: [
            *(f"ai_challenger_keypoint_{name}_{d}/keypoint_{name}_annotations_{d}.json" for d in dates),
            f"annotations/aic_{split}.json",
        ]
        for split, (name, dates, _) in FOLDERS.items()
    }


def _part(raw: Raw, split: str, path: Path) -> SplitPlan:
    name, dates, date = FOLDERS[split]
    pictures = [f"ai_challenger_keypoint_{name}_{d}/keypoint_{name}_images_{date}" for d in dates]
    folder = raw.need(*pictures).relative_to(raw.root).as_posix()
    table = read_json(path)
    left_out: Counter[str] = Counter()
    if isinstance(table, list):
        items = gather(_challenge(table, folder, path, raw.compat, left_out))
        return SplitPlan(split, items, partial(photo, raw.root), left_out=left_out)
    sizes = {f"{folder}/{entry(p, 'file_name', path)}": stated_size(p) for p in images_of(table, path).values()}
    items = gather(_coco(table, folder, path, left_out), sizes)
    return SplitPlan(split, items, partial(photo, raw.root), left_out=left_out)


def _challenge(table: object, folder: str, path: Path, compat: bool, left_out: Counter[str]) -> People:
    for picture in table if isinstance(table, list) else []:
        boxes = entry(picture, "human_annotations", path)
        marks = entry(picture, "keypoint_annotations", path)
        for human in marks:
            corners, points = numbers(boxes, human, (4,), path), numbers(marks, human, (POINTS, 3), path)
            codes = points[:, 2].copy()
            labelled = (codes == VISIBLE) | (codes == HIDDEN)
            if not compat:
                points[:, 2] = labelled
                points[~labelled] = 0
            if labelled.any() or compat:
                box = corners if compat else box_corners(*corners.tolist())
                name = f"{folder}/{entry(picture, 'image_id', path)}.jpg"
                yield name, box, points, hidden_share(labelled, codes == HIDDEN)
            else:
                left_out[NO_POINTS] += 1


def _coco(table: object, folder: str, path: Path, left_out: Counter[str]) -> People:
    images = images_of(table, path)
    for person in entry(table, "annotations", path):
        points = numbers(person, "keypoints", (POINTS, 3), path)
        codes = points[:, 2].copy()
        points[:, 2] = codes > 0
        points[codes == 0] = 0
        if not codes.any():
            left_out[NO_POINTS] += 1
        elif picture := image_of(images, person, path, left_out):
            name = f"{folder}/{entry(picture, 'file_name', path)}"
            yield name, numbers(person, "bbox", (4,), path), points, hidden_share(codes > 0, codes == HIDDEN_COCO)


CONVERTERS = (
    Converter(
        name="aic",
        title="AI Challenger keypoints",
        licence="research",
        skeleton="aic_14",
        splits=("train", "val"),
        plan=plan,
        tree=(
            "ai_challenger_keypoint_train_20170909/keypoint_train_annotations_20170909.json\n"
            "ai_challenger_keypoint_train_20170909/keypoint_train_images_20170902/<image_id>.jpg\n"
            "ai_challenger_keypoint_validation_20170911/keypoint_validation_annotations_20170911.json\n"
            "ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911/<image_id>.jpg\n"
            "or, instead of these annotation files, annotations/aic_{train,val}.json"
        ),
        traps=(
            "bounding boxes are corner pairs; visibility codes are 1 visible, 2 hidden, 3 not labelled",
            "the COCO-format re-release has boxes as x, y, width, height and codes 0 not labelled, 1 hidden, 2 visible",
            "a few images are damaged: use --allow-missing 20",
        ),
        study="corners are read as x, y, width, height and visibility codes as confidence, so unlabelled points have"
        " weight 3",
        study_fails=("confidences", "box_fit"),
        benchmarks=("val",),
    ),
)
