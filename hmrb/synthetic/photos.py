"""Photos of the synthetic domains with exact labels; each is a function of (domain, split, seed, index)."""

import math
import zlib
from dataclasses import dataclass, replace

import cv2
import numpy as np
from jaxtyping import Float, Int

from hmrb.body import SMPL
from hmrb.body.render import SUPERSAMPLE
from hmrb.lookup import find
from hmrb.records import Sample
from hmrb.synthetic.actions import sample_action
from hmrb.synthetic.domains import DOMAINS, Domain
from hmrb.synthetic.figure import (
    Drawn,
    aim,
    corners,
    draw_figure,
    inside,
    pose_body,
    rgba,
    sampled,
    shrink,
    stage_of,
    turn_camera,
)
from hmrb.synthetic.outfits import Outfit, sample_outfit
from hmrb.synthetic.people import BETA_LIMIT, BOX_MARGIN, SPLITS
from hmrb.synthetic.places import backdrop
from hmrb.synthetic.poses import rotmat_to_rotvec, turn
from hmrb.synthetic.scene import Camera, Image, Light, cast_shadow, dull, occlude, photograph, sample_light, shade
from hmrb.synthetic.wardrobe import Look, sample_look

SEAT_M = (0.46, 0.42)  # width and depth of a stool's seat
BUTTOCKS_M = 0.11  # the seat below the root joint
LOWEST_SEAT_M = 0.12  # who sits lower, sits on the floor
NEAREST_M = 0.45  # from the camera to the nearest vertex: an arm's length
BOX_FACES = np.array(  # of a box's corners, numbered by bits x, y, z; counter-clockwise from outside
    [(0, 2, 3), (0, 3, 1), (4, 5, 7), (4, 7, 6), (0, 1, 5), (0, 5, 4), (2, 6, 7), (2, 7, 3), (0, 4, 6), (0, 6, 2),
     (1, 3, 7), (1, 7, 5)], np.int32,
)  # fmt: skip
Vertices = Float[np.ndarray, "V 3"]


@dataclass(frozen=True, slots=True)
class Someone:
    """A person of a photo. Vertices and joints are about the root joint: first in the world's axes, then the camera's.

    `spot` is where the root is, in metres: in the world above the floor, then in the camera frame. `root` is the root
    joint of the shaped body, which SMPL turns about; `height` is its height above the floor.
    """

    subject: int
    action: str
    look: Look
    outfit: Outfit | None
    rotmats: Float[np.ndarray, "R 3 3"]
    betas: Float[np.ndarray, " S"]
    yaw: float
    root: Float[np.ndarray, "3"]
    vertices: Vertices
    joints: Float[np.ndarray, "K 3"]
    spot: Float[np.ndarray, "3"]
    height: float


def render_photo(body: SMPL, domain: str, split: str, seed: int, index: int) -> list[Sample]:
    """The people of photo `index` of a split, with exact labels in the camera frame.

    A box surrounds what of a person is inside the picture, with a margin. `occlusion` is the share of a person's pixels
    that other people and things hide, `truncation` the share of vertices outside the picture.
    """
    rules = find("domain", domain, DOMAINS)
    words = (seed, find("split", split, SPLITS), zlib.crc32(domain.encode()))
    people_rng, scene_rng, photo_rng = (
        np.random.Generator(np.random.PCG64(child)) for child in np.random.SeedSequence((*words, index)).spawn(3)
    )
    stage = stage_of(body)
    place = int(scene_rng.integers(rules.num(rules.places, split)))
    people = _gather(people_rng, body, rules, split, words)
    # --- the camera
    tall = np.concatenate([one.vertices[:, 1] + one.spot[1] for one in people])
    distance = float(scene_rng.uniform(*rules.distance))
    view = turn_camera(scene_rng, tall, distance, rules.tilt).astype(np.float32)
    people = [_seen_from(view, one) for one in people]
    everybody = np.concatenate([one.vertices + one.spot for one in people])
    distance = max(distance, NEAREST_M + float(np.ptp(everybody[:, 2])) / 2)
    axes = (view.T * np.array([[1], [1], [-1]])).astype(np.float32)  # people face the camera along its -z
    camera, transl = aim(everybody, axes, *_frame(scene_rng, rules), distance, rules.side)
    people = [replace(one, spot=one.spot + transl) for one in people]
    meshes = [one.vertices + one.spot for one in people]
    # --- the image
    place_rng = np.random.default_rng((*words, zlib.crc32(b"place"), place))
    light = sample_light(place_rng, camera)
    seats = _seats(scene_rng, rules, people, axes)
    vertices, faces = _joined(meshes, stage.faces)
    shadow = cast_shadow(light, vertices, faces)
    grounded = np.concatenate([vertices, *seats])
    image = backdrop(place_rng, camera, light, shadow, grounded, rules.setting, split)
    layers = [
        draw_figure(stage, one.look, camera, light, shadow, mesh, one.outfit)
        for one, mesh in zip(people, meshes, strict=True)
    ]
    things = [_draw_box(scene_rng, camera, light, seat) for seat in seats]
    alphas, image = _compose(image, [*layers, *things], rules.side)
    visible = [
        float(alpha.sum() / max(rgba(layer, rules.side)[..., 3].sum(), 1e-6))
        for alpha, layer in zip(alphas[: len(layers)], layers, strict=True)
    ]
    hidden = 0.0
    if scene_rng.random() < rules.hidden and alphas[0].max() > 0.5:
        image, hidden = occlude(scene_rng, image, alphas[0])
    jpeg = photograph(photo_rng, _spoil(photo_rng, image, rules))
    return [
        _labelled(one, mesh, camera, jpeg, f"{split}/{index:06d}", 1 - share * (1 - hidden), place)
        for one, mesh, share in zip(people, meshes, visible, strict=True)
    ]


def _gather(rng: np.random.Generator, body: SMPL, rules: Domain, split: str, words: tuple[int, ...]) -> list[Someone]:
    """Who is in the photo, upright in the world and facing the camera up to `yaw`, with feet on the floor."""
    count = rules.num(rules.subjects, split)
    subjects = rng.choice(count, rules.people, replace=False).tolist()
    rank = rng.permutation(rules.people)
    people = []
    for number, subject in enumerate(subjects):
        subject_rng = np.random.default_rng((*words, zlib.crc32(b"subject"), subject))
        betas = np.clip(subject_rng.standard_normal(body.kind.num_betas), -BETA_LIMIT, BETA_LIMIT).astype(np.float32)
        group = rules.groups[int(rng.integers(len(rules.groups)))]
        rotmats, action = sample_action(rng, group, split, rules.noise)
        yaw = float(rng.normal(0, math.radians(rules.yaw)))
        rotmats[0] = turn(y=math.degrees(yaw)) @ rotmats[0]
        vertices, joints = pose_body(body, rotmats.astype(np.float32), betas)
        root = joints[0].copy()
        vertices, joints = vertices - root, joints - root
        height = -float(vertices[:, 1].min())
        spot = np.array([0, height, 0], np.float32)
        if rules.people > 1:  # a row, every second one a step behind
            step = rules.crowd / rules.people
            spot[0] = (rank[number] - (rules.people - 1) / 2) * step + rng.normal(0, 0.06)
            spot[2] = -0.55 * (rank[number] % 2) - rng.uniform(0, 0.35)
        look = sample_look(subject_rng)
        outfit = sample_outfit(subject_rng, look) if rules.dressed else None
        people.append(Someone(subject, action, look, outfit, rotmats, betas, yaw, root, vertices, joints, spot, height))
    return people


def _seen_from(view: Float[np.ndarray, "3 3"], one: Someone) -> Someone:
    """A person in the camera's axes."""
    rotmats = one.rotmats.copy()
    rotmats[0] = view @ rotmats[0]
    turned = view.T
    return replace(
        one, rotmats=rotmats, vertices=one.vertices @ turned, joints=one.joints @ turned, spot=one.spot @ turned
    )


def _frame(rng: np.random.Generator, rules: Domain) -> tuple[float, Float[np.ndarray, "2"]]:
    """Sample the size and the position of the people's tight box; see `aim`."""
    kind, share = rng.random(), rng.uniform(*rules.size)
    room = max(0.0, 0.99 - (BOX_MARGIN if rules.centred else 1) * share) / 2
    offset = rng.uniform(-room, room, 2)
    if not rules.centred:
        offset[1] = abs(offset[1])  # the camera is above their middle, else it is under the floor
    if kind < rules.upper:  # the head is in the picture
        share = rng.uniform(1.3, 2.6)
        offset = np.array([rng.uniform(-0.25, 0.25), rng.uniform(0.04, 0.20) + share / 2 - 0.5])
    elif kind < rules.upper + rules.cut:
        share = rng.uniform(1.1, 1.7)
        offset = rng.uniform(-0.5, 0.5, 2) * (share - 0.5)
    return share, offset


def _seats(
    rng: np.random.Generator, rules: Domain, people: list[Someone], axes: Float[np.ndarray, "3 3"]
) -> list[Vertices]:
    """A box under each person who sits on a seat: eight corners in the camera frame."""
    seats = []
    to_camera = axes * np.array([[1], [1], [-1]], np.float32)  # from the world, whose z is towards the camera
    for one in people:
        if not rules.seats or one.action.partition("-")[0] not in rules.groups[0]:
            continue
        top, floor = -BUTTOCKS_M, -float(one.height)
        if top - floor < LOWEST_SEAT_M:
            continue
        turned = turn(y=math.degrees(one.yaw) + rng.normal(0, 15))
        width, depth = (size * rng.uniform(0.85, 1.3) / 2 for size in SEAT_M)
        corner = np.array([[x, 0, z] for z in (-depth, depth) for _ in (0, 1) for x in (-width, width)]) @ turned.T
        corner[:, 1] = [floor, floor, top, top] * 2
        seats.append((corner @ to_camera + one.spot).astype(np.float32))
    return seats


def _joined(
    meshes: list[Vertices], faces: Int[np.ndarray, "F 3"]
) -> tuple[Float[np.ndarray, "W 3"], Int[np.ndarray, "G 3"]]:
    """Several bodies as one mesh."""
    shifts = np.cumsum([0, *map(len, meshes[:-1])])
    return np.concatenate(meshes), np.concatenate([faces + np.int32(shift) for shift in shifts])


def _draw_box(rng: np.random.Generator, camera: Camera, light: Light, box: Float[np.ndarray, "8 3"]) -> Drawn:
    """A box of one dull colour, lit face by face."""
    fragments = sampled(camera, box, BOX_FACES)
    corner = box[BOX_FACES]
    normals = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    normals = (normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)).astype(np.float32)
    seen = normals[fragments.face]
    colour = dull(rng, 0.25, 0.75) * shade(light, seen, camera.axes[1], np.ones(len(seen), np.float32))
    return Drawn(fragments.pixel, np.clip(colour, 0, 1).astype(np.float32), fragments.depth)


def _compose(image: Image, layers: list[Drawn], side: int) -> tuple[list[Float[np.ndarray, "S S"]], Image]:
    """Draw layers into a picture, the nearest sample in front; and each layer's visible alpha."""
    count = (side * SUPERSAMPLE) ** 2
    nearest, owner = np.full(count, np.inf, np.float32), np.full(count, -1, np.int32)
    samples = np.zeros((count, 4), np.float32)
    for number, layer in enumerate(layers):
        is_front = layer.depth < nearest[layer.pixel]
        pixel = layer.pixel[is_front]
        nearest[pixel], owner[pixel] = layer.depth[is_front], number
        samples[pixel, :3], samples[pixel, 3] = layer.colour[is_front], 1
    drawn = shrink(samples, side)
    alphas = [shrink((owner == number)[:, None].astype(np.float32), side)[..., 0] for number in range(len(layers))]
    composed: np.ndarray = image * (1 - drawn[..., 3:]) + drawn[..., :3]
    return alphas, composed.astype(np.float32)


def _spoil(rng: np.random.Generator, image: Image, rules: Domain) -> Image:
    """Little light, noise and motion blur, as far as the domain has them."""
    how, side = rules.photography, rules.side
    gain, noise, motion = (float(rng.uniform(*limits)) for limits in (how.gain, how.noise, how.motion))
    angle = rng.uniform(0, np.pi)
    length = motion * side
    if length > 1:
        size = 2 * math.ceil(length / 2) + 1
        kernel = np.zeros((size, size), np.float32)
        for step in np.linspace(-length / 2, length / 2, 4 * size):
            x, y = size // 2 + step * math.cos(angle), size // 2 + step * math.sin(angle)
            kernel[round(y), round(x)] += 1
        image = cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT)
    if gain == 1 and not noise:
        return image
    grainy = image * np.float32(gain) + np.float32(noise) * rng.standard_normal(image.shape, dtype=np.float32)
    spoilt: np.ndarray = np.clip(grainy, 0, 1).astype(np.float32)
    return spoilt


def _labelled(
    one: Someone, mesh: Vertices, camera: Camera, jpeg: bytes, name: str, occlusion: float, place: int
) -> Sample:
    side = camera.side
    joints = one.joints + one.spot
    flat, keypoints = camera.project(mesh), camera.project(joints)
    is_inside = inside(flat, side)
    low, high = (np.clip(corner, -0.5, side - 0.5) for corner in corners(flat))
    size = (high - low) * BOX_MARGIN
    center = camera.center
    return Sample(
        jpeg=jpeg,
        name=name,
        photo_px=(side, side),
        box=np.concatenate([(low + high - size) / 2, size]).astype(np.float32),
        keypoints2d=np.concatenate([keypoints, inside(keypoints, side)[:, None]], 1).astype(np.float32),
        keypoints3d=np.concatenate([joints, np.ones((len(joints), 1))], 1).astype(np.float32),
        pose=rotmat_to_rotvec(one.rotmats).astype(np.float32),
        betas=one.betas,
        transl=(one.spot - one.root).astype(np.float32),
        has_body=True,
        camera=np.array([camera.focal, camera.focal, center, center], np.float32),
        columns={
            "yaw": (one.yaw + math.pi) % (2 * math.pi) - math.pi,
            "distance": float(one.spot[2]),
            "fov": math.degrees(2 * math.atan(side / 2 / camera.focal)),
            "occlusion": min(max(occlusion, 0.0), 1.0),
            "truncation": 1 - float(is_inside.mean()),
            "subject": f"{name.partition('/')[0]}-{one.subject:04d}",
            "place": f"{name.partition('/')[0]}-{place:04d}",
            "action": one.action,
        },
    )
