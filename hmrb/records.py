"""What crosses an edge: frozen records. Metres, radians, pixels; camera frame x right, y down, z forward.

A missing label is confidence 0 or `has_body` false: never NaN, never a missing key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True, slots=True)
class Sample:
    """One person as a dataset has it, in the dataset's own skeleton and its own picture.

    `box` is the square-to-be around the person (x, y, width, height), with the margin of the dataset's rule.
    The root of `pose` is in the camera's frame. `columns` are named values to slice results by (activity, occlusion).
    `origin` is where the picture lies in the photo it was cut from: its corner's x, y, and pixels here per pixel there.
    """

    jpeg: bytes
    name: str
    box: Float[np.ndarray, "4"]
    keypoints2d: Float[np.ndarray, "K 3"]
    keypoints3d: Float[np.ndarray, "K 4"]
    pose: Float[np.ndarray, "24 3"]
    betas: Float[np.ndarray, "10"]
    transl: Float[np.ndarray, "3"]
    has_body: bool
    gender: str = "neutral"
    origin: Float[np.ndarray, "3"] = field(default_factory=lambda: np.array([0, 0, 1], np.float32))
    columns: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class View:
    """One person under augmentation: labels and the square around the person in pixels of `image`.

    Before the warp `image` is the dataset's picture, after it the square alone, upright. `box` is the person's as the
    dataset has it (x, y, width, height); `center` and `side` are the square that augmentations move.
    `rotation` (radians) is how far the square is turned clockwise, so that far the person turns counterclockwise.
    Where `flipped`, labels, box and square are those of the mirrored picture, and the warp mirrors the pixels.
    `gain` multiplies the colour channels in the end.
    """

    image: UInt8[np.ndarray, "H W 3"]
    box: Float[np.ndarray, "4"]
    center: Float[np.ndarray, "2"]
    side: float
    rotation: float
    flipped: bool
    gain: Float[np.ndarray, "3"]
    keypoints2d: Float[np.ndarray, "J 3"]
    keypoints3d: Float[np.ndarray, "J 4"]
    pose: Float[np.ndarray, "24 3"]


@dataclass(frozen=True, slots=True)
class BodyParams:
    """Pose and shape without a picture: what the adversarial prior calls real."""

    pose: Float[Tensor, "B 24 3"]
    betas: Float[Tensor, "B 10"]

    def parts(self, count: int) -> "list[BodyParams]":
        """Equal shares, in order."""
        return [BodyParams(*tensors) for tensors in zip(self.pose.chunk(count), self.betas.chunk(count), strict=True)]


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step. Metres, radians and pixels of the crop."""

    image: Float[Tensor, "B 3 H W"]
    keypoints2d: Float[Tensor, "B J 3"]
    keypoints3d: Float[Tensor, "B J 4"]
    pose: Float[Tensor, "B 24 3"]
    betas: Float[Tensor, "B 10"]
    has_body: Bool[Tensor, " B"]
    row: Int[Tensor, " B"]
    skipped: tuple[str, ...] = ()
    """Pictures that could not be decoded, whose places other draws took."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; the loader calls it."""
        return self._each(Tensor.pin_memory)

    def parts(self, count: int) -> "list[Batch]":
        """Equal shares, in order."""
        size = len(self.row) // count
        return [self._each(itemgetter(slice(i * size, (i + 1) * size))) for i in range(count)]

    def _each(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: move(value) for name, value in values.items() if isinstance(value, Tensor)}
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a method makes of a picture: parent-relative rotations (root first), shape, weak-perspective camera."""

    rotmats: Float[Tensor, "B 24 3 3"]
    betas: Float[Tensor, "B 10"]
    camera: Float[Tensor, "B 3"]
