"""AGORA: scans of clothed people rendered in scenes, 5 to 15 per image, with SMPL and SMPL-X fits to the scans.

Patel, Huang, Tesch, Hoffmann, Tripathi, Black: AGORA: Avatars in Geography Optimized for Regression Analysis, CVPR
2021. https://agora.is.tue.mpg.de/

Fits are in the scan's frame, y up. In the Unreal engine's world, a scan is rotated by a yaw and the camera by a yaw and
a pitch. The converter combines them into one rotation and one translation to the camera frame, stored as extra
smplx/camera_rotation and smplx/camera_translation next to the unchanged SMPL-X fit. `transl` of the SMPL fit is
computed from the labelled pelvis. The shape of children has an 11th number: extra smpl/betas, 0 for adults.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import X_HALF_TURN, box_around, moved, rotmat, rotvec, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.reasons import HIDDEN_SCAN, NO_JOINT_INSIDE
from hmrb.errors import RunError
from hmrb.formats.files import visible
from hmrb.formats.inside import inside
from hmrb.formats.pandas_pickles import read_frame, read_tensors
from hmrb.records import Person, Photo

FOLDERS = {"train": "train", "val": "validation"}
LONGEST = 20_000  # bytes of the longest array to keep: 127 joints take 3,048, the vertices of a body 165,360
SMALL = "_1280x720"  # in the names of the small images; labels refer to the large ones
SIZE = (3840, 2160)  # of the large images
SMALLER = 3.0
JOINTS = 45
# A camera's yaw and pitch in degrees, position in cm and focal length in mm, by part of the image's name. From the
# official projection, as the others' focal length and the width of the sensor.
CAMERAS = {
    "hdri": (0, 0, (0, 0, 170), 50), "cam00": (135, 30, (400, -275, 265), 18), "cam01": (-135, 30, (400, 225, 265), 18),
    "cam02": (-45, 30, (-490, 170, 265), 18), "cam03": (45, 30, (-490, -275, 265), 18), "ag2": (0, 15, (0, 0, 170), 28),
}  # fmt: skip
FOCAL_MM, SENSOR_MM = 28, 36
GROUND = np.array([0, -1.7, 0])  # metres; camera offset in all other scenes
SMPL_SIZES = {"root_pose": 3, "body_pose": SMPL_KIND.pose_numbers - 3, "translation": 3}
SMPLX_SIZES = {
    "global_orient": 3, "body_pose": 63, "left_hand_pose": 45, "right_hand_pose": 45, "jaw_pose": 3, "leye_pose": 3,
    "reye_pose": 3, "expression": 10, "transl": 3,
}  # fmt: skip
BETAS = 11
NUMBERS, WORDS = ("occlusion", "kid"), ("age", "ethnicity")
Point = Float[np.ndarray, "3"]


@dataclass(frozen=True, slots=True)
class Scan:
    """One person in an image: paths of the fits, position (cm) and yaw (degrees), and labelled joints."""

    smpl: str
    smplx: str
    gender: str
    columns: dict[str, float | str]
    place: Float[np.ndarray, "4"]
    joints2d: Float[np.ndarray, "45 2"]
    joints3d: Float[np.ndarray, "45 3"]


@dataclass(frozen=True, slots=True)
class Picture:
    """An image and its valid people; `camera` (X, Y, Z in cm, yaw in degrees) applies if its name implies none."""

    name: str
    camera: Float[np.ndarray, "4"]
    scans: tuple[Scan, ...]


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan the splits whose tables exist, for images of either size."""
    tables = {
        split: visible((raw.root / "camera_dataframe_smpl").glob(f"{name}_*_withjv.pkl"))
        for split, name in FOLDERS.items()
        if raw.wants(split)
    }
    if not any(tables.values()):
        raw.some("camera_dataframe_smpl/*_withjv.pkl")
    images, has_smplx = raw.need("images"), (raw.root / "smplx_gt").is_dir()
    parts = []
    for split, paths in tables.items():
        if paths:
            there = {path.name: path.relative_to(raw.root).as_posix() for path in visible(images.rglob("*.png"))}
            left_out: Counter[str] = Counter()
            items = [item for path in paths for item in _pictures(path, f"images/{FOLDERS[split]}", there, left_out)]
            parts.append(SplitPlan(split, items, partial(read, raw.root, has_smplx, raw.compat), left_out=left_out))
    return parts


def read(root: Path, has_smplx: bool, compat: bool, picture: Picture) -> Iterator[Photo]:
    """Read one image and the people in view."""
    shrink = SMALLER if SMALL in picture.name else 1.0
    size = np.array(SIZE) / shrink
    stated_px = (int(size[0]), int(size[1]))
    scans = [scan for scan in picture.scans if compat or _in_view(scan.joints2d / shrink, size)]
    people = tuple(_person(root, has_smplx, compat, picture, scan, shrink) for scan in scans)
    away = len(picture.scans) - len(scans)
    left_out = {NO_JOINT_INSIDE: away} if away else {}
    file = inside(root, picture.name)
    yield Photo(name=picture.name, people=people, file=file, stated_px=stated_px, left_out=left_out)


def _in_view(points: Float[np.ndarray, "J 2"], size: Float[np.ndarray, "2"]) -> bool:
    """Whether a joint is inside the image: the tables also list people outside it."""
    return bool(((points >= 0) & (points <= size - 1)).all(1).any())


def frame_of(name: str, camera: Float[np.ndarray, "4"], place: Float[np.ndarray, "4"]) -> tuple[np.ndarray, Point]:
    """Rotation and translation (metres) from the frame of a scan's fit to the camera frame, by the image's name."""
    known = _known(name)
    yaw, pitch, at, _ = known or (float(camera[3]), 0.0, camera[:3], FOCAL_MM)
    seen_from = _metres(np.array(at, float)) + (0 if known else GROUND)
    look = _turn(pitch, 0) @ _turn(-yaw, 1)
    turn = look @ _turn(place[3] - 90, 1) @ X_HALF_TURN  # scans are rotated by 90 degrees
    return turn, look @ (_metres(place[:3]) - seen_from)


def intrinsics_of(name: str, size: Float[np.ndarray, "2"]) -> Float[np.ndarray, "4"]:
    """fx, fy, cx, cy of an image of this size (width, height); its labels' middle is half its size."""
    known = _known(name)
    focal = (known[3] if known else FOCAL_MM) / SENSOR_MM * size[0]
    return np.array([focal, focal, *(size / 2)], np.float32)


def _known(name: str) -> Any:
    return next((row for word, row in CAMERAS.items() if word in name), None)


def _person(root: Path, has_smplx: bool, compat: bool, picture: Picture, scan: Scan, shrink: float) -> Person:
    turn, shift = frame_of(picture.name, picture.camera, scan.place)
    fit = _smpl(inside(root, scan.smpl))
    rest = turn.T @ (scan.joints3d[0] - shift) - fit["translation"]  # the rest pelvis, from the label
    rotation = rotmat(fit["root_pose"])
    pose = np.concatenate([fit["root_pose"], fit["body_pose"]]).reshape(SMPL_KIND.num_joints, 3)
    # The study applies the half turn on the other side of the root.
    pose[0] = rotvec(turn @ X_HALF_TURN @ rotation @ X_HALF_TURN if compat else turn @ rotation)
    extra = {"smpl/betas": fit["betas"]}
    if has_smplx:
        extra |= {f"smplx/{key}": value for key, value in _smplx(inside(root, scan.smplx)).items()}
        extra |= {"smplx/camera_rotation": turn.ravel(), "smplx/camera_translation": shift}
    points = scan.joints2d / shrink
    return Person(
        box=box_around(points),
        keypoints2d=with_confidence(points),
        keypoints3d=with_confidence(scan.joints3d),
        pose=pose.astype(np.float32),
        betas=fit["betas"][: SMPL_KIND.num_betas],
        transl=moved(fit["translation"], rest, turn, shift),
        has_body=True,
        gender=scan.gender,
        columns=scan.columns,
        extra=extra,
        camera=intrinsics_of(picture.name, np.array(SIZE) / shrink),
    )


def _metres(unreal_cm: Point) -> Point:
    """Convert Unreal's axes (x forward, y right, z up; cm) to x right, y down, z forward (metres)."""
    x, y, z = unreal_cm / 100
    return np.array([y, -z, x])


def _turn(degrees: float, axis: int) -> np.ndarray:
    return rotmat(np.radians(degrees) * np.eye(3)[axis])


def _pictures(path: Path, folder: str, there: dict[str, str], left_out: Counter[str]) -> Iterator[Picture]:
    with raw_file(path):
        table = read_frame(path, LONGEST)
    needed = ("imgPath", "X", "Y", "Z", "Yaw", "gender", "isValid", "gt_path_smpl", "gt_joints_2d", "gt_joints_3d")
    if missing := [key for key in needed if key not in table]:
        raise RunError(f"{path}: missing columns: {', '.join(missing)}; is it the SMPL version with joints?")
    for row, named in enumerate(table["imgPath"]):
        large = str(named).replace("\\", "/").rsplit("/", 1)[-1].replace(SMALL, "")
        small = large.replace(".png", f"{SMALL}.png")
        name = there.get(small) or there.get(large) or f"{folder}/{small}"
        camera = [float(table[key][row]) if key in table else 0.0 for key in ("camX", "camY", "camZ", "camYaw")]
        is_valid = np.asarray(table["isValid"][row], bool)
        valid = np.flatnonzero(is_valid).tolist()
        left_out += Counter({HIDDEN_SCAN: is_valid.size - len(valid)})
        scans = tuple(_scan(path, table, row, number) for number in valid)
        if scans:
            yield Picture(name, np.array(camera), scans)


def _scan(path: Path, table: dict[str, list[Any]], row: int, number: int) -> Scan:
    def told(key: str) -> Any:
        try:
            return table[key][row][number]
        except (TypeError, IndexError):
            raise RunError(f"{path}: {key} of row {row} is missing for some people in the image") from None

    joints = [np.array(told(f"gt_joints_{n}d"), np.float32) for n in (2, 3)]
    if [one.shape for one in joints] != [(JOINTS, 2), (JOINTS, 3)]:
        raise RunError(
            f"{path}: joints of row {row} have shapes {[one.shape for one in joints]}, the SMPL version has {JOINTS}"
            " joints; the folder camera_dataframe_smpl must contain the tables of the SMPL version"
        )
    columns: dict[str, float | str] = {key: float(told(key)) for key in NUMBERS if key in table}
    columns |= {key: str(told(key)) for key in WORDS if key in table}
    columns["scene"] = next((word for word in CAMERAS if word in table["imgPath"][row]), "3d")
    return Scan(
        smpl=_pickled(told("gt_path_smpl")),
        smplx=_pickled(told("gt_path_smplx")) if "gt_path_smplx" in table else "",
        gender=word if (word := str(told("gender")).lower()) in ("male", "female") else "neutral",
        columns=columns,
        place=np.array([told(key) for key in ("X", "Y", "Z", "Yaw")], float),
        joints2d=joints[0],
        joints3d=joints[1],
    )


def _pickled(name: str) -> str:
    """Path of the pickle next to the mesh that a table names."""
    return f"{str(name).removesuffix('.obj').removesuffix('.pkl')}.pkl"


@lru_cache(512)
def _smpl(path: Path) -> dict[str, np.ndarray]:
    """Read a SMPL fit; cached because scans occur in many images."""
    with raw_file(path):
        fit = read_tensors(path)
    return {key: _numbers(fit, key, (size,), path) for key, size in SMPL_SIZES.items()} | {"betas": _betas(fit, path)}


@lru_cache(512)
def _smplx(path: Path) -> dict[str, np.ndarray]:
    with raw_file(path):
        fit = read_tensors(path)
    return {key: _numbers(fit, key, (size,), path) for key, size in SMPLX_SIZES.items()} | {"betas": _betas(fit, path)}


def _betas(fit: Any, path: Path) -> Float[np.ndarray, "11"]:
    betas = _numbers(fit, "betas", (BETAS - 1, BETAS), path)
    return np.pad(betas, (0, BETAS - len(betas)))


def _numbers(fit: Any, key: str, sizes: Sequence[int], path: Path) -> Float[np.ndarray, " N"]:
    try:
        numbers = np.asarray(fit[key], np.float32).ravel()
    except (KeyError, TypeError, ValueError, IndexError):
        raise RunError(f"{path}: missing {key}; download it again") from None
    if numbers.size not in sizes or not np.isfinite(numbers).all():
        raise RunError(f"{path}: {key} must have {sizes[0]} finite numbers, but has {numbers.size}; download it again")
    return numbers


CONVERTERS = (
    Converter(
        name="agora",
        title="AGORA",
        licence="non-commercial research",
        skeleton="smpl_45",
        splits=tuple(FOLDERS),
        plan=plan,
        tree=(
            "DIR/\n"
            "  camera_dataframe_smpl/train_0_withjv.pkl ... validation_0_withjv.pkl ...   (the SMPL version)\n"
            "  images/train/ag_..._1280x720.png  images/validation/   (or 3840x2160, without _1280x720)\n"
            "  smpl_gt/<set>/<scan>.pkl\n"
            "  smplx_gt/<set>/<scan>.pkl   (optional; without it there is no SMPL-X)"
        ),
        traps=(
            "The fit's root is in the scan's frame; the half turn from y up to y down is multiplied from the left.",
            "2D joints always refer to the 3840x2160 images, even if you have the smaller ones.",
            "All joints have confidence 1, including hidden joints and joints outside the image.",
            "Children (column kid) have an 11th shape number, in extra smpl/betas; with only 10 they are too large.",
            "People with no joint inside the image are left out.",
            "The cameras' intrinsics follow from the image's name: 50, 28 or 18 mm on a 36 mm sensor, no distortion.",
            "People who are more than 90 percent hidden (isValid) are left out; column occlusion has the percentage.",
        ),
        study="the root's half turn is multiplied from the right, so people face the wrong way; people outside the"
        " image are kept",
        study_fails=("people_in_picture", "upright", "left_right", "projection", "camera", "body_joints"),
        benchmarks=("val",),
    ),
)
