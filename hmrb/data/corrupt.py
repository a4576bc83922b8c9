"""What cameras, files and weather do to the pixels of the crop: `degrade` takes detail away, `recolour` changes values.

Not in the study. Kinds, shares and ranges are those with which BEDLAM (Black et al., CVPR 2023; train/dataset) and
CameraHMR (Patel and Black, 3DV 2025; core/datasets/utils.py) call albumentations 1.3. They corrupt the photo before the
crop is cut; here sizes in pixels are the crop's. No label changes, and no pixel moves: blurs are centred.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal, TypeVar

import cv2
import numpy as np
from jaxtyping import Float, Float32, Int, UInt8
from numpy.random import Generator
from pydantic import AfterValidator, Field

from hmrb.data.occlude import Aspect, Counts, Pixels, Range, Share, ascending
from hmrb.data.warp import exposed
from hmrb.formats.pictures import decoded
from hmrb.records import View


def _not_all_0(weights: dict[str, float]) -> dict[str, float]:
    if not sum(weights.values()) > 0:
        raise ValueError("at least one weight must be above 0")
    return weights


def _odd(widths: tuple[int, int]) -> tuple[int, int]:
    if not all(width % 2 for width in widths):
        raise ValueError("a box of an even width would move the picture; both must be odd")
    return widths


Kind = TypeVar("Kind", bound=str)
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Quality = Annotated[int, Field(ge=1, le=100)]
Bits = Annotated[int, Field(ge=1, le=8)]
Level = Annotated[int, Field(ge=0, le=255)]
Degradation = Literal["downscale", "jpeg", "rain", "motion_blur", "blur", "snow"]
Recolouring = Literal[
    "clahe", "grey", "brightness_contrast", "noise", "hue_saturation", "posterise", "gamma", "equalise"
]
Degradations = Annotated[dict[Degradation, Weight], AfterValidator(_not_all_0)]
Recolourings = Annotated[dict[Recolouring, Weight], AfterValidator(_not_all_0)]
Scales = Annotated[tuple[Aspect, Aspect], AfterValidator(ascending)]
Qualities = Annotated[tuple[Quality, Quality], AfterValidator(ascending)]
OddWidths = Annotated[Counts, AfterValidator(_odd)]
Depths = Annotated[tuple[Bits, Bits], AfterValidator(ascending)]
Gammas = Annotated[tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]], AfterValidator(ascending)]

# albumentations draws a kind by its p, and BEDLAM states none for snow, whose default is 0.5: nearly half of all.
DEGRADATIONS: dict[Degradation, float] = {
    "downscale": 0.1, "jpeg": 0.1, "rain": 0.1, "motion_blur": 0.2, "blur": 0.1, "snow": 0.5,
}  # fmt: skip
RECOLOURINGS: dict[Recolouring, float] = {
    "clahe": 0.2, "grey": 0.2, "brightness_contrast": 0.2, "noise": 0.2, "hue_saturation": 0.2,
    "posterise": 0.1, "gamma": 0.1, "equalise": 0.1,
}  # fmt: skip

# albumentations' rain: one streak per 600 px, 20 px long, leaning by up to 10 px, grey 200, blurred, in a picture
# darkened to 0.7. Its box is 4 px wide, which would move the picture by half a pixel.
STREAK_AREA_PX, STREAK_PX, STREAK_LEAN_PX, STREAK_GREY, RAIN_BLUR_PX, RAIN_LIGHT = 600, 20, 10, 200, 3, 0.7
SNOW_LIGHT = 1.5  # as in BEDLAM
CLAHE_TILES = (10, 10)  # as in BEDLAM
LEVELS = np.arange(256.0)
HUES = np.arange(256) % 180  # OpenCV's uint8 hues, 2 degrees each


def degrade(
    view: View,
    rng: Generator,
    *,
    p: Share = 0.3,
    kinds: Degradations = DEGRADATIONS,
    downscale: Scales = (0.5, 0.9),
    jpeg_quality: Qualities = (20, 100),
    motion_px: Range = (3.0, 15.0),
    blur_px: OddWidths = (3, 9),
    snow_below: Range = (110.5, 136.0),
) -> View:
    """With p take detail from the crop by one of `kinds`, drawn by their weights. Not in the study; see BEDLAM.

    Downscale: to this share of the crop and back, nearest pixels. JPEG: of this quality. Rain: bright streaks. Motion
    blur: along a line of this length in a uniform direction. Blur: a box of this odd width. Snow: lightness (0..255)
    below the limit is raised by half. Weights are relative; only the kinds that `kinds` names are drawn.
    """
    if rng.random() >= p:
        return view
    shown = exposed(view)
    image = shown.image
    match _one_of(kinds, rng):
        case "downscale":
            image = downscaled(image, rng.uniform(*downscale))
        case "jpeg":
            image = compressed(image, int(rng.integers(*jpeg_quality, endpoint=True)))
        case "rain":
            image = rained_on(image, *_streaks(image, rng))
        case "motion_blur":
            image = motion_blurred(image, rng.uniform(*motion_px), rng.uniform(0, math.pi))
        case "blur":
            image = box_blurred(image, 2 * int(rng.integers(blur_px[0] // 2, blur_px[1] // 2, endpoint=True)) + 1)
        case "snow":
            image = snowed_on(image, rng.uniform(*snow_below))
    return replace(shown, image=image)


def recolour(
    view: View,
    rng: Generator,
    *,
    p: Share = 0.3,
    kinds: Recolourings = RECOLOURINGS,
    clahe_limit: Range = (1.0, 11.0),
    brightness: Share = 0.2,
    contrast: Share = 0.2,
    noise: Range = (0.5, 1.5),
    hue: Annotated[int, Field(ge=0, le=90)] = 20,
    saturation: Level = 30,
    value: Level = 20,
    bits: Depths = (4, 4),
    gamma: Gammas = (0.8, 2.0),
) -> View:
    """With p change the crop's colours by one of `kinds`, drawn by their weights. Not in the study; see BEDLAM.

    CLAHE: local equalisation with this clip limit. Grey. Brightness and contrast: shifted by up to this share of 255,
    multiplied by 1 +- this. Noise: every value times a factor of its own. Hue (steps of 2 degrees), saturation and
    value: shifted by up to these, whole numbers. Posterise: to this many bits. Gamma: 255 (v / 255) ** gamma.
    Equalise: each channel's histogram. Weights are relative; only the kinds that `kinds` names are drawn.
    """
    if rng.random() >= p:
        return view
    shown = exposed(view)
    image = shown.image
    match _one_of(kinds, rng):
        case "clahe":
            image = equalised_locally(image, rng.uniform(*clahe_limit))
        case "grey":
            image = greyed(image)
        case "brightness_contrast":
            image = contrasted(
                image, rng.uniform(1 - contrast, 1 + contrast), 255 * rng.uniform(-brightness, brightness)
            )
        case "noise":
            span = np.float32(noise[1] - noise[0])
            image = multiplied(image, np.float32(noise[0]) + span * rng.random(image.shape, np.float32))
        case "hue_saturation":
            image = hsv_shifted(
                image, *(int(rng.integers(-most, most, endpoint=True)) for most in (hue, saturation, value))
            )
        case "posterise":
            image = posterised(image, int(rng.integers(*bits, endpoint=True)))
        case "gamma":
            image = gamma_corrected(image, rng.uniform(*gamma))
        case "equalise":
            image = equalised(image)
    return replace(shown, image=image)


def downscaled(image: Pixels, share: float) -> Pixels:
    """Scale down to `share` of each side and back, taking the nearest pixel both times."""
    height, width = image.shape[:2]
    small = (max(round(width * share), 1), max(round(height * share), 1))
    there = cv2.resize(image, small, interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(cv2.resize(there, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def compressed(image: Pixels, quality: int) -> Pixels:
    """Encode as a JPEG of this quality and decode."""
    jpeg = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return decoded(jpeg.tobytes(), "degrade")


def _streaks(image: Pixels, rng: Generator) -> tuple[int, Int[np.ndarray, "N 2"]]:
    """How far streaks lean in pixels, and where they begin (x, y); they can begin and end outside the crop."""
    height, width = image.shape[:2]
    low, high = (-STREAK_LEAN_PX, -STREAK_PX), (width + STREAK_LEAN_PX, height)
    count = round((high[0] - low[0]) * (high[1] - low[1]) / STREAK_AREA_PX)
    starts = rng.integers(low, high, (count, 2))
    return int(rng.integers(-STREAK_LEAN_PX, STREAK_LEAN_PX, endpoint=True)), starts


def rained_on(image: Pixels, lean_px: int, starts: Int[np.ndarray, "N 2"]) -> Pixels:
    """Draw streaks from these places (x, y), blur, and darken."""
    streaks = np.stack([starts, starts + (lean_px, STREAK_PX)], 1).astype(np.int32)
    wet = cv2.polylines(image.copy(), list(streaks), False, (STREAK_GREY,) * 3)
    return _looked_up(box_blurred(np.asarray(wet), RAIN_BLUR_PX), LEVELS * RAIN_LIGHT)


def motion_blurred(image: Pixels, length_px: float, angle: float) -> Pixels:
    """Mean along a line of this length, centred on each pixel; `angle` in radians, clockwise from the x axis."""
    return np.asarray(cv2.filter2D(image, -1, motion_kernel(length_px, angle)))


def motion_kernel(length_px: float, angle: float) -> Float32[np.ndarray, "k k"]:
    """Weights of a line through the middle; each of its points is shared by the four pixels around it."""
    reach = math.ceil(length_px / 2) + 1
    steps = ((np.arange(8 * reach) + 0.5) / (8 * reach) - 0.5) * length_px
    points = reach + steps[:, None] * np.array([math.sin(angle), math.cos(angle)])
    whole = np.floor(points).astype(int)
    (up, left), (down, right) = (whole + 1 - points).T, (points - whole).T
    kernel = np.zeros((2 * reach + 1,) * 2, np.float32)
    for (y, x), weights in (((0, 0), up * left), ((0, 1), up * right), ((1, 0), down * left), ((1, 1), down * right)):
        np.add.at(kernel, (whole[:, 0] + y, whole[:, 1] + x), weights)
    return kernel / kernel.sum()


def box_blurred(image: Pixels, width_px: int) -> Pixels:
    """Mean of a square of this odd width around each pixel."""
    return np.asarray(cv2.blur(image, (width_px, width_px)))


def snowed_on(image: Pixels, below: float) -> Pixels:
    """Raise lightness below this level by half, to 255 at most; hue and saturation stay."""
    hls = cv2.cvtColor(image, cv2.COLOR_RGB2HLS)
    hls[..., 1] = _looked_up(hls[..., 1], LEVELS * np.where(below > LEVELS, SNOW_LIGHT, 1.0))
    return np.asarray(cv2.cvtColor(hls, cv2.COLOR_HLS2RGB))


def equalised_locally(image: Pixels, limit: float) -> Pixels:
    """Contrast-limited adaptive equalisation of CIELAB's lightness, on a grid of tiles."""
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(limit, CLAHE_TILES).apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def greyed(image: Pixels) -> Pixels:
    """Luminance (ITU-R BT.601) in all channels."""
    return np.asarray(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def contrasted(image: Pixels, multiple: float, shift: float) -> Pixels:
    """Every value times `multiple`, plus `shift` levels."""
    return _looked_up(image, LEVELS * multiple + shift)


def multiplied(image: Pixels, factors: Float32[np.ndarray, "H W 3"]) -> Pixels:
    """Every value times its factor."""
    return _levels(image * factors)


def hsv_shifted(image: Pixels, hue: int, saturation: int, value: int) -> Pixels:
    """Shift hue (in steps of 2 degrees, around the circle), saturation and value (in levels)."""
    table = np.stack([(HUES + hue) % 180, _levels(LEVELS + saturation), _levels(LEVELS + value)], 1).astype(np.uint8)
    hsv = cv2.LUT(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), table[None])
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))


def posterised(image: Pixels, bits: int) -> Pixels:
    """Keep the highest bits of every value."""
    return image & np.uint8(256 - (1 << 8 - bits))


def gamma_corrected(image: Pixels, gamma: float) -> Pixels:
    """255 (v / 255) ** gamma of every value; above 1 is darker."""
    return _looked_up(image, 255 * (LEVELS / 255) ** gamma)


def equalised(image: Pixels) -> Pixels:
    """Spread the histogram of each channel over all levels."""
    return np.asarray(cv2.merge([cv2.equalizeHist(plane) for plane in cv2.split(image)]))


def _levels(values: Float[np.ndarray, "..."]) -> UInt8[np.ndarray, "..."]:
    """Rounded to whole levels of 0..255."""
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def _looked_up(image: UInt8[np.ndarray, "..."], curve: Float[np.ndarray, "256"]) -> UInt8[np.ndarray, "..."]:
    return np.asarray(cv2.LUT(image, _levels(curve)))


def _one_of(weights: Mapping[Kind, float], rng: Generator) -> Kind:
    """A name, drawn by the weights; in which order they are given has no effect."""
    names = sorted(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]
