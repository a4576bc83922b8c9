"""Warp a person to the network's input: one affine matrix transforms pixels and labels together."""

import math
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hmrb.names import Antialias
from hmrb.records import Cut, View

Pixels = UInt8[np.ndarray, "H W 3"]
Crop = UInt8[np.ndarray, "S S 3"]
Matrix = Float[np.ndarray, "2 3"]
Cutter = Callable[[Pixels, Matrix, int], Crop]
"""From a picture, a map from its pixels to the crop's, and the crop's width in px, to the crop."""


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


def bilinear(image: Pixels, matrix: Matrix, size: int) -> Crop:
    """The crop by bilinear interpolation, black outside the picture. Finer patterns than the crop's pixels alias."""
    return np.asarray(cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR))


def averaged(image: Pixels, matrix: Matrix, size: int) -> Crop:
    """`bilinear` after averaging over squares of `reduction` pixels."""
    times = reduction(matrix)
    return bilinear(shrunk(image, times), of_shrunk(matrix, times), size)


def reduction(matrix: Matrix) -> int:
    """The largest power of two by which a picture can shrink and still have the crop's resolution."""
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return 1 << int(max(-math.log2(scale), 0.0)) if scale > 0 else 1


def shrunk(image: Pixels, times: int) -> UInt8[np.ndarray, "Y X 3"]:
    """A picture `times` smaller: means of squares; the last ones, that reach over the edge, repeat its pixels."""
    if times == 1:
        return image
    height, width = image.shape[:2]
    if height % times or width % times:
        image = cv2.copyMakeBorder(image, 0, -height % times, 0, -width % times, cv2.BORDER_REPLICATE)
    size = (image.shape[1] // times, image.shape[0] // times)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA))


def of_shrunk(matrix: Float[np.ndarray, "2 3"], times: int) -> Float[np.ndarray, "2 3"]:
    """A map of a picture's pixels as one of the pixels of the picture made `times` smaller."""
    half = (times - 1) / 2
    return np.concatenate([times * matrix[:, :2], matrix[:, 2:] + matrix[:, :2] @ [[half], [half]]], 1)


CUTTERS: dict[Antialias, Cutter] = {"none": bilinear, "area": averaged}


def warp(view: View, size: int, cut: Cutter = bilinear) -> View:
    """Crop the square, upright and `size` px wide; labels become crop pixels and rotated camera axes."""
    matrix = crop_matrix(view, size)
    pixels = matrix
    if view.flipped:
        to_mirror = np.array([[-1.0, 0, view.image.shape[1] - 1], [0, 1, 0], [0, 0, 1]])
        pixels = matrix @ to_mirror
    crop = cut(view.image, pixels, size)
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
        image=crop,
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
