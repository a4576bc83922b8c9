"""Fields of packed annotation files: rows of known shape, people from them, and what is left out, counted."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import camera_of
from hmrb.data.convert.people import check_missing, fault_of
from hmrb.errors import RunError
from hmrb.formats.npz import Npz
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Sample, without_unlabelled
from hmrb.skeleton import remap

SCALE_PX = 200.0  # box side per unit of `scale` in SPIN's format, margin included
GENDER_CODES = {
    **dict.fromkeys(("m", "male", "1"), "male"),  # 0 and 1 as in SURREAL
    **dict.fromkeys(("f", "female", "0"), "female"),
    **dict.fromkeys(("n", "neutral", "", "-1"), "neutral"),
}
NO_CAMERA = "the intrinsics are not finite, or a focal length is not above 0: kept as unknown"
NO_SMPLX_BODY = "the SMPL-X body is not finite: kept as zeros"
MORE_SHAPE = "has more than 10 shape numbers: not the plain SMPL, kept without a body"
# Parts of BEDLAM's 165 numbers, in their order (data_processing/df_full_body.py).
SMPLX_POSE = {
    "global_orient": 3, "body_pose": 63, "jaw_pose": 3, "leye_pose": 3, "reye_pose": 3, "left_hand_pose": 45,
    "right_hand_pose": 45,
}  # fmt: skip
SMPLX_NUMBERS, SMPLX_BETAS = sum(SMPLX_POSE.values()), 11  # the last is a child's, as for AGORA
Shape = tuple[int, ...]


class PackedError(RunError):
    """An annotation file that violates its format."""


@dataclass
class Notes:
    """How many people a reader left out, and how many it changed, by reason; and the images that cannot be used.

    More of these than `missing_limit` end the reading.
    """

    left_out: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    missing: dict[str, str] = field(default_factory=dict)
    missing_limit: int = 0

    def picture(self, source: Path, name: str, read: Callable[[], bytes]) -> bytes:
        """The bytes of an image; empty, and noted, if it cannot be used. Raises RunError if too many cannot."""
        if name in self.missing:
            return b""
        try:
            return read()
        except UnreadablePicture as error:
            self.missing[name] = str(error)
            check_missing(str(source), list(self.missing.values()), self.missing_limit)
            return b""


def person_of(
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
    notes: Notes,
    camera: Float[np.ndarray, "4"] | None = None,
    other: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> Iterator[Sample]:
    """The person, unless its labels or its image cannot be used (empty `jpeg`).

    A body that is not SMPL's is kept under `extra/smpl/` alone; `other` are bodies of other models, for `extra/`.
    """
    body = [_numbers(name, part).ravel() for part in (pose, betas, transl)]
    sizes, wanted = [len(part) for part in body], [SMPL_KIND.pose_numbers, SMPL_KIND.num_betas, 3]
    if sizes[::2] != wanted[::2] or sizes[1] < wanted[1]:
        raise PackedError(f"'{name}': pose, shape and translation have {sizes} numbers, expected {wanted}")
    is_finite = all(np.isfinite(part).all() for part in body)
    is_plain = not body[1][wanted[1] :].any()
    whole = body if has_body and is_finite else [np.zeros(size, np.float32) for size in sizes]
    extra = {"smpl/pose": whole[0].reshape(-1, 3), "smpl/betas": whole[1], "smpl/transl": whole[2]}
    if has_body and not is_finite:
        notes.changed["the body is not finite: kept without a body"] += 1
    elif has_body and not is_plain:
        notes.changed[MORE_SHAPE] += 1
    has_body = has_body and is_finite and is_plain
    pose, betas, transl = whole if has_body else (np.zeros(size, np.float32) for size in wanted)
    person = Sample(
        jpeg=jpeg,
        name=name,
        box=_numbers(name, box),
        keypoints2d=keypoints2d,
        keypoints3d=keypoints3d,
        pose=pose.reshape(SMPL_KIND.num_joints, 3),
        betas=betas[: wanted[1]],
        transl=transl,
        has_body=has_body,
        gender=gender,
        extra={**other, **(extra if sizes[1] > wanted[1] else {})},
        camera=camera,
    )
    if not jpeg:
        return
    if fault := fault_of(person):
        notes.left_out[fault] += 1
    else:
        yield person


def mapped_points(values: Shaped[np.ndarray, "K C"], source: str, target: str) -> Float[np.ndarray, "J C"]:
    """Map points from one skeleton to another. Confidence is at most 1; missing and non-finite points are zeros."""
    points = np.asarray(values, np.float32).copy()
    points[~np.isfinite(points).all(1)] = 0
    points[:, -1] = points[:, -1].clip(0, 1)
    return remap(without_unlabelled(points), source, target)


def camera_from(matrix: Any, notes: Notes) -> Float[np.ndarray, "4"]:
    """fx, fy, cx, cy of a file's matrix of intrinsics; zeros if it is none, which is noted, or if it is zeros."""
    camera = camera_of(matrix)
    if not camera.any():
        return camera
    if np.isfinite(camera).all() and (camera[:2] > 0).all():
        return camera
    notes.changed[NO_CAMERA] += 1
    return np.zeros(4, np.float32)


def smplx_body(pose: Any, betas: Any, transl: Any, notes: Notes) -> dict[str, np.ndarray]:
    """BEDLAM's SMPL-X body (165 numbers of pose) under AGORA's names; zeros, and noted, if it is not finite.

    It is in the camera's frame already, so there is no `camera_rotation` to apply.
    """
    ends = np.cumsum(list(SMPLX_POSE.values()))[:-1]
    shape = _numbers("shape", betas)
    shape = np.pad(shape, (0, max(SMPLX_BETAS - len(shape), 0)))
    parts = zip(SMPLX_POSE, np.split(_numbers("pose_cam", pose), ends), strict=True)
    body = {**dict(parts), "betas": shape, "transl": _numbers("transl", transl)}
    if not all(np.isfinite(part).all() for part in body.values()):
        notes.changed[NO_SMPLX_BODY] += 1
        body = {key: np.zeros_like(part) for key, part in body.items()}
    return {f"smplx/{key}": part for key, part in body.items()}


def square_around(center: Any, scale: Any) -> Float[np.ndarray, "4"]:
    """The square of SPIN's `center` and `scale`."""
    side = SCALE_PX * float(np.max(scale))
    x, y = np.asarray(center, np.float64).tolist()
    return np.array([x - side / 2, y - side / 2, side, side], np.float32)


def image_names(file: Npz, key: str) -> list[str]:
    """The names of the people's images. Raises PackedError if `key` is no list of names, or empty."""
    shape = file.shape(key)
    values = file.read(key) if not shape else None
    if not shape and not isinstance(values, list | tuple):
        raise PackedError(f"{file.path}: {key} has shape (), expected (N,), one name per person")
    names = [text_of(file.path, name) for name in values or file.rows(key)]
    if len(shape) > 1 or not names:
        raise PackedError(f"{file.path}: {key} has shape {shape}, expected (N,), one name per person")
    return names


def rows_of(file: Npz, key: str, count: int, *shapes: Shape, default: Any = None) -> Iterator[Any]:
    """Iterate over the `count` rows of an array, or over copies of `default` if the file does not have it.

    Raises PackedError if rows have none of the `shapes`; without shapes, any will do. A row of `-1` numbers may have
    any length.
    """
    if key not in file and default is not None:
        return repeat(default, count)
    shape = file.shape(key)
    have = shape[0] if shape else _length(file, key)
    if have != count:
        raise PackedError(f"{file.path}: {key} has {have} rows for {count} images")
    if shapes and len(shape) > 1 and not any(_fits(shape[1:], wanted) for wanted in shapes):
        raise PackedError(f"{file.path}: {key} has shape {shape}, expected {_expected(count, shapes)}")
    return _checked(file, key, count, shapes) if shapes else file.rows(key)


def _checked(file: Npz, key: str, count: int, shapes: tuple[Shape, ...]) -> Iterator[Any]:
    """The rows of an array, each held against the shapes: arrays of objects say nothing of them."""
    for number, row in enumerate(file.rows(key)):
        is_flat = isinstance(row, np.ndarray | np.generic) and row.dtype.kind in "fiub"
        wanted, what = f", expected {_expected(count, shapes)}", f"{key} of person {number}"
        values = row if is_flat else real_numbers(str(file.path), what, row, wanted=wanted)
        if not any(_fits(values.shape, wanted) for wanted in shapes):
            raise PackedError(
                f"{file.path}: {key} of person {number} has shape {values.shape}, expected {_expected(count, shapes)}"
            )
        yield values


def _length(file: Npz, key: str) -> int:
    value = file.read(key)
    if isinstance(value, list | tuple):
        return len(value)
    raise PackedError(f"{file.path}: {key} has shape (), expected one row per person")


def _fits(shape: Shape, wanted: Shape) -> bool:
    return len(shape) == len(wanted) and all(n in (have, -1) for have, n in zip(shape, wanted, strict=True))


def _expected(count: int, shapes: tuple[Shape, ...]) -> str:
    said = [str((count, *("any" if n < 0 else n for n in shape))).replace("'", "") for shape in shapes]
    return " or ".join(said)


def real_numbers(
    source: str, what: str, values: Any, kind: type[np.floating[Any]] = np.float64, wanted: str = ""
) -> np.ndarray:
    """Values as a table of real numbers; those that `kind` cannot hold are infinite. Raises PackedError."""
    try:
        table = np.asarray(values)
        if table.dtype.kind == "c":
            raise ValueError
        with np.errstate(over="ignore"):
            return table if table.dtype == kind else table.astype(kind)
    except (ValueError, TypeError, OverflowError):
        raise PackedError(f"{source}: {what} is not a table of numbers{wanted}") from None


def _numbers(name: str, values: Any) -> Float[np.ndarray, "..."]:
    return real_numbers(f"'{name}'", "pose, shape, translation or box", values, np.float32)


def text_of(path: Path, value: Any) -> str:
    """A name or word from a file. Raises PackedError for bytes that are not UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise PackedError(f"{path}: {value!r} is not UTF-8") from None


def genders_of(path: Path, meta: Any, count: int) -> list[str]:
    """The gender of each person of a HumanData file."""
    given = meta.get("gender") if isinstance(meta, Mapping) else None
    codes = [""] * count if given is None else np.asarray(given).ravel().tolist()
    if len(codes) != count:
        raise PackedError(f"{path}: {len(codes)} genders for {count} images")
    return [gender_of(path, code) for code in codes]


def gender_of(path: Path, code: Any) -> str:
    """A gender from its word or code in a file."""
    word = text_of(path, code).lower()
    if word not in GENDER_CODES:
        raise PackedError(f"{path}: unknown gender '{word}'; known: {', '.join(filter(None, GENDER_CODES))}")
    return GENDER_CODES[word]
