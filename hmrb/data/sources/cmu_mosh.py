"""CMU MoSh: bodies of CMU's motion capture, without pictures. What the adversarial prior calls real.

Kanazawa, Black, Jacobs and Malik: End-to-end Recovery of Human Shape and Pose, CVPR 2018, whose release it is,
https://github.com/akanazawa/hmr; fitted by MoSh, Loper, Mahmood and Black, SIGGRAPH Asia 2014. Or AMASS's fits of the
same, Mahmood, Ghorbani, Troje, Pons-Moll and Black: AMASS, ICCV 2019.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pack import without_pictures
from hmrb.errors import RequestError
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import read_pickle
from hmrb.records import GENDERS, Person, Photo

PACKED = ("cmu_mosh.npz", "cmu_mocap.npz")
ROWS = 1000  # of a packed file, an item
FPS = 10  # AMASS is thinned to it, as mmhuman3d does
_BODY = ("global_orient", "body_pose", "betas")
SMPLH_SHARED = 66  # numbers of SMPL-H's pose that are SMPL's too: root and 21 joints; hands follow


def plan(raw: Raw) -> list[SplitPlan]:
    """An item a file of HMR's release or of AMASS, or some rows of a packed file."""
    for pattern in ("neutrMosh/neutrSMPL_CMU/*/*.pkl", "neutrSMPL_CMU/*/*.pkl", "*/*.pkl"):
        if paths := sorted(raw.root.glob(pattern)):
            return [SplitPlan("train", paths, read)]
    for name in PACKED:
        if (path := raw.root / name).exists():
            count = len(_packed(path)[0])
            items = [(path, start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
            return [SplitPlan("train", items, read_rows)]
    for pattern in ("CMU/*/*_poses.npz", "*/*_poses.npz"):
        if paths := sorted(raw.root.glob(pattern)):
            return [SplitPlan("train", paths, read_amass)]
    raise RequestError(
        f"{raw.root}: no neutrMosh/neutrSMPL_CMU/*/*.pkl, no {' or '.join(PACKED)} and no CMU/*/*_poses.npz in it;"
        " see hmrb convert-data NAME --explain"
    )


def read(path: Path) -> Iterator[Photo]:
    """Every frame of one of HMR's pickles."""
    table = read_pickle(path)
    key = "poses" if isinstance(table, dict) and "poses" in table else "new_poses"
    if not isinstance(table, dict) or key not in table or "betas" not in table:
        raise RequestError(f"{path}: no poses or no betas in it")
    poses = _checked(path, key, table[key], SMPL_KIND.pose_numbers)
    betas = _checked(path, "betas", np.atleast_2d(table["betas"]), SMPL_KIND.num_betas)[0]
    return _frames(_name(path), poses, np.broadcast_to(betas, (len(poses), SMPL_KIND.num_betas)), range(len(poses)))


def read_rows(item: tuple[Path, int, int]) -> Iterator[Photo]:
    """Some rows of a packed file."""
    path, start, stop = item
    poses, betas = _packed(path)
    return _frames(path.stem, poses, betas, range(start, stop))


def read_amass(path: Path) -> Iterator[Photo]:
    """Ten frames a second of one of AMASS's files; hands are left open."""
    keys = ("poses", "betas", "gender", "mocap_framerate")
    with Npz(path) as file:
        poses, betas, gender, rate = (file.read(key) for key in keys)
    poses = _checked(path, "poses", poses, 156)[:, :SMPLH_SHARED]
    poses = np.concatenate([poses, np.zeros((len(poses), 6), np.float32)], 1)
    betas = _checked(path, "betas", np.atleast_2d(betas), SMPL_KIND.num_betas)[0]
    if not float(rate) > 0:
        raise RequestError(f"{path}: mocap_framerate is {rate}")
    chosen = np.arange(0, len(poses), max(float(rate) / FPS, 1)).astype(int)
    word = gender.item() if isinstance(gender, np.ndarray) else gender
    word = word.decode() if isinstance(word, bytes) else str(word)
    if word not in GENDERS:
        raise RequestError(f"{path}: no gender is called '{word}'; known: {', '.join(GENDERS)}")
    return _frames(_name(path), poses, np.broadcast_to(betas, (len(poses), SMPL_KIND.num_betas)), chosen.tolist(), word)


def _frames(
    name: str,
    poses: Float[np.ndarray, "N P"],
    betas: Float[np.ndarray, "N S"],
    rows: Any,
    gender: str = "neutral",
) -> Iterator[Photo]:
    """One body a frame; those with numbers that are none are left out."""
    for row in rows:
        if not (np.isfinite(poses[row]).all() and np.isfinite(betas[row]).all()):
            continue
        person = Person(
            box=np.zeros(4, np.float32),
            pose=poses[row].reshape(SMPL_KIND.num_joints, 3),
            betas=betas[row],
            has_body=True,
            gender=gender,
            columns={"sequence": name},
        )
        yield without_pictures([person], f"{name}/{row:06d}")


@lru_cache(maxsize=1)
def _packed(path: Path) -> tuple[Float[np.ndarray, "N P"], Float[np.ndarray, "N S"]]:
    """All poses and shapes: of a HumanData's `smpl`, or of 4D-Humans' `body_pose` with the root in it."""
    with Npz(path) as file:
        smpl = file.read("smpl") if "smpl" in file else {key: file.read(key) for key in file.keys if key in _BODY}
    if not isinstance(smpl, dict) or (missing := [key for key in _BODY[1:] if key not in smpl]):
        raise RequestError(f"{path}: no {', '.join(missing) if isinstance(smpl, dict) else 'table smpl'} in it")
    betas = _checked(path, "betas", smpl["betas"], SMPL_KIND.num_betas)
    parts = [np.reshape(smpl[key], (len(smpl[key]), -1)) for key in _BODY[:2] if key in smpl]
    if len({len(betas), *map(len, parts)}) > 1:
        raise RequestError(f"{path}: poses of {len(parts[-1])} people and shapes of {len(betas)}")
    return _checked(path, "pose", np.concatenate(parts, 1), SMPL_KIND.pose_numbers), betas


def _checked(path: Path, key: str, values: Any, width: int) -> Float[np.ndarray, "N W"]:
    """Rows of at least `width` numbers, cut to it where they are shapes."""
    array = np.asarray(values)
    is_short = array.ndim != 2 or array.shape[1] < width or (key != "betas" and array.shape[1] != width)
    if is_short or array.dtype.kind not in "fiu":
        raise RequestError(f"{path}: {key} of shape {array.shape} and type {array.dtype}, expected (frames, {width})")
    return array[:, :width].astype(np.float32)


def _name(path: Path) -> str:
    """Subject and file, without ending."""
    return f"{path.parent.name}/{path.stem.removesuffix('_poses')}"


TREE = """
  neutrMosh/neutrSMPL_CMU/01/01_01.pkl      HMR's release
  or, packed: cmu_mosh.npz                  HumanData; or cmu_mocap.npz of 4D-Humans
  or, from AMASS (SMPL-H): CMU/01/01_01_poses.npz"""

CONVERTERS = (
    Converter(
        name="cmu_mosh",
        title="CMU MoSh",
        licence="unknown",
        skeleton="none",
        splits=("train",),
        plan=plan,
        tree=TREE,
        traps=(
            "there are no pictures, no key points and no camera: roots are in the mocap's world, translations zeros",
            "AMASS is thinned to ten frames a second, keeps its gender, and its hands are left open",
            "where several kinds of files are there, HMR's are taken, then packed ones",
        ),
    ),
)
