"""SMPL-X, used only to compute SMPL's joints for datasets with SMPL-X labels; not for prediction or training.

Pavlakos et al.: Expressive Body Capture, CVPR 2019. https://smpl-x.is.tue.mpg.de
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from smplx.lbs import lbs
from torch import Tensor

from hmrb.body.official import NUM_BETAS, BodyError, check_members, find_body, read_members
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import read_pickle
from hmrb.store import Store

# Body: root to wrists; face: jaw and eyes; fingers: of one hand.
NUM_JOINTS, NUM_BODY, NUM_FACE, NUM_FINGERS = 55, 22, 3, 15
SIZES = {  # V vertices; S shape directions, whose number depends on the version
    "v_template": ("V", 3), "shapedirs": ("V", 3, "S"), "posedirs": ("V", 3, 9 * (NUM_JOINTS - 1)),
    "J_regressor": (NUM_JOINTS, "V"), "weights": ("V", NUM_JOINTS), "kintree_table": (2, NUM_JOINTS),
    "hands_meanl": (3 * NUM_FINGERS,), "hands_meanr": (3 * NUM_FINGERS,),
}  # fmt: skip


class SMPLX:
    """The body of one gender, read from the official SMPLX_<GENDER>.npz. Raises RequestError."""

    def __init__(self, path: Path) -> None:
        arrays = _members(path)
        self.template, self.joint_regressor, self.weights = (
            _floats(arrays[key]) for key in ("v_template", "J_regressor", "weights")
        )
        self.shapedirs = _floats(arrays["shapedirs"][..., :NUM_BETAS])
        self.posedirs = _floats(arrays["posedirs"]).flatten(0, 1).T.contiguous()
        self.hands = _floats(np.concatenate([arrays["hands_meanl"], arrays["hands_meanr"]]))
        parents = arrays["kintree_table"][0].astype(np.int64)
        parents[0] = -1  # official files store 2^32 - 1
        self.parents = torch.from_numpy(parents)

    @torch.no_grad()
    def vertices(self, pose: Float[np.ndarray, "B 66"], betas: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B V 3"]:
        """Vertices in metres, without translation. `pose`: axis-angle, root to wrists; hands have their mean pose."""
        face, hands = torch.zeros(len(pose), 3 * NUM_FACE), self.hands.expand(len(pose), -1)
        whole = torch.cat([torch.from_numpy(pose).float(), face, hands], 1)
        vertices, _ = lbs(
            torch.from_numpy(betas).float(), whole, self.template, self.shapedirs, self.posedirs,
            self.joint_regressor, self.parents, self.weights,
        )  # fmt: skip
        return np.asarray(vertices.numpy())


@cache
def load_smplx(path: Path) -> SMPLX:
    """Load a SMPL-X body; cached per process."""
    return SMPLX(path)


def smpl_joint_rows(path: Path, store: Store) -> Float[np.ndarray, "R V"]:
    """Matrix that regresses SMPL's joints from SMPL-X's vertices.

    The product of J_regressor of the store's neutral SMPL and the vertex mapping in BEDLAM's smplx2smpl.pkl (`path`).
    Raises RequestError.
    """
    table = read_pickle(path)
    matrix = table.get("matrix") if isinstance(table, dict) else None
    if not isinstance(matrix, np.ndarray):
        raise BodyError(f"{path}: has no array named matrix; download it again")
    body = find_body(store.bodies / "smpl", "neutral")
    members = read_members(body)
    check_members(body, members)
    regressor = np.asarray(members["J_regressor"], np.float32)
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or len(matrix) != regressor.shape[1]:
        raise BodyError(f"{path}: its matrix has shape {matrix.shape}, but {body} has {regressor.shape[1]} vertices")
    used = np.flatnonzero(regressor.any(0))
    return regressor[:, used] @ matrix[used].astype(np.float32)


def _members(path: Path) -> dict[str, np.ndarray]:
    with Npz(path) as file:
        arrays = {key: np.asarray(file.read(key)) for key in SIZES}
    lengths = {"V": len(arrays["v_template"]), "S": max(arrays["shapedirs"].shape[-1], NUM_BETAS)}
    for key, size in SIZES.items():
        expected = tuple(lengths[n] if isinstance(n, str) else n for n in size)
        if arrays[key].shape != expected or arrays[key].dtype.kind not in "fiu":
            raise BodyError(f"{path}: {key} has shape {arrays[key].shape}, expected {expected} for SMPL-X")
    return arrays


def _floats(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
