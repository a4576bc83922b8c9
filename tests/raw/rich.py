"""RICH as evaluated: rich_test.npz, test/RECORDING/cam_03/00004_03.jpeg, SMPL-X bodies, the matrix to SMPL.

This SMPL-X has 24 vertices, one at each of SMPL's joints, and no pose blend shapes.
"""

import pickle
from pathlib import Path

import numpy as np
import torch

from hmrb.body import OPEN_BODY
from hmrb.geometry import rotvec_to_rotmat
from raw.people import Someone, body, draw, save, someone

SIZE = (320, 240)
# SMPL-X's tree: SMPL's first 22, jaw and eyes on the head, then five fingers of three joints on each wrist.
FINGERS = [parent for wrist, first in ((20, 25), (21, 40)) for f in range(0, 15, 3)
           for parent in (wrist, first + f, first + f + 1)]  # fmt: skip
PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15, *FINGERS]
AT = [*range(22), 15, 15, 15, *[22] * 15, *[23] * 15]  # the vertex at each joint
MOVED_BY = [*range(22), 25, 40]  # the joint that moves each vertex: hands move with the first finger
SHOTS = [
    (recording, camera, frame)
    for recording in ("Gym_010_pushup1", "LectureHall_009_021_chairs1")
    for camera in (1, 3)
    for frame in (4, 5, 6)
]


def name_of(shot: tuple[str, int, int]) -> str:
    """The image's path."""
    recording, camera, frame = shot
    return f"test/{recording}/cam_{camera:02d}/{frame:05d}_{camera:02d}.jpeg"


def cast(number: int) -> list[Someone]:
    """One person per image in the gym, two in the hall."""
    first = someone(500 + 2 * number, SIZE)
    return [first, someone(501 + 2 * number, SIZE, at=(0.7, 0.5))] if "Hall" in SHOTS[number][0] else [first]


def members() -> dict[str, np.ndarray]:
    """Write a SMPL-X body in the official layout."""
    regressor, weights = np.zeros((55, 24)), np.zeros((24, 55))
    regressor[np.arange(55), AT] = 1
    weights[np.arange(24), MOVED_BY] = 1
    shapes = np.zeros((24, 3, 20))
    shapes[..., :10] = body().joint_shapedirs
    return {
        "v_template": body().rest_joints.numpy().astype(np.float64),
        "shapedirs": shapes,
        "posedirs": np.zeros((24, 3, 486)),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(55)]),
        "hands_meanl": np.full(45, 0.1),
        "hands_meanr": np.full(45, -0.1),
    }


def matrix() -> np.ndarray:
    """A matrix to the open body's vertices from which its regressor recovers the joints."""
    with np.load(OPEN_BODY, allow_pickle=False) as arrays:
        return np.linalg.pinv(arrays["J_regressor"].astype(np.float64))


def joints(person: Someone) -> np.ndarray:
    """(24, 3) SMPL joints of the person relative to the pelvis, with rest hands on the wrists."""
    pose = torch.from_numpy(person.pose)[None]
    with torch.no_grad():
        chain = body()(rotvec_to_rotmat(pose), torch.from_numpy(person.betas)[None]).chain[0].numpy()
    return chain - chain[0]


def write(root: Path) -> None:
    """Write two recordings of three frames by two cameras, 18 people."""
    rows = [(shot, person) for number, shot in enumerate(SHOTS) for person in cast(number)]
    root.mkdir(parents=True, exist_ok=True)
    boxes = [person.box() for _, person in rows]
    np.savez(
        root / "rich_test.npz",
        imgname=np.array([name_of(shot) for shot, _ in rows]),
        center=np.array([box[:2] + box[2:] / 2 for box in boxes]),
        scale=np.array([box[2:].max() / 200 for box in boxes]),
        pose_cam=np.array([person.pose[:22].ravel() for _, person in rows]),
        shape=np.array([person.betas for _, person in rows]),
        gender=np.array(["m" if number % 2 else "f" for number in range(len(rows))]),
    )
    for number, shot in enumerate(SHOTS):
        save(root / name_of(shot), draw(cast(number), SIZE, number))
    folder = root / "body_models/smplx"
    folder.mkdir(parents=True)
    for gender in ("MALE", "FEMALE"):
        np.savez_compressed(folder / f"SMPLX_{gender}.npz", **members())
    (root / "smplx2smpl.pkl").write_bytes(pickle.dumps({"matrix": matrix()}))


TREES = {"rich": write}
