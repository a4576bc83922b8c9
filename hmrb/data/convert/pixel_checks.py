"""Checks of labels against the pixels of the images."""

from collections.abc import Callable
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float, UInt8

from hmrb.data.convert.label_checks import ENOUGH, LIMBS, Check, Labels, ok, skipped, too_few, wrong
from hmrb.data.shard import Shard
from hmrb.formats.pictures import UnreadablePicture, decoded


def pixel_grid(labels: Labels) -> Check:
    """Pixels count from 0: integer coordinates include 0 and exclude the image's width."""
    arrays = labels.shard.arrays
    own = arrays["keypoints2d"][labels.rows].astype(np.float64)
    size = arrays["photo_px"][arrays["image"][labels.rows]].astype(np.float64)
    seen = own[..., 2] > 0
    points = in_photo(labels, own[..., :2])[seen]
    limits = np.broadcast_to(size[:, None], (*own.shape[:2], 2))[seen]
    if len(points) < ENOUGH:
        return skipped("pixel_grid", f"{len(points)} labelled joints in images; {ENOUGH} are needed")
    if (np.abs(points - points.round()) < 0.02).mean() < 0.9:
        return skipped("pixel_grid", "coordinates are not integers")
    at_zero, at_size = int((points.round() == 0).any(1).sum()), int((points.round() == limits).any(1).sum())
    said = f"{at_zero} joints at pixel 0, {at_size} at the image's width or height"
    if at_size > at_zero:
        return wrong("pixel_grid", f"{said}: pixels seem to count from 1")
    return ok("pixel_grid", said) if at_zero else skipped("pixel_grid", said)


def picture_fits(labels: Labels, looked: int = 200) -> Check:
    """Limbs contrast with their surroundings: more than random places do, and more than in the mirrored image.

    If only the region around a person is stored, the mirrored positions are usually outside it; then only the first
    comparison decides.
    """
    picks = np.linspace(0, len(labels.rows) - 1, min(len(labels.rows), looked)).astype(int)
    rng = np.random.default_rng(0)
    found = []
    pixels = lru_cache(1)(partial(_pixels, labels.shard))  # people of one image follow each other
    for index in picks.tolist():
        seen = [(a, b) for a, b in LIMBS if min(labels.keypoints2d[index, [a, b], 2]) > 0]
        row = int(labels.rows[index])
        picture = pixels(int(labels.shard.arrays["image"][row])) if len(seen) >= 3 else None
        if picture is None:
            continue
        limbs = labels.keypoints2d[index, seen, :2]
        away = rng.choice([-1.0, 1.0], (len(seen), 1, 2)) * rng.uniform(0.4, 0.9, (len(seen), 1, 2))
        beside = limbs + away * labels.box[index, 2:].max()
        left, _, scale = labels.shard.arrays["origin"][labels.shard.arrays["image"][row]].tolist()
        width = float(labels.shard.arrays["photo_px"][labels.shard.arrays["image"][row], 0])
        mirrored = limbs * [-1, 1] + [scale * (width - 2 * left) - 1, 0]  # about the photo's centre
        found.append([_contrast(picture, places) for places in (limbs, beside, mirrored)])
    here, there, mirror = np.array(found).reshape(-1, 3).T
    gain, loss = _finite(here - there), _finite(here - mirror)
    if len(gain) < ENOUGH:
        return too_few("picture_fits", {"3 limbs in an image": len(gain)})
    said = f"limbs have a contrast of {np.nanmean(here):.1f} levels, other places {np.nanmean(there):.1f}"
    if len(loss) >= ENOUGH and _sure(-loss):
        return wrong("picture_fits", f"{said}, mirrored places {np.nanmean(mirror):.1f}: images are mirrored")
    if not _sure(gain):
        return wrong("picture_fits", f"{said}: labels do not match people; are the images mirrored or mixed up?")
    return ok("picture_fits", said)


def _pixels(shard: Shard, image: int) -> UInt8[np.ndarray, "H W 3"] | None:
    """The pixels of an image, or None if there are none."""
    data = shard.picture(image)
    try:
        return decoded(data, "") if data else None
    except UnreadablePicture:
        return None


def _finite(values: Float[np.ndarray, " N"]) -> Float[np.ndarray, " M"]:
    return values[np.isfinite(values)]


def _sure(values: Float[np.ndarray, " N"]) -> bool:
    """Whether the mean is above 0 by two standard errors."""
    return bool(values.mean() > 2 * values.std(ddof=1) / np.sqrt(len(values)) + 1e-9)


def in_photo(labels: Labels, points: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K 2"]:
    """Convert pixels of the shard's images to pixels of the original photos."""
    origin = labels.shard.arrays["origin"][labels.shard.arrays["image"][labels.rows]].astype(np.float64)
    return (points + 0.5) / origin[:, None, 2:] - 0.5 + origin[:, None, :2]


def _contrast(picture: np.ndarray, limbs: Float[np.ndarray, "L 2 2"]) -> float:
    """Mean colour difference between limb axes and the pixels on both sides; NaN if all are outside the image."""
    start, end = limbs[:, :1], limbs[:, 1:]
    along = end - start
    across = np.stack([-along[..., 1], along[..., 0]], -1)
    places = start + along * np.linspace(0.25, 0.75, 5)[None, :, None]
    inside = [places, places + 0.45 * across, places - 0.45 * across]
    height, width = picture.shape[:2]
    values, valid = [], np.ones(places.shape[:2], bool)
    for points in inside:
        x, y = points.round().astype(int)[..., 0], points.round().astype(int)[..., 1]
        valid &= (x >= 0) & (y >= 0) & (x < width) & (y < height)
        values.append(picture[y.clip(0, height - 1), x.clip(0, width - 1)].astype(np.float64))
    if not valid.any():
        return float("nan")
    sides = (np.abs(values[0] - values[1]) + np.abs(values[0] - values[2])).mean(-1) / 2
    return float(sides[valid].mean())


PIXEL_CHECKS: dict[str, Callable[[Labels], Check]] = {check.__name__: check for check in (pixel_grid, picture_fits)}
