"""InstaVariety and VLOG-people: videos with OpenPose keypoints, in human_dynamics' TFRecords.

Kanazawa et al., Learning 3D human dynamics from video, CVPR 2019, https://github.com/akanazawa/human_dynamics. VLOG's
videos: Fouhey et al., From lifestyle vlogs to everyday interactions, CVPR 2018.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import without_box
from hmrb.errors import RunError
from hmrb.formats.files import visible
from hmrb.formats.pictures import decoded
from hmrb.formats.tfrecord import Feature, TFRecord, read_example, records
from hmrb.records import Person, Photo

NEEDED = ("meta/N", "image/encoded", "image/xys", "image/visibilities", "image/face_pts")
BODY, FACE, TOES = 14, 5, 6


def plan(splits: tuple[str, ...], raw: Raw) -> list[SplitPlan]:
    """Plan one item per record; a record is the track of one person in a video."""
    splits = tuple(split for split in splits if raw.wants(split))
    files = {split: visible(raw.root.glob(f"{split}/*.tfrecord")) for split in splits}
    parts = [
        SplitPlan(split, [record for path in paths for record in records(path)], partial(read, split))
        for split, paths in files.items()
        if paths
    ]
    return parts or [SplitPlan(splits[0], raw.some(f"{splits[0]}/*.tfrecord"), partial(read, splits[0]))]


def read(split: str, record: TFRecord) -> Iterator[Photo]:
    """Read the frames of a track in which OpenPose detected any point."""
    features = read_example(record)
    if missing := [key for key in NEEDED if key not in features]:
        raise RunError(f"{record.path}: record {record.number} has no {', '.join(missing)}")
    pictures = features["image/encoded"]
    points = _points(record, features)
    columns = {"sequence": _video(record, features)}
    left_out: Counter[str] = Counter()
    for frame, (picture, marks) in enumerate(zip(pictures, points, strict=True)):
        box = box_around(marks, seen=marks[:, 2] > 0)
        if box[2:].all():
            name = f"{split}/{record.path.stem}/{record.number:04d}/{frame:06d}"
            yield Photo(name=name, people=(Person(box=box, keypoints2d=marks, columns=columns),), data=bytes(picture))
        else:
            left_out[without_box(bool(marks.any()))] += 1
    yield from counted(f"{split}/{record.path.stem}/{record.number:04d}", left_out)


def _points(record: TFRecord, features: Mapping[str, Feature]) -> Float[np.ndarray, "N K 3"]:
    """Keypoints of body, face and toes, in pixels of the record's crop."""
    try:
        count = int(features["meta/N"][0])
        body, face = np.reshape(features["image/xys"], (count, 2, BODY)), features["image/face_pts"]
        visible = np.reshape(features["image/visibilities"], (count, 1, BODY))
        toes = features.get("image/toe_pts", [])
        toes = np.reshape(toes, (count, 3, TOES)) if len(toes) else np.zeros((count, 3, TOES))
        points = np.concatenate(
            [np.concatenate([body, visible], 1), np.reshape(face, (count, 3, FACE)), toes], 2, dtype=np.float32
        )
    except (ValueError, IndexError, TypeError) as error:
        raise RunError(f"{record.path}: record {record.number}: points do not match meta/N ({error})") from None
    if len(features["image/encoded"]) != count:
        raise RunError(
            f"{record.path}: record {record.number} has {len(features['image/encoded'])} images for {count} frames"
        )
    points = points.transpose(0, 2, 1)
    if "image/phis" in features:  # the authors' network input: points are in [-1, 1]
        points[..., :2] = (points[..., :2] + 1) / 2 * _size(record, features)
    points[..., 2] = points[..., 2] > 0
    points[points[..., 2] == 0] = 0
    return points


def _size(record: TFRecord, features: Mapping[str, Feature]) -> int:
    """Side of a track's crops in pixels, which is the same for all frames."""
    first = decoded(bytes(features["image/encoded"][0]), f"{record.path}: record {record.number}: the first")
    return first.shape[0]


def _video(record: TFRecord, features: Mapping[str, Feature]) -> str:
    """Tag and video: the last two folders of the first image name (a record may have more names than frames)."""
    names = features.get("image/filenames", [])
    folders = PurePosixPath(bytes(names[0]).decode(errors="replace")).parts[-3:-1] if len(names) else ()
    return "/".join(folders) or f"{record.path.stem}/{record.number:04d}"


TRAPS = (
    "points 0 and 5 are heels; ankles are the last two",
    "points are in [-1, 1] if a record has image/phis",
    "the images are crops, 224 pixels wide in train; the labels are OpenPose detections",
    "image/filenames may have more names than there are frames: only the video's name is read from it",
)
CONVERTERS = (
    Converter(
        name="instavariety",
        title="InstaVariety",
        licence="research",
        skeleton="instavariety_nop",
        splits=("train", "test"),
        plan=partial(plan, ("train", "test")),
        tree="{train,test}/*.tfrecord",
        traps=TRAPS,
        benchmarks=("test",),
    ),
    Converter(
        name="vlog",
        title="VLOG-people",
        licence="research",
        skeleton="instavariety_nop",
        splits=("train",),
        plan=partial(plan, ("train",)),
        tree="train/*.tfrecord",
        traps=TRAPS,
    ),
)
