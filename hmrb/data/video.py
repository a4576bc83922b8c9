"""Frames of a video, by their numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.errors import RunError


def count_frames(path: Path) -> int:
    """How many frames the video says it has. Raises RunError for what is no video."""
    video = _open(path)
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return count


def read_frames(path: Path, numbers: Sequence[int]) -> Iterator[UInt8[np.ndarray, "H W 3"]]:
    """RGB frames, 0 the first; `numbers` rise. Seeking is inexact in many videos, so frames between are read over.

    Raises RunError where the video ends too early.
    """
    video = _open(path)
    try:
        at = 0
        for number in numbers:
            while at <= number:
                if not video.grab():
                    raise RunError(f"{path}: ends after {at} frames, frame {number} is labelled; get it again")
                at += 1
            is_read, frame = video.retrieve()
            if not is_read:
                raise RunError(f"{path}: frame {number} can't be decoded; get it again")
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()


def _open(path: Path) -> cv2.VideoCapture:
    video = cv2.VideoCapture(str(path)) if path.is_file() else None
    if video is None or not video.isOpened():
        raise RunError(f"{path}: {'no video that can be decoded' if video else 'no such file'}")
    return video
