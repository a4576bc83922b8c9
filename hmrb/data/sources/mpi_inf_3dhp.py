"""MPI-INF-3DHP: actors in front of a green screen, 8 of 14 cameras used; the test set is indoors and outdoors.

Mehta, Rhodin, Casas, Fua, Sotnychenko, Xu and Theobalt: Monocular 3D Human Pose Estimation In The Wild Using Improved
CNN Supervision, 3DV 2017. http://gvv.mpi-inf.mpg.de/3dhp-dataset/
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from hmrb.data.convert.boxes import box_around, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.reasons import NO_FRAME, NOT_INSIDE_TEST, NOT_VALID, OUTSIDE_3DHP
from hmrb.errors import RequestError, RunError
from hmrb.formats import video
from hmrb.formats.files import visible
from hmrb.formats.matlab import open_mat73, read_mat
from hmrb.records import Person, Photo
from hmrb.skeleton import remap

CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)  # at about chest height
EVERY = 10  # frames with all joints inside the image, counted through the whole set
SIDE_PX = 2048  # of training images; the study applies this limit to test images too
MISSING = (0.0,) * 4


@dataclass(frozen=True, slots=True)
class MpiInf3dhpClip:
    """A camera's frames of a sequence such as S1/Seq1, with fx, fy, cx, cy in pixels (zeros if unknown)."""

    sequence: str
    camera: int
    frames: Int[np.ndarray, " N"]
    intrinsics: tuple[float, ...] = MISSING


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan train with one item per sequence and camera, and test with one item per sequence."""
    tests = _numbered(raw.root.glob("mpi_inf_3dhp_test_set/TS*/annot_data.mat")) or _numbered(
        raw.root.glob("TS*/annot_data.mat")
    )
    sequences = _numbered(raw.root.glob("S*/Seq*/annot.mat")) if raw.wants("train") else []
    left_out: Counter[str] = Counter()
    clips = _clips(raw, sequences, left_out)
    parts = [SplitPlan("train", clips, partial(read, raw), photos_each=750, left_out=left_out)] if clips else []
    parts += [SplitPlan("test", tests, partial(read_test, raw), photos_each=500)] if tests and raw.wants("test") else []
    if not parts:
        raw.some("S*/Seq*/annot.mat")
        raise RequestError(f"{raw.root}: has annot.mat, but no images or videos of any camera{raw.advice}")
    return parts


def read(raw: Raw, clip: MpiInf3dhpClip) -> Iterator[Photo]:
    """Read the selected frames of a clip."""
    pixels, points = _annotations(raw.root / clip.sequence / "annot.mat")
    two, three = (_joints(cells, clip.camera) for cells in (pixels, points))
    for frame, photo in zip(clip.frames, pictures(raw, clip), strict=True):
        person = Person(
            box=box_around(two[frame]),
            keypoints2d=with_confidence(two[frame]),
            keypoints3d=with_confidence(three[frame] / 1000),
            columns={"sequence": clip.sequence, "camera": float(clip.camera)},
            camera=np.array(clip.intrinsics, np.float32),
        )
        yield replace(photo, people=(person,))


def read_test(raw: Raw, path: Path) -> Iterator[Photo]:
    """Read the valid frames of a test sequence; 3D is the normalised skeleton, extra has the unnormalised one."""
    names = ("annot2", "annot3", "univ_annot3", "valid_frame")
    with open_mat73(path, *names) as file:
        two, three, universal, valid = (np.asarray(file[name], np.float64) for name in names)
        activity = np.ravel(file["activity_annotation"]) if "activity_annotation" in file else np.zeros(len(two))
    shapes = [array.shape for array in (two, three, universal)]
    frames = len(two)
    if shapes != [(frames, 1, 17, width) for width in (2, 3, 3)] or {valid.size, activity.size} != {frames}:
        raise RunError(f"{path}: annotations have shapes {shapes} and {valid.size} flags for {frames} frames")
    left_out = +Counter({NOT_VALID: int((np.ravel(valid) == 0).sum())})
    for frame in np.flatnonzero(np.ravel(valid)):
        pixels = two[frame, 0]
        if raw.compat and not _are_inside(pixels):
            left_out[NOT_INSIDE_TEST] += 1
            continue
        image = path.parent / "imageSequence" / f"img_{frame + 1:06d}.jpg"
        person = Person(
            box=box_around(pixels),
            keypoints2d=_rows28(with_confidence(pixels)),
            keypoints3d=_rows28(with_confidence(universal[frame, 0] / 1000)),
            columns={"sequence": path.parent.name, "activity": float(activity[frame])},
            extra={"mpi_inf_3dhp_test/annot3": (three[frame, 0] / 1000).astype(np.float32)},
        )
        yield Photo(name=image.relative_to(raw.root).as_posix(), people=(person,), file=image)
    yield from counted(path.parent.name, left_out)


def pictures(raw: Raw, clip: MpiInf3dhpClip) -> Iterator[Photo]:
    """A clip's frames as photos without people, from images extracted by the study or by SPIN, or from the video."""
    extracted = [layout for layout in _layouts(clip) if (raw.root / layout[0]).is_dir()]
    if not extracted and (raw.root / _video(clip)).exists():
        yield from video.frames(raw.root, _video(clip), clip.frames.tolist())
        return
    folder, pattern = (extracted or _layouts(clip))[0]
    for frame in clip.frames:
        name = f"{folder}/{pattern.format(frame + 1)}"
        yield Photo(name=name, people=(), file=raw.file(name))


def _video(clip: MpiInf3dhpClip) -> str:
    return f"{clip.sequence}/imageSequence/video_{clip.camera}.avi"


def _layouts(clip: MpiInf3dhpClip) -> tuple[tuple[str, str], ...]:
    """Folders of extracted images and their name patterns, numbered from 1."""
    return (
        (f"{clip.sequence}/video_{clip.camera}", "{:06d}.jpg"),
        (f"{clip.sequence}/imageFrames/video_{clip.camera}", "frame_{:06d}.jpg"),
    )


def _clips(raw: Raw, sequences: Sequence[Path], left_out: Counter[str]) -> list[MpiInf3dhpClip]:
    """Select every tenth frame with all joints inside the image, counting across clips in the order of their names."""
    clips, inside = [], 0
    for path in sequences:
        pixels, _ = _annotations(path)
        intrinsics = _intrinsics(path.with_name("camera.calibration"))
        for camera in CAMERAS:
            clip = MpiInf3dhpClip(path.parent.relative_to(raw.root).as_posix(), camera, np.zeros(0, np.int64))
            two = _joints(pixels, camera)
            # A few sequences lack their last frames.
            good = np.array([_are_inside(points) for points in two[: _count(raw, clip)]], bool)
            left_out += Counter({NO_FRAME: len(two) - len(good), OUTSIDE_3DHP: int((~good).sum())})
            frames = np.flatnonzero(good)[-inside % EVERY :: EVERY]
            inside += int(good.sum())
            if len(frames) and intrinsics and camera not in intrinsics:
                raise RunError(f"{path.with_name('camera.calibration')}: has no camera {camera}; download it again")
            if len(frames):
                clips.append(replace(clip, frames=frames, intrinsics=intrinsics.get(camera, MISSING)))
    return clips


def _count(raw: Raw, clip: MpiInf3dhpClip) -> int:
    """Number of the last frame for which an image exists; images in between may have been removed."""
    for folder, _ in _layouts(clip):
        if (raw.root / folder).is_dir():
            names = (re.search(r"(\d+)$", path.stem) for path in visible((raw.root / folder).glob("*.jpg")))
            return max((int(found[1]) for found in names if found), default=0)
    path = raw.root / _video(clip)
    return video.count_frames(path) if path.exists() else 0


@lru_cache(maxsize=1)
def _annotations(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """2D cells (pixels) and 3D cells (mm, camera frame), one per camera; cached for consecutive clips of a sequence."""
    table = read_mat(path, "annot2", "annot3")
    cells = tuple(np.ravel(table[name]) for name in ("annot2", "annot3"))
    if any(len(part) <= max(CAMERAS) for part in cells):
        raise RunError(f"{path}: annotations have {[len(part) for part in cells]} cameras, expected 14")
    for camera in CAMERAS:
        shapes = [np.shape(part[camera]) for part in cells]
        if shapes != [(len(cells[0][camera]), 28 * width) for width in (2, 3)]:
            raise RunError(f"{path}: camera {camera} has shapes {shapes}, expected (frames, 56) and (frames, 84)")
    return cells[0], cells[1]


def _joints(cells: np.ndarray, camera: int) -> Float[np.ndarray, "F 28 D"]:
    return np.asarray(cells[camera], np.float64).reshape(len(cells[camera]), 28, -1)


def _are_inside(points: Float[np.ndarray, "K 2"]) -> bool:
    return bool(((points >= 0) & (points < SIDE_PX)).all())


def _rows28(points: Float[np.ndarray, "17 C"]) -> Float[np.ndarray, "28 C"]:
    """Map the test set's 17 points to the training set's 28, which include them."""
    return remap(points, "mpi_inf_3dhp_test", "mpi_inf_3dhp")


def _intrinsics(path: Path) -> dict[int, tuple[float, ...]]:
    """Read fx, fy, cx, cy of each camera from a calibration file; empty if there is no file."""
    if not path.exists():
        return {}
    found: dict[int, tuple[float, ...]] = {}
    camera = -1
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if words[:1] == ["name"]:
                camera = int(words[1])
            elif words[:1] == ["intrinsic"]:
                matrix = np.array([float(word) for word in words[1:]]).reshape(4, 4)
                found[camera] = tuple(matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist())
    except (ValueError, IndexError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: not a valid camera calibration ({error})") from None
    return found


def _numbered(paths: Iterator[Path]) -> list[Path]:
    """Sort paths by the numbers in their folder names."""
    return sorted(paths, key=lambda path: [int(n) for n in re.findall(r"\d+", "/".join(path.parts[-3:-1]))])


TREE = """
  S1/Seq1/annot.mat
  S1/Seq1/camera.calibration
  S1/Seq1/imageSequence/video_0.avi
  or, extracted:
  S1/Seq1/video_0/000001.jpg      or  S1/Seq1/imageFrames/video_0/frame_000001.jpg
  mpi_inf_3dhp_test_set/TS1/annot_data.mat
  mpi_inf_3dhp_test_set/TS1/imageSequence/img_000001.jpg"""

CONVERTERS = (
    Converter(
        name="mpi_inf_3dhp",
        title="MPI-INF-3DHP",
        licence="non-commercial research",
        skeleton="mpi_inf_3dhp",
        splits=("train", "test"),
        plan=plan,
        tree=TREE,
        traps=(
            "train uses cameras 0, 1, 2, 4 to 8 and every tenth frame with all joints inside the image, counted through"
            " the whole set in the order of names: if files are missing, different frames are selected",
            "images are numbered from 1, annotations from 0",
            "the test ground truth is univ_annot3, which has a normalised height and does not project onto the pixels;"
            " annot3, which does, is stored as extra/mpi_inf_3dhp_test/annot3",
            "test people have 17 of the 28 joints; the others have confidence 0",
            "there are no bodies; spin_mi has SPIN's fits",
        ),
        study="test frames with joints outside 2048 x 2048 pixels are left out",
        benchmarks=("test",),
        known={"test": 2929},
    ),
)
