"""Frames of a sequence are numbered by what counts in their names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import person, write_shard

from hmrb.data.shard import Shard
from hmrb.evaluation.motion import Frames, frame_numbers

COUNTS = (7, 8, 9, 10, 12)


@pytest.mark.parametrize(
    "pattern",
    [
        "walk/{:06d}.jp2",
        "walk/frame_{}_cam0.jpg",
        "walk_2/image_{:05d}.jpg",
        "{:06d}.mp4",
        "frame_{:04d}/view3.png",
        "walk/clip.{:04d}",
        "s1/{:03d}/9.jpeg",
        "walk/20240101{:012d}.jpg",
        "{}",
    ],
)
def test_the_number_that_counts_is_the_frame(pattern: str) -> None:
    found = frame_numbers([pattern.format(count) for count in COUNTS])
    assert np.diff(found).tolist() == np.diff(COUNTS).tolist()


def test_the_number_of_most_values_is_the_frame() -> None:
    assert frame_numbers([f"{count}_cam{camera}.jpg" for count in COUNTS for camera in (0, 1)]) == [
        count for count in COUNTS for _ in (0, 1)
    ]
    assert frame_numbers(["a/1.jpg", "b/x2.jpg", "c.jpg"]) == [1, 2, -1]
    assert frame_numbers(["still.jpg", "still.jpg"]) == [-1, -1]
    assert frame_numbers([]) == []


def follows(tmp_path: Path, names: list[str], **columns: list[float]) -> list[bool]:
    people = [
        replace(person(i), name=name, columns={"sequence": "walk"} | {key: part[i] for key, part in columns.items()})
        for i, name in enumerate(names)
    ]
    shard = Shard(write_shard(tmp_path / "a.h5", people))
    return Frames.of(shard, np.arange(len(names))).follows.tolist()


def test_a_column_frame_is_the_frame(tmp_path: Path) -> None:
    names = [f"{i}.jpg" for i in range(4)]
    assert follows(tmp_path, names) == [False, True, True, True]
    assert follows(tmp_path, names, frame=[4.0, 5.0, 7.0, 8.0]) == [False, True, False, True]


def test_a_column_camera_parts_tracks(tmp_path: Path) -> None:
    names = [f"{i}_cam{camera}.jpg" for camera in (0, 1) for i in (3, 4, 5)]
    assert follows(tmp_path, names, camera=[0.0] * 3 + [1.0] * 3) == [False, True, True, False, True, True]
