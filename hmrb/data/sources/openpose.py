"""MTP and PROX: images with OpenPose keypoints and SMPL-X fits.

MTP: Müller, Osman, Tang, Huang, Black: On Self-Contact and Human Pose, CVPR 2021. https://tuch.is.tue.mpg.de/
PROX: Hassan, Choutas, Tzionas, Black: Resolving 3D Human Pose Ambiguities with 3D Scene Constraints, ICCV 2019.
https://prox.is.tue.mpg.de/

All values of an SMPL-X fit are stored unchanged under smplx/. MTP's fits are in a frame that smplx/camera_rotation and
smplx/camera_translation transform to the camera frame; PROX's fits are in the camera frame. MTP's SMPL fits have no
translation: `transl` is zero.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND
from hmrb.data.convert.annotated import read_json
from hmrb.data.convert.boxes import box_around, rotmat, rotvec
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.people import counted
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.reasons import NO_SMPLX, NOBODY_DETECTED
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import visible
from hmrb.formats.inside import inside
from hmrb.formats.pickles import read_pickle
from hmrb.formats.pictures import UnreadablePicture, read_pixels
from hmrb.records import Person, Photo

SURE = 0.15  # detections above this confidence get confidence 1, as in the study
KINDS = ("keypoints/openpose", "smplify-xmc/smpl/params", "smplify-xmc/smplx/params")
NEEDED_BY_MTP = {"camera_rotation": 9, "global_orient": 3}
FITS = ("PROXD", "fittings/PROXD", "fittings", "PROX")
Points = Float[np.ndarray, "25 3"]
Shapes = dict[str, int]


def plan_mtp(raw: Raw) -> list[SplitPlan]:
    """Plan train and val by the release's list; the image folders are searched once."""
    path = raw.need("train_val_split.json", "mtp/train_val_split.json")
    folder, lists = path.parent, read_json(path)
    found = {file.stem: file.relative_to(folder).as_posix() for file in visible((folder / "images").rglob("*.*"))}
    meta = read_json(folder / "subject_meta.json") if (folder / "subject_meta.json").exists() else {}
    parts = []
    for split in ("train", "val"):
        ids = lists.get(split, []) if isinstance(lists, Mapping) else []
        if ids and raw.wants(split):
            items = [(found.get(key, _expected(path, key)), _gender(meta.get(key))) for key in ids]
            fits = [inside(folder, _beside(name, KINDS[2], ".pkl")) for name, _ in items]
            shapes = NEEDED_BY_MTP | _shapes(next(filter(Path.exists, fits), None))
            if raw.compat and not all(map(Path.exists, fits)):
                shapes = {}  # the study reads no SMPL-X
            parts.append(SplitPlan(split, items, partial(read_mtp, folder, shapes, raw.compat)))
    if not parts:
        raise RunError(f"{path}: contains neither train nor val; download it again")
    return parts


def read_mtp(folder: Path, shapes: Shapes, compat: bool, item: tuple[str, str]) -> Iterator[Photo]:
    """Read one image with the detected person nearest its centre, who is the fitted one."""
    name, gender = item
    file = inside(folder, name)
    keypoints, smpl, smplx = (
        inside(folder, _beside(name, kind, end)) for kind, end in zip(KINDS, (".json", ".pkl", ".pkl"), strict=True)
    )
    people = _detected(keypoints)
    if not people:
        yield from counted(name, {NOBODY_DETECTED: 1})
        return
    fit, extra = _pickle(smpl), _fit(smplx, shapes) if shapes else {}
    pose = _numbers(fit, "pose", SMPL_KIND.pose_numbers, smpl).reshape(SMPL_KIND.num_joints, 3).copy()
    if not compat:
        pose[0] = rotvec(extra["camera_rotation"].reshape(3, 3) @ rotmat(extra["global_orient"]))
    points = people[0] if compat or len(people) == 1 else _nearest(people, file)
    yield Photo(
        name=name,
        file=file,
        people=(
            Person(
                box=box_around(points, seen=points[:, 2] > 0),
                keypoints2d=_confident(points),
                pose=pose,
                betas=_numbers(fit, "betas", SMPL_KIND.num_betas, smpl),
                has_body=True,
                gender=gender,
                columns={"part": name.split("/")[-2]},
                extra={f"smplx/{key}": value for key, value in extra.items()},
            ),
        ),
    )


def plan_prox(raw: Raw) -> list[SplitPlan]:
    """Plan one item per recording. Without a folder of fits there are only keypoints."""
    folders = sorted(path for path in raw.need("recordings").iterdir() if (path / "Color").is_dir())
    if not folders:
        raise RequestError(f"{raw.root / 'recordings'}: contains no recording with a folder Color")
    fits = next((path for name in FITS if any((path := raw.root / name).glob("*/results"))), None)
    results = (visible((fits / path.name / "results").glob("*/000.pkl")) for path in folders) if fits else ()
    shapes = _shapes(next((found[0] for found in results if found), None))
    items = [path.name for path in folders]
    photos_each = max(sum(len(list((path / "Color").iterdir())) for path in folders[:3]) // len(folders[:3]), 1)
    return [SplitPlan("train", items, partial(read_prox, raw.root, fits, shapes, raw.compat), photos_each)]


def read_prox(root: Path, fits: Path | None, shapes: Shapes, compat: bool, recording: str) -> Iterator[Photo]:
    """Read the frames of a recording with a detected person; frames without a fit keep their keypoints."""
    left_out: Counter[str] = Counter()
    for file in visible((root / "recordings" / recording / "Color").iterdir()):
        detections = root / "keypoints" / recording / f"{file.stem}_keypoints.json"
        people = _detected(detections) if detections.exists() else []
        if not people:
            left_out[NOBODY_DETECTED] += 1
            continue
        fit = fits / recording / "results" / file.stem / "000.pkl" if fits else None
        has_fit = fit is not None and fit.exists()
        if compat and fits and not has_fit:
            left_out[NO_SMPLX] += 1
            continue
        extra = _fit(fit, shapes) if fit and has_fit else {key: np.zeros(size) for key, size in shapes.items()}
        person = Person(
            box=box_around(people[0], seen=people[0][:, 2] > 0),
            keypoints2d=_confident(people[0]),
            columns={"sequence": recording, "scene": recording.split("_")[0], "has_smplx": float(has_fit)},
            extra={f"smplx/{key}": value for key, value in extra.items()},
        )
        yield Photo(name=file.relative_to(root).as_posix(), file=file, people=(person,), mirrored=not compat)
    yield from counted(recording, left_out)


def _detected(path: Path) -> list[Points]:
    """OpenPose's people with at least one detected point."""
    try:
        found = [np.asarray(one["pose_keypoints_2d"], np.float32).reshape(25, 3) for one in read_json(path)["people"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path}: not a list of people with OpenPose's 25 keypoints ({error})") from None
    return [points for points in found if (points[:, 2] > 0).any()]


def _confident(points: Points) -> Points:
    kept = points.copy()
    kept[kept[:, 2] > SURE, 2] = 1
    kept[kept[:, 2] <= 0] = 0
    return kept


def _nearest(people: list[Points], file: Path) -> Points:
    """The person whose mean detected point is nearest the image centre."""
    try:
        picture = read_pixels(file)
    except UnreadablePicture:
        return people[0]  # packing reports it
    middle = np.array(picture.shape[1::-1]) / 2 - 0.5
    away = [np.linalg.norm(points[points[:, 2] > 0, :2].mean(0) - middle) for points in people]
    return people[int(np.argmin(away))]


def _expected(path: Path, key: Any) -> str:
    """Expected path of the image with an id of the list; the part is the id's second component."""
    pieces = str(key).split("_")
    if len(pieces) < 2:
        raise RunError(f"{path}: '{key}' is not an image id; its second component must name the part")
    return f"images/{pieces[1]}/{key}.png"


def _beside(name: str, kind: str, end: str) -> str:
    """Path of the file of another kind that belongs to an image."""
    return f"{kind}/{name.removeprefix('images/').rpartition('.')[0]}{end}"


def _gender(meta: Any) -> str:
    word = str(meta.get("SubjectGender", "")).lower() if isinstance(meta, Mapping) else ""
    return word if word in ("male", "female") else "neutral"


def _shapes(path: Path | None) -> Shapes:
    """Names and sizes of the numeric values in the first fit; all fits should have the same."""
    content = _pickle(path) if path else {}
    arrays = {key: np.asarray(value) for key, value in sorted(content.items()) if value is not None}
    return {key: array.size for key, array in arrays.items() if array.dtype.kind in "fiu"}


def _fit(path: Path, shapes: Shapes) -> dict[str, np.ndarray]:
    content = _pickle(path)
    return {key: _numbers(content, key, size, path) for key, size in shapes.items()}


def _pickle(path: Path) -> Any:
    with raw_file(path):
        return read_pickle(path)


def _numbers(content: Any, key: str, size: int, path: Path) -> Float[np.ndarray, " N"]:
    try:
        numbers = np.asarray(content[key], np.float32).ravel()
    except (KeyError, TypeError, ValueError):
        raise RunError(f"{path}: missing {key}; download it again") from None
    if numbers.shape != (size,) or not np.isfinite(numbers).all():
        raise RunError(f"{path}: {key} must have {size} finite numbers, but has {numbers.size}; download it again")
    return numbers


CONVERTERS = (
    Converter(
        name="mtp",
        title="MTP",
        licence="non-commercial research",
        skeleton="prox",
        splits=("train", "val"),
        plan=plan_mtp,
        tree=(
            "DIR/\n"
            "  train_val_split.json   subject_meta.json (genders; optional)\n"
            "  images/<part>/<id>.png\n"
            "  keypoints/openpose/<part>/<id>.json\n"
            "  smplify-xmc/smpl/params/<part>/<id>.pkl   smplify-xmc/smplx/params/<part>/<id>.pkl"
        ),
        traps=(
            "The SMPL fit's root is not in the camera frame: it is computed from the SMPL-X fit and its camera.",
            "OpenPose also detects other people: the person nearest the image centre is the fitted one.",
            "OpenPose's hips, neck and mid-hip are mapped to the annotated points of the same names.",
        ),
        study="the root is the SMPL fit's, and the person is the first in OpenPose's list; SMPL-X fits are stored only"
        " if everybody has one",
        study_fails=("upright", "projection"),
        benchmarks=("val",),
    ),
    Converter(
        name="prox",
        title="PROX",
        licence="non-commercial research",
        skeleton="prox",
        splits=("train",),
        plan=plan_prox,
        tree=(
            "DIR/\n"
            "  recordings/<recording>/Color/<frame>.jpg\n"
            "  keypoints/<recording>/<frame>_keypoints.json\n"
            "  PROXD/<recording>/results/<frame>/000.pkl   (or fittings/; optional)"
        ),
        traps=(
            "The images on disk are mirrored, keypoints and fits are not: images are mirrored back during packing.",
            "Fits are SMPL-X: they are stored as extra, and there is no SMPL body. Hands are 12 PCA coefficients.",
            "Frames without a fit have zeros instead; column has_smplx marks the frames with a fit.",
            "Recordings have 30 frames per second: --every 30 keeps one per second.",
        ),
        study="images stay mirrored relative to their labels; if there are fits, frames without one are left out",
        study_fails=("picture_fits",),
    ),
)
