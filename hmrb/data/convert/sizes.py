"""Whether an image is the one that the labels were made for, as far as its size shows."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.formats.pictures import UnreadablePicture

MOSTLY_OUTSIDE = "most of their keypoints are outside the image"
SAME_SHAPE = 0.02  # relative difference of the aspect ratios of an image and its resized copy, from rounding


def check_size(name: str, size: tuple[int, int], stated_px: tuple[int, int]) -> None:
    """Raises UnreadablePicture if an image (width, height) has another size than its annotations state."""
    if size == stated_px:
        return
    (width, height), (wanted, high) = size, stated_px
    if size == stated_px[::-1]:
        cause = "it was turned by 90 degrees, perhaps by its EXIF data; use the original files"
    elif abs(width * high / (height * wanted) - 1) < SAME_SHAPE:
        cause = "it is a resized copy; use the images in their original size"
    else:
        cause = "it is another image, or a cut one; use the dataset's own files"
    raise UnreadablePicture(
        f"{name}: image has {width} x {height} pixels, but its annotations state {wanted} x {high}: {cause}"
    )


def stated_size(table: Mapping[str, Any]) -> tuple[int, int] | None:
    """The `width` and `height` of an image in an annotation file; None if it states none."""
    try:
        width, height = int(table["width"]), int(table["height"])
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return (width, height) if width > 0 and height > 0 else None


def is_mostly_outside(points: Float[np.ndarray, "K 3"], size: tuple[int, int]) -> bool:
    """Whether more than half of the labelled keypoints are outside an image of this size (width, height)."""
    seen = points[points[:, 2] > 0, :2]
    inside = ((seen >= -1) & (seen <= size)).all(1)  # a pixel of tolerance: some labels count from 1
    return bool(2 * inside.sum() < len(seen))
