"""Where a crop lies in its picture, for methods that look at more than the crop."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, UInt8

from hmrb.batch import Conditioning
from hmrb.data.shard import CAMERA, Shard
from hmrb.data.warp import turned, warp
from hmrb.errors import RequestError
from hmrb.records import View


@dataclass(frozen=True, slots=True)
class Place:
    """A crop's square and the intrinsics, in pixels of a picture in which the person stands as in the crop.

    That is the photo: mirrored where the crop is, and turned about the principal point where the crop is turned, since
    both keep the camera's axes those of the labels. `camera` is fx, fy, cx, cy; zeros where nobody knows them.
    """

    center: Float[np.ndarray, "2"]
    side: float
    picture_px: tuple[int, int]
    camera: Float[np.ndarray, "4"]
    image_px: int


@runtime_checkable
class MethodCut(Protocol):
    """What a method's rule cuts out of a picture."""

    @property
    def pixels(self) -> UInt8[np.ndarray, "S S 3"]:
        """The crop, RGB."""

    @property
    def square(self) -> tuple[float, float, float]:
        """Centre x, y and side in pixels of the picture."""


@runtime_checkable
class MethodRule(Protocol):
    """A method's rule for crops (hmrb.models.crops)."""

    def cut(
        self, picture: UInt8[np.ndarray, "H W 3"], box: tuple[float, float, float, float], margin: float, /
    ) -> MethodCut:
        """Cut a person's box (x, y, width, height), enlarged by `margin`."""


def cut_by(rule: MethodRule, view: View, box_scale: float, image_px: int) -> View:
    """A person's view as a crop of `image_px` by a method's rule, of their box enlarged by `box_scale`."""
    x, y, width, height = view.box.tolist()
    crop = rule.cut(view.image, (x, y, width, height), box_scale)
    square = replace(view, center=np.array(crop.square[:2]), side=crop.square[2])
    return replace(warp(square, image_px), image=crop.pixels)


def place_of(shard: Shard, row: int, view: View) -> Place:
    """The place of a warped view of a person."""
    assert view.cut is not None
    cut, arrays = view.cut, shard.arrays
    image = int(arrays["image"][row])
    width, height = arrays["photo_px"][image].tolist()
    left, top, scale = arrays["origin"][image].astype(np.float64)
    camera = np.array(arrays[CAMERA][row], np.float64) if CAMERA in arrays else np.zeros(4)
    x = cut.width - 1 - cut.center[0] if cut.flipped else cut.center[0]
    center = (np.array([x, cut.center[1]]) + 0.5) / scale - 0.5 + (left, top)
    if cut.flipped:
        center[0] = width - 1 - center[0]
        camera[2] = (width - 1 - camera[2]) * (camera[0] > 0)
    pivot = camera[2:] if camera[0] > 0 else np.array([width - 1, height - 1]) / 2
    center = pivot + turned(-cut.rotation) @ (center - pivot)
    return Place(center, cut.side / float(scale), (width, height), camera, view.image.shape[0])


def conditioning(places: Sequence[Place]) -> Conditioning | None:
    """The places of a batch as tensors; None without."""
    if not places:
        return None
    square = np.array([[*place.center, place.side] for place in places])
    scale = np.array([place.image_px / place.side for place in places])
    crop = np.zeros((len(places), 2, 3))
    crop[:, 0, 0] = crop[:, 1, 1] = scale
    crop[:, :, 2] = np.array([[place.image_px / 2] for place in places]) - scale[:, None] * square[:, :2]
    camera = np.array([place.camera for place in places])
    intrinsics = np.zeros((len(places), 3, 3))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1], intrinsics[:, 2, 2] = camera[:, 0], camera[:, 1], 1
    intrinsics[:, :2, 2] = camera[:, 2:]
    sizes = np.array([place.picture_px for place in places])

    def tensor(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).float()

    has = torch.from_numpy(camera[:, 0] > 0)
    return Conditioning(tensor(square), tensor(sizes), tensor(crop), tensor(intrinsics), has)


def check_places(shard: Shard) -> None:
    """Raises RequestError if the shard does not say how large its photos are."""
    unknown = int((shard.arrays["photo_px"] <= 0).any(1).sum())
    if unknown:
        raise RequestError(
            f"{shard.path}: {unknown} of {shard.info.num_images} images have no photo size, and this model looks at"
            f" the crop's place in the photo. Convert it again: {shard.info.made_by}; or use a model with"
            " head.box: none and camera: crop_weak"
        )
