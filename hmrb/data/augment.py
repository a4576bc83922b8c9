"""Augmentations in two stages: before and after the warp to the network's input.

An augmentation is a function (View, Generator, *, arguments) -> View; its keyword arguments are its schema in a spec.
Before the warp, augmentations see the dataset's image and may move the crop square; after it, they see the crop.
Defaults are from the study's configs/augmentation, unless an augmentation says that it is not in the study.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from numpy.random import Generator
from pydantic import Field

from hmrb.data.corrupt import degrade, recolour
from hmrb.data.extreme_crop import extreme_crop
from hmrb.data.occlude import (
    Range,
    Share,
    coarse_dropout,
    grid_dropout,
    hard_erase,
    occlude,
    occlude_keypoints,
    random_occlusion,
    self_mix,
    soft_erase,
)
from hmrb.data.warp import Cutter, bilinear, exposed, mirror, warp
from hmrb.lookup import bind, find
from hmrb.records import View
from hmrb.spec import Op

HUES = 180  # number of hues in OpenCV's uint8 images, 2 degrees each


def channel_noise(view: View, rng: Generator, *, factor: Share = 0.4) -> View:
    """Multiply each colour channel by a factor drawn uniformly from [1 - factor, 1 + factor]."""
    return replace(view, gain=view.gain * rng.uniform(1 - factor, 1 + factor, 3))


def flip(view: View, rng: Generator, *, p: Share = 0.5) -> View:
    """Mirror the image and all labels with probability p."""
    return mirror(view) if rng.random() < p else view


def rotate_scale(
    view: View,
    rng: Generator,
    *,
    rotation_deg: Annotated[float, Field(ge=0, le=90)] = 30,
    scale: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    p: Share = 0.6,
) -> View:
    """Scale the square by N(1, scale) clipped to 1 +- scale; with p rotate by N(0, rotation) clipped to 2 rotation."""
    grow = np.clip(rng.normal(1, scale), 1 - scale, 1 + scale)
    turn = np.clip(rng.normal(0, rotation_deg), -2 * rotation_deg, 2 * rotation_deg)
    turn = turn if rng.random() < p else 0.0
    return replace(view, side=view.side * grow, rotation=view.rotation + np.deg2rad(turn))


def random_crop(
    view: View,
    rng: Generator,
    *,
    p: Share = 0.8,
    factor: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    axis: Literal["x", "y", "all"] = "y",
) -> View:
    """With p crop to a square smaller by `factor`, placed uniformly along `axis` and centred along the other axis.

    The study's code swaps x and y twice, which cancels out if one axis moves; here they are never swapped.
    """
    if rng.random() >= p:
        return view
    x, y = rng.random(2)
    return smaller_square(view, factor, 0.5 if axis == "y" else float(x), 0.5 if axis == "x" else float(y))


def smaller_square(view: View, factor: float, x_share: float, y_share: float) -> View:
    """Shrink the square by `factor` and place it at these fractions of the free space, in whole pixels."""
    side = max(int(view.side), 1)
    smaller = max(int(side * (1 - factor)), 1)
    corner = np.trunc(view.center - side / 2) + np.trunc((side - smaller) * np.array([x_share, y_share]))
    return replace(view, center=corner + smaller / 2, side=float(smaller))


def photometric_distortion(
    view: View,
    rng: Generator,
    *,
    p: Share = 1.0,
    brightness: Annotated[float, Field(ge=0, le=255)] = 32,
    contrast: Range = (0.5, 1.5),
    saturation: Range = (0.5, 1.5),
    hue: Annotated[int, Field(ge=0, le=90)] = 18,
) -> View:
    """With p change brightness, contrast, saturation, hue and channel order, each with probability 1/2.

    Brightness is shifted by U(-brightness, brightness) levels. Contrast and saturation are multiplied by uniform
    factors in their ranges. The hue is shifted by an integer number of OpenCV's 2 degree steps in [-hue, hue).
    Contrast is applied before or after saturation and hue with equal probability. In the study, the channel order has
    no effect because its result is discarded, and the configs fail because a list of datasets is missing.
    """
    if rng.random() >= p:
        return view
    shift, contrast_first = (rng.uniform(-brightness, brightness) if rng.random() < 0.5 else 0.0), rng.random() < 0.5
    multiple = rng.uniform(*contrast) if rng.random() < 0.5 else 1.0
    colourful = rng.uniform(*saturation) if rng.random() < 0.5 else 1.0
    turn = int(rng.integers(-hue, max(hue, 1 - hue))) if rng.random() < 0.5 else 0
    order = tuple(rng.permutation(3).tolist()) if rng.random() < 0.5 else (0, 1, 2)
    shown = exposed(view)
    before, after = (multiple, 1.0) if contrast_first else (1.0, multiple)
    return replace(shown, image=distort(shown.image, shift, before, colourful, turn, after, order))


def distort(
    image: UInt8[np.ndarray, "H W 3"],
    shift: float,
    contrast_before: float,
    saturation: float,
    hue: int,
    contrast_after: float,
    order: tuple[int, ...],
) -> UInt8[np.ndarray, "H W 3"]:
    """Apply the steps with rounding to integer levels in 0..255 after each, as in the study, by 256-entry tables."""
    levels = np.arange(256, dtype=np.uint8)
    tones = _scaled(_scaled(levels, 1.0, shift), contrast_before, 0.0)
    if (tones != levels).any():
        image = np.asarray(cv2.LUT(image, tones))
    if saturation != 1 or hue:
        hues = ((np.arange(256) + hue) % HUES).astype(np.uint8)
        table = np.stack([hues, _scaled(levels, saturation, 0.0), levels], 1)
        hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
        image = np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
    if contrast_after != 1:
        image = np.asarray(cv2.LUT(image, _scaled(levels, contrast_after, 0.0)))
    if order != (0, 1, 2):
        planes = cv2.split(image)
        image = np.asarray(cv2.merge([planes[channel] for channel in order]))
    return image


def _scaled(levels: UInt8[np.ndarray, " N"], multiple: float, shift: float) -> UInt8[np.ndarray, " N"]:
    scaled: UInt8[np.ndarray, " N"] = np.clip(levels.astype(np.float32) * multiple + shift, 0, 255).astype(np.uint8)
    return scaled


def blur(view: View, rng: Generator, *, p: Share = 0.5, sigma_px: Range = (0.0, 2.0)) -> View:
    """With p blur the crop by a Gaussian of U(sigma_px) pixels: a photo out of focus, moved or of few pixels.

    Not in the study.
    """
    if rng.random() >= p:
        return view
    sigma = float(rng.uniform(*sigma_px))
    return replace(view, image=np.asarray(cv2.GaussianBlur(view.image, (0, 0), sigma))) if sigma else view


def pixel_noise(view: View, rng: Generator, *, p: Share = 0.5, levels: Range = (0.0, 12.0)) -> View:
    """With p add noise N(0, U(levels)) to every value of the crop, rounded to 0..255: a sensor in poor light.

    Not in the study.
    """
    if rng.random() >= p:
        return view
    strength = np.float32(rng.uniform(*levels))
    shown = exposed(view)
    noise = rng.standard_normal(shown.image.shape, np.float32) * strength
    return replace(shown, image=np.clip(np.rint(shown.image + noise), 0, 255).astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Augmenter:
    """Augmentations with their arguments; each stage keeps the order of the spec."""

    before: tuple[Callable[[View, Generator], View], ...]
    after: tuple[Callable[[View, Generator], View], ...]

    paints: bool
    """Whether an augmentation looks at the pixels before the warp."""

    def __call__(self, view: View, rng: Generator, size: int, cut: Cutter = bilinear) -> View:
        """Apply both stages and the warp; returns the network's input, `size` px wide."""
        for op in self.before:
            view = op(view, rng)
        view = warp(view, size, cut)
        for op in self.after:
            view = op(view, rng)
        return view


def augmenter(ops: Sequence[Op], dataset: str) -> Augmenter:
    """Build a spec's augmentations for one dataset. Raises RequestError for unknown names or invalid arguments."""
    before: list[Callable[[View, Generator], View]] = []
    after: list[Callable[[View, Generator], View]] = []
    paints = False
    for op in ops:
        function = find("augmentation", op.name, AUGMENTS)
        if not op.only or dataset in op.only:
            stage = after if function in AFTER_WARP else before
            stage.append(partial(function, **bind("augmentation", function, op.args)))
            paints |= stage is before and function not in MOVES
    return Augmenter(tuple(before), tuple(after), paints)


MOVES: tuple[Callable[..., View], ...] = (channel_noise, random_crop, extreme_crop, flip, rotate_scale)
"""Augmentations before the warp that look at no pixel."""
BEFORE_WARP: tuple[Callable[..., View], ...] = (
    *MOVES,
    photometric_distortion,
    hard_erase,
    random_occlusion,
    occlude,
    occlude_keypoints,
)
AFTER_WARP: tuple[Callable[..., View], ...] = (
    coarse_dropout,
    grid_dropout,
    soft_erase,
    self_mix,
    blur,
    pixel_noise,
    degrade,
    recolour,
)
AUGMENTS: dict[str, Callable[..., View]] = {op.__name__: op for op in BEFORE_WARP + AFTER_WARP}
