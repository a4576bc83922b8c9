"""The rasteriser, on triangles with known results, and the overlay."""

from pathlib import Path

import numpy as np
import pytest

from hmrb.body.render import rasterise, shade_mesh, vertex_normals, write_obj

FACE = np.array([[0, 2, 1]])  # for corners in clockwise order on the screen, this face points to the camera
TETRAHEDRON = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
OUTWARDS = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])


def triangle(depth: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    """The lower left half of an 8 px image: pixels with x <= y, corners on the outermost pixel centres."""
    return np.array([[0, 0, depth[0]], [7, 7, depth[1]], [0, 7, depth[2]]], np.float32)


def test_a_triangle_covers_the_pixels_whose_centres_lie_in_it() -> None:
    fragments = rasterise(triangle(), FACE, 8, 8)
    down, across = np.divmod(fragments.pixel, 8)
    expected = {(y, x) for y in range(8) for x in range(y + 1)}
    assert {(int(y), int(x)) for y, x in zip(down, across, strict=True)} == expected


def test_the_nearer_of_two_triangles_is_seen_whatever_their_order() -> None:
    far, near = triangle((4, 4, 4)), triangle((2, 2, 2))
    vertices, faces = np.concatenate([far, near]), np.concatenate([FACE, FACE + 3])
    assert (rasterise(vertices, faces, 8, 8).face == 1).all()
    assert (rasterise(vertices, faces[::-1], 8, 8).face == 0).all()


def test_crossing_triangles_are_each_seen_where_they_are_nearer() -> None:
    rising, falling = triangle((2, 4, 2)), triangle((4, 2, 4))  # equal depth at x = 3.5 or slightly less
    fragments = rasterise(np.concatenate([rising, falling]), np.concatenate([FACE, FACE + 3]), 8, 8)
    across = fragments.pixel % 8
    assert (fragments.face[across < 3] == 0).all()
    assert (fragments.face[across > 4] == 1).all()


def test_interpolation_is_linear_in_space_and_not_on_the_screen() -> None:
    vertices = triangle((1, 4, 1))
    fragments = rasterise(vertices, FACE, 8, 8)
    across = fragments.pixel % 8 / 7
    depth = 1 / (1 - across * (1 - 1 / 4))  # 1/z is linear on the screen
    np.testing.assert_allclose(fragments.depth, depth, rtol=1e-5)
    np.testing.assert_allclose(fragments.mix(FACE, vertices)[:, 2], depth, rtol=1e-5)
    np.testing.assert_allclose(fragments.weights.sum(1), 1, rtol=1e-5)


def test_a_face_that_looks_away_is_not_drawn() -> None:
    assert len(rasterise(triangle(), FACE[:, ::-1], 8, 8).pixel) == 0


def test_what_is_behind_the_camera_or_beside_the_picture_is_not_drawn() -> None:
    assert len(rasterise(triangle((1, -1, 1)), FACE, 8, 8).pixel) == 0
    assert len(rasterise(triangle() + np.array([9, 0, 0], np.float32), FACE, 8, 8).pixel) == 0


def test_two_triangles_with_a_common_edge_leave_no_gap() -> None:
    corners = np.array([[0.3, 0.2, 1], [40.7, 3.1, 2], [38.2, 44.9, 3], [2.4, 41.3, 1]], np.float32)
    square = rasterise(corners, np.array([[0, 2, 1], [0, 3, 2]]), 48, 48)
    y, x = np.divmod(np.arange(48 * 48), 48)
    clear = (x > 3) & (x < 38) & (y > 4) & (y < 41)
    assert np.isin(np.flatnonzero(clear), square.pixel).all()


def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    vertices = rng.uniform((0, 0, 1), (32, 32, 5), (60, 3)).astype(np.float32)
    faces = np.arange(60).reshape(20, 3)
    whole = rasterise(vertices, faces, 32, 32)
    monkeypatch.setattr("hmrb.body.render.CHUNK", 10)  # smaller than most triangles' bounding boxes
    parts = rasterise(vertices, faces, 32, 32)
    assert len(whole.pixel) > 100
    assert (whole.pixel == parts.pixel).all()
    assert (whole.face == parts.face).all()


def test_normals_of_a_closed_mesh_point_outwards() -> None:
    normals = vertex_normals(TETRAHEDRON, OUTWARDS)
    away = TETRAHEDRON - TETRAHEDRON.mean(0)
    assert (np.einsum("vc,vc->v", normals, away) > 0).all()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)


def test_an_overlay_changes_the_picture_where_the_mesh_is_and_nowhere_else() -> None:
    photo = np.full((64, 96, 3), 100, np.uint8)
    drawn = shade_mesh(photo, TETRAHEDRON + np.array([0, 0, 4], np.float32), OUTWARDS, focal=80, center=(47.5, 31.5))
    changed = (drawn != photo).any(2)
    assert changed[35, 50]
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 47
    assert columns.max() <= 47.5 + 80 / 4 + 1
    assert rows.min() >= 31
    assert (photo == 100).all()


@pytest.mark.parametrize("depth", [-4.0, 0.0])
def test_an_overlay_of_a_mesh_behind_the_camera_is_the_photo(depth: float) -> None:
    photo = np.full((16, 16, 3), 7, np.uint8)
    behind = TETRAHEDRON * np.float32(0.01) + np.array([0, 0, depth], np.float32)
    assert (shade_mesh(photo, behind, OUTWARDS, focal=20, center=(7.5, 7.5)) == photo).all()


def test_an_obj_file_counts_vertices_from_one(tmp_path: Path) -> None:
    write_obj(tmp_path / "body.obj", TETRAHEDRON, OUTWARDS)
    lines = (tmp_path / "body.obj").read_text().splitlines()
    assert lines[1] == "v 1.00000 0.00000 0.00000"
    assert lines[4] == "f 1 3 2"
    assert len(lines) == 8
