"""EFT's fits in the release's JSON format, with images of the parent dataset."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from hmrb.data.convert.boxes import rotmat
from raw.people import Someone, draw, save, someone

SIZE, FOCAL = (200, 150), 190.0


@dataclass(frozen=True)
class File:
    """A file of fits, its image folder, and the n-th image's name."""

    path: str
    pictures: str
    name: Callable[[int], str]


FILES: dict[str, dict[str, File]] = {
    "eft_coco_part": {
        "train": File(
            "eft/coco_2014_train_fit/COCO2014-Part-ver01.json", "coco/train2014", "COCO_train2014_{:012d}.jpg".format
        )
    },
    "eft_coco": {
        "train": File(
            "eft/coco_2014_train_fit/COCO2014-All-ver01.json", "coco/train2014", "COCO_train2014_{:012d}.jpg".format
        ),
        "val": File("eft/COCO2014-Val-ver10.json", "coco/val2014", "COCO_val2014_{:012d}.jpg".format),
    },
    "eft_lspet": {
        "train": File("eft/LSPet_train_ver10.json", "lspet", "im{:05d}.png".format),
        "test": File("eft/LSPet_test_ver10.json", "lspet", lambda n: f"im{n + 500:05d}.png"),
    },
    "eft_ochuman": {
        "train": File("eft/OCHuman_train_ver10.json", "ochuman/images", "{:06d}.jpg".format),
        "test": File("eft/OCHuman_test_ver10.json", "ochuman/images", lambda n: f"{n + 500:06d}.jpg"),
    },
    "eft_posetrack": {
        "train": File(
            "eft/PoseTrack_ver01.json",
            "posetrack/images/train",
            lambda n: f"{n // 4:06d}_mpii_train/{n % 4 + 1:06d}.jpg",
        )
    },
    "eft_mpii": {"train": File("eft/MPII_fit/MPII_ver01.json", "mpii/images", "{:09d}.jpg".format)},
}


def fitted(seed: int) -> tuple[Someone, dict[str, object]]:
    """A person, its pixels by the fit's weak-perspective camera, and its entry; the first shoulder is unlabelled."""
    person = someone(seed, SIZE, FOCAL)
    low, high = person.pixels[:24].min(0), person.pixels[:24].max(0)
    center, scale = (low + high) / 2, float(1.2 * (high - low).max() / 200)
    zoom = 2 * person.focal / float(person.joints[0, 2]) / (200 * scale)
    middle = np.array(SIZE) / 2 - 0.5
    shift = person.transl[:2] + (middle - center) / (100 * scale * zoom)
    pixels = center + 100 * scale * zoom * (person.joints[:, :2] - person.transl[:2] + shift)
    person = replace(person, pixels=pixels)
    points = np.zeros((49, 3))
    points[25:, :2], points[25:, 2] = person.points2d("smpl_24"), 1
    points[25 + 8] = (7.5, 3.25, 0)
    rotmats = np.stack([rotmat(rotvec) for rotvec in person.pose])
    return person, {
        "parm_pose": rotmats.tolist(), "parm_shape": person.betas.tolist(), "parm_cam": [zoom, *shift.tolist()],
        "bbox_scale": scale, "bbox_center": center.tolist(), "gt_keypoint_2d": points.tolist(),
        "joint_validity_openpose18": [True] * 18, "smpltype": "smpl", "annotId": 1000 + seed,
    }  # fmt: skip


def write(root: Path, file: File, count: int = 12, seed: int = 0) -> list[Someone]:
    """`count` people with one image each, then one more in the first image, out of order as in COCO's file."""
    people, data = [], []
    for number in (*range(count), 0):
        person, entry = fitted(seed + len(people))
        people.append(person)
        data.append({**entry, "imageName": file.name(number)})
    for number in range(count):
        there = [people[0], people[-1]] if number == 0 else [people[number]]
        save(root / file.pictures / file.name(number), draw(there, SIZE, number))
    (root / file.path).parent.mkdir(parents=True, exist_ok=True)
    (root / file.path).write_text(json.dumps({"ver": 0.1, "data": data}))
    return people


def write_all(slug: str, root: Path) -> None:
    """Write every split of a dataset."""
    for number, file in enumerate(FILES[slug].values()):
        write(root, file, seed=100 * number)


TREES: dict[str, Callable[[Path], None]] = {slug: partial(write_all, slug) for slug in FILES}
