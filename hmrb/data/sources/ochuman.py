"""OCHuman: people occluded by other people.

Zhang et al., Pose2Seg: detection free human instance segmentation, CVPR 2019,
https://github.com/liruilong940607/OCHumanApi.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import Columns, entry, gather, hidden_share, numbers, photo, read_json
from hmrb.data.convert.boxes import box_corners
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.reasons import NO_MASK, NO_POINTS
from hmrb.data.convert.sizes import stated_size
from hmrb.errors import RunError
from hmrb.skeleton import SKELETONS

FILE = "ochuman.json"
# Names in this file for some of our points.
NAMES = {"neck_extra": "neck", "headtop": "head", "left_hip_extra": "left_hip", "right_hip_extra": "right_hip"}
HIDDEN = 2  # codes: 0 missing, 1 visible, 2 self-occluded, 3 occluded by others
VAL_PICTURES = 2500  # the first images with keypoints and masks; the others are the test set


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan all people with keypoints as train, as in the study; val and test are subsets of it."""
    path = raw.need(FILE)
    table = read_json(path)
    rows = _rows(table, path)
    pictures = entry(table, "images", path)
    sizes = {_name(picture, path): stated_size(picture) for picture in pictures}
    judged = sorted((p for p in pictures if any(map(_is_judged, _people(p, path)))), key=_number)
    parts = []
    for split, chosen, masked in (
        ("train", pictures, False),
        ("val", judged[:VAL_PICTURES], True),
        ("test", judged[VAL_PICTURES:], True),
    ):
        left_out: Counter[str] = Counter()
        if chosen:
            items = gather(_labelled(chosen, rows, path, raw.compat, masked, left_out), sizes)
            parts.append(SplitPlan(split, items, partial(photo, raw.root), left_out=left_out))
    return parts


def _labelled(
    pictures: Sequence[Mapping[str, Any]],
    rows: Sequence[int],
    path: Path,
    compat: bool,
    masked: bool,
    left_out: Counter[str],
) -> Iterator[tuple[str, Float[np.ndarray, "4"], Float[np.ndarray, "K 3"], Columns]]:
    """People with keypoints; if `masked`, only those who also have masks."""
    for picture in pictures:
        for person in _people(picture, path):
            if not (_is_judged(person) if masked else person.get("keypoints")):
                left_out[NO_MASK if masked else NO_POINTS] += 1
                continue
            points = numbers(person, "keypoints", (len(rows), 3), path)[rows]
            corners = numbers(person, "bbox", (4,), path)
            codes = points[:, 2].copy()
            points[:, 2] = codes > 0
            points[codes == 0] = 0
            columns = {**hidden_share(codes > 0, codes >= HIDDEN), "max_iou": float(entry(person, "max_iou", path))}
            box = corners if compat else box_corners(*corners.tolist())
            yield _name(picture, path), box, points, columns


def _name(picture: Mapping[str, Any], path: Path) -> str:
    return f"images/{entry(picture, 'file_name', path)}"


def _people(picture: Mapping[str, Any], path: Path) -> Sequence[Mapping[str, Any]]:
    people: Sequence[Mapping[str, Any]] = entry(picture, "annotations", path)
    return people


def _is_judged(person: Mapping[str, Any]) -> bool:
    return bool(person.get("keypoints") and person.get("segms"))


def _number(picture: Mapping[str, Any]) -> Any:
    return entry(picture, "image_id", FILE)


def _rows(table: Any, path: Path) -> list[int]:
    """Index of each of our points in the file, which lists its point names."""
    theirs = list(entry(table, "keypoint_names", path))
    ours = [NAMES.get(joint, joint) for joint in SKELETONS["ochuman_19"].joints]
    if missing := [joint for joint in ours if joint not in theirs]:
        raise RunError(f"{path}: missing keypoints {', '.join(missing)}; the file has {', '.join(theirs)}")
    return [theirs.index(joint) for joint in ours]


CONVERTERS = (
    Converter(
        name="ochuman",
        title="OCHuman",
        licence="non-commercial research",
        skeleton="ochuman_19",
        splits=("train", "val", "test"),
        plan=plan,
        tree="ochuman.json\nimages/000001.jpg ...",
        traps=(
            "the dataset is intended for testing: train contains all of it, including val, test and the images of"
            " EFT-OCHuman-test",
            "raw bounding boxes are corner pairs",
            "val (the first 2,500 images) and test (the other 2,231) contain only people with keypoints and a mask",
        ),
        study="corners are read as x, y, width, height, so boxes are too large and shifted",
        study_fails=("box_fit",),
        benchmarks=("val", "test"),
        known={"train": 10375},
    ),
)
