"""Occluders to paste over people: a procedurally drawn set, or the objects of Pascal VOC 2012.

An occluder is an RGBA uint8 image cropped to its object; alpha is 0 outside the object.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import Generator, default_rng

from hmrb.errors import RequestError
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import PickleError
from hmrb.needs import pascal_need
from hmrb.store import Store

Occluder = UInt8[np.ndarray, "tall wide 4"]
Outline = Float[np.ndarray, "N 2"]
Parts = list[tuple[Outline, float]]

PROCEDURAL_COUNT, PROCEDURAL_SEED = 96, 2018
PROCEDURAL_PX = (60, 180)  # range of longer sides, similar to half-size Pascal objects
LARGEST_PX = 10_000  # longest side of an occluder
FINE = 2  # supersampling factor, for soft edges


@lru_cache(maxsize=2)
def load_occluders(name: str) -> Sequence[Occluder]:
    """Load `procedural` or `pascal`, cached per process. Raises RequestError if the file is missing or damaged."""
    return procedural() if name == "procedural" else read_pascal(Store.default().pascal)


def read_pascal(path: Path) -> list[Occluder]:
    """Read the file that `prepare_pascal` wrote. Raises RequestError if it is missing or damaged."""
    if not path.exists():
        raise RequestError(
            f"{path}: no such file. The pascal occluders are cut from Pascal VOC 2012 (VOCtrainval_11-May-2012.tar,"
            " host.robots.ox.ac.uk/pascal/VOC/voc2012): unpack it, then hmrb convert-data occluders --raw DIR."
            " Or set occluders: procedural",
            [pascal_need()],
        )
    try:
        with Npz(path) as file:
            pixels, sizes = file.read("pixels"), file.read("sizes").astype(np.int64)
        if sizes.ndim != 2 or sizes.shape[1] != 2 or (sizes < 1).any() or (sizes > LARGEST_PX).any():
            raise ValueError(f"sizes must be N 2, from 1 to {LARGEST_PX}")
        ends = np.cumsum(sizes.prod(1))
        if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != 4 or not len(sizes):
            raise ValueError("it contains no RGBA pixels")
        if ends[-1] != len(pixels):
            raise ValueError("sizes and pixels do not match")
    except (PickleError, AttributeError, ValueError, TypeError) as error:
        raise RequestError(
            f"{path}: cannot be read as occluders ({error}); recreate it: hmrb convert-data occluders --raw DIR"
        ) from None
    flat = np.split(pixels, ends[:-1])
    return [part.reshape(height, width, 4) for part, (height, width) in zip(flat, sizes.tolist(), strict=True)]


def procedural() -> list[Occluder]:
    """Draw furniture, plants, vessels, animals and stones from a fixed seed; the result is always the same."""
    rng = default_rng(PROCEDURAL_SEED)
    shapes = islice(cycle(SHAPES), PROCEDURAL_COUNT)
    return [_draw(rng, shape) for shape in shapes]


def _draw(rng: Generator, shape: Callable[[Generator], Parts]) -> Occluder:
    """Draw the parts (y down) over one another with flat tones, then add a light gradient, a pattern and grain."""
    from hmrb.synthetic.scene import dull, grain  # its renderer needs torch, which naming an augmentation does not

    parts = shape(rng)
    low, high = (limit(np.concatenate([outline for outline, _ in parts]), 0) for limit in (np.min, np.max))
    side = int(rng.integers(*PROCEDURAL_PX, endpoint=True)) * FINE
    zoom = side / float((high - low).max())
    width, height = (max(int(extent), FINE) for extent in np.ceil((high - low) * zoom))
    tone, alpha = np.zeros((height, width), np.float32), np.zeros((height, width), np.uint8)
    for outline, brightness in parts:
        corners = np.rint((outline - low) * zoom * 16).astype(np.int32)
        cv2.fillPoly(tone, [corners], brightness, shift=4)
        cv2.fillPoly(alpha, [corners], 255, shift=4)
    y, x = np.mgrid[:height, :width].astype(np.float32) / side
    slope = rng.normal(0, 0.35, 2)
    tone *= np.float32(1) + (x - 0.5) * slope[0] - (y - 0.5) * abs(slope[1])
    tone *= 1 + 0.12 * cv2.resize(grain(rng), (width, height))
    first, second = (dull(rng, 0.12, 0.8) * (1 + rng.normal(0, 0.25, 3)) for _ in range(2))
    cover = _pattern(rng, x, y)[..., None]
    colour = np.clip(tone[..., None] * (first * (1 - cover) + second * cover), 0, 1) * 255
    rgba = np.concatenate([colour.astype(np.uint8), alpha[..., None]], 2)
    return np.asarray(cv2.resize(rgba, (max(width // FINE, 1), max(height // FINE, 1)), interpolation=cv2.INTER_AREA))


def _pattern(rng: Generator, x: Float[np.ndarray, "h w"], y: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """Weight of the second colour: none, stripes, checks or a band."""
    kind, angle, waves = rng.integers(6), rng.uniform(0, np.pi), rng.uniform(4, 14) * 2 * np.pi
    along = np.sin(waves * (x * np.cos(angle) + y * np.sin(angle)))
    if kind == 0:
        return (along > 0).astype(np.float32)
    if kind == 1:
        across = np.sin(waves * (y * np.cos(angle) - x * np.sin(angle)))
        return (along * across > 0).astype(np.float32)
    if kind == 2:
        middle = rng.uniform(0.2, 0.8)
        return (np.abs(y - middle) < 0.12).astype(np.float32)
    return np.zeros_like(x)


def _bar(x0: float, y0: float, x1: float, y1: float, width: float) -> Outline:
    """A bar of the given thickness between two points."""
    along = np.array([x1 - x0, y1 - y0])
    side = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-9) * width / 2
    start, stop = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([start + side, stop + side, stop - side, start - side])


def _oval(x: float, y: float, wide: float, tall: float, tilt: float = 0.0) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    u, v = wide / 2 * np.cos(angle), tall / 2 * np.sin(angle)
    return np.stack([x + u * np.cos(tilt) - v * np.sin(tilt), y + u * np.sin(tilt) + v * np.cos(tilt)], 1)


def _stone(rng: Generator) -> Parts:
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius = 1 + sum(rng.normal(0, 0.16 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 8))
    outline = np.stack([radius * np.cos(angle), radius * np.sin(angle) * rng.uniform(0.5, 1)], 1)
    return [(outline, 0.8), (outline * 0.8 - (0.08, 0.1), 0.95), (outline * 0.5 - (0.16, 0.18), 1.05)]


def _case(rng: Generator) -> Parts:
    wide, tall, depth, rise = rng.uniform(0.5, 1), rng.uniform(0.4, 1), rng.uniform(0.08, 0.3), rng.uniform(0.05, 0.2)
    front = np.array([[0, 0], [wide, 0], [wide, tall], [0, tall]])
    top = np.array([[0, 0], [depth, -rise], [wide + depth, -rise], [wide, 0]])
    side = np.array([[wide, 0], [wide + depth, -rise], [wide + depth, tall - rise], [wide, tall]])
    inner = front * 0.84 + np.array([wide, tall]) * 0.08
    return [(front, 0.85), (top, 1.1), (side, 0.6), (inner, rng.uniform(0.7, 1.0))]


def _chair(rng: Generator) -> Parts:
    wide, seat, tilt = rng.uniform(0.45, 0.7), rng.uniform(0.5, 0.62), rng.uniform(-0.06, 0.06)
    legs = [_bar(x, seat, x + tilt, 1 + lower, 0.05) for x, lower in ((0, 0), (wide, 0), (0.12, -0.1), (wide, -0.1))]
    back = [_bar(0.1 + wide * k, 0, 0.06 + wide * k, seat, 0.05) for k in (0.0, 0.5, 0.98)]
    rails = [_bar(0.08, y, 0.1 + wide, y, 0.07) for y in (0.04, rng.uniform(0.15, 0.3))]
    cushion = np.array(
        [[0.06, seat - 0.06], [wide + 0.1, seat - 0.06], [wide + 0.02, seat + 0.07], [-0.03, seat + 0.07]]
    )
    return [*((leg, 0.7) for leg in legs), *((bar, 0.9) for bar in back + rails), (cushion, 1.0)]


def _table(rng: Generator) -> Parts:
    wide, tall, depth = rng.uniform(0.8, 1.2), rng.uniform(0.4, 0.7), rng.uniform(0.08, 0.2)
    legs = [_bar(x, 0.05, x, y, 0.05) for x, y in ((0.05, tall), (wide, tall), (depth + 0.1, tall - depth))]
    top = np.array([[0, 0.05], [depth, -depth], [wide + 0.05 - depth / 2, -depth], [wide + 0.05, 0.05]])
    return [*((leg, 0.65) for leg in legs), (top, 1.05), (_bar(0, 0.07, wide + 0.05, 0.07, 0.05), 0.8)]


def _vessel(rng: Generator) -> Parts:
    """A bottle, jug or vase: a symmetric profile with a highlight on one side."""
    height = np.linspace(0, 1, 30)
    neck, body, shoulder = rng.uniform(0.05, 0.12), rng.uniform(0.14, 0.3), rng.uniform(0.2, 0.45)
    radius = neck + (body - neck) / (1 + np.exp((shoulder - height) / 0.04)) - rng.uniform(0, 0.1) * height**4
    profile = np.stack([np.concatenate([-radius, radius[::-1]]), np.concatenate([height, height[::-1]])], 1)
    gloss = np.stack([np.concatenate([-radius * 0.7, -radius[::-1] * 0.45]), profile[:, 1]], 1)
    parts = [(profile, 0.8), (gloss * (1, 0.9) + (0, 0.05), 1.2)]
    return [(_oval(body, 0.55, 0.24, 0.4), 0.7), *parts] if rng.random() < 0.4 else parts


def _plant(rng: Generator) -> Parts:
    leaves = []
    for _ in range(int(rng.integers(18, 40))):
        angle, reach = rng.normal(-np.pi / 2, 0.7), rng.uniform(0.15, 0.6)
        x, y = reach * np.cos(angle), reach * np.sin(angle)
        leaf = _oval(x, y, rng.uniform(0.12, 0.3), rng.uniform(0.04, 0.12), angle + rng.normal(0, 0.5))
        leaves.append((leaf, float(rng.uniform(0.6, 1.15))))
    pot = np.array([[-0.16, -0.02], [0.16, -0.02], [0.12, 0.3], [-0.12, 0.3]])
    return [*leaves, (pot, 0.75), (_bar(-0.18, 0, 0.18, 0, 0.07), 0.9)]


def _animal(rng: Generator) -> Parts:
    """A four-legged animal, seen from the side."""
    tall, thick = rng.uniform(0.3, 0.5), rng.uniform(0.28, 0.42)
    legs = [_bar(x, 0, x + rng.normal(0, 0.05), tall, 0.08) for x in (-0.34, -0.24, 0.24, 0.34)]
    x, y = 0.55, -rng.uniform(0.1, 0.35)
    tail, neck = _bar(-0.45, -0.06, -0.62, rng.uniform(-0.25, 0.15), 0.05), _bar(0.35, -0.02, x, y, 0.16)
    trunk, skull = _oval(0, -0.02, 0.95, thick), _oval(x, y, 0.24, 0.18)
    snout, ear = _oval(x + 0.12, y + 0.03, 0.18, 0.1), _oval(x - 0.06, y - 0.1, 0.06, 0.14)
    body = [(tail, 0.75), (neck, 0.9), (trunk, 0.9), (skull, 1.0), (snout, 0.8), (ear, 0.6)]
    return [*((leg, 0.7) for leg in legs), *body]


def _wheel(rng: Generator) -> Parts:
    """A rim and spokes; much of the background stays visible."""
    angle = np.linspace(0, 2 * np.pi, 60)
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    thick = rng.uniform(0.82, 0.92)
    rim = np.concatenate([ring, ring[::-1] * thick])
    turn = np.arange(int(rng.integers(5, 14))) * np.pi
    spokes = [_bar(-np.cos(a), -np.sin(a), np.cos(a), np.sin(a), 0.03) * 0.9 for a in (turn / len(turn)).tolist()]
    return [*((spoke, 0.9) for spoke in spokes), (rim, 0.7), (_oval(0, 0, 0.2, 0.2), 0.8)]


def _lamp(rng: Generator) -> Parts:
    shade, wide = rng.uniform(0.25, 0.4), rng.uniform(0.2, 0.35)
    cone = np.array([[-wide * 0.6, 0], [wide * 0.6, 0], [wide, shade], [-wide, shade]])
    return [(_bar(0, 0.1, 0, 1, 0.05), 0.6), (_oval(0, 1, 0.4, 0.1), 0.7), (cone, 1.1)]


def _bag(rng: Generator) -> Parts:
    angle, wide = np.linspace(np.pi, 2 * np.pi, 30), rng.uniform(0.2, 0.3)
    arc = np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.8, 1.4)], 1) * wide
    handle = np.concatenate([arc, arc[::-1] * 0.75])
    body = np.array([[-0.36, 0], [0.36, 0], [0.46, 0.6], [0.4, 0.68], [-0.4, 0.68], [-0.46, 0.6]])
    flap = np.array([[-0.37, 0], [0.37, 0], [0.3, rng.uniform(0.2, 0.4)], [-0.3, 0.3]])
    return [(handle, 0.6), (body, 0.85), (flap, 1.0)]


SHAPES = (_stone, _case, _chair, _table, _vessel, _plant, _animal, _wheel, _lamp, _bag)
