"""Predictions from a file in place of a model: an hmrb result's, or any system's poses and shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.geometry import nearest_rotation, rotvec_to_rotmat
from hmrb.npz import Npz
from hmrb.pickles import read_pickle
from hmrb.records import Batch, Prediction

POSES = ("rotmats", "pose", "poses", "pred_pose", "pred_rotmat")
SHAPES = ("betas", "shape", "pred_betas", "pred_shape")
NAMES = ("name", "imgname", "image_path")
ASKED = (
    f"a pose ({', '.join(POSES)}: N 24 3 3, N 72 or N 24 3, the root in the camera's frame; or global_orient with"
    f" body_pose), a shape ({', '.join(SHAPES)}: N 10), and {' or '.join(NAMES)} where it is not in the shard's order"
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Bodies by the rows of a shard."""

    rotmats: Float[Tensor, "N 24 3 3"]
    betas: Float[Tensor, "N 10"]
    camera: Float[Tensor, "N 3"]
    place: Int[np.ndarray, " P"]
    """Where each of the shard's people is among them; -1: not predicted."""

    def of(self, batch: Batch) -> Prediction:
        """Those of a batch's people. Raises RequestError for one that is not predicted."""
        place = self.place[batch.row.cpu().numpy()]
        if (place < 0).any():
            raise RequestError(f"row {int(batch.row[int((place < 0).argmax())])} of the shard has no prediction")
        rows = torch.from_numpy(place)
        parts = (self.rotmats[rows], self.betas[rows], self.camera[rows])
        return Prediction(*(part.to(batch.row.device) for part in parts))

    def mean(self, count: int) -> Prediction:
        """The mean of all of them, which knows no picture: what a result's baseline is here."""
        rotmats = nearest_rotation(self.rotmats.mean(0))[None].expand(count, -1, -1, -1)
        return Prediction(
            rotmats, self.betas.mean(0)[None].expand(count, -1), self.camera.mean(0)[None].expand(count, -1)
        )


def read_predictions(path: Path, shard: Shard) -> Predictions:
    """From a result's _samples.h5, an .npz or a .pkl (nothing in it is run). Raises RequestError."""
    if not path.is_file():
        raise RequestError(f"{path}: no such file of predictions")
    table = _table(path)
    rotmats, betas = _rotmats(path, table), _first(path, table, SHAPES)
    count = len(rotmats)
    camera = np.asarray(table.get("camera", np.tile([1.0, 0, 0], (count, 1))), np.float32)
    for key, array, shape in (("shape", betas, (count, 10)), ("camera", camera, (count, 3))):
        if array.shape != shape:
            raise RequestError(f"{path}: {key} has shape {array.shape}, {count} poses need {shape}")
    if not all(np.isfinite(array).all() for array in (rotmats, betas, camera)):
        raise RequestError(f"{path}: some of its numbers are not finite")
    place = _places(path, table, shard, count)
    return Predictions(torch.from_numpy(rotmats), torch.from_numpy(betas), torch.from_numpy(camera), place)


def _table(path: Path) -> Mapping[str, Any]:
    if path.suffix in (".h5", ".hdf5"):
        try:
            with h5py.File(path, "r") as file:
                return {key: file[key][:] for key in file if isinstance(file[key], h5py.Dataset)}
        except OSError:
            raise RequestError(f"{path}: no HDF5 file that can be read") from None
    if path.suffix == ".npz":
        with Npz(path) as arrays:
            return {key: arrays.read(key) for key in (*POSES, *SHAPES, *NAMES, *EXTRA) if key in arrays}
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise RequestError(f"{path}: holds no table; predictions are {ASKED}")
    return content


EXTRA = ("global_orient", "body_pose", "camera", "row")


def _first(path: Path, table: Mapping[str, Any], keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in table:
            return np.asarray(table[key], np.float32)
    raise RequestError(f"{path}: no {' and no '.join(keys)} in it; predictions are {ASKED}")


def _rotmats(path: Path, table: Mapping[str, Any]) -> Float[np.ndarray, "N 24 3 3"]:
    if "global_orient" in table and "body_pose" in table:
        root, body = (np.asarray(table[key], np.float32) for key in ("global_orient", "body_pose"))
        pose = np.concatenate([root.reshape(len(root), -1), body.reshape(len(body), -1)], 1)
    else:
        pose = _first(path, table, POSES)
    numbers = pose.reshape(len(pose), -1)
    if numbers.shape[1] == 216:
        return numbers.reshape(-1, 24, 3, 3)
    if numbers.shape[1] != 72:
        raise RequestError(f"{path}: a pose of {numbers.shape[1]} numbers; SMPL's has 72, or 216 as matrices")
    return rotvec_to_rotmat(torch.from_numpy(numbers.reshape(-1, 24, 3))).numpy()


def _places(path: Path, table: Mapping[str, Any], shard: Shard, count: int) -> Int[np.ndarray, " P"]:
    names = [bytes(name).decode() for name in shard.arrays["name"]]
    place = np.full(len(shard), -1, np.int64)
    given = next((table[key] for key in NAMES if key in table), None)
    if "row" in table:
        rows = np.asarray(table["row"], np.int64)
        theirs = [_text(name) for name in (given if given is not None else [])]
        if rows.min() < 0 or rows.max() >= len(shard) or any(names[r] != n for r, n in zip(rows, theirs, strict=False)):
            raise RequestError(f"{path}: its rows are not those of {shard.path.name}: predictions for another shard")
        place[rows] = np.arange(count)
    elif given is not None and len(set(names)) == len(names):
        where = {_text(name): number for number, name in enumerate(given)}
        place[:] = [where.get(name, -1) for name in names]
    elif count == len(shard):
        place[:] = np.arange(count)
    else:
        raise RequestError(
            f"{path}: {count} predictions for the {len(shard)} people of {shard.path.name}; give one for each in its"
            " order, or names where no picture has two people"
        )
    return place


def _text(name: Any) -> str:
    return bytes(name).decode() if isinstance(name, bytes) else str(name)
