"""Read packed annotation files as Samples: HumanData, SPIN, BEDLAM and 4D-Humans.

Every reader maps keypoints to `skeleton` by exact joint name. Pixels count from 0, 3D is in metres in the camera frame,
and bounding boxes follow the file's own rule. Pickled objects go through the allow-list of formats/pickles.py.
"""

import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.packed_fields import (
    SMPLX_NUMBERS,
    Notes,
    PackedError,
    camera_from,
    gender_of,
    genders_of,
    image_names,
    mapped_points,
    person_of,
    real_numbers,
    rows_of,
    smplx_body,
    square_around,
)
from hmrb.formats.inside import inside
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import load_pickle
from hmrb.formats.pictures import decoded, read_picture
from hmrb.lookup import find
from hmrb.records import Sample
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON

JPEG_QUALITY = 95  # for images that are not JPEG or must be rotated
# Skeletons of BEDLAM's files, by their number of points.
GTKPS = {len(SKELETONS[name].joints): name for name in ("smpl", "smpl_45", "smpl_54", "agora", "smplx")}
SMPL_44 = 44  # points of CameraHMR and 4D-Humans: OpenPose's 25 and the first 19 of SPIN's 24, so of smpl_49
GTKPS[SMPL_44] = "smpl_49"
TURNED = ("closeup", "portrait")  # in names of BEDLAM's scenes whose images are stored turned
SMPLX_POINTS = len(SKELETONS["smplx"].joints)
KEYPOINTS_4DHUMANS = {"keypoints_2d": (44, 3), "keypoints_3d": (44, 4)}
BODY = ("global_orient", "body_pose", "betas", "transl")  # arrays of HumanData's smpl
Pictures = Callable[[str], bytes]


def pictures_in(folder: Path) -> Pictures:
    """Return a function that reads an image below `folder` by name, as JPEG bytes. It raises UnreadablePicture."""

    def read(name: str) -> bytes:
        data = read_picture(inside(folder, name))
        return data if data.startswith(b"\xff\xd8") else _as_jpeg(data, str(folder / name), turned=False)

    return read


def read_human_data(
    path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON, notes: Notes | None = None
) -> Iterator[Sample]:
    """Read mmhuman3d's HumanData. SMPL-X parameters are ignored: their shape space differs from SMPL's.

    Files of SMPLer-X have `keypoints2d_smplx` and `keypoints3d_smplx` in place of `keypoints2d` and `keypoints3d`.
    """
    notes = notes or Notes()
    with Npz(path) as file:
        names = image_names(file, "image_path")
        count = len(names)
        two = _human_data_points(file, "keypoints2d", 3, count, skeleton)
        three = _human_data_points(file, "keypoints3d", 4, count, skeleton)
        smpl = _mapping(file, "smpl")
        has_smpl = rows_of(file, "has_smpl", count, (), (1,), default=bool(smpl))
        poses, betas, transl = _human_data_bodies(path, smpl, count)
        genders = genders_of(path, file.read("meta") if "meta" in file else {}, count)
        boxes = rows_of(file, "bbox_xywh", count, (4,), (5,))
        for row, name in enumerate(names):
            box, body = next(boxes)[:4], (poses[row], betas[row], transl[row], bool(next(has_smpl)))
            jpeg = notes.picture(path, name, partial(pictures, name))
            yield from person_of(name, jpeg, box, next(two), next(three), *body, genders[row], notes)


def read_spin(
    path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON, notes: Notes | None = None
) -> Iterator[Sample]:
    """Read files in SPIN's format (SPIN, EFT, CLIFF): `part` has SPIN's 24 points, `openpose` OpenPose's 25."""
    notes = notes or Notes()
    with Npz(path) as file:
        names = image_names(file, "imgname")
        count = len(names)
        parts = rows_of(file, "part", count, (24, 3), default=np.zeros((24, 3)))
        openpose = rows_of(file, "openpose", count, (25, 3), default=np.zeros((25, 3)))
        three = rows_of(file, "S", count, (24, 4), default=np.zeros((24, 4)))
        centers, scales = rows_of(file, "center", count, (2,)), rows_of(file, "scale", count, (), (1,), (2,))
        poses = rows_of(file, "pose", count, default=np.zeros(SMPL_KIND.pose_numbers))
        betas = rows_of(file, "shape", count, (-1,), default=np.zeros(SMPL_KIND.num_betas))
        has_smpl = rows_of(file, "has_smpl", count, (), (1,), default="pose" in file)
        genders = rows_of(file, "gender", count, default="")
        for name in names:
            marks = np.concatenate([next(openpose), next(parts)])
            yield from person_of(
                name,
                notes.picture(path, name, partial(pictures, name)),
                square_around(next(centers), next(scales)),
                mapped_points(marks, "smpl_49", skeleton),
                mapped_points(next(three), "smpl_24", skeleton),
                next(poses),
                next(betas),
                np.zeros(3),
                bool(next(has_smpl)),
                gender_of(path, next(genders)),
                notes,
            )


def read_bedlam(
    path: Path, pictures: Pictures, skeleton: str = TRAINING_SKELETON, notes: Notes | None = None
) -> Iterator[Sample]:
    """Read files in BEDLAM's format, including AGORA's and CameraHMR's. The number of `gtkps` decides their skeleton.

    People with SMPL-X poses (165 numbers) and children (an 11th shape number) get no SMPL body; the former have theirs
    under `extra/smplx/`. BEDLAM's labels at 6 frames per second are fits of the neutral SMPL-X, whatever `gender` says.
    `cam_int` is of the upright image, without lens distortion: BEDLAM is rendered so, CameraHMR estimates it so.
    """
    notes = notes or Notes()
    with Npz(path) as file:
        names = image_names(file, "imgname")
        count = len(names)
        source = _gtkps(path, file)
        centers, scales = rows_of(file, "center", count, (2,)), rows_of(file, "scale", count, (), (1,), (2,))
        points = rows_of(file, "gtkps", count, (-1, 2), (-1, 3))
        pose_key = "pose" if "pose" in file and "pose_cam" not in file else "pose_cam"
        poses, betas = rows_of(file, pose_key, count, (-1,), (24, 3)), rows_of(file, "shape", count, (-1,))
        moves = rows_of(file, "trans_cam", count, (3,), default=np.zeros(3))
        views = rows_of(file, "cam_ext", count, (4, 4), default=np.zeros((4, 4)))
        matrices = rows_of(file, "cam_int", count, (3, 3)) if "cam_int" in file else repeat(None)
        genders = rows_of(file, "gender", count, default="")
        for name in names:
            pose, shape, marked = np.ravel(next(poses)), next(betas), next(points)
            is_smpl = len(pose) == SMPL_KIND.pose_numbers
            transl, matrix = np.asarray(next(moves)) + next(views)[:3, 3], next(matrices)
            # Close-ups are stored rotated; the labels are for the upright image.
            is_turned = any(word in name or word in path.stem for word in TURNED)
            upright = partial(_upright, pictures) if is_turned else pictures
            marked = np.c_[marked, np.ones(len(marked))][:, :3]
            if len(marked) == SMPL_44:
                marked = np.pad(marked, ((0, 5), (0, 0)))
            jpeg = notes.picture(path, name, partial(upright, name))
            yield from person_of(
                name,
                jpeg,
                square_around(next(centers), next(scales)),
                mapped_points(marked, source, skeleton),
                mapped_points(np.zeros((24, 4)), "smpl", skeleton),
                pose if is_smpl else np.zeros(SMPL_KIND.pose_numbers),
                shape if is_smpl else np.zeros(SMPL_KIND.num_betas),
                transl,
                is_smpl,
                gender_of(path, next(genders)),
                notes,
                None if matrix is None else camera_from(matrix, notes),
                smplx_body(pose, shape, transl, notes) if len(pose) == SMPLX_NUMBERS else {},
            )


def read_4dhumans(path: Path, skeleton: str = TRAINING_SKELETON, notes: Notes | None = None) -> Iterator[Sample]:
    """Read a 4D-Humans tar: each image is next to a pickled list of its people."""
    notes = notes or Notes()
    for key, members in _groups(path):
        kinds = sorted(members)
        picture = next((members[kind] for kind in ("jpg", "jpeg", "png") if kind in members), None)
        if picture is None or "data.pyd" not in members:
            raise PackedError(f"{path}: '{key}' has {', '.join(kinds)}; a person needs jpg and data.pyd")
        is_jpeg = picture.startswith(b"\xff\xd8")
        made = partial(bytes, picture) if is_jpeg else partial(_as_jpeg, picture, f"{path}: {key}", turned=False)
        jpeg = notes.picture(path, key, made)
        for person in load_pickle(io.BytesIO(members["data.pyd"]), f"{path}: {key}.data.pyd"):
            yield from _person_4dhumans(f"{path}: {key}", key, jpeg, person, skeleton, notes)


def _person_4dhumans(source: str, key: str, jpeg: bytes, person: Any, skeleton: str, notes: Notes) -> Iterator[Sample]:
    needed = ("keypoints_2d", "keypoints_3d", "center", "scale", "body_pose", "betas", "has_body_pose", "has_betas")
    if not isinstance(person, Mapping) or (missing := [name for name in needed if name not in person]):
        said = "is not a dict" if not isinstance(person, Mapping) else f"has no {', '.join(missing)}"
        raise PackedError(f"{source}: a person {said}")
    # OpenPose's 25, then the first 19 of SPIN's 24: the first 44 joints of smpl_49.
    two, three = (_table(source, person, name, shape) for name, shape in KEYPOINTS_4DHUMANS.items())
    center = _table(source, person, "center", (2,))
    scale = _table(source, person, "scale", (), (1,), (2,))
    has_body = _table(source, person, "has_body_pose").all() and _table(source, person, "has_betas").all()
    yield from person_of(
        key,
        jpeg,
        square_around(center, scale),
        mapped_points(np.pad(two, ((0, 5), (0, 0))), "smpl_49", skeleton),
        mapped_points(np.pad(three, ((0, 5), (0, 0))), "smpl_49", skeleton),
        person["body_pose"],
        person["betas"],
        np.zeros(3),
        bool(has_body),
        "neutral",
        notes,
    )


def _table(source: str, person: Mapping[str, Any], key: str, *shapes: tuple[int, ...]) -> Float[np.ndarray, "..."]:
    """A field of a person as numbers of one of these shapes, or of any."""
    values = real_numbers(source, key, person[key])
    if shapes and values.shape not in shapes:
        raise PackedError(f"{source}: {key} has shape {values.shape}, expected {' or '.join(map(str, shapes))}")
    return values


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


def _human_data_points(file: Npz, key: str, width: int, count: int, skeleton: str) -> Iterator[np.ndarray]:
    """Iterate over keypoints, which store all joints of a convention or only the joints in its mask."""
    key = key if key in file or f"{key}_smplx" not in file else f"{key}_smplx"
    if key not in file:
        yield from repeat(mapped_points(np.zeros((190, width)), "human_data", skeleton), count)
        return
    convention = "smplx" if file.shape(key)[1:2] == (SMPLX_POINTS,) and key.endswith("_smplx") else "human_data"
    convention = str(file.read(f"{key}_convention")) if f"{key}_convention" in file else convention
    joints = len(find("skeleton", convention, SKELETONS).joints)
    given = file.read(f"{key}_mask") if f"{key}_mask" in file else np.ones(joints)
    mask = real_numbers(str(file.path), f"{key}_mask", given).astype(bool)
    if mask.ndim != 1 or len(mask) > joints:
        raise PackedError(f"{file.path}: {key}_mask has shape {mask.shape}, but {convention} has {joints} joints")
    is_packed = np.any(file.read("__keypoints_compressed__")) if "__keypoints_compressed__" in file else False
    columns = np.flatnonzero(mask) if is_packed else np.arange(len(mask))
    if file.shape(key) != (count, len(columns), width):
        raise PackedError(
            f"{file.path}: {key} has shape {file.shape(key)}, expected ({count}, {len(columns)}, {width})"
        )
    for stored in file.rows(key):
        whole = np.zeros((joints, width), np.float32)  # older files have the first joints of today's list
        whole[columns] = real_numbers(str(file.path), key, stored, np.float32)
        whole[: len(mask), -1] *= mask
        yield mapped_points(whole, convention, skeleton)


def _mapping(file: Npz, key: str) -> Mapping[str, Any]:
    """A table of arrays; empty if the file does not have it. Raises PackedError for anything else."""
    value = file.read(key) if key in file else {}
    if not isinstance(value, Mapping):
        raise PackedError(f"{file.path}: {key} is not a table of arrays")
    return value


def _human_data_bodies(path: Path, smpl: Mapping[str, Any], count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if not smpl:
        return np.zeros((count, SMPL_KIND.pose_numbers)), np.zeros((count, SMPL_KIND.num_betas)), np.zeros((count, 3))
    if missing := [key for key in BODY[:3] if key not in smpl]:
        raise PackedError(f"{path}: smpl has no {', '.join(missing)}")
    try:
        parts = {key: real_numbers(f"{path}: smpl", key, value) for key, value in smpl.items() if key in BODY}
        root, limbs = (parts[key].reshape(count, -1, 3) for key in ("global_orient", "body_pose"))
        betas = parts["betas"].reshape(count, -1)
        transl = parts.get("transl", np.zeros((count, 3))).reshape(count, 3)
        poses = np.concatenate([root, limbs], 1).reshape(count, SMPL_KIND.pose_numbers)
    except ValueError as error:
        raise PackedError(f"{path}: smpl does not match {count} images ({error})") from None
    return poses, betas, transl


def _gtkps(path: Path, file: Npz) -> str:
    shape = file.shape("gtkps")
    count = shape[1] if len(shape) == 3 else 0
    if count not in GTKPS:
        raise PackedError(f"{path}: gtkps has {count} joints; known: {', '.join(map(str, GTKPS))}")
    return GTKPS[count]


def _upright(pictures: Pictures, name: str) -> bytes:
    return _as_jpeg(pictures(name), name, turned=True)


def _as_jpeg(data: bytes, source: str, turned: bool) -> bytes:
    """Encode an image as JPEG; `turned` rotates it by 90 degrees clockwise. Raises UnreadablePicture."""
    picture = cv2.cvtColor(decoded(data, source), cv2.COLOR_RGB2BGR)
    if turned:
        picture = cv2.rotate(picture, cv2.ROTATE_90_CLOCKWISE)
    encoded: bytes = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
    return encoded
