"""Boxes: which are of one person, which of several, and what is cut off."""

import numpy as np
import pytest

from hmrb.detect.boxes import Detections, agree, check_picture, overlaps, sort_and_clip, suppress
from hmrb.errors import RequestError


def found(*rows: tuple[float, ...]) -> Detections:
    values = np.array(rows, float).reshape(-1, 5)
    return Detections(values[:, :4], values[:, 4])


def test_overlap_is_intersection_over_union() -> None:
    box = np.array([0.0, 0, 10, 10])
    others = np.array([[0.0, 0, 10, 10], [5, 0, 10, 10], [0, 0, 10, 5], [20, 20, 5, 5], [3, 3, 0, 0]])
    assert overlaps(box, others) == pytest.approx([1, 1 / 3, 0.5, 0, 0])
    assert overlaps(np.zeros(4), np.zeros((1, 4))) == [0]


def test_boxes_end_at_the_picture_s_edges_and_are_sorted() -> None:
    boxes = np.array([[-5.0, -5, 10, 10], [90, 40, 20, 20], [200, 0, 5, 5], [10, 10, 5, 5]])
    kept = sort_and_clip(boxes, np.array([0.3, 0.9, 0.8, 0.5]), 100, 50)
    assert kept.boxes.tolist() == [[90, 40, 10, 10], [10, 10, 5, 5], [0, 0, 5, 5]]
    assert kept.scores.tolist() == [0.9, 0.5, 0.3]


def test_of_two_boxes_of_a_person_the_better_stays() -> None:
    seen = found((0, 0, 10, 20, 0.9), (1, 0, 10, 20, 0.8), (6, 0, 10, 20, 0.7))
    assert suppress(seen).scores.tolist() == [0.9, 0.7]
    assert len(suppress(found())) == 0


def test_looks_that_agree_give_their_median_and_one_alone_counts_less() -> None:
    first = found((50, 0, 10, 20, 0.9), (0, 0, 10, 20, 0.6))
    merged = agree([first, found((2, 0, 10, 20, 0.3)), found((1, 0, 10, 20, 0.3))])
    assert merged.scores == pytest.approx([0.4, 0.3])
    assert merged.boxes.tolist() == [[1, 0, 10, 20], [50, 0, 10, 20]]
    assert len(agree([found(), found()])) == 0


def test_two_people_whom_one_look_tells_apart_stay_two() -> None:
    apart = found((0, 0, 10, 20, 0.6), (5, 0, 10, 20, 0.6))
    assert len(agree([apart, apart])) == 2


@pytest.mark.parametrize(
    ("picture", "says"),
    [
        (np.zeros((4, 5), np.uint8), r"uint8 and shape \(4, 5\)"),
        (np.zeros((4, 5, 4), np.uint8), r"uint8 and shape \(4, 5, 4\)"),
        (np.zeros((4, 5, 3), np.float32), r"float32 and shape \(4, 5, 3\)"),
        (np.zeros((0, 5, 3), np.uint8), r"uint8 and shape \(0, 5, 3\)"),
    ],
)
def test_what_is_no_rgb_picture_is_refused(picture: np.ndarray, says: str) -> None:
    with pytest.raises(
        RequestError, match=says + r"; a detector takes RGB pixels: uint8 of shape \(height, width, 3\)"
    ):
        check_picture(picture)
