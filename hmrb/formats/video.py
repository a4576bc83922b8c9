"""Frames of a video as photos, by their numbers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from hmrb.errors import RunError
from hmrb.records import Photo

UNREADABLE = b"\0"  # stands for a frame that can't be read: no picture begins so, and it counts as one that is missing


def count_frames(path: Path) -> int:
    """How many frames the video says it has. Raises RunError for what is no video."""
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise RunError(f"{path}: no video that can be decoded")
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return count


def frames(root: Path, name: str, numbers: Sequence[int]) -> Iterator[Photo]:
    """Photos without people, called `name`/000123, 0 the first; `numbers` rise.

    Seeking is inexact in many videos, so frames between are read over.
    """
    video = cv2.VideoCapture(str(root / name)) if (root / name).is_file() else None
    at = 0
    for number in numbers:
        while video and at <= number and video.grab():
            at += 1
        is_read, pixels = video.retrieve() if video and at > number else (False, None)
        label = f"{name}/{number:06d}"
        if is_read and pixels is not None:
            yield Photo(name=label, people=(), pixels=cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
        else:
            yield Photo(name=label, people=(), data=UNREADABLE)
    if video:
        video.release()
