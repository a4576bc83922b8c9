"""Read video frames by number as photos."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2

from hmrb.errors import RunError
from hmrb.records import Photo

UNREADABLE = b"\0"  # data of an unreadable frame: no image format starts like this, so it counts as a missing image


def count_frames(path: Path) -> int:
    """Number of frames according to the video's header. Raises RunError if the file is not a readable video."""
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise RunError(f"{path}: not a video, or cannot be decoded")
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    return count


def frames(root: Path, name: str, numbers: Sequence[int]) -> Iterator[Photo]:
    """Yield frames as photos without people, named `name`/000123. Numbers start at 0; `numbers` must increase.

    Seeking is inexact in many videos, so all frames in between are read.
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
