"""Check of the intrinsics: labelled 3D joints and placed bodies, projected with them, meet the labelled 2D joints."""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Bool, Float

from hmrb.data.convert.boxes import scaled
from hmrb.data.convert.label_checks import ENOUGH, Check, Labels, ok, skipped, too_few, wrong
from hmrb.data.convert.pixel_checks import in_photo
from hmrb.data.shard import CAMERA

Cameras = Float[np.ndarray, "N 4"]
JOINTS = 6  # of a person, labelled in 2D and 3D
NEAREST_M = 0.5  # joints nearer than this are about a root, not in the camera's frame
# Of a person's extent in 2D. 2D labels may be detections, and gendered bodies are posed as neutral ones.
TOLERANCE, FOCAL_TOLERANCE = 0.08, 0.10
CLEARLY, NOISE = 0.6, 0.01  # another camera fits clearly better: below this share of the error, by this much
EXTENT_PX = 1.0  # smaller people are no measure


def camera(labels: Labels) -> Check:
    """Projection with the intrinsics meets the 2D joints: a median error of at most 8 % of a person's extent.

    The median focal length that fits best is within 10 % of the stated one, and no usual mistake fits clearly better.
    """
    arrays = labels.shard.arrays
    if CAMERA not in arrays:
        return skipped("camera", "the shard has no intrinsics")
    cameras = arrays[CAMERA][labels.rows].astype(np.float64)
    known = np.isfinite(cameras).all(1) & cameras.any(1)
    if odd := int((cameras[known, :2] <= 0).any(1).sum()):
        return wrong("camera", f"{odd} of {int(known.sum())} people with intrinsics have a focal length of 0 or less")
    width = arrays["photo_px"][arrays["image"][labels.rows], 0].astype(np.float64)
    said, bad, counts = [], [], {}
    for name, three in _placed(labels).items():
        has = known & _comparable(labels, three)
        counts[f"intrinsics, 2D joints and {name} in the camera's frame"] = int(has.sum())
        if has.sum() >= ENOUGH:
            told, fault = _compared(name, labels, three, cameras, width, has)
            said.append(told)
            bad += [fault] if fault else []
    if not said:
        return too_few("camera", counts)
    return wrong("camera", f"{', '.join(said)}; {', '.join(bad)}") if bad else ok("camera", ", ".join(said))


def _placed(labels: Labels) -> dict[str, Float[np.ndarray, "N 54 4"]]:
    """Joints in the camera's frame, metres, with confidence: labelled, and of bodies with a translation."""
    out = {"3D joints": labels.keypoints3d}
    if labels.body54 is not None:
        is_placed = labels.has_body & labels.shard.arrays["transl"][labels.rows].any(1)
        out["bodies"] = labels.body54 * np.where(is_placed[:, None, None], 1, (1, 1, 1, 0))
    return out


def _both(labels: Labels, three: Float[np.ndarray, "N 54 4"]) -> Bool[np.ndarray, "N 54"]:
    return (labels.keypoints2d[..., 2] > 0) & (three[..., 3] > 0)


def _comparable(labels: Labels, three: Float[np.ndarray, "N 54 4"]) -> Bool[np.ndarray, " N"]:
    """Who has enough joints in 2D and 3D, all of these before the camera."""
    both = _both(labels, three)
    return (both.sum(1) >= JOINTS) & np.where(both, three[..., 2] > NEAREST_M, True).all(1)


def _compared(
    name: str,
    labels: Labels,
    three: Float[np.ndarray, "N 54 4"],
    cameras: Cameras,
    width: Float[np.ndarray, " N"],
    has: Bool[np.ndarray, " N"],
) -> tuple[str, str]:
    """What was found about these people, and the fault or an empty string."""
    weight = _both(labels, three)[has].astype(np.float64)
    target = in_photo(labels, labels.keypoints2d[..., :2])[has]
    rays = three[has, :, :2] / np.where(weight > 0, three[has, :, 2], 1)[..., None]
    stated = cameras[has]
    factor = _focal_factor(rays, target, weight, stated)
    usual: Mapping[str, Cameras] = {
        "as stated": stated,
        "fx and fy are exchanged": stated[:, [1, 0, 2, 3]],
        "cx and cy are exchanged": stated[:, [0, 1, 3, 2]],
        "they are of the picture at half its size": _resized(stated, 2),
        "they are of the picture at twice its size": _resized(stated, 0.5),
        "they are of the mirrored picture": np.c_[stated[:, :2], width[has] - 1 - stated[:, 2], stated[:, 3]],
        f"focal lengths are {1 / factor:.2f} times the true ones": stated * [factor, factor, 1, 1],
    }
    errors = {what: float(np.median(_errors(rays, target, weight, one))) for what, one in usual.items()}
    best = min(errors, key=errors.__getitem__)
    here = errors["as stated"]
    told = f"{name} are off by {100 * here:.1f} % of a person's extent"
    if errors[best] < CLEARLY * here - NOISE:
        return told, f"{best} ({100 * errors[best]:.1f} %)"
    if here > TOLERANCE:
        return told, f"{100 * TOLERANCE:.0f} % are allowed: intrinsics of another picture, or labels of another frame"
    if abs(factor - 1) > FOCAL_TOLERANCE:
        return told, f"focal lengths are {1 / factor:.2f} times those that fit best"
    return told, ""


def _resized(cameras: Cameras, scale: float) -> Cameras:
    return np.c_[scale * cameras[:, :2], scaled(cameras[:, 2:], scale)]


def _focal_factor(
    rays: Float[np.ndarray, "M 54 2"], target: Float[np.ndarray, "M 54 2"], weight: np.ndarray, cameras: Cameras
) -> float:
    """The median of the factors by which focal lengths fit each person best, in least squares."""
    seen = cameras[:, None, :2] * rays * weight[..., None]
    there = (target - cameras[:, None, 2:]) * weight[..., None]
    factors = (seen * there).sum((1, 2)) / (seen**2).sum((1, 2)).clip(1e-12)
    return float(np.median(factors).clip(0.01))


def _errors(
    rays: Float[np.ndarray, "M 54 2"], target: Float[np.ndarray, "M 54 2"], weight: np.ndarray, cameras: Cameras
) -> Float[np.ndarray, " M"]:
    """Each person's mean distance of projected joints from 2D joints, relative to the extent of these."""
    away = np.linalg.norm(cameras[:, None, :2] * rays + cameras[:, None, 2:] - target, axis=2)
    masked = np.where(weight[..., None] > 0, target, np.nan)
    extent = (np.nanmax(masked, 1) - np.nanmin(masked, 1)).max(1).clip(EXTENT_PX)
    return (away * weight).sum(1) / weight.sum(1) / extent


CAMERA_CHECKS: dict[str, Callable[[Labels], Check]] = {camera.__name__: camera}
