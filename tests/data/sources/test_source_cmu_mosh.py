"""CMU MoSh: bodies without images, from each of its three forms."""

from pathlib import Path

import numpy as np
import pytest
from raw import cmu_mosh as made
from raw.pickled import save_python2

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.shard import Shard
from hmrb.data.sources import cmu_mosh
from hmrb.data.sources.cmu_mosh import CONVERTERS, plan
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

SOURCE = CONVERTERS[0]


@pytest.fixture(autouse=True)
def _forget_packed_files() -> None:
    cmu_mosh._packed.cache_clear()


def photos(root: Path) -> list[Photo]:
    (part,) = plan(Raw(root))
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def test_every_frame_of_hmr_s_pickles_is_a_body_but_the_broken_one(tmp_path: Path) -> None:
    first, second = made.write(tmp_path), made.write(tmp_path, "02/02_05", 20, key="new_poses")
    found = photos(tmp_path)
    names = [f"01/01_01/{row:06d}" for row in range(made.FRAMES) if row != made.BROKEN]
    assert [photo.name for photo in found] == names + [f"02/02_05/{row:06d}" for row in range(made.FRAMES)]
    (person,) = found[-1].people
    np.testing.assert_array_equal(person.pose, second[-1].pose)
    np.testing.assert_array_equal(person.betas, second[0].betas)
    np.testing.assert_array_equal(found[0].people[0].betas, first[0].betas)
    assert person.columns == {"sequence": "02/02_05"}
    assert not person.transl.any()
    assert person.has_body
    assert person.gender == "neutral"


@pytest.mark.parametrize("folder", ["neutrMosh", "neutrMosh/neutrSMPL_CMU"])
def test_hmr_s_release_is_found_from_its_inner_folders_too(tmp_path: Path, folder: str) -> None:
    made.write_all(tmp_path)
    assert len(photos(tmp_path / folder)) == len(photos(tmp_path))


@pytest.mark.parametrize("file", cmu_mosh.PACKED)
def test_packed_bodies_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    monkeypatch.setattr(cmu_mosh, "ROWS", 3)
    people = made.write_packed(tmp_path, file)
    assert [item[1:] for item in plan(Raw(tmp_path))[0].items] == [(0, 3), (3, 6), (6, 8)]
    found = photos(tmp_path)
    for row, (photo, who) in enumerate(zip(found, people, strict=True)):
        np.testing.assert_array_equal(photo.people[0].pose, who.pose)
        np.testing.assert_array_equal(photo.people[0].betas, who.betas)
        assert photo.name == f"{file.removesuffix('.npz')}/{row:06d}"


def test_amass_is_thinned_and_its_hands_are_open(tmp_path: Path) -> None:
    people = made.write_amass(tmp_path)
    found = photos(tmp_path)
    assert [photo.name for photo in found] == ["01/01_01/000000", "01/01_01/000004"]
    (person,) = found[1].people
    np.testing.assert_array_equal(person.pose[:22], people[4].pose[:22])
    assert not person.pose[22:].any()
    np.testing.assert_array_equal(person.betas, people[0].betas)
    assert person.gender == "female"


def test_a_rate_that_is_no_multiple_keeps_about_ten_a_second(tmp_path: Path) -> None:
    made.write_amass(tmp_path, rate=25.0)
    assert [photo.name[-1] for photo in photos(tmp_path)] == ["0", "2", "5", "7"]


def test_converting_writes_bodies_without_pictures(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    store = Store(tmp_path / "home")
    (info,) = convert(SOURCE, plan(Raw(tmp_path / "raw")), store, ConversionOptions("a test"), ProgressReporter())
    assert info.num_people == 2 * made.FRAMES - 1
    shard = Shard(store.shard("cmu_mosh", "train"))
    assert shard.arrays["has_body"][:].all()
    assert not len(shard.read(0).jpeg)
    np.testing.assert_array_equal(shard.read(0).pose, made.cast(0)[0].pose)


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="contains no neutrMosh/neutrSMPL_CMU"):
        plan(Raw(tmp_path))
    path = tmp_path / "neutrSMPL_CMU/01/01_01.pkl"
    for table, said in (
        ({"poses": np.zeros((3, 72))}, "missing poses or betas"),
        ({"poses": np.zeros((3, 69)), "betas": np.zeros(10)}, r"poses has shape \(3, 69\)"),
        ({"poses": np.zeros((3, 72)), "betas": np.zeros(5)}, r"betas has shape \(1, 5\)"),
    ):
        save_python2(path, table)
        with pytest.raises(RunError, match=f"01_01.pkl: {said}"):
            photos(tmp_path)
    path.unlink()
    betas = np.zeros((2, 10))
    for smpl, said in (
        ({"betas": betas}, "missing body_pose"),
        ({"betas": betas, "body_pose": np.zeros((2, 23, 3))}, r"pose has shape \(2, 69\)"),
        ({"betas": betas, "body_pose": np.zeros((3, 24, 3))}, "has 3 poses but 2 shapes"),
    ):
        np.savez(tmp_path / "cmu_mosh.npz", smpl=np.array(smpl, object))
        with pytest.raises(RunError, match=f"cmu_mosh.npz: {said}"):
            plan(Raw(tmp_path))
