"""What is left to chance in augmentation, measured: every rate and every distribution, against the arguments.

Draws are seeded, so a test passes always or never. Limits are wide enough that a right augmentation with other seeds
would fail one time in a million: five deviations of a mean, 2.7 / sqrt(n) of a distribution function (Kolmogorov and
Smirnov: 2 exp(-2 * 2.7**2)).
"""

import inspect
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import view

from hmrb.data import occlude
from hmrb.data.augment import AFTER_WARP, AUGMENTS, BEFORE_WARP
from hmrb.data.extreme_crop import PARTS, drawn_part
from hmrb.records import View
from hmrb.skeleton import SKELETONS

Values = Sequence[float] | np.ndarray
Cdf = Callable[[np.ndarray], np.ndarray]
DRAWS = 2000
SIDE = 60.0  # of the square of `view`
DITHER = np.random.default_rng(99)


@dataclass
class Draw:
    """What one call gave, and the calls of watched functions that it made: name and arguments."""

    view: View
    calls: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [args for called, args in self.calls if called == name]


@dataclass(frozen=True)
class Statement:
    """Arguments of an augmentation, none of them a default, and what must hold of many draws with them."""

    args: Mapping[str, Any]
    check: Callable[[list[Draw], View], None]
    start: Callable[[], View]
    watched: tuple[str, ...] = ()
    """Functions of the module that the draws end in; those that are costly are not run."""
    replaced: tuple[str, ...] = ()
    draws: int = DRAWS


def rate(hits: Sequence[bool] | np.ndarray, expected: float) -> None:
    limit = 5 * math.sqrt(max(expected * (1 - expected), 1e-9) / len(hits))
    assert abs(float(np.mean(hits)) - expected) <= limit


def distributed(values: Values, cdf: Cdf) -> None:
    """Kolmogorov's test; it is on the safe side where the distribution has steps."""
    found = np.sort(np.asarray(values, float))
    count = len(found)
    above = np.arange(1, count + 1) / count - cdf(found)
    below = cdf(np.nextafter(found, -np.inf)) - np.arange(count) / count
    assert max(above.max(), below.max()) < 2.7 / math.sqrt(count)


def uniform(values: Values, low: float, high: float) -> None:
    found = np.asarray(values, float)
    assert found.min() >= low
    assert found.max() <= high
    distributed(found, lambda x: np.clip((x - low) / (high - low), 0, 1))


def whole(values: Sequence[int] | np.ndarray, low: int | np.ndarray, high: int | np.ndarray) -> None:
    """Whole numbers, each of low ... high as often; the limits may differ from draw to draw."""
    found = np.asarray(values)
    assert (found == np.floor(found)).all()
    spread = (found - low + DITHER.random(len(found))) / (np.asarray(high) - low + 1)
    uniform(spread, 0, 1)


def normal(values: Values, mean: float, deviation: float, reach: float = math.inf) -> None:
    """A normal distribution, cut to `reach` deviations: what lies beyond is put on the limits."""

    z = (np.asarray(values) - mean) / deviation
    assert np.abs(z).max() <= reach + 1e-6
    z = np.where(np.abs(z) > reach - 1e-6, np.copysign(reach, z), z)  # the rounding of a scale

    def cdf(x: np.ndarray) -> np.ndarray:
        inside = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
        return np.where(x >= reach, 1.0, np.where(x < -reach, 0.0, inside))

    distributed(z, cdf)


def independent(*columns: Values) -> None:
    for one, other in combinations(columns, 2):
        correlation = np.corrcoef(np.asarray(one, float), np.asarray(other, float))[0, 1]
        assert abs(correlation) < 5 / math.sqrt(len(one))


def small() -> View:
    return view(np.full((20, 20, 3), 100, np.uint8))


def places() -> View:
    """A picture of 200 x 200 whose pixels say where they are: y, x."""
    rows, columns = np.indices((200, 200), np.uint8)
    return view(np.stack([rows, columns, np.full_like(rows, 7)], 2), box=np.array([40.0, 60.0, 100.0, 80.0]))


def white() -> View:
    return view(np.full((100, 90, 3), 255, np.uint8))


def joints_at(*points: tuple[float, float], side: float = 300.0) -> View:
    """A picture of 400 x 400 with a few labelled joints."""
    keypoints = np.zeros((54, 3), np.float32)
    keypoints[: len(points)] = [(*point, 1) for point in points]
    return view(np.zeros((400, 400, 3), np.uint8), keypoints2d=keypoints, side=side)


def channel_noise(draws: list[Draw], start: View) -> None:
    gains = np.array([draw.view.gain for draw in draws]).T
    for gain in gains:
        uniform(gain, 0.7, 1.3)
    independent(*gains)


def flip(draws: list[Draw], start: View) -> None:
    rate([draw.view.flipped for draw in draws], 0.3)


def rotate_scale(draws: list[Draw], start: View) -> None:
    grown = np.array([draw.view.side for draw in draws]) / SIDE
    turns = np.rad2deg([draw.view.rotation for draw in draws])
    turned = turns != 0
    normal(grown, 1, 0.1, reach=1)
    normal(turns[turned], 0, 20, reach=2)
    rate(turned, 0.7)
    independent(grown[turned], turns[turned])
    independent(grown, turned)


def random_crop(draws: list[Draw], start: View) -> None:
    smaller = np.array([draw.view.side != SIDE for draw in draws])
    rate(smaller, 0.6)
    assert {draw.view.side for draw in draws} == {SIDE, SIDE / 2}
    corners = np.array([draw.view.center - draw.view.side / 2 for draw in draws])[smaller]
    x, y = (corners - (start.center - SIDE / 2)).T
    whole(x, 0, 29)  # of 30 px of room, cut to whole pixels: 30 itself never comes
    whole(y, 0, 29)
    independent(x, y)


def photometric_distortion(draws: list[Draw], start: View) -> None:
    changed = [draw.of("distort") for draw in draws]
    rate([bool(calls) for calls in changed], 0.8)
    _, shift, before, saturation, hue, after, order = map(
        np.array, zip(*(calls[0] for calls in changed if calls), strict=True)
    )
    contrast = before * after
    rate(shift != 0, 0.5)
    uniform(shift[shift != 0], -20, 20)
    rate(contrast != 1, 0.5)
    uniform(contrast[contrast != 1], 0.4, 1.8)
    rate(before[contrast != 1] != 1, 0.5)
    assert ((before == 1) | (after == 1)).all()
    rate(saturation != 1, 0.5)
    uniform(saturation[saturation != 1], 0.6, 1.4)
    rate(hue != 0, 0.5 * 19 / 20)  # 0 is one of the 20 steps
    turned = hue[hue != 0]
    whole(turned + (turned < 0), -9, 9)  # -10 ... 9 with 0 taken out and the gap closed
    new = (order != (0, 1, 2)).any(1)
    rate(new, 0.5 * 5 / 6)  # the old order is one of the 6
    for some in {tuple(one) for one in order[new].tolist()}:
        rate((order[new] == some).all(1), 1 / 5)
    independent(shift != 0, contrast != 1, saturation != 1, hue != 0, new)


def erased(box: tuple[float, float, float, float]) -> Callable[[list[Draw], View], None]:
    """Rectangles in a box, of noise."""

    def check(draws: list[Draw], start: View) -> None:
        rate([bool(draw.of("place_rectangle")) for draw in draws], 0.6)
        calls = [args for draw in draws for args in draw.of("place_rectangle")]
        assert {tuple(args[1]) for args in calls} == {box}
        area, aspect, x, y = np.array([args[2:6] for args in calls]).T
        uniform(area, 0.1, 0.2)
        uniform(aspect, 0.5, 2)
        uniform(x, 0, 1)
        uniform(y, 0, 1)
        independent(area, aspect, x, y)
        noise = np.concatenate([draw.view.image[draw.view.image[..., 2] != 7][:5, :2].ravel() for draw in draws])
        whole(noise, 0, 254)  # of the study's 255 levels
        rate([(draw.view.image != start.image).any() for draw in draws], 0.6)

    return check


def patches(draws: list[Draw]) -> np.ndarray:
    """Top, left and share of each patch, and the patch's height and width; what all of them have to be."""
    rate([bool(draw.of("mixed")) for draw in draws], 0.6)
    calls = [args for draw in draws for args in draw.of("mixed")]
    top, left, share = (np.array([args[n] for args in calls]) for n in (1, 2, 4))
    height, width = np.array([args[3].shape[:2] for args in calls]).T
    uniform(share, 0.1, 0.9)
    distributed(height * width / 200**2, lambda x: np.clip((x - 0.05) / 0.15, 0, 1))  # whole pixels: about these
    distributed(height / width, lambda x: np.clip((x - 0.5) / 1.5, 0, 1))
    whole(top, 0, 200 - height)
    whole(left, 0, 200 - width)
    independent(share, height * width, height / width, top / (200 - height), left / (200 - width))
    return np.array([top, left, height, width])


def soft_erase(draws: list[Draw], start: View) -> None:
    patches(draws)
    noise = np.concatenate([args[3].ravel()[:6] for draw in draws for args in draw.of("mixed")])
    uniform(noise, 0, 255)


def self_mix(draws: list[Draw], start: View) -> None:
    top, left, height, width = patches(draws)
    y, x = np.array([args[3][0, 0, :2] for draw in draws for args in draw.of("mixed")], int).T
    whole(y, 0, 200 - height)
    whole(x, 0, 200 - width)
    independent(x / (200 - width), y / (200 - height), top / (200 - height), left / (200 - width))


def one_hole(draws: list[Draw], start: View) -> None:
    black = [np.nonzero((draw.view.image == 0).all(2)) for draw in draws]
    rate([bool(rows.size) for rows, _ in black], 0.7)
    ends = [(rows.min(), rows.max(), columns.min(), columns.max()) for rows, columns in black if rows.size]
    top, bottom, left, right = np.array(ends).T
    height, width = bottom - top + 1, right - left + 1
    whole(height, 5, 24)
    whole(width, 5, 24)
    whole(top, 0, 100 - height)
    whole(left, 0, 90 - width)
    independent(height, width, top / (100 - height), left / (90 - width))


def many_holes(draws: list[Draw], start: View) -> None:
    """Holes of one pixel; two of seven fall on one another in a draw of 400, which moves the numbers by 0.001."""
    whole([int((draw.view.image == 0).all(2).sum()) for draw in draws], 3, 7)


def grid_dropout(draws: list[Draw], start: View) -> None:
    black = [(draw.view.image == 0).all(2) for draw in draws]
    rate([bool(cells.any()) for cells in black], 0.6)
    found = [(edges(cells.any(1)), edges(cells.any(0))) for cells in black if cells.any()]
    top, left = (np.array([side[0] for side in sides]) for sides in zip(*found, strict=True))
    units = np.array([rows[2] - rows[0] for rows, _ in found])
    holes = np.array([rows[1] - rows[0] for rows, _ in found])
    whole(units, 8, 23)
    assert (holes == np.floor(0.25 * units)).all()
    whole(top, 0, units - holes)
    whole(left, 0, units - holes)
    independent(units, top / (units - holes), left / (units - holes))


def edges(black: np.ndarray) -> np.ndarray:
    """Where black begins and ends, in turn."""
    return np.flatnonzero(np.diff(black.astype(int), prepend=0))


def pasted(draws: list[Draw], start: View) -> np.ndarray:
    """The middles of what was pasted; how many there are, how large and which."""
    counts = np.array([len(draw.of("paste")) for draw in draws])
    rate(counts > 0, 0.6)
    whole(counts[counts > 0], 2, 5)
    zoom = min(start.image.shape[:2]) / 256
    uniform([args[1] / zoom for draw in draws for args in draw.of("resized")], 0.3, 0.9)
    pool = [id(one) for one in occlude.load_occluders("procedural")]
    whole([pool.index(id(args[0])) for draw in draws for args in draw.of("resized")], 0, len(pool) - 1)
    return np.array([args[2] for draw in draws for args in draw.of("paste")])


def occluded(draws: list[Draw], start: View) -> None:
    x, y = pasted(draws, start).T
    # Rounded: the first and the last place have half a pixel each.
    for found, side in ((x, 90), (y, 100)):
        uniform((found + DITHER.random(len(found)) - 0.5).clip(0, side), 0, side)
    independent(x, y)


def occluded_joint(draws: list[Draw], start: View) -> None:
    shifts = pasted(draws, start) + 0.5 - 200  # cut to whole pixels: half a pixel less
    for shift in shifts.T:
        normal(shift, 0, 0.05 * 300)
    independent(*shifts.T)


def occluded_joints(draws: list[Draw], start: View) -> None:
    middles = pasted(draws, start)
    for joint in start.keypoints2d[start.keypoints2d[:, 2] > 0, :2]:
        rate((middles == joint).all(1), 1 / 4)


def blur(draws: list[Draw], start: View) -> None:
    blurred = [draw.of("GaussianBlur") for draw in draws]
    rate([bool(calls) for calls in blurred], 0.6)
    uniform([calls[0][2] for calls in blurred if calls], 0.5, 2.5)


def pixel_noise(draws: list[Draw], start: View) -> None:
    changes = np.array([draw.view.image.astype(float) - start.image for draw in draws])
    noisy = changes.any((1, 2, 3))
    rate(noisy, 0.6)
    values = changes[noisy].reshape(noisy.sum(), -1)
    strength = np.sqrt(np.maximum((values**2).mean(1) - 1 / 12, 0))  # less the rounding
    assert strength.min() > 5 * 0.9  # 1200 values: their deviation is right to 10 %
    assert strength.max() < 15 * 1.1
    distributed(strength, lambda x: np.clip((x - 5) / 10, 0, 1))
    normal((values / strength[:, None])[:, 0], 0, 1)
    independent(*values.T[:4])


def everywhere(waist: bool = False) -> View:
    """A person with all points labelled, or those above the hips, no two parts of whom have one box."""
    start = joints_at(*np.random.default_rng(3).uniform(140, 240, (54, 2)).tolist())
    if waist:
        hidden = [row for row, name in enumerate(SKELETONS["smpl54"].joints) if name.endswith(("knee", "ankle"))]
        start.keypoints2d[hidden, 2] = 0
    return start


def part_drawn(chances: Mapping[str, float], level: int) -> Callable[[list[Draw], View], None]:
    """How often each part is drawn, and that each has a square of its own."""

    def check(draws: list[Draw], start: View) -> None:
        calls = [args for draw in draws for args in draw.of("drawn_part")]
        rate([bool(draw.calls) for draw in draws], 0.6)
        assert {args[1] for args in calls} == {level}
        uniform([args[2] for args in calls], 0, 1)
        parts = np.array([drawn_part(*args) for args in calls])
        for part in PARTS:
            rate(parts == part, chances.get(part, 0))
        moved = {(*draw.view.center.tolist(), draw.view.side) for draw in draws if draw.calls}
        assert len(moved) == len(chances)

    return check


def kinds_drawn(weights: Mapping[str, float], draws: list[Draw]) -> dict[str, np.ndarray]:
    """What each watched function was called with, after the picture; how often each was."""
    rate([len(draw.calls) == 1 for draw in draws], 0.6)
    calls = [draw.calls[0] for draw in draws if draw.calls]
    for name, weight in weights.items():
        rate([called == name for called, _ in calls], weight / sum(weights.values()))
    return {name: np.array([args[1:] for called, args in calls if called == name], object).T for name in weights}


def degrade(draws: list[Draw], start: View) -> None:
    found = kinds_drawn(DEGRADED, draws)
    uniform(found["downscaled"][0], 0.3, 0.7)
    whole(found["compressed"][0].astype(int), 10, 40)
    uniform(found["motion_blurred"][0], 4, 9)
    uniform(found["motion_blurred"][1], 0, math.pi)
    independent(*found["motion_blurred"])
    whole((found["box_blurred"][0].astype(int) - 5) / 2, 0, 4)  # 5, 7, ... 13
    uniform(found["snowed_on"][0], 50, 90)
    leans, starts = found["rained_on"]
    whole(leans.astype(int), -10, 10)
    x, y = np.concatenate(list(starts)).T
    whole(x, -10, 29)
    whole(y, -20, 19)
    independent(x, y)


def recolour(draws: list[Draw], start: View) -> None:
    found = kinds_drawn(RECOLOURED, draws)
    uniform(found["equalised_locally"][0], 2, 5)
    uniform(found["contrasted"][0], 0.6, 1.4)
    uniform(found["contrasted"][1], -0.1 * 255, 0.1 * 255)
    independent(*found["contrasted"])
    factors = np.array([one.ravel() for one in found["multiplied"][0]])
    uniform(factors[:, :5].ravel(), 0.8, 1.1)
    independent(*factors.T[:5])
    for values, most in zip(found["hsv_shifted"], (10, 15, 25), strict=True):
        whole(values.astype(int), -most, most)
    independent(*found["hsv_shifted"])
    whole(found["posterised"][0].astype(int), 2, 6)
    uniform(found["gamma_corrected"][0], 0.5, 3)


DEGRADED = {"downscaled": 1, "compressed": 2, "rained_on": 1, "motion_blurred": 2, "box_blurred": 1, "snowed_on": 1}
RECOLOURED = {
    "equalised_locally": 1, "greyed": 1, "contrasted": 2, "multiplied": 1, "hsv_shifted": 2, "posterised": 1,
    "gamma_corrected": 1, "equalised": 0,
}  # fmt: skip
OF_WHOLE_1 = dict.fromkeys(PARTS, 0.1) | {"to_the_hips": 0.2}
ERASE = {"p": 0.6, "area": (0.1, 0.2), "aspect": 0.5}
MIX = {"p": 0.6, "area": (0.05, 0.2), "aspect": 0.5}
PASTE = {"p": 0.6, "occluders": "procedural", "count": (2, 5), "scale": (0.3, 0.9)}
PASTING = {"watched": ("resized", "paste"), "replaced": ("resized", "paste"), "draws": 500}
STATEMENTS: dict[str, tuple[Statement, ...]] = {
    "channel_noise": (Statement({"factor": 0.3}, channel_noise, small),),
    "flip": (Statement({"p": 0.3}, flip, small),),
    "rotate_scale": (Statement({"rotation_deg": 20, "scale": 0.1, "p": 0.7}, rotate_scale, small),),
    "random_crop": (Statement({"p": 0.6, "factor": 0.5, "axis": "all"}, random_crop, small),),
    "photometric_distortion": (
        Statement(
            {"p": 0.8, "brightness": 20, "contrast": (0.4, 1.8), "saturation": (0.6, 1.4), "hue": 10},
            photometric_distortion, small, ("distort",), ("distort",),
        ),
    ),
    "hard_erase": (Statement(ERASE, erased((70.0, 70.0, SIDE, SIDE)), places, ("place_rectangle",)),),
    "random_occlusion": (
        Statement(ERASE, erased((40.0, 60.0, 100.0, 80.0)), places, ("place_rectangle",), draws=1000),
    ),
    "soft_erase": (Statement(MIX, soft_erase, places, ("mixed",), ("mixed",)),),
    "self_mix": (Statement(MIX, self_mix, places, ("mixed",), ("mixed",)),),
    "coarse_dropout": (
        Statement({"p": 0.7, "holes": (1, 1), "side_px": (5, 24)}, one_hole, white, draws=1200),
        Statement({"p": 1, "holes": (3, 7), "side_px": (1, 1)}, many_holes, white, draws=1000),
    ),
    "grid_dropout": (Statement({"p": 0.6, "unit_px": (8, 23), "ratio": 0.25}, grid_dropout, white, draws=1200),),
    "blur": (Statement({"p": 0.6, "sigma_px": (0.5, 2.5)}, blur, small, ("GaussianBlur",)),),
    "pixel_noise": (Statement({"p": 0.6, "levels": (5, 15)}, pixel_noise, small),),
    "extreme_crop": (
        Statement({"p": 0.6, "level": 1}, part_drawn(OF_WHOLE_1, 1), everywhere, ("drawn_part",)),
        Statement(
            {"p": 0.6, "level": 0}, part_drawn({"to_the_shoulders": 0.9, "head": 0.1}, 0),
            lambda: everywhere(waist=True), ("drawn_part",),
        ),
    ),
    "degrade": (
        Statement(
            {
                "p": 0.6, "downscale": (0.3, 0.7), "jpeg_quality": (10, 40), "motion_px": (4, 9), "blur_px": (5, 13),
                "snow_below": (50, 90),
                "kinds": {"downscale": 1, "jpeg": 2, "rain": 1, "motion_blur": 2, "blur": 1, "snow": 1},
            },
            degrade, small, tuple(DEGRADED), tuple(DEGRADED),
        ),
    ),
    "recolour": (
        Statement(
            {
                "p": 0.6, "clahe_limit": (2, 5), "brightness": 0.1, "contrast": 0.4, "noise": (0.8, 1.1), "hue": 10,
                "saturation": 15, "value": 25, "bits": (2, 6), "gamma": (0.5, 3),
                "kinds": {
                    "clahe": 1, "grey": 1, "brightness_contrast": 2, "noise": 1, "hue_saturation": 2, "posterise": 1,
                    "gamma": 1, "equalise": 0,
                },
            },
            recolour, small, tuple(RECOLOURED), tuple(RECOLOURED),
        ),
    ),
    "occlude": (Statement(PASTE, occluded, white, **PASTING),),
    "occlude_keypoints": (
        Statement({**PASTE, "spread": 0.05}, occluded_joint, lambda: joints_at((200, 200)), **PASTING),
        Statement(
            {**PASTE, "spread": 0}, occluded_joints,
            lambda: joints_at((100, 100), (300, 100), (100, 300), (300, 300)), **PASTING,
        ),
    ),
}  # fmt: skip


def drawn(name: str, statement: Statement, monkeypatch: pytest.MonkeyPatch) -> tuple[list[Draw], View]:
    function, start, draws = AUGMENTS[name], statement.start(), []
    home = sys.modules[function.__module__]
    for watched in statement.watched:
        place = cv2 if hasattr(cv2, watched) else home
        run = None if watched in statement.replaced else getattr(place, watched)
        monkeypatch.setattr(place, watched, partial(recorded, draws, watched, run))
    rng = np.random.default_rng(11)
    for _ in range(statement.draws):
        draws.append(Draw(start))
        draws[-1].view = function(start, rng, **statement.args)
    return draws, start


def recorded(draws: list[Draw], name: str, run: Callable | None, *args: Any) -> Any:
    """In place of a watched function: what a costly one is not run for is its first argument."""
    draws[-1].calls.append((name, args))
    return run(*args) if run else args[0]


CASES = [(name, number) for name, statements in STATEMENTS.items() for number in range(len(statements))]


@pytest.mark.parametrize(("name", "number"), CASES)
def test_chance_has_the_rates_and_distributions_of_the_arguments(
    name: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    statement = STATEMENTS[name][number]
    statement.check(*drawn(name, statement, monkeypatch))


def test_every_augmentation_has_a_statement_about_every_argument() -> None:
    assert set(STATEMENTS) == {function.__name__ for function in BEFORE_WARP + AFTER_WARP}
    for name, statements in STATEMENTS.items():
        parameters = inspect.signature(AUGMENTS[name]).parameters.values()
        asked = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
        assert {argument for statement in statements for argument in statement.args} == asked, name


# Of the study's configs/augmentation; occluders are the ones that need no download. The last five are not of the study.
DEFAULTS = {
    "channel_noise": {"factor": 0.4},
    "flip": {"p": 0.5},
    "rotate_scale": {"rotation_deg": 30, "scale": 0.25, "p": 0.6},
    "random_crop": {"p": 0.8, "factor": 0.4, "axis": "y"},
    "photometric_distortion": {
        "p": 1.0, "brightness": 32, "contrast": (0.5, 1.5), "saturation": (0.5, 1.5), "hue": 18,
    },
    "hard_erase": {"p": 0.5, "area": (0.0, 0.7), "aspect": 0.3},
    "random_occlusion": {"p": 0.5, "area": (0.0, 0.7), "aspect": 0.3},
    "soft_erase": {"p": 0.5, "area": (0.02, 0.4), "aspect": 0.3},
    "self_mix": {"p": 0.5, "area": (0.02, 0.4), "aspect": 0.3},
    "coarse_dropout": {"p": 0.5, "holes": (1, 8), "side_px": (10, 40)},
    "grid_dropout": {"p": 0.5, "unit_px": (10, 40), "ratio": 0.5},
    "occlude": {"p": 1.0, "occluders": "procedural", "count": (1, 7), "scale": (0.2, 1.0)},
    "occlude_keypoints": {
        "p": 1.0, "occluders": "procedural", "count": (1, 7), "scale": (0.2, 1.0), "spread": 0.1,
    },
    "blur": {"p": 0.5, "sigma_px": (0.0, 2.0)},
    "pixel_noise": {"p": 0.5, "levels": (0.0, 12.0)},
    "extreme_crop": {"p": 0.1, "level": 1},
    "degrade": {
        "p": 0.3, "downscale": (0.5, 0.9), "jpeg_quality": (20, 100), "motion_px": (3.0, 15.0), "blur_px": (3, 9),
        "snow_below": (110.5, 136.0),
        "kinds": {"downscale": 0.1, "jpeg": 0.1, "rain": 0.1, "motion_blur": 0.2, "blur": 0.1, "snow": 0.5},
    },
    "recolour": {
        "p": 0.3, "clahe_limit": (1.0, 11.0), "brightness": 0.2, "contrast": 0.2, "noise": (0.5, 1.5), "hue": 20,
        "saturation": 30, "value": 20, "bits": (4, 4), "gamma": (0.8, 2.0),
        "kinds": {
            "clahe": 0.2, "grey": 0.2, "brightness_contrast": 0.2, "noise": 0.2, "hue_saturation": 0.2,
            "posterise": 0.1, "gamma": 0.1, "equalise": 0.1,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("name", AUGMENTS)
def test_defaults_are_the_stated_ones(name: str) -> None:
    parameters = inspect.signature(AUGMENTS[name]).parameters.values()
    assert {one.name: one.default for one in parameters if one.kind is one.KEYWORD_ONLY} == DEFAULTS[name]
