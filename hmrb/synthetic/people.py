"""One synthetic person per image; everything in it is a function of (seed, split, preset, index)."""

import math
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hmrb.body import SMPL
from hmrb.lookup import find
from hmrb.records import Sample
from hmrb.synthetic import wardrobe
from hmrb.synthetic.figure import aim, corners, draw_figure, inside, pose_body, rgba, stage_of, turn_camera
from hmrb.synthetic.places import backdrop
from hmrb.synthetic.poses import PoseStyle, rotmat_to_rotvec, sample_pose, turn
from hmrb.synthetic.scene import cast_shadow, occlude, photograph, sample_light

BOX_MARGIN = 1.2  # bounding box side relative to the tight box of the projected vertices
BETA_LIMIT = 2.5  # standard deviations; the open body's shape space has no data beyond
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


def render_person(
    body: SMPL, preset: str, split: str, seed: int, index: int, side: int = 128, is_hidden: bool = False
) -> Sample:
    """Render person `index` of a split: an image of `side` px and its labels; the result is deterministic.

    `box` is the person's bounding box with a margin. Labels are in the camera frame, exact up to float32. With
    `is_hidden` there always is an occluder; else the image is the same.
    """
    rules = find("preset", preset, PRESETS)
    entropy = (seed, find("split", split, SPLITS), zlib.crc32(preset.encode()), index)
    pose_rng, look_rng, scene_rng, photo_rng = (
        np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence(entropy).spawn(4)
    )
    stage = stage_of(body)
    # --- the person, upright in the world and facing the camera up to `yaw`
    betas = np.clip(pose_rng.standard_normal(body.kind.num_betas), -BETA_LIMIT, BETA_LIMIT).astype(np.float32)
    rotmats = sample_pose(pose_rng, rules.pose)
    is_any = math.isinf(rules.yaw_sigma)
    yaw = float(pose_rng.uniform(-np.pi, np.pi) if is_any else pose_rng.normal(0, rules.yaw_sigma))
    rotmats[0] = turn(y=math.degrees(yaw)) @ rotmats[0]
    vertices, joints = pose_body(body, rotmats.astype(np.float32), betas)
    # --- the camera
    distance = float(scene_rng.uniform(*rules.distance))
    view = turn_camera(scene_rng, vertices[:, 1], distance)
    rotmats[0] = view @ rotmats[0]
    root, rotation = joints[0], view.astype(np.float32).T
    vertices, joints = (vertices - root) @ rotation + root, (joints - root) @ rotation + root
    axes = (view.T * np.array([[1], [1], [-1]])).astype(np.float32)  # people face the camera along its -z
    camera, transl = aim(vertices, axes, *_frame(scene_rng, rules), distance, side)
    vertices, joints = vertices + transl, joints + transl
    # --- the image
    look, light = wardrobe.sample_look(look_rng), sample_light(scene_rng, camera)
    shadow = cast_shadow(light, vertices, stage.faces)
    image = backdrop(scene_rng, camera, light, shadow, vertices)
    layer = rgba(draw_figure(stage, look, camera, light, shadow, vertices), side)
    image = image * (1 - layer[..., 3:]) + layer[..., :3]
    hidden = 0.0
    if scene_rng.random() < rules.occluded or is_hidden:
        image, hidden = occlude(scene_rng, image, layer[..., 3])
    # --- the labels
    flat, keypoints = camera.project(vertices), camera.project(joints)
    low, high = corners(flat)
    size = (high - low) * BOX_MARGIN
    return Sample(
        jpeg=photograph(photo_rng, image),
        name=f"{split}/{index:06d}",
        photo_px=(side, side),
        box=np.concatenate([(low + high - size) / 2, size]).astype(np.float32),
        keypoints2d=np.concatenate([keypoints, inside(keypoints, side)[:, None]], 1).astype(np.float32),
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
            "truncation": 1 - float(inside(flat, side).mean()),
        },
    )


def render_people(
    body: SMPL, preset: str, split: str, seed: int, indices: Iterable[int], side: int = 128
) -> list[Sample]:
    """Render people one by one, so that the grouping does not affect the result."""
    return [render_person(body, preset, split, seed, index, side) for index in indices]


def _frame(rng: np.random.Generator, rules: Preset) -> tuple[float, Float[np.ndarray, "2"]]:
    """Sample the size and the position of the person's tight box; see `aim`."""
    share = rng.uniform(*rules.size)
    room = max(0.0, 0.99 - BOX_MARGIN * share) / 2
    offset = rng.uniform(-room, room, 2)
    if rng.random() < rules.truncated:
        share = rng.uniform(1.05, 1.6)
        offset = rng.uniform(-0.5, 0.5, 2) * (share - 0.6)
    return share, offset


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
