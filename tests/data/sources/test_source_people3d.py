"""3DPeople, read from an artificial tree in its format."""

from pathlib import Path

import numpy as np
import pytest
from raw import people3d
from raw.sources import made, photos_of

from hmrb.data.convert.conversion import Raw
from hmrb.data.sources.people3d import plan
from hmrb.errors import RequestError, RunError

HUNDREDTHS = 1e-4  # the tree has four digits of pixels and of decimetres
MILLIMETRE = 1e-3  # error of a camera fitted to these rounded numbers, from three metres on


def test_points_are_in_pixels_and_in_metres_of_the_camera(tmp_path: Path) -> None:
    truth = people3d.write(tmp_path)
    photos = photos_of(plan(Raw(tmp_path)), "train")
    assert len(photos) == 12
    for photo in photos:
        (person,) = photo.people
        pixels, metres = truth[photo.name]
        np.testing.assert_allclose(person.keypoints2d[:, :2], pixels, atol=HUNDREDTHS)
        np.testing.assert_allclose(person.keypoints3d[:, :3], metres, atol=MILLIMETRE)
        assert (person.keypoints3d[:, 3] == 1).all()
        size = pixels.max(0) - pixels.min(0)
        np.testing.assert_allclose(person.box[2:], 1.2 * size, rtol=1e-4)
        assert person.columns["camera_error_px"] < 0.01


def test_characters_have_a_gender_and_a_split(tmp_path: Path) -> None:
    people3d.write(tmp_path)
    parts = plan(Raw(tmp_path))
    first, last = (photos_of(parts, split)[0] for split in ("train", "test"))
    assert (first.people[0].gender, last.people[0].gender) == ("male", "female")
    assert last.name == "rgb/woman34/02_04_jump/camera03/frames/0001.jpg"
    columns = last.people[0].columns
    assert (columns["sequence"], columns["camera"]) == ("woman34/02_04_jump/camera03", "camera03")


def test_compat_has_everybody_and_no_3d(tmp_path: Path) -> None:
    people3d.write(tmp_path)
    (part,) = plan(Raw(tmp_path, compat=True))
    photos = photos_of([part], "train")
    assert len(photos) == 18
    assert not any(person.keypoints3d.any() for photo in photos for person in photo.people)


def _spoil(path: Path) -> None:
    """Mirror the world, which no camera can compensate."""
    rows = np.loadtxt(path)
    rows[:, -1] *= -1
    np.savetxt(path, rows)


def test_a_frame_that_no_camera_fits_has_no_3d(tmp_path: Path) -> None:
    people3d.write(tmp_path)
    _spoil(tmp_path / "skeleton/man33/02_04_jump/camera01/0003.txt")
    photos = photos_of(plan(Raw(tmp_path)), "train")
    labelled = [bool(photo.people[0].keypoints3d.any()) for photo in photos]
    assert labelled == [number != 2 for number in range(12)]
    assert photos[2].people[0].columns["camera_error_px"] > 0.8
    assert (photos[2].people[0].keypoints2d[:, 2] == 1).all()


def test_a_world_that_no_camera_fits_is_refused_at_once(tmp_path: Path) -> None:
    people3d.write(tmp_path)
    _spoil(tmp_path / "skeleton/man33/02_04_jump/camera01/0001.txt")
    with pytest.raises(
        RunError, match="the first two columns are not a projection of the last three: [0-9.]+ pixels off"
    ):
        plan(Raw(tmp_path))


def test_what_a_broken_tree_lacks_is_said(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no rgb/\*/\*/camera\*"):
        plan(Raw(tmp_path))
    people3d.write(tmp_path)
    path = tmp_path / "skeleton/man33/02_04_jump/camera01/0002.txt"
    path.write_text(path.read_text()[:500])
    with pytest.raises(RunError, match="0002.txt: not 67 rows of numbers"):
        photos_of(plan(Raw(tmp_path)), "train")
    path.unlink()
    with pytest.raises(RequestError, match="0002.txt: no such file"):
        photos_of(plan(Raw(tmp_path)), "train")
    (tmp_path / "rgb/man33").rename(tmp_path / "rgb/child")
    with pytest.raises(RequestError, match="a character's name is like woman01 or man01, not child"):
        plan(Raw(tmp_path))


def test_the_tree_becomes_a_shard(tmp_path: Path) -> None:
    people3d.write(tmp_path / "raw")
    assert made("3dpeople", tmp_path).num_people == 12
