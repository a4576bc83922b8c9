"""EMDB: P0/00_walk/P0_00_walk_data.pkl and P0/00_walk/images/00000.jpg, one person per sequence."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from raw.people import Someone, draw, save, someone
from raw.placed import in_world
from raw.pw3d import camera

SIZE = (240, 320)
FRAMES = 15
BAD, BOXLESS = 3, 7  # frames: hidden, and good but with an empty box
SEQUENCES = {  # in emdb1, in emdb2, gender
    "P0_00_outdoor_climb": (True, False, "female"),
    "P1_01_indoor_walk": (False, True, "male"),
    "P1_02_outdoor_stairs": (True, True, "male"),
    "P2_03_indoor_rom": (False, False, "female"),
}


def cast(sequence: str) -> list[Someone]:
    """The person of each frame, who turns and approaches with a constant shape."""
    seed = 50 * list(SEQUENCES).index(sequence)
    return [
        someone(seed, SIZE, at=(0.4 + 0.01 * frame, 0.5), yaw_deg=6 * frame - 40, depth=4 - 0.03 * frame)
        for frame in range(FRAMES)
    ]


def file_of(root: Path, sequence: str) -> Path:
    """Its labels."""
    return root / sequence[:2] / sequence[3:] / f"{sequence}_data.pkl"


def table_of(sequence: str) -> dict[str, Any]:
    """The content of a sequence's file."""
    people, views = cast(sequence), [camera(frame) for frame in range(FRAMES)]
    placed = [in_world(p, view[:3, :3], view[:3, 3]) for p, view in zip(people, views, strict=True)]
    boxes = np.stack([np.concatenate([box[:2], box[:2] + box[2:]]) for box in (p.box() for p in people)])
    good = np.ones(FRAMES, bool)
    good[BAD] = False
    boxes[[BAD, BOXLESS]] = [0, 0, 0, 0], [0, 100, 0, 200]
    first, second, gender = SEQUENCES[sequence]
    return {
        "gender": gender,
        "name": sequence,
        "emdb1": first,
        "emdb2": second,
        "n_frames": FRAMES,
        "good_frames_mask": good,
        "camera": {
            "intrinsics": np.array([[300.0, 0, 119.5], [0, 300.0, 159.5], [0, 0, 1]]),
            "extrinsics": np.stack(views),
            "width": SIZE[0],
            "height": SIZE[1],
        },
        "smpl": {
            "poses_root": np.stack([root for root, _ in placed]),
            "poses_body": np.stack([p.pose[1:].ravel() for p in people]),
            "trans": np.stack([transl for _, transl in placed]),
            "betas": people[0].betas.astype(np.float64),
        },
        "kp2d": np.stack([p.points2d("smpl") for p in people]),
        "bboxes": {"bboxes": boxes, "invalid_idxs": np.array([BAD, BOXLESS])},
    }


def write(root: Path) -> None:
    """Write four sequences: one in EMDB-1, one in EMDB-2, one in both, one in neither."""
    for sequence in SEQUENCES:
        path = file_of(root, sequence)
        path.parent.mkdir(parents=True)
        path.write_bytes(pickle.dumps(table_of(sequence)))
        for frame, person in enumerate(cast(sequence)):
            save(path.parent / f"images/{frame:05d}.jpg", draw([person], SIZE, frame))


TREES = {"emdb": write}
