"""Read predictions from a file instead of running a model: an hmrb result, or another system's output."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float, Int

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, SMPL_KIND, BodyKind
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.scoring import BodyOrPoints, Points
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import read_pickle
from hmrb.geometry import nearest_rotation, rotvec_to_rotmat

POSES = ("rotmats", "pose", "poses", "pred_pose", "pred_rotmat")
SHAPES = ("betas", "shape", "pred_betas", "pred_shape")
JOINTS = ("joints", "pred_joints", "joints3d", "pred_keypoints_3d")
VERTICES = ("vertices", "pred_vertices", "verts")
NAMES = ("name", "imgname", "image_path")
EXTRA = ("global_orient", "body_pose", "camera", "row")
FURTHEST_M = 100.0  # from the first joint; points further away are most likely in millimetres
ASKED = (
    f"a pose ({', '.join(POSES)}: N {SMPL_KIND.num_joints} 3 3, N {SMPL_KIND.pose_numbers} or"
    f" N {SMPL_KIND.num_joints} 3, the root in the camera's frame; or global_orient with"
    f" body_pose) and a shape ({', '.join(SHAPES)}: N {SMPL_KIND.num_betas}); or"
    f" {', '.join(JOINTS)} (N K 3) or {', '.join(VERTICES)}"
    f" (N V 3) in metres; with {' or '.join(NAMES)} if they are not in the shard's order"
)


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for the rows of a shard: bodies, or points if `parts` contains joints or vertices."""

    parts: dict[str, Float[np.ndarray, "N ..."]]
    place: Int[np.ndarray, " P"]
    """For each person of the shard, the index of its prediction; -1 if there is none."""
    label: str

    def predictor(self, blocks: Sequence[np.ndarray]) -> Iterator[BodyOrPoints]:
        """Yield the predictions of each block of rows. Raises RequestError if a person has no prediction."""
        missing = [row for rows in blocks for row in rows[self.place[rows] < 0].tolist()]
        if missing:
            raise RequestError(
                f"{self.label}: no prediction for {len(missing)} of the people to score, the first in row"
                f" {missing[0]} of the shard"
            )
        for rows in blocks:
            yield self._prediction({key: torch.from_numpy(part[self.place[rows]]) for key, part in self.parts.items()})

    def mean(self) -> BodyOrPoints:
        """The mean of all predictions, which depends on no image: the baseline of the result."""
        means = {key: torch.from_numpy(part.mean(0, keepdims=True)) for key, part in self.parts.items()}
        if "rotmats" in means:
            means["rotmats"] = nearest_rotation(means["rotmats"])
        return self._prediction(means)

    def _prediction(self, parts: dict[str, torch.Tensor]) -> BodyOrPoints:
        if "rotmats" in parts:
            return Prediction(parts["rotmats"], parts["betas"], parts["camera"])
        return Points(parts.get("joints"), parts.get("vertices"))


def read_predictions(path: Path, shard: Shard) -> Predictions:
    """Read a result's _samples.h5, an .npz or a .pkl, without executing code in it. Raises RequestError."""
    if not path.is_file():
        raise RequestError(f"{path}: predictions: no such file")
    table = _table(path)
    parts = _points(path, table) if _is_of_points(table) else _bodies(path, table, shard.kind)
    counts = {key: len(part) for key, part in parts.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise RequestError(f"{path}: contains {listed}; the numbers must be equal")
    if not all(np.isfinite(part).all() for part in parts.values()):
        raise RequestError(f"{path}: contains values that are not finite")
    return Predictions(parts, _places(path, table, shard, next(iter(counts.values()))), str(path))


def _table(path: Path) -> Mapping[str, Any]:
    if path.suffix in (".h5", ".hdf5"):
        try:
            with h5py.File(path, "r") as file:
                return {key: file[key][:] for key in file if isinstance(file[key], h5py.Dataset)}
        except OSError:
            raise RequestError(f"{path}: not a readable HDF5 file") from None
    if path.suffix == ".npz":
        known = (*POSES, *SHAPES, *JOINTS, *VERTICES, *NAMES, *EXTRA)
        with Npz(path) as arrays:
            return {key: arrays.read(key) for key in known if key in arrays}
    content = read_pickle(path)
    if not isinstance(content, dict):
        raise RequestError(f"{path}: not a dict; predictions must contain {ASKED}")
    return content


def _is_of_points(table: Mapping[str, Any]) -> bool:
    has_pose = any(key in table for key in (*POSES, "body_pose"))
    return not has_pose and any(key in table for key in (*JOINTS, *VERTICES))


def _bodies(path: Path, table: Mapping[str, Any], kind: BodyKind) -> dict[str, np.ndarray]:
    rotmats, betas = _rotmats(path, table, kind), _first(path, table, SHAPES)
    count = len(rotmats)
    camera = np.asarray(table.get("camera", np.tile([1.0, 0, 0], (count, 1))), np.float32)
    for key, array, shape in (("shape", betas, (count, kind.num_betas)), ("camera", camera, (count, CAMERA))):
        if array.shape != shape:
            raise RequestError(f"{path}: {key} has shape {array.shape}, expected {shape} for {count} poses")
    return {"rotmats": rotmats, "betas": betas, "camera": camera}


def _points(path: Path, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    parts = {}
    for key, names in (("joints", JOINTS), ("vertices", VERTICES)):
        if any(name in table for name in names):
            points = _first(path, table, names)
            if points.ndim != 3 or points.shape[2] != 3:
                raise RequestError(f"{path}: {key} have shape {points.shape}, expected (people, points, 3)")
            if np.abs(points - points[:, :1]).max(initial=0) > FURTHEST_M:
                raise RequestError(f"{path}: {key} are more than {FURTHEST_M:g} m apart; are they in millimetres?")
            parts[key] = points
    return parts


def _first(path: Path, table: Mapping[str, Any], keys: tuple[str, ...]) -> np.ndarray:
    for key in keys:
        if key in table:
            try:
                return np.asarray(table[key], np.float32)
            except (TypeError, ValueError):
                raise RequestError(f"{path}: {key} contains values that are not numbers") from None
    raise RequestError(f"{path}: found none of {', '.join(keys)}; predictions must contain {ASKED}")


def _rotmats(path: Path, table: Mapping[str, Any], kind: BodyKind) -> Float[np.ndarray, "N R 3 3"]:
    if "global_orient" in table and "body_pose" in table:
        root, body = (_first(path, table, (key,)) for key in ("global_orient", "body_pose"))
        if len(root) != len(body):
            raise RequestError(
                f"{path}: contains {len(root)} global_orient and {len(body)} body_pose; the numbers must be equal"
            )
        pose = np.concatenate([root.reshape(len(root), -1), body.reshape(len(body), -1)], 1)
    else:
        pose = _first(path, table, POSES)
    numbers = pose.reshape(len(pose), -1)
    if numbers.shape[1] == kind.rotmat_numbers:
        return numbers.reshape(-1, kind.num_joints, 3, 3)
    if numbers.shape[1] != kind.pose_numbers:
        raise RequestError(
            f"{path}: poses have {numbers.shape[1]} values, expected {kind.pose_numbers} for {kind.name}, or"
            f" {kind.rotmat_numbers} as rotation matrices"
        )
    return rotvec_to_rotmat(torch.from_numpy(numbers.reshape(-1, kind.num_joints, 3))).numpy()


def _places(path: Path, table: Mapping[str, Any], shard: Shard, count: int) -> Int[np.ndarray, " P"]:
    names = [bytes(name).decode() for name in shard.arrays["name"]]
    place = np.full(len(shard), -1, np.int64)
    given = next(([_text(name) for name in table[key]] for key in NAMES if key in table), None)
    if given is not None and len(given) != count:
        raise RequestError(f"{path}: {len(given)} names for {count} predictions")
    if "row" in table:
        rows = np.asarray(table["row"], np.int64)
        theirs = given if given is not None else [names[row] for row in rows if 0 <= row < len(names)]
        fits = len(rows) == count and rows.min() >= 0 and rows.max() < len(shard)
        if not fits or any(names[row] != name for row, name in zip(rows, theirs, strict=True)):
            raise RequestError(
                f"{path}: its rows do not match {shard.path.name}; the predictions are for another shard"
            )
        _refuse_doubles(path, rows.tolist())
        place[rows] = np.arange(count)
    elif given is not None and len(set(names)) == len(names):
        _refuse_doubles(path, given)
        where = {name: number for number, name in enumerate(given)}
        place[:] = [where.get(name, -1) for name in names]
    elif count == len(shard):
        place[:] = np.arange(count)
    else:
        raise RequestError(
            f"{path}: {count} predictions for the {len(shard)} people of {shard.path.name}; provide one per person in"
            " its order, or names if every image has only one person"
        )
    return place


def _refuse_doubles(path: Path, given: Sequence[object]) -> None:
    double = next((one for one, count in Counter(given).items() if count > 1), None)
    if double is not None:
        raise RequestError(f"{path}: more than one prediction for '{double}'; provide one per person")


def _text(name: Any) -> str:
    return bytes(name).decode() if isinstance(name, bytes) else str(name)
