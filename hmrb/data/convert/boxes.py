"""Shared code of the converters: bounding boxes, and transforms of labels into the camera frame."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, Real

Box = Float[np.ndarray, "4"]
X_HALF_TURN = np.diag([1.0, -1.0, -1.0])  # half turn about x: y up to y down, and z reversed


def box_around(
    points: Float[np.ndarray, "K C"], factor: float = 1.2, seen: Bool[np.ndarray, " K"] | None = None
) -> Box:
    """Bounding box of the points in `seen` (default: all), scaled by `factor` about its centre; zeros if no points."""
    chosen = points[:, :2] if seen is None else points[seen, :2]
    if not len(chosen):
        return np.zeros(4, np.float32)
    (left, top), (right, bottom) = chosen.min(0).tolist(), chosen.max(0).tolist()
    return box_corners(left, top, right, bottom, factor)


def box_corners(left: float, top: float, right: float, bottom: float, factor: float = 1.0) -> Box:
    """Bounding box between two corners, scaled by `factor` about its centre."""
    width, height = factor * (right - left), factor * (bottom - top)
    return np.array([(left + right - width) / 2, (top + bottom - height) / 2, width, height], np.float32)


def box_centered(center: Float[np.ndarray, "2"], scale: float) -> Box:
    """A square of side 200 * scale, the format of MPII, SPIN and EFT."""
    side = 200.0 * scale
    return np.array([center[0] - side / 2, center[1] - side / 2, side, side], np.float32)


def box_mask(mask: Bool[np.ndarray, "H W"], factor: float = 0.9) -> Box:
    """Bounding box of a mask up to the end of its last pixels, scaled about its centre; zeros for an empty mask."""
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return np.zeros(4, np.float32)
    return box_corners(float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1), factor)


def rotmat(rotvec: Float[np.ndarray, "3"]) -> Float[np.ndarray, "3 3"]:
    """Axis-angle to rotation matrix."""
    return np.asarray(cv2.Rodrigues(np.asarray(rotvec, np.float64).reshape(3))[0])


def rotvec(matrix: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "3"]:
    """Rotation matrix to axis-angle with an angle of at most pi; an inexact matrix is projected to a rotation."""
    return np.asarray(cv2.Rodrigues(np.asarray(matrix, np.float64))[0])[:, 0]


def turned(pose: Float[np.ndarray, "R 3"], turn: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "R 3"]:
    """Transform a pose to the frame x' = turn x: the root's rotation changes, all other joints keep theirs."""
    out = np.array(pose, np.float32)
    out[0] = rotvec(turn @ rotmat(pose[0]))
    return out


def moved(
    transl: Float[np.ndarray, "3"],
    pelvis: Float[np.ndarray, "3"],
    turn: Float[np.ndarray, "3 3"],
    shift: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "3"]:
    """Transform a body's translation to the frame x' = turn x + shift; `pelvis` is its position in the rest pose."""
    return (turn @ (pelvis + transl) + shift - pelvis).astype(np.float32)


def scaled(points: Float[np.ndarray, "*K 2"], scale: float) -> Float[np.ndarray, "*K 2"]:
    """Pixels of an image that is resized by `scale`; the first pixel's centre is 0 in both."""
    return points if scale == 1 else (points + 0.5) * scale - 0.5


def camera_of(matrix: Real[np.ndarray, "3 3"]) -> Float[np.ndarray, "4"]:
    """fx, fy, cx, cy of a matrix of intrinsics, pixels."""
    return np.asarray(matrix, np.float32)[[0, 1, 0, 1], [0, 1, 2, 2]]


def from_root(points: Float[np.ndarray, "K 3"], root: Float[np.ndarray, "3"]) -> Float[np.ndarray, "K 3"]:
    """3D points relative to `root`."""
    return (points - root).astype(np.float32)


def with_confidence(points: Float[np.ndarray, "K C"], confidence: object = 1.0) -> Float[np.ndarray, "K D"]:
    """Append a confidence column to points; points of confidence 0 become zeros."""
    column = np.broadcast_to(np.asarray(confidence, np.float32), len(points))
    out = np.concatenate([np.asarray(points, np.float32), column[:, None]], 1)
    out[column <= 0] = 0
    return out
