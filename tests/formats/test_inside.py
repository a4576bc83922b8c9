"""What an annotation may name: the text is judged, links that the user made are followed."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from hmrb.data.convert.packed_files import pictures_in
from hmrb.errors import RunError
from hmrb.formats.inside import inside

CLIMBS = [
    "../secret.jpg", "a/../../secret.jpg", "a/../b.jpg", "/etc/passwd", "..\\secret.jpg", "C:\\a.jpg", "c:a.jpg",
    "a\0.jpg", "a\nb.jpg", "\\\\host\\a.jpg", "/dev/zero",
]  # fmt: skip


@pytest.mark.parametrize("name", CLIMBS)
def test_names_that_climb_out_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        inside(tmp_path, name)
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        pictures_in(tmp_path)(name)


def test_links_are_followed_wherever_the_user_made_them(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    (tmp_path / "disk" / "a.jpg").write_bytes(jpeg)
    (tmp_path / "in" / "images").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "deep" / "link").symlink_to(tmp_path / "disk")
    (tmp_path / "in" / "deep" / "b.jpg").symlink_to(tmp_path / "disk" / "a.jpg")
    for name in ("images/a.jpg", "deep/link/a.jpg", "deep\\b.jpg"):
        assert pictures_in(tmp_path / "in")(name) == jpeg


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name in ("pipe.jpg", "zero.jpg", "folder.jpg"):
        with pytest.raises(RunError, match=f"{name}: image cannot be read: (it is not a regular|a folder, not a) file"):
            pictures_in(tmp_path)(name)


def test_a_file_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(10**10)
    with pytest.raises(RunError, match="image cannot be read: it is larger than 500,000,000 bytes"):
        pictures_in(tmp_path)("a.jpg")
