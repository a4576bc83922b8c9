"""Consecutive frames of sequences, and metrics of the motion in them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.data.shard import Shard
from hmrb.evaluation.metrics import acceleration_error, jitter

TRACK = ("sequence", "person", "camera")
SUFFIX = re.compile(r"\.[A-Za-z][A-Za-z0-9]*$")
DIGITS = 18  # of a number that fit 64 bits


@dataclass(frozen=True, slots=True)
class Frames:
    """People sorted by track and frame, and whether each directly follows the previous one in the same track."""

    order: Int[np.ndarray, " N"]
    follows: Bool[np.ndarray, " N"]

    @classmethod
    def of(cls, shard: Shard, rows: Int[np.ndarray, " N"]) -> "Frames":
        """Columns sequence and, if present, person and camera identify a track; see `_frames` for the frame."""
        if "sequence" not in shard.columns:
            return cls(np.arange(len(rows)), np.zeros(len(rows), bool))
        keys = [key for key in TRACK if key in shard.columns]
        who = np.stack([shard.arrays[f"columns/{key}"][rows] for key in keys], 1)
        track = np.unique(who, axis=0, return_inverse=True)[1].reshape(len(rows))
        frame = _frames(shard, rows, track)
        order = np.lexsort((frame, track))
        same = np.ones(len(rows), bool)
        for key, step in ((track, 0), (frame, 1)):
            same &= np.diff(key[order], prepend=-np.inf) == step
        return cls(order, same)

    def motion(
        self, name: str, pred: Float[np.ndarray, "N J 3"], truth: Float[np.ndarray, "N J 3"], fps: float
    ) -> tuple[Float[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
        """Compute a metric of MOTION for consecutive frames; returns values and a mask, both set at the last frame."""
        one, other = (torch.from_numpy(side[self.order].astype(np.float64)) for side in (pred, truth))
        values = acceleration_error(one, other, fps) if name == "acceleration_error" else jitter(one, fps)
        frames = len(one) - len(values)  # frames before the last one
        out, counted = np.zeros(len(one), np.float32), np.zeros(len(one), bool)
        if len(values):
            in_a_row = np.stack([self.follows[1 + k : len(one) - frames + 1 + k] for k in range(frames)]).all(0)
            out[self.order[frames:][in_a_row]] = values.numpy()[in_a_row]
            counted[self.order[frames:][in_a_row]] = True
        return out, counted


def _frames(shard: Shard, rows: Int[np.ndarray, " N"], track: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The column frame, if the shard has numbers there, else the number in each name that counts within its track."""
    if "frame" in shard.columns and not shard.categories("frame"):
        return shard.arrays["columns/frame"][rows].astype(np.int64)
    frame = np.full(len(rows), -1, np.int64)
    order = np.argsort(track, kind="stable")
    for people in np.split(order, np.flatnonzero(np.diff(track[order])) + 1):
        if len(people):
            frame[people] = frame_numbers([shard.name(row) for row in rows[people].tolist()])
    return frame


def frame_numbers(names: Sequence[str]) -> list[int]:
    """For pictures of one track, the number that tells them apart: of those that differ, the one of most values.

    Of equally many values, it is the last. The suffix does not count (`000012.jp2`). -1 for a name without numbers.
    """
    stems = [SUFFIX.sub("", name) for name in names]
    groups = [re.findall(r"[0-9]+", stem) for stem in stems]
    if len({re.sub("[0-9]+", "0", stem) for stem in stems}) > 1:  # names of several patterns: the last of the file's
        groups = [re.findall(r"[0-9]+", stem.rpartition("/")[2])[-1:] for stem in stems]
        return [int(group[0][-DIGITS:]) if group else -1 for group in groups]
    if not groups or not groups[0]:
        return [-1] * len(names)
    columns = [[int(number[-DIGITS:]) for number in column] for column in zip(*groups, strict=True)]
    return max(reversed(columns), key=lambda column: len(set(column)))
