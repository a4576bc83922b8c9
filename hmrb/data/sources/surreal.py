"""SURREAL: SMPL bodies animated by motion capture, rendered over images of rooms.

Varol, Romero, Martin, Mahmood, Black, Laptev and Schmid: Learning from Synthetic Humans, CVPR 2017.
https://www.di.ens.fr/willow/research/surreal/data/
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_around, rotmat, turned, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pelvis import transl_to
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import MALFORMED_CLIP, NO_JOINT_INSIDE
from hmrb.errors import RequestError, RunError
from hmrb.formats import video
from hmrb.formats.files import visible
from hmrb.formats.matlab import read_mat
from hmrb.records import Person, Photo

SPLITS = ("train", "val", "test")
RUN = "run0"  # clips that overlap by half; the run that the study uses
MALFORMED = ("18_", "19_", "143_21")  # prefixes of sequence names, from SURREAL's readme
WIDTH, HEIGHT = 320, 240
CAMERA = np.array([600.0, 600.0, 159.0, 120.0], np.float32)  # fx, fy, cx, cy of the mirrored image
GENDERS = ("female", "male")
# From the world to the camera of the mirrored image. The camera of the released images has determinant -1.
TO_CAMERA = np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
UPRIGHT = rotmat(np.array([np.pi / 2, 0, 0]))
SHAPES = {
    "joints2D": (2, SMPL_KIND.num_joints), "joints3D": (3, SMPL_KIND.num_joints), "pose": (SMPL_KIND.pose_numbers,),
    "shape": (SMPL_KIND.num_betas,), "gender": (), "zrot": (), "camLoc": (3,),
}  # fmt: skip


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan each split with one item per clip."""
    parts = []
    for split in SPLITS:
        folders = (raw.root / place / split / RUN for place in ("", "cmu", "data/cmu"))
        paths = [path for folder in folders for path in visible(folder.glob("*/*_info.mat"))]
        kept = [path for path in paths if raw.compat or not path.parent.name.startswith(MALFORMED)]
        if kept and raw.wants(split):
            left_out = +Counter({MALFORMED_CLIP: len(paths) - len(kept)})
            parts.append(SplitPlan(split, kept, partial(read, raw), photos_each=100, left_out=left_out))
    if not parts:
        raw.some(f"train/{RUN}/*/*_info.mat")
        raise RequestError(f"{raw.root}: contains only malformed subjects; see hmrb convert-data surreal --explain")
    return parts


def read(raw: Raw, path: Path) -> Iterator[Photo]:
    """Read a clip's frames, marked for mirroring, with labels for the mirrored images."""
    clip = _clip(path)
    found = [_study(clip, t) if raw.compat else _person(raw, clip, t) for t in range(clip["pose"].shape[1])]
    name = path.name.removesuffix("_info.mat")
    about = {"sequence": name}
    left_out: Counter[str] = Counter()
    for photo, person in zip(_pictures(raw, path.with_name(name), len(found)), found, strict=True):
        inside = (person.keypoints2d[:, :2] >= 0) & (person.keypoints2d[:, :2] < (WIDTH, HEIGHT))
        if raw.compat or inside.all(1).any():
            people = (replace(person, columns=about),)
            yield replace(photo, people=people, mirrored=not raw.compat, stated_px=(WIDTH, HEIGHT))
        else:
            left_out[NO_JOINT_INSIDE] += 1
    yield from counted(name, left_out)


def _person(raw: Raw, clip: dict[str, np.ndarray], t: int) -> Person:
    pixels = clip["joints2D"][..., t].T.copy()
    pixels[:, 0] = WIDTH - 1 - pixels[:, 0]
    x, y, z = clip["camLoc"][:, 0]
    points = clip["joints3D"][..., t].T @ TO_CAMERA.T + (-z, -y, x)
    spin = rotmat(np.array([0, 0, clip["zrot"][t]]))
    pose = clip["pose"][:, t].reshape(SMPL_KIND.num_joints, 3)
    betas = clip["shape"][:, t].astype(np.float32)
    gender = GENDERS[int(clip["gender"][t])]
    return Person(
        box=box_around(pixels),
        keypoints2d=with_confidence(pixels),
        keypoints3d=with_confidence(points),
        pose=turned(pose, TO_CAMERA @ UPRIGHT @ spin),
        betas=betas,
        transl=transl_to(points[0], betas, gender, raw.store),
        has_body=True,
        gender=gender,
        camera=CAMERA,
    )


def _study(clip: dict[str, np.ndarray], t: int) -> Person:
    """Labels as in the study: pose and 3D points mirrored in the world frame, 2D points of the unmirrored image."""
    pixels = clip["joints2D"][..., t].T
    points = clip["joints3D"][..., t].T[SMPL_KIND.mirror] * (-1, 1, 1)
    pose = clip["pose"][:, t].reshape(SMPL_KIND.num_joints, 3)[SMPL_KIND.mirror] * (1, -1, -1)
    return Person(
        box=box_around(pixels),
        keypoints2d=with_confidence(pixels),
        keypoints3d=with_confidence(points),
        pose=pose.astype(np.float32),
        betas=clip["shape"][:, t].astype(np.float32),
        has_body=True,
        gender=GENDERS[int(clip["gender"][t])],
    )


def _pictures(raw: Raw, clip: Path, count: int) -> Iterator[Photo]:
    """A clip's frames without people, from extracted images (numbered from 0 or 1) or from its video."""
    folder = clip.with_name(f"images_{clip.name}")
    if folder.is_dir():
        first = 0 if (folder / "frame_000000.jpg").exists() else 1
        for number in range(first, first + count):
            file = folder / f"frame_{number:06d}.jpg"
            yield Photo(name=file.relative_to(raw.root).as_posix(), people=(), file=file)
        return
    yield from video.frames(raw.root, clip.with_name(f"{clip.name}.mp4").relative_to(raw.root).as_posix(), range(count))


def _clip(path: Path) -> dict[str, Float[np.ndarray, "..."]]:
    """Read arrays with time as the last axis, which MATLAB drops for a single frame."""
    table = read_mat(path, *SHAPES)
    count = np.asarray(table["pose"]).size // SMPL_KIND.pose_numbers
    clip = {}
    for key, shape in SHAPES.items():
        frames = 1 if key == "camLoc" else count
        try:
            clip[key] = np.asarray(table[key], np.float64).reshape(*shape, frames)
        except (ValueError, TypeError):
            raise RunError(f"{path}: {key} has shape {np.shape(table[key])}, expected {(*shape, frames)}") from None
    if not np.isin(clip["gender"], (0, 1)).all():
        raise RunError(f"{path}: gender has values other than 0 (female) and 1 (male)")
    return clip


TREE = f"""
  train/{RUN}/01_01/01_01_c0001_info.mat          and val/, test/; or all of them in cmu/
  train/{RUN}/01_01/01_01_c0001.mp4
  or, extracted:
  train/{RUN}/01_01/images_01_01_c0001/frame_000000.jpg"""

CONVERTERS = (
    Converter(
        name="surreal",
        title="SURREAL",
        licence="non-commercial research",
        skeleton="smpl",
        splits=SPLITS,
        plan=plan,
        tree=TREE,
        traps=(
            "the released images are mirrored (their camera has determinant -1): they are mirrored back, x becomes"
            " 319 - x, and left and right joints stay as they are",
            "the raw root must be rotated by zrot about z and by 90 degrees about x to be in the world frame",
            "bodies are gendered; translations need bodies/smpl/SMPL_MALE.npz and SMPL_FEMALE.npz; without them they"
            " are zeros",
            "only run0 is used, as in the study: run1 and run2 show the same motions",
            "subjects 18 and 19 and sequence 143_21 are malformed and left out, as are frames with no joint inside the"
            " image",
            "2D points are integers, so they can be off by half a pixel",
        ),
        study="images are not mirrored back, but pose and 3D points are mirrored, in the world frame and without the"
        " root's rotations; malformed subjects and empty frames are kept",
        study_fails=("people_in_picture", "upright", "left_right", "projection", "body_joints"),
        benchmarks=("val", "test"),
    ),
)
