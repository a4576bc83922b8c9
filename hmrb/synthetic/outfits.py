"""Hair and clothes with shapes of their own: volume beyond the skin, skirts and coats, hair that hangs, buns, visors.

They change only the image: labels, boxes and shadows are those of the body under them. Rest coordinates are the
wardrobe's. Constants are metres on the mean body, tuned by eye on renderings.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hmrb.synthetic.wardrobe import Look, Measures, Points, find_zones

AROUND = 28  # corners of a ring around both legs
LEVELS = 10  # rings of a skirt
LOCKS, LINKS = 19, 9  # strips of hanging hair, and points down each
BACK = np.radians(92)  # hair hangs from this far to both sides of the nape
OFF_SKIN_M = 0.014  # hair that hangs lies this far off the body
WIDEST_STRIDE = 0.2  # cosine of the angle between the thighs; a skirt is left out below it, as it would tear


@dataclass(frozen=True, slots=True)
class Outfit:
    """What stands off the body, in metres.

    `volume` is hair beyond its usual thickness, `curl` the share of it that lumps take, `fall` the length of hair that
    hangs below the ears; `knot` is none, a tail or a bun. `top`, `sleeve` and `legs` are how far cloth stands off at
    the hem, the wrist and the ankle. `hangs` is what hangs around the legs, named by the garment whose cloth it is of:
    the bottom's is a skirt, the top's a dress, the jacket's a coat that is open in front, or none. It covers the share
    `reach` of the leg and stands off by `spread` at its hem. `phase` places the folds.
    """

    volume: float
    curl: float
    fall: float
    knot: str
    top: float
    sleeve: float
    legs: float
    hangs: str
    reach: float
    spread: float
    phase: float


@dataclass(frozen=True, slots=True)
class Piece:
    """A surface of its own, in the camera frame; `rest` are coordinates for its colours. Seen from both sides."""

    material: str
    vertices: Points
    rest: Points
    faces: Int[np.ndarray, "F 3"]


def sample_outfit(rng: np.random.Generator, look: Look) -> Outfit:
    """Sample the shapes that go with a look."""
    volume = float(rng.uniform(0.0, 0.022 if look.cut == "short" else 0.045))
    curl = float(rng.uniform(0.1, 0.9)) if rng.random() < 0.4 else 0.1
    if look.cut in ("medium", "short") and rng.random() < 0.12:
        volume, curl = float(rng.uniform(0.045, 0.085)), 0.3
    flat = look.cut in ("buzz", "bald") or look.hat in ("beanie", "scarf")
    falls = {"long": (0.10, 0.36), "medium": (0.0, 0.09)}.get(look.cut, (0.0, 0.0))
    kinds = ("none", "bottom", "top", "jacket" if look.jacket is not None else "top")
    return Outfit(
        volume=0.0 if flat else volume,
        curl=curl,
        fall=0.0 if look.hat == "scarf" else float(rng.uniform(*falls)),
        knot=str(rng.choice(["tail", "bun"])) if look.cut == "tail" and look.hat != "scarf" else "none",
        top=float(np.abs(rng.normal(0, 0.022))),
        sleeve=float(np.abs(rng.normal(0, 0.018))),
        legs=float(np.abs(rng.normal(0, 0.022))),
        reach=float(rng.uniform(0.3, 0.95)),
        spread=float(rng.uniform(0.02, 0.13)),
        hangs=str(rng.choice(kinds, p=[0.68, 0.14, 0.08, 0.10])),
        phase=float(rng.uniform(0, 2 * np.pi)),
    )


def loosen(outfit: Outfit, look: Look, measures: Measures, points: Points) -> Float[np.ndarray, " N"]:
    """How far cloth and hair stand off at each point, beyond the wardrobe's thickness."""
    covered = find_zones(look, measures, points)
    width = np.zeros(len(points), np.float32)
    folds = 1 + 0.45 * np.sin(9 * np.arctan2(points[:, 0], points[:, 2]) + outfit.phase)
    legs, top, hair = covered["bottom"], np.union1d(covered["top"], covered["jacket"]), covered["hair"]
    width[legs] = outfit.legs * _along(points[legs, 1], measures.hip_y, measures.ankle_y)
    trunk = _along(points[top, 1], measures.neck_y - 0.05, look.hem_y)
    arm = _along(np.abs(points[top, 0]), measures.shoulder_x, measures.wrist_x)
    width[top] = np.where(points[top, 1] < measures.waist_y + 0.15, trunk * outfit.top, arm * outfit.sleeve)
    width *= folds
    lumps = np.sin(points[hair] @ np.array([(140, 60, 0), (0, 130, 90), (-70, 0, 150)], np.float32).T + outfit.phase)
    width[hair] = outfit.volume * (1 + outfit.curl * lumps.prod(1) * 1.5)
    return width


def pieces(
    outfit: Outfit,
    look: Look,
    measures: Measures,
    rest: Points,
    vertices: Points,
    normals: Points,
    up: Float[np.ndarray, "3"],
) -> list[Piece]:
    """The surfaces of a posed person; `rest` are the body's unposed vertices, `up` is against gravity."""
    worn = []
    if outfit.hangs != "none":
        worn += _skirt(outfit, look, measures, rest, vertices)
    head = _Head(measures, rest, vertices, normals, up, 0.012 + outfit.volume)
    if outfit.fall > 0.03:
        worn.append(head.curtain(outfit.fall))
    if outfit.knot == "tail":
        worn.append(head.tail())
    elif outfit.knot == "bun":
        worn.append(head.bun(0.035 + outfit.volume / 2))
    if look.hat == "cap":
        worn.append(head.visor())
    return [_both_sides(piece) for piece in worn]


def _along(values: Float[np.ndarray, " N"], start: float, end: float) -> Float[np.ndarray, " N"]:
    """0 at the start, 1 at the end."""
    share: np.ndarray = np.clip((values - start) / (end - start), 0, 1)
    return share


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _grid(rows: int, columns: int, closed: bool) -> Int[np.ndarray, "F 3"]:
    """Faces between `rows` rings, or strips that are not closed, of so many corners."""
    row, column = np.mgrid[: rows - 1, : columns - (not closed)]
    a, b = row * columns + column, row * columns + (column + 1) % columns
    quads = np.stack([a, b, b + columns, a, b + columns, a + columns], -1)
    return quads.reshape(-1, 3).astype(np.int32)


def _both_sides(piece: Piece) -> Piece:
    """The same surface with its back, as the rasteriser draws fronts alone."""
    back = piece.faces[:, ::-1] + np.int32(len(piece.vertices))
    return Piece(
        piece.material,
        np.concatenate([piece.vertices, piece.vertices]).astype(np.float32),
        np.concatenate([piece.rest, piece.rest]).astype(np.float32),
        np.concatenate([piece.faces, back]),
    )


def _skirt(outfit: Outfit, look: Look, measures: Measures, rest: Points, vertices: Points) -> list[Piece]:
    """Rings around both legs, from the waist to the hem: each is the hull of the legs there, and wider by the fall."""
    left = rest[:, 0] > 0
    height = rest[:, 1]
    knee = np.abs(height - measures.knee_y) < 0.03
    hip = np.abs(height - measures.hip_y) < 0.03
    side = _unit(vertices[hip & left].mean(0) - vertices[hip & ~left].mean(0))
    thighs = [_unit(vertices[knee & one].mean(0) - vertices[hip & one].mean(0)) for one in (left, ~left)]
    if thighs[0] @ thighs[1] < WIDEST_STRIDE:
        return []
    hem = measures.hip_y - outfit.reach * (measures.hip_y - measures.ankle_y)
    levels = np.linspace(measures.waist_y + 0.01, hem, LEVELS)
    rings = [vertices[np.abs(height - level) < 0.03] for level in levels]
    centers = np.stack([ring.mean(0) for ring in rings])
    down = _unit(np.gradient(centers, axis=0))
    angles = np.linspace(0, 2 * np.pi, AROUND, endpoint=False)
    flat = np.stack([np.cos(angles), np.sin(angles)], 1)
    towards = flat @ flat.T
    across = np.where(towards > 0.15, 1 / np.maximum(towards, 0.15), np.inf)
    share = np.linspace(0, 1, LEVELS)
    folds = 1 + 0.4 * np.sin(7 * angles + outfit.phase)
    points, unposed = [], []
    for ring, center, axis, level, fallen in zip(rings, centers, down, levels, share, strict=True):
        first = _unit(side - (side @ axis) * axis)
        basis = np.stack([first, np.cross(first, axis)])
        support = ((ring - center) @ basis.T @ flat.T).max(0)
        radius = (across * support).min(1) + 0.012 + outfit.spread * fallen**1.2 * folds
        points.append(center + (radius[:, None] * flat) @ basis)
        unposed.append(np.stack([radius * flat[:, 0], np.full(AROUND, level), radius * flat[:, 1]], 1))
    faces = _grid(LEVELS, AROUND, closed=True)
    if outfit.hangs == "jacket":  # open in front
        middle = np.concatenate(unposed)[faces].mean(1)
        faces = faces[~((middle[:, 2] > 0) & (np.abs(middle[:, 0]) < 0.07))]
    return [Piece(outfit.hangs, np.concatenate(points), np.concatenate(unposed), faces)]


class _Head:
    """The posed head, from whose skull hair hangs."""

    def __init__(
        self,
        measures: Measures,
        rest: Points,
        vertices: Points,
        normals: Points,
        up: Float[np.ndarray, "3"],
        thick: float,
    ) -> None:
        self.measures, self.rest, self.vertices, self.normals, self.thick = measures, rest, vertices, normals, thick
        head = rest[:, 1] > measures.neck_y + 0.05
        self.middle_z = float(rest[head, 2].mean())
        left = _unit(vertices[head & (rest[:, 0] > 0.03)].mean(0) - vertices[head & (rest[:, 0] < -0.03)].mean(0))
        crown = vertices[rest[:, 1] > measures.eye[1] + 0.06].mean(0) - vertices[
            head & (rest[:, 1] < measures.mouth_y)
        ].mean(0)
        self.up = _unit(crown - (crown @ left) * left)
        self.left, self.front = left, np.cross(left, self.up)
        self.gravity = -up
        reach = (rest[:, 1] < measures.neck_y + 0.06) & (rest[:, 1] > measures.waist_y)
        self.near = np.flatnonzero(reach & (np.abs(rest[:, 0]) < measures.shoulder_x + 0.06))[::2]

    def skull(self, angles: Float[np.ndarray, " A"], rise: float) -> Int[np.ndarray, " A"]:
        """The vertices of the skull at angles from the nape, towards the person's left, `rise` above the eyes."""
        level = np.flatnonzero(np.abs(self.rest[:, 1] - self.measures.eye[1] - rise) < 0.02)
        around = np.arctan2(self.rest[level, 0], self.middle_z - self.rest[level, 2])
        found: np.ndarray = level[np.abs(around[None] - angles[:, None]).argmin(1)]
        return found

    def hang(self, start: Points, outwards: Points, length: float, links: int) -> Float[np.ndarray, "L N 3"]:
        """Strands that fall from their start, partly as the head is turned, and lie on the body."""
        step = length / (links - 1)
        chain = [start]
        for link in range(1, links):
            fall = _unit(0.65 * self.gravity - 0.35 * self.up + 0.5 * 0.6**link * outwards)
            place = chain[-1] + step * fall
            gap = place[:, None] - self.vertices[self.near][None]
            nearest = (gap**2).sum(2).argmin(1)
            gap, normal = gap[np.arange(len(place)), nearest], self.normals[self.near[nearest]]
            off = (gap * normal).sum(1)
            is_in = (off < OFF_SKIN_M) & (np.linalg.norm(gap, axis=1) < 0.12)
            chain.append(place + np.where(is_in, OFF_SKIN_M - off, 0)[:, None] * normal)
        return np.stack(chain)

    def curtain(self, length: float) -> Piece:
        """Hair around the back of the head, of slightly uneven length."""
        angles = np.linspace(-BACK, BACK, LOCKS)
        start = self.skull(angles, 0.01)
        chain = self.hang(self.vertices[start] + self.thick * self.normals[start], self.normals[start], length, LINKS)
        chain[-1] += 0.02 * np.sin(7 * angles)[:, None] * self.gravity
        rest = np.stack([0.1 * np.sin(angles), np.zeros(LOCKS), -0.1 * np.cos(angles)], 1)
        drop = np.linspace(0, length, LINKS)[:, None, None] * np.array([0, -1, 0])
        return Piece("hair", chain.reshape(-1, 3), (rest + drop).reshape(-1, 3), _grid(LINKS, LOCKS, closed=False))

    def _behind(self, rise: float) -> tuple[Points, Points]:
        start = self.skull(np.zeros(1), rise)
        return self.vertices[start] + self.thick * self.normals[start], self.normals[start]

    def tail(self) -> Piece:
        """A tapered tube that hangs from the back of the head."""
        start, outwards = self._behind(0.04)
        line = self.hang(start + 0.02 * outwards, outwards, 0.26, LINKS)[:, 0]
        angles = np.linspace(0, 2 * np.pi, 8, endpoint=False)
        ring = np.cos(angles)[:, None] * self.left + np.sin(angles)[:, None] * self.front
        radius = np.interp(np.linspace(0, 1, LINKS), (0, 0.2, 0.7, 1), (0.018, 0.032, 0.028, 0.006))
        points = line[:, None] + radius[:, None, None] * ring
        rest = np.stack([np.cos(angles) * 0.05, np.zeros(8), np.sin(angles) * 0.05], 1)
        drop = np.linspace(0, 0.26, LINKS)[:, None, None] * np.array([0, -1, 0])
        return Piece("hair", points.reshape(-1, 3), (rest + drop).reshape(-1, 3), _grid(LINKS, 8, closed=True))

    def bun(self, radius: float) -> Piece:
        """A ball behind the crown."""
        start, outwards = self._behind(0.06)
        polar, angles = np.meshgrid(
            np.linspace(0, np.pi, 7), np.linspace(0, 2 * np.pi, 10, endpoint=False), indexing="ij"
        )
        ball = np.stack([np.sin(polar) * np.cos(angles), np.cos(polar), np.sin(polar) * np.sin(angles)], -1)
        basis = np.stack([self.left, self.up, self.front])
        points = start[0] + 0.7 * radius * outwards[0] + radius * ball.reshape(-1, 3) @ basis
        return Piece("hair", points, 0.06 * ball.reshape(-1, 3), _grid(7, 10, closed=True))

    def visor(self) -> Piece:
        """A cap's visor over the forehead."""
        angles = np.linspace(-0.95, 0.95, 9)
        inner = self.skull(np.arctan2(np.sin(angles + np.pi), np.cos(angles + np.pi)), 0.05)
        edge = self.vertices[inner] + 0.012 * self.normals[inner]
        outer = edge + 0.075 * np.cos(angles)[:, None] * self.front - 0.02 * self.up
        rest = np.tile(np.array([0, self.measures.eye[1] + 0.1, 0.1]), (18, 1))
        return Piece("hat", np.concatenate([edge, outer]), rest, _grid(2, 9, closed=False))
