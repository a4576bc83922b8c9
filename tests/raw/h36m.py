"""Human3.6M: CDF files of joints, HDF5 files of masks, videos or extracted images, MoSh's pickles."""

from pathlib import Path

import cdflib.cdfwrite
import cv2
import h5py
import numpy as np

from hmrb.data.convert.boxes import X_HALF_TURN, rotmat, rotvec
from raw.people import Someone, draw, save, someone
from raw.pickled import save_python2

SIZE, FOCAL = (200, 202), 250.0
FRAMES = 11  # three of them are kept
JOINTS = [11, 6, 7, 8, 1, 2, 3, 12, 24, 14, 15, 17, 18, 19, 25, 26, 27]
CAMERAS = ("54138969", "55011271", "58860488", "60457274")
DOUBLE = 45  # CDF's type code
MARGIN = 5  # pixels of mask around the joints


def cast(seed: int, frames: int = FRAMES) -> list[Someone]:
    """The person of each frame, with a constant shape; five consecutive frames are equal."""
    kept = [someone(seed, SIZE, FOCAL, at=(0.45 + 0.01 * f, 0.5), yaw_deg=8 * f) for f in range(0, frames, 5)]
    return [kept[frame // 5] for frame in range(frames)]


def write(
    root: Path, subject: str, action: str, camera: str, seed: int = 0, *,
    videos: bool = False, mosh: bool = True, masks: str = "bs", digits: int = 6,
) -> list[Someone]:  # fmt: skip
    """Write one clip; returns its people."""
    people = cast(seed)
    file = f"{action}.{camera}"
    features = root / subject / "MyPoseFeatures"
    save_cdf(features / "D2_Positions" / f"{file}.cdf", _raw([p.points2d("h36m") for p in people]))
    save_cdf(features / "D3_Positions_mono" / f"{file}.cdf", _raw([1000 * p.points3d("h36m") for p in people]))
    save_masks(root / subject / "MySegmentsMat" / f"ground_truth_{masks}" / f"{file}.mat", people)
    if videos:
        pictures = [draw([person], SIZE, seed + frame) for frame, person in enumerate(people)]
        save_video(root / subject / "Videos" / f"{file}.mp4", pictures)
    else:
        stem = f"{subject}_{file}".replace(" ", "_")
        for frame in range(0, FRAMES, 5):
            picture = draw([people[frame]], SIZE, seed + frame)
            save(root / subject / "images" / stem / f"{stem}_{frame + 1:0{digits}d}.jpg", picture)
    if mosh:
        table = {
            "new_poses": np.stack([_mosh_pose(person) for person in people[::5]]),
            "betas": people[0].betas.astype(np.float64),
        }
        name = f"{action}_cam{CAMERAS.index(camera)}_aligned.pkl"
        save_python2(root / "h36m_mosh" / subject / name, table)
    return people


def save_cdf(path: Path, pose: np.ndarray) -> None:
    """(F, N) numbers as the variable Pose, one record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = cdflib.cdfwrite.CDF(path, delete=True)
    variable = {
        "Variable": "Pose", "Data_Type": DOUBLE, "Num_Elements": 1, "Rec_Vary": True,
        "Dim_Sizes": list(pose.shape), "Dim_Vary": [True, True], "Compress": 6,
    }  # fmt: skip
    file.write_var(variable, var_data=pose[None])
    file.close()


def save_masks(path: Path, people: list[Someone]) -> None:
    """v7.3: references to images of 0 and 1 with reversed axes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        cells = file.create_dataset("Masks", (len(people), 1), h5py.ref_dtype)
        for frame, person in enumerate(people):
            mask = np.zeros((SIZE[1], SIZE[0]), np.uint8)
            (left, top), (right, bottom) = mask_corners(person)
            mask[top:bottom, left:right] = 1
            cells[frame, 0] = file.create_dataset(f"#refs#/{frame:04d}", data=mask.T, compression="gzip").ref


def mask_corners(person: Someone) -> tuple[tuple[int, int], tuple[int, int]]:
    """First pixel of the mask, and the pixel after the last."""
    low = (person.pixels[:24].min(0) - MARGIN).clip(0, None).astype(int)
    high = (person.pixels[:24].max(0) + MARGIN).clip(None, SIZE).astype(int)
    return (int(low[0]), int(low[1])), (int(high[0]), int(high[1]))


def save_video(path: Path, pictures: list[np.ndarray], code: str = "mp4v") -> None:
    """Write RGB images as a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pictures[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 25, (width, height))
    assert writer.isOpened()
    for picture in pictures:
        writer.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    writer.release()


def write_metadata(path: Path, head: str = "") -> None:
    """w0: 264 numbers of camera extrinsics, then 9 for each camera."""
    numbers = [0.0] * 264
    for camera in range(4):
        center = SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.5 + camera / 4
        numbers += [FOCAL + camera / 4, FOCAL - 0.25, *center, 0, 0, 0, 0, 0]  # about the cast's
    words = " ".join(map(str, numbers))
    path.write_text(f'<?xml version="1.0"?>{head}<metadata><w0>[{words}]</w0></metadata>')


def _raw(points: list[np.ndarray]) -> np.ndarray:
    """17 joints at their indices among 32, the others at 0: (F, 32 * D)."""
    out = np.zeros((len(points), 32, points[0].shape[1]))
    out[:, JOINTS] = np.stack(points)
    return out.reshape(len(points), -1)


def _mosh_pose(person: Someone) -> np.ndarray:
    """The root in MoSh's frame, which the reader's half turn restores."""
    return np.concatenate([rotvec(rotmat(person.pose[0]) @ X_HALF_TURN.T), person.pose[1:].ravel()])


def write_all(root: Path) -> None:
    """Write train and test subjects, four test cameras, a clip without MoSh and the file of all clips."""
    root.mkdir(parents=True, exist_ok=True)
    write_metadata(root / "metadata.xml")
    for seed, camera in enumerate(CAMERAS):
        write(root, "S1", "Directions 1", camera, seed)
        write(root, "S9", "WalkDog 1", camera, 100 + seed)
    write(root, "S5", "Photo", FRONT, 10, mosh=False)
    write(root, "S11", "Walking 1", FRONT, 200)
    for number in range(3):
        write(root, "S11", f"Posing {number}", FRONT, 300 + number)
    write(root, "S1", "_ALL", FRONT, 4)


def write_one(root: Path) -> None:
    """Write one clip with all that belongs to it."""
    root.mkdir(parents=True, exist_ok=True)
    write_metadata(root / "metadata.xml")
    write(root, "S1", "Directions 1", FRONT)


FRONT = CAMERAS[3]
TREES = {"h36m": write_all}
