"""A stand-in for the licensed body model, and the joints of a converted person."""

from pathlib import Path

import numpy as np
import torch

from hmrb.body import OPEN_BODY
from hmrb.data.convert.boxes import rotmat, rotvec
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import GENDERS, Person
from hmrb.store import Store
from raw.people import Someone, body


def store_with_body(root: Path) -> Store:
    """A store whose SMPL models of all genders are the body that `someone` uses."""
    store = Store(root)
    folder = store.bodies / "smpl"
    folder.mkdir(parents=True, exist_ok=True)
    with np.load(OPEN_BODY, allow_pickle=False) as arrays:
        members = {key: arrays[key] for key in ("J_regressor", "weights", "kintree_table", "f")}
        members |= {"v_template": arrays["v_template_neutral"], "shapedirs": arrays["shapedirs_neutral"]}
        for key in ("J_regressor_h36m", "J_regressor_extra"):
            np.save(folder / f"{key}.npy", arrays[key])
    for gender in GENDERS:
        np.savez(folder / f"SMPL_{gender.upper()}.npz", **members)
    return store


def joints(person: Person) -> np.ndarray:
    """(24, 3) SMPL joints of a labelled body in the camera frame, absolute metres."""
    pose, betas = (torch.from_numpy(np.asarray(value, np.float32))[None] for value in (person.pose, person.betas))
    with torch.no_grad():
        chain = body()(rotvec_to_rotmat(pose), betas).chain[0].double().numpy()
    return chain + person.transl


def in_world(person: Someone, turn: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Root orientation (3,) and translation (3,) in a world frame with camera = turn x + shift."""
    root = rotvec(turn.T @ rotmat(person.pose[0]))
    return root, turn.T @ (person.rest + person.transl - shift) - person.rest
