"""3DPW: people outdoors, filmed by a moving phone, with bodies from inertial sensors and the video.

von Marcard, Henschel, Black, Rosenhahn and Pons-Moll: Recovering Accurate 3D Human Pose in the Wild Using IMUs and a
Moving Camera, ECCV 2018. https://virtualhumans.mpi-inf.mpg.de/3DPW/
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import box_around, camera_of, moved, scaled, turned
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pelvis import rest_pelvis
from hmrb.data.convert.people import counted
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.reasons import NO_CAMERA_POSE, NO_POINTS
from hmrb.errors import RunError
from hmrb.formats.files import visible
from hmrb.formats.pickles import read_pickle
from hmrb.formats.pictures import UnreadablePicture, decoded, read_picture
from hmrb.records import Person, Photo

FOLDERS = {"train": "train", "val": "validation", "test": "test"}
GENDERS = {"m": "male", "f": "female"}
HALVED, ABOUT = 0.5, 0.05  # CLIFF and others halve 3DPW's pictures; a principal point is about the middle
PER_FRAME = {"poses": (SMPL_KIND.pose_numbers,), "trans": (3,), "poses2d": (3, 18), "campose_valid": ()}


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan each split with one item per sequence."""
    folder = raw.need("sequenceFiles")
    found = {split: visible((folder / name).glob("*.pkl")) for split, name in FOLDERS.items() if raw.wants(split)}
    if not any(found.values()):
        raw.some(f"sequenceFiles/{FOLDERS[next(iter(found))]}/*.pkl")
    return [SplitPlan(split, paths, partial(read, raw), photos_each=800) for split, paths in found.items() if paths]


def read(raw: Raw, path: Path) -> Iterator[Photo]:
    """Read the images of a sequence that have a detected person with a valid camera pose."""
    with raw_file(path):
        content = read_pickle(path)
    table = _checked(content, path)
    scale = _scale(raw, table)
    name, cameras = str(table["sequence"]), np.asarray(table["cam_poses"], np.float64)
    left_out: Counter[str] = Counter()
    for frame in range(len(cameras)):
        valid = [number for number in range(len(table["poses"])) if table["campose_valid"][number][frame]]
        found = (_person(raw, table, number, frame, scale) for number in valid)
        people = [person for person in found if person is not None]
        left_out += Counter({NO_CAMERA_POSE: len(table["poses"]) - len(valid), NO_POINTS: len(valid) - len(people)})
        image = _image(name, frame)
        if people:
            yield Photo(name=image, people=tuple(people), file=raw.file(image))
    yield from counted(name, left_out)


def _image(sequence: str, frame: int) -> str:
    return f"imageFiles/{sequence}/image_{frame:05d}.jpg"


def _scale(raw: Raw, table: dict[str, Any]) -> float:
    """HALVED if the sequence's pictures have half the size that its principal point is the middle of, else 1.

    The first picture that can be read decides.
    """
    stated = 2 * np.asarray(table["cam_intrinsics"], np.float64)[:2, 2]
    for frame in range(len(table["cam_poses"])):
        file = raw.file(_image(str(table["sequence"]), frame))
        try:
            height, width, _ = decoded(read_picture(file), file.name).shape
        except UnreadablePicture:
            continue
        return HALVED if (np.abs([width, height] - HALVED * stated) < ABOUT * stated).all() else 1.0
    return 1.0


def _person(raw: Raw, table: dict[str, Any], number: int, frame: int, scale: float) -> Person | None:
    points = np.array(table["poses2d"][number][frame], np.float32).T
    points[:, 2] = points[:, 2].clip(0, 1)
    points[points[:, 2] <= 0] = 0
    if not points.any():
        return None
    seen = points[:, 2] > 0
    points[seen, :2] = scaled(points[seen, :2], scale)
    camera = np.asarray(table["cam_poses"][frame], np.float64)
    gender = GENDERS[table["genders"][number]]
    betas = np.asarray(table["betas"][number], np.float32).ravel()[: SMPL_KIND.num_betas]
    rest = rest_pelvis(betas, gender, raw.store)
    transl = np.asarray(table["trans"][number][frame], np.float64)
    intrinsics = camera_of(table["cam_intrinsics"])
    return Person(
        box=box_around(points, seen=seen),
        keypoints2d=points,
        pose=turned(np.asarray(table["poses"][number][frame]).reshape(SMPL_KIND.num_joints, 3), camera[:3, :3]),
        betas=betas,
        transl=np.zeros(3, np.float32) if rest is None else moved(transl, rest, camera[:3, :3], camera[:3, 3]),
        has_body=True,
        gender=gender,
        columns={"sequence": str(table["sequence"]), "person": float(number)},
        camera=np.concatenate([intrinsics[:2] * scale, scaled(intrinsics[2:], scale)]),
    )


def _checked(table: Any, path: Path) -> dict[str, Any]:
    """Check that all fields exist and that their lengths match the sequence. Raises RunError."""
    needed = (*PER_FRAME, "betas", "genders", "cam_poses", "cam_intrinsics", "sequence")
    if not isinstance(table, dict) or (missing := [key for key in needed if key not in table]):
        raise RunError(f"{path}: {'missing ' + ', '.join(missing) if isinstance(table, dict) else 'not a dict'}")
    frames, people = len(table["cam_poses"]), len(table["poses"])
    shapes = {key: (frames, *shape) for key, shape in PER_FRAME.items()}
    for key in (*PER_FRAME, "betas", "genders"):
        if len(table[key]) != people:
            raise RunError(f"{path}: {key} has {len(table[key])} people, but poses has {people}")
        for value in table[key] if key in shapes else ():
            if np.shape(value) != shapes[key]:
                raise RunError(f"{path}: {key} has shape {np.shape(value)}, expected {shapes[key]} for {frames} frames")
    if np.shape(table["cam_intrinsics"]) != (3, 3):
        raise RunError(f"{path}: cam_intrinsics has shape {np.shape(table['cam_intrinsics'])}, expected (3, 3)")
    if np.shape(table["cam_poses"]) != (frames, 4, 4):
        raise RunError(f"{path}: cam_poses has shape {np.shape(table['cam_poses'])}, expected ({frames}, 4, 4)")
    if odd := [word for word in table["genders"] if word not in GENDERS]:
        raise RunError(f"{path}: unknown gender '{odd[0]}'; known: {', '.join(GENDERS)}")
    return table


TREE = """
  sequenceFiles/train/courtyard_arguing_00.pkl     also validation/ and test/
  imageFiles/courtyard_arguing_00/image_00000.jpg"""

CONVERTERS = (
    Converter(
        name="3dpw",
        title="3DPW",
        licence="non-commercial research",
        skeleton="pw3d",
        splits=tuple(FOLDERS),
        plan=plan,
        tree=TREE,
        traps=(
            "bodies are gendered: male and female, never neutral",
            "raw poses and translations are in the world frame; the shard has both in the camera frame",
            "the folder validation becomes the split val",
            "people in frames without a valid camera (campose_valid) or without a detected point are left out",
            "translations need bodies/smpl/SMPL_MALE.npz and SMPL_FEMALE.npz; without them they are zeros",
            "pictures of half the size, as others prepare them, are recognised: pixels and intrinsics are halved too",
            "intrinsics are the sequence's; the release states no lens distortion",
            "2D keypoints are OpenPose detections with their confidence; there are no 3D keypoints besides the body",
        ),
        benchmarks=("val", "test"),
    ),
)
