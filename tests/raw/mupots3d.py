"""MuPoTs-3D: cells of frames and people in MATLAB files, images numbered from 0."""

from pathlib import Path

import numpy as np
import scipy.io

from raw.people import Someone, draw, save, someone

SIZE = (240, 160)
SKELETON = "mpi_inf_3dhp_test"
FRAMES = 5
INVALID = (2, 1)  # frame and person
UNIVERSAL = 0.9


def write(root: Path, sequence: str = "TS1", seed: int = 0, *, occlusion: bool = True) -> list[list[Someone]]:
    """Write a sequence of two people; returns them by frame."""
    people = [
        [someone(seed + 10 * frame + n, SIZE, 180.0, at=(0.3 + 0.35 * n, 0.5), depth=3.5 + n) for n in range(2)]
        for frame in range(FRAMES)
    ]
    cells, labels = np.empty((FRAMES, 2), object), np.empty((FRAMES, 2), object)
    for frame, here in enumerate(people):
        for n, who in enumerate(here):
            points = 1000 * who.points3d(SKELETON).T
            cells[frame, n] = {
                "annot2": who.points2d(SKELETON).T, "annot3": points, "univ_annot3": UNIVERSAL * points,
                "isValidFrame": float((frame, n) != INVALID),
            }  # fmt: skip
            labels[frame, n] = (np.arange(17) < 4 * n).astype(np.uint8)[:, None]
        save(root / "MultiPersonTestSet" / sequence / f"img_{frame:06d}.jpg", draw(here, SIZE, frame))
    folder = root / "MultiPersonTestSet" / sequence
    scipy.io.savemat(folder / "annot.mat", {"annotations": cells})
    if occlusion:
        scipy.io.savemat(folder / "occlusion.mat", {"occlusion_labels": labels})
    return people


def write_all(root: Path) -> None:
    """Two sequences."""
    write(root, "TS2", 0)
    write(root, "TS10", 100)


TREES = {"mupots3d": write_all}
