"""SMPL-X: its files, its body with hands and face at rest, and its way to SMPL.

Pavlakos et al.: Expressive Body Capture, CVPR 2019. https://smpl-x.is.tue.mpg.de
"""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from smplx.lbs import lbs
from torch import Tensor

from hmrb.body.official import (
    BODY_BYTES,
    NUM_BETAS,
    NUM_SPIN19,
    REGRESSORS,
    BodyError,
    Members,
    check_members,
    find_body,
    read_members,
    read_regressor,
    rows_to_one,
)
from hmrb.bodykind import SMPLX_KIND
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import PickleError, read_pickle
from hmrb.needs import BEDLAM_PAGE, SMPLX_PAGE, SPIN19, TO_SMPL, smplx_name, smplx_need, to_smpl_need
from hmrb.store import Store

# Body: root to wrists; face: jaw and eyes; fingers: of one hand.
NUM_JOINTS, NUM_BODY, NUM_FACE, NUM_FINGERS = 55, SMPLX_KIND.num_joints, 3, 15
SHAPE_SPACE = 300  # shape directions of the present files, before those of expression; older ones have 10 and 10
# Vertices of SMPL-X's mesh for the landmarks of smplx52, as in smplx.vertex_ids.
LANDMARKS = (
    9120, 9929, 9448, 616, 6, 5770, 5780, 8846, 8463, 8474, 8635,
    5361, 4933, 5058, 5169, 5286, 8079, 7669, 7794, 7905, 8022,
)  # fmt: skip
SIZES = {  # V vertices; S shape directions, whose number depends on the version
    "v_template": ("V", 3), "shapedirs": ("V", 3, "S"), "posedirs": ("V", 3, 9 * (NUM_JOINTS - 1)),
    "J_regressor": (NUM_JOINTS, "V"), "weights": ("V", NUM_JOINTS), "kintree_table": (2, NUM_JOINTS),
}  # fmt: skip
HANDS = {"hands_meanl": (3 * NUM_FINGERS,), "hands_meanr": (3 * NUM_FINGERS,)}
FACES = {"f": ("F", 3)}


class SMPLX:
    """The body of one gender, read from the official SMPLX_<GENDER>.npz. Raises RequestError."""

    def __init__(self, path: Path) -> None:
        arrays = _members(path, SIZES | HANDS)
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


class ToSMPL:
    """SMPL-X's vertices to SMPL's: each is a weighted sum of a few.

    As BEDLAM evaluates SMPL-X on benchmarks of SMPL (train/core/hmr_trainer.py).
    """

    def __init__(self, matrix: Float[np.ndarray, "W V"]) -> None:
        rows, columns = np.nonzero(matrix)
        counts = np.bincount(rows, minlength=len(matrix))
        place = np.arange(len(rows)) - (np.cumsum(counts) - counts)[rows]
        shape = (len(matrix), int(counts.max()))
        self.columns, self.factors = torch.zeros(shape, dtype=torch.long), torch.zeros(shape)
        self.columns[rows, place] = torch.from_numpy(columns)
        self.factors[rows, place] = _floats(matrix[rows, columns])
        self.num_vertices = matrix.shape[1]

    def __call__(self, vertices: Float[Tensor, "B V 3"]) -> Float[Tensor, "B W 3"]:
        """SMPL's vertices, in the unit and frame of SMPL-X's."""
        columns, factors = self.columns.to(vertices.device), self.factors.to(vertices)
        mapped = vertices.new_zeros(len(vertices), len(columns), 3)
        for column, factor in zip(columns.unbind(1), factors.unbind(1), strict=True):
            mapped = mapped + vertices[:, column] * factor[:, None]
        return mapped

    def through(self, rows: Float[np.ndarray, "J W"]) -> Float[np.ndarray, "J V"]:
        """Rows for SMPL's vertices as rows for SMPL-X's; the same bits on every machine, since a hash is of them."""
        out = np.zeros((self.num_vertices, len(rows)))
        for column, factor in zip(self.columns.numpy().T, self.factors.numpy().T, strict=True):
            np.add.at(out, column, rows.T.astype(np.float64) * factor[:, None])
        return np.ascontiguousarray(out.T, np.float32)


@cache
def load_to_smpl(store: Store) -> ToSMPL:
    """The store's way from SMPL-X to SMPL; cached per process. Raises BodyError."""
    path = store.bodies / "smplx" / TO_SMPL
    if not path.exists():
        message = f"{path}: no such file; get it from BEDLAM's data (utils/), {BEDLAM_PAGE}, and put it there"
        raise BodyError(message, [to_smpl_need(path.parent)])
    return ToSMPL(_matrix(path))


def resting_members(gender: str, store: Store) -> tuple[Path, Members]:
    """The store's SMPL-X of one gender as a body of 22 joints, under official names, with the regressors of SMPL.

    Exact while hands, jaw and eyes have no rotation of their own: they then move as the joint above them does, which
    takes their weights, and their blend shapes are 0. Rows of SMPL's regressors act on SMPL's vertices, as combinations
    of SMPL-X's. Raises BodyError.
    """
    path = store.bodies / "smplx" / smplx_name(gender)
    if not path.exists():
        message = f"{path}: no such file; get SMPL-X (v1.1, NPZ) from {SMPLX_PAGE} and put it there"
        raise BodyError(message, [smplx_need(gender, path.parent)])
    try:
        arrays = _members(path, SIZES | FACES)
    except PickleError as error:
        raise BodyError(str(error)) from None
    arrays = _folded(path, arrays)
    to_smpl, folder = load_to_smpl(store), store.bodies / "smpl"
    num_smpl = len(to_smpl.columns)
    if to_smpl.num_vertices != len(arrays["v_template"]):
        raise BodyError(
            f"{path.parent / TO_SMPL}: its matrix has {to_smpl.num_vertices} columns, but {path.name} has"
            f" {len(arrays['v_template'])} vertices"
        )
    rows: Members = {}
    for name, count in (REGRESSORS | {SPIN19: NUM_SPIN19}).items():
        if name != SPIN19 or (folder / name).exists():
            read = rows[Path(name).stem] = read_regressor(folder / name)
            if read.shape != (count, num_smpl):
                raise BodyError(
                    f"{folder / name}: has shape {read.shape}, expected {(count, num_smpl)}, as"
                    f" {path.parent / TO_SMPL} has {num_smpl} rows"
                )
    if (joints := _smpl_joints(store, num_smpl)) is not None:
        rows["mesh24"] = joints
    return path, arrays | {key: to_smpl.through(some) for key, some in rows.items()}


def _folded(path: Path, arrays: Members) -> Members:
    """The arrays with the joints behind the body's folded into it; checked. Raises BodyError."""
    for key, array in arrays.items():
        if not np.isfinite(array).all():
            raise BodyError(f"{path}: {key} contains values that are not finite numbers")
    directions, num_betas = arrays["shapedirs"].shape[2], SMPLX_KIND.num_betas
    if directions < SHAPE_SPACE:
        raise BodyError(
            f"{path}: shapedirs has {directions} directions, and such a file has 10 of shape; body smplx needs"
            f" {num_betas}: get SMPL-X v1.1 from {SMPLX_PAGE}"
        )
    parents = arrays["kintree_table"][0].astype(np.int64)
    body, rest = parents[1:NUM_BODY], parents[NUM_BODY:]
    if tuple(body) != SMPLX_KIND.parents[1:] or (rest < 0).any() or (rest >= np.arange(NUM_BODY, NUM_JOINTS)).any():
        raise BodyError(f"{path}: kintree_table is not the tree of SMPL-X; download it again")
    above = np.arange(NUM_JOINTS)
    for joint in range(NUM_BODY, NUM_JOINTS):
        above[joint] = above[parents[joint]]
    num_vertices = len(arrays["v_template"])
    for key, least, most in (
        ("f", int(arrays["f"].min(initial=0)), int(arrays["f"].max(initial=0))),
        ("the mesh", 0, max(LANDMARKS)),
    ):
        if least < 0 or most >= num_vertices:
            raise BodyError(f"{path}: {key} needs vertex {most}, but there are {num_vertices}; this is no SMPL-X")
    weights = np.zeros((NUM_BODY, num_vertices), np.float32)
    np.add.at(weights, above, rows_to_one(arrays["weights"], f"{path}: weights").T)
    return arrays | {
        "shapedirs": arrays["shapedirs"][..., :num_betas],
        "posedirs": arrays["posedirs"][..., : SMPLX_KIND.bend_numbers],
        "J_regressor": rows_to_one(arrays["J_regressor"], f"{path}: J_regressor")[:NUM_BODY],
        "weights": weights.T,
        "kintree_table": np.array([SMPLX_KIND.parents, range(NUM_BODY)]),
        "vertex_ids": np.array(LANDMARKS),
    }


def smpl_joint_rows(path: Path, store: Store) -> Float[np.ndarray, "R V"]:
    """Matrix that regresses SMPL's joints from SMPL-X's vertices.

    The product of J_regressor of the store's neutral SMPL and the vertex mapping in BEDLAM's smplx2smpl.pkl (`path`).
    Raises RequestError.
    """
    matrix = _matrix(path)
    body = find_body(store.bodies / "smpl", "neutral")
    regressor = _joint_regressor(body)
    if len(matrix) != regressor.shape[1]:
        raise BodyError(f"{path}: its matrix has shape {matrix.shape}, but {body} has {regressor.shape[1]} vertices")
    used = np.flatnonzero(regressor.any(0))
    return regressor[:, used] @ matrix[used].astype(np.float32)


def _joint_regressor(body: Path) -> Float[np.ndarray, "R V"]:
    members = read_members(body)
    check_members(body, members)
    return np.asarray(members["J_regressor"], np.float32)


def _smpl_joints(store: Store, num_vertices: int) -> Float[np.ndarray, "R V"] | None:
    """J_regressor of the store's neutral SMPL, if it is there."""
    try:
        body = find_body(store.bodies / "smpl", "neutral")
    except BodyError:
        return None
    regressor = _joint_regressor(body)
    return regressor if regressor.shape[1] == num_vertices else None


def _matrix(path: Path) -> Float[np.ndarray, "W V"]:
    """The array of BEDLAM's smplx2smpl.pkl. Raises BodyError."""
    try:
        table = read_pickle(path)
    except PickleError as error:
        raise BodyError(str(error)) from None
    matrix = table.get("matrix") if isinstance(table, dict) else None
    if not isinstance(matrix, np.ndarray):
        raise BodyError(f"{path}: has no array named matrix; download it again")
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or not matrix.size or not np.isfinite(matrix).all():
        raise BodyError(f"{path}: its matrix has shape {matrix.shape}, not one row of numbers per vertex of SMPL")
    return matrix


def _members(path: Path, sizes: dict[str, tuple[int | str, ...]]) -> Members:
    with Npz(path, most=BODY_BYTES) as file:
        arrays = {key: np.asarray(file.read(key)) for key in sizes}
    lengths = {"V": len(arrays["v_template"]), "S": max(arrays["shapedirs"].shape[-1], NUM_BETAS)}
    lengths["F"] = len(arrays["f"]) if "f" in sizes else 0
    for key, size in sizes.items():
        expected = tuple(lengths[n] if isinstance(n, str) else n for n in size)
        if arrays[key].shape != expected or arrays[key].dtype.kind not in "fiu":
            raise BodyError(f"{path}: {key} has shape {arrays[key].shape}, expected {expected} for SMPL-X")
    return arrays


def _floats(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
