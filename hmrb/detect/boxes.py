"""Boxes of people: what a detector takes and gives, and how boxes of one person become one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from hmrb.errors import RequestError

SAME_PERSON = 0.5  # intersection over union from which two boxes are of one person, as PASCAL VOC counts hits


@dataclass(frozen=True, slots=True)
class Detections:
    """The people found in a picture, those with the highest score first.

    A box is x, y, width, height in pixels, (0, 0) at the picture's upper left corner. It surrounds what the picture
    shows of a person, and ends at the picture's edges. Scores are in 0..1; those of two detectors cannot be compared.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]

    def __len__(self) -> int:
        return len(self.scores)

    def pick(self, which: Bool[np.ndarray, " N"]) -> "Detections":
        """Those that `which` marks."""
        return Detections(self.boxes[which], self.scores[which])


@runtime_checkable
class Detector(Protocol):
    """Finds the people in a picture."""

    def __call__(self, picture: UInt8[np.ndarray, "H W 3"]) -> Detections:
        """The people in an RGB picture. Raises RequestError if it is none."""
        ...


def check_picture(picture: np.ndarray) -> None:
    """Raises RequestError unless the array is an RGB picture of at least one pixel."""
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise RequestError(
            f"no picture, but an array of type {picture.dtype} and shape {picture.shape}; a detector takes RGB pixels:"
            " uint8 of shape (height, width, 3), none of them 0; repeat a grey picture three times"
        )


def sort_and_clip(
    boxes: Float[np.ndarray, "N 4"], scores: Float[np.ndarray, " N"], width: int, height: int
) -> Detections:
    """Boxes in a picture of `width` x `height` px: cut at its edges, highest score first, those outside left out."""
    low = np.clip(boxes[:, :2], 0, (width, height))
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, (width, height))
    order = np.argsort(-scores, kind="stable")
    order = order[(high > low).all(axis=1)[order]]
    return Detections(np.concatenate([low, high - low], axis=1)[order], scores[order])


def overlaps(box: Float[np.ndarray, "4"], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """Intersection over union of one box with each of several; 0 for boxes without area."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[:2] + box[2:], boxes[:, :2] + boxes[:, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=1)
    either = box[2:].prod() + boxes[:, 2:].prod(axis=1) - shared
    return np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)


def suppress(found: Detections) -> Detections:
    """Of boxes of one person that with the highest score; `found` is sorted by score."""
    keeps = np.zeros(len(found), bool)
    for index, box in enumerate(found.boxes):
        keeps[index] = (overlaps(box, found.boxes[keeps]) < SAME_PERSON).all()
    return found.pick(keeps)


def agree(looks: Sequence[Detections]) -> Detections:
    """The people of several looks at one picture: the median of their boxes, the mean of their scores.

    Within a look, each person has one box. A look that misses a person counts as score 0, so that what one look alone
    sees gets a low score.
    """
    boxes = np.concatenate([look.boxes for look in looks])
    scores = np.concatenate([look.scores for look in looks])
    source = np.repeat(np.arange(len(looks)), [len(look) for look in looks])
    order = np.argsort(-scores, kind="stable")
    boxes, scores, source = boxes[order], scores[order], source[order]
    is_free = np.ones(len(scores), bool)
    merged_boxes, merged_scores = [], []
    for index, box in enumerate(boxes):
        if not is_free[index]:
            continue
        group = np.flatnonzero(is_free & (overlaps(box, boxes) >= SAME_PERSON))
        group = group[np.unique(source[group], return_index=True)[1]]  # the best of each look
        is_free[group] = False
        merged_boxes.append(np.median(boxes[group], axis=0))
        merged_scores.append(scores[group].sum() / len(looks))
    order = np.argsort(-np.array(merged_scores), kind="stable")
    return Detections(np.array(merged_boxes).reshape(-1, 4)[order], np.array(merged_scores)[order])
