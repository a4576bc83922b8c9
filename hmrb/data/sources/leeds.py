"""Leeds Sports Poses and its extended training set, whose files say visible in opposite ways.

LSP: Johnson and Everingham, Clustered pose and nonlinear appearance models for human pose estimation, BMVC 2010,
https://sam.johnson.io/research/lsp.html. LSP-Extended: the same, Learning effective human pose estimation from
inaccurate annotation, CVPR 2011, https://sam.johnson.io/research/lspet.html; with pictures of high resolution it is
HR-LSPET, by the authors of UP-3D.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Bool, Float

from hmrb.data.convert.annotated import AnnotatedPicture, Columns, hidden_share, photo
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.errors import RequestError
from hmrb.formats.matlab import read_mat
from hmrb.records import Photo

POINTS = 14
FIRST_PIXEL = 1.0  # MATLAB's; no source says how these two count, and the two others from MATLAB, MPII and Penn, do so


def plan_lsp(raw: Raw) -> list[SplitPlan]:
    """The first half to train on, from the pictures as they were; the second to test on, from the small ones."""
    parts = []
    for split, folders in {
        "train": ("lsp_dataset_original", "", "lsp_dataset"),
        "test": ("lsp_dataset", "", "lsp_dataset_original"),
    }.items():
        path = raw.need(*(f"{folder}/joints.mat".lstrip("/") for folder in folders))
        joints = _joints(path, (3, POINTS)).transpose(2, 1, 0)
        rows = range(len(joints) // 2) if split == "train" else range(len(joints) // 2, len(joints))
        folder = (path.parent.relative_to(raw.root) / "images").as_posix()
        items = []
        for row in rows:
            hidden, everything = joints[row, :, 2] > 0, np.ones(POINTS, bool)
            columns = hidden_share(everything, hidden)
            items.append(_annotated(raw, f"{folder}/im{row + 1:04d}.jpg", joints[row], everything, columns))
        parts.append(_part(raw, split, items))
    return parts


def plan_lspet(raw: Raw) -> list[SplitPlan]:
    """All to train on. A picture's row is the number in its name."""
    path = raw.need("joints.mat")
    joints = _joints(path, (POINTS, 3)).transpose(2, 0, 1)
    pictures = sorted(raw.root.glob("im*.png")) or sorted(raw.root.glob("im*.jpg")) or raw.some("images/im*.jpg")
    items = []
    for picture in pictures:
        number = int(re.sub(r"\D", "", picture.stem) or 0)
        if not 1 <= number <= len(joints):
            raise RequestError(f"{picture}: no row for it among the {len(joints)} of {path}")
        marks = joints[number - 1]
        seen = (marks[:, 2] > 0) | raw.compat
        items.append(_annotated(raw, picture.relative_to(raw.root).as_posix(), marks, seen, {}))
    return [_part(raw, "train", items)]


def read(root: Path, first_pixel: float, marked: AnnotatedPicture) -> Iterator[Photo]:
    """The picture, if its person's points are all inside of it; one that can't be read is left to be reported."""
    path = root / marked.name
    image = cv2.imread(str(path)) if path.exists() else None
    seen = marked.points[0, marked.points[0, :, 2] > 0, :2] + first_pixel
    if image is None or ((seen >= 0) & (seen <= image.shape[1::-1])).all():
        yield from photo(root, marked)


def _annotated(
    raw: Raw, name: str, marks: Float[np.ndarray, "K 3"], seen: Bool[np.ndarray, " K"], columns: Columns
) -> AnnotatedPicture:
    """The picture's person, of whom the points in `seen` count."""
    points = np.where(seen[:, None], np.c_[marks[:, :2] - _first(raw), np.ones(POINTS)], 0).astype(np.float32)
    return AnnotatedPicture(name, box_around(points, seen=seen)[None], points[None], (columns,))


def _part(raw: Raw, split: str, items: Sequence[AnnotatedPicture]) -> SplitPlan:
    """Everybody whose box is one."""
    return SplitPlan(split, [item for item in items if item.boxes[0, 2:].all()], partial(read, raw.root, _first(raw)))


def _first(raw: Raw) -> float:
    return 0.0 if raw.compat else FIRST_PIXEL


def _joints(path: Path, axes: tuple[int, int]) -> np.ndarray:
    joints: np.ndarray = np.asarray(read_mat(path, "joints")["joints"], np.float32)
    if joints.ndim != 3 or joints.shape[:2] != axes:
        raise RequestError(
            f"{path}: joints of shape {joints.shape}, not {(*axes, 'N')}: LSP's are (3, 14, N), LSPET's (14, 3, N)"
        )
    return joints


CONVERTERS = (
    Converter(
        name="lsp",
        title="Leeds Sports Poses",
        licence="research",
        skeleton="lsp",
        splits=("train", "test"),
        plan=plan_lsp,
        tree=(
            "lsp_dataset_original/joints.mat and images/im0001.jpg ...   to train on\n"
            "lsp_dataset/joints.mat and images/im0001.jpg ...   to test on\n"
            "or either one's joints.mat and images/ alone"
        ),
        traps=(
            "each release has its own joints.mat: pixels of one are wrong in the pictures of the other",
            "the third row is 1 where a point is hidden, the opposite of LSP-Extended",
            "the first half is to train on; people are left out who reach beyond the picture",
        ),
        study="pixels are left counted from 1",
        benchmarks=("test",),
    ),
    Converter(
        name="lspet",
        title="Leeds Sports Poses, extended",
        licence="research",
        skeleton="lsp",
        splits=("train",),
        plan=plan_lspet,
        tree="joints.mat\nim00001.png ...   (HR-LSPET)   or images/im00001.jpg ...",
        traps=(
            "the third column is 1 where a point is labelled, the opposite of LSP; others are anywhere",
            "joints.mat and pictures have to be of one release",
            "people are left out who reach beyond the picture",
        ),
        study=(
            "points that are not labelled count, in the loss and in the box, and who has one beyond the picture is left"
            " out: of the first 400 people 141 remain, here 399; pixels are left counted from 1"
        ),
    ),
)
