"""EMDB: people in the wild with electromagnetic body sensors, filmed by a moving phone; a test set.

Kaufmann, Song, Guo, Shen, Jiang, Tang, Zárate and Hilliges: EMDB: The Electromagnetic Database of Global 3D Human Pose
and Shape in the Wild, ICCV 2023. https://emdb.ait.ethz.ch
"""

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.annotated import entry, numbers
from hmrb.data.convert.boxes import box_corners, camera_of, moved, turned, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.pelvis import rest_pelvis
from hmrb.data.convert.people import counted
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.reasons import EMPTY_BOX, NOT_GOOD
from hmrb.data.convert.sizes import stated_size
from hmrb.errors import RequestError, RunError
from hmrb.formats.pickles import read_pickle
from hmrb.records import GENDERS, Person, Photo

SPLITS = ("emdb1", "emdb2")
FLAG_BYTES = 1 << 8  # longer arrays are skipped while only the flags are read


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan EMDB-1 and EMDB-2 with one item per sequence; a sequence can be in both or in neither."""
    paths = raw.some("*/*/*_data.pkl")
    chosen: dict[str, list[Path]] = {split: [] for split in SPLITS if raw.wants(split)}
    for path in paths:
        with raw_file(path):
            table = read_pickle(path, longest=FLAG_BYTES)
        for split, kept in chosen.items():
            if entry(table, split, path):
                kept.append(path)
    if not any(chosen.values()):
        raise RequestError(
            f"{raw.root}: none of {len(paths)} sequences belongs to {' or '.join(chosen)}; download the others"
        )
    return [SplitPlan(split, kept, partial(read, raw), photos_each=1500) for split, kept in chosen.items() if kept]


def read(raw: Raw, path: Path) -> Iterator[Photo]:
    """Read the good frames of a sequence in which the person has a bounding box."""
    with raw_file(path):
        table = read_pickle(path)
    good = np.asarray(entry(table, "good_frames_mask", path), bool)
    corners = numbers(entry(table, "bboxes", path), "bboxes", (len(good), 4), path)
    full = (corners[:, 2:] > corners[:, :2]).all(1)
    left_out = +Counter({NOT_GOOD: int((~good).sum()), EMPTY_BOX: int((good & ~full).sum())})
    good &= full
    folder = path.parent.relative_to(raw.root).as_posix()
    stated_px = stated_size(entry(table, "camera", path))
    people = _people(raw, table, len(good), path)
    for frame, (person, box) in enumerate(zip(people, corners.tolist(), strict=True)):
        if good[frame]:
            name = f"{folder}/images/{frame:05d}.jpg"
            made = person(box=box_corners(*box))
            yield Photo(name=name, people=(made,), file=raw.file(name), stated_px=stated_px)
    yield from counted(folder, left_out)


def _people(raw: Raw, table: Any, frames: int, path: Path) -> Iterator[partial[Person]]:
    """The person in each frame, without the bounding box."""
    camera, body = entry(table, "camera", path), entry(table, "smpl", path)
    poses = np.concatenate(
        [
            numbers(body, "poses_root", (frames, 1, 3), path),
            numbers(body, "poses_body", (frames, SMPL_KIND.num_joints - 1, 3), path),
        ],
        1,
    )
    transls = numbers(body, "trans", (frames, 3), path)
    betas = numbers(body, "betas", (SMPL_KIND.num_betas,), path)
    points = numbers(table, "kp2d", (frames, SMPL_KIND.num_joints, 2), path)
    views = numbers(camera, "extrinsics", (frames, 4, 4), path)
    intrinsics = camera_of(numbers(camera, "intrinsics", (3, 3), path))
    gender = str(entry(table, "gender", path))
    if gender not in GENDERS:
        raise RunError(f"{path}: unknown gender '{gender}'; known: {', '.join(GENDERS)}")
    rest = rest_pelvis(betas, gender, raw.store)
    for frame, view in enumerate(views):
        turn, shift = view[:3, :3], view[:3, 3]
        yield partial(
            Person,
            keypoints2d=with_confidence(points[frame]),
            pose=turned(poses[frame], turn),
            betas=betas,
            transl=np.zeros(3, np.float32) if rest is None else moved(transls[frame], rest, turn, shift),
            has_body=True,
            gender=gender,
            columns={"sequence": str(entry(table, "name", path)), "frame": float(frame)},
            extra={"world_to_camera": view[:3].ravel()},
            camera=intrinsics,
        )


TREE = """
  P1/14_outdoor_climb/P1_14_outdoor_climb_data.pkl     all sequences of P0 to P9
  P1/14_outdoor_climb/images/00000.jpg"""

CONVERTERS = (
    Converter(
        name="emdb",
        title="EMDB",
        licence="research, by application (unverified)",
        skeleton="smpl",
        splits=SPLITS,
        plan=plan,
        tree=TREE,
        traps=(
            "each sequence's file states whether it belongs to emdb1, emdb2, both or neither",
            "bodies are gendered; each sequence's file states the gender",
            "raw root rotations and translations are in the world frame; the shard has both in the camera frame",
            "frames that are not good (good_frames_mask) are left out, as in EMDB's evaluation",
            "good frames with an empty bounding box are left out too; EMDB's evaluation keeps them because it does not"
            " use images",
            "the remaining frames have gaps: the column frame has the frame number, at 30 frames per second",
            "the bounding box is the file's, without a margin; keypoints are SMPL's projected joints, including joints"
            " outside the image",
            "translations need bodies/smpl/SMPL_MALE.npz and SMPL_FEMALE.npz; without them they are zeros",
            "extra world_to_camera is the upper 3 x 4 part of the frame's camera matrix, row by row",
        ),
        benchmarks=SPLITS,
    ),
)
