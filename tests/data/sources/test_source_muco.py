"""MuCo-3DHP and MuPoTs-3D: several people per image, millimetres, bodies by annotation id."""

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from raw import muco as made
from raw import mupots3d as made_mupots
from raw.placed import joints

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

KEPT = 2 * made.PICTURES - 3


def photos(root: Path, name: str = "muco", compat: bool = False) -> list[Photo]:
    (part,) = CONVERTERS[name].plan(Raw(root, compat))
    return [photo for item in part.items for photo in part.read(item) if photo.people]


def test_everybody_with_a_fit_and_a_visible_pelvis_is_kept(tmp_path: Path) -> None:
    made.write(tmp_path)
    found = {photo.name: len(photo.people) for photo in photos(tmp_path)}
    expected = {made.picture_name(number): 2 for number in range(made.PICTURES)}
    expected[made.picture_name(3)] = 1
    del expected[made.picture_name(2)]  # one of its two people has no fit, the other's is NaN
    assert found == expected


def test_labels_of_muco_are_metres_and_the_body_lies_on_its_pixels(tmp_path: Path) -> None:
    people = made.write(tmp_path)
    photo = next(photo for photo in photos(tmp_path) if photo.name == made.picture_name(4))
    for number, (person, who) in enumerate(zip(photo.people, people[4], strict=True)):
        seen = np.arange(21) != 18 if number == 1 else np.full(21, True)
        points = who.points3d("muco_21")
        np.testing.assert_allclose(person.keypoints3d[seen, :3], points[seen], rtol=1e-5)
        np.testing.assert_allclose(person.keypoints2d[seen, :2], who.points2d("muco_21")[seen], rtol=1e-5)
        assert not person.keypoints2d[~seen].any()
        assert not person.keypoints3d[~seen].any()
        np.testing.assert_allclose(person.box, who.box(1.1), rtol=1e-5)
        fx, fy, cx, cy = person.camera
        there = joints(person)
        pixels = there[:, :2] / there[:, 2:] * (fx, fy) + (cx, cy)
        np.testing.assert_allclose(pixels, who.pixels[:24], atol=0.01)  # float32 at 50 pixels a metre
        assert person.columns["half"] == "augmented"


def test_halves_are_datasets_of_their_own(tmp_path: Path) -> None:
    made.write(tmp_path)
    halves = {name: [photo.name for photo in photos(tmp_path, name)] for name in made.TREES}
    assert all(name.startswith("augmented_set/") for name in halves["muco_augmented"])
    assert all(name.startswith("unaugmented_set/") for name in halves["muco_unaugmented"])
    assert sorted(halves["muco_augmented"] + halves["muco_unaugmented"]) == sorted(halves["muco"])
    assert (len(halves["muco_augmented"]), len(halves["muco_unaugmented"])) == (6, 2)


def test_the_study_s_layout_is_found_and_its_labels_have_no_3d_points(tmp_path: Path) -> None:
    made.write(tmp_path / "muco", layout="study")
    found = photos(tmp_path / "muco", compat=True)
    assert found[0].name == f"images/{made.picture_name(0)}"
    assert found[0].file is not None
    assert found[0].file.exists()
    assert all(not person.keypoints3d.any() and person.has_body for photo in found for person in photo.people)


def test_muco_converts(tmp_path: Path) -> None:
    made.write_all(tmp_path / "raw")
    source = CONVERTERS["muco"]
    (info,) = convert(
        source,
        source.plan(Raw(tmp_path / "raw")),
        Store(tmp_path / "home"),
        ConversionOptions("a test"),
        ProgressReporter(),
    )
    assert info.num_people == KEPT


def test_what_muco_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no MuCo-3DHP.json or data/MuCo-3DHP.json"):
        photos(tmp_path)
    made.write(tmp_path)
    fits = tmp_path / "smpl_param.json"
    whole = json.loads(fits.read_text())
    fits.write_text(json.dumps(whole | {"0": {"pose": [0] * 71, "shape": [0] * 10, "trans": [0] * 3}}))
    with pytest.raises(RunError, match="smpl_param.json: 0: 'pose' is not an array of 24 x 3 numbers"):
        photos(tmp_path)
    fits.write_text(json.dumps(whole)[:100])
    with pytest.raises(RunError, match=r"smpl_param.json: not a JSON file, or truncated"):
        photos(tmp_path)
    fits.write_text(json.dumps({}))
    with pytest.raises(RequestError, match="no person in either half has a fit"):
        photos(tmp_path)
    (tmp_path / "MuCo-3DHP.json").write_text('{"images": []}')
    with pytest.raises(RunError, match="missing 'annotations'; is this the dataset's original file"):
        photos(tmp_path)


def test_a_picture_outside_of_the_folder_is_refused(tmp_path: Path) -> None:
    made.write(tmp_path)
    table = json.loads((tmp_path / "MuCo-3DHP.json").read_text())
    table["images"][0]["file_name"] = "../../secret.jpg"
    (tmp_path / "MuCo-3DHP.json").write_text(json.dumps(table))
    with pytest.raises(RunError, match="which is outside this folder; rejected"):
        photos(tmp_path)


def test_labels_of_mupots_are_metres_of_the_people_who_are_valid(tmp_path: Path) -> None:
    people = made_mupots.write(tmp_path)
    found = photos(tmp_path, "mupots3d")
    assert [photo.name for photo in found] == [f"MultiPersonTestSet/TS1/img_{n:06d}.jpg" for n in range(5)]
    assert [len(photo.people) for photo in found] == [2, 2, 1, 2, 2]
    for photo, here in zip(found[3:], people[3:], strict=True):
        for number, (person, who) in enumerate(zip(photo.people, here, strict=True)):
            pixels = who.points2d("mpi_inf_3dhp_test")
            np.testing.assert_allclose(person.keypoints3d[:, :3], who.points3d("mpi_inf_3dhp_test"), rtol=1e-5)
            np.testing.assert_allclose(person.keypoints2d, np.c_[pixels, np.ones(17)], rtol=1e-5)
            np.testing.assert_allclose(person.box[2:], 1.2 * (pixels.max(0) - pixels.min(0)), rtol=1e-5)
            assert person.columns == {"sequence": "TS1", "person": number, "occlusion": pytest.approx(number * 4 / 17)}


def test_as_in_the_study_mupots_has_the_normalised_skeleton(tmp_path: Path) -> None:
    people = made_mupots.write(tmp_path, occlusion=False)
    person = photos(tmp_path, "mupots3d", compat=True)[0].people[1]
    true = made_mupots.UNIVERSAL * people[0][1].points3d("mpi_inf_3dhp_test")
    np.testing.assert_allclose(person.keypoints3d[:, :3], true, rtol=1e-5)
    assert person.columns["occlusion"] == 0


def test_mupots_converts_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    made_mupots.write_all(tmp_path / "raw")
    source = CONVERTERS["mupots3d"]
    parts = source.plan(Raw(tmp_path / "raw"))
    assert [path.parent.name for path in parts[0].items] == ["TS2", "TS10"]
    (info,) = convert(source, parts, Store(tmp_path / "home"), ConversionOptions("a test"), ProgressReporter())
    assert info.num_people == 18


def test_what_mupots_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"contains no MultiPersonTestSet/TS\*/annot.mat"):
        photos(tmp_path, "mupots3d")
    made_mupots.write(tmp_path)
    folder = tmp_path / "MultiPersonTestSet/TS1"
    scipy.io.savemat(folder / "occlusion.mat", {"occlusion_labels": np.full((3, 2), 0, object)})
    with pytest.raises(RunError, match=r"occlusion_labels has \(3, 2\) frames and people, but annot.mat has \(5, 2\)"):
        photos(tmp_path, "mupots3d")
    cells = np.empty((1, 1), object)
    for cell, said in (
        ({"annot2": np.zeros((2, 17))}, "a cell of annotations has no annot3"),
        ({"annot2": np.zeros((2, 14))}, r"annot2 has shape \(2, 14\), expected \(2, 17\)"),
    ):
        cells[0, 0] = cell
        (folder / "occlusion.mat").unlink(missing_ok=True)
        scipy.io.savemat(folder / "annot.mat", {"annotations": cells})
        with pytest.raises(RunError, match=said):
            photos(tmp_path, "mupots3d")
