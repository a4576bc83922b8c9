"""Trees in COCO format: COCO, COCO-WholeBody, CrowdPose and PoseTrack18."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from raw.people import Someone
from raw.scenes import SIZE, shoot, whole

HIDDEN, NO_LIMB, OUTSIDE = 3, 4, 6  # indices of people: left wrist hidden, missing, outside the image
LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
SIDES = [f"{side}_{joint}" for joint in LIMBS for side in ("left", "right")]
POSETRACK = ["nose", "head_bottom", "head_top", "left_ear", "right_ear", *SIDES]
PARTS = (("foot", 17, 23), ("face", 23, 91), ("lefthand", 91, 112), ("righthand", 112, 133))


def write_coco(root: Path, split: str = "train", seed: int = 0, pictures: int = 10) -> list[Someone]:
    """Ten images, 15 people, one of them without a wrist, and a crowd."""
    folder, prefix = (split, "") if split == "val2017" else (f"{split}2014", f"COCO_{split}2014_")
    names = [f"{prefix}{number:012d}.jpg" for number in range(9, 9 + pictures)]
    people, table = _coco(root / folder, names, seed, "coco", wrist=9)
    table["annotations"].append(
        {"id": 900, "image_id": 9, "iscrowd": 1, "bbox": [0, 0, 50, 50], "keypoints": [0] * 51, "num_keypoints": 0}
    )
    _dump(root / f"annotations/person_keypoints_{folder}.json", table)
    return people


def write_all_coco(root: Path) -> None:
    """Every split."""
    for seed, split in enumerate(("train", "val", "val2017")):
        write_coco(root, split, 20 * seed)


def write_wholebody(root: Path, split: str = "train", seed: int = 0, folder: str = "") -> list[Someone]:
    """Like COCO; feet have scores, faces have code 2, left hands are not valid."""
    names = [f"{number:012d}.jpg" for number in range(9, 19)]
    people, table = _coco(root / folder / f"{split}2017", names, seed, "coco_wholebody", wrist=9)
    for person, annotation in zip(people, table["annotations"], strict=True):
        points = np.c_[whole(person.points2d("coco_wholebody")), np.full(133, 2.0)]
        points[17:23, 2] = 0.75
        for part, start, stop in PARTS:
            annotation[f"{part}_kpts"] = points[start:stop].round(2).ravel().tolist()
            annotation[f"{part}_valid"] = part != "lefthand"
        annotation["keypoints"] = annotation["keypoints"][: 17 * 3]
    _dump(root / f"annotations/coco_wholebody_{split}_v1.0.json", table)
    return people


def write_crowdpose(root: Path, split: str = "train", seed: int = 0) -> list[Someone]:
    """14 points; one person's wrist is outside the image."""
    first = {"train": 100000, "val": 110000, "test": 120000}[split]
    names = [f"{number}.jpg" for number in range(first, first + 20)]
    people, table = _coco(root / "images", names, seed, "crowdpose", wrist=4)
    for image in table["images"]:
        image["crowdIndex"] = 0.25
    table["annotations"][OUTSIDE]["keypoints"][3 * 4] = SIZE[0] + 0.5
    _dump(root / f"crowdpose_{split}.json", table)
    return people


def write_posetrack(root: Path, split: str = "train", seed: int = 0, labels: str = "posetrack_data") -> list[Someone]:
    """Two sequences of 8 frames; the last person of each has no bounding box; ears have code 0."""
    everybody: list[Someone] = []
    for number in range(2):
        sequence = f"{number:06d}_bonn_{split}"
        names = [f"images/{split}/{sequence}/{frame:06d}.jpg" for frame in range(8)]
        people, table = _coco(root, names, seed + 8 * number, "posetrack", wrist=9)
        for image in table["images"]:
            image |= {"vid_id": f"{number:06d}", "nframes": 8, "is_labeled": True}
        for annotation in table["annotations"]:
            annotation["track_id"] = annotation["id"] % 2
            for ear in (3, 4):
                annotation["keypoints"][3 * ear : 3 * ear + 3] = [0, 0, 0]
        del table["annotations"][-1]["bbox"]
        table["categories"] = [{"id": 1, "name": "person", "keypoints": POSETRACK}]
        _dump(root / labels / f"annotations/{split}/{sequence}.json", table)
        everybody += people
    return everybody


def _coco(folder: Path, names: list[str], seed: int, skeleton: str, wrist: int) -> tuple[list[Someone], dict[str, Any]]:
    everybody: list[Someone] = []
    images, annotations = [], []
    for number, name in enumerate(names):
        images.append({"id": number + 9, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for person in shoot(folder / name, seed + number):
            points = np.c_[whole(person.points2d(skeleton)).round(2), np.full(len(person.points2d(skeleton)), 2)]
            if len(everybody) == HIDDEN:
                points[wrist, 2] = 1
            if len(everybody) == NO_LIMB:
                points[wrist] = 0
            annotations.append(
                {
                    "id": len(everybody), "image_id": number + 9, "category_id": 1, "iscrowd": 0,
                    "bbox": person.box(1.1).round(1).tolist(), "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                }
            )  # fmt: skip
            everybody.append(person)
    return everybody, {"images": images, "annotations": annotations}


def _dump(path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table))


TREES: dict[str, Callable[[Path], Any]] = {
    "coco": write_all_coco,
    "coco_wholebody": write_wholebody,
    "crowdpose": write_crowdpose,
    "posetrack": write_posetrack,
}
