"""3DOH50K: one table of people per split, seven units per metre, root in the world frame."""

import json
from pathlib import Path

import numpy as np

from hmrb.data.convert.boxes import rotmat
from raw.people import Someone, draw, save, someone
from raw.placed import in_world

SIZE = (240, 160)
PEOPLE = 12
TURN, SHIFT = rotmat(np.array([0.4, 1.0, -0.3])), np.array([0.3, -0.2, 1.5])
ELSEWHERE = 3  # index of the person whose 3D joints are in no known frame
WORLD = 4  # index of the person whose 3D joints are in the world frame


def write(root: Path, folder: str = "trainset", seed: int = 0) -> list[Someone]:
    """Write a split; returns its people."""
    people = [someone(seed + number, SIZE, 180.0) for number in range(PEOPLE)]
    table = {}
    for number, who in enumerate(people):
        extri = np.eye(4)
        extri[:3, :3], extri[:3, 3] = TURN, 7 * SHIFT
        joints = 7 * who.joints[:24]
        if number == ELSEWHERE:
            joints = joints[:, ::-1]
        if number == WORLD:
            joints = (joints - 7 * SHIFT) @ TURN
        root_vector, transl = in_world(who, TURN, SHIFT)
        x, y, width, height = who.box(1.0)
        table[f"{number:05d}"] = {
            "img_path": f"images\\{number:05d}.jpg", "bbox": [[x, y], [x + width, y + height]],
            "betas": [who.betas.tolist()], "pose": [[*root_vector.tolist(), *who.pose[1:].ravel().tolist()]],
            "trans": [transl.tolist()], "scale": [1.0], "smpl_joints_2d": _flat(who, number),
            "smpl_joints_3d": joints.tolist(), "intri": [[180.0, 0, 119.5], [0, 180.0, 79.5], [0, 0, 1]],
            "extri": extri.tolist(),
        }  # fmt: skip
        save(root / folder / "images" / f"{number:05d}.jpg", draw([who], SIZE, number))
    (root / folder / "annots.json").write_text(json.dumps(table))
    return people


def _flat(who: Someone, number: int) -> list[list[float]]:
    """2D joints, for every second person with a visibility column."""
    return np.c_[who.pixels[:24], np.ones(24)][:, : 2 + number % 2].tolist()


def write_all(root: Path) -> None:
    """Both splits."""
    write(root)
    write(root, "testset", 100)


TREES = {"3doh50k": write_all}
