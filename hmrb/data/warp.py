"""Warp a person to the network's input: one affine matrix transforms pixels and labels together."""

from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hmrb.records import Cut, View


def mirror(view: View) -> View:
    """Mirror the labels about the image's vertical centre line and swap left and right; pixels are mirrored later."""
    width = view.image.shape[1]
    swapped = view.kind.keypoint_mirror
    keypoints2d, keypoints3d = view.keypoints2d[swapped], view.keypoints3d[swapped]
    keypoints2d[:, 0] = width - 1 - keypoints2d[:, 0]
    keypoints3d[:, 0] *= -1
    x, y, wide, tall = view.box
    return replace(
        view,
        box=np.array([width - 1 - x - wide, y, wide, tall]),
        center=np.array([width - 1 - view.center[0], view.center[1]]),
        rotation=-view.rotation,
        flipped=not view.flipped,
        keypoints2d=keypoints2d,
        keypoints3d=keypoints3d,
        pose=view.pose[view.kind.mirror] * np.array([1, -1, -1], view.pose.dtype),
    )


def crop_matrix(view: View, size: int) -> Float[np.ndarray, "2 3"]:
    """Affine matrix from the (mirrored) image to the crop; it maps the square's centre to (size/2, size/2)."""
    return square_matrix(view.center, view.side, size, view.rotation)


def square_matrix(
    center: Float[np.ndarray, "2"], side: float, size: int, rotation: float = 0.0
) -> Float[np.ndarray, "2 3"]:
    """Affine matrix from an image to the crop of a square, `size` px wide."""
    turn = size / side * turned(-rotation)
    shift = size / 2 - turn @ center
    return np.concatenate([turn, shift[:, None]], 1)


def warp(view: View, size: int) -> View:
    """Crop the square, upright and `size` px wide; labels become crop pixels and rotated camera axes."""
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
    turn[:2, :2] = turned(-view.rotation)
    keypoints3d, pose = view.keypoints3d.copy(), view.pose.copy()
    keypoints3d[:, :3] = keypoints3d[:, :3] @ turn.T
    if view.rotation:
        root, _ = cv2.Rodrigues(pose[0].astype(np.float64))
        pose[0] = cv2.Rodrigues(turn @ root)[0][:, 0]
    return View(
        image=np.asarray(crop),
        box=np.array([0.0, 0.0, size, size]),
        center=np.array([size / 2, size / 2]),
        side=float(size),
        rotation=0.0,
        flipped=False,
        gain=view.gain,
        keypoints2d=points,
        keypoints3d=keypoints3d,
        pose=pose,
        kind=view.kind,
        cut=Cut(view.center, view.side, view.rotation, view.flipped, view.image.shape[1]),
    )


def exposed(view: View) -> View:
    """Apply the gain to the pixels with rounding and saturation; returns a copy that the caller may modify.

    Augmentations that draw on an image call this first, so they draw over colour noise that precedes them, as in the
    study.
    """
    if (view.gain == 1).all():
        return replace(view, image=view.image.copy())
    table = np.clip(np.rint(np.arange(256)[:, None] * view.gain), 0, 255).astype(np.uint8)
    return replace(view, image=np.asarray(cv2.LUT(view.image, table[None])), gain=np.ones(3))


def pixels(view: View) -> UInt8[np.ndarray, "H W 3"]:
    """A view of the pixels that matches the labels, whether the person is mirrored or not."""
    return view.image[:, ::-1] if view.flipped else view.image


def turned(angle: float) -> Float[np.ndarray, "2 2"]:
    """The matrix that turns points by an angle in radians, clockwise where y points down."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])
