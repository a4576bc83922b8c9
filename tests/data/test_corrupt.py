"""Each corruption does to the pixels what it says, measured."""

import math

import cv2
import numpy as np
import pytest
from conftest import view

from hmrb.data import corrupt
from hmrb.data.augment import AUGMENTS
from hmrb.data.corrupt import (
    DEGRADATIONS,
    RECOLOURINGS,
    STREAK_GREY,
    box_blurred,
    compressed,
    contrasted,
    degrade,
    downscaled,
    equalised,
    equalised_locally,
    gamma_corrected,
    greyed,
    hsv_shifted,
    motion_blurred,
    motion_kernel,
    multiplied,
    posterised,
    rained_on,
    recolour,
    snowed_on,
)
from hmrb.errors import RequestError
from hmrb.lookup import bind
from hmrb.spec import Op

EVERY_VALUE = np.stack([np.arange(256, dtype=np.uint8).reshape(16, 16)] * 3, 2)
PICTURE = cv2.resize(
    np.random.default_rng(0).integers(0, 255, (12, 14, 3), np.uint8), (112, 96), interpolation=cv2.INTER_CUBIC
)


def dot(side: int = 41) -> np.ndarray:
    picture = np.zeros((side, side, 3), np.uint8)
    picture[side // 2, side // 2] = 255
    return picture


def moments(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of the place (x, y) relative to the middle."""
    y, x = np.indices(weights.shape) - np.array(weights.shape)[:, None, None] // 2
    places = np.stack([x.ravel(), y.ravel()])
    return np.average(places, 1, weights.ravel()), np.cov(places, aweights=weights.ravel(), ddof=0)


def transfer(blurred: np.ndarray, wave: np.ndarray) -> float:
    """Amplitude that is left of a wave, away from the borders."""
    middle = slice(20, -20)
    return float(np.ptp(blurred[middle, middle, 0].astype(float)) / np.ptp(wave[middle, middle, 0].astype(float)))


@pytest.mark.parametrize("width", [3, 5, 9])
def test_a_box_leaves_of_a_wave_what_its_transfer_function_says(width: int) -> None:
    wave = np.rint(127.5 + 120 * np.sin(2 * np.pi * np.arange(160) / 16))
    picture = np.broadcast_to(wave[None, :, None], (160, 160, 3)).astype(np.uint8)
    expected = math.sin(math.pi * width / 16) / (width * math.sin(math.pi / 16))  # Dirichlet's kernel
    assert transfer(box_blurred(picture, width), picture) == pytest.approx(expected, abs=0.02)


def test_a_motion_blurs_along_its_line_alone() -> None:
    """A wave along the line loses sinc(length / period); one across the line loses nothing but the bilinear share."""
    wave = np.rint(127.5 + 120 * np.sin(2 * np.pi * np.arange(160) / 20))
    along = np.broadcast_to(wave[None, :, None], (160, 160, 3)).astype(np.uint8)
    assert transfer(motion_blurred(along, 11.0, 0.0), along) == pytest.approx(np.sinc(11 / 20), abs=0.02)
    across = np.ascontiguousarray(along.transpose(1, 0, 2))
    assert transfer(motion_blurred(across, 11.0, 0.0), across) > 0.98


@pytest.mark.parametrize(("length", "degrees"), [(3.0, 0.0), (8.5, 30.0), (15.0, 135.0)])
def test_a_motion_has_its_length_and_direction_and_moves_nothing(length: float, degrees: float) -> None:
    kernel = motion_kernel(length, math.radians(degrees)).astype(float)
    mean, covariance = moments(kernel)
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    direction = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    spread = direction @ covariance @ direction
    assert spread == pytest.approx(length**2 / 12, abs=0.26)  # and up to 1/4 px^2 by bilinear weights
    assert direction[::-1] * (-1, 1) @ covariance @ (direction[::-1] * (-1, 1)) < 0.26


@pytest.mark.parametrize("width", [3, 9])
def test_a_box_moves_nothing(width: int) -> None:
    mean, covariance = moments(box_blurred(dot(), width)[..., 0].astype(float))
    np.testing.assert_allclose(mean, 0, atol=1e-6)
    np.testing.assert_allclose(np.diag(covariance), (width**2 - 1) / 12, rtol=1e-6)


@pytest.mark.parametrize("share", [0.5, 0.61, 0.9])
def test_downscaling_leaves_as_many_pixels_where_they_were(share: float) -> None:
    columns = np.arange(200, dtype=np.uint8)
    ramp = np.stack([np.broadcast_to(columns, (100, 200))] * 3, 2).copy()
    out = downscaled(ramp, share)
    kept = out[0, :, 0].astype(float)
    assert len(np.unique(kept)) == round(200 * share)
    assert set(kept) <= set(columns)
    assert abs((kept - columns).mean()) < 0.51  # the nearest of two pixels is half a pixel off
    assert np.abs(kept - columns).max() <= math.ceil(0.5 / share) + 0.5
    tall = downscaled(np.ascontiguousarray(ramp.transpose(1, 0, 2)), share)
    np.testing.assert_array_equal(tall.transpose(1, 0, 2), out)


def test_a_jpeg_loses_more_the_lower_its_quality_and_keeps_its_colours() -> None:
    grey = greyed(PICTURE)
    losses = [np.abs(compressed(grey, quality).astype(float) - grey).mean() for quality in (5, 20, 60, 100)]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 5
    assert losses[-1] < 1
    red = np.full((32, 32, 3), (200, 30, 60), np.uint8)
    np.testing.assert_allclose(compressed(red, 90).astype(int), red, atol=3)


def test_rain_is_streaks_in_a_darker_picture() -> None:
    grey = np.full((100, 90, 3), 100, np.uint8)
    dry = rained_on(grey, 5, np.zeros((0, 2), int))
    assert (dry == 70).all()
    wet = rained_on(grey, 6, np.array([[30, 40]]))
    changed = (wet != 70).all(2)
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == (39, 61)  # 20 px and the blur's one
    assert (columns.min(), columns.max()) == (29, 37)
    assert columns[rows == 60].mean() - columns[rows == 40].mean() == pytest.approx(6, abs=1)
    third = 0.7 * (100 + (STREAK_GREY - 100) / 3)  # one of the box's three columns
    assert np.median(wet[50, columns[rows == 50], 0]) == pytest.approx(third, abs=12)


@pytest.mark.parametrize("size", [(224, 224), (64, 64), (256, 192)])
def test_rain_falls_as_densely_anywhere(size: tuple[int, int]) -> None:
    """600 px per streak, in the middle as at the borders, for crops of all sizes."""
    rng = np.random.default_rng(0)
    drawn = [corrupt._streaks(np.zeros((*size, 3), np.uint8), rng) for _ in range(2000)]
    middles = np.concatenate([starts + (lean / 2, 10) for lean, starts in drawn])
    for low, high in (((0.0, 0.0), (0.5, 0.5)), ((0.5, 0.5), (1.0, 1.0)), ((0.9, 0.0), (1.0, 1.0))):
        x, y = (middles / size[::-1]).T
        inside = ((x >= low[0]) & (x < high[0]) & (y >= low[1]) & (y < high[1])).sum()
        area = (high[0] - low[0]) * (high[1] - low[1]) * size[0] * size[1]
        assert inside / 2000 == pytest.approx(area / 600, rel=0.1)
    leans = np.array([lean for lean, _ in drawn])
    assert set(leans) == set(range(-10, 11))


def test_snow_lights_what_is_dark() -> None:
    out = snowed_on(EVERY_VALUE, 120.0)[..., 0].ravel().astype(int)  # a grey's lightness is its value
    expected = np.where(np.arange(256) < 120, np.minimum(np.rint(1.5 * np.arange(256)), 255), np.arange(256))
    np.testing.assert_allclose(out, expected, atol=1)


def test_grey_has_equal_channels_of_the_luminance() -> None:
    out = greyed(PICTURE)
    assert (out == out[..., :1]).all()
    np.testing.assert_allclose(out[..., 0], PICTURE @ (0.299, 0.587, 0.114), atol=1)


@pytest.mark.parametrize("bits", [1, 4, 7, 8])
def test_a_poster_has_as_many_levels_as_its_bits_allow(bits: int) -> None:
    out = posterised(EVERY_VALUE, bits)
    assert len(np.unique(out)) == 2**bits
    lost = EVERY_VALUE.astype(int) - out
    assert lost.min() == 0
    assert lost.max() == 2 ** (8 - bits) - 1


@pytest.mark.parametrize("gamma", [0.8, 1.0, 2.0])
def test_gamma_is_its_curve(gamma: float) -> None:
    expected = 255 * (np.arange(256) / 255) ** gamma
    np.testing.assert_allclose(gamma_corrected(EVERY_VALUE, gamma)[..., 1].ravel(), expected, atol=0.5)


def test_contrast_and_brightness_are_a_line_between_black_and_white() -> None:
    expected = np.clip(1.2 * np.arange(256) - 51, 0, 255)
    np.testing.assert_allclose(contrasted(EVERY_VALUE, 1.2, -51)[..., 2].ravel(), expected, atol=0.5 + 1e-9)


def test_noise_multiplies_each_value_by_its_own_factor() -> None:
    grey = np.full((60, 60, 3), 100, np.uint8)
    out = recolour(view(grey), np.random.default_rng(0), p=1, kinds={"noise": 1}, noise=(0.5, 1.5)).image
    assert (out.min(), out.max()) == (50, 150)
    assert out.mean() == pytest.approx(100, abs=1.5)
    assert out.std() == pytest.approx(100 / math.sqrt(12), abs=1)
    flat = out.reshape(-1, 3).astype(float)
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 0.1
    assert (multiplied(grey, np.full(grey.shape, 9, np.float32)) == 255).all()


def test_hue_saturation_and_value_are_shifted() -> None:
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    assert (hsv_shifted(red, 60, 0, 0) == (0, 200, 0)).all()
    assert (hsv_shifted(red, -60, 0, 0) == (0, 0, 200)).all()
    assert (hsv_shifted(red, 0, 0, 30) == (230, 0, 0)).all()
    assert (hsv_shifted(red, 0, 0, 99) == (255, 0, 0)).all()
    np.testing.assert_allclose(hsv_shifted(red, 0, -51, 0)[0, 0], (200, 40, 40), atol=1)  # saturation 204 of 255


def test_an_equalised_histogram_is_even() -> None:
    dull = (80 + PICTURE.astype(int) // 4).astype(np.uint8)
    out = equalised(dull)
    for plane in np.moveaxis(out, 2, 0):
        assert (plane.min(), plane.max()) == (0, 255)
        shares = np.histogram(plane, 4, (0, 256))[0] / plane.size
        np.testing.assert_allclose(shares, 0.25, atol=0.07)


def test_local_equalisation_adds_contrast_up_to_its_limit_and_keeps_hues() -> None:
    large = cv2.resize(PICTURE[..., 0], (448, 384))
    dull = np.stack([100 + large // 8] * 3, 2)
    spreads = [equalised_locally(dull, limit).std() for limit in (1.0, 3.0, 11.0)]
    assert dull.std() < spreads[0] < spreads[1] < spreads[2]
    out = equalised_locally(dull, 4.0).astype(int)
    assert np.ptp(out, 2).max() <= 2  # grey stays grey


ALL_KINDS = [("degrade", kind) for kind in DEGRADATIONS] + [("recolour", kind) for kind in RECOLOURINGS]


@pytest.mark.parametrize(("name", "kind"), ALL_KINDS)
def test_a_kind_alone_is_always_drawn_and_colour_noise_before_it_is_part_of_the_picture(name: str, kind: str) -> None:
    start = view(PICTURE, gain=np.array([0.5, 1.0, 1.0]))
    for seed in range(5):
        out = AUGMENTS[name](start, np.random.default_rng(seed), p=1, kinds={kind: 1})
        assert (out.gain == 1).all()
        assert (out.image != np.rint(PICTURE * start.gain)).any()
        assert out.image.flags.c_contiguous


def test_the_order_of_kinds_has_no_effect() -> None:
    turned = dict(reversed(list(DEGRADATIONS.items())))
    for seed in range(20):
        one, other = (degrade(view(PICTURE), np.random.default_rng(seed), p=1, kinds=k) for k in (DEGRADATIONS, turned))
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("degrade", {"kinds": {"fog": 1}}, "Input should be 'downscale', 'jpeg', 'rain', 'motion_blur', 'blur' or"),
        ("degrade", {"kinds": {"jpeg": 0}}, "at least one weight must be above 0"),
        ("degrade", {"kinds": {}}, "at least one weight must be above 0"),
        ("degrade", {"kinds": {"jpeg": float("nan")}}, "Input should be"),
        ("degrade", {"blur_px": [3, 10]}, "a box of an even width would move the picture; both must be odd"),
        ("degrade", {"blur_px": [9, 3]}, "the lower limit 9 is above the upper limit 3"),
        ("degrade", {"jpeg_quality": [0, 50]}, "Input should be greater than or equal to 1"),
        ("degrade", {"downscale": [0, 0.5]}, "Input should be greater than 0"),
        ("recolour", {"bits": [4, 9]}, "Input should be less than or equal to 8"),
        ("recolour", {"gamma": [0, 2]}, "Input should be greater than 0"),
        ("extreme_crop", {"level": 2}, "level=2: Input should be 0 or 1"),
    ],
)
def test_wrong_arguments_are_one_line(name: str, args: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError) as error:
        bind("augmentation", AUGMENTS[name], args)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_sheet_has_a_column_for_each_kind() -> None:
    from hmrb.reports.augment_sheet import each_alone

    ops = [Op(name="degrade", args={"kinds": {"jpeg": 1, "rain": 0, "snow": 2}}), Op(name="flip"), Op(name="recolour")]
    titles = [column.title for column in each_alone(ops)]
    assert titles == [
        "plain",
        "degrade: jpeg",
        "degrade: snow",
        "flip",
        *(f"recolour: {kind}" for kind in RECOLOURINGS),
    ]
    assert each_alone(ops)[1].ops[0].args == {"p": 1.0, "kinds": {"jpeg": 1}}
