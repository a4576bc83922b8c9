"""Pictures as arrays of pixels."""

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.errors import RunError


class UnreadablePicture(RunError):
    """A picture that is missing, cut short or none."""


def decoded(data: bytes, label: str) -> UInt8[np.ndarray, "H W 3"]:
    """RGB pixels of a whole picture. Raises UnreadablePicture, headed by `label`."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadablePicture(f"{label}: can't be decoded")
    if data[:2] == b"\xff\xd8" and b"\xff\xd9" not in data[-4096:]:
        raise UnreadablePicture(f"{label}: is cut short")  # decoders fill the rest with grey
    return np.asarray(image)
