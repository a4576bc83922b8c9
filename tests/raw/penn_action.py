"""Penn Action's tree: a .mat file and a folder of frames per video. Left and right are as seen in the images."""

from pathlib import Path

import numpy as np

from hmrb.skeleton import SKELETONS
from raw.people import Someone, draw, save, someone
from raw.scenes import SIZE

FRAMES = 21  # frames 1, 11 and 21 are used
HIDDEN = 10  # frame index at which every video's head is hidden, at (1, 1)
TRAIN = 5  # training videos; two more are for testing


def write(root: Path, seed: int = 0) -> dict[tuple[str, int], Someone]:
    """People by video and used frame, from 0. The file lists the right point of each pair first."""
    from scipy.io import savemat

    (root / "labels").mkdir(parents=True, exist_ok=True)
    truth = {}
    for video in range(TRAIN + 2):
        name = f"{video + 1:04d}"
        x, y, visible = np.ones((FRAMES, 13)), np.ones((FRAMES, 13)), np.ones((FRAMES, 13))
        for frame in range(0, FRAMES, 10):
            person = truth[name, frame] = someone(seed + 100 * video + frame)
            points = person.points2d("penn_action")[SKELETONS["penn_action"].mirror()] + 1
            x[frame], y[frame] = points.T
            save(root / f"frames/{name}/{frame + 1:06d}.jpg", draw([person], SIZE, seed + frame))
        visible[HIDDEN, 0] = 0
        x[HIDDEN, 0] = y[HIDDEN, 0] = 1
        table = {
            "action": "baseball_pitch", "pose": "front", "x": x, "y": y, "visibility": visible,
            "train": 1 if video < TRAIN else -1, "bbox": np.ones((FRAMES - 1, 4)),
            "dimensions": np.array([SIZE[1], SIZE[0], FRAMES]), "nframes": FRAMES,
        }  # fmt: skip
        savemat(str(root / f"labels/{name}.mat"), table, do_compression=True)
    return truth


TREES = {"penn_action": write}
