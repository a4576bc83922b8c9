"""CameraHMR's network for the field of view, with stand-in weights, against recordings of its code."""

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest
import torch
from recipe_methods import method_golden, off, photo, pictures, released
from torch import Tensor

from hmrb.errors import RunError
from hmrb.models.foreign import follow
from hmrb.models.fov import RELEASED_FOV, FieldOfView, focal_of_view, letterboxed

HEIGHT_PX = torch.tensor([480.0, 480.0])  # of the pictures that the recordings tell of


@cache
def weights() -> tuple[dict[str, Tensor], Counter[str]]:
    return follow(RELEASED_FOV, released("camerahmr_flnet", ""))


@cache
def network() -> FieldOfView:
    with torch.device("meta"):
        blank = FieldOfView().eval()
    blank.load_state_dict(weights()[0], assign=True)
    return blank


@torch.no_grad()
def test_the_angle_and_focal_length_are_camerahmr_s() -> None:
    recorded = method_golden("method_camerahmr_seed0")
    assert off(network().backbone(pictures(256, 256)), recorded["flnet_pooled"]) < 1e-5
    assert off(network()(pictures(256, 256)), recorded["flnet_out"]) < 1e-4
    focal_px = network().focal_px(pictures(256, 256), HEIGHT_PX)
    assert off(focal_px, recorded["fl_from_vfov"]) < 1e-4


def test_every_released_tensor_is_used_or_dropped_by_a_rule() -> None:
    with torch.device("meta"):
        mine = FieldOfView().state_dict()
    arrays, dropped = weights()
    assert {key: value.shape for key, value in arrays.items()} == {key: value.shape for key, value in mine.items()}
    assert dropped == {"fc2": 2, "backbone": 2}  # two of the backbone's final_layer


def test_pictures_are_shrunk_onto_a_white_square_as_in_camerahmr() -> None:
    recorded = method_golden("preprocess_camerahmr")
    square = letterboxed(photo())
    assert np.array_equal(square[::4, ::4], recorded["full_resized/every4_u8"])
    assert np.allclose(square.mean((0, 1)), recorded["full_resized/mean"], atol=1e-9)


@pytest.mark.parametrize(
    ("height", "width", "rows", "columns"),
    [
        (300, 200, slice(0, 256), slice(43, 213)),  # 170.67 columns become 170
        (200, 300, slice(43, 213), slice(0, 256)),
        (64, 64, slice(0, 256), slice(0, 256)),
        (2, 1000, slice(127, 128), slice(0, 256)),  # a fraction of a row becomes one
        (1000, 2, slice(0, 256), slice(127, 128)),
    ],
)
def test_any_picture_keeps_its_middle(height: int, width: int, rows: slice, columns: slice) -> None:
    square = letterboxed(np.zeros((height, width, 3), np.uint8))
    expected = np.full((256, 256, 3), 255)
    expected[rows, columns] = 0
    assert np.array_equal(square, expected)


def test_a_right_angle_sees_as_far_up_as_ahead() -> None:
    focal = focal_of_view(torch.tensor([math.pi / 2]), torch.tensor([480.0]))
    assert torch.allclose(focal, torch.tensor([240.0]))


@pytest.mark.parametrize("fov_rad", [-0.2, 0.0, 3.2, math.nan])
def test_an_angle_that_no_camera_has_is_refused(fov_rad: float) -> None:
    with pytest.raises(RunError, match="an angle of view is between 0 and 180"):
        focal_of_view(torch.tensor([1.0, fov_rad]), HEIGHT_PX)
