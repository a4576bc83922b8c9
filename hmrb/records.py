"""What crosses an edge: frozen records. Metres, radians, pixels; camera frame x right, y down, z forward.

A missing label is confidence 0 or `has_body` false: never NaN, never a missing key.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from hmrb.bodykind import SMPL_KIND, BodyKind

GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person's labels in pixels of its picture, 0 the first pixel's middle, in the dataset's own skeleton.

    `box` is the square-to-be around the person (x, y, width, height), with the margin of the dataset's rule.
    The root of `pose` is in the camera's frame; `transl` is the body's there. Key points without rows are not labelled.
    `columns` are named values to slice results by (sequence, activity, occlusion); `extra` are labels of other bodies,
    kept under their own names (`smplx/betas`).
    """

    box: Float[np.ndarray, "4"]
    keypoints2d: Float[np.ndarray, "K 3"] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    keypoints3d: Float[np.ndarray, "K3 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    pose: Float[np.ndarray, "R 3"] = field(default_factory=lambda: np.zeros((SMPL_KIND.num_joints, 3), np.float32))
    betas: Float[np.ndarray, " S"] = field(default_factory=lambda: np.zeros(SMPL_KIND.num_betas, np.float32))
    transl: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros((3,), np.float32))
    has_body: bool = False
    gender: str = "neutral"
    columns: Mapping[str, float | str] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Person):
    """One person as a shard has it, with the bytes of its picture.

    The picture is a part of a photo of `photo_px` (width, height): its pixel x is the photo's
    (x + 0.5) / origin[2] - 0.5 + origin[0], y likewise with origin[1].
    """

    jpeg: bytes
    name: str
    origin: Float[np.ndarray, "3"] = field(default_factory=lambda: np.array([0, 0, 1], np.float32))
    photo_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """A picture of a dataset and the people labelled in it, in its pixels.

    The picture is a `file`, the bytes of one (`data`), or RGB `pixels` (a video's frame). Where `mirrored`, the labels
    are those of the mirrored picture, and it is mirrored when packed. Without any of them there is none (mocap).
    """

    name: str
    people: tuple[Person, ...]
    file: Path | None = None
    data: bytes = b""
    pixels: UInt8[np.ndarray, "H W 3"] | None = None
    mirrored: bool = False


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
    pose: Float[np.ndarray, "R 3"]
    kind: BodyKind = SMPL_KIND


@dataclass(frozen=True, slots=True)
class BodyParams:
    """Pose and shape without a picture: what the adversarial prior calls real."""

    pose: Float[Tensor, "B R 3"]
    betas: Float[Tensor, "B S"]

    def micro_batches(self, count: int) -> "list[BodyParams]":
        """Equal shares, in order."""
        return [BodyParams(*tensors) for tensors in zip(self.pose.chunk(count), self.betas.chunk(count), strict=True)]


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step. Metres, radians and pixels of the crop.

    Pictures are RGB: of 8 bits as a loader makes them, in ImageNet's normalisation as a network wants them.
    """

    image: Float[Tensor, "B 3 H W"] | UInt8[Tensor, "B 3 H W"]
    keypoints2d: Float[Tensor, "B J 3"]
    keypoints3d: Float[Tensor, "B J 4"]
    pose: Float[Tensor, "B R 3"]
    betas: Float[Tensor, "B S"]
    has_body: Bool[Tensor, " B"]
    row: Int[Tensor, " B"]
    skipped: tuple[str, ...] = ()
    """Pictures that could not be decoded, whose places other draws took."""
    key: Int[Tensor, " B"] | None = None
    """Random bits of each draw, for what training leaves to chance; none where nothing is trained."""

    def to(self, device: torch.device) -> "Batch":
        """The batch on another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """The batch in page-locked memory; the loader calls it."""
        return self._each(Tensor.pin_memory)

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Its memory is not given away before this stream is done with it."""
        for value in (getattr(self, f.name) for f in fields(self)):
            if isinstance(value, Tensor):
                value.record_stream(stream)

    def micro_batches(self, count: int) -> "list[Batch]":
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

    rotmats: Float[Tensor, "B R 3 3"]
    betas: Float[Tensor, "B S"]
    camera: Float[Tensor, "B 3"]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations, betas, camera."""
        return self.rotmats, self.betas, self.camera

    @property
    def gradients(self) -> list[Tensor]:
        """The gradients of a leaf's tensors; zeros where a loss did not reach one."""
        return [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in self.tensors]

    def detached(self) -> "Prediction":
        """The same numbers as leaves of a new graph: a backward pass ends here, and `gradients` starts the next."""
        return Prediction(*(tensor.detach().requires_grad_() for tensor in self.tensors))
