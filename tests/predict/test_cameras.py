"""The camera of a picture: what is known, how it is said, and where it puts points."""

import math

import cv2
import numpy as np
import pytest
import torch
from photos import people

from hmrb.body import load_body
from hmrb.errors import RequestError
from hmrb.formats.exif import Exif
from hmrb.geometry import project, rotvec_to_rotmat
from hmrb.predict.cameras import AskedCamera, Intrinsics, Pinholes, camera_of
from hmrb.synthetic.people import render_person

FILM = 0xA405


def test_the_truth_of_rendered_people_lies_on_its_key_points() -> None:
    """0.05 px: labels are float32."""
    body = load_body("open")
    for index in range(6):
        truth = render_person(body, "full", "test", 0, index)
        with torch.inference_mode():
            mesh = body(rotvec_to_rotmat(torch.from_numpy(truth.pose[None])), torch.from_numpy(truth.betas[None]))
            joints = body.joints(mesh, "smpl54").numpy()
        camera = Pinholes(np.array([truth.columns["focal"]]), np.full((1, 2), 63.5), truth.transl[None])
        away = np.abs(camera.project(joints)[0] - truth.keypoints2d[:, :2])
        assert away.max() < 0.05


def test_the_crop_camera_is_the_network_s_projection() -> None:
    some = people(5)
    net = project(torch.from_numpy(some.vertices), torch.from_numpy(some.camera), some.image_px).numpy()
    middle = (some.image_px - 1) / 2
    for i, (x, y, side) in enumerate(some.square.tolist()):
        zoom = some.image_px / side
        matrix = np.array([[zoom, 0, some.image_px / 2 - zoom * x], [0, zoom, some.image_px / 2 - zoom * y]])
        back = cv2.invertAffineTransform(matrix)
        expected = (net[i] + middle) @ back[:, :2].T + back[:, 2]
        np.testing.assert_allclose(some.crop_camera.project(some.vertices)[i], expected, rtol=0, atol=1e-3)


def test_the_picture_s_camera_reproduces_the_crop_s_projection_of_rendered_people() -> None:
    """Within half a pixel, also in pixels of a crop of 224; here no person is far from the picture's middle."""
    body, square = load_body("open"), []
    for index in range(8):
        x, y, width, height = render_person(body, "full", "test", 0, index).box.tolist()
        square.append((x + width / 2, y + height / 2, max(width, height)))
    squares = np.array(square, np.float32)
    some = people(8, square=squares, focal_px=5000 * squares[:, 2] / 224, center_px=np.full((8, 2), 63.5, np.float32))
    away = np.linalg.norm(some.picture_camera.project(some.vertices) - some.crop_camera.project(some.vertices), axis=2)
    assert away.max() < 0.5
    assert (away * 224 / squares[:, 2:]).max() < 0.5


def test_bodies_lie_where_the_crop_shows_them_up_to_the_perspective() -> None:
    some, origin = people(8), np.zeros((8, 1, 3))
    for focal in (some.focal_px, np.full(8, 600, np.float32)):
        other = people(8, focal_px=focal)
        np.testing.assert_allclose(
            other.picture_camera.project(origin), other.crop_camera.project(origin), rtol=0, atol=1e-3
        )
    np.testing.assert_allclose(some.transl[:, 2], 2 * 5000 / (224 * some.camera[:, 0]), rtol=1e-4)
    away = np.linalg.norm(some.picture_camera.project(some.vertices) - some.crop_camera.project(some.vertices), axis=2)
    aside = np.linalg.norm(some.crop_camera.center_px - some.center_px, axis=1)[:, None]
    deep = np.abs(some.vertices[..., 2]) / (some.transl[:, 2:] + some.vertices[..., 2])
    np.testing.assert_allclose(away, aside * deep, rtol=0, atol=1e-3)


def test_who_knows_the_camera_best_is_believed() -> None:
    exif = Exif(1, {FILM: 50.0})
    stored = Intrinsics(700.0, (1.0, 2.0), "the shard's column focal")
    wish = AskedCamera(focal_px=900.0)
    assert camera_of(wish, stored, exif, 640, 480).said == "option: focal length"  # type: ignore[union-attr]
    assert camera_of(AskedCamera(), stored, exif, 640, 480) == stored
    found = camera_of(AskedCamera(), None, exif, 640, 480)
    assert found is not None
    assert (found.said, found.center_px) == ("EXIF FocalLengthIn35mmFilm", (319.5, 239.5))
    assert camera_of(AskedCamera(), None, Exif(1, {}), 640, 480) is None
    wide = AskedCamera(fov_deg=90).of(640, 480)
    assert wide is not None
    assert wide.focal_px == pytest.approx(320)


WRONG: list[dict[str, float]] = [
    {"focal_px": 0.0}, {"focal_px": -3.0}, {"focal_px": math.nan}, {"focal_px": math.inf}, {"fov_deg": 180.0},
    {"fov_deg": math.nan}, {"focal_px": 9.0, "fov_deg": 9.0}, {"focal_px": 1e300}, {"focal_px": 1e-300},
    {"focal_px": 0.99}, {"focal_px": 1.1e6}, {"fov_deg": 1e-300}, {"fov_deg": 0.0}, {"fov_deg": 179.99},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_impossible_cameras_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(RequestError):
        AskedCamera(**wrong)


def test_points_behind_the_camera_have_finite_pixels() -> None:
    camera = Pinholes(np.array([500.0]), np.zeros((1, 2)), np.array([[0.0, 0, -1]]))
    assert np.isfinite(camera.project(np.zeros((1, 4, 3)))).all()


def test_a_camera_of_exif_beyond_the_limits_counts_as_none() -> None:
    assert camera_of(AskedCamera(), None, Exif(1, {FILM: 65535.0}), 6000, 4000) is None
    assert camera_of(AskedCamera(), None, Exif(1, {FILM: 1e-9}), 640, 480) is None
