"""MTP and PROX: OpenPose JSON, SMPL and SMPL-X fits as pickled arrays, and images; PROX's are mirrored on disk."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hmrb.data.convert.boxes import rotmat, rotvec
from raw.people import Someone, draw, save, someone

SIZE, FOCAL = (200, 150), 190.0
PARTS = ("presented", "mimicked")
RECORDINGS = ("BasementSittingBooth_00142_01", "N3Office_00034_01")
TILT = rotmat(np.array([0.3, -0.2, 0.9]))  # from the frame of MTP's fits to the camera frame
CENTRAL = 4  # index of the MTP image in which OpenPose first lists a person at the edge


def detection(person: Someone, missing: tuple[int, ...] = (), unsure: tuple[int, ...] = ()) -> dict[str, object]:
    """A person in OpenPose's format: 25 points with confidence, (0, 0, 0) if not detected."""
    points = np.column_stack([person.points2d("prox"), np.full(25, 0.83)])
    points[list(unsure), 2] = 0.1
    points[list(missing)] = 0
    return {"person_id": [-1], "pose_keypoints_2d": points.ravel().tolist(), "face_keypoints_2d": []}


def _smplx(person: Someone, root: np.ndarray, seed: int, hands: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng([seed, 5])
    return {
        "global_orient": root.reshape(1, 3).astype(np.float32),
        "body_pose": person.pose[1:22].reshape(1, 63),
        "betas": rng.normal(0, 1, (1, 10)).astype(np.float32),
        "transl": rng.normal(0, 1, (1, 3)).astype(np.float32),
        "left_hand_pose": rng.normal(0, 1, (1, hands)).astype(np.float32),
        "right_hand_pose": rng.normal(0, 1, (1, hands)).astype(np.float32),
        "jaw_pose": np.zeros((1, 3), np.float32),
        "expression": rng.normal(0, 1, (1, 10)).astype(np.float32),
    }


def _write(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(content, protocol=2))


def _write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def mtp_person(number: int) -> Someone:
    return someone(number, SIZE, FOCAL, at=(0.5, 0.5) if number == CENTRAL else None)


def write_mtp(root: Path, count: int = 12) -> dict[str, list[Someone]]:
    """Write both splits; image 5 of train is empty, image CENTRAL lists a person at the edge first."""
    lists: dict[str, list[str]] = {"train": [], "val": []}
    people: dict[str, list[Someone]] = {"train": [], "val": []}
    meta = {}
    for number in range(2 * count):
        split, part = ("train", "val")[number // count], PARTS[number % 2]
        name, person = f"{number:04d}_{part}_pose", mtp_person(number)
        lists[split].append(name)
        people[split].append(person)
        meta[name] = {"SubjectGender": ("female", "male")[number % 2], "SubjectID": number}
        there = [person]
        found = [detection(person, missing=(0, 15), unsure=(4,))]
        if number == CENTRAL:
            there.append(someone(900, SIZE, FOCAL, at=(0.15, 0.5)))
            found.insert(0, detection(there[1]))
        save(root / "images" / part / f"{name}.png", draw(there, SIZE, number))
        found = [] if number == 5 else [{"pose_keypoints_2d": [0.0] * 75}, *found]
        _write_json(root / f"keypoints/openpose/{part}/{name}.json", {"version": 1.3, "people": found})
        upright = rotvec(TILT.T @ rotmat(person.pose[0]))  # in the fits' frame
        smpl = person.pose.copy()
        smpl[0] = rng_root(number)
        _write(
            root / f"smplify-xmc/smpl/params/{part}/{name}.pkl",
            {"pose": smpl.reshape(1, 72), "betas": person.betas.reshape(1, 10), "gender": "neutral"},
        )
        camera = {
            "camera_rotation": TILT[None].astype(np.float32), "camera_translation": np.array([[0.1, 0.2, 3]]),
            "gender": "neutral", "loss": None,
        }  # fmt: skip
        fit = _smplx(person, upright, number, 45) | camera
        _write(root / f"smplify-xmc/smplx/params/{part}/{name}.pkl", fit)
    _write_json(root / "train_val_split.json", lists)
    _write_json(root / "subject_meta.json", meta)
    return people


def rng_root(number: int) -> np.ndarray:
    """The root of MTP's SMPL fit, in a separate frame."""
    return np.random.default_rng([number, 6]).normal(0, 1, 3).astype(np.float32)


def write_prox(root: Path, count: int = 12) -> list[Someone]:
    """Write two recordings. In each, frame 2 is empty, frame 3 has no keypoints and frame 4 has no fit."""
    people = []
    for place, recording in enumerate(RECORDINGS):
        for number in range(count):
            person, frame = someone(100 * place + number, SIZE, FOCAL), f"s001_frame_{number:05d}__00.00.01.033"
            people.append(person)
            save(root / f"recordings/{recording}/Color/{frame}.jpg", draw([person], SIZE, number)[:, ::-1].copy())
            found = [] if number == 2 else [detection(person, missing=(0,), unsure=(4,))]
            if number != 3:
                _write_json(root / f"keypoints/{recording}/{frame}_keypoints.json", {"people": found})
            if number != 4:
                camera = {"camera_rotation": np.eye(3, dtype=np.float32)[None], "pose_embedding": np.zeros((1, 32))}
                fit = _smplx(person, person.pose[0], 100 * place + number, 12) | camera
                _write(root / f"PROXD/{recording}/results/{frame}/000.pkl", fit)
    return people


def _mtp(root: Path) -> None:
    write_mtp(root)


def _prox(root: Path) -> None:
    write_prox(root)


TREES: dict[str, Callable[[Path], None]] = {"mtp": _mtp, "prox": _prox}
