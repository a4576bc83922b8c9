"""Tensors of a training or evaluation step: Batch, Prediction, BodyParams. Metres and pixels of the crop."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from operator import itemgetter
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

CameraKind = Literal["crop_weak", "full_frame", "intrinsics"]


@dataclass(frozen=True, slots=True)
class BodyParams:
    """Rotations and shape without an image: the real bodies for the adversarial prior."""

    rotmats: Float[Tensor, "B R 3 3"]
    betas: Float[Tensor, "B S"]

    def each(self, move: Callable[[Tensor], Tensor]) -> "BodyParams":
        """Applies a function to both tensors."""
        return BodyParams(move(self.rotmats), move(self.betas))


@dataclass(frozen=True, slots=True)
class Batch:
    """One rank's share of a step. Metres and crop pixels.

    Images are RGB: 8-bit from the loader; with ImageNet's normalisation as network input.
    """

    image: Float[Tensor, "B 3 H W"] | UInt8[Tensor, "B 3 H W"]
    keypoints2d: Float[Tensor, "B J 3"]
    keypoints3d: Float[Tensor, "B J 4"]
    rotmats: Float[Tensor, "B R 3 3"]
    """Labelled rotations, parent-relative, root first."""
    betas: Float[Tensor, "B S"]
    has_body: Bool[Tensor, " B"]
    row: Int[Tensor, " B"]
    skipped: tuple[str, ...] = ()
    """Images that could not be decoded; other draws replaced them."""
    key: Int[Tensor, " B"] | None = None
    """Random bits of each draw, used by dropout and stochastic depth; None outside training."""
    real: BodyParams | None = None
    """A real body for each draw; None without an adversarial prior."""
    is_trusted: Bool[Tensor, " B"] | None = None
    """Whether a person's labels are measured; None where no data set is said to be."""
    place: "Conditioning | None" = None
    """Where the crops lie in their pictures; None for a model that looks at the crop alone."""

    def to(self, device: torch.device) -> "Batch":
        """Copies the batch to another device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Copies the batch to page-locked memory; the DataLoader calls this."""
        return self._each(Tensor.pin_memory)

    def used_on(self, stream: torch.cuda.Stream) -> None:
        """Keeps the batch's memory from being reused before the work queued on `stream` has finished."""

        def note(tensor: Tensor) -> Tensor:
            tensor.record_stream(stream)
            return tensor

        self._each(note)

    def micro_batches(self, count: int) -> "list[Batch]":
        """Splits into `count` equal parts, in order."""
        size = len(self.row) // count
        return [self._each(itemgetter(slice(i * size, (i + 1) * size))) for i in range(count)]

    def _each(self, move: Callable[[Tensor], Tensor]) -> "Batch":
        values: dict[str, Any] = {f.name: getattr(self, f.name) for f in fields(self)}
        moved: dict[str, Any] = {name: move(value) for name, value in values.items() if isinstance(value, Tensor)}
        if self.real:
            moved["real"] = self.real.each(move)
        if self.place:
            moved["place"] = self.place.each(move)
        return replace(self, **moved)


@dataclass(frozen=True, slots=True)
class Conditioning:
    """Where the crops of a batch come from, for methods that look at more than the crop. Pixels of the pictures.

    The first pixel's centre is 0. `square` is centre x, y and side of the square that the method's crop rule makes of a
    person's box, not the box itself: box descriptors and the camera in the whole picture are made of it. `picture_px`
    is width, height; `crop` maps a picture to the crop. Where `has_intrinsics` is false, `intrinsics` are those of the
    method's rule, neither known nor seen in the picture.
    """

    square: Float[Tensor, "B 3"]
    picture_px: Float[Tensor, "B 2"]
    crop: Float[Tensor, "B 2 3"]
    intrinsics: Float[Tensor, "B 3 3"]
    has_intrinsics: Bool[Tensor, " B"]

    def each(self, move: Callable[[Tensor], Tensor]) -> "Conditioning":
        """Applies a function to every tensor."""
        return Conditioning(*(move(getattr(self, name)) for name in Conditioning.__slots__))


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's output for a batch: parent-relative rotations (root first), shape, weak-perspective camera."""

    rotmats: Float[Tensor, "B R 3 3"]
    betas: Float[Tensor, "B S"]
    camera: Float[Tensor, "B 3"]
    projection: CameraKind = "crop_weak"
    """What the camera means: a focal length about the crop's middle, or about the picture's; then `place` is there."""
    place: Conditioning | None = None
    parts: Float[Tensor, "B P h w"] | None = None
    """In training, of heads that look at parts: scores (logits) of background and parts on a map."""

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations, betas, camera."""
        return self.rotmats, self.betas, self.camera

    def pulled_by(self, leaves: "Prediction") -> tuple[list[Tensor], list[Tensor]]:
        """The tensors and the gradients of `leaves`, which `detached` made of them.

        Zeros for a tensor that no loss depends on; parts that no loss depends on are left out.
        """
        tensors, gradients = list(self.tensors), [_gradient(leaf) for leaf in leaves.tensors]
        if self.parts is not None and leaves.parts is not None and leaves.parts.grad is not None:
            tensors.append(self.parts)
            gradients.append(leaves.parts.grad)
        return tensors, gradients

    def detached(self) -> "Prediction":
        """The same values as leaves of a new graph.

        A backward pass through the new graph stops here; `pulled_by` then starts the backward pass through the old one.
        """
        names = PREDICTED if self.parts is None else (*PREDICTED, "parts")
        return replace(self, **{name: getattr(self, name).detach().requires_grad_() for name in names})


PREDICTED = ("rotmats", "betas", "camera")


def _gradient(leaf: Tensor) -> Tensor:
    return torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
