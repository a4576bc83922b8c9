"""Whoever a converter leaves out is counted with the reason, while it plans and while it reads."""

from collections import Counter
from pathlib import Path

import pytest
from raw.placed import store_with_body
from test_raw_faults import converted
from test_sources import TREES

from hmrb.data.convert import reasons as why
from hmrb.data.convert.conversion import ConversionOptions, PhotoFilter, ProgressReporter, Raw, convert
from hmrb.data.convert.people import FEW
from hmrb.data.convert.reasons import BY_DESIGN
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RunError
from hmrb.records import Photo
from hmrb.store import Store

OURS, STUDY = False, True
# The people of each raw tree that become no item, or are in no photo.
LEFT_OUT: dict[tuple[str, bool], dict[str, int]] = {
    ("3dpw", OURS): {why.NO_CAMERA_POSE: 9, why.NO_POINTS: 3},
    ("agora", OURS): {why.HIDDEN_SCAN: 10},
    ("aic", OURS): {why.NO_POINTS: 1},
    ("aic", STUDY): {},
    ("cmu_mosh", OURS): {why.NO_BODY: 1},
    ("coco", OURS): {why.NO_LIMBS: 3, why.CROWD: 3},
    ("coco_wholebody", OURS): {why.NO_LIMBS: 1},
    ("crowdpose", OURS): {why.NOT_ALL_INSIDE: 2},
    ("emdb", OURS): {why.NOT_GOOD: 4, why.EMPTY_BOX: 4},
    ("h36m", OURS): {},
    ("h36m", STUDY): {why.NO_MOSH: 1},
    ("instavariety", OURS): {why.NO_POINTS: 6},
    ("lip", OURS): {why.FEW_VISIBLE: 1},
    ("mpi_inf_3dhp", OURS): {why.OUTSIDE_3DHP: 16, why.NO_FRAME: 2, why.NOT_VALID: 3},
    ("mpi_inf_3dhp", STUDY): {why.OUTSIDE_3DHP: 16, why.NO_FRAME: 2, why.NOT_VALID: 3, why.NOT_INSIDE_TEST: 3},
    ("mpii", OURS): {why.NOT_ALL_POINTS: 1},
    ("mtp", OURS): {why.NOBODY_DETECTED: 1},
    ("muco", OURS): {why.NO_FIT: 1, why.NO_BODY: 1, why.HIDDEN_PELVIS: 1},
    ("muco_augmented", OURS): {why.HIDDEN_PELVIS: 1},
    ("mupots3d", OURS): {why.NOT_VALID: 2},
    ("ochuman", OURS): {why.NO_POINTS: 1, why.NO_MASK: 1},
    ("posetrack", OURS): {why.NO_LIMBS: 2, why.NO_BOX: 2},
    ("prox", OURS): {why.NOBODY_DETECTED: 4},
    ("prox", STUDY): {why.NOBODY_DETECTED: 4, why.NO_SMPLX: 2},
    ("surreal", OURS): {why.NO_JOINT_INSIDE: 9, why.MALFORMED_CLIP: 1},
    ("surreal", STUDY): {},
}


@pytest.mark.parametrize(("slug", "compat"), LEFT_OUT)
def test_who_is_left_out_is_counted(slug: str, compat: bool, tmp_path: Path) -> None:
    TREES[slug](tmp_path / "raw")
    store, found = store_with_body(tmp_path / "home"), Counter[str]()
    for part in CONVERTERS[slug].plan(Raw(tmp_path / "raw", compat, store, name=slug)):
        found.update(part.left_out)
        for photo in (photo for item in part.items for photo in part.read(item)):
            assert isinstance(photo, Photo)
            found.update(photo.left_out)
    assert found == LEFT_OUT[slug, compat]
    assert 0 not in found.values()


def test_the_counts_are_told_and_a_rule_of_a_data_set_does_not_end_a_conversion(tmp_path: Path) -> None:
    TREES["ochuman"](tmp_path / "raw")
    said = converted("ochuman", tmp_path / "raw", Store(tmp_path / "home"))[1]
    assert said == [f"left out: 1 people: {why.NO_POINTS}", f"left out: 1 people: {why.NO_MASK}"]
    assert {why.NO_POINTS, why.NO_MASK} <= BY_DESIGN


def test_faulty_labels_found_while_planning_count_against_the_limit(tmp_path: Path) -> None:
    TREES["muco"](tmp_path / "raw")
    path = tmp_path / "raw" / "smpl_param.json"
    path = path if path.exists() else next((tmp_path / "raw").rglob("smpl_param.json"))
    text = path.read_text()
    start = text.index('"trans": [') + len('"trans": [')
    path.write_text(f"{text[:start]}NaN{text[text.index(',', start) :]}")
    with pytest.raises(RunError, match=f"{FEW + 1} of 16 people cannot be used, more than 5%: .*the body is not fini"):
        converted("muco", tmp_path / "raw", Store(tmp_path / "home"))


def test_a_selection_of_photos_is_the_same_and_loses_no_count(tmp_path: Path) -> None:
    """The count of an item comes after its photos, whose numbers `--every` looks at."""
    TREES["instavariety"](tmp_path / "raw")
    source, said, ticker = CONVERTERS["instavariety"], list[str](), ProgressReporter()
    ticker.say = said.append  # type: ignore[method-assign]
    parts = source.plan(Raw(tmp_path / "raw"))
    options = ConversionOptions("a test", selection=PhotoFilter(every=1000))
    (info,) = convert(source, parts, Store(tmp_path / "home"), options, ticker)
    assert info.num_people == 1
    assert said == [f"left out: 6 people: {why.NO_POINTS}"]
