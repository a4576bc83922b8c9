"""Backgrounds: ray-traced rooms and open land, and photographed places with the people's shadow on their floor.

Colours are RGB in 0..1. A ray has three slopes: towards world right, up and ahead; `reach` is metres along it.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float

from hmrb.synthetic import panoramas
from hmrb.synthetic.scene import GRAIN_CELLS, Camera, Image, Light, Plane, Points, Shadow, Values, dull, grain, shade

CAMERA_HEIGHT_M = 0.25  # minimum camera height above the drawn floor
FAR_M = 1000.0  # distance of the sky
CONTACT_M = 0.06  # vertices closer to the floor darken it
SKYLINE_CELLS = 64  # houses before the skyline repeats
GROUNDS = ((0.36, 0.43, 0.24), (0.44, 0.44, 0.45), (0.72, 0.65, 0.52), (0.44, 0.37, 0.30), (0.62, 0.62, 0.60))
HORIZON = np.array((0.88, 0.90, 0.92), np.float32)
HALF_VIEW = (22.0, 48.0)  # degrees from the middle to the edge of what is cut out of a panorama
SHADED_M = 20.0  # farther floors of a photographed place show no shadow


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Kinds of background. `walls` is the share with walls, the others are open land.

    The ground between walls is a floor, or if `paved` that of open land. Nothing hangs on `bare` walls. `photographed`
    is the share of backgrounds that are cut out of a panorama, before all others.
    """

    walls: float = 0.6
    paved: bool = False
    bare: bool = False
    photographed: float = 0.0


ANYWHERE = Surroundings()


def backdrop(
    rng: np.random.Generator,
    camera: Camera,
    light: Light,
    shadow: Shadow,
    vertices: Float[np.ndarray, "V 3"],
    setting: Surroundings = ANYWHERE,
    split: str = "train",
) -> Image:
    """Draw the background with the people's shadow; their lowest vertex touches the floor.

    Splits share no panorama.
    """
    if setting.photographed and rng.random() < setting.photographed:
        return _photographed(rng, camera, light, shadow, vertices, split)
    height = vertices @ camera.axes[1]
    floor_m = float(min(height.min(), -CAMERA_HEIGHT_M))
    behind_m = float(np.median(vertices @ camera.axes[2]))
    rays = camera.rays()
    right, up, ahead = (rays @ axis for axis in camera.axes)
    to_floor = np.where(up < -1e-3, np.float32(floor_m) / np.minimum(up, np.float32(-1e-3)), np.float32(FAR_M))
    texture = grain(rng)
    is_room = rng.random() < setting.walls
    image = np.empty((len(rays), 3), np.float32)
    if is_room:
        wall = _Walls(rng, right, ahead, behind_m, setting.bare)
        above, ground = np.flatnonzero(to_floor >= wall.reach), np.flatnonzero(to_floor < wall.reach)
        painted = wall.paint(rng, above, up[above] * wall.reach[above] - np.float32(floor_m), texture)
        image[above] = painted * (light.sky * 0.6 + light.bounce * 0.4 + 0.35 * light.key)
    else:
        above, ground = np.flatnonzero(to_floor >= FAR_M / 2), np.flatnonzero(to_floor < FAR_M / 2)
        image[above] = _land(rng, right[above], up[above], ahead[above])
    kind = int(rng.integers(3)) if is_room and not setting.paved else 3
    reach = to_floor[ground]
    floor = _floor(rng, kind, right[ground] * reach, ahead[ground] * reach, reach / np.float32(camera.focal), texture)
    floor *= _floor_light(camera, light, shadow, rays[ground] * reach[:, None])
    floor *= 1 - 0.55 * _contact(camera, vertices[height < floor_m + CONTACT_M]).ravel()[ground, None]
    if not is_room:
        haze = np.clip(reach / 80, 0, 0.75)[:, None]
        floor += haze * (HORIZON - floor)
    image[ground] = floor
    focus = camera.side / 128 * rng.uniform(0.4, 1.1)  # blur: the person is sharper, and edges are smoothed
    scene: np.ndarray = cv2.GaussianBlur(np.clip(image, 0, 1).reshape(camera.side, camera.side, 3), (0, 0), focus)
    return scene


def _photographed(
    rng: np.random.Generator, camera: Camera, light: Light, shadow: Shadow, vertices: Points, split: str
) -> Image:
    """A part of a panorama, wider than the camera sees, with the people's shadow on its floor."""
    height = vertices @ camera.axes[1]
    floor_m = float(min(height.min(), -CAMERA_HEIGHT_M))
    rays = camera.rays()
    places = panoramas.PANORAMAS[split]
    name, heading = places[int(rng.integers(len(places)))], float(rng.uniform(0, 2 * np.pi))
    widen = max(1.0, float(np.tan(np.radians(rng.uniform(*HALF_VIEW)))) * camera.focal / (camera.side / 2))
    side = camera.side
    image = panoramas.look_into(name, rays @ camera.axes.T, side, heading, widen).reshape(-1, 3)
    image = image * (rng.uniform(0.75, 1.15) * (1 + rng.normal(0, 0.03, 3))).astype(np.float32)
    up = rays @ camera.axes[1]
    reach = np.float32(floor_m) / np.minimum(up, np.float32(-1e-3))
    ground = np.flatnonzero((up < -1e-3) & (reach < SHADED_M))
    up_facing = camera.axes[1:2]
    in_the_open = shade(light, up_facing, camera.axes[1], np.ones(1, np.float32))
    image[ground] *= _floor_light(camera, light, shadow, rays[ground] * reach[ground, None]) / in_the_open
    image[ground] *= 1 - 0.55 * _contact(camera, vertices[height < floor_m + CONTACT_M]).ravel()[ground, None]
    focus = side / 128 * rng.uniform(0.3, 1.1)
    scene: np.ndarray = cv2.GaussianBlur(np.clip(image, 0, 1).reshape(side, side, 3), (0, 0), focus)
    return scene


def _floor_light(camera: Camera, light: Light, shadow: Shadow, points: Points) -> Points:
    """The light on points of the floor, where the people's shadow lies and where it does not."""
    column, row = (np.clip(np.rint(cell), 0, len(shadow.cover) - 1).astype(np.int32) for cell in shadow.cells(points))
    normals = np.broadcast_to(camera.axes[1], points.shape)
    return shade(light, normals, camera.axes[1], 1 - shadow.cover[row, column])


def _contact(camera: Camera, near: Points) -> Plane:
    """Contact shadow of each pixel's floor, 0..1."""
    touched = np.zeros((camera.side, camera.side), np.float32)
    if len(near):
        x, y = np.clip(np.rint(camera.project(near)), 0, camera.side - 1).astype(np.int32).T
        touched[y, x] = 1
    spread = 0.02 * camera.side
    dark: np.ndarray = np.clip(1.6 * cv2.GaussianBlur(touched, (0, 0), spread, sigmaY=spread / 2), 0, 1)
    return dark


class _Walls:
    """A wall behind the person and a side wall that meets it at a corner."""

    def __init__(self, rng: np.random.Generator, right: Values, ahead: Values, behind_m: float, bare: bool) -> None:
        self.bare = bare
        yaw, distance = rng.normal(0, 0.35), np.float32(behind_m + rng.uniform(0.7, 3.5))
        corner = np.float32(rng.uniform(0.8, 6.0) * rng.choice([-1, 1]))
        cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
        along, inwards = cosine * right - sine * ahead, sine * right + cosine * ahead
        to_back = distance / np.maximum(inwards, np.float32(0.05))
        to_side = np.abs(corner) / np.maximum(along * np.sign(corner), np.float32(1e-3))
        self.is_side = to_side < to_back
        self.reach: Values = np.minimum(to_back, to_side)
        # Metres along the wall; the offset of the side wall keeps objects from extending around the corner.
        self.across = np.where(self.is_side, 20 + inwards * self.reach, along * self.reach)

    def paint(self, rng: np.random.Generator, rows: np.ndarray, height: Values, texture: Plane) -> Points:
        """Colours of the walls for the rays `rows`, at `height` metres above the floor."""
        across, is_side = self.across[rows], self.is_side[rows]
        tone = 1 + np.float32(rng.normal(0, 0.03)) * np.clip(across, -4, 4)
        tone -= np.float32(0.14) * is_side + np.float32(0.15) * np.exp(-np.maximum(height, 0) * 3)
        if rng.random() < 0.25:  # wallpaper or panels
            stripe = across * np.float32(1 / rng.uniform(0.15, 0.6))
            tone -= np.float32(rng.uniform(0.03, 0.10)) * (stripe - np.floor(stripe) < 0.5)
        tone += np.float32(rng.uniform(0.01, 0.045)) * _read(texture, across * 25, height * 25)
        colour = np.empty((len(rows), 3), np.float32)
        colour[:] = dull(rng, 0.5, 0.95)
        if rng.random() < 0.25:
            colour[height < rng.uniform(0.8, 1.3)] *= dull(rng, 0.6, 0.95)
        colour[height < 0.1] *= 0.75
        for _ in range(0 if self.bare else rng.integers(0, 6)):
            _hang(rng, colour, across, height)
        colour *= tone[:, None]
        return colour


def _hang(rng: np.random.Generator, colour: Points, across: Values, height: Values) -> None:
    """Draw a window, a door, a picture or a cupboard on a wall: a frame around a panel."""
    kind = rng.integers(4)
    low, tall, wide = ((0.9, 1.3, 1.3), (0.0, 2.05, 0.9), (1.3, 0.5, 0.6), (0.0, 1.0, 1.1))[kind]
    tall, wide = tall * rng.uniform(0.8, 1.2), wide * rng.uniform(0.7, 1.6)
    start = rng.choice([0.0, 20.0]) + rng.uniform(-3.0, 3.0)
    frame, panel = dull(rng, 0.25, 0.95), dull(rng, 0.25, 0.85)
    sideways = np.minimum(across - np.float32(start), np.float32(start + wide) - across)
    inside = np.minimum(sideways, np.minimum(height - np.float32(low), np.float32(low + tall) - height))
    colour[inside > 0] = frame
    if kind == 0:
        pane = (inside > 0.06) & (np.abs(across - np.float32(start + wide / 2)) > 0.03)
        colour[pane] = (0.86, 0.92, 0.96)
    else:
        colour[inside > 0.05] = panel


def _land(rng: np.random.Generator, right: Values, up: Values, ahead: Values) -> Points:
    """Draw the sky above two rows of hills, trees or houses."""
    flat = 1 / np.maximum(ahead, np.float32(0.1))
    azimuth, elevation = right * flat, up * flat
    zenith = np.array((0.47, 0.64, 0.86), np.float32) if rng.random() < 0.6 else dull(rng, 0.65, 0.85)
    image: np.ndarray = HORIZON + np.clip(elevation * 2.2, 0, 1)[:, None] * (zenith - HORIZON)
    for paleness, base in ((0.6, rng.uniform(0.06, 0.22)), (0.2, rng.uniform(0.02, 0.12))):
        if rng.random() < 0.5:
            lots = azimuth * np.float32(1 / rng.uniform(0.06, 0.2)) + SKYLINE_CELLS
            house = lots.astype(np.int32) & (SKYLINE_CELLS - 1)
            top = (base * rng.uniform(0.5, 2.2, SKYLINE_CELLS)).astype(np.float32)[house]
            tone = rng.uniform(0.75, 1.1, SKYLINE_CELLS).astype(np.float32)[house]
            storey = elevation * 40
            panes = (lots * 5 % 1 < 0.4) & (storey - np.floor(storey) < 0.5)
            colour, tone = dull(rng, 0.4, 0.75), tone - np.float32(0.2) * panes
        else:
            steps = np.linspace(-2, 2, 257)
            ridge = sum(np.sin(steps * s * rng.uniform(0.7, 1.3) + rng.uniform(0, 6)) / s**0.6 for s in (3, 8, 19, 43))
            top = np.interp(azimuth, steps, base * (1 + 0.6 * ridge)).astype(np.float32)
            colour, tone = dull(rng, 0.3, 0.5) * np.array((0.85, 1.05, 0.8), np.float32), np.ones_like(azimuth)
        hidden = np.flatnonzero(elevation < top)
        image[hidden] = tone[hidden, None] * (colour * (1 - paleness)) + HORIZON * paleness
    return image.astype(np.float32)


def _floor(rng: np.random.Generator, kind: int, u: Values, v: Values, pixel_m: Values, texture: Plane) -> Points:
    """Colours of tiles (0), planks (1), carpet (2) or ground (3) at u, v in metres; sub-pixel detail fades out."""
    yaw = rng.uniform(0, np.pi)
    cosine, sine = np.float32(np.cos(yaw)), np.float32(np.sin(yaw))
    a, b = u * cosine + v * sine, v * cosine - u * sine
    period = np.float32(rng.uniform(0.25, 0.8))
    colour, tone = dull(rng, 0.35, 0.8), np.ones(len(u), np.float32)
    rough = np.float32(rng.uniform(0.02, 0.06))
    if kind == 0:
        away = (np.abs(side - np.rint(side)) for side in (a / period, b / period))
        tone -= np.float32(0.3) * np.clip(1.5 - 4 * pixel_m / period, 0, 1) * (np.minimum(*away) < 0.03)
    elif kind == 1:
        boards = a / np.float32(0.16)
        board = np.floor(boards)
        colour = (np.array((0.64, 0.49, 0.36)) * rng.uniform(0.6, 1.25)).astype(np.float32)
        uneven = rng.uniform(-0.12, 0.12, 32).astype(np.float32)[board.astype(np.int32) & 31]
        tone += np.clip(1.5 - 20 * pixel_m, 0, 1) * (uneven - np.float32(0.2) * (boards - board < 0.07))
    elif kind == 3:
        colour = (np.array(GROUNDS[rng.integers(len(GROUNDS))]) * rng.uniform(0.85, 1.2)).astype(np.float32)
        rough *= 2
    # Fine grain fades with distance to avoid aliasing; coarse grain stays.
    tone += rough * (_read(texture, a * 25, b * 25) * np.clip(0.05 / pixel_m, 0, 1) + _read(texture, a * 4, b * 4))
    painted: np.ndarray = tone[:, None] * colour
    return painted


def _read(table: Float[np.ndarray, "C C"], across: Values, down: Values) -> Values:
    """Sample the periodic grain at fractional cells with bilinear interpolation."""
    left, top = np.floor(across), np.floor(down)
    u, v = across - left, down - top
    last = GRAIN_CELLS - 1
    column, row = left.astype(np.int32) & last, (top.astype(np.int32) & last) * GRAIN_CELLS
    next_column, next_row = (column + 1) & last, (row + GRAIN_CELLS) & (GRAIN_CELLS**2 - 1)
    flat = table.ravel()
    upper = flat[row + column] * (1 - u) + flat[row + next_column] * u
    lower = flat[next_row + column] * (1 - u) + flat[next_row + next_column] * u
    read: np.ndarray = upper * (1 - v) + lower * v
    return read
