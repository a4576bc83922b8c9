"""SURREAL: MATLAB files of labels in the world frame, and mirrored videos."""

from pathlib import Path

import numpy as np
import scipy.io

from hmrb.data.convert.boxes import rotmat, rotvec
from raw.h36m import save_video
from raw.people import Someone, draw, save, someone

SIZE = (320, 240)
FRAMES = 5
OUT = 3  # frame with the person outside the image
CAM_LOC = np.array([6.5, -1.0, 0.4])
# The released camera: x = -Z + z0, y = Y - y0, z = -X + x0, which is a reflection.
MIRROR_CAMERA = np.array([[0.0, 0, -1], [0, 1, 0], [-1, 0, 0]])
MIRROR_SHIFT = np.array([CAM_LOC[2], -CAM_LOC[1], CAM_LOC[0]])
LEFT = np.diag([-1.0, 1.0, 1.0])


def cast(seed: int, frames: int = FRAMES) -> list[Someone]:
    """The people in the images after they are mirrored back."""
    places = [(3.0, 0.5) if frame == OUT else (0.35, 0.5) for frame in range(frames)]
    return [someone(seed + frame, SIZE, 600.0, at=places[frame], depth=7.0) for frame in range(frames)]


def write(
    root: Path, split: str = "train", clip: str = "01_01_c0001", seed: int = 0, *,
    frames: int = FRAMES, extracted: int | None = None,
) -> list[Someone]:  # fmt: skip
    """Write a clip as images numbered from `extracted`, or as a video; returns its people."""
    people = cast(seed, frames)
    folder = root / split / "run0" / clip.rsplit("_", 1)[0]
    folder.mkdir(parents=True, exist_ok=True)
    zrot = np.array([0.5 - 0.4 * frame for frame in range(frames)])
    world = [(person.joints[:24] @ LEFT - MIRROR_SHIFT) @ MIRROR_CAMERA for person in people]
    pixels = [np.round(600 * (p.joints[:24] @ LEFT)[:, :2] / p.joints[:24, 2:] + (160, 120)) for p in people]
    poses = [_world_pose(person, angle) for person, angle in zip(people, zrot, strict=True)]
    table = {
        "joints2D": np.stack(pixels, -1).transpose(1, 0, 2).astype(np.float32),
        "joints3D": np.stack(world, -1).transpose(1, 0, 2).astype(np.float32),
        "pose": np.stack(poses, -1).astype(np.float32),
        "shape": np.stack([person.betas for person in people], -1),
        "gender": np.array([[frame % 2] for frame in range(frames)], np.uint8),
        "zrot": zrot[:, None].astype(np.float32), "camLoc": CAM_LOC[:, None].astype(np.float32),
        "camDist": 7.0, "clipNo": 1.0, "stride": np.uint8(50), "sequence": clip, "source": "cmu",
    }  # fmt: skip
    if frames == 1:  # MATLAB drops a last axis of 1
        table |= {key: table[key][..., 0] for key in ("joints2D", "joints3D")}
    scipy.io.savemat(folder / f"{clip}_info.mat", table)
    pictures = [np.ascontiguousarray(draw([p], SIZE, seed + frame)[:, ::-1]) for frame, p in enumerate(people)]
    if extracted is None:
        save_video(folder / f"{clip}.mp4", pictures)
    else:
        for number, picture in enumerate(pictures, extracted):
            save(folder / f"images_{clip}" / f"frame_{number:06d}.jpg", picture)
    return people


def _world_pose(person: Someone, zrot: float) -> np.ndarray:
    """(72,) with the raw root: before rotation about z, about x, and to the camera of the mirrored image."""
    there = LEFT @ MIRROR_CAMERA @ rotmat(np.array([np.pi / 2, 0, 0])) @ rotmat(np.array([0, 0, zrot]))
    return np.concatenate([rotvec(there.T @ rotmat(person.pose[0])), person.pose[1:].ravel()])


def write_all(root: Path) -> None:
    """Write clips of all splits, one with a single frame and one of a malformed subject."""
    for number, split in enumerate(("train", "val", "test")):
        for clip in range(3):
            write(root, split, f"02_0{clip}_c000{clip}", 1000 * number + 10 * clip)
        write(root, split, "05_01_c0001", 1000 * number + 50, frames=1)
    write(root, "train", "18_01_c0001", 3000)


TREES = {"surreal": write_all}
