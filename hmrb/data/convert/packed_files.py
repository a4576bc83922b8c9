"""Read packed annotation files as Samples: HumanData, SPIN, BEDLAM and 4D-Humans.

Every reader maps keypoints to `skeleton` by exact joint name. Pixels count from 0, 3D is in metres in the camera frame,
and bounding boxes follow the file's own rule. Pickled objects go through the allow-list of formats/pickles.py.
"""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, Shaped

from hmrb.bodykind import SMPL_KIND
from hmrb.errors import RequestError, RunError
from hmrb.formats.inside import inside
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import load_pickle
from hmrb.formats.pictures import UnreadablePicture, decoded, read_picture
from hmrb.lookup import find
from hmrb.records import Sample
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON, remap

JPEG_QUALITY = 95  # for images that are not JPEG or must be rotated
SCALE_PX = 200.0  # box side per unit of `scale` in SPIN's format, margin included
GENDER_CODES = {
    **dict.fromkeys(("m", "male", "1"), "male"),  # 0 and 1 as in SURREAL
    **dict.fromkeys(("f", "female", "0"), "female"),
    **dict.fromkeys(("n", "neutral", "", "-1"), "neutral"),
}
# Skeletons of BEDLAM's files, by their number of points.
GTKPS = {len(SKELETONS[name].joints): name for name in ("smpl", "smpl_45", "smpl_54", "agora", "smplx")}
Pictures = Callable[[str], bytes]


class PackedError(RequestError):
    """An annotation file that violates its format, or one of its images that cannot be read."""


def pictures_in(folder: Path) -> Pictures:
    """Return a function that reads an image below `folder` by name, as JPEG bytes."""

    def read(name: str) -> bytes:
        try:
            data = read_picture(inside(folder, name))
        except RunError as error:
            raise PackedError(str(error)) from None
        return data if data.startswith(b"\xff\xd8") else _as_jpeg(data, str(folder / name), turned=False)

    return read


def read_human_data(path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON) -> Iterator[Sample]:
    """Read mmhuman3d's HumanData. SMPL-X parameters are ignored: their shape space differs from SMPL's."""
    with Npz(path) as file:
        names = _names(file, "image_path")
        two = _human_data_points(file, "keypoints2d", 3, len(names), skeleton)
        three = _human_data_points(file, "keypoints3d", 4, len(names), skeleton)
        smpl = file.read("smpl") if "smpl" in file else {}
        has_smpl = _rows(file, "has_smpl", len(names), bool(smpl))
        poses, betas, transl = _human_data_bodies(path, smpl, len(names))
        genders = _genders(path, file.read("meta") if "meta" in file else {}, len(names))
        boxes = _rows(file, "bbox_xywh", len(names))
        for row, name in enumerate(names):
            yield _sample(
                name,
                pictures(name),
                next(boxes)[:4],
                next(two),
                next(three),
                poses[row],
                betas[row],
                transl[row],
                bool(next(has_smpl)),
                genders[row],
            )


def read_spin(path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON) -> Iterator[Sample]:
    """Read files in SPIN's format (SPIN, EFT, CLIFF): `part` has SPIN's 24 points, `openpose` OpenPose's 25."""
    with Npz(path) as file:
        names = _names(file, "imgname")
        count = len(names)
        parts = _rows(file, "part", count, np.zeros((24, 3)))
        openpose = _rows(file, "openpose", count, np.zeros((25, 3)))
        three = _rows(file, "S", count, np.zeros((24, 4)))
        centers, scales = _rows(file, "center", count), _rows(file, "scale", count)
        poses, betas = (
            _rows(file, "pose", count, np.zeros(SMPL_KIND.pose_numbers)),
            _rows(file, "shape", count, np.zeros(SMPL_KIND.num_betas)),
        )
        has_smpl = _rows(file, "has_smpl", count, "pose" in file)
        genders = _rows(file, "gender", count, "")
        for name in names:
            yield _sample(
                name,
                pictures(name),
                _square(next(centers), next(scales)),
                _points(np.concatenate([next(openpose), next(parts)]), "smpl_49", skeleton),
                _points(next(three), "smpl_24", skeleton),
                next(poses),
                next(betas),
                np.zeros(3),
                bool(next(has_smpl)),
                _gender(path, next(genders)),
            )


def read_bedlam(path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON) -> Iterator[Sample]:
    """Read files in BEDLAM's format, including AGORA's. The number of `gtkps` joints determines their skeleton.

    People with SMPL-X poses (165 numbers) and children (an 11th shape number) get no SMPL body.
    """
    with Npz(path) as file:
        names = _names(file, "imgname")
        count = len(names)
        source = _gtkps(path, file)
        centers, scales, points = (_rows(file, key, count) for key in ("center", "scale", "gtkps"))
        poses, betas = _rows(file, "pose_cam", count), _rows(file, "shape", count)
        moves, cameras = _rows(file, "trans_cam", count, np.zeros(3)), _rows(file, "cam_ext", count, np.zeros((4, 4)))
        genders = _rows(file, "gender", count, "")
        for name in names:
            pose, shape, marked = next(poses), next(betas), next(points)
            is_smpl = len(pose) == SMPL_KIND.pose_numbers and not shape[SMPL_KIND.num_betas :].any()
            jpeg = pictures(name)
            if "closeup" in name:  # stored rotated; the labels are for the upright image
                jpeg = _as_jpeg(jpeg, name, turned=True)
            yield _sample(
                name,
                jpeg,
                _square(next(centers), next(scales)),
                _points(np.c_[marked, np.ones(len(marked))][:, :3], source, skeleton),
                _points(np.zeros((24, 4)), "smpl", skeleton),
                pose if is_smpl else np.zeros(SMPL_KIND.pose_numbers),
                shape[: SMPL_KIND.num_betas] if is_smpl else np.zeros(SMPL_KIND.num_betas),
                np.asarray(next(moves)) + next(cameras)[:3, 3],
                is_smpl,
                _gender(path, next(genders)),
            )


def read_4dhumans(path: Path, skeleton: str = TRAINING_SKELETON) -> Iterator[Sample]:
    """Read a 4D-Humans tar: each image is next to a pickled list of its people."""
    for key, members in _groups(path):
        kinds = sorted(members)
        picture = next((members[kind] for kind in ("jpg", "jpeg", "png") if kind in members), None)
        if picture is None or "data.pyd" not in members:
            raise PackedError(f"{path}: '{key}' has {', '.join(kinds)}; a person needs jpg and data.pyd")
        jpeg = picture if picture.startswith(b"\xff\xd8") else _as_jpeg(picture, f"{path}: {key}", turned=False)
        for person in load_pickle(io.BytesIO(members["data.pyd"]), f"{path}: {key}.data.pyd"):
            yield _person_4dhumans(f"{path}: {key}", key, jpeg, person, skeleton)


def _person_4dhumans(source: str, key: str, jpeg: bytes, person: Any, skeleton: str) -> Sample:
    needed = ("keypoints_2d", "keypoints_3d", "center", "scale", "body_pose", "betas", "has_body_pose", "has_betas")
    if not isinstance(person, Mapping) or (missing := [name for name in needed if name not in person]):
        said = "is not a dict" if not isinstance(person, Mapping) else f"has no {', '.join(missing)}"
        raise PackedError(f"{source}: a person {said}")
    # OpenPose's 25, then the first 19 of SPIN's 24: the first 44 joints of smpl_49.
    two, three = (np.asarray(person[name], np.float64) for name in ("keypoints_2d", "keypoints_3d"))
    if two.shape != (44, 3) or three.shape != (44, 4):
        raise PackedError(
            f"{source}: keypoints have shapes {two.shape} and {three.shape}, expected (44, 3) and (44, 4)"
        )
    return _sample(
        key,
        jpeg,
        _square(person["center"], person["scale"]),
        _points(np.pad(two, ((0, 5), (0, 0))), "smpl_49", skeleton),
        _points(np.pad(three, ((0, 5), (0, 0))), "smpl_49", skeleton),
        person["body_pose"],
        person["betas"],
        np.zeros(3),
        bool(np.all(person["has_body_pose"]) and np.all(person["has_betas"])),
        "neutral",
    )


def _groups(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Group consecutive tar members with the same key; each group maps file extensions to contents."""
    key, members = "", dict[str, bytes]()
    try:
        with tarfile.open(path, "r|*") as tar:
            for info in tar:
                folder, _, file = info.name.rpartition("/")
                stem, _, kind = file.partition(".")
                if not info.isfile() or not kind:
                    continue
                here = f"{folder}/{stem}".lstrip("/")
                if here != key and members:
                    yield key, members
                    members = {}
                key = here
                if kind in ("jpg", "jpeg", "png", "data.pyd"):
                    content = tar.extractfile(info)
                    members[kind] = content.read() if content else b""
    except (tarfile.TarError, EOFError) as error:
        raise PackedError(f"{path}: not a tar file, or truncated ({error}); download it again") from None
    except OSError as error:
        raise PackedError(f"{path}: cannot be read ({error.strerror or error})") from None
    if members:
        yield key, members


def _sample(
    name: str,
    jpeg: bytes,
    box: Any,
    keypoints2d: Float[np.ndarray, "K 3"],
    keypoints3d: Float[np.ndarray, "K 4"],
    pose: Any,
    betas: Any,
    transl: Any,
    has_body: bool,
    gender: str,
) -> Sample:
    body = [np.asarray(part, np.float32).ravel() for part in (pose, betas, transl)]
    sizes, wanted = [len(part) for part in body], [SMPL_KIND.pose_numbers, SMPL_KIND.num_betas, 3]
    if sizes[::2] != wanted[::2] or sizes[1] < wanted[1]:
        raise PackedError(f"'{name}': pose, shape and translation have {sizes} numbers, expected {wanted}")
    has_body = has_body and all(np.isfinite(part).all() for part in body)
    pose, betas, transl = body if has_body else (np.zeros(size, np.float32) for size in wanted)
    return Sample(
        jpeg=jpeg,
        name=name,
        box=np.asarray(box, np.float32),
        keypoints2d=keypoints2d,
        keypoints3d=keypoints3d,
        pose=pose.reshape(SMPL_KIND.num_joints, 3),
        betas=betas[: SMPL_KIND.num_betas],
        transl=transl,
        has_body=has_body,
        gender=gender,
    )


def _points(values: Shaped[np.ndarray, "K C"], source: str, target: str) -> Float[np.ndarray, "J C"]:
    """Map points from one skeleton to another; points that are not finite are missing, confidence is at most 1."""
    points = np.asarray(values, np.float32).copy()
    points[~np.isfinite(points).all(1)] = 0
    points[:, -1] = points[:, -1].clip(0, 1)
    return remap(points, source, target)


def _square(center: Any, scale: Any) -> Float[np.ndarray, "4"]:
    side = SCALE_PX * float(np.max(scale))
    x, y = np.asarray(center, np.float64)
    return np.array([x - side / 2, y - side / 2, side, side], np.float32)


def _names(file: Npz, key: str) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in file.rows(key)]


def _rows(file: Npz, key: str, count: int, default: Any = None) -> Iterator[Any]:
    """Iterate over the `count` rows of an array, or over copies of `default` if the file does not have it."""
    if key not in file and default is not None:
        return repeat(default, count)
    shape = file.shape(key)
    have = shape[0] if shape else len(file.read(key))
    if have != count:
        raise PackedError(f"{file.path}: {key} has {have} rows for {count} images")
    return file.rows(key)


def _human_data_points(file: Npz, key: str, width: int, count: int, skeleton: str) -> Iterator[np.ndarray]:
    """Iterate over keypoints, which store all joints of a convention or only the joints in its mask."""
    if key not in file:
        yield from repeat(_points(np.zeros((190, width)), "human_data", skeleton), count)
        return
    convention = str(file.read(f"{key}_convention")) if f"{key}_convention" in file else "human_data"
    joints = len(find("skeleton", convention, SKELETONS).joints)
    mask = np.asarray(file.read(f"{key}_mask") if f"{key}_mask" in file else np.ones(joints)).astype(bool)
    if len(mask) > joints:
        raise PackedError(f"{file.path}: {key} has {len(mask)} joints, but {convention} has {joints}")
    is_packed = bool(file.read("__keypoints_compressed__")) if "__keypoints_compressed__" in file else False
    columns = np.flatnonzero(mask) if is_packed else np.arange(len(mask))
    if file.shape(key) != (count, len(columns), width):
        raise PackedError(
            f"{file.path}: {key} has shape {file.shape(key)}, expected ({count}, {len(columns)}, {width})"
        )
    for stored in file.rows(key):
        whole = np.zeros((joints, width), np.float32)  # older files have the first joints of today's list
        whole[columns] = stored
        whole[: len(mask), -1] *= mask
        yield _points(whole, convention, skeleton)


def _human_data_bodies(path: Path, smpl: Any, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not smpl:
        return np.zeros((count, SMPL_KIND.pose_numbers)), np.zeros((count, SMPL_KIND.num_betas)), np.zeros((count, 3))
    if missing := [key for key in ("global_orient", "body_pose", "betas") if key not in smpl]:
        raise PackedError(f"{path}: smpl has no {', '.join(missing)}")
    try:
        root, limbs = (np.asarray(smpl[key]).reshape(count, -1, 3) for key in ("global_orient", "body_pose"))
        betas = np.asarray(smpl["betas"]).reshape(count, -1)
        transl = np.asarray(smpl.get("transl", np.zeros((count, 3)))).reshape(count, 3)
        poses = np.concatenate([root, limbs], 1).reshape(count, SMPL_KIND.pose_numbers)
    except ValueError as error:
        raise PackedError(f"{path}: smpl does not match {count} images ({error})") from None
    return poses, betas, transl


def _genders(path: Path, meta: Any, count: int) -> list[str]:
    given = meta.get("gender") if isinstance(meta, Mapping) else None
    codes = [""] * count if given is None else np.asarray(given).ravel().tolist()
    if len(codes) != count:
        raise PackedError(f"{path}: {len(codes)} genders for {count} images")
    return [_gender(path, code) for code in codes]


def _gender(path: Path, code: Any) -> str:
    word = (code.decode() if isinstance(code, bytes) else str(code)).lower()
    if word not in GENDER_CODES:
        raise PackedError(f"{path}: unknown gender '{word}'; known: {', '.join(filter(None, GENDER_CODES))}")
    return GENDER_CODES[word]


def _gtkps(path: Path, file: Npz) -> str:
    shape = file.shape("gtkps")
    count = shape[1] if len(shape) == 3 else 0
    if count not in GTKPS:
        raise PackedError(f"{path}: gtkps has {count} joints; known: {', '.join(map(str, GTKPS))}")
    return GTKPS[count]


def _as_jpeg(data: bytes, source: str, turned: bool) -> bytes:
    """Encode an image as JPEG; `turned` rotates it by 90 degrees clockwise."""
    try:
        picture = cv2.cvtColor(decoded(data, source), cv2.COLOR_RGB2BGR)
    except UnreadablePicture as error:
        raise PackedError(str(error)) from None
    if turned:
        picture = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE)
    encoded: bytes = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return encoded
