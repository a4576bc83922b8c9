"""CMU MoSh: bodies from CMU's motion capture, without images. The adversarial prior uses them as real samples.

Released by Kanazawa, Black, Jacobs and Malik: End-to-end Recovery of Human Shape and Pose, CVPR 2018,
https://github.com/akanazawa/hmr; fitted with MoSh, Loper, Mahmood and Black, SIGGRAPH Asia 2014. Alternatively, AMASS's
fits of the same data, Mahmood, Ghorbani, Troje, Pons-Moll and Black: AMASS, ICCV 2019.
"""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pack import without_pictures
from hmrb.data.convert.people import counted
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.reasons import NO_BODY
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import visible
from hmrb.formats.npz import Npz
from hmrb.formats.pickles import read_pickle
from hmrb.records import GENDERS, Person, Photo

PACKED = ("cmu_mosh.npz", "cmu_mocap.npz")
ROWS = 1000  # rows of a packed file per item
FPS = 10  # AMASS is subsampled to this rate, as in mmhuman3d
_BODY = ("global_orient", "body_pose", "betas")
SMPLH_SHARED = 66  # pose numbers that SMPL-H shares with SMPL: root and 21 joints; hands follow


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan one item per file of HMR's release or AMASS, or per ROWS rows of a packed file."""
    for pattern in ("neutrMosh/neutrSMPL_CMU/*/*.pkl", "neutrSMPL_CMU/*/*.pkl", "*/*.pkl"):
        if paths := visible(raw.root.glob(pattern)):
            return [SplitPlan("train", paths, read)]
    for name in PACKED:
        if (path := raw.root / name).exists():
            count = len(_packed(path)[0])
            items = [(path, start, min(start + ROWS, count)) for start in range(0, count, ROWS)]
            return [SplitPlan("train", items, read_rows)]
    for pattern in ("CMU/*/*_poses.npz", "*/*_poses.npz"):
        if paths := visible(raw.root.glob(pattern)):
            return [SplitPlan("train", paths, read_amass)]
    raise RequestError(
        f"{raw.root}: contains no neutrMosh/neutrSMPL_CMU/*/*.pkl, {', '.join(PACKED)} or CMU/*/*_poses.npz;"
        f" see hmrb convert-data {raw.name or 'cmu_mosh'} --explain"
    )


def read(path: Path) -> Iterator[Photo]:
    """Read every frame of one of HMR's pickles."""
    with raw_file(path):
        table = read_pickle(path)
    key = "poses" if isinstance(table, dict) and "poses" in table else "new_poses"
    if not isinstance(table, dict) or key not in table or "betas" not in table:
        raise RunError(f"{path}: missing poses or betas")
    poses = _checked(path, key, table[key], SMPL_KIND.pose_numbers)
    betas = _checked(path, "betas", np.atleast_2d(table["betas"]), SMPL_KIND.num_betas)[0]
    return _frames(_name(path), poses, np.broadcast_to(betas, (len(poses), SMPL_KIND.num_betas)), range(len(poses)))


def read_rows(item: tuple[Path, int, int]) -> Iterator[Photo]:
    """Read some rows of a packed file."""
    path, start, stop = item
    poses, betas = _packed(path)
    return _frames(path.stem, poses, betas, range(start, stop))


def read_amass(path: Path) -> Iterator[Photo]:
    """Read an AMASS file at ten frames per second; hands are open."""
    keys = ("poses", "betas", "gender", "mocap_framerate")
    with raw_file(path), Npz(path) as file:
        poses, betas, gender, rate = (file.read(key) for key in keys)
    poses = _checked(path, "poses", poses, 156)[:, :SMPLH_SHARED]
    poses = np.concatenate([poses, np.zeros((len(poses), 6), np.float32)], 1)
    betas = _checked(path, "betas", np.atleast_2d(betas), SMPL_KIND.num_betas)[0]
    if not float(rate) > 0:
        raise RunError(f"{path}: mocap_framerate is {rate}, expected a positive number")
    chosen = np.arange(0, len(poses), max(float(rate) / FPS, 1)).astype(int)
    word = gender.item() if isinstance(gender, np.ndarray) else gender
    word = word.decode() if isinstance(word, bytes) else str(word)
    if word not in GENDERS:
        raise RunError(f"{path}: unknown gender '{word}'; known: {', '.join(GENDERS)}")
    return _frames(_name(path), poses, np.broadcast_to(betas, (len(poses), SMPL_KIND.num_betas)), chosen.tolist(), word)


def _frames(
    name: str,
    poses: Float[np.ndarray, "N P"],
    betas: Float[np.ndarray, "N S"],
    rows: Any,
    gender: str = "neutral",
) -> Iterator[Photo]:
    """Yield one body per frame; frames with non-finite numbers are left out."""
    left_out: Counter[str] = Counter()
    for row in rows:
        if not (np.isfinite(poses[row]).all() and np.isfinite(betas[row]).all()):
            left_out[NO_BODY] += 1
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
    yield from counted(name, left_out)


@lru_cache(maxsize=1)
def _packed(path: Path) -> tuple[Float[np.ndarray, "N P"], Float[np.ndarray, "N S"]]:
    """All poses and shapes, from HumanData's `smpl` or from 4D-Humans' `body_pose`, which includes the root."""
    with raw_file(path), Npz(path) as file:
        smpl = file.read("smpl") if "smpl" in file else {key: file.read(key) for key in file.keys if key in _BODY}
    if not isinstance(smpl, dict) or (missing := [key for key in _BODY[1:] if key not in smpl]):
        raise RunError(f"{path}: missing {', '.join(missing) if isinstance(smpl, dict) else 'table smpl'}")
    betas = _checked(path, "betas", smpl["betas"], SMPL_KIND.num_betas)
    parts = [np.reshape(smpl[key], (len(smpl[key]), -1)) for key in _BODY[:2] if key in smpl]
    if len({len(betas), *map(len, parts)}) > 1:
        raise RunError(f"{path}: has {len(parts[-1])} poses but {len(betas)} shapes")
    return _checked(path, "pose", np.concatenate(parts, 1), SMPL_KIND.pose_numbers), betas


def _checked(path: Path, key: str, values: Any, width: int) -> Float[np.ndarray, "N W"]:
    """Check that rows have `width` numbers; shapes may be longer and are cut to `width`."""
    array = np.asarray(values)
    is_short = array.ndim != 2 or array.shape[1] < width or (key != "betas" and array.shape[1] != width)
    if is_short or array.dtype.kind not in "fiu":
        raise RunError(
            f"{path}: {key} has shape {array.shape} and type {array.dtype}, expected numbers of shape (frames, {width})"
        )
    return array[:, :width].astype(np.float32)


def _name(path: Path) -> str:
    """Subject and file name, without extension."""
    return f"{path.parent.name}/{path.stem.removesuffix('_poses')}"


TREE = """
  neutrMosh/neutrSMPL_CMU/01/01_01.pkl      HMR's release
  or, packed: cmu_mosh.npz                  HumanData; or cmu_mocap.npz from 4D-Humans
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
            "there are no images, keypoints or cameras: roots are in the motion capture world frame, translations are"
            " zeros",
            "AMASS is subsampled to ten frames per second and keeps its gender; hands are open",
            "if several kinds of files exist, HMR's are used first, then packed files, then AMASS",
        ),
    ),
)
