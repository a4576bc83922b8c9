"""3DPW: sequenceFiles/<folder>/<sequence>.pkl and imageFiles/<sequence>/image_00000.jpg."""

from pathlib import Path

import numpy as np

from hmrb.data.convert.boxes import rotmat
from raw.people import Someone, draw, save, someone
from raw.pickled import save_python2
from raw.placed import in_world

SIZE, FOCAL = (320, 240), 300.0
FRAMES = 8
UNPLACED = (1, 2)  # person and frame without a valid camera
UNDETECTED = (0, 5)  # person and frame without a detected point
ALONE = 6  # frame without a placed person


def cast(seed: int) -> list[list[Someone]]:
    """Two people who turn and approach with constant shapes, by person and frame."""
    return [
        [
            someone(
                seed + 100 * number,
                SIZE,
                FOCAL,
                at=(0.3 + 0.35 * number + 0.005 * frame, 0.5),
                yaw_deg=9 * frame - 30,
                depth=3.8 - 0.05 * frame,
            )
            for frame in range(FRAMES)
        ]
        for number in range(2)
    ]


def camera(frame: int) -> np.ndarray:
    """(4, 4) world to camera."""
    out = np.eye(4)
    out[:3, :3] = rotmat(np.array([0.3 + 0.1 * frame, -0.8, 0.4]))
    out[:3, 3] = (0.5, -1.0 + 0.1 * frame, 2.0)
    return out


def write(root: Path, folder: str = "train", seed: int = 0, sequence: str = "") -> list[list[Someone]]:
    """Write one sequence of two people in a folder of sequenceFiles/; returns the people."""
    sequence = sequence or f"{folder}_walk_00"
    people = cast(seed)
    turns = [camera(frame) for frame in range(FRAMES)]
    placed = [[in_world(p, turns[f][:3, :3], turns[f][:3, 3]) for f, p in enumerate(frames)] for frames in people]
    points = [np.stack([_detected(p, who, f) for f, p in enumerate(frames)]) for who, frames in enumerate(people)]
    valid = np.ones((2, FRAMES), bool)
    valid[UNPLACED] = False
    valid[:, ALONE] = False
    table = {
        "sequence": sequence,
        "poses": [
            np.stack([np.concatenate([root, p.pose[1:].ravel()]) for p, (root, _) in zip(*both, strict=True)])
            for both in zip(people, placed, strict=True)
        ],
        "trans": [np.stack([transl for _, transl in frames]) for frames in placed],
        "betas": [np.concatenate([frames[0].betas, [9.0, 9.0]]) for frames in people],
        "genders": ["m", "f"],
        "poses2d": list(points),
        "jointPositions": [np.zeros((FRAMES, 72)) for _ in people],
        "campose_valid": list(valid),
        "cam_poses": np.stack(turns),
        "cam_intrinsics": np.array([[FOCAL, 0, SIZE[0] / 2 - 0.5], [0, FOCAL, SIZE[1] / 2 - 0.5], [0, 0, 1]]),
        "img_frame_ids": np.arange(FRAMES) * 2,
    }
    save_python2(root / "sequenceFiles" / folder / f"{sequence}.pkl", table)
    for frame in range(FRAMES):
        here = [frames[frame] for frames in people]
        save(root / "imageFiles" / sequence / f"image_{frame:05d}.jpg", draw(here, SIZE, frame))
    return people


def _detected(person: Someone, who: int, frame: int) -> np.ndarray:
    """(3, 18) in OpenPose's format: zeros for undetected points."""
    points = np.concatenate([person.points2d("pw3d"), np.full((18, 1), 0.7)], 1)
    points[0] = 0  # the nose
    if (who, frame) == UNDETECTED:
        points[:] = 0
    return points.T


def write_all(root: Path) -> None:
    """Every split."""
    for seed, folder in enumerate(("train", "validation", "test")):
        write(root, folder, 1000 * seed)


TREES = {"3dpw": write_all}
