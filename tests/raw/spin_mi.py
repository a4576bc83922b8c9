"""SPIN's file of keypoints and its fits, with MPI-INF-3DHP's images."""

from pathlib import Path

import numpy as np

from raw import mpi_inf_3dhp
from raw.people import Someone

UNFITTED = 5  # every fifth person has no good fit


def write(root: Path, seed: int = 0, *, fits: str = "mview", layout: str = "study") -> list[Someone]:
    """All people of one camera, in file order; `fits`: mview, final or inside."""
    people = mpi_inf_3dhp.write(root, "S1/Seq1", seed, layout=layout)
    people += mpi_inf_3dhp.write(root, "S3/Seq2", seed + 50, layout=layout)
    count = len(people)
    half = count // 2
    names = [f"S1/Seq1/imageFrames/video_2/frame_{n:06d}.jpg" for n in range(half, 0, -1)]
    names += [f"S3/Seq2/imageFrames/video_0/frame_{n:06d}.jpg" for n in range(1, half + 1)]
    rows = [*range(half - 1, -1, -1), *range(half, count)]
    people = [people[row] for row in rows]
    boxes = np.stack([person.box(1.0) for person in people])
    three = np.stack([p.points3d("smpl_24") - p.points3d("smpl_24")[14] for p in people])
    two = np.stack([p.points2d("smpl_24") for p in people])
    points = {
        "imgname": np.array(names), "center": boxes[:, :2] + boxes[:, 2:] / 2,
        "scale": 1.2 * boxes[:, 2:].max(1) / 200, "part": _seen(two), "S": _seen(three),
        "openpose": _seen(np.stack([p.points2d("openpose_25") for p in people])),
    }  # fmt: skip
    good = np.arange(count) % UNFITTED != 0
    pose = np.stack([person.pose.ravel() for person in people])
    betas = np.stack([person.betas for person in people])
    if fits == "mview":
        np.savez(root / "mpi-inf-3dhp_mview_fits.npz", pose=pose, shape=betas, has_smpl=good)
    elif fits == "final":
        np.savez(root / "mpi_inf_3dhp.npz", pose=pose, betas=betas, valid_fit=good.astype(np.uint8))
    else:
        points |= {"pose": pose, "shape": betas, "has_smpl": good.astype(np.float64)}
    np.savez(root / "mpi_inf_3dhp_train.npz", **points)
    return people


def _seen(points: np.ndarray) -> np.ndarray:
    """Points of confidence 1, every fourth of confidence 0; points that the body lacks are zeros."""
    confidence = np.ones((*points.shape[:-1], 1))
    confidence[:, 3::4] = 0
    confidence[np.isnan(points).any(-1)] = 0
    return np.concatenate([np.nan_to_num(points), confidence], -1)


def write_all(root: Path) -> None:
    """SPIN's multi-view fits."""
    root.mkdir(parents=True, exist_ok=True)
    write(root)


TREES = {"spin_mi": write_all}
