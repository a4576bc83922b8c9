"""Lighting and photography of a person: camera, light, shadow, occluders and the final image.

Camera frame: x right, y down, z forward, metres. Colours are RGB in 0..1; pixel (0, 0) is centred at (0, 0).
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from hmrb.body.render import rasterise

SHADOW_PX = 112  # side of the shadow map: about 2 cm per cell for a standing person
SHADOW_RIM = 4  # empty cells around the body, for the soft edge of its shadow
SHADOW_BIAS_M = 0.03  # more than the depth change in a cell (no shadow acne), less than an arm (no missing shadows)
GRAIN_CELLS = 128  # side of the noise texture; a power of two, for wrapping by bit masks

Image = Float[np.ndarray, "H W 3"]
Plane = Float[np.ndarray, "H W"]
Points = Float[np.ndarray, "N 3"]
Values = Float[np.ndarray, " N"]
Colour = Float[np.ndarray, "3"]


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera with a square image of `side` px, principal point at its centre; `axes` rows: world right, up, ahead."""

    focal: float
    side: int
    axes: Float[np.ndarray, "3 3"]

    @property
    def center(self) -> float:
        """Principal point (equal x and y) in px."""
        return (self.side - 1) / 2

    def project(self, points: Points) -> Float[np.ndarray, "N 2"]:
        """Project points in the camera frame to pixels."""
        flat: np.ndarray = points[:, :2] * (np.float32(self.focal) / points[:, 2:]) + np.float32(self.center)
        return flat

    def rays(self) -> Points:
        """Rays through all pixel centres, row by row, with z = 1."""
        slope = (np.arange(self.side, dtype=np.float32) - np.float32(self.center)) / np.float32(self.focal)
        rays = np.ones((self.side, self.side, 3), np.float32)
        rays[..., 0], rays[..., 1] = slope[None, :], slope[:, None]
        return rays.reshape(-1, 3)


@dataclass(frozen=True, slots=True)
class Light:
    """A distant light (`towards` is a unit vector in the camera frame) and ambient light from above and below."""

    towards: Float[np.ndarray, "3"]
    key: Colour
    sky: Colour
    bounce: Colour


@dataclass(frozen=True, slots=True)
class Shadow:
    """A shadow map: the body's depth per cell seen from the light (inf outside it) and its blurred silhouette.

    Rows of `basis` are the map's x, y and depth axes in the camera frame; `low` is the first cell's x and y in metres.
    """

    basis: Float[np.ndarray, "3 3"]
    low: Float[np.ndarray, "2"]
    scale: float
    depth: Float[np.ndarray, "P P"]
    cover: Float[np.ndarray, "P P"]

    def cells(self, points: Points) -> tuple[Values, Values]:
        """Fractional column and row of points."""
        across, down = (
            (points @ self.basis[axis] - self.low[axis]) * np.float32(self.scale) + np.float32(SHADOW_RIM)
            for axis in (0, 1)
        )
        return across, down


def sample_light(rng: np.random.Generator, camera: Camera) -> Light:
    """Sample a warm or cool light from above, more often from behind the camera than from behind the person."""
    azimuth, height = rng.normal(np.pi, 1.0), np.radians(rng.uniform(25, 70))
    world = np.array([np.sin(azimuth) * np.cos(height), np.sin(height), np.cos(azimuth) * np.cos(height)])
    contrast, warmth = rng.uniform(0.25, 0.8), rng.normal(0.02, 0.04)
    sky = (1.0 - 0.6 * contrast) * np.array([1 - 0.6 * warmth, 1.0, 1 + 0.6 * warmth])
    return Light(
        towards=(world @ camera.axes).astype(np.float32),
        key=(contrast * np.array([1 + warmth, 1.0, 1 - warmth])).astype(np.float32),
        sky=sky.astype(np.float32),
        bounce=(0.6 * sky).astype(np.float32),
    )


def shade(light: Light, normals: Points, up: Float[np.ndarray, "3"], lit: Values) -> Points:
    """RGB irradiance of surfaces with unit normals; `lit` is 0 in shadow."""
    lamp = np.maximum(normals @ light.towards, 0) * lit
    skywards = np.float32(0.5) + np.float32(0.5) * (normals @ up)
    fallen = np.empty(normals.shape, np.float32)
    for channel in range(3):
        fallen[:, channel] = light.bounce[channel] + (light.sky - light.bounce)[channel] * skywards
        fallen[:, channel] += light.key[channel] * lamp
    return fallen


def cast_shadow(light: Light, vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Shadow:
    """Render the body's shadow map with parallel rays, SHADOW_PX cells along the longer side."""
    forward = -light.towards
    right = np.cross(forward, (0.0, 0.0, 1.0) if abs(forward[2]) < 0.9 else (1.0, 0.0, 0.0))
    right /= np.linalg.norm(right)
    basis = np.stack([right, np.cross(forward, right), forward]).astype(np.float32)
    seen = basis @ vertices.T
    low, high = seen.min(1), seen.max(1)
    scale = float((SHADOW_PX - 1 - 2 * SHADOW_RIM) / (high - low)[:2].max())
    cells = np.stack(
        [(seen[0] - low[0]) * scale + SHADOW_RIM, (seen[1] - low[1]) * scale + SHADOW_RIM, seen[2] - low[2] + 1], 1
    )
    fragments = rasterise(cells.astype(np.float32), faces, SHADOW_PX, SHADOW_PX)
    depth = np.full((SHADOW_PX, SHADOW_PX), np.inf, np.float32)
    depth.ravel()[fragments.pixel] = fragments.depth - 1 + low[2]
    cover = cv2.GaussianBlur(np.isfinite(depth).astype(np.float32), (0, 0), 1.6)
    return Shadow(basis, low[:2], scale, depth, cover)


def lit_share(shadow: Shadow, points: Points) -> Values:
    """1 where the light reaches the body's surface, 0 where another part blocks it; bilinear between cells."""
    across, down = shadow.cells(points)
    column = np.clip(across.astype(np.int32), 0, SHADOW_PX - 2)
    row = np.clip(down.astype(np.int32), 0, SHADOW_PX - 2)
    u, v = across - column.astype(np.float32), down - row.astype(np.float32)
    cell, flat = row * SHADOW_PX + column, shadow.depth.ravel()
    limit = points @ shadow.basis[2] - np.float32(SHADOW_BIAS_M)
    upper = (flat[cell] > limit) * (1 - u) + (flat[cell + 1] > limit) * u
    lower = (flat[cell + SHADOW_PX] > limit) * (1 - u) + (flat[cell + SHADOW_PX + 1] > limit) * u
    share: np.ndarray = upper * (1 - v) + lower * v
    return share


def grain(rng: np.random.Generator) -> Float[np.ndarray, "N N"]:
    """Grey noise of four octaves, mean 0, standard deviation about 0.8; almost seamless when tiled."""
    texture = np.zeros((GRAIN_CELLS, GRAIN_CELLS), np.float32)
    for cells in (8, 16, 32, 128):
        octave = rng.standard_normal((cells, cells), dtype=np.float32)
        texture += cv2.resize(octave, (GRAIN_CELLS, GRAIN_CELLS), interpolation=cv2.INTER_CUBIC)
    texture *= 0.5
    return texture


def dull(rng: np.random.Generator, low: float, high: float) -> Colour:
    """A muted, slightly warm colour, as is typical of rooms and streets."""
    warmth, green = rng.normal(0.02, 0.07), rng.normal(0, 0.02)
    tinted: np.ndarray = rng.uniform(low, high) * np.array([1 + warmth, 1 + green, 1 - warmth])
    limited: np.ndarray = np.clip(tinted, 0, 1).astype(np.float32)
    return limited


def occlude(rng: np.random.Generator, image: Image, body: Plane) -> tuple[Image, float]:
    """Draw an occluder (desk, pillar, bush or box); returns the image and the fraction of the body that it hides.

    `body` is the body's alpha.
    """
    side = len(body)
    rows, columns = (np.flatnonzero(body.max(axis) > 0.5) for axis in (1, 0))
    top, left = int(rows[0]), int(columns[0])
    tall, wide = int(rows[-1]) + 1 - top, int(columns[-1]) + 1 - left
    y, x = np.mgrid[:side, :side].astype(np.float32)
    x, y = x - left, y - top  # now relative to the corner of the body's box
    kind, reach = rng.integers(4), rng.uniform(0.2, 0.5)
    colour = dull(rng, 0.2, 0.75)
    rough = cv2.resize(grain(rng), (side, side), interpolation=cv2.INTER_LINEAR)
    if kind == 0:  # a desk or a low wall: a light edge, then its front
        below = y - (1 - reach) * tall - rng.normal(0, 0.06) * (x - wide / 2)
        cover = np.clip(below + 0.5, 0, 1)
        tone = 1 - 0.3 * np.clip(below - 0.04 * side, 0, 1)
    elif kind == 1:  # a pillar or a door's edge, rounded by its shade
        half = 0.3 * reach * wide + 0.02 * side
        away = (x - rng.uniform(0, wide)) / half
        cover = np.clip((1 - np.abs(away)) * half + 0.5, 0, 1)
        tone = 1 - 0.2 * away
    elif kind == 2:  # a bush: clumps of leaves, each lit from above, on a dark inside
        cover, tone = np.zeros((2, side, side), np.float32)
        colour = (np.array((0.30, 0.40, 0.20)) * rng.uniform(0.7, 1.3)).astype(np.float32)
        middle = rng.uniform(0, wide)
        for _ in range(26):
            dx, dy, size = rng.normal(0, 0.14 * tall), abs(rng.normal(0, 0.2 * tall)), rng.uniform(0.03, 0.08) * tall
            away = np.hypot(x - middle - dx, y - tall + dy) / size + 0.25 * rough
            cover = np.maximum(cover, away < 1)
            tone = np.where(away < 1, 1.15 - 0.5 * away**2 * (y > tall - dy), tone)
        cover = cv2.GaussianBlur(cover, (0, 0), 0.5)
    else:  # a box, a bag, a board, with a darker rim
        half_x, half_y = reach * wide * rng.uniform(0.4, 0.8), reach * tall * rng.uniform(0.25, 0.5)
        dx, dy = np.abs(x - rng.uniform(0, wide)), np.abs(y - rng.uniform(0.35, 1) * tall)
        inside = np.minimum(half_x - dx, half_y - dy)
        cover = np.clip(inside + 0.5, 0, 1)
        tone = 1 - 0.25 * (inside < 0.02 * side)
    tone = tone * (1 + (0.16 if kind == 2 else 0.05) * rough)
    cover = cover.astype(np.float32)[..., None]
    hidden = float((body * cover[..., 0]).sum() / max(float(body.sum()), 1.0))
    covered: np.ndarray = image * (1 - cover) + cover * np.clip(tone[..., None] * colour, 0, 1)
    return covered.astype(np.float32), hidden


def photograph(rng: np.random.Generator, image: Image) -> bytes:
    """JPEG of the scene with typical camera flaws: slight blur, noise and wrong white balance; quality 60 to 95."""
    side = len(image)
    soft = cv2.GaussianBlur(image, (0, 0), side / 128 * rng.uniform(0.2, 0.6))
    balance = rng.uniform(0.92, 1.15) * (1 + rng.normal(0, 0.02, 3))
    exposed: np.ndarray = cv2.pow(np.clip(soft * balance.astype(np.float32), 0, 1), rng.uniform(0.82, 1.12))
    luma, chroma = rng.uniform(0, 0.016), rng.uniform(0, 0.010)
    exposed += (np.float32(luma) * rng.standard_normal((side, side), dtype=np.float32))[..., None]
    blotches = rng.standard_normal((side // 2, side // 2, 3), dtype=np.float32)  # as after in-camera denoising
    exposed += np.float32(chroma) * cv2.resize(blotches, (side, side), interpolation=cv2.INTER_LINEAR)
    picture: UInt8[np.ndarray, "H W 3"] = np.rint(np.clip(exposed, 0, 1) * 255).astype(np.uint8)
    quality = int(rng.integers(60, 96))
    done, jpeg = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return jpeg.tobytes()
