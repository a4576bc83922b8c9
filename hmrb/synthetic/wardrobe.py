"""Procedural clothes: a pixel's colour is computed from its position on the unposed body.

Rest coordinates are metres on the mean body: x to the person's left, y up, z forwards. Seams are defined in space, so
they are sharp at any resolution without texture files. Clothes also have a thickness, which changes only the image.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

SKINS = (
    (0.96, 0.80, 0.70),
    (0.90, 0.72, 0.58),
    (0.82, 0.63, 0.50),
    (0.66, 0.46, 0.33),
    (0.48, 0.32, 0.22),
    (0.34, 0.22, 0.16),
)
HAIRS = (
    (0.07, 0.06, 0.06),
    (0.16, 0.10, 0.07),
    (0.28, 0.18, 0.11),
    (0.42, 0.25, 0.14),
    (0.70, 0.55, 0.34),
    (0.62, 0.61, 0.60),
)
# Muted colours: most clothes are not colourful.
CLOTHS = (
    (0.90, 0.90, 0.88), (0.55, 0.56, 0.58), (0.20, 0.21, 0.23), (0.12, 0.16, 0.28), (0.72, 0.66, 0.55),
    (0.25, 0.33, 0.48), (0.36, 0.46, 0.60), (0.32, 0.36, 0.27), (0.42, 0.29, 0.22), (0.55, 0.16, 0.18),
)  # fmt: skip
DARK_EYE, WHITE_EYE = (0.13, 0.09, 0.07), (0.80, 0.78, 0.75)
PATTERNS = ("plain", "stripes", "bands", "checks", "dots", "block", "print")
HAIR_CUTS = ("short", "short", "medium", "long", "tail", "buzz", "bald")
HATS = ("none", "cap", "beanie", "scarf")

Points = Float[np.ndarray, "N 3"]
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Measures:
    """Positions of the mean body's parts in rest coordinates, in metres."""

    shoulder_x: float
    wrist_x: float
    neck_y: float
    waist_y: float
    hip_y: float
    knee_y: float
    ankle_y: float
    floor_y: float
    eye: tuple[float, float, float]
    mouth_y: float

    @classmethod
    def take(cls, joints: Float[np.ndarray, "54 3"], floor_y: float) -> "Measures":
        """Measure the smpl54 joints of the unposed mean body."""
        x, y = joints[:, 0], joints[:, 1]
        eye = (float(joints[26, 0]), float(joints[26, 1]), float(joints[26, 2]))
        return cls(
            shoulder_x=float(x[16]), wrist_x=float(x[20]), neck_y=float(y[12]), waist_y=float(y[3]) + 0.03,
            hip_y=float(y[1]), knee_y=float(y[4]), ankle_y=float(y[7]), floor_y=floor_y,
            eye=eye, mouth_y=float(y[52]),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cloth:
    """One garment's fabric. Colours are RGB in 0..1; `period` and `width` (thickness) are in metres.

    `flare` is the additional distance from the skin at the ankle compared to the hip, for wide trousers and skirts.
    """

    colour: Colour
    second: Colour
    pattern: str
    period: float
    width: float
    flare: float


@dataclass(frozen=True, slots=True)
class Look:
    """One person's appearance.

    Lengths are fractions of the limb: sleeve 1 ends at the wrist, trousers 1 at the ankle, boots 1 at the knee; the top
    ends at the height `hem_y`. Rows of `wrinkles` are waves: a wave vector in radians per metre and a phase.
    """

    skin: Colour
    hair: Colour
    cut: str
    fringe: float
    beard: float
    glasses: bool
    hat: str
    hat_colour: Colour
    top: Cloth
    sleeve: float
    neckline: str
    hem_y: float
    jacket: Cloth | None
    bottom: Cloth
    trousers: float
    shoes: Colour
    sole: Colour
    boots: float
    socks: Colour
    wrinkles: Float[np.ndarray, "W 4"]


def sample_look(rng: np.random.Generator) -> Look:
    """Sample a plausible combination of clothes, skin and hair."""
    skin = SKINS[rng.integers(len(SKINS))]
    greying = rng.random() < 0.12
    hair = HAIRS[5] if greying else HAIRS[int(rng.integers(2 if skin[0] < 0.6 else 5))]
    is_warm = rng.random() < 0.25  # jacket weather
    is_skirt = rng.random() < 0.15
    bottom = _cloth(rng, width=0.008, plain=0.85, dull=0.85)
    legs = float(rng.choice([0.32, 0.42, 0.75, 0.97], p=[0.15, 0.15, 0.1, 0.6]))
    sleeve = float(rng.choice([-0.05, 0.25, 0.45, 1.0], p=[0.12, 0.43, 0.1, 0.35]))
    return Look(
        skin=_near(rng, skin, 0.02),
        hair=_near(rng, hair, 0.02),
        cut=HAIR_CUTS[rng.integers(len(HAIR_CUTS))],
        fringe=float(rng.normal(0, 0.008)),
        beard=float(rng.uniform(0.3, 0.9)) if rng.random() < 0.2 else 0.0,
        glasses=bool(rng.random() < 0.15),
        hat=str(rng.choice(HATS, p=[0.8, 0.08, 0.07, 0.05])),
        hat_colour=_cloth_colour(rng, 0.7),
        top=_cloth(rng, width=0.007, plain=0.5, dull=0.55),
        sleeve=1.0 if is_warm else sleeve,
        neckline=str(rng.choice(["crew", "vee", "high"], p=[0.6, 0.25, 0.15])),
        hem_y=float(rng.choice([0.07, -0.02, -0.09, -0.28], p=[0.3, 0.3, 0.3, 0.1]) + rng.normal(0, 0.01)),
        jacket=_cloth(rng, width=0.014, plain=0.8, dull=0.75) if is_warm else None,
        bottom=replace(bottom, flare=0.07) if is_skirt else bottom,
        trousers=float(rng.uniform(0.35, 0.6)) if is_skirt else legs,
        shoes=_cloth_colour(rng, 0.85),
        sole=(0.85, 0.85, 0.83) if rng.random() < 0.5 else (0.1, 0.1, 0.1),
        boots=float(rng.uniform(0.05, 0.2)) if rng.random() < 0.2 else 0.0,
        socks=_cloth_colour(rng, 0.95),
        wrinkles=np.concatenate([rng.normal(0, 45, (4, 3)), rng.uniform(0, 2 * np.pi, (4, 1))], 1).astype(np.float32),
    )


def thickness(look: Look, measures: Measures, points: Points) -> Float[np.ndarray, " N"]:
    """Thickness of clothes and hair at each point, in metres."""
    zones = find_zones(look, measures, points)
    width = np.zeros(len(points), np.float32)
    width[zones["shoes"]] = 0.008
    legs = zones["bottom"]
    along = np.clip((measures.hip_y - points[legs, 1]) / (measures.hip_y - measures.ankle_y), 0, 1)
    width[legs] = look.bottom.width + look.bottom.flare * along
    width[zones["top"]] = look.top.width
    if look.jacket is not None:
        width[zones["jacket"]] = look.jacket.width
    width[zones["hair"]] = {"buzz": 0.002, "short": 0.012, "bald": 0.0}.get(look.cut, 0.02)
    width[zones["hat"]] = 0.018
    return width


def paint(look: Look, measures: Measures, points: Points) -> Float[np.ndarray, "N 3"]:
    """Colour of each point under white light, RGB in 0..1."""
    zones = find_zones(look, measures, points)
    colour = np.empty((len(points), 3), np.float32)
    colour[:] = look.skin
    head = np.flatnonzero(points[:, 1] > measures.neck_y)
    colour[head] = _face(look, measures, points[head])
    _fill(colour, zones["socks"], look.socks)
    shoes = zones["shoes"]
    _fill(colour, shoes, look.shoes)
    _fill(colour, shoes[points[shoes, 1] < measures.floor_y + 0.022], look.sole)
    for zone, cloth in (("bottom", look.bottom), ("top", look.top), ("jacket", look.jacket)):
        if cloth is not None:
            colour[zones[zone]] = fabric(cloth, measures, points[zones[zone]])
    colour[zones["hair"]] = strands(look, points[zones["hair"]])
    hat = zones["hat"]
    ribs = 1 + 0.06 * np.sin(points[hat, 1] * 500) if look.hat == "beanie" else np.ones(len(hat), np.float32)
    colour[hat] = ribs[:, None] * np.array(look.hat_colour, np.float32)
    return np.clip(colour, 0, 1)


def strands(look: Look, points: Points) -> Float[np.ndarray, "N 3"]:
    """Colour of hair at each point."""
    shade = 1 + 0.14 * np.sin(np.arctan2(points[:, 0], points[:, 2] - 0.03) * 23 + points[:, 1] * 60)
    tint = np.array(look.hair, np.float32)
    if look.cut == "buzz":
        tint = 0.5 * tint + 0.5 * np.array(look.skin, np.float32)
    coloured: np.ndarray = shade[:, None] * tint
    return coloured


def wrinkle(look: Look, points: Points) -> Points:
    """Offset that folds add to a unit normal: a sum of a few long waves."""
    waves, phase = look.wrinkles[:, :3], look.wrinkles[:, 3]
    slope: np.ndarray = np.cos(points @ waves.T + phase) @ (waves * np.float32(0.0016))
    return slope


def find_zones(look: Look, measures: Measures, points: Points) -> dict[str, np.ndarray]:
    """Indices of the points that each garment covers; later garments cover earlier ones.

    The constants here and below are metres on the mean body, tuned by eye on renderings.
    """
    x, y, z = points.T
    side = np.abs(x)
    along_arm = (side - measures.shoulder_x) / (measures.wrist_x - measures.shoulder_x)
    along_arm = np.where(y > measures.waist_y + 0.15, along_arm, -1.0)
    along_leg = (measures.hip_y - y) / (measures.hip_y - measures.ankle_y)
    neck = _below_neckline(look.neckline, measures, side, y, z)
    boots = measures.ankle_y + 0.01 + look.boots * (measures.knee_y - measures.ankle_y)
    zones = {
        "socks": y < max(boots, measures.ankle_y + 0.07),
        "shoes": y < boots,
        "bottom": (y < measures.waist_y) & (along_leg < look.trousers),
        "top": (y > look.hem_y) & (along_arm < look.sleeve) & neck,
    }
    opening = (z > 0) & (side < 0.045 + 0.05 * np.clip(measures.neck_y - y, 0, 0.2))
    zones["jacket"] = (y > look.hem_y - 0.05) & (along_arm < 1) & (y < measures.neck_y - 0.02) & ~opening
    if look.jacket is None:
        zones["jacket"] = np.zeros(len(points), bool)
    zones["hair"] = _hair(look, measures, side, y, z)
    zones["hat"] = _hat(look, measures, side, y, z)
    return {name: np.flatnonzero(mask) for name, mask in zones.items()}


def _below_neckline(kind: str, measures: Measures, side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """True where a top with this neckline covers the chest, back and shoulders."""
    if kind == "high":
        return y < measures.neck_y + 0.02
    round_neck = (side / 0.085) ** 2 + ((y - measures.neck_y - 0.03) / np.where(z > 0, 0.085, 0.06)) ** 2 > 1
    covered: np.ndarray = round_neck & (y < measures.neck_y + 0.02)
    if kind == "vee":
        covered &= (z < 0) | (side > 0.55 * (y - (measures.neck_y - 0.17)))
    return covered


def _hair(look: Look, measures: Measures, side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Points above the hairline from forehead over the ears to the nape; long hair also covers part of the back."""
    if look.cut == "bald":
        return np.zeros(len(y), bool)
    eye_y, front = measures.eye[1], measures.eye[2]
    nape = {"buzz": -0.065, "short": -0.075, "tail": -0.075}.get(look.cut, -0.10)
    depths = (front - 0.20, front - 0.125, front - 0.095, front - 0.06, front - 0.02, front + 0.03)
    heights = (nape, nape + 0.01, -0.01, 0.035, 0.06, 0.066 + look.fringe)
    grown: np.ndarray = (y > eye_y + np.interp(z, depths, heights)) & (side < 0.12)
    if look.cut == "long":
        grown |= (z < front - 0.085) & (y > measures.neck_y - 0.14) & (side < 0.115)
    if look.cut == "tail":
        grown |= (z < front - 0.12) & (y > measures.neck_y - 0.12) & (side < 0.03)
    return grown


def _hat(look: Look, measures: Measures, side: np.ndarray, y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Points covered by a hat: the skull above a tilted plane, or everything but the face (scarf)."""
    eye_y, front = measures.eye[1], measures.eye[2]
    if look.hat == "none":
        return np.zeros(len(y), bool)
    if look.hat == "scarf":
        face = (side / 0.062) ** 2 + ((y - eye_y + 0.025) / 0.085) ** 2 < 1
        covered: np.ndarray = (y > measures.neck_y - 0.06) & (side < 0.13) & ~(face & (z > front - 0.06))
        return covered
    brim = eye_y + (0.045 if look.hat == "cap" else 0.03) + 0.1 * (z - front)
    return y > brim


def _face(look: Look, measures: Measures, points: Points) -> Float[np.ndarray, "N 3"]:
    """Colours of the face: skin, eyes, brows, lips, beard and glasses."""
    skin = np.array(look.skin, np.float32)
    colour = np.tile(skin, (len(points), 1))
    side, y, z = np.abs(points[:, 0]), points[:, 1], points[:, 2]
    eye_x, eye_y, eye_z = measures.eye
    front = z > eye_z - 0.05
    if look.beard:
        grown = (y < measures.mouth_y + 0.022) & (z > 0.02) & (y > measures.neck_y + 0.02) & (side < 0.075)
        grown |= (side > 0.05) & (y < eye_y - 0.02) & (np.abs(z - 0.06) < 0.02)
        colour[grown] = (1 - look.beard) * skin + look.beard * np.array(look.hair, np.float32)
    lips = front & ((side / 0.025) ** 2 + ((y - measures.mouth_y) / 0.0095) ** 2 < 1) & (z > 0.1)
    colour[lips] = skin * (0.86, 0.62, 0.60)
    brow = front & (np.abs(y - eye_y - 0.021 + 6 * (side - eye_x) ** 2) < 0.0055) & (side > 0.012) & (side < 0.05)
    colour[brow] = 0.25 * skin + 0.75 * np.array(look.hair, np.float32)
    ball = (side - eye_x) ** 2 + (y - eye_y + 0.002) ** 2 + (z - eye_z + 0.016) ** 2 < 0.0166**2
    colour[ball] = WHITE_EYE
    colour[ball & ((side - eye_x) ** 2 + (y - eye_y) ** 2 < 0.007**2)] = DARK_EYE
    if look.glasses:
        ring = np.hypot((side - eye_x - 0.002) / 1.25, y - eye_y + 0.002)
        colour[front & (np.abs(ring - 0.0185) < 0.003)] = (0.08, 0.08, 0.09)
        colour[(z <= eye_z - 0.03) & (z > 0.04) & (np.abs(y - eye_y) < 0.003)] = (0.08, 0.08, 0.09)
    return colour


def fabric(cloth: Cloth, measures: Measures, points: Points) -> Float[np.ndarray, "N 3"]:
    """Colours of the fabric's pattern; stripes run around sleeves, trunk and legs."""
    x, y, z = points.T
    on_arm = (np.abs(x) > measures.shoulder_x) & (y > measures.waist_y + 0.15)
    along = np.where(on_arm, np.abs(x), y) / np.float32(cloth.period)
    around = np.where(on_arm, y, x) / np.float32(cloth.period)
    if cloth.pattern == "stripes":
        second = _part(along) < 0.5
    elif cloth.pattern == "bands":
        second = _part(along / 3) < 0.27
    elif cloth.pattern == "checks":
        second = (_part(along) < 0.5) ^ (_part(around) < 0.5)
    elif cloth.pattern == "dots":
        second = (_part(along) - 0.5) ** 2 + (_part(around) - 0.5) ** 2 < 0.08
    elif cloth.pattern == "block":
        second = y > measures.neck_y - 0.20
    elif cloth.pattern == "print":
        second = (z > 0.02) & ((x / 0.09) ** 2 + ((y - measures.neck_y + 0.20) / 0.06) ** 2 < 1)
    else:
        second = np.zeros(len(points), bool)
    two: np.ndarray = np.take(np.array([cloth.colour, cloth.second], np.float32), second.astype(np.int8), 0)
    return two


def _part(cycles: np.ndarray) -> np.ndarray:
    """Fractional part, 0..1; faster than the remainder operator."""
    part: np.ndarray = cycles - np.floor(cycles)
    return part


def _fill(colour: Float[np.ndarray, "N 3"], rows: np.ndarray, value: Colour) -> None:
    colour[rows] = value


def _near(rng: np.random.Generator, colour: Colour, spread: float) -> Colour:
    red, green, blue = (float(c) for c in np.clip(np.array(colour) + rng.normal(0, spread), 0.02, 0.98))
    return red, green, blue


def _cloth_colour(rng: np.random.Generator, dull: float) -> Colour:
    """A colour from the palette with probability `dull`, else a random hue of moderate saturation."""
    if rng.random() < dull:
        return _near(rng, CLOTHS[rng.integers(len(CLOTHS))], 0.03)
    hue, value, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8), rng.uniform(0.2, 0.65)
    wheel = value * (1 - strength * (0.5 + 0.5 * np.cos(hue + np.array([0, 2.09, 4.19]))))
    red, green, blue = (float(c) for c in wheel)
    return red, green, blue


def _cloth(rng: np.random.Generator, *, width: float, plain: float, dull: float) -> Cloth:
    """Sample a fabric of about this thickness; `plain` and `dull` are probabilities."""
    return Cloth(
        colour=_cloth_colour(rng, dull),
        second=_cloth_colour(rng, dull),
        pattern="plain" if rng.random() < plain else PATTERNS[rng.integers(1, len(PATTERNS))],
        period=float(rng.uniform(0.04, 0.10)),
        width=width * float(rng.uniform(0.5, 2)),
        flare=float(rng.uniform(0, 0.02)),
    )
