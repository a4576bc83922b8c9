"""Refuses predictions that are of another unit or format than their shape says, which would only score badly."""

from pathlib import Path

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import BodyKind
from hmrb.errors import RequestError
from hmrb.skeleton import SKELETONS

OFF_ORTHONORMAL = 1e-2  # of an entry of R^T R; rounding a rotation to bfloat16 changes it by at most 0.004
WHOLE_TURN = 2 * np.pi
SHARE_OF_TURNS = 0.1  # of rotations beyond a whole turn: fits have next to none, poses in degrees most of them
LARGEST_BETA = 50.0  # standard deviations of people's shapes
METRES = (0.25, 4.0)  # diagonal of the box around a person's points: a crouching infant, an adult with arms raised
PERSON_M = 1.5
UNITS = {10.0: "decimetres", 100.0: "centimetres", 1000.0: "millimetres"}


def check_rotations(path: Path, rotmats: Float[np.ndarray, "N R 3 3"], kind: BodyKind) -> None:
    """Raises RequestError unless every matrix is a rotation."""
    matrices = rotmats.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        grams = np.einsum("nrij,nrik->nrjk", matrices, matrices)
        off = np.abs(grams - np.eye(3)).max((2, 3))
        wrong = ~(off <= OFF_ORTHONORMAL) | (np.linalg.det(matrices) < 0)
    if not wrong.any():
        return
    row, joint = np.argwhere(wrong)[0].tolist()
    name = SKELETONS[kind.kinematic].joints[joint]
    raise RequestError(
        f"{path}: {int(wrong.sum())} of {wrong.size} matrices are no rotations, the first in row {row}, joint {joint}"
        f" ({name}): {_cause(matrices[row, joint])}. R^T R must be the identity to {OFF_ORTHONORMAL:g} and the"
        " determinant 1"
    )


def _cause(matrix: Float[np.ndarray, "3 3"]) -> str:
    determinant = float(np.linalg.det(matrix))
    scale = abs(determinant) ** (1 / 3)
    is_scaled = scale > 0 and np.abs((matrix / scale).T @ (matrix / scale) - np.eye(3)).max() <= OFF_ORTHONORMAL
    if not is_scaled:
        return f"its columns are not orthonormal (determinant {determinant:.3g}); is it a rotation, or a raw output?"
    if abs(scale - 1) > OFF_ORTHONORMAL / 2:
        sense = ", and mirrored" if determinant < 0 else ""
        return f"a rotation times {scale:.3g}{sense} (determinant {determinant:.3g}); divide by the scale"
    return f"its determinant is {determinant:.3g}, so it mirrors; is its sign or an axis flipped?"


def check_angles(path: Path, rotvecs: Float[np.ndarray, "N R 3"]) -> None:
    """Raises RequestError for axis-angles in degrees: many rotations, or most roots, of more than a whole turn."""
    angles = np.linalg.norm(rotvecs.astype(np.float64), axis=2)
    beyond = angles > WHOLE_TURN
    if beyond.mean() <= SHARE_OF_TURNS and beyond[:, 0].mean() <= 0.5:
        return
    row, joint = np.argwhere(beyond)[0].tolist()
    raise RequestError(
        f"{path}: {beyond.mean():.0%} of the axis-angles are longer than a whole turn (2 pi), the first in row {row},"
        f" joint {joint}: {angles[row, joint]:.3g}. Are they in degrees? Save radians"
    )


def check_betas(path: Path, betas: Float[np.ndarray, "N S"]) -> None:
    """Raises RequestError for a shape that no person has."""
    far = np.abs(betas) > LARGEST_BETA
    if far.any():
        row, column = np.argwhere(far)[0].tolist()
        raise RequestError(
            f"{path}: the shape of row {row} has {betas[row, column]:.4g} as value {column}; betas are between"
            f" {-LARGEST_BETA:g} and {LARGEST_BETA:g} (standard deviations). Are they of another model, or scaled?"
        )


def check_metres(path: Path, what: str, points: Float[np.ndarray, "N P 3"]) -> None:
    """Raises RequestError unless the median person is METRES large; people of a single place are left out."""
    extents = np.linalg.norm(np.ptp(points.astype(np.float64), axis=1), axis=1)
    extents = extents[extents > 0]
    median = float(np.median(extents)) if len(extents) else PERSON_M
    low, high = METRES
    if low <= median <= high:
        return
    said = f"{path}: the median person's {what} span {median:.4g} (diagonal of their box)"
    if median < low:
        raise RequestError(f"{said}; in metres it is {low:g} to {high:g}. Are they normalised, or of another unit?")
    unit = UNITS[min(UNITS, key=lambda factor: abs(np.log(median / PERSON_M / factor)))]
    raise RequestError(f"{said}; in metres it is {low:g} to {high:g}. Are they in {unit}? Save metres")
