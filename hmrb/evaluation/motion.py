"""Consecutive frames of sequences, and metrics of the motion in them."""

import re
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.data.shard import Shard
from hmrb.evaluation.metrics import acceleration_error, jitter


@dataclass(frozen=True, slots=True)
class Frames:
    """People sorted by track and frame, and whether each directly follows the previous one in the same track."""

    order: Int[np.ndarray, " N"]
    follows: Bool[np.ndarray, " N"]

    @classmethod
    def of(cls, shard: Shard, rows: Int[np.ndarray, " N"]) -> "Frames":
        """Columns sequence and, if present, person identify a track; the last number in a name is the frame."""
        if "sequence" not in shard.columns:
            return cls(np.arange(len(rows)), np.zeros(len(rows), bool))
        sequence = shard.arrays["columns/sequence"][rows].astype(np.int64)
        person = shard.arrays["columns/person"][rows] if "person" in shard.columns else np.zeros(len(rows))
        frame = np.array([_last_number(bytes(name)) for name in shard.arrays["name"][rows]])
        order = np.lexsort((frame, person, sequence))
        same = np.ones(len(rows), bool)
        for key, step in ((sequence, 0), (person, 0), (frame, 1)):
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


def _last_number(name: bytes) -> int:
    found = re.findall(rb"\d+", name)
    return int(found[-1]) if found else -1
