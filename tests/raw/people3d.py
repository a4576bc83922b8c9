"""3DPeople's tree: two characters with one action each, 67 points in pixels and in decimetres in the world frame."""

from pathlib import Path

import cv2
import numpy as np

from hmrb.skeleton import SKELETONS
from raw.people import Someone, draw, save, someone

SIZE = (640, 480)
CHARACTERS = ("man33", "woman33", "woman34")
FRAMES = 6
NAMES = SKELETONS["people3d"].joints


def write(root: Path, seed: int = 0) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Pixels, and metres in the camera frame, for each image. Frame 0000 has a skeleton but no image."""
    truth = {}
    for number, character in enumerate(CHARACTERS):
        place = f"{character}/02_04_jump/camera0{number + 1}"
        rng = np.random.default_rng([seed, number])
        turn = cv2.Rodrigues(rng.normal(0, 1, 3))[0]
        shift = rng.normal(0, 2, 3)
        (root / "skeleton" / place).mkdir(parents=True, exist_ok=True)
        for frame in range(FRAMES + 1):
            person = someone(seed + 100 * number + frame, SIZE, focal=700.0)
            metres = points(person)
            pixels = 700 * metres[:, :2] / metres[:, 2:] + (320, 240)
            world = (metres - shift) @ turn * 10  # camera = turn @ world + shift, decimetres
            rows = np.c_[pixels, np.zeros(len(pixels)), world]
            np.savetxt(root / "skeleton" / place / f"{frame:04d}.txt", rows, fmt="%.4f")
            if frame:
                name = f"rgb/{place}/frames/{frame:04d}.jpg"
                save(root / name, draw([person], SIZE, seed + frame))
                truth[name] = pixels, metres
    return truth


def points(person: Someone) -> np.ndarray:
    """The 67 points in the camera frame; fingers and toe tips, which the body lacks, are near the hand and the foot."""
    found = person.points3d("people3d")
    rng = np.random.default_rng(0)
    for row, name in enumerate(NAMES):
        if np.isnan(found[row, 0]):
            side = name.partition("_")[0]
            near = f"{side}_foot" if "toe" in name else f"{side}_wrist"
            found[row] = found[NAMES.index(near)] + rng.normal(0, 0.03, 3)
    return found


TREES = {"3dpeople": write}
