"""LSP's and LSP-Extended's trees: joints.mat with opposite axis orders and opposite visibility flags."""

from pathlib import Path

import numpy as np

from raw.people import Someone
from raw.scenes import SIZE, shoot

HIDDEN, OUTSIDE = 3, 5  # rows: head top hidden (LSP) or unlabelled (LSPET); person partly outside the image
ASTRAY = 7  # row of LSPET: head top unlabelled and left of the image
HEADTOP = 13
ODD = 2 * np.arange(30) + 1  # scenes with one person


def write_lsp(root: Path, folder: str = "", seed: int = 0, people: int = 28) -> list[Someone]:
    """Half of the people are for training. joints.mat (3, 14, N), third row 1 if hidden; pixels count from 1."""
    everybody, joints = _people(root / folder / "images", "im{:04d}.jpg", people, seed)
    joints[HIDDEN, HEADTOP, 2] = 0
    joints[:, :, 2] = 1 - joints[:, :, 2]
    _save(root / folder / "joints.mat", joints.transpose(2, 1, 0))
    return everybody


def write_lspet(root: Path, name: str = "im{:05d}.png", seed: int = 0) -> list[Someone]:
    """joints.mat (14, 3, N), third column 1 if labelled; other points at (0, 0) or left of the image."""
    everybody, joints = _people(root, name, 14, seed)
    joints[HIDDEN, HEADTOP] = 0
    joints[ASTRAY, HEADTOP] = -101.8, 20, 0
    _save(root / "joints.mat", joints.transpose(1, 2, 0))
    return everybody


def _people(folder: Path, name: str, count: int, seed: int) -> tuple[list[Someone], np.ndarray]:
    everybody = [shoot(folder / name.format(row + 1), seed + int(ODD[row]))[0] for row in range(count)]
    joints = np.array([np.c_[person.points2d("lsp").round(2) + 1, np.ones(14)] for person in everybody])
    joints[OUTSIDE, HEADTOP, 0] = SIZE[0] + 3
    return everybody, joints


def _save(path: Path, joints: np.ndarray) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(str(path), {"joints": joints})


TREES = {"lsp": write_lsp, "lspet": write_lspet}
