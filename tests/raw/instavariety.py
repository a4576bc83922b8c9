"""InstaVariety's and VLOG's trees: TFRecords with one track per record."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from raw.people import Someone, draw, someone
from raw.tfrecord import write_records

SIDE = 224
FRAMES = 4
UNSEEN = 2  # frame of every track in which nothing is visible
NO_WRIST = 1  # frame of every track in which the right wrist is not visible
WRIST = 6
FOLDER = "/data9/private/frames_raw/yoga/video{:d}/frame{:06d}.jpg"


def write(root: Path, split: str = "train", seed: int = 0, phis: bool = True, toes: bool = True) -> list[Someone]:
    """Two files of three tracks of four frames; with phis in [-1, 1]."""
    everybody, tracks = [], []
    for track in range(6):
        people = [
            someone(seed + 100 * track + frame, (SIDE, SIDE), at=(0.4, 0.5), focal=220.0) for frame in range(FRAMES)
        ]
        tracks.append(_track(people, track, phis, toes))
        everybody += people
    for number in range(2):
        path = root / split / f"insta_variety_{number:02d}_copy00.tfrecord"
        write_records(path, tracks[3 * number : 3 * number + 3])
    return everybody


def _track(people: list[Someone], number: int, phis: bool, toes: bool) -> dict[str, Any]:
    points = np.array([np.c_[person.points2d("instavariety_nop"), np.ones(25)] for person in people])
    points[UNSEEN, :, 2] = 0
    points[NO_WRIST, WRIST] = 0
    if phis:
        points[..., :2] = 2 * points[..., :2] / SIDE - 1
    lists = points.transpose(0, 2, 1).astype(np.float32)
    names = [FOLDER.format(number, frame).encode() for frame in range(FRAMES + 3)]
    track: dict[str, Any] = {
        "meta/N": np.array([FRAMES]),
        "image/encoded": [_jpeg(person) for person in people],
        "image/filenames": names,
        "image/xys": lists[:, :2, :14],
        "image/visibilities": lists[:, 2, :14].astype(np.int64),
        "image/face_pts": lists[:, :, 14:19],
        "image/heightwidths": np.full((FRAMES, 2), SIDE),
        "image/centers": np.full((FRAMES, 2), -3),
        "mosh/poses": -np.ones((FRAMES, 72), np.float32),
    }
    track |= {"image/toe_pts": lists[:, :, 19:]} if toes else {}
    return track | ({"image/phis": np.zeros((FRAMES, 8), np.float32)} if phis else {})


def _jpeg(person: Someone) -> bytes:
    image = cv2.cvtColor(draw([person], (SIDE, SIDE)), cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


TREES = {"instavariety": write, "vlog": write}
