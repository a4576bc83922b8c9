"""MPI-INF-3DHP: annot.mat of cells, images extracted in two layouts or videos; test sequences in HDF5."""

from pathlib import Path

import h5py
import numpy as np
import scipy.io

from raw.h36m import save_video
from raw.people import Someone, draw, save, someone

SIZE = (160, 120)
FRAMES = 12
CAMERAS = (0, 1, 2, 4, 5, 6, 7, 8)
OUTSIDE = 3  # frame in which a hand is outside the image
SHORT = (4, 11)  # a camera, and the number of images that it has
UNIVERSAL = 1.1  # height of the normalised skeleton relative to the person's


def cast(seed: int, count: int = FRAMES) -> list[Someone]:
    """The person of each frame, the same for every camera."""
    return [someone(seed + frame, SIZE, 150.0) for frame in range(count)]


def write(root: Path, sequence: str = "S1/Seq1", seed: int = 0, *, layout: str = "study") -> list[Someone]:
    """Write a training sequence; returns its people. `layout` of the images: study, spin or avi."""
    people = cast(seed)
    two = np.stack([person.points2d("mpi_inf_3dhp") for person in people])
    two[OUTSIDE, 17] = (-0.5, 10)
    three = np.stack([1000 * person.points3d("mpi_inf_3dhp") for person in people])
    cells = {name: np.empty((14, 1), object) for name in ("annot2", "annot3", "univ_annot3")}
    for camera in range(14):
        cells["annot2"][camera, 0] = two.reshape(FRAMES, 56)
        cells["annot3"][camera, 0] = three.reshape(FRAMES, 84)
        cells["univ_annot3"][camera, 0] = UNIVERSAL * three.reshape(FRAMES, 84)
    folder = root / sequence
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "annot.mat", cells, do_compression=True)
    (folder / "camera.calibration").write_text(_calibration())
    pictures = [draw([person], SIZE, seed + frame) for frame, person in enumerate(people)]
    for camera in CAMERAS:
        here = pictures[: SHORT[1] if camera == SHORT[0] else None]
        if layout == "avi":
            save_video(folder / "imageSequence" / f"video_{camera}.avi", here, "MJPG")
            continue
        for number, picture in enumerate(here, 1):
            study, spin = f"video_{camera}/{number:06d}.jpg", f"imageFrames/video_{camera}/frame_{number:06d}.jpg"
            save(folder / (study if layout == "study" else spin), picture)
    return people


def kept(sequences: int) -> list[tuple[int, int, int]]:
    """Sequence, camera and frame of the selected frames, counted one by one."""
    chosen, inside = [], 0
    for sequence in range(sequences):
        for camera in CAMERAS:
            for frame in range(SHORT[1] if camera == SHORT[0] else FRAMES):
                if frame == OUTSIDE:
                    continue
                if inside % 10 == 0:
                    chosen.append((sequence, camera, frame))
                inside += 1
    return chosen


def write_test(root: Path, sequence: str, seed: int, frames: int = 5, invalid: int = 1) -> list[Someone]:
    """Write a test sequence with one invalid frame; returns its people."""
    people = cast(seed, frames)
    folder = root / "mpi_inf_3dhp_test_set" / sequence
    folder.mkdir(parents=True)
    two = np.stack([person.points2d("mpi_inf_3dhp_test") for person in people])
    two[2, 4] = (2100.0, 50.0)  # a wrist far outside
    three = np.stack([1000 * person.points3d("mpi_inf_3dhp_test") for person in people])
    valid = np.ones((frames, 1))
    valid[invalid] = 0
    with h5py.File(folder / "annot_data.mat", "w") as file:
        file["annot2"], file["annot3"] = two[:, None], three[:, None]
        file["univ_annot3"], file["valid_frame"] = UNIVERSAL * three[:, None], valid
        file["activity_annotation"] = np.full((frames, 1), 3.0)
    for number, person in enumerate(people, 1):
        save(folder / "imageSequence" / f"img_{number:06d}.jpg", draw([person], SIZE, number))
    return people


def _calibration() -> str:
    lines, middle = ["Skeletool Camera Calibration File V1.0"], (SIZE[0] / 2 - 0.5, SIZE[1] / 2 - 0.25)
    for camera in range(14):
        lines += [
            f"name          {camera}", "  sensor      10 10", f"  size        {SIZE[0]} {SIZE[1]}", "  animated    0",
            f"  intrinsic   {150 + camera / 8} 0 {middle[0]} 0 0 150.25 {middle[1]} 0 0 0 1 0 0 0 0 1",  # the cast's
            "  extrinsic   1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1", "  radial      0",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_all(root: Path) -> None:
    """Write two training sequences, one in each layout, and three test sequences."""
    write(root, "S1/Seq1", 0)
    write(root, "S2/Seq2", 100, layout="spin")
    for number in range(3):
        write_test(root, f"TS{number + 1}", 200 + 10 * number)


TREES = {"mpi_inf_3dhp": write_all}
