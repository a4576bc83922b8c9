"""UP-3D: a folder of images, joints as .npy, fits as Python 2 pickles, bodies rendered over white, and lists."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from raw.people import Someone, draw, save, someone

SIZE = (200, 150)
FOCAL = 5000.0
CROP = (14, 144, 6, 136)  # y0, y1, x0, x1 in the image
FITTED = (300, 298)  # height and width of the fitted crop


def fitted(seed: int) -> Someone:
    """A distant person in a 5000 px camera centred on the crop, with pixels in the full image."""
    person = someone(seed, (FITTED[1], FITTED[0]), FOCAL, at=(0.5, 0.5), depth=48.0)
    middle = np.array([FITTED[1] / 2, FITTED[0] / 2])
    pixels = FOCAL * person.joints[:, :2] / person.joints[:, 2:] + middle
    factor = np.mean([FITTED[0] / (CROP[1] - CROP[0]), FITTED[1] / (CROP[3] - CROP[2])])
    return replace(person, pixels=pixels / factor + (CROP[2], CROP[0]), size=SIZE)


def write(folder: Path, split: str, count: int = 12, first: int = 0) -> list[Someone]:
    """One list and its people."""
    folder.mkdir(parents=True, exist_ok=True)
    people = []
    for number in range(first, first + count):
        person, base = fitted(number), folder / f"{number:05d}"
        people.append(person)
        save(Path(f"{base}_image.png"), draw([person], SIZE, number))
        joints = np.vstack([person.points2d("lsp").T, np.ones((1, 14))])
        joints[2, 0] = 0
        np.save(f"{base}_joints.npy", joints)
        fit = {
            "pose": person.pose.ravel().astype(np.float64), "betas": person.betas.astype(np.float64),
            "t": person.transl.astype(np.float64), "rt": np.zeros(3), "trans": np.zeros(3), "f": FOCAL,
        }  # fmt: skip
        Path(f"{base}_body.pkl").write_bytes(pickle.dumps(fit, protocol=2))
        low, high = person.pixels[:24].min(0).astype(int), person.pixels[:24].max(0).astype(int)
        render = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
        cv2.rectangle(render, low.tolist(), high.tolist(), (120, 255, 255), -1)
        save(Path(f"{base}_render_light.png"), render)
        Path(f"{base}_fit_crop_info.txt").write_text(" ".join(map(str, (*FITTED, *CROP))))
        Path(f"{base}_quality_info.txt").write_text("medium\n" if number % 3 == 2 else "high\n")
        Path(f"{base}_dataset_info.txt").write_text("lsp\n" if number % 2 else "mpii\n")
    (folder / f"{split}.txt").write_text("".join(f"/{n:05d}_image.png\n" for n in range(first, first + count)))
    return people


def write_all(root: Path) -> None:
    for number, split in enumerate(("train", "val", "test")):
        write(root / "up-3d", split, first=20 * number)
    both = [(root / "up-3d" / f"{split}.txt").read_text() for split in ("train", "val")]
    (root / "up-3d" / "trainval.txt").write_text("".join(both))


TREES: dict[str, Callable[[Path], None]] = {"up3d": write_all}
