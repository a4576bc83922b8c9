"""A made-up SMPL-X in the layout of the official file, and a store that has it and a made-up SMPL."""

import os
import pickle
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from conftest import body_arrays
from raw.rich import PARENTS

from hmrb.store import Store

NUM_VERTICES, NUM_JOINTS, NUM_SHAPES = 10_000, 55, 400  # enough vertices for the landmarks
NUM_SMPL, SHARES = 6800, (0.5, 0.25, 0.25)


@cache
def smplx_members() -> dict[str, np.ndarray]:
    """The arrays of SMPLX_NEUTRAL.npz that readers use. Few entries are not 0, so that the file is small."""
    rng = np.random.default_rng(3)

    def rows(count: int, width: int, entries: int) -> np.ndarray:
        values = np.zeros((count, width), np.float32)
        for row in values:
            row[rng.integers(0, width, entries)] = rng.random(entries)
        return values / values.sum(1, keepdims=True)

    shapes, poses = np.zeros((NUM_VERTICES, 3, NUM_SHAPES), np.float32), np.zeros((NUM_VERTICES, 3, 486), np.float32)
    shapes[::7, :, :12] = rng.normal(0, 0.02, shapes[::7, :, :12].shape)
    poses[::97] = rng.normal(0, 0.003, poses[::97].shape)
    return {
        "v_template": rng.normal(0, 0.4, (NUM_VERTICES, 3)).astype(np.float32),
        "shapedirs": shapes,
        "posedirs": poses,
        "J_regressor": rows(NUM_JOINTS, NUM_VERTICES, 40),
        "weights": rows(NUM_VERTICES, NUM_JOINTS, 3),
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(NUM_JOINTS)]),
        "f": rng.integers(0, NUM_VERTICES, (200, 3)).astype(np.uint32),
        "hands_meanl": rng.normal(0, 0.2, 45), "hands_meanr": rng.normal(0, 0.2, 45),
        "hands_componentsl": np.eye(45), "hands_componentsr": np.eye(45),
        "lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3),
    }  # fmt: skip


@cache
def smpl_members() -> dict[str, np.ndarray]:
    """SMPL with enough vertices for its landmarks."""
    made = body_arrays(NUM_SMPL)
    made["f"] %= NUM_SMPL
    return made


@cache
def places() -> np.ndarray:
    """The three vertices of SMPL-X that each vertex of SMPL is a mean of, by SHARES."""
    return np.sort(np.random.default_rng(4).integers(0, NUM_VERTICES, (NUM_SMPL, 3)), axis=1)


def matrix() -> np.ndarray:
    """The matrix of smplx2smpl.pkl, with half precision to keep its file small."""
    made = np.zeros((NUM_SMPL, NUM_VERTICES), np.float16)
    for column, share in zip(places().T, SHARES, strict=True):
        np.add.at(made, (np.arange(NUM_SMPL), column), share)
    return made


def own_store(store: Store, root: Path) -> Store:
    """A store at `root` with the same bodies, whose files may be replaced or removed, but not written to."""
    shutil.copytree(store.bodies, root / "bodies", copy_function=os.link)
    return Store(root)


def write_smplx(store: Store, *genders: str, **changes: Any) -> Store:
    """Puts SMPL-X, the matrix, and SMPL of these genders with its regressors into a store."""
    folder, beside = store.bodies / "smplx", store.bodies / "smpl"
    for path in (folder, beside):
        path.mkdir(parents=True, exist_ok=True)
    members = smplx_members() | changes
    np.savez_compressed(folder / "SMPLX_NEUTRAL.npz", **{k: v for k, v in members.items() if v is not None})
    (folder / "smplx2smpl.pkl").write_bytes(pickle.dumps({"matrix": matrix()}))
    smpl = dict(smpl_members())
    for key in ("J_regressor_h36m", "J_regressor_extra"):
        np.save(beside / f"{key}.npy", smpl.pop(key))
    del smpl["vertex_ids"], smpl["SMPL_to_J19"]
    for gender in genders:
        np.savez(beside / f"SMPL_{gender.upper()}.npz", **smpl)  # type: ignore[arg-type]
    return store
