"""Reads the arrays of a predictions file by their names: HDF5, .npz or pickle. No code from the file runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float

from hmrb.errors import RequestError
from hmrb.formats.hdf5 import opened, read_array
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import read_pickle

POSES = ("rotmats", "pose", "poses", "pred_pose", "pred_rotmat")
SHAPES = ("betas", "shape", "pred_betas", "pred_shape")
JOINTS = ("joints", "pred_joints", "joints3d", "pred_keypoints_3d")
VERTICES = ("vertices", "pred_vertices", "verts")
PARTS = ("global_orient", "body_pose")
NAMES = ("name", "imgname", "image_path")
CAMERAS = ("camera", "pred_cam", "pred_camera", "cam", "weak_perspective_camera", "weak_cam")
PERSONS = ("person", "person_id", "personid", "pid", "track_id", "track")
BOXES = ("box", "bbox", "boxes", "bboxes")
AIDS = (*CAMERAS, *PERSONS, *BOXES, "center", "scale")
"""Arrays that help if they fit and are left aside if they do not."""
KNOWN = (*POSES, *PARTS, *SHAPES, *JOINTS, *VERTICES, *NAMES, "row", *AIDS)
ROW_NUMBERS = 1 << 17  # per person; SMPL-X has 31,425 coordinates of vertices
TORCH = (".pt", ".pth", ".ckpt")
SAVE = 'save a dict of arrays: np.savez("predictions.npz", pose=..., betas=..., imgname=...)'


def read_table(path: Path, people: int) -> dict[str, Any]:
    """The arrays of a file that have a known name. Raises RequestError if one has more rows than `people`."""
    kind = _format(path)
    if kind == "HDF5":
        return _from_hdf5(path, people)
    if kind == "npz":
        return _from_npz(path, people)
    if kind != "pickle":
        raise RequestError(f"{path}: is a {kind} file; predictions are read from .npz, .pkl or .h5; {SAVE}")
    content = read_pickle(path)
    if isinstance(content, list | tuple) and content and all(isinstance(part, dict) for part in content):
        return _joined(path, content)
    if not isinstance(content, dict):
        what = "an empty list" if content == [] else f"a value of type {type(content).__name__}"
        raise RequestError(f"{path}: contains {what}, expected a dict of arrays or a list of such dicts; {SAVE}")
    return {key: content[key] for key in KNOWN if key in content}


def _format(path: Path) -> str:
    """The kind of a file by its first bytes, and by its suffix where they do not tell."""
    try:
        with open(path, "rb") as file:
            head = file.read(8)
    except OSError as error:
        raise RequestError(f"{path}: predictions cannot be read ({error.strerror or error})") from None
    suffix = path.suffix.lower()
    if suffix in TORCH:
        return "torch"
    if head.startswith(b"\x89HDF") or suffix in (".h5", ".hdf5"):
        return "HDF5"
    if head.startswith(b"PK") or suffix == ".npz":
        return "npz"
    if head.startswith(b"\x93NUMPY") or suffix == ".npy":
        return ".npy"
    return "JSON" if suffix == ".json" or head.lstrip()[:1] in (b"{", b"[") else "pickle"


def _from_hdf5(path: Path, people: int) -> dict[str, Any]:
    with opened(path, advice="; write it again") as file:
        nodes = {key: file.get(key) for key in KNOWN if key in file}
        return {
            key: read_array(path, key, node)
            for key, node in nodes.items()
            if isinstance(node, h5py.Dataset) and _is_usable(path, key, node.shape, node.dtype, people)
        }


def _from_npz(path: Path, people: int) -> dict[str, Any]:
    with Npz(path) as arrays:
        if any(key.endswith("data.pkl") for key in arrays.keys):
            raise RequestError(f"{path}: is a torch file; predictions are read from .npz, .pkl or .h5; {SAVE}")
        present = [key for key in KNOWN if key in arrays]
        return {key: arrays.read(key) for key in present if _is_usable(path, key, arrays.shape(key), None, people)}


def _is_usable(path: Path, key: str, shape: tuple[int, ...] | None, dtype: np.dtype[Any] | None, people: int) -> bool:
    """Looks at an array's header before the array is read; `dtype` is None where object arrays can be read."""
    problem = ""
    if dtype is not None and dtype.hasobject:
        problem = (
            "has entries of variable length or objects, which are not read; save numbers as float32 and names as"
            " np.array(names, 'S')"
        )
    elif not shape:
        problem = "is a single value, expected one row per person"
    elif shape[0] > people:
        problem = f"has {shape[0]} rows, but the benchmark's shard has {people} people; provide one row per person"
    elif math.prod(shape[1:]) > ROW_NUMBERS:
        problem = f"has shape {shape}; more than {ROW_NUMBERS} numbers per person are not read"
    if problem and key not in AIDS:
        raise RequestError(f"{path}: {key} {problem}")
    return not problem


def _joined(path: Path, batches: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """The arrays of batches, one after the other."""
    keys = [key for key in KNOWN if any(key in batch for batch in batches)]
    out: dict[str, Any] = {}
    for key in keys:
        lacking = next((number for number, batch in enumerate(batches) if key not in batch), None)
        if lacking is not None:
            raise RequestError(
                f"{path}: batch {lacking} has no {key}, but others have; give each batch the same arrays"
            )
        if key in NAMES:
            out[key] = [name for batch in batches for name in texts(path, key, batch[key])]
            continue
        if key in AIDS and any(_as_numbers(batch[key]) is None for batch in batches):
            continue
        parts = [numbers(path, key, batch[key]) for batch in batches]
        shapes = sorted({part.shape[1:] for part in parts})
        if len(shapes) > 1 or (key in (*POSES, *SHAPES, *PARTS) and parts[0].ndim < 2):
            raise RequestError(
                f"{path}: {key} of the batches has rows of shape {' and '.join(map(str, shapes))}; each batch needs"
                f" arrays of equal shape whose first axis counts people"
            )
        out[key] = np.concatenate(parts)
    return out


def numbers(path: Path, key: str, value: Any) -> Float[np.ndarray, "N ..."]:
    """An array of real numbers as float64 or float32, with a first axis. Raises RequestError."""
    try:
        array = np.asarray(value)
        if array.dtype.hasobject:
            array = np.asarray(array.tolist())  # equal rows that were saved as objects
    except (ValueError, TypeError):
        raise RequestError(
            f"{path}: {key} contains rows of different lengths; give each person the same shape, concatenate batches"
        ) from None
    if array.dtype.kind not in "fiu":
        kind = "objects" if array.dtype.hasobject else f"values of type {array.dtype}"
        raise RequestError(f"{path}: {key} contains {kind}, which are not numbers; save it as a float32 array")
    if array.ndim == 0:
        raise RequestError(f"{path}: {key} is a single value, expected one row per person")
    return array if array.dtype.kind == "f" and array.dtype.itemsize in (4, 8) else array.astype(np.float64)


def first_fitting(
    table: Mapping[str, Any], keys: Sequence[str], shapes: Sequence[tuple[int, ...]]
) -> Float[np.ndarray, "N ..."] | None:
    """The first array of finite numbers of one of these shapes as float64; None if there is none."""
    for key in keys:
        found = _as_numbers(table.get(key))
        if found is not None and found.shape in shapes and np.isfinite(found).all():
            return found
    return None


def _as_numbers(value: Any) -> Float[np.ndarray, "..."] | None:
    try:
        return numbers(Path(), "", value).astype(np.float64)
    except RequestError:
        return None


def texts(path: Path, key: str, value: Any) -> list[str]:
    """Names as text. Raises RequestError for anything but a row of text."""
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(rows, list | tuple) or not all(isinstance(name, str | bytes) for name in rows):
        raise RequestError(f"{path}: {key} is not a list of picture names; save np.array(names)")
    out = []
    for row, name in enumerate(rows):
        try:
            out.append(name.decode() if isinstance(name, bytes) else str(name))
        except UnicodeDecodeError:
            raise RequestError(f"{path}: {key} of row {row}, {name!r}, is not UTF-8; save names as text") from None
    return out
