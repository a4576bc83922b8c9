"""EMDB: two test sets of whole sequences, with gendered bodies in the camera frame."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw import emdb as made
from raw.placed import joints, store_with_body
from raw.pw3d import camera
from raw.sources import people_of, photos_of

from hmrb.data.convert.boxes import rotmat
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources.emdb import CONVERTERS, plan
from hmrb.errors import RequestError, RunError

SOURCE = CONVERTERS[0]
KEPT = [frame for frame in range(made.FRAMES) if frame not in (made.BAD, made.BOXLESS)]


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    made.write(tmp_path / "emdb")
    return Raw(tmp_path / "emdb", store=store_with_body(tmp_path / "home"))


def changed(raw: Raw, **values: Any) -> Raw:
    """The first sequence with changed values; None removes a key."""
    table = made.table_of("P0_00_outdoor_climb") | values
    path = made.file_of(raw.root, "P0_00_outdoor_climb")
    path.write_bytes(pickle.dumps({key: value for key, value in table.items() if value is not None}))
    return raw


def test_a_sequence_is_in_the_sets_that_it_names(raw: Raw) -> None:
    found = {part.split: [path.parent.name for path in part.items] for part in plan(raw)}
    assert found["emdb1"] == ["00_outdoor_climb", "02_outdoor_stairs"]
    assert found["emdb2"] == ["01_indoor_walk", "02_outdoor_stairs"]
    assert len(found) == 2


def test_frames_that_are_not_good_or_have_no_box_are_left_out_and_the_others_keep_their_numbers(raw: Raw) -> None:
    photos = photos_of(plan(raw), "emdb1")
    for start, folder, sequence in (
        (0, "P0/00_outdoor_climb", "P0_00_outdoor_climb"),
        (len(KEPT), "P1/02_outdoor_stairs", "P1_02_outdoor_stairs"),
    ):
        these = photos[start : start + len(KEPT)]
        assert [photo.name for photo in these] == [f"{folder}/images/{frame:05d}.jpg" for frame in KEPT]
        assert [photo.people[0].columns for photo in these] == [
            {"sequence": sequence, "frame": frame} for frame in KEPT
        ]
    assert len(photos) == 2 * len(KEPT)


def test_the_body_projects_onto_the_labelled_pixels(raw: Raw) -> None:
    for person in people_of(plan(raw), "emdb2"):
        points = joints(person)
        fx, fy, cx, cy = person.camera
        pixels = points[:, :2] / points[:, 2:] * (fx, fy) + (cx, cy)
        # labels are float32, and a metre is 75 pixels
        np.testing.assert_allclose(pixels, person.keypoints2d[:, :2], atol=0.02)


def test_labels_are_the_person_s_own(raw: Raw) -> None:
    true = made.cast("P0_00_outdoor_climb")
    for frame, person in zip(KEPT, people_of(plan(raw), "emdb1")[: len(KEPT)], strict=True):
        np.testing.assert_allclose(rotmat(person.pose[0]), rotmat(true[frame].pose[0]), atol=1e-5)  # float32
        np.testing.assert_array_equal(person.pose[1:], true[frame].pose[1:])
        np.testing.assert_array_equal(person.betas, true[frame].betas)
        np.testing.assert_allclose(person.transl, true[frame].transl, atol=1e-5)
        np.testing.assert_allclose(person.box, true[frame].box(), rtol=1e-4)  # corners are subtracted in float32
        assert (person.keypoints2d[:, 2] == 1).all()
        np.testing.assert_allclose(person.extra["world_to_camera"], camera(frame)[:3].ravel(), rtol=1e-6)
    assert {person.gender for person in people_of(plan(raw), "emdb1")} == {"female", "male"}


def test_without_a_body_there_is_no_translation(raw: Raw, tmp_path: Path) -> None:
    bare = Raw(raw.root, store=type(raw.store)(tmp_path / "empty"))
    person = people_of(plan(bare), "emdb1")[0]
    assert person.has_body
    assert not person.transl.any()


def test_converting_keeps_the_pictures_bytes_and_the_sequence(raw: Raw, tmp_path: Path) -> None:
    store = store_with_body(tmp_path / "out")
    infos = convert(SOURCE, plan(raw), store, ConversionOptions("a test"), ProgressReporter())
    assert {info.split: info.num_people for info in infos} == {"emdb1": 2 * len(KEPT), "emdb2": 2 * len(KEPT)}
    shard = Shard(store.shard("emdb", "emdb1"))
    assert shard.read(0).jpeg == (raw.root / shard.read(0).name).read_bytes()
    assert len(set(shard.arrays["columns/sequence"][:].tolist())) == 2


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"smpl": None}, "missing 'smpl'; is this the dataset's original file"),
        ({"kp2d": np.zeros((3, 24, 2))}, "'kp2d' is not an array of 15 x 24 x 2 numbers"),
        ({"gender": "x"}, "unknown gender 'x'; known: neutral, male, female"),
        ({"bboxes": {"bboxes": np.zeros((15, 5))}}, "'bboxes' is not an array of 15 x 4 numbers"),
    ],
)
def test_a_sequence_out_of_step_is_named(raw: Raw, values: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError) as refusal:
        photos_of(plan(changed(raw, **values)), "emdb1")
    assert said in str(refusal.value)
    assert "P0_00_outdoor_climb_data.pkl" in str(refusal.value)


def test_what_is_missing_is_said(raw: Raw, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match=r"contains no \*/\*/\*_data.pkl"):
        plan(Raw(tmp_path / "empty"))
    with pytest.raises(
        RunError, match="P0_00_outdoor_climb_data.pkl: missing 'emdb1'; is this the dataset's original file"
    ):
        plan(changed(raw, emdb1=None))
    for sequence in list(made.SEQUENCES)[:3]:
        made.file_of(raw.root, sequence).unlink()
    with pytest.raises(RequestError, match="none of 1 sequences belongs to emdb1 or emdb2"):
        plan(raw)


def test_a_sequence_that_is_code_is_not_run(raw: Raw) -> None:
    made.file_of(raw.root, "P0_00_outdoor_climb").write_bytes(pickle.dumps(print))
    with pytest.raises(RunError, match="asks for .*print"):
        plan(raw)
