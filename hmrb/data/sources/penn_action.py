"""Penn Action: sports in short videos, every tenth frame.

Zhang, Zhu and Derpanis, From actemes to action, ICCV 2013, http://dreamdragon.github.io/PennAction/.
Its documentation calls the first point of each pair left, but it is the right one: over all 2,326 label files, the
first shoulder is further left in the image in 95 % of frontal views (hip 97 %) and in 24 % of views from behind
(hip 17 %).
Kanazawa et al. (human_dynamics, CVPR 2019) and Joo et al. (EFT, 3DV 2021) swap them too.
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.data.convert.annotated import AnnotatedPicture, hidden_share, photo
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import without_box
from hmrb.errors import RunError
from hmrb.formats.matlab import read_mat
from hmrb.records import Photo
from hmrb.skeleton import SKELETONS

EVERY = 10  # frames; neighbouring frames are similar
SKELETON = SKELETONS["penn_action"]
FIRST_PIXEL = 1.0  # pixels count from 1, as in MATLAB; hidden points without a position are at (1, 1)
KEYS = ("x", "y", "visibility", "action", "pose")


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan one item per video; each video's file states whether it is a training video."""
    paths = raw.some("labels/*.mat")
    if raw.compat:
        return [SplitPlan("train", paths, partial(read, raw.root, True))]
    is_train = [np.ravel(read_mat(path, "train")["train"])[:1].tolist() == [1] for path in paths]
    parts = {
        split: [path for path, train in zip(paths, is_train, strict=True) if train == (split == "train")]
        for split in ("train", "test")
    }
    return [SplitPlan(split, items, partial(read, raw.root, False)) for split, items in parts.items() if items]


def read(root: Path, compat: bool, path: Path) -> Iterator[Photo]:
    """Read a video's 1st, 11th, ... frame if any point of the person is visible."""
    table = read_mat(path, *KEYS)
    x, y, visible = (np.asarray(table[key], np.float32) for key in ("x", "y", "visibility"))
    if not x.shape == y.shape == visible.shape or x.shape[1:] != (len(SKELETON.joints),):
        raise RunError(
            f"{path}: x, y and visibility have shapes {x.shape}, {y.shape}, {visible.shape}, expected (N, 13)"
        )
    columns = {"sequence": path.stem, "action": _word(table["action"]), "view": _word(table["pose"])}
    left_out: Counter[str] = Counter()
    for frame in range(0, len(x), EVERY):
        seen = np.ones(len(x[frame]), bool) if compat else visible[frame] > 0
        marks = np.stack([x[frame], y[frame]], 1) - (0 if compat else FIRST_PIXEL)
        points = np.where(seen[:, None], np.c_[marks, np.ones(len(marks))], 0).astype(np.float32)
        if not compat:
            points, seen = points[SKELETON.mirror()], seen[SKELETON.mirror()]
        box = box_around(points, seen=seen)
        if box[2:].all():
            hidden = hidden_share(np.ones(len(seen)), visible[frame] <= 0)
            name = f"frames/{path.stem}/{frame + 1:06d}.jpg"
            yield from photo(root, AnnotatedPicture(name, box[None], points[None], ({**columns, **hidden},)))
        else:
            left_out[without_box(bool(seen.any()))] += 1
    yield from counted(path.stem, left_out)


def _word(value: Any) -> str:
    return "".join(str(part) for part in np.ravel(value)[:1])


CONVERTERS = (
    Converter(
        name="penn_action",
        title="Penn Action",
        licence="research",
        skeleton="penn_action",
        splits=("train", "test"),
        plan=plan,
        tree="labels/0001.mat ...\nframes/0001/000001.jpg ...",
        traps=(
            "left and right are swapped in the documentation, as frontal and back views show",
            "hidden points are at (1, 1) or at arbitrary positions and are not used",
            "hips and head are mapped to SMPL's joints, as in the study, although they were annotated in images",
            "every tenth frame of a video is used, starting with the first",
        ),
        study=(
            "test videos are trained on; left and right are as documented; hidden points are used, also in the bounding"
            " box; pixels count from 1"
        ),
        study_fails=("box_fit", "left_right", "pixel_grid", "picture_fits"),
        benchmarks=("test",),
        known={"train": 9310, "test": 8096},  # counted over all label files
    ),
)
