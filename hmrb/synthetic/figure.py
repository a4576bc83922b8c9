"""How one body is posed, seen by a camera and drawn: what all synthetic pictures have in common."""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.body import SMPL
from hmrb.body.render import SUPERSAMPLE, Fragments, rasterise, vertex_normals
from hmrb.synthetic import outfits, wardrobe
from hmrb.synthetic.poses import turn
from hmrb.synthetic.scene import Camera, Light, Shadow, lit_share, shade

AIM_STEPS = 5  # each step reduces the error about tenfold
CAMERA_TILT = (5.0, 8.0)  # degrees downwards: cameras are usually above a body's middle
LOWEST_CAMERA_M = 0.4  # above the floor: a kneeling photographer


@dataclass(frozen=True, slots=True)
class Stage:
    """Data shared by all people of one body model: rest coordinates, faces and vertex adjacency."""

    points: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    measures: wardrobe.Measures
    source: Int[np.ndarray, " E"]
    target: Int[np.ndarray, " E"]
    degree: Float[np.ndarray, " V"]

    def smooth(self, values: Float[np.ndarray, " V"]) -> Float[np.ndarray, " V"]:
        """Average each vertex's value with the mean of its neighbours' values."""
        around = np.bincount(self.target, values[self.source], len(self.degree)) / self.degree
        smoothed: np.ndarray = (0.5 * (values + around)).astype(np.float32)
        return smoothed


@dataclass(frozen=True, slots=True)
class Drawn:
    """The samples, SUPERSAMPLE x SUPERSAMPLE a pixel, that one thing covers: row by row, RGB in 0..1, z in metres."""

    pixel: Int[np.ndarray, " N"]
    colour: Float[np.ndarray, "N 3"]
    depth: Float[np.ndarray, " N"]


@lru_cache(maxsize=4)
def stage_of(body: SMPL) -> Stage:
    """The stage of a body, unposed and of mean shape."""
    kind = body.kind
    rest = np.tile(np.eye(3, dtype=np.float32), (kind.num_joints, 1, 1))
    vertices, joints = pose_body(body, rest, np.zeros(kind.num_betas, np.float32))
    edges = np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]])
    return Stage(
        points=vertices,
        faces=body.faces.astype(np.int32),
        measures=wardrobe.Measures.take(joints, float(vertices[:, 1].min())),
        source=edges[:, 0],
        target=edges[:, 1],
        degree=np.maximum(np.bincount(edges[:, 1], minlength=len(vertices)), 1).astype(np.float32),
    )


def pose_body(
    body: SMPL, rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "K 3"]]:
    """Vertices and smpl54 joints of one person; never batched, because rounding may depend on the batch."""
    with torch.inference_mode():
        mesh = body(torch.from_numpy(rotmats)[None], torch.from_numpy(betas)[None])
        return mesh.vertices[0].numpy(), body.joints(mesh, body.kind.keypoints)[0].numpy()


def turn_camera(
    rng: np.random.Generator,
    heights: Float[np.ndarray, " V"],
    distance: float,
    tilt_degrees: tuple[float, float] = CAMERA_TILT,
) -> np.ndarray:
    """Sample the world (y up, people face +z) to camera rotation, never below the floor.

    `tilt_degrees` is mean and standard deviation of the downward tilt: by default roughly level.
    """
    tilt, roll = rng.normal(*tilt_degrees), rng.normal(0, 6)
    below = float(heights.max() - heights.min()) / 2
    lowest = math.degrees(math.asin((LOWEST_CAMERA_M - below) / distance))
    view: np.ndarray = turn(z=roll) @ turn(x=180 + max(tilt, lowest))
    return view


def inside(flat: Float[np.ndarray, "N 2"], side: int) -> Bool[np.ndarray, " N"]:
    """Which points are inside the image, which extends half a pixel beyond the outermost pixel centres."""
    x, y = flat.T
    is_inside: np.ndarray = (x > -0.5) & (y > -0.5) & (x < side - 0.5) & (y < side - 0.5)
    return is_inside


def corners(flat: Float[np.ndarray, "N 2"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Minimum and maximum x and y of projected points."""
    columns = np.ascontiguousarray(flat.T)
    return columns.min(1), columns.max(1)


def aim(
    vertices: Float[np.ndarray, "V 3"],
    axes: Float[np.ndarray, "3 3"],
    share: float,
    offset: Float[np.ndarray, "2"],
    distance: float,
    side: int,
) -> tuple[Camera, Float[np.ndarray, "3"]]:
    """The focal length and the translation that give the vertices' tight box a size and a position in the picture.

    `share` is the box's longer side, and `offset` its centre from the picture's, in sides of the picture; `distance`
    is in metres.
    """
    wanted, target = share * side, (offset + 0.5) * side - 0.5
    rows = np.ascontiguousarray(vertices.T)  # contiguous rows make min and max 10 times faster
    transl = np.array([0, 0, distance], np.float32) - (rows.min(1) + rows.max(1)) / 2
    nearness, focal, center = 1 / (rows[2] + transl[2]), side * distance / 2, (side - 1) / 2
    for _ in range(AIM_STEPS):
        flat = (rows[:2] + transl[:2, None]) * nearness * np.float32(focal)
        low, high = flat.min(1), flat.max(1)
        transl[:2] += ((target - center - (low + high) / 2) * distance / focal).astype(np.float32)
        focal = float(focal * wanted / (high - low).max())
    return Camera(focal, side, axes), transl


def draw_figure(
    stage: Stage,
    look: wardrobe.Look,
    camera: Camera,
    light: Light,
    shadow: Shadow,
    vertices: Float[np.ndarray, "V 3"],
    outfit: outfits.Outfit | None = None,
) -> Drawn:
    """Render the dressed, lit person; an outfit has shapes of its own, else clothes and hair are a thickness."""
    normals = vertex_normals(vertices, stage.faces)
    width = wardrobe.thickness(look, stage.measures, stage.points)
    worn: list[outfits.Piece] = []
    if outfit is not None:
        width = width + outfits.loosen(outfit, look, stage.measures, stage.points)
        worn = outfits.pieces(outfit, look, stage.measures, stage.points, vertices, normals, camera.axes[1])
    width = stage.smooth(stage.smooth(width))
    dressed = vertices + width[:, None] * normals
    faces = stage.faces
    values = [np.concatenate([stage.points, normals, dressed, width[:, None]], 1)]
    ends = [len(faces)]  # of the faces of the body and of each piece
    for piece in worn:
        faces = np.concatenate([faces, piece.faces + np.int32(sum(map(len, values)))])
        ends.append(len(faces))
        thick = np.full((len(piece.vertices), 1), 0.004, np.float32)
        around = vertex_normals(piece.vertices, piece.faces)
        values.append(np.concatenate([piece.rest, around, piece.vertices, thick], 1))
    mesh = np.concatenate(values)
    fragments = sampled(camera, mesh[:, 6:9], faces)
    carried = fragments.mix(faces, mesh)
    rest, normal, place, cloth = carried[:, :3], carried[:, 3:6], carried[:, 6:9], carried[:, 9]
    normal = normal + wardrobe.wrinkle(look, rest) * np.minimum(cloth / 0.004, 1)[:, None]
    normal = normal / np.sqrt(np.einsum("nc,nc->n", normal, normal))[:, None]
    lit = lit_share(shadow, place + 0.02 * normal)
    colour = _painted(stage, look, worn, np.searchsorted(ends, fragments.face, side="right"), rest)
    colour = colour * shade(light, normal, camera.axes[1], lit)
    return Drawn(fragments.pixel, np.clip(colour, 0, 1), fragments.depth)


def _painted(
    stage: Stage,
    look: wardrobe.Look,
    worn: list[outfits.Piece],
    owner: Int[np.ndarray, " N"],
    rest: Float[np.ndarray, "N 3"],
) -> Float[np.ndarray, "N 3"]:
    """Colours of samples; `owner` is 0 on the body, then a piece's number from 1 on."""
    if not worn:
        return wardrobe.paint(look, stage.measures, rest)
    colour = np.empty((len(rest), 3), np.float32)
    colour[owner == 0] = wardrobe.paint(look, stage.measures, rest[owner == 0])
    cloths = {"bottom": look.bottom, "top": look.top, "jacket": look.jacket}
    for number, piece in enumerate(worn, 1):
        rows = owner == number
        if piece.material == "hair":
            colour[rows] = wardrobe.strands(look, rest[rows])
        elif (cloth := cloths.get(piece.material)) is not None:
            colour[rows] = wardrobe.fabric(cloth, stage.measures, rest[rows])
        else:
            colour[rows] = look.hat_colour
    return colour


def sampled(camera: Camera, points: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> Fragments:
    """The visible samples of a mesh, SUPERSAMPLE x SUPERSAMPLE a pixel."""
    fine = camera.side * SUPERSAMPLE
    samples = (camera.project(points) + 0.5) * SUPERSAMPLE - 0.5
    return rasterise(np.concatenate([samples, points[:, 2:]], 1), faces, fine, fine)


def shrink(layer: Float[np.ndarray, "N C"], side: int) -> Float[np.ndarray, "S S C"]:
    """The pixels of a picture of `side` px: the means of their samples."""
    fine = side * SUPERSAMPLE
    shrunk: np.ndarray = cv2.resize(layer.reshape(fine, fine, -1), (side, side), interpolation=cv2.INTER_AREA)
    return shrunk.reshape(side, side, -1)


def rgba(layer: Drawn, side: int) -> Float[np.ndarray, "S S 4"]:
    """The antialiased, premultiplied picture of one layer."""
    samples = np.zeros(((side * SUPERSAMPLE) ** 2, 4), np.float32)
    samples[layer.pixel] = np.concatenate([layer.colour, np.ones((len(layer.colour), 1), np.float32)], 1)
    return shrink(samples, side)
