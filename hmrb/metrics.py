"""Errors per person, in millimetres. Joints and vertices come in metres and relative to their root."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from hmrb.geometry import align_similarity

MM = 1000.0
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Posed:
    """What errors are taken of: joints and vertices relative to the root joint."""

    joints: Float[Tensor, "B J 3"]
    vertices: Float[Tensor, "B V 3"]


def mpjpe(pred: Posed, truth: Posed) -> Float[Tensor, " B"]:
    """Mean distance of joints after the roots are laid on one another."""
    return joint_distances_mm(pred.joints, truth.joints).mean(1)


def pa_mpjpe(pred: Posed, truth: Posed) -> Float[Tensor, " B"]:
    """Mean distance of joints after the similarity that best maps prediction onto truth."""
    return joint_distances_mm(align_similarity(pred.joints, truth.joints), truth.joints).mean(1)


def pve(pred: Posed, truth: Posed) -> Float[Tensor, " B"]:
    """Mean distance of vertices after the root joints are laid on one another."""
    return joint_distances_mm(pred.vertices, truth.vertices).mean(1)


def joint_distances_mm(pred: Float[Tensor, "B J 3"], truth: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J"]:
    """Distance of each point to its true place."""
    return MM * (pred - truth).norm(dim=-1)


def interval95(values: Float[np.ndarray, " N"], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval of the mean over people (percentiles of RESAMPLES resampled means)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


METRICS: dict[str, Callable[[Posed, Posed], Tensor]] = {f.__name__: f for f in (mpjpe, pa_mpjpe, pve)}
TITLES = {"mpjpe": "MPJPE", "pa_mpjpe": "PA-MPJPE", "pve": "PVE"}
