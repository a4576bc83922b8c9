"""Augmentations that hide parts of a person: noise rectangles, holes, patches and pasted objects.

None of them changes a label: a hidden joint keeps its position. They draw over colour noise that precedes them in the
spec.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, Shaped, UInt8
from numpy.random import Generator
from pydantic import AfterValidator, Field

from hmrb.data.occluders import load_occluders
from hmrb.data.warp import exposed, pixels
from hmrb.records import View


def ascending(limits: tuple[float, float]) -> tuple[float, float]:
    """Limits whose lower one comes first, of arguments. Raises ValueError otherwise."""
    if limits[0] > limits[1]:
        raise ValueError(f"the lower limit {limits[0]:g} is above the upper limit {limits[1]:g}")
    return limits


Share = Annotated[float, Field(ge=0, le=1)]
Aspect = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Range = Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], AfterValidator(ascending)]
Shares = Annotated[tuple[Share, Share], AfterValidator(ascending)]
Counts = Annotated[tuple[Count, Count], AfterValidator(ascending)]
Units = Annotated[tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]], AfterValidator(ascending)]
Occluders = Literal["procedural", "pascal"]
Pixels = UInt8[np.ndarray, "H W 3"]

PATCH_TRIES = 100  # rectangles drawn until one fits, as in the study
NOISE_LEVELS = 255  # the study's noise is floor(255 u): level 255 never comes
SIZED_FOR_PX = 256  # shorter side of an image on which occluders keep their size, as in the study


def hard_erase(view: View, rng: Generator, *, p: Share = 0.5, area: Shares = (0.0, 0.7), aspect: Aspect = 0.3) -> View:
    """With p fill a uniformly placed rectangle of U(area) of the square with noise.

    Its height / width is U(aspect, 1/aspect). As in the study, the square is the one left by preceding augmentations,
    a rectangle may be longer than the square, and a rectangle that is partly outside the image is not drawn.
    """
    if rng.random() >= p:
        return view
    corner = view.center - view.side / 2
    return _erase(view, rng, np.array([*corner, view.side, view.side]), area, aspect)


def random_occlusion(
    view: View, rng: Generator, *, p: Share = 0.5, area: Shares = (0.0, 0.7), aspect: Aspect = 0.3
) -> View:
    """`hard_erase` on the dataset's bounding box of the person, neither made square nor scaled.

    The study's RandomOcclusion reads `bbox`, which its pipeline for body models never sets: its configs with this
    step fail with a KeyError. A flip in the study does not move the box; here it does.
    """
    return _erase(view, rng, view.box, area, aspect) if rng.random() < p else view


def soft_erase(view: View, rng: Generator, *, p: Share = 0.5, area: Shares = (0.02, 0.4), aspect: Aspect = 0.3) -> View:
    """With p blend noise into a rectangle of U(area) of the crop.

    Its height / width is U(aspect, 1/aspect), and the noise has weight U(0.1, 0.9). In the study it fails because a
    list of datasets is missing; here it applies to all datasets or those in `only`.
    """
    drawn = _draw_patch(view, rng, p, area, aspect)
    if not drawn:
        return view
    top, left, height, width, share = drawn
    noise = rng.random((height, width, 3), np.float32) * np.float32(NOISE_LEVELS)
    return mixed(view, top, left, noise, share)


def self_mix(view: View, rng: Generator, *, p: Share = 0.5, area: Shares = (0.02, 0.4), aspect: Aspect = 0.3) -> View:
    """With p blend another patch of the crop, placed uniformly, into a rectangle drawn as in `soft_erase`.

    In the study it fails if no list of datasets is given; here it applies to all datasets or those in `only`.
    """
    drawn = _draw_patch(view, rng, p, area, aspect)
    if not drawn:
        return view
    top, left, height, width, share = drawn
    shown = exposed(view)
    y, x = (int(rng.integers(0, room, endpoint=True)) for room in _room(shown.image, height, width))
    return mixed(shown, top, left, shown.image[y : y + height, x : x + width], share)


def coarse_dropout(
    view: View, rng: Generator, *, p: Share = 0.5, holes: Counts = (1, 8), side_px: Counts = (10, 40)
) -> View:
    """With p black out rectangles of the crop, uniform in number, size and position (CutOut, DeVries 2017)."""
    if rng.random() >= p:
        return view
    count = int(rng.integers(*holes, endpoint=True))
    sides = np.minimum(rng.integers(*side_px, (count, 2), endpoint=True), view.image.shape[:2])
    corners = rng.integers(0, np.array(view.image.shape[:2]) - sides, endpoint=True)
    image = view.image.copy()
    for (top, left), (height, width) in zip(corners.tolist(), sides.tolist(), strict=True):
        image[top : top + height, left : left + width] = 0
    return replace(view, image=image)  # black is unaffected by the gain


def grid_dropout(view: View, rng: Generator, *, p: Share = 0.5, unit_px: Units = (10, 40), ratio: Share = 0.5) -> View:
    """With p black out a grid of squares (GridMask, Chen 2020): uniform grid unit, squares of `ratio` times its side.

    The grid's offset is uniform within a unit. The study's library, albumentations 1, may also draw a unit 1 px above
    the limit.
    """
    if rng.random() >= p:
        return view
    unit = int(rng.integers(*unit_px, endpoint=True))
    hole = min(max(int(unit * ratio), 1), unit - 1)
    left, top = rng.integers(0, unit - hole, 2, endpoint=True).tolist()
    rows, columns = (
        (np.arange(n) - start) % unit < hole for n, start in zip(view.image.shape[:2], (top, left), strict=True)
    )
    kept = ~(rows[:, None] & columns)
    return replace(view, image=np.asarray(cv2.copyTo(view.image, kept.view(np.uint8))))


def occlude(
    view: View,
    rng: Generator,
    *,
    p: Share = 1.0,
    occluders: Occluders = "procedural",
    count: Counts = (1, 7),
    scale: Range = (0.2, 1.0),
) -> View:
    """With p paste objects at uniform positions of the image (Sarandi et al. 2018), uniform in number and scale.

    An object is scaled by U(scale) times the image's shorter side over 256 px. The image is the shard's, which may be
    a region of the photo that the study pastes on.
    """
    if rng.random() >= p:
        return view
    size = np.array(view.image.shape[1::-1], float)
    number = int(rng.integers(*count, endpoint=True))
    return _paste_all(view, rng, rng.uniform((0, 0), size, (number, 2)), occluders, scale)


def occlude_keypoints(
    view: View,
    rng: Generator,
    *,
    p: Share = 1.0,
    occluders: Occluders = "procedural",
    count: Counts = (1, 7),
    scale: Range = (0.2, 1.0),
    spread: Annotated[float, Field(ge=0)] = 0.1,
) -> View:
    """`occlude` with each object at a labelled joint plus N(0, spread) of the square's side, clipped to the image.

    The study uses only joints of confidence 1 and fails if there are none; here any labelled joint is used, and a
    person without labelled joints is unchanged.
    """
    seen = view.keypoints2d[view.keypoints2d[:, 2] > 0, :2].astype(float)
    if rng.random() >= p or not len(seen):
        return view
    number = int(rng.integers(*count, endpoint=True))
    places = seen[rng.integers(len(seen), size=number)] + rng.normal(0, spread, (number, 2)) * view.side
    return _paste_all(view, rng, np.trunc(np.clip(places, 0, view.image.shape[1::-1])), occluders, scale)


def place_rectangle(
    view: View, box: Float[np.ndarray, "4"], area: float, aspect: float, x_share: float, y_share: float
) -> tuple[int, int, int, int] | None:
    """Left, top, width, height of a rectangle in a box, in whole pixels; None if it is partly outside the image.

    `area` is a fraction of the box's area, `aspect` is height / width, and the shares place it in the free space.
    """
    x, y, wide, tall = box.tolist()
    height, width = math.sqrt(area * wide * tall * aspect), math.sqrt(area * wide * tall / aspect)
    left, top = x + x_share * (wide - width - 1), y + y_share * (tall - height - 1)
    picture_height, picture_width = view.image.shape[:2]
    if left < 0 or top < 0 or left + width >= picture_width or top + height >= picture_height:
        return None
    return int(left), int(top), int(width), int(height)


def mixed(view: View, top: int, left: int, patch: Shaped[np.ndarray, "h w 3"], share: float) -> View:
    """Blend a patch into the view with weight `share`, truncated to integer levels as in the study."""
    shown = exposed(view)
    window = pixels(shown)[top : top + patch.shape[0], left : left + patch.shape[1]]
    window[...] = (1 - share) * window.astype(patch.dtype if patch.dtype.kind == "f" else np.float32) + share * patch
    return shown


def resized(occluder: UInt8[np.ndarray, "h w 4"], factor: float) -> UInt8[np.ndarray, "h2 w2 4"]:
    """Scale the occluder by `factor` to at least one pixel; shrinking uses area interpolation, as in the study."""
    height, width = (max(round(side * factor), 1) for side in occluder.shape[:2])
    how = cv2.INTER_LINEAR if factor > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(occluder, (width, height), interpolation=how))


def paste(picture: Pixels, occluder: UInt8[np.ndarray, "h w 4"], center: Int[np.ndarray, "2"]) -> None:
    """Paste the part of an RGBA occluder that is inside the image, in place."""
    shape, limits = np.array(occluder.shape[:2]), np.array(picture.shape[:2])
    corner = center[::-1] - shape // 2
    start, stop = np.clip(corner, 0, limits), np.clip(corner + shape, 0, limits)
    window = picture[start[0] : stop[0], start[1] : stop[1]]
    start, stop = start - corner, stop - corner
    part = occluder[start[0] : stop[0], start[1] : stop[1]]
    if not part.size:
        return
    alpha = cv2.merge([part[..., 3]] * 3).astype(
        np.float32
    )  # three planes avoid broadcasting, which takes twice as long
    alpha /= 255
    blended = alpha * part[..., :3]
    np.subtract(1, alpha, out=alpha)
    alpha *= window
    blended += alpha
    window[...] = blended


def _erase(view: View, rng: Generator, box: Float[np.ndarray, "4"], area: Shares, aspect: float) -> View:
    shares = rng.random(2).tolist()
    rectangle = place_rectangle(view, box, rng.uniform(*area), rng.uniform(aspect, 1 / aspect), *shares)
    if not rectangle:
        return view
    left, top, width, height = rectangle
    shown = exposed(view)
    noise = rng.integers(0, NOISE_LEVELS, (height, width, 3), np.uint8)
    pixels(shown)[top : top + height, left : left + width] = noise
    return shown


def _draw_patch(
    view: View, rng: Generator, p: float, area: tuple[float, float], aspect: float
) -> tuple[int, int, int, int, float] | None:
    """Top, left, height, width of a rectangle smaller than the crop, and the weight of the blended patch."""
    if rng.random() >= p:
        return None
    limits = view.image.shape[:2]
    for _ in range(PATCH_TRIES):
        size, ratio = rng.uniform(*area) * limits[0] * limits[1], rng.uniform(aspect, 1 / aspect)
        height, width = round(math.sqrt(size * ratio)), round(math.sqrt(size / ratio))
        if height < limits[0] and width < limits[1]:
            top, left = (int(rng.integers(0, room, endpoint=True)) for room in _room(view.image, height, width))
            return top, left, height, width, rng.uniform(0.1, 0.9)
    return None


def _room(image: Pixels, height: int, width: int) -> tuple[int, int]:
    return image.shape[0] - height, image.shape[1] - width


def _paste_all(
    view: View, rng: Generator, centers: Float[np.ndarray, "N 2"], occluders: Occluders, scale: tuple[float, float]
) -> View:
    pool: Sequence[UInt8[np.ndarray, "h w 4"]] = load_occluders(occluders)
    shown = exposed(view)
    zoom = min(shown.image.shape[:2]) / SIZED_FOR_PX
    for center in centers:
        occluder = resized(pool[int(rng.integers(len(pool)))], rng.uniform(*scale) * zoom)
        paste(pixels(shown), occluder, np.rint(center).astype(np.int64))
    return shown
