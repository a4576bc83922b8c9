"""One synthetic person per image; everything in it is a function of (seed, split, preset, index)."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.body import SMPL
from hmrb.body.render import SUPERSAMPLE, rasterise, vertex_normals
from hmrb.lookup import find
from hmrb.records import Sample
from hmrb.synthetic import wardrobe
from hmrb.synthetic.places import backdrop
from hmrb.synthetic.poses import PoseStyle, rotmat_to_rotvec, sample_pose, turn
from hmrb.synthetic.scene import (
    Camera,
    Light,
    Shadow,
    cast_shadow,
    lit_share,
    occlude,
    photograph,
    sample_light,
    shade,
)

BOX_MARGIN = 1.2  # bounding box side relative to the tight box of the projected vertices
BETA_LIMIT = 2.5  # standard deviations; the open body's shape space has no data beyond
AIM_STEPS = 5  # each step reduces the error about tenfold
CAMERA_TILT = 5.0  # mean downward tilt in degrees: cameras are usually above a body's middle
LOWEST_CAMERA_M = 0.4  # above the floor: a kneeling photographer
SPLITS = {"train": 0, "val": 1, "test": 2}


@dataclass(frozen=True, slots=True)
class Preset:
    """Difficulty of the images, in radians and metres. `size` is the tight box's longer side relative to the image's.

    `yaw_sigma` is the standard deviation of the yaw from facing the camera (inf: uniform). `truncated` and `occluded`
    are probabilities.
    """

    pose: PoseStyle
    yaw_sigma: float
    size: tuple[float, float]
    distance: tuple[float, float]
    truncated: float
    occluded: float


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


def render_person(body: SMPL, preset: str, split: str, seed: int, index: int, side: int = 128) -> Sample:
    """Render person `index` of a split: an image of `side` px and its labels; the result is deterministic.

    `box` is the person's bounding box with a margin. Labels are in the camera frame, exact up to float32.
    """
    rules = find("preset", preset, PRESETS)
    entropy = (seed, find("split", split, SPLITS), zlib.crc32(preset.encode()), index)
    pose_rng, look_rng, scene_rng, photo_rng = (
        np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(entropy).spawn(4)
    )
    stage = _stage(body)
    # --- the person, upright in the world and facing the camera up to `yaw`
    betas = np.clip(pose_rng.standard_normal(body.kind.num_betas), -BETA_LIMIT, BETA_LIMIT).astype(np.float32)
    rotmats = sample_pose(pose_rng, rules.pose)
    is_any = math.isinf(rules.yaw_sigma)
    yaw = float(pose_rng.uniform(-np.pi, np.pi) if is_any else pose_rng.normal(0, rules.yaw_sigma))
    rotmats[0] = turn(y=math.degrees(yaw)) @ rotmats[0]
    vertices, joints = _pose_body(body, rotmats.astype(np.float32), betas)
    # --- the camera
    distance = float(scene_rng.uniform(*rules.distance))
    view = _turn_camera(scene_rng, vertices[:, 1], distance)
    rotmats[0] = view @ rotmats[0]
    root, rotation = joints[0], view.astype(np.float32).T
    vertices, joints = (vertices - root) @ rotation + root, (joints - root) @ rotation + root
    axes = (view.T * np.array([[1], [1], [-1]])).astype(np.float32)  # people face the camera along its -z
    camera, transl = _aim(scene_rng, vertices, axes, rules, distance, side)
    vertices, joints = vertices + transl, joints + transl
    # --- the image
    look, light = wardrobe.sample_look(look_rng), sample_light(scene_rng, camera)
    shadow = cast_shadow(light, vertices, stage.faces)
    image = backdrop(scene_rng, camera, light, shadow, vertices)
    layer = _draw_person(stage, look, camera, light, shadow, vertices)
    image = image * (1 - layer[..., 3:]) + layer[..., :3]
    hidden = 0.0
    if scene_rng.random() < rules.occluded:
        image, hidden = occlude(scene_rng, image, layer[..., 3])
    # --- the labels
    flat, keypoints = camera.project(vertices), camera.project(joints)
    low, high = _corners(flat)
    size = (high - low) * BOX_MARGIN
    return Sample(
        jpeg=photograph(photo_rng, image),
        name=f"{split}/{index:06d}",
        photo_px=(side, side),
        box=np.concatenate([(low + high - size) / 2, size]).astype(np.float32),
        keypoints2d=np.concatenate([keypoints, _inside(keypoints, side)[:, None]], 1).astype(np.float32),
        keypoints3d=np.concatenate([joints, np.ones((len(joints), 1), np.float32)], 1),
        pose=rotmat_to_rotvec(rotmats).astype(np.float32),
        betas=betas,
        transl=transl,
        has_body=True,
        columns={
            "yaw": (yaw + math.pi) % (2 * math.pi) - math.pi,
            "distance": float(transl[2]),
            "focal": camera.focal,
            "occlusion": hidden,
            "truncation": 1 - float(_inside(flat, side).mean()),
        },
    )


def render_people(
    body: SMPL, preset: str, split: str, seed: int, indices: Iterable[int], side: int = 128
) -> list[Sample]:
    """Render people one by one, so that the grouping does not affect the result."""
    return [render_person(body, preset, split, seed, index, side) for index in indices]


@lru_cache(maxsize=4)
def _stage(body: SMPL) -> Stage:
    kind = body.kind
    rest = np.tile(np.eye(3, dtype=np.float32), (kind.num_joints, 1, 1))
    vertices, joints = _pose_body(body, rest, np.zeros(kind.num_betas, np.float32))
    edges = np.concatenate([body.faces[:, [0, 1]], body.faces[:, [1, 2]], body.faces[:, [2, 0]]])
    return Stage(
        points=vertices,
        faces=body.faces.astype(np.int32),
        measures=wardrobe.Measures.take(joints, float(vertices[:, 1].min())),
        source=edges[:, 0],
        target=edges[:, 1],
        degree=np.maximum(np.bincount(edges[:, 1], minlength=len(vertices)), 1).astype(np.float32),
    )


def _pose_body(
    body: SMPL, rotmats: Float[np.ndarray, "R 3 3"], betas: Float[np.ndarray, " S"]
) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "K 3"]]:
    """Vertices and smpl54 joints of one person; never batched, because rounding may depend on the batch."""
    with torch.inference_mode():
        mesh = body(torch.from_numpy(rotmats)[None], torch.from_numpy(betas)[None])
        return mesh.vertices[0].numpy(), body.joints(mesh, body.kind.keypoints)[0].numpy()


def _turn_camera(rng: np.random.Generator, heights: Float[np.ndarray, " V"], distance: float) -> np.ndarray:
    """Sample the world (y up, people face +z) to camera rotation: roughly level, slightly down, never below floor."""
    tilt, roll = rng.normal(CAMERA_TILT, 8), rng.normal(0, 6)
    below = float(heights.max() - heights.min()) / 2
    lowest = math.degrees(math.asin((LOWEST_CAMERA_M - below) / distance))
    view: np.ndarray = turn(z=roll) @ turn(x=180 + max(tilt, lowest))
    return view


def _inside(flat: Float[np.ndarray, "N 2"], side: int) -> Bool[np.ndarray, " N"]:
    """Which points are inside the image, which extends half a pixel beyond the outermost pixel centres."""
    x, y = flat.T
    inside: np.ndarray = (x > -0.5) & (y > -0.5) & (x < side - 0.5) & (y < side - 0.5)
    return inside


def _corners(flat: Float[np.ndarray, "N 2"]) -> tuple[Float[np.ndarray, "2"], Float[np.ndarray, "2"]]:
    """Minimum and maximum x and y of projected points."""
    columns = np.ascontiguousarray(flat.T)
    return columns.min(1), columns.max(1)


def _aim(
    rng: np.random.Generator,
    vertices: Float[np.ndarray, "V 3"],
    axes: Float[np.ndarray, "3 3"],
    rules: Preset,
    distance: float,
    side: int,
) -> tuple[Camera, Float[np.ndarray, "3"]]:
    """Choose a focal length and a translation that give the person's tight box a random size and position."""
    share = rng.uniform(*rules.size)
    room = max(0.0, 0.99 - BOX_MARGIN * share) / 2
    offset = rng.uniform(-room, room, 2)
    if rng.random() < rules.truncated:
        share = rng.uniform(1.05, 1.6)
        offset = rng.uniform(-0.5, 0.5, 2) * (share - 0.6)
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


def _draw_person(
    stage: Stage,
    look: wardrobe.Look,
    camera: Camera,
    light: Light,
    shadow: Shadow,
    vertices: Float[np.ndarray, "V 3"],
) -> Float[np.ndarray, "S S 4"]:
    """Render the dressed, lit person as antialiased, premultiplied RGBA."""
    normals = vertex_normals(vertices, stage.faces)
    width = stage.smooth(stage.smooth(wardrobe.thickness(look, stage.measures, stage.points)))
    dressed = vertices + width[:, None] * normals
    fine = camera.side * SUPERSAMPLE
    samples = (camera.project(dressed) + 0.5) * SUPERSAMPLE - 0.5
    fragments = rasterise(np.concatenate([samples, dressed[:, 2:]], 1), stage.faces, fine, fine)
    carried = fragments.mix(stage.faces, np.concatenate([stage.points, normals, dressed, width[:, None]], 1))
    rest, normal, place, cloth = carried[:, :3], carried[:, 3:6], carried[:, 6:9], carried[:, 9]
    normal = normal + wardrobe.wrinkle(look, rest) * np.minimum(cloth / 0.004, 1)[:, None]
    normal = normal / np.sqrt(np.einsum("nc,nc->n", normal, normal))[:, None]
    lit = lit_share(shadow, place + 0.02 * normal)
    layer = np.zeros((fine * fine, 4), np.float32)
    colour = wardrobe.paint(look, stage.measures, rest) * shade(light, normal, camera.axes[1], lit)
    layer[fragments.pixel] = np.concatenate([np.clip(colour, 0, 1), np.ones((len(rest), 1), np.float32)], 1)
    size = (camera.side, camera.side)
    shrunk: np.ndarray = cv2.resize(layer.reshape(fine, fine, 4), size, interpolation=cv2.INTER_AREA)
    return shrunk


BONES = (
    (0, 1), (1, 4), (4, 7), (7, 10), (0, 2), (2, 5), (5, 8), (8, 11), (0, 3), (3, 6), (6, 9), (9, 12), (12, 15),
    (9, 13), (13, 16), (16, 18), (18, 20), (20, 22), (9, 14), (14, 17), (17, 19), (19, 21), (21, 23),
)  # fmt: skip


PRESETS: dict[str, Preset] = {
    "easy": Preset(
        pose=PoseStyle(floor=0.05, blend=0.85, recombine=0.2, noise=(0.3, 0.6)),
        yaw_sigma=math.radians(35),
        size=(0.70, 0.80),
        distance=(2.8, 8.0),
        truncated=0.0,
        occluded=0.0,
    ),
    "full": Preset(
        pose=PoseStyle(floor=0.35, blend=0.6, recombine=0.35, noise=(0.5, 1.4)),
        yaw_sigma=math.inf,
        size=(0.66, 0.80),
        distance=(2.8, 8.0),
        truncated=0.12,
        occluded=0.20,
    ),
}
