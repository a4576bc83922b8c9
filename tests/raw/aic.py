"""AI Challenger's tree: the original lists, or the re-release in COCO format."""

import json
from pathlib import Path

import numpy as np

from raw.people import Someone
from raw.scenes import SIZE, shoot

UNLABELLED, HIDDEN = 2, 3  # indices of people with an unlabelled and a hidden right wrist
NOBODY = 5  # index of the person without any label
WRIST = 2
PICTURES = {
    "train": "ai_challenger_keypoint_train_20170909/keypoint_train_images_20170902",
    "val": "ai_challenger_keypoint_validation_20170911/keypoint_validation_images_20170911",
}
LISTS = {
    "train": "ai_challenger_keypoint_train_20170909/keypoint_train_annotations_20170909.json",
    "val": "ai_challenger_keypoint_validation_20170911/keypoint_validation_annotations_20170911.json",
}


def write(root: Path, split: str = "train", seed: int = 0) -> list[Someone]:
    """The challenge's lists: ten pictures, 15 people; corners; 1 visible, 2 hidden, 3 not labelled."""
    everybody, pictures = _pictures(root, split, seed)
    table = []
    for name, numbers in pictures:
        boxes, marks = {}, {}
        for order, number in enumerate(numbers, 1):
            points = _points(everybody[number], number, visible=1, hidden=2, unlabelled=3)
            x, y, width, height = everybody[number].box(1.1).round().astype(int).tolist()
            boxes[f"human{order}"] = [x, y, x + width, y + height]
            marks[f"human{order}"] = points.ravel().tolist()
        table.append({"image_id": name, "url": "", "human_annotations": boxes, "keypoint_annotations": marks})
    (root / LISTS[split]).write_text(json.dumps(table))
    return everybody


def write_coco(root: Path, split: str = "train", seed: int = 0) -> list[Someone]:
    """The same people in COCO format: x, y, width, height; 2 visible, 1 hidden, 0 not labelled."""
    everybody, pictures = _pictures(root, split, seed)
    images = [
        {"id": at, "file_name": f"{name}.jpg", "width": SIZE[0], "height": SIZE[1]}
        for at, (name, _) in enumerate(pictures)
    ]
    people = [
        {
            "id": number, "image_id": at, "category_id": 1, "iscrowd": 0,
            "bbox": everybody[number].box(1.1).round().astype(int).tolist(),
            "keypoints": _points(everybody[number], number, visible=2, hidden=1, unlabelled=0).ravel().tolist(),
        }
        for at, (_, numbers) in enumerate(pictures)
        for number in numbers
    ]  # fmt: skip
    path = root / f"annotations/aic_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": people}))
    return everybody


def _pictures(root: Path, split: str, seed: int) -> tuple[list[Someone], list[tuple[str, range]]]:
    everybody: list[Someone] = []
    pictures = []
    for number in range(10):
        name = f"{seed + number:040x}"
        people = shoot(root / PICTURES[split] / f"{name}.jpg", seed + number)
        pictures.append((name, range(len(everybody), len(everybody) + len(people))))
        everybody += people
    return everybody, pictures


def _points(person: Someone, number: int, visible: int, hidden: int, unlabelled: int) -> np.ndarray:
    points = np.c_[person.points2d("aic_14").round(), np.full(14, visible)].astype(int)
    if number == UNLABELLED:
        points[WRIST] = 0, 0, unlabelled
    if number == HIDDEN:
        points[WRIST, 2] = hidden
    if number == NOBODY:
        points[:] = 0, 0, unlabelled
    return points


TREES = {"aic": write}
