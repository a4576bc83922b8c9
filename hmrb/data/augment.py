"""What is done to a person before the warp, and the warp itself: one affine matrix moves pixels and labels together.

An augmentation is a function (View, Generator, *, arguments) -> View; its keyword arguments are its schema in a spec.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator
from pydantic import Field

from hmrb.records import View
from hmrb.skeleton import SKELETONS, SMPL24_MIRROR, TRAINING_SKELETON

Share = Annotated[float, Field(ge=0, le=1)]
IMAGENET_MEAN = np.array([123.675, 116.28, 103.53])
IMAGENET_STD = np.array([58.395, 57.12, 57.375])
_MIRROR = SKELETONS[TRAINING_SKELETON].mirror()


def channel_noise(view: View, rng: Generator, *, factor: Share = 0.4) -> View:
    """Multiply each colour channel by a number in [1 - factor, 1 + factor]."""
    return replace(view, gain=view.gain * rng.uniform(1 - factor, 1 + factor, 3))


def flip(view: View, rng: Generator, *, p: Share = 0.5) -> View:
    """Mirror the person, labels and all, with probability p."""
    return mirror(view) if rng.random() < p else view


def rotate_scale(
    view: View,
    rng: Generator,
    *,
    rotation_deg: Annotated[float, Field(ge=0, le=90)] = 30,
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    p: Share = 0.6,
) -> View:
    """Scale the square by N(1, scale) within 1 +- scale; with p turn it by N(0, rotation) within 2 rotations."""
    grow = np.clip(rng.normal(1, scale), 1 - scale, 1 + scale)
    turn = np.clip(rng.normal(0, rotation_deg), -2 * rotation_deg, 2 * rotation_deg)
    turn = turn if rng.random() < p else 0.0
    return replace(view, side=view.side * grow, rotation=view.rotation + np.deg2rad(turn))


def mirror(view: View) -> View:
    """The mirrored person: x of pixels about the picture's middle, left and right exchanged."""
    width = view.image.shape[1]
    keypoints2d, keypoints3d = view.keypoints2d[_MIRROR], view.keypoints3d[_MIRROR]
    keypoints2d[:, 0] = width - 1 - keypoints2d[:, 0]
    keypoints3d[:, 0] *= -1
    return replace(
        view,
        center=np.array([width - 1 - view.center[0], view.center[1]]),
        rotation=-view.rotation,
        flipped=not view.flipped,
        keypoints2d=keypoints2d,
        keypoints3d=keypoints3d,
        pose=view.pose[SMPL24_MIRROR] * np.array([1, -1, -1], view.pose.dtype),
    )


def crop_matrix(view: View, size: int) -> Float[np.ndarray, "2 3"]:
    """From pixels of the (mirrored) picture to pixels of the crop; the square's centre goes to (size/2, size/2)."""
    zoom = size / view.side
    turn = zoom * _turn(-view.rotation)
    shift = size / 2 - turn @ view.center
    return np.concatenate([turn, shift[:, None]], 1)


def warp(view: View, size: int) -> tuple[Float[np.ndarray, "3 size size"], View]:
    """The network's input (normalised RGB) and the labels in its pixels and its turned camera axes."""
    matrix = crop_matrix(view, size)
    pixels = matrix
    if view.flipped:
        to_mirror = np.array([[-1.0, 0, view.image.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
        pixels = matrix @ to_mirror
    crop = cv2.warpAffine(view.image, pixels, (size, size), flags=cv2.INTER_LINEAR)
    points = view.keypoints2d.copy()
    seen = points[:, 2] > 0
    points[seen, :2] = points[seen, :2] @ matrix[:, :2].T + matrix[:, 2]
    turn = np.eye(3)
    turn[:2, :2] = _turn(-view.rotation)
    keypoints3d, pose = view.keypoints3d.copy(), view.pose.copy()
    keypoints3d[:, :3] = keypoints3d[:, :3] @ turn.T
    if view.rotation:
        root, _ = cv2.Rodrigues(pose[0].astype(np.float64))
        pose[0] = cv2.Rodrigues(turn @ root)[0][:, 0]
    moved = replace(view, keypoints2d=points, keypoints3d=keypoints3d, pose=pose)
    return normalise(crop, view.gain), moved


def normalise(crop: UInt8[np.ndarray, "H W 3"], gain: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 H W"]:
    """uint8 RGB times `gain`, rounded and saturated like a camera would, in ImageNet's normalisation.

    One table look-up a channel: the colour noise costs nothing on top.
    """
    levels = np.clip(np.rint(np.arange(256)[:, None] * gain), 0, 255)
    table = np.ascontiguousarray(((levels - IMAGENET_MEAN) / IMAGENET_STD).T, np.float32)
    out = np.empty((3, *crop.shape[:2]), np.float32)
    for channel, pixels in enumerate(cv2.split(crop)):
        cv2.LUT(pixels, table[channel], dst=out[channel])
    return out


def _turn(angle: float) -> Float[np.ndarray, "2 2"]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


BEFORE_WARP: tuple[Callable[..., View], ...] = (channel_noise, flip, rotate_scale)
AUGMENTS: dict[str, Callable[..., Any]] = {op.__name__: op for op in BEFORE_WARP}
