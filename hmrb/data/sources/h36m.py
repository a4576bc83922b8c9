"""Human3.6M: actors in a motion capture studio, recorded by four cameras.

Ionescu, Papava, Olaru and Sminchisescu: Human3.6M: Large Scale Datasets and Predictive Methods for 3D Human Sensing in
Natural Environments, TPAMI 2014. http://vision.imar.ro/human3.6m/description.php
Bodies: MoSh, Loper, Mahmood and Black, SIGGRAPH Asia 2014, if the user has them.
"""

import struct
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.boxes import X_HALF_TURN, Box, box_around, box_mask, rotmat, rotvec, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import raw_file, unreadable
from hmrb.data.convert.reasons import NO_MOSH
from hmrb.errors import RequestError, RunError
from hmrb.formats import video
from hmrb.formats.files import visible
from hmrb.formats.matlab import open_mat73
from hmrb.formats.optional import needed
from hmrb.formats.pickles import read_pickle
from hmrb.formats.xml import read_xml
from hmrb.records import Person, Photo

SUBJECTS = {"train": (1, 5, 6, 7, 8), "test_p1": (9, 11), "test_p2": (9, 11)}
CAMERAS = ("54138969", "55011271", "58860488", "60457274")  # in MoSh's order, from 0
FRONT = "60457274"  # the camera of protocol 2
EVERY = 5  # frames: from 50 to 10 per second
JOINTS = [
    11,
    6,
    7,
    8,
    1,
    2,
    3,
    12,
    24,
    14,
    15,
    17,
    18,
    19,
    25,
    26,
    27,
]  # indices of h36m's 17 joints among the 32 raw ones
MASK_FACTOR = 0.9  # masks are larger than people; the rule is from SPIN and the study
SAME_ACTION = {"TakingPhoto": "Photo", "WalkingDog": "WalkDog"}  # S1's names for two actions
# Errors that cdflib raises on damaged files.
_DAMAGED = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, EOFError, MemoryError, RuntimeError,
    struct.error, zlib.error,
)  # fmt: skip
NUM_SUBJECTS, EXTRINSICS, INTRINSICS = 11, 6, 9  # the layout of w0 in metadata.xml


@dataclass(frozen=True, slots=True)
class H36MClip:
    """A subject's action seen by one camera, with fx, fy, cx, cy in pixels (zeros if unknown)."""

    subject: str
    action: str
    camera: str
    intrinsics: tuple[float, ...]

    @property
    def file(self) -> str:
        """Name of the clip's files without extension: Directions 1.60457274."""
        return f"{self.action}.{self.camera}"

    @property
    def kind(self) -> str:
        """The action without its number; the same name for all subjects."""
        word = self.action.split(" ")[0]
        return SAME_ACTION.get(word, word)


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan each split with one item per clip and camera."""
    metadata = raw.root / "metadata.xml"
    cameras = _intrinsics(metadata) if metadata.exists() else {}
    if mosh := next((folder for folder in _mosh_folders(raw) if folder.is_dir()), None):
        raw.reads.add(mosh)
    parts = []
    for split, subjects in SUBJECTS.items():
        if not raw.wants(split):
            continue
        clips = [clip for number in subjects for clip in _clips(raw, f"S{number}", cameras)]
        clips = [clip for clip in clips if split != "test_p2" or clip.camera == FRONT]
        kept = [clip for clip in clips if not (raw.compat and mosh) or _mosh_file(raw, clip)]
        if kept:
            left_out = +Counter({NO_MOSH: len(clips) - len(kept)})
            parts.append(SplitPlan(split, kept, partial(read, raw), photos_each=500, left_out=left_out))
    if not parts:
        raw.some("S*/MyPoseFeatures/D3_Positions_mono/*.cdf")
        raise RequestError(f"{raw.root}: contains none of the subjects S1, S5 to S9 and S11")
    return parts


def read(raw: Raw, clip: H36MClip) -> Iterator[Photo]:
    """Read every fifth frame, from extracted images or from the video."""
    features = raw.root / clip.subject / "MyPoseFeatures"
    pixels = _cdf(features / "D2_Positions" / f"{clip.file}.cdf", 2)
    points = _cdf(features / "D3_Positions_mono" / f"{clip.file}.cdf", 3) / 1000
    if len(pixels) != len(points):
        raise RunError(f"{features}: {clip.file}.cdf has {len(pixels)} frames in 2D and {len(points)} in 3D")
    frames = range(0, len(points), EVERY)
    mosh = _mosh(raw, clip)
    boxes = _boxes(_mask_file(raw, clip), frames)
    for frame, photo, box in zip(frames, _pictures(raw, clip, frames), boxes, strict=True):
        there = with_confidence(pixels[frame])
        has_body = mosh is not None and frame // EVERY < len(mosh[0])
        person = Person(
            box=box if box.any() else box_around(there),
            keypoints2d=there,
            keypoints3d=with_confidence(points[frame]),
            has_body=has_body,
            columns={"sequence": f"{clip.subject} {clip.file}", "action": clip.kind},
            camera=np.array(clip.intrinsics, np.float32),
        )
        if mosh is not None and has_body:
            person = replace(person, pose=_upright(mosh[0][frame // EVERY]), betas=mosh[1])
        yield replace(photo, people=(person,))


def _clips(raw: Raw, subject: str, cameras: dict[str, tuple[float, ...]]) -> list[H36MClip]:
    clips = []
    for path in visible((raw.root / subject / "MyPoseFeatures" / "D3_Positions_mono").glob("*.cdf")):
        action, _, camera = path.stem.rpartition(".")
        if camera in CAMERAS and not action.startswith("_ALL"):
            clips.append(H36MClip(subject, action, camera, cameras.get(camera, (0.0,) * 4)))
            _mask_file(raw, clips[-1])
    return clips


def _mask_file(raw: Raw, clip: H36MClip) -> Path:
    folders = (f"{clip.subject}/MySegmentsMat/ground_truth_{kind}" for kind in ("bs", "bb"))
    return raw.need(*(f"{folder}/{clip.file}.mat" for folder in folders))


def _boxes(path: Path, frames: range) -> Iterator[Box]:
    """Bounding box of each frame's mask, scaled by MASK_FACTOR; zeros if the mask is empty."""
    with open_mat73(path, "Masks") as file:
        cells = np.ravel(file["Masks"])
        if len(cells) <= frames[-1]:
            raise RunError(f"{path}: has {len(cells)} masks, but frame {frames[-1]} is labelled; download it again")
        for frame in frames:
            yield box_mask(np.asarray(file[cells[frame]]).T > 0, MASK_FACTOR)


def _pictures(raw: Raw, clip: H36MClip, frames: range) -> Iterator[Photo]:
    """The frames as photos without people, in order."""
    stem = f"{clip.subject}_{clip.file}".replace(" ", "_")
    folder = f"{clip.subject}/images/{stem}"
    if (raw.root / folder).is_dir():
        digits = 6 if (raw.root / folder / f"{stem}_000001.jpg").exists() else 5
        for frame in frames:
            name = f"{folder}/{stem}_{frame + 1:0{digits}d}.jpg"
            yield Photo(name=name, people=(), file=raw.root / name)
        return
    yield from video.frames(raw.root, f"{clip.subject}/Videos/{clip.file}.mp4", frames)


def _cdf(path: Path, width: int) -> Float[np.ndarray, "F 17 D"]:
    """The 17 joints of every frame."""
    cdflib = needed("cdflib")
    try:
        pose = np.asarray(cdflib.CDF(path).varget("Pose"), np.float64)
    except _DAMAGED as error:
        raise unreadable(path, error, "not a CDF file with a Pose, or damaged") from None
    if pose.ndim != 3 or pose.shape[::2] != (1, 32 * width) or not pose.shape[1]:
        raise RunError(f"{path}: Pose has shape {pose.shape}, expected (1, frames, {32 * width})")
    return pose.reshape(-1, 32, width)[:, JOINTS]


def _mosh(raw: Raw, clip: H36MClip) -> tuple[np.ndarray, np.ndarray] | None:
    """Poses (axis-angle) of every fifth frame and the shape, in the camera frame except for the root's half turn."""
    path = _mosh_file(raw, clip)
    if path is None:
        return None
    with raw_file(path):
        table = read_pickle(path)
    try:
        poses, betas = (np.asarray(table[key], np.float32) for key in ("new_poses", "betas"))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise RunError(f"{path}: new_poses and betas are not arrays of numbers ({error!r})") from None
    if poses.ndim != 2 or poses.shape[1] != SMPL_KIND.pose_numbers or betas.size < SMPL_KIND.num_betas:
        expected = f"(frames, {SMPL_KIND.pose_numbers}) and ({SMPL_KIND.num_betas},)"
        raise RunError(f"{path}: new_poses has shape {poses.shape} and betas {betas.shape}, expected {expected}")
    return poses, betas.ravel()[: SMPL_KIND.num_betas]


def _mosh_folders(raw: Raw) -> tuple[Path, ...]:
    return raw.root / "mosh", raw.root / "h36m_mosh", raw.root.parent / "h36m_mosh"


def _mosh_file(raw: Raw, clip: H36MClip) -> Path | None:
    file = f"{clip.subject}/{clip.action}_cam{CAMERAS.index(clip.camera)}_aligned.pkl"
    return next((folder / file for folder in _mosh_folders(raw) if (folder / file).exists()), None)


def _upright(pose: Float[np.ndarray, " P"]) -> Float[np.ndarray, "R 3"]:
    """MoSh's pose with its root multiplied by a half turn from the right, as HMR's author specifies."""
    out = pose.reshape(SMPL_KIND.num_joints, 3).copy()
    out[0] = rotvec(rotmat(pose[:3]) @ X_HALF_TURN)
    return out


def _intrinsics(path: Path) -> dict[str, tuple[float, ...]]:
    """Read fx, fy, cx, cy of each camera. `w0` has 6 numbers per camera and subject, then 9 per camera."""
    words = (read_xml(path).findtext("w0") or "").strip().strip("[]").split()
    try:
        numbers = [float(word) for word in words]
    except ValueError as error:
        raise RunError(f"{path}: {error}") from None
    first = NUM_SUBJECTS * len(CAMERAS) * EXTRINSICS
    if len(numbers) != first + len(CAMERAS) * INTRINSICS:
        raise RunError(f"{path}: w0 has {len(numbers)} numbers, expected {first + len(CAMERAS) * INTRINSICS}")
    starts = range(first, len(numbers), INTRINSICS)
    return {camera: tuple(numbers[start : start + 4]) for camera, start in zip(CAMERAS, starts, strict=True)}


TREE = """
  metadata.xml                                             camera intrinsics; without it they are zeros
  S1/MyPoseFeatures/D2_Positions/Directions 1.54138969.cdf
  S1/MyPoseFeatures/D3_Positions_mono/Directions 1.54138969.cdf
  S1/MySegmentsMat/ground_truth_bs/Directions 1.54138969.mat            or ground_truth_bb
  S1/Videos/Directions 1.54138969.mp4
  or, extracted:
  S1/images/S1_Directions_1.54138969/S1_Directions_1.54138969_000001.jpg
  optional:
  mosh/S1/Directions 1_cam0_aligned.pkl                    or h36m_mosh, in this folder or next to it"""

CONVERTERS = (
    Converter(
        name="h36m",
        title="Human3.6M",
        licence="academic, non-commercial",
        skeleton="h36m",
        splits=tuple(SUBJECTS),
        plan=plan,
        tree=TREE,
        traps=(
            "test_p1 is S9 and S11 with all four cameras; test_p2 is S9 and S11 with camera 60457274 only",
            "every fifth frame is kept; image numbers start at 1, so frame 0 is image 000001",
            "images extracted by SPIN's script seem to be one frame late: extract them again or provide the videos",
            "MoSh has one pose per fifth frame; only files named _aligned are in the camera frame",
            "MoSh's translation is not read and is zero; clips without MoSh have no body",
            "bounding boxes are the boxes of the masks, scaled by 0.9",
            "2D joints and images are distorted by the lens, a few pixels at the image's edge; the intrinsics are"
            " without it",
        ),
        study="if there is MoSh, clips without it are left out",
        benchmarks=("test_p1", "test_p2"),
        known={"train": 312188},
    ),
)
