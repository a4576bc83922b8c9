"""Decode images into pixel arrays."""

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.errors import RunError


class UnreadablePicture(RunError):
    """An image that is missing, truncated or cannot be decoded."""


def decoded(data: bytes, label: str) -> UInt8[np.ndarray, "H W 3"]:
    """Decode an image to RGB pixels. Raises UnreadablePicture with a message that starts with `label`."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadablePicture(f"{label}: image cannot be decoded")
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
        raise UnreadablePicture(f"{label}: image is truncated")  # decoders fill the rest with grey
    return np.asarray(image)
