"""Read predictions from a file instead of running a model: an hmrb result, or another system's output."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, SMPL_KIND, BodyKind
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.matching import places
from hmrb.evaluation.plausible import check_angles, check_betas, check_metres, check_rotations
from hmrb.evaluation.prediction_files import (
    CAMERAS,
    JOINTS,
    NAMES,
    POSES,
    SHAPES,
    VERTICES,
    first_fitting,
    numbers,
    read_table,
)
from hmrb.evaluation.protocols import Benchmark
from hmrb.evaluation.scoring import IMAGE_PX, Bodies, BodyOrPoints, Points, Scorer, possible
from hmrb.geometry import nearest_rotation, rotvec_to_rotmat

ASKED = (
    f"a pose ({', '.join(POSES)}: N {SMPL_KIND.num_joints} 3 3, N {SMPL_KIND.pose_numbers} or"
    f" N {SMPL_KIND.num_joints} 3, the root in the camera's frame; or global_orient with"
    f" body_pose) and a shape ({', '.join(SHAPES)}: N {SMPL_KIND.num_betas}); or"
    f" {', '.join(JOINTS)} (N K 3) or {', '.join(VERTICES)}"
    f" (N V 3) in metres; with {' or '.join(NAMES)} if they are not in the shard's order"
)
NO_CAMERA = (1.0, 0.0, 0.0)  # where no metric looks at it


@dataclass(frozen=True, slots=True)
class Predictions:
    """Predictions for the rows of a shard: bodies, or points if `parts` contains joints or vertices."""

    parts: dict[str, Float[np.ndarray, "N ..."]]
    place: Int[np.ndarray, " P"]
    """For each person of the shard, the index of its prediction; -1 if there is none."""
    label: str
    has_camera: bool = True

    def check_covers(self, rows: Int[np.ndarray, " N"]) -> None:
        """Raises RequestError if one of these people of the shard has no prediction."""
        missing = rows[self.place[rows] < 0].tolist()
        if missing:
            raise RequestError(
                f"{self.label}: no prediction for {len(missing)} of the people to score, the first in row"
                f" {missing[0]} of the shard"
            )

    def check_fits(self, benchmark: Benchmark, shard: Shard, bodies: Bodies) -> None:
        """Raises RequestError if the benchmark needs more than the predictions contain, or points of another body."""
        mean = self.mean()
        if benchmark.truth != "marked":
            if isinstance(mean, Points):
                Scorer(possible(benchmark, mean.has)[0], shard, bodies, mean, torch.device("cpu"), IMAGE_PX)
            return
        if self.are_points or not self.has_camera:
            what = "points without one" if self.are_points else "bodies without one"
            raise RequestError(
                f"{benchmark.name} projects bodies with their camera, but these predictions are {what}; add"
                f" {' or '.join(CAMERAS[:3])}: N {CAMERA}, the scale and shift (s, x, y) of the weak-perspective camera"
                " of the crop"
            )
        if np.median(self.parts["camera"][:, 0]) <= 0:
            raise RequestError(
                f"{self.label}: most scales of the camera are not positive; a camera is (s, x, y) of the crop, not a"
                " translation"
            )

    def predictor(self, blocks: Sequence[np.ndarray]) -> Iterator[BodyOrPoints]:
        """Yield the predictions of each block of rows. Raises RequestError if a person has no prediction."""
        if blocks:
            self.check_covers(np.concatenate(blocks))
        for rows in blocks:
            yield self._prediction({key: torch.from_numpy(part[self.place[rows]]) for key, part in self.parts.items()})

    def mean(self) -> BodyOrPoints:
        """The mean of all predictions, which depends on no image: the baseline of the result."""
        means = {key: torch.from_numpy(part.mean(0, keepdims=True)) for key, part in self.parts.items()}
        if "rotmats" in means:
            means["rotmats"] = nearest_rotation(means["rotmats"])
        return self._prediction(means)

    @property
    def are_points(self) -> bool:
        """Whether they are joints or vertices instead of bodies."""
        return "rotmats" not in self.parts

    def _prediction(self, parts: dict[str, torch.Tensor]) -> BodyOrPoints:
        if "rotmats" in parts:
            return Prediction(parts["rotmats"], parts["betas"], parts["camera"])
        return Points(parts.get("joints"), parts.get("vertices"))


def read_predictions(path: Path, shard: Shard, kind: BodyKind = SMPL_KIND) -> Predictions:
    """Read a result's _samples.h5, an .npz or a .pkl, without executing code in it. Raises RequestError.

    Poses and betas are those of a `kind` of body.
    """
    if not path.is_file():
        raise RequestError(f"{path}: predictions: no such file")
    table = read_table(path, len(shard))
    parts = _points(path, table) if _is_of_points(table) else _bodies(path, table, kind)
    counts = {key: len(part) for key, part in parts.items()}
    count = next(iter(counts.values()))
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} {key}" for key, count in counts.items())
        raise RequestError(f"{path}: contains {listed}; the numbers must be equal")
    if count == 0:
        raise RequestError(f"{path}: contains no predictions (0 rows); provide one per person of {shard.path.name}")
    if not all(np.isfinite(part).all() for part in parts.values()):
        raise RequestError(f"{path}: contains values that are not finite")
    if "betas" in parts:
        check_rotations(path, parts["rotmats"], kind)
        check_betas(path, parts["betas"])
    else:
        for what, points in parts.items():
            check_metres(path, what, points)
    camera = first_fitting(table, CAMERAS, ((count, CAMERA),))
    if "betas" in parts:
        parts["camera"] = (
            np.tile(np.array(NO_CAMERA, np.float32), (count, 1)) if camera is None else camera.astype(np.float32)
        )
    return Predictions(parts, places(path, table, shard, count), str(path), camera is not None)


def _is_of_points(table: Mapping[str, Any]) -> bool:
    has_pose = any(key in table for key in (*POSES, "body_pose"))
    return not has_pose and any(key in table for key in (*JOINTS, *VERTICES))


def _bodies(path: Path, table: Mapping[str, Any], kind: BodyKind) -> dict[str, np.ndarray]:
    rotmats, betas = _rotmats(path, table, kind), _first(path, table, SHAPES)
    if betas.shape != (len(rotmats), kind.num_betas):
        raise RequestError(
            f"{path}: shape has shape {betas.shape}, expected {(len(rotmats), kind.num_betas)} for {len(rotmats)} poses"
        )
    return {"rotmats": rotmats, "betas": betas}


def _points(path: Path, table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    parts = {}
    for key, names in (("joints", JOINTS), ("vertices", VERTICES)):
        if any(name in table for name in names):
            points = _first(path, table, names)
            if points.ndim != 3 or points.shape[2] != 3 or not points.shape[1]:
                raise RequestError(f"{path}: {key} have shape {points.shape}, expected (people, points, 3)")
            parts[key] = points
    return parts


def _first(path: Path, table: Mapping[str, Any], keys: tuple[str, ...]) -> Float[np.ndarray, "N ..."]:
    for key in keys:
        if key in table:
            with np.errstate(over="ignore"):  # an infinity is refused later
                return numbers(path, key, table[key]).astype(np.float32)
    raise RequestError(f"{path}: found none of {', '.join(keys)}; predictions must contain {ASKED}")


def _rotmats(path: Path, table: Mapping[str, Any], kind: BodyKind) -> Float[np.ndarray, "N R 3 3"]:
    if "global_orient" in table and "body_pose" in table:
        root, body = (_first(path, table, (key,)) for key in ("global_orient", "body_pose"))
        if len(root) != len(body):
            raise RequestError(
                f"{path}: contains {len(root)} global_orient and {len(body)} body_pose; the numbers must be equal"
            )
        pose = np.concatenate([_flat(root), _flat(body)], 1)
    else:
        pose = _first(path, table, POSES)
    values = _flat(pose)
    if values.shape[1] == kind.rotmat_numbers:
        return values.reshape(-1, kind.num_joints, 3, 3)
    if values.shape[1] == kind.rot6d_numbers:
        raise RequestError(
            f"{path}: poses have {values.shape[1]} values, which are 6D rotations; conventions of 6D differ, so"
            f" save rotation matrices ({kind.num_joints} 3 3) or axis-angles ({kind.pose_numbers})"
        )
    if values.shape[1] != kind.pose_numbers:
        raise RequestError(
            f"{path}: poses have {values.shape[1]} values, expected {kind.pose_numbers} for {kind.name}, or"
            f" {kind.rotmat_numbers} as rotation matrices"
        )
    rotvecs = values.reshape(-1, kind.num_joints, 3)
    if len(rotvecs) and np.isfinite(rotvecs).all():
        check_angles(path, rotvecs)
    with np.errstate(all="ignore"):
        return rotvec_to_rotmat(torch.from_numpy(rotvecs)).numpy()


def _flat(pose: Float[np.ndarray, "N ..."]) -> Float[np.ndarray, "N K"]:
    return pose.reshape(len(pose), int(np.prod(pose.shape[1:])))
