"""Photographed places: panoramas under CC0 whose floor and horizon fit any camera. LICENSE.md says where from."""

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from hmrb.errors import RunError
from hmrb.formats.pictures import UnreadablePicture, read_pixels

HERE = Path(__file__).parent
PANORAMAS: dict[str, tuple[str, ...]] = {
    "train": (
        "assets_apartment", "assets_bridge", "assets_dawn", "assets_esplanade", "assets_forest", "assets_lab",
        "assets_night", "assets_sunset", "assets_venice", "assets_warehouse", "assets_workshop", "blender_city",
        "blender_forest", "blender_night", "blender_studio", "blender_sunrise", "blender_sunset",
    ),
    "val": ("assets_hall", "assets_park", "blender_interior"),
    "test": ("assets_city", "assets_lobby", "blender_courtyard"),
}  # fmt: skip
"""The places of each split: their order decides who stands where."""


def look_into(
    name: str, rays: Float[np.ndarray, "N 3"], side: int, heading: float, widen: float
) -> Float[np.ndarray, "S S 3"]:
    """What a place shows along rays (right, up, ahead of a level camera), RGB in 0..1; side * side = N.

    `heading` turns the camera, in radians; slopes are multiplied by `widen`, as a shorter focal length would. Raises
    RunError if the package has lost the file.
    """
    right, up, ahead = rays.T
    panorama = _panorama(name)
    high, wide, _ = panorama.shape
    turned = np.arctan2(right * np.float32(widen), ahead) + np.float32(heading)
    lifted = np.arctan2(up * np.float32(widen), np.hypot(right * np.float32(widen), ahead))
    column = (turned / (2 * np.pi) % 1 * wide - 0.5).astype(np.float32)
    row = ((0.5 - lifted / np.pi) * high - 0.5).astype(np.float32)
    seen = cv2.remap(
        panorama, column.reshape(side, side), row.reshape(side, side), cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP
    )
    return np.asarray(seen.astype(np.float32) / 255)


@cache  # 19 MB in all
def _panorama(name: str) -> UInt8[np.ndarray, "H W 3"]:
    try:
        return read_pixels(HERE / f"{name}.jpg")
    except UnreadablePicture as error:
        raise RunError(f"{error}; it is a file of hmrb: install hmrb again") from None
