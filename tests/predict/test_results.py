"""Results: shapes and frames, meshes that can be read again, drawings, files that no picture shares."""

import json
import struct
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from photos import people

from hmrb.body import load_body
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.predict.drawing import LARGEST_PX, MOST_ROWS, MOVED, SMALLEST_PX, camera_to_draw, views
from hmrb.predict.outputs import OutputFolder, is_of_data, stems_of
from hmrb.predict.people import UPRIGHT, ShownPicture, joined
from hmrb.predict.pictures import PictureSource, in_tar
from hmrb.predict.plan import Plan
from hmrb.predict.request import prepare_folder
from hmrb.predict.wanted import Wanted, check_folder, parse_meshes


def test_points_are_those_of_the_body() -> None:
    some, body = people(3), load_body("open")
    mesh = body(torch.from_numpy(some.rotmats), torch.from_numpy(some.betas))
    np.testing.assert_allclose(some.vertices, mesh.vertices.numpy(), rtol=0, atol=1e-6)
    for skeleton in ("smpl24", "smpl54", "h36m17", "mesh24"):
        joints = body.joints(mesh, skeleton).numpy()
        np.testing.assert_allclose(some.joints(skeleton), joints, rtol=0, atol=1e-6)
    again = rotvec_to_rotmat(torch.from_numpy(some.rotvecs)).numpy()
    np.testing.assert_allclose(again, some.rotmats, rtol=0, atol=1e-6)
    with pytest.raises(RequestError, match="body 'open' has no joints 'coco'; it has smpl24, smpl54, mesh24, h36m17"):
        some.joints("coco")


def test_people_are_picked_and_joined() -> None:
    first, second = people(3), people(2)
    both = joined([first, second])
    assert (len(both), len(both.pictures), both.picture.tolist()) == (5, 2, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(both.of(1).betas, second.betas)
    assert both.of(1).pictures == second.pictures
    np.testing.assert_array_equal(both[4].camera[0], second.camera[1])
    assert len(both[1:3]) == 2
    assert len(both[both.picture == 0]) == 3
    assert len(both[both.picture == 9]) == 0


def test_meshes_are_read_again(tmp_path: Path) -> None:
    some = people(2)
    some.save_obj(tmp_path / "b.obj", 1)
    lines = (tmp_path / "b.obj").read_text().splitlines()
    corners = np.array([line.split()[1:] for line in lines if line.startswith("v ")], np.float64)
    faces = np.array([line.split()[1:] for line in lines if line.startswith("f ")], np.int64) - 1
    np.testing.assert_allclose(corners, some.vertices[1] * UPRIGHT, rtol=0, atol=6e-6)  # five decimals
    np.testing.assert_array_equal(faces, some.faces)
    some.save_glb(tmp_path / "b.glb", 1)
    tree, positions, normals, triangles = read_glb((tmp_path / "b.glb").read_bytes())
    np.testing.assert_array_equal(positions, some.vertices[1] * UPRIGHT)
    np.testing.assert_array_equal(triangles, some.faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-5)
    assert tree["accessors"][0]["max"] == positions.max(0).tolist()
    height = positions[:, 1].max() - positions[:, 1].min()
    assert height > np.ptp(positions[:, 2])  # y is up
    a, b, c = positions[triangles[:, 0]], positions[triangles[:, 1]], positions[triangles[:, 2]]
    assert (np.cross(a, b) * c).sum() > 0  # faces look outwards: the volume is positive


def read_glb(data: bytes) -> tuple[dict, np.ndarray, np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """A .glb by the standard: header, JSON chunk, binary chunk."""
    magic, version, size = struct.unpack_from("<4sII", data)
    assert (magic, version, size) == (b"glTF", 2, len(data))
    length, kind = struct.unpack_from("<I4s", data, 12)
    assert (kind, length % 4) == (b"JSON", 0)
    tree = json.loads(data[20 : 20 + length])
    start = 20 + length
    length, kind = struct.unpack_from("<I4s", data, start)
    assert (kind, start + 8 + length) == (b"BIN\0", size)
    buffer = data[start + 8 :]
    arrays = []
    for accessor in tree["accessors"]:
        view = tree["bufferViews"][accessor["bufferView"]]
        part = buffer[view["byteOffset"] : view["byteOffset"] + view["byteLength"]]
        dtype, width = {5126: "<f4", 5125: "<u4"}[accessor["componentType"]], {"VEC3": 3, "SCALAR": 1}[accessor["type"]]
        arrays.append(np.frombuffer(part, dtype).reshape(accessor["count"], width))
    return tree, arrays[0], arrays[1], arrays[2].reshape(-1, 3)


def test_a_drawing_covers_the_body_and_nothing_else() -> None:
    some = replace(people(1), pictures=(ShownPicture("a.jpg", (640, 480), np.zeros((480, 640, 3), np.uint8)),))
    drawn = some.draw()
    assert drawn.shape == (480, 640, 3)
    lit = drawn.max(2) > 0
    low, high = (f(some.picture_camera.project(some.vertices)[0], 0) for f in (np.min, np.max))
    rows, columns = lit.any(1).nonzero()[0], lit.any(0).nonzero()[0]
    np.testing.assert_allclose([columns[0], rows[0], columns[-1], rows[-1]], [*low, *high], rtol=0, atol=1.5)
    levels = np.unique(drawn[lit].max(1))
    assert (levels < 60).any()  # edges are mixed with the photo
    assert not np.array_equal(drawn, replace(some, camera=some.camera + [0, 0.1, 0]).draw())


@pytest.mark.parametrize(
    ("size", "expected"), [((64, 48), (640, 480)), ((4000, 3000), (1280, 960)), ((700, 900), (700, 900))]
)
def test_drawings_are_of_a_readable_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    some = replace(people(1), pictures=(ShownPicture("a.jpg", size, np.zeros((size[1], size[0], 3), np.uint8)),))
    assert some.draw().shape[1::-1] == expected
    assert SMALLEST_PX <= max(expected) <= LARGEST_PX


def test_the_nearest_person_is_on_top() -> None:
    """Two people at one place: the larger one is nearer, whatever their order."""
    black = (ShownPicture("a.jpg", (640, 480), np.zeros((480, 640, 3), np.uint8)),)
    both = replace(people(2), pictures=black)
    square = np.array([[320, 240, 200], [320, 240, 400]], np.float32)
    both = replace(both, square=square, focal_px=5000 * square[:, 2] / 224, box=np.zeros((2, 4), np.float32))
    first, second = both.draw(), both[np.array([1, 0])].draw()
    middle = slice(230, 250), slice(310, 330)
    other = replace(both[1], box=both.box[:1]).draw()  # the larger one alone is drawn in the first colour
    np.testing.assert_array_equal(second[middle], other[middle])  # the other does not shine through
    assert not np.array_equal(first[middle], second[middle])  # the same body in its own colour
    alone = both[0].draw()
    assert not np.array_equal(first[middle], alone[middle])


def test_a_camera_that_moves_the_bodies_is_not_drawn_through_and_that_is_said() -> None:
    camera, note = camera_to_draw(people(2))
    assert (camera.focal_px == people(2).focal_px).all()
    assert note == ""
    near = people(2, focal_px=np.full(2, 400, np.float32), camera_from=("EXIF FocalLengthIn35mmFilm",) * 2)
    camera, note = camera_to_draw(near)
    np.testing.assert_array_equal(camera.transl, near.crop_camera.transl)
    assert "drawn through each person's own camera; the picture's (EXIF FocalLengthIn35mmFilm) moves bodies" in note
    away = near.picture_camera.project(near.vertices) - near.crop_camera.project(near.vertices)
    assert (np.linalg.norm(away, axis=2).mean(1) / near.square[:, 2]).max() > MOVED


def test_a_sheet_of_many_people_says_who_is_missing() -> None:
    some = people(2)
    assert views(some).shape[1] == 4 * 256
    assert views(some).shape[0] == 2 * (256 + 24)
    assert MOST_ROWS == 64


def test_without_its_body_a_person_has_parameters_only(tmp_path: Path) -> None:
    bare = replace(people(2), body=None, body_name="smpl")
    for ask in (
        lambda: bare.vertices,
        lambda: bare.faces,
        bare.joints,
        bare.draw,
        lambda: bare.save_obj(tmp_path / "x"),
    ):
        with pytest.raises(RequestError, match="the files of body 'smpl' are not here"):
            ask()
    out = OutputFolder(tmp_path, Wanted())
    out.add(bare, (), "a/photo")
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["photo.json", "photo.npz"]
    tree = json.loads((tmp_path / "a" / "photo.json").read_text())
    assert len(tree["people"]) == 2
    assert "joints_m" not in tree["people"][0]
    assert np.isfinite(np.load(tmp_path / "a" / "photo.npz")["transl"]).all()


def test_parameters_are_the_same_in_json_and_npz(tmp_path: Path) -> None:
    some = people(2)
    out = OutputFolder(tmp_path, Wanted(overlay=False, meshes=()))
    out.add(some, (), "a/photo")
    tree, table = json.loads((tmp_path / "a" / "photo.json").read_text()), np.load(tmp_path / "a" / "photo.npz")
    for i, person in enumerate(tree["people"]):
        for key in ("box", "betas", "camera", "transl", "joints_m", "joints_px", "center_px"):
            np.testing.assert_array_equal(np.array(person[key], np.float32), table[key][i])
        np.testing.assert_array_equal(np.array(person["pose"], np.float32), some.rotvecs[i])
    assert tree["joint_names"] == table["joint_names"].tolist()


def test_no_two_pictures_share_files_and_none_leave_the_folder(tmp_path: Path) -> None:
    names = ["x.jpg", "x.png", "x.jpg", "../../x.jpg", "/etc/x.jpg", "predictions.jpg", "people.jpg", "", "C:\\x.jpg"]
    out = OutputFolder(tmp_path / "out", Wanted(overlay=False, meshes=()))
    for stem in stems_of(names):
        out.add(people(1), (), stem)
    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(written) == out.account.kinds.total() == 18
    assert not {path.name for path in written} & {"predictions.npz", "people.json"}  # they are everybody's
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


def test_a_full_disk_is_one_message_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(RunError, match=r"a.npz: could not be written: the disk is full"):
        people(1).to_npz(tmp_path / "a.npz")
    assert list(tmp_path.iterdir()) == []


def test_what_is_wanted() -> None:
    assert Wanted.of(None, None, is_data=False) == Wanted(True, ("obj", "glb"), True)
    assert Wanted.of(None, None, is_data=True) == Wanted(False, (), False)
    assert Wanted.of(True, None, is_data=True) == Wanted(True, (), True)
    assert Wanted.of(False, "none", is_data=False) == Wanted(False, (), True)
    assert parse_meshes("glb,obj") == ("glb", "obj")
    with pytest.raises(RequestError, match="--mesh stl: no format 'stl'; known: obj, glb, or none"):
        parse_meshes("stl")


def test_a_folder_with_predictions_is_left_alone(tmp_path: Path) -> None:
    prepare_folder(tmp_path / "new", Plan({}, {}))
    (tmp_path / "predictions.npz").write_text("")
    with pytest.raises(RequestError, match="already holds predictions"):
        prepare_folder(tmp_path, Plan({}, {}))
    with pytest.raises(RequestError, match="a file, not a folder"):
        check_folder(tmp_path / "predictions.npz")


def test_stems_leave_out_suffixes_but_keep_the_folders_of_frames() -> None:
    assert stems_of(["dance.mp4/000000", "dance.mp4/000001"]) == ["dance.mp4/000000", "dance.mp4/000001"]
    assert stems_of(["a.b/c.jpg", "a.b/d", ".jpg"]) == ["a.b/c", "a.b/d", ".jpg"]
    assert stems_of(["predictions", "x", "x", "x~2.jpg"]) == ["predictions~2", "x", "x~2", "x~2.jpg"]


def test_long_names_get_short_files_of_their_own(tmp_path: Path) -> None:
    long = ["l" * 248 + ".jpg", "l" * 248 + ".png", "\N{PILE OF POO}" * 60 + ".jpg", "d" * 255 + "/a.jpg", "x/" * 2000]
    stems = stems_of([*long, "l" * 247 + "k.jpg", "a.jpg", "\udcff" * 100 + ".jpg"])
    assert len(set(stems)) == 8
    assert stems == stems_of([*long, "l" * 247 + "k.jpg", "a.jpg", "\udcff" * 100 + ".jpg"])
    assert stems[6] == "a"
    out = OutputFolder(tmp_path / "out", Wanted(overlay=True, meshes=("obj",)))
    for stem in stems:
        out.add(people(1), (), stem)
    assert out.account.kinds.total() == 8 * 5


def test_pictures_of_data_get_files_only_if_asked_even_beside_photos(tmp_path: Path) -> None:
    out = OutputFolder(tmp_path, replace(Wanted(False, ()), of_data=Wanted.of(None, None, is_data=True)))
    out.add(people(1), (), "photo", is_data=False)
    out.add(people(1), (), "frame", is_data=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photo.json", "photo.npz"]
    in_a_tar = PictureSource("a.jpg", partial(in_tar, tmp_path / "a.tar", 0, 9))
    in_a_shard = PictureSource("a.jpg", bytes, is_stored_as_is=True)
    assert [is_of_data(one) for one in (in_a_tar, in_a_shard, PictureSource("a.jpg", bytes))] == [True, True, False]
