"""Official SMPL files: names, content, validation, and import into the store."""

import hashlib
import re
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float, Shaped

from hmrb.bodykind import CAMERA, SMPL_KIND
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import files_in
from hmrb.formats.npz import Npz, read_npy
from hmrb.formats.pickles import PickleError, read_pickle
from hmrb.formats.writing import replacing
from hmrb.needs import MEAN_PARAMS, REGRESSOR_FILES, SMPL_PAGES, SPIN19, TO_SMPL, body_need, file_need, smplx_name
from hmrb.records import GENDERS
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

NUM_JOINTS, NUM_BETAS = SMPL_KIND.num_joints, SMPL_KIND.num_betas
NUM_LANDMARKS, NUM_EXTRA = SMPL_KIND.num_landmarks, SMPL_KIND.num_extra
NUM_H36M = len(SKELETONS["h36m17"].joints)
# Vertices of SMPL's mesh for rows 24..44 of smpl_45, as in smplx.vertex_ids.
SMPL_LANDMARKS = (
    332, 6260, 2800, 4071, 583, 3216, 3226, 3387, 6617, 6624, 6787,
    2746, 2319, 2445, 2556, 2673, 6191, 5782, 5905, 6016, 6133,
)  # fmt: skip
REGRESSORS = dict(zip(REGRESSOR_FILES, (NUM_H36M, NUM_EXTRA), strict=True))
NUM_SPIN19 = len(SKELETONS["spin19"].joints)
MEAN_SHAPES = {"pose": (SMPL_KIND.rot6d_numbers,), "shape": (NUM_BETAS,), "cam": (CAMERA,)}
NEEDED = ("v_template", "shapedirs", "J_regressor", "weights", "kintree_table", "f")
BODY_BYTES = 2 << 30  # of a body file's arrays; SMPL-X's are 0.5 GB
_GENDER_WORDS = {"neutral": "neutral", "n": "neutral", "male": "male", "m": "male", "female": "female", "f": "female"}

Members = dict[str, np.ndarray]


class BodyError(RequestError):
    """A body file is missing or invalid, or a regressor was used with another body."""


def gender_in(name: str) -> str:
    """The gender in an official file's name (basicmodel_m_lbs_10_207_0_v1.1.0.pkl, SMPL_NEUTRAL.npz), or ''."""
    words = re.split(r"[_.\-]", name.lower())
    return next((_GENDER_WORDS[word] for word in words if word in _GENDER_WORDS), "")


def find_body(folder: Path, gender: str) -> Path:
    """Path of a gender's body in `folder`: SMPL_<GENDER>.npz, else the only file with an official name.

    Raises BodyError if there is no such file or more than one.
    """
    clean = folder / f"SMPL_{gender.upper()}.npz"
    if clean.exists():
        return clean
    official = files_in(folder, "*.pkl", "*.npz")
    found = [p for p in official if p.name.lower().startswith(("smpl_", "basicmodel_")) and gender_in(p.name) == gender]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise BodyError(
            f"{folder}: {names} are both {gender} bodies; keep one, or run hmrb convert-data body --file ONE"
        )
    if not found:
        raise BodyError(
            f"{clean}: no such file; get it from {SMPL_PAGES['body']}, then run hmrb convert-data body --file FILE",
            [body_need(gender)],
        )
    return found[0]


def read_members(path: Path) -> Members:
    """Read the arrays that hmrb uses from a body file, a pickle of any version or an .npz. Raises BodyError."""
    try:
        if path.suffix == ".npz":
            with Npz(path, most=BODY_BYTES) as file:
                members = {key: file.read(key) for key in (*NEEDED, "posedirs") if key in file}
        else:
            members = read_pickle(path)
    except PickleError as error:
        raise BodyError(str(error)) from None
    if not isinstance(members, dict):
        raise BodyError(f"{path}: contains a {type(members).__name__}, expected a dict of arrays")
    try:
        arrays = {key: np.asarray(members[key]) for key in (*NEEDED, "posedirs") if key in members}
    except (ValueError, OverflowError):
        raise BodyError(f"{path}: contains rows of different lengths in place of arrays of numbers") from None
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise BodyError(f"{path}: {key} contains values that are not finite numbers")
        if not array.ndim:
            raise BodyError(f"{path}: {key} is a single number, expected an array")
    return arrays


def read_regressor(path: Path) -> Shaped[np.ndarray, "J V"]:
    """Read a joint regressor of SPIN's data; `check_members` checks whether it fits a body. Raises BodyError."""
    if not path.exists():
        message = f"{path}: no such file; get it from {SMPL_PAGES['regressor']} and put it there"
        raise BodyError(message, [file_need(path)])
    try:
        array = read_pickle(path) if path.suffix == ".pkl" else read_npy(path)
    except PickleError as error:
        raise BodyError(str(error)) from None
    if not isinstance(array, np.ndarray) or array.ndim != 2:
        raise BodyError(f"{path}: not a regressor, which has one row per joint and one column per vertex")
    return array


def check_members(path: Path, members: Mapping[str, np.ndarray]) -> None:
    """Validate shapes, kinematic tree, regressor rows and vertex indices. Raises BodyError with the first problem."""
    if missing := [key for key in NEEDED if key not in members]:
        raise BodyError(f"{path}: {', '.join(missing)} missing; a SMPL body has {', '.join(NEEDED)}")
    num_vertices = len(members["v_template"])
    shapes = {
        "v_template": (num_vertices, 3),
        "J_regressor": (NUM_JOINTS, num_vertices),
        "weights": (num_vertices, NUM_JOINTS),
        "kintree_table": (2, NUM_JOINTS),
        "J_regressor_h36m": (NUM_H36M, num_vertices),
        "J_regressor_extra": (NUM_EXTRA, num_vertices),
        "SMPL_to_J19": (NUM_SPIN19, num_vertices),
        "vertex_ids": (NUM_LANDMARKS,),
    }
    for key, shape in shapes.items():
        if key in members and members[key].shape != shape:
            raise BodyError(
                f"{path}: {key} has shape {members[key].shape}, expected {shape} for a SMPL body of"
                f" {num_vertices} vertices and {NUM_JOINTS} joints"
            )
    directions = members["shapedirs"].shape
    if len(directions) != 3 or directions[:2] != (num_vertices, 3) or directions[2] < NUM_BETAS:
        raise BodyError(f"{path}: shapedirs has shape {directions}, expected ({num_vertices}, 3, >={NUM_BETAS})")
    bends = (num_vertices, 3, SMPL_KIND.bend_numbers)
    if "posedirs" in members and members["posedirs"].shape != bends:
        raise BodyError(f"{path}: posedirs has shape {members['posedirs'].shape}, expected {bends}")
    with np.errstate(invalid="ignore"):  # a number that is no integer becomes a negative one
        parents = members["kintree_table"][0, 1:].astype(np.int64)
    if (parents < 0).any() or (parents > np.arange(NUM_JOINTS - 1)).any():
        raise BodyError(f"{path}: kintree_table is not a tree in which parents come before their children")
    for key in ("J_regressor", "weights", "J_regressor_h36m", "J_regressor_extra"):
        if key in members:
            rows_to_one(members[key], f"{path}: {key}")
    landmarks = members.get("vertex_ids", np.array(SMPL_LANDMARKS))
    for key, most in (("vertex_ids", int(landmarks.max())), ("f", int(members["f"].max(initial=0)))):
        if most >= num_vertices:
            raise BodyError(f"{path}: {key} refers to vertex {most}, but the body has {num_vertices} vertices")


def rows_to_one(array: np.ndarray, label: str) -> Float[np.ndarray, "J V"]:
    """Check that rows sum to 1 within 2 %, the error of half precision; normalise half-precision rows only.

    Raises BodyError.
    """
    values = floats(array)
    sums = values.sum(1, keepdims=True)
    if np.abs(sums - 1).max() > 0.02:
        worst = int(np.abs(sums - 1).argmax())
        raise BodyError(f"{label}: row {worst} sums to {float(sums[worst, 0]):.3f}; every row must sum to 1")
    return values / sums if array.dtype == np.float16 else values


def floats(array: np.ndarray) -> np.ndarray:
    """Convert to contiguous float32."""
    return np.ascontiguousarray(array, dtype=np.float32)


def import_body(file: Path, gender: str | None, store: Store) -> list[str]:
    """Import an official body and its companion files into the store; returns one line per file.

    Searches regressors and mean parameters next to the body, in the parent folder and in the store.
    Raises BodyError if the body or a companion file is invalid, before anything is written.
    """
    gender = gender or gender_in(file.name)
    if gender not in GENDERS:
        problem = f"unknown gender '{gender}'" if gender else "no gender in its name"
        raise BodyError(f"{file}: {problem}; --gender accepts {', '.join(GENDERS)}")
    if file.name.lower().startswith("smplx_"):
        raise BodyError(
            f"{file}: SMPL-X is read as it is; put it in {store.bodies / 'smplx'} as {smplx_name(gender)}, with"
            f" {TO_SMPL} of BEDLAM beside it"
        )
    members = read_members(file)
    check_members(file, members)
    folder = store.bodies / "smpl"
    near = {
        name: _nearest(name, file.parent, file.parent.parent, folder) for name in (*REGRESSORS, SPIN19, MEAN_PARAMS)
    }
    if not near[SPIN19]:
        del near[SPIN19]
    for name, path in near.items():
        if path and name in (*REGRESSORS, SPIN19):
            check_members(path, members | {path.stem: read_regressor(path)})
        elif path:
            check_mean(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target = folder / f"SMPL_{gender.upper()}.npz"
        _write_npz(target, _clean(members))
        about = f"SMPL {gender}, {len(members['v_template'])} vertices, sha256 {_sha256(target)}"
        return [f"{target}: {about}", *(_bring(path, folder / name) for name, path in near.items())]
    except OSError as error:
        raise RunError(f"{folder}: could not be written ({error.strerror or error})") from None


def check_mean(path: Path) -> None:
    """Raises BodyError unless `path` contains SPIN's mean pose (6D), shape and camera."""
    try:
        with Npz(path, most=BODY_BYTES) as file:
            shapes = {key: file.shape(key) if key in file else None for key in MEAN_SHAPES}
    except PickleError as error:
        raise BodyError(str(error)) from None
    if shapes != MEAN_SHAPES:
        raise BodyError(f"{path}: contains {shapes}, expected SPIN's mean parameters {MEAN_SHAPES}")


def _nearest(name: str, *folders: Path) -> Path | None:
    return next((folder / name for folder in folders if (folder / name).exists()), None)


def _clean(members: Members) -> Members:
    """The arrays that hmrb uses, in a layout that does not depend on the source file."""
    as_they_are = ("v_template", "posedirs", "J_regressor", "weights")
    kept: Members = {key: floats(members[key]) for key in as_they_are if key in members}
    kept["shapedirs"] = floats(members["shapedirs"][..., :NUM_BETAS])
    return kept | {key: members[key].astype(np.int64) for key in ("kintree_table", "f")}


def _write_npz(target: Path, members: Members) -> None:
    """Write atomically; equal arrays produce equal bytes, because zip entries have no timestamp."""
    with replacing(target) as part, zipfile.ZipFile(part, "w") as archive:
        for key in sorted(members):
            with archive.open(zipfile.ZipInfo(f"{key}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, members[key], allow_pickle=False)


def _bring(path: Path | None, target: Path) -> str:
    if path is None:
        return f"missing: {target.name}; get it from {SMPL_PAGES['regressor']} and put it in {target.parent}"
    if path == target or (target.exists() and path.samefile(target)):
        return f"{target}: already there, sha256 {_sha256(target)}"
    with replacing(target) as part:
        shutil.copyfile(path, part)
    return f"{target}: from {path}, sha256 {_sha256(target)}"


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
