"""CMU MoSh in three forms: HMR's pickles, a packed HumanData file and AMASS's files."""

from pathlib import Path

import numpy as np

from raw.people import Someone, someone
from raw.pickled import save_python2

FRAMES = 8
BROKEN = 3  # frame of the first pickle with a non-finite number


def cast(seed: int, count: int = FRAMES) -> list[Someone]:
    """The body of each frame."""
    return [someone(seed + frame) for frame in range(count)]


def write(root: Path, name: str = "01/01_01", seed: int = 0, key: str = "poses") -> list[Someone]:
    """One of HMR's pickles."""
    people = cast(seed)
    poses = np.stack([person.pose.ravel() for person in people]).astype(np.float64)
    if seed == 0:
        poses[BROKEN, 7] = np.nan
    table = {key: poses, "betas": people[0].betas.astype(np.float64), "trans": np.ones((FRAMES, 3))}
    save_python2(root / "neutrMosh/neutrSMPL_CMU" / f"{name}.pkl", table)
    return people


def write_packed(root: Path, file: str = "cmu_mosh.npz") -> list[Someone]:
    """A HumanData file with only bodies, or 4D-Humans' arrays."""
    people = cast(50)
    pose, betas = (np.stack([getattr(person, key) for person in people]) for key in ("pose", "betas"))
    root.mkdir(parents=True, exist_ok=True)
    if file == "cmu_mosh.npz":
        smpl = {"global_orient": pose[:, 0], "body_pose": pose[:, 1:], "betas": betas}
        np.savez_compressed(root / file, smpl=np.array(smpl, object), __data_len__=FRAMES, __key_strict__=True)
    else:
        np.savez(root / file, body_pose=pose.reshape(FRAMES, 72), betas=betas)
    return people


def write_amass(root: Path, rate: float = 40.0) -> list[Someone]:
    """SMPL-H with closed hands, at a frame rate of which every fourth frame is kept."""
    people = cast(80)
    body = np.stack([person.pose[:22].ravel() for person in people])
    folder = root / "CMU/01"
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(
        folder / "01_01_poses.npz", poses=np.concatenate([body, np.full((FRAMES, 90), 0.3)], 1).astype(np.float64),
        betas=np.append(people[0].betas, np.ones(6)), trans=np.zeros((FRAMES, 3)), gender=np.array("female"),
        mocap_framerate=np.array(rate), dmpls=np.zeros((FRAMES, 8)),
    )  # fmt: skip
    np.savez(folder / "shape.npz", betas=np.zeros(16))
    return people


def write_all(root: Path) -> None:
    """HMR's release."""
    write(root)
    write(root, "02/02_05", 20, key="new_poses")


TREES = {"cmu_mosh": write_all}
