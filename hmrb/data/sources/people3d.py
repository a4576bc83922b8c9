"""3DPeople: rendered clothed people, 80 characters performing 70 actions in front of four cameras.

Pumarola et al., 3DPeople: modeling the geometry of dressed humans, ICCV 2019, https://cv.iri.upc-csic.es/.
The 3D points are in the world frame, in decimetres, and the text files have no camera. The camera is estimated: a
frame's 67 2D points are projections of its 67 3D points, with focal length FOCAL_PX and the principal point at the
image centre (both from posepile, https://github.com/isarandi/posepile), so only the 6 pose parameters are fitted.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import Float

from hmrb.data.convert.boxes import box_around, with_confidence
from hmrb.data.convert.conversion import Converter, Raw, SplitPlan
from hmrb.data.convert.raw import unreadable
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import visible
from hmrb.formats.inside import inside
from hmrb.records import Person, Photo

POINTS = 67
METRES = 0.1  # per file unit
FOCAL_PX = 700.0
SIZE = (640, 480)
MIDDLE_PX = (SIZE[0] / 2, SIZE[1] / 2)
# Largest mean error of an accepted camera. Measured on 60 posed bodies at 3.6 and 5 metres: at most 0.41 if pixels are
# rounded to integers, at most 0.34 if the focal length is 5 % off, and at least 0.94 if the world is mirrored.
WORST_PX = 0.8
LAST_TRAINED = 33  # characters 01 to 33 of each sex are the training set
GENDERS = {"woman": "female", "man": "male"}


def plan(raw: Raw) -> list[SplitPlan]:
    """Plan one item per character, action and camera. Raises RequestError if no camera fits the first item."""
    folders = [path.relative_to(raw.root).as_posix() for path in raw.some("rgb/*/*/camera*")]
    is_train = [int(_character(folder)[1]) <= LAST_TRAINED or raw.compat for folder in folders]
    if not raw.compat:
        _check(raw, folders[0])
    parts = {
        split: [folder for folder, train in zip(folders, is_train, strict=True) if train == (split == "train")]
        for split in ("train", "test")
    }
    return [SplitPlan(split, items, partial(read, raw.root, raw.compat)) for split, items in parts.items() if items]


def read(root: Path, compat: bool, folder: str) -> Iterator[Photo]:
    """Read the frames of one camera. Frames that no camera fits have no 3D points."""
    _, character, action, camera = folder.split("/")
    sex, _ = _character(folder)
    for path in visible((root / folder).glob("*/*.jpg")):
        pixels, world = _skeleton(root, folder, path)
        placed, error = _in_camera(pixels, world)
        is_placed = error <= WORST_PX and not compat
        person = Person(
            box=box_around(pixels),
            keypoints2d=with_confidence(pixels),
            keypoints3d=with_confidence(placed, 1.0 if is_placed else 0.0),
            gender=GENDERS[sex],
            columns={
                "sequence": f"{character}/{action}/{camera}", "character": character, "action": action,
                "camera": camera, "camera_error_px": error,
            },
        )  # fmt: skip
        yield Photo(name=path.relative_to(root).as_posix(), people=(person,), file=path, stated_px=SIZE)


def _in_camera(
    pixels: Float[np.ndarray, "K 2"], world: Float[np.ndarray, "K 3"]
) -> tuple[Float[np.ndarray, "K 3"], float]:
    """Fit the camera; returns the points in its frame and the mean reprojection error in pixels."""
    matrix = np.array([[FOCAL_PX, 0, MIDDLE_PX[0]], [0, FOCAL_PX, MIDDLE_PX[1]], [0, 0, 1]])
    middle = world.mean(0)  # centre the points for numerical precision
    found, rotvec, shift = cv2.solvePnP(world - middle, pixels, matrix, None, flags=cv2.SOLVEPNP_SQPNP)
    if not found:
        return np.zeros_like(world), np.inf
    rotvec, shift = cv2.solvePnPRefineLM(world - middle, pixels, matrix, None, rotvec, shift)
    placed = (world - middle) @ cv2.Rodrigues(rotvec)[0].T + shift.ravel()
    projected = FOCAL_PX * placed[:, :2] / placed[:, 2:] + MIDDLE_PX
    return placed, float(np.linalg.norm(projected - pixels, axis=1).mean())


def _skeleton(root: Path, folder: str, picture: Path) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K 3"]]:
    """Pixels (a row's first two numbers) and world coordinates in metres (its last three)."""
    path = inside(root, f"skeleton/{folder.partition('/')[2]}/{picture.stem}.txt")
    try:
        rows = np.array(path.read_text().split(), np.float64).reshape(POINTS, -1)
    except (OSError, ValueError) as error:
        raise unreadable(path, error, f"not {POINTS} rows of numbers") from None
    if rows.shape[1] < 5 or not np.isfinite(rows).all():
        raise RunError(f"{path}: not {POINTS} rows of two pixel and three 3D coordinates")
    return np.ascontiguousarray(rows[:, :2]), METRES * rows[:, -3:]


def _check(raw: Raw, folder: str) -> None:
    """Check one frame's labels before a conversion that takes hours. Raises RequestError if no camera fits."""
    picture = raw.some(f"{folder}/*/*.jpg")[0]
    _, error = _in_camera(*_skeleton(raw.root, folder, picture))
    if error > WORST_PX:
        raise RunError(
            f"{raw.root}/skeleton: in {folder} the first two columns are not a projection of the last three:"
            f" {error:.1f} pixels off with a focal length of {FOCAL_PX:.0f}. --compat study ignores 3D points"
        )


def _character(folder: str) -> tuple[str, str]:
    """The sex and the number in a character's name."""
    name = folder.split("/")[1]
    sex = name.rstrip("0123456789")
    if sex not in GENDERS or sex == name:
        raise RequestError(f"{folder}: a character's name is like woman01 or man01, not {name}")
    return sex, name[len(sex) :]


CONVERTERS = (
    Converter(
        name="3dpeople",
        title="3DPeople",
        licence="research",
        skeleton="people3d",
        splits=("train", "test"),
        plan=plan,
        tree=(
            "rgb/woman01/01_01_jump/camera01/<folder>/0001.jpg ...\n"
            "skeleton/woman01/01_01_jump/camera01/0001.txt ...   67 rows: x, y in pixels first, x, y, z last"
        ),
        traps=(
            "there are two million frames: use --every 10 or similar",
            "raw 3D is in the world frame, in decimetres; a camera is fitted to each frame, columns/camera_error_px has"
            " its error, and frames with an error above 0.8 pixels have no 3D points",
            "left, right and head points follow the official list; posepile, an independent reader, swaps the legs and"
            " names rows 7 to 9 right eye, left eye, head top: check the contact sheet",
            "characters 34 to 40 of each sex are the test set",
        ),
        study="test characters are trained on; there are no 3D points, because the study's converter gives them"
        " confidence 0",
        benchmarks=("test",),
    ),
)
