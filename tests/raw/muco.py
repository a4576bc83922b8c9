"""RootNet's version of MuCo-3DHP: a COCO-like file, fits by annotation id, images of two halves."""

import json
from pathlib import Path

import numpy as np

from raw.people import Someone, draw, save, someone

SIZE = (240, 160)
SKELETON = "muco_21"
PICTURES = 9
UNFITTED, NAN, PELVIS_HIDDEN = (2, 0), (2, 1), (3, 0)  # image and person who are left out
HAND_HIDDEN = (4, 1)


def cast(seed: int = 0) -> list[list[Someone]]:
    """Two people per image."""
    return [
        [someone(seed + 10 * picture + n, SIZE, 180.0, at=(0.3 + 0.35 * n, 0.5), depth=3.5 + n) for n in range(2)]
        for picture in range(PICTURES)
    ]


def picture_name(number: int) -> str:
    """Name of an image; every third belongs to the unaugmented half."""
    half = "unaugmented_set" if number % 3 == 2 else "augmented_set"
    return f"{half}/{number % 2 + 1}/{number}.jpg"


def write(root: Path, *, layout: str = "i2l") -> list[list[Someone]]:
    """Write MuCo-3DHP and return its people.

    `layout` i2l: everything in one folder; study: extras/ next to the folder, SMPLX/ and images/ in it.
    """
    people = cast()
    images, annotations, fits = [], [], {}
    for number, here in enumerate(people):
        images.append({
            "id": 1000 + number, "file_name": picture_name(number), "width": SIZE[0], "height": SIZE[1],
            "f": [180.0, 180.0], "c": [119.5, 79.5], "R": np.eye(3).tolist(), "T": [0, 0, 0],
        })  # fmt: skip
        for n, who in enumerate(here):
            key, visible = 7 * number + n, np.ones(21, int)
            visible[14] = (number, n) != PELVIS_HIDDEN
            visible[18] = (number, n) != HAND_HIDDEN
            annotations.append({
                "id": key, "image_id": 1000 + number, "bbox": who.box(1.1).tolist(),
                "keypoints_img": who.points2d(SKELETON).tolist(),
                "keypoints_cam": (1000 * who.points3d(SKELETON)).tolist(),
                "keypoints_vis": visible.tolist(),
            })  # fmt: skip
            pose = who.pose.ravel().tolist()
            if (number, n) == NAN:
                pose[5] = float("nan")
            if (number, n) != UNFITTED:
                fits[str(key)] = {"pose": pose, "shape": who.betas.tolist(), "trans": who.transl.tolist()}
        base = root if layout == "i2l" else root / "images"
        save(base / picture_name(number), draw(here, SIZE, number))
    labels, bodies = ("MuCo-3DHP.json", "smpl_param.json")
    if layout == "study":
        labels, bodies = f"../extras/{labels}", f"SMPLX/{bodies}"
    for name, table in ((labels, {"images": images, "annotations": annotations}), (bodies, fits)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(json.dumps(table))
    return people


def write_all(root: Path) -> None:
    """The layout of I2L-MeshNet."""
    root.mkdir(parents=True, exist_ok=True)
    write(root)


TREES = dict.fromkeys(("muco", "muco_augmented", "muco_unaugmented"), write_all)
