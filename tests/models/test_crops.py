"""The crops of methods: the recorded ones of their own code, HMR's as ever, and boxes that nobody should give."""

import cv2
import numpy as np
import pytest
import torch
from conftest import golden

from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD
from hmrb.data.warp import square_matrix
from hmrb.models.crops import CROPS, BlurredCrop, Box, CropRule, WholePixelCrop, rule_named

BOXES = ((200.0, 120, 110, 225), (90.0, 200, 330, 130), (-40.0, 230, 190, 330), (150.5, 10.25, 370.25, 465.25))
BIG_BOX = (20.0, -100.0, 600.0, 680.0)  # HMR2.0's crop of it is blurred
INNER = slice(32, 224)  # columns that a network of 256 x 192 looks at
RNG = np.random.default_rng(3)


def photo() -> np.ndarray:
    """The picture of the recordings, 640 x 480: blocks of 8 px and a ramp."""
    blocks = np.random.default_rng(11).integers(0, 200, (60, 80, 3)).repeat(8, axis=0).repeat(8, axis=1)
    y, x = np.mgrid[0:480, 0:640]
    return (blocks + ((3 * x + 5 * y) % 56)[:, :, None]).astype(np.uint8)


PHOTO = photo()


def levels(normalised: np.ndarray) -> np.ndarray:
    """Pixel levels of numbers with ImageNet's normalisation; channels last."""
    return normalised.astype(np.float64) * IMAGENET_STD + IMAGENET_MEAN


def recorded(method: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, float]:
    """A method's crop (every fourth pixel), its channels' means, its matrix if recorded, and its box size in px."""
    held = golden(f"methods/preprocess_{method}")
    box = {key.removeprefix(f"box{index}/"): held[key] for key in held if key.startswith(f"box{index}/")}
    if method in ("hmr2", "tokenhmr"):
        pixels, mean = levels(box["img_every4"].transpose(1, 2, 0)), levels(box["img_mean"])
        return pixels, mean, box["matrix"], float(box["box_size"])
    if method == "camerahmr":
        demo = {key.removeprefix("demo/"): value for key, value in box.items()}
        return demo["patch_every4_u8"], demo["patch_mean"], demo["matrix"], float(demo["size"])
    if method == "pare":
        return box["raw_every4_u8"], levels(box["norm_mean"]), None, float(box["cxywh"][2])
    if method == "bedlam":
        return box["crop_every4_f32"], levels(box["norm_mean"]), box["transform"][:2], 200 * float(box["scale"])
    matrix = box["transform"][:2] + [[0, 0, INNER.start], [0, 0, 0]]  # to the columns that it looks at
    return box["crop_every4"], levels(box["norm_mean_per_channel"]), matrix, 200 * float(box["scale"])


RECORDED = [(method, index) for method in ("cliff", "bedlam", "camerahmr", "pare") for index in range(4)]


@pytest.mark.parametrize(("method", "index"), [*RECORDED, *(("hmr2", index) for index in range(5))])
def test_crops_are_those_of_the_methods_own_code(method: str, index: int) -> None:
    """Within one level, since theirs are not rounded; sizes to the last digit of float32."""
    rule = CROPS[method]
    crop = rule.cut(PHOTO, (*BOXES, BIG_BOX)[index], rule.margin)
    pixels, mean, matrix, size = recorded(method, index)
    seen = crop.pixels[:, INNER] if method == "cliff" else crop.pixels
    assert np.abs(seen[::4, ::4] - np.rint(pixels)).max() <= 1
    assert np.abs(seen.mean((0, 1)) - mean).max() < 0.1
    assert crop.square[2] == pytest.approx(size, rel=2**-23)
    if matrix is not None:
        np.testing.assert_allclose(crop.matrix, matrix, rtol=0, atol=1e-3)


@pytest.mark.parametrize("index", range(4))
def test_cliff_rounds_the_recorded_corners(index: int) -> None:
    held, rule = golden("methods/preprocess_cliff"), CROPS["cliff"]
    assert isinstance(rule, WholePixelCrop)
    corners = rule.corners(rule.square(BOXES[index], rule.margin))
    assert corners == (*held[f"box{index}/ul"].tolist(), *held[f"box{index}/br"].tolist())


@pytest.mark.parametrize("index", range(4))
def test_hmr2_of_camerahmr_s_training_is_the_same_square(index: int) -> None:
    """CameraHMR's loader, told to enlarge boxes to 192:256, has HMR2.0's matrix."""
    held, rule = golden("methods/preprocess_camerahmr"), CROPS["hmr2"]
    square = rule.square(BOXES[index], 1.0)
    np.testing.assert_allclose(rule.matrix(square), held[f"box{index}/train192x256/matrix"], rtol=0, atol=1e-3)
    assert square[2] == pytest.approx(float(held[f"box{index}/train192x256/size"]), rel=2**-23)


def test_hmr_s_crop_is_the_loader_s_to_the_digit() -> None:
    rule = CropRule(224, counts_from_edge=False)
    assert rule == CROPS["hmr"]
    for _ in range(50):
        x, y, width, height = RNG.uniform([-50, -50, 5, 5], [600, 440, 400, 400]).tolist()
        crop = rule.cut(PHOTO, (x, y, width, height), 1.2)
        side = 1.2 * max(width, height)
        assert crop.square == (x + width / 2, y + height / 2, side)
        matrix = square_matrix(np.array(crop.square[:2]), side, 224)
        np.testing.assert_array_equal(crop.matrix, matrix)
        np.testing.assert_array_equal(crop.pixels, cv2.warpAffine(PHOTO, matrix, (224, 224), flags=cv2.INTER_LINEAR))


@pytest.mark.parametrize("box", [(100.0, 80, 60, 90), (-30.0, 20, 90, 80), (40.0, 10, 440, 460)])
def test_bedlam_s_crop_is_scikit_image_s_resize(box: Box) -> None:
    """Enlarged, at the edge, reduced. 1 level: theirs is not rounded."""
    transform = pytest.importorskip("skimage.transform")
    rule = CROPS["bedlam"]
    assert isinstance(rule, WholePixelCrop)
    left, top, right, bottom = rule.corners(rule.square(box, 1.2))
    padded = np.pad(PHOTO, ((600, 600), (600, 600), (0, 0)))
    region = padded[top + 600 : bottom + 600, left + 600 : right + 600].astype(np.float64)
    expected = transform.resize(region, (224, 224))
    assert np.abs(rule.cut(PHOTO, box, 1.2).pixels - expected).max() < 0.51


def test_a_blur_of_the_surroundings_is_a_blur_of_the_picture() -> None:
    """A thousandth of the pixels may be a level off, for rounding. (OpenCV warps float64 by 32nds of a pixel.)"""
    picture = cv2.resize(PHOTO, (1900, 1400), interpolation=cv2.INTER_NEAREST)
    at_edge = (-197.865, 100.7, 500.0, 2203.1)  # a column of its crop lies half a pixel from the picture's edge
    for box in ((500.3, 200.1, 300, 701.3), at_edge):
        crop = CROPS["hmr2"].cut(picture, box, 1.0)
        sigma = (crop.square[2] / 512 - 1) / 2
        reach = int(4 * sigma + 0.5)
        kernel = cv2.getGaussianKernel(2 * reach + 1, sigma)
        blurred = cv2.sepFilter2D(picture.astype(np.float32), -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
        expected = np.rint(cv2.warpAffine(blurred, crop.matrix, (256, 256), flags=cv2.INTER_LINEAR))
        away = np.abs(crop.pixels - expected)
        assert away.max() <= 1
        assert (away > 0).mean() < 0.001


def test_pictures_that_are_reduced_a_little_are_not_blurred() -> None:
    """Below a reduction of 2.5 a Gaussian ends at its first pixel; at 3.9 its edge shows."""
    for side, is_same in ((560.0, True), (630.0, True), (1000.0, False)):
        crop = CROPS["hmr2"].cut(PHOTO, (40.0, -50, 10.0, side), 1.0)
        sharp = rule_named("pare", 256).pixels_of(PHOTO, crop.square)
        assert (np.abs(crop.pixels.astype(int) - sharp).max() <= 1) == is_same


def test_columns_that_cliff_drops_go_on_where_the_others_end() -> None:
    ramp = np.tile(np.arange(0, 160, 0.25)[None, :, None], (480, 1, 3)).astype(np.uint8)
    steps = np.diff(CROPS["cliff"].cut(ramp, (250.0, 100, 100, 300), 1.1).pixels[128, :, 0].astype(int))
    assert steps.min() >= 0
    assert steps.max() <= 1


@pytest.mark.parametrize("name", CROPS)
def test_any_box_gives_a_crop_without_much_memory(name: str) -> None:
    """Beside the picture it is black; of boxes of a million pixels the picture's are a dot at most."""
    rule = CROPS[name]
    assert not rule.cut(PHOTO, (700.0, 500, 40, 90), 1.0).pixels.any()
    assert not rule.cut(PHOTO, (-90.0, -200, 40, 90), 1.0).pixels.any()
    giant = rule.cut(PHOTO, (-3e5, -3e5, 1e6, 1e6), 1.2)
    assert (giant.pixels > 0).any(2).sum() <= 4
    tiny = rule.cut(PHOTO, (100.0, 100, 1e-3, 1e-3), 1.0)
    assert giant.pixels.shape == tiny.pixels.shape == (rule.image_px, rule.image_px, 3)
    assert tiny.pixels.any()


@pytest.mark.parametrize("name", CROPS)
def test_rules_are_named_sized_and_said(name: str) -> None:
    rule = rule_named(name, 64)
    assert (rule.name, rule.image_px) == (name, 64)
    assert rule.cut(PHOTO, BOXES[0], rule.margin).pixels.shape == (64, 64, 3)
    said = rule.said(rule.margin)
    assert said.startswith(f"a square of {rule.margin:g} times the ")
    assert ("4/3" in said) == (rule.tall > 1)
    assert ("blurred" in said) == isinstance(rule, BlurredCrop)
    assert ("whole pixels" in said) == isinstance(rule, WholePixelCrop)


def test_focal_lengths_that_methods_suppose() -> None:
    found = {name: rule.focal_of(225.0, (640, 480)) for name, rule in CROPS.items()}
    assert found == pytest.approx({
        "hmr": 5000 * 225 / 224, "pare": 5000 * 225 / 224, "hmr2": 12500, "tokenhmr": 12500, "cliff": 800,
        "bedlam": 800, "camerahmr": 800,
    })  # fmt: skip


def test_bodies_lie_in_the_middle_of_pixels_by_hmr_s_rule_and_between_them_by_the_others() -> None:
    square = torch.tensor([[100.0, 50.0, 224.0]])
    torch.testing.assert_close(CROPS["hmr"].origin_px(square), torch.tensor([[99.5, 49.5]]))
    torch.testing.assert_close(CROPS["pare"].origin_px(2 * square), torch.tensor([[199.5, 99.5]]))
    torch.testing.assert_close(CROPS["hmr"].origin_px(2 * square), torch.tensor([[199.0, 99.0]]))
