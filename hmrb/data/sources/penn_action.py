"""Penn Action: sports in short videos, every tenth frame.

Zhang, Zhu and Derpanis, From actemes to action, ICCV 2013, http://dreamdragon.github.io/PennAction/.
Its documentation calls the first of each pair of points left. It is the right one: in videos seen from the front the
first shoulder lies further left in the picture in 95 % (hip 97 %), in those from behind in 24 % (hip 17 %); counted in
all 2,326 label files. Kanazawa et al. (human_dynamics, CVPR 2019) and Joo et al. (EFT, 3DV 2021) exchange them too.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.data.convert.annotated import AnnotatedPicture, hidden_share, photo
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.errors import RequestError
from hmrb.formats.matlab import read_mat
from hmrb.records import Photo
from hmrb.skeleton import SKELETONS

EVERY = 10  # frames: neighbours are alike
SKELETON = SKELETONS["penn_action"]
FIRST_PIXEL = 1.0  # MATLAB's; where hidden points have no place, they are at (1, 1)
KEYS = ("x", "y", "visibility", "action", "pose")


def plan(raw: Raw) -> list[SplitPlan]:
    """One item a video. A video's file says whether it is to train on."""
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
    """A video's 1st, 11th, ... frame, where anything of the person is visible."""
    table = read_mat(path, *KEYS)
    x, y, visible = (np.asarray(table[key], np.float32) for key in ("x", "y", "visibility"))
    if not x.shape == y.shape == visible.shape or x.shape[1:] != (len(SKELETON.joints),):
        raise RequestError(f"{path}: x, y and visibility of shapes {x.shape}, {y.shape}, {visible.shape}, not (N, 13)")
    columns = {"sequence": path.stem, "action": _word(table["action"]), "view": _word(table["pose"])}
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
            "left and right are exchanged in the documentation, as views from the front and from behind show",
            "hidden points are at (1, 1) or anywhere and do not count",
            "hips and head are named as SMPL's joints, as in the study, though they were marked in pictures",
            "every tenth frame of a video is taken, the first one first",
        ),
        study=(
            "videos to test on are trained on; left and right as documented; hidden points count, in the box too;"
            " pixels are left counted from 1"
        ),
        benchmarks=("test",),
        known={"train": 9310, "test": 8096},  # counted over all label files
    ),
)
