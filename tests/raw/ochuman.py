"""OCHuman's tree."""

import json
from pathlib import Path

import numpy as np

from raw.people import Someone
from raw.scenes import SIZE, shoot

NAMES = (
    "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee right_ankle"
    " left_hip left_knee left_ankle head neck right_ear left_ear nose right_eye left_eye"
)
BOX_ONLY, NO_MASK = 2, 4  # indices of people without keypoints and without a mask
MISSING, SELF, OTHER = 6, 7, 8  # indices of people with a missing, a self-occluded and an occluded nose
NOSE = 16


def write(root: Path, seed: int = 0) -> list[Someone]:
    """Ten images, 15 people; boxes as corners; codes 0 missing, 1 visible, 2 and 3 hidden."""
    everybody: list[Someone] = []
    images = []
    for number in range(10):
        annotations = []
        for person in shoot(root / f"images/{number + 1:06d}.jpg", seed + number):
            x, y, width, height = person.box(1.1).round().astype(int).tolist()
            points = np.c_[person.points2d("ochuman_19").round(2), np.ones(19)]
            if len(everybody) in (MISSING, SELF, OTHER):
                points[NOSE, 2] = {MISSING: 0, SELF: 2, OTHER: 3}[len(everybody)]
            annotations.append(
                {
                    "bbox": [x, y, x + width, y + height],
                    "keypoints": None if len(everybody) == BOX_ONLY else points.ravel().tolist(),
                    "segms": None if len(everybody) in (BOX_ONLY, NO_MASK) else {"outer": [[0, 0, 1, 1]], "inner": []},
                    "max_iou": 0.5,
                }
            )
            everybody.append(person)
        # Ids are not in the order of the list, as in the real file.
        images.append(
            {
                "image_id": f"{number * 7 % 10:06d}", "file_name": f"{number + 1:06d}.jpg",
                "width": SIZE[0], "height": SIZE[1], "annotations": annotations,
            }
        )  # fmt: skip
    codes = {"missing": 0, "vis": 1, "self_occluded": 2, "others_occluded": 3}
    table = {"images": images, "keypoint_names": NAMES.split(), "keypoint_visible": codes}
    (root / "ochuman.json").write_text(json.dumps(table))
    return everybody


TREES = {"ochuman": write}
