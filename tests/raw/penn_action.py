"""Penn Action's tree: a .mat file and a folder of frames a video. Left and right as in the pictures."""

from pathlib import Path

import numpy as np

from hmrb.skeleton import SKELETONS
from raw.people import Someone, draw, save, someone
from raw.scenes import SIZE

FRAMES = 21  # so 1, 11 and 21 are taken
HIDDEN = 10  # of every video's frame 11 the head is hidden, and at (1, 1)
TRAIN = 5  # videos; two more to test on


def write(root: Path, seed: int = 0) -> dict[tuple[str, int], Someone]:
    """Who is in each frame that is taken, by video and frame from 0. Of each pair the file has the right one first."""
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
