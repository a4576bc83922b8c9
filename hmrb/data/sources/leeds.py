"""Leeds Sports Poses and its extended training set; their visibility flags have opposite meanings.

LSP: Johnson and Everingham, Clustered pose and nonlinear appearance models for human pose estimation, BMVC 2010,
https://sam.johnson.io/research/lsp.html. LSP-Extended: Johnson and Everingham, Learning effective human pose estimation
from inaccurate annotation, CVPR 2011, https://sam.johnson.io/research/lspet.html. HR-LSPET is its high-resolution
version by the authors of UP-3D.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from hmrb.data.convert.annotated import AnnotatedPicture, Columns, hidden_share, photo
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.reasons import AS_IN_THE_STUDY, without_box
from hmrb.errors import RunError
from hmrb.formats.files import visible
from hmrb.formats.matlab import read_mat
from hmrb.formats.pictures import UnreadablePicture, read_pixels
from hmrb.records import Photo

POINTS = 14
# Pixels count from 1 as in MATLAB. No source confirms it for LSP and LSPET, but MPII and Penn, also from MATLAB, do so.
FIRST_PIXEL = 1.0
OTHER_RELEASE = (
    "a keypoint is outside the image: are joints.mat and the images from the same release, and in their original size?"
)


def plan_lsp(raw: Raw) -> list[SplitPlan]:
    """Plan train from the first half (original images) and test from the second half (small images)."""
    parts = []
    for split, folders in {
        "train": ("lsp_dataset_original", "", "lsp_dataset"),
        "test": ("lsp_dataset", "", "lsp_dataset_original"),
    }.items():
        if not raw.wants(split):
            continue
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
    """Plan all images as train. The number in an image's name is its row in joints.mat."""
    path = raw.need("joints.mat")
    joints = _joints(path, (POINTS, 3)).transpose(2, 0, 1)
    pictures = visible(raw.root.glob("im*.png")) or visible(raw.root.glob("im*.jpg")) or raw.some("images/im*.jpg")
    items = []
    for picture in pictures:
        number = int(re.sub(r"\D", "", picture.stem) or 0)
        if not 1 <= number <= len(joints):
            raise RunError(f"{picture}: {path} has no row for it, only {len(joints)} rows")
        marks = joints[number - 1]
        seen = (marks[:, 2] > 0) | raw.compat
        items.append(_annotated(raw, picture.relative_to(raw.root).as_posix(), marks, seen, {}))
    return [_part(raw, "train", items, raw.compat)]


def read(root: Path, first_pixel: float, as_study: bool, marked: AnnotatedPicture) -> Iterator[Photo]:
    """Read the image if all its person's points are inside it; unreadable images are passed on and reported later.

    In the study's LSP-Extended, points without a label can be outside too: `as_study`.
    """
    path = root / marked.name
    image = None
    with suppress(UnreadablePicture):
        image = read_pixels(path)
    seen = marked.points[0, marked.points[0, :, 2] > 0, :2] + first_pixel
    if image is None or ((seen >= 0) & (seen <= image.shape[1::-1])).all():
        yield from photo(root, marked)
    else:
        yield Photo(name=marked.name, people=(), left_out={AS_IN_THE_STUDY if as_study else OTHER_RELEASE: 1})


def _annotated(
    raw: Raw, name: str, marks: Float[np.ndarray, "K 3"], seen: Bool[np.ndarray, " K"], columns: Columns
) -> AnnotatedPicture:
    """The image's person with the points in `seen`."""
    points = np.where(seen[:, None], np.c_[marks[:, :2] - _first(raw), np.ones(POINTS)], 0).astype(np.float32)
    return AnnotatedPicture(name, box_around(points, seen=seen)[None], points[None], (columns,))


def _part(raw: Raw, split: str, items: Sequence[AnnotatedPicture], as_study: bool = False) -> SplitPlan:
    """Plan a split with all people whose bounding box is not empty."""
    kept = [item for item in items if item.boxes[0, 2:].all()]
    empty = (item for item in items if not item.boxes[0, 2:].all())
    left_out = Counter(without_box(bool(item.points[0, :, 2].any())) for item in empty)
    return SplitPlan(split, kept, partial(read, raw.root, _first(raw), as_study), left_out=left_out)


def _first(raw: Raw) -> float:
    return 0.0 if raw.compat else FIRST_PIXEL


def _joints(path: Path, axes: tuple[int, int]) -> np.ndarray:
    joints: np.ndarray = np.asarray(read_mat(path, "joints")["joints"], np.float32)
    if joints.ndim != 3 or joints.shape[:2] != axes:
        raise RunError(
            f"{path}: joints has shape {joints.shape}, expected {(*axes, 'N')}: LSP has (3, 14, N), LSPET (14, 3, N)"
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
            "lsp_dataset_original/joints.mat and images/im0001.jpg ...   for train\n"
            "lsp_dataset/joints.mat and images/im0001.jpg ...   for test\n"
            "or joints.mat and images/ of only one of them"
        ),
        traps=(
            "each release has its own joints.mat: its coordinates do not match the other release's images",
            "the third row is 1 for hidden points, the opposite of LSP-Extended",
            "the first half is the training set; people with points outside the image are left out",
        ),
        study="pixels count from 1",
        study_fails=("pixel_grid",),
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
            "the third column is 1 for labelled points, the opposite of LSP; the positions of other points are"
            " arbitrary",
            "joints.mat and images must be from the same release",
            "people with points outside the image are left out",
        ),
        study=(
            "unlabelled points are used in the loss and the bounding box, and people with one outside the image are"
            " left out: of the first 400 people 141 remain, versus 399 without --compat study; pixels count from 1"
        ),
        study_fails=("box_fit", "pixel_grid", "picture_fits"),
    ),
)
