"""Rotations, projection and alignment, as pure functions on tensors."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

FOCAL_PX = 5000.0  # as in SPIN, so that translations are comparable with SPIN's
FEWEST_POINTS = 4  # labelled 2D key points that place a body; three unknowns have two equations per point
NEWTON_STEPS = 16  # 14 steps converge to the last digit for gaps of LEAST_GAPS
LEAST_GAPS = 1e-3  # for larger gaps, rotations are within 1e-10 of the SVD's


def rotvec_to_rotmat(rotvec: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3 3"]:
    """Axis-angle (radians) to rotation matrix by Rodrigues' formula. Differentiable at 0."""
    angle2 = (rotvec * rotvec).sum(-1)[..., None, None]
    small = angle2 < 1e-8
    safe = torch.where(small, torch.ones_like(angle2), angle2)
    angle = safe.sqrt()
    sine = torch.where(small, 1 - angle2 / 6, angle.sin() / angle)
    cosine = torch.where(small, 0.5 - angle2 / 24, (1 - angle.cos()) / safe)
    x, y, z = rotvec.unbind(-1)
    zero = torch.zeros_like(x)
    skew = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    return torch.eye(3, dtype=rotvec.dtype, device=rotvec.device) + sine * skew + cosine * skew @ skew


def rotmat_to_rotvec(rotmat: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 3"]:
    """Rotation matrix to axis-angle in radians, angle in [0, pi].

    Computes the quaternion from its largest component, which is stable near pi.
    """
    diagonal = rotmat.diagonal(dim1=-2, dim2=-1)
    sign = torch.eye(3, dtype=rotmat.dtype, device=rotmat.device) * 2 - 1
    squares = 1 + torch.cat([diagonal.sum(-1, keepdim=True), diagonal @ sign], -1)  # 4 w^2, 4 x^2, 4 y^2, 4 z^2
    m = rotmat
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w2, x2, y2, z2 = squares.unbind(-1)
    rows = [[w2, wx, wy, wz], [wx, x2, xy, xz], [wy, xy, y2, yz], [wz, xz, yz, z2]]
    candidates = torch.stack([torch.stack(row, -1) for row in rows], -2)
    best = squares.argmax(-1)[..., None, None].expand(*squares.shape[:-1], 1, 4)
    quaternion = normalize(candidates.gather(-2, best).squeeze(-2), dim=-1)
    quaternion = torch.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = quaternion[..., 1:].norm(dim=-1, keepdim=True)
    angle = 2 * torch.atan2(sine, quaternion[..., :1])
    scale = torch.where(sine > 1e-7, angle / sine.clamp(min=1e-7), torch.full_like(sine, 2.0))
    return quaternion[..., 1:] * scale


Layout6D = Literal["interleaved", "triplets", "rows"]


def rot6d_to_rotmat(rot6d: Float[Tensor, "*N 6"], layout: Layout6D = "interleaved") -> Float[Tensor, "*N 3 3"]:
    """Gram-Schmidt on two vectors (Zhou et al., CVPR 2019).

    The six numbers are a row-major 3x2 matrix whose columns are the vectors and become columns of the rotation
    (`interleaved`: HMR, SPIN, CLIFF); or one vector after the other, which become columns (`triplets`: HMR2.0) or rows
    (`rows`: TokenHMR).
    """
    a, b = rot6d.unflatten(-1, (3, 2)).unbind(-1) if layout == "interleaved" else rot6d.unflatten(-1, (2, 3)).unbind(-2)
    first = normalize(a, dim=-1)
    second = b - (first * b).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    axis = -2 if layout == "rows" else -1
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], axis)


def rotmat_to_rot6d(rotmat: Float[Tensor, "*N 3 3"], layout: Layout6D = "interleaved") -> Float[Tensor, "*N 6"]:
    """The first two columns (for `rows`: the first two rows) as six numbers; the inverse of rot6d_to_rotmat."""
    if layout == "rows":
        return rotmat[..., :2, :].flatten(-2)
    columns = rotmat[..., :2]
    return (columns if layout == "interleaved" else columns.mT).flatten(-2)


def camera_translation(camera: Float[Tensor, "B 3"], image_px: int) -> Float[Tensor, "B 3"]:
    """Weak-perspective camera (scale, tx, ty) to a translation in metres for focal length FOCAL_PX."""
    scale, x, y = camera.unbind(-1)
    return torch.stack([x, y, 2 * FOCAL_PX / (image_px * scale + 1e-9)], -1)


def project(points: Float[Tensor, "B J 3"], camera: Float[Tensor, "B 3"], image_px: int) -> Float[Tensor, "B J 2"]:
    """Project points (metres) to crop pixels with a weak-perspective camera; the origin is the crop's centre.

    As `project_points` in the study.
    """
    moved = points + camera_translation(camera, image_px)[:, None]
    return FOCAL_PX * moved[..., :2] / moved[..., 2:]


def fit_weak_camera(
    joints: Float[Tensor, "B J 3"], pixels: Float[Tensor, "B J 2"], weights: Float[Tensor, "B J"], image_px: int
) -> Float[Tensor, "B 3"]:
    """The weak-perspective camera (scale, tx, ty) that puts joints (metres) on pixels best, by weighted least squares.

    Pixels are from `project`'s origin; depth is left out. A scale that is not above 0 says that they do not fit at all.
    """
    weights = (weights / weights.sum(1, keepdim=True).clamp(min=1e-9))[..., None]
    flat = joints[..., :2]
    middle, target = (weights * flat).sum(1), (weights * pixels).sum(1)
    spread = flat - middle[:, None]
    size = (weights * spread**2).sum((1, 2)).clamp(min=1e-9)
    zoom = (weights * spread * (pixels - target[:, None])).sum((1, 2)) / size
    shift = target / torch.where(zoom > 0, zoom, 1)[:, None] - middle
    return torch.cat([2 * zoom[:, None] / image_px, shift], 1)


def crop_center(square: Float[Tensor, "B 3"], image_px: int) -> Float[Tensor, "B 2"]:
    """Where `project`'s origin, the middle of the crop's pixels, lies in the picture, px. `square`: centre x, y, side.

    The crop's pixels have their middle at (image_px - 1) / 2, and the square's centre is mapped to image_px / 2.
    """
    return square[:, :2] - square[:, 2:] / (2 * image_px)


def picture_translation(
    camera: Float[Tensor, "B 3"],
    side_px: Float[Tensor, " B"],
    origin_px: Float[Tensor, "B 2"],
    focal_px: Float[Tensor, " B"],
    center_px: Float[Tensor, "B 2"],
) -> Float[Tensor, "B 3"]:
    """The crop's weak-perspective camera (scale, tx, ty) as a translation in metres before the picture's camera.

    The usual conversion (CLIFF, ECCV 2022), in pixels of the picture: `side_px` is the crop's side, `origin_px` where
    the crop's camera looks, `center_px` the picture's principal point. Points at the depth of the body's origin are
    projected where the crop's camera puts them; others differ by the perspective, about their distance from the
    principal point times their depth over tz.
    """
    scale, shift = camera[:, 0], camera[:, 1:]
    depth = 2 * focal_px / (side_px * scale + 1e-9)
    aside = (origin_px - center_px) * (depth / focal_px)[:, None]
    return torch.cat([shift + aside, depth[:, None]], 1)


@dataclass(frozen=True, slots=True)
class Similarity:
    """Similarity transforms: a point x maps to scale * rotation @ x + translation (float64)."""

    scale: Float[Tensor, " B"]
    rotation: Float[Tensor, "B 3 3"]
    translation: Float[Tensor, "B 3"]

    def __call__(self, points: Float[Tensor, "B P 3"]) -> Float[Tensor, "B P 3"]:
        """Transform points; the result has their dtype."""
        turned = points.double() @ (self.scale[:, None, None] * self.rotation).mT
        return (turned + self.translation[:, None]).to(points.dtype)


def fit_similarity(source: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Similarity:
    """Least-squares similarity from `source` onto `target` (Umeyama, PAMI 1991), batched.

    If all points of a source coincide, they map to the target's centroid with scale 0. If the points are collinear, the
    rotation about their line is arbitrary; the remaining distances do not depend on it.
    """
    source, target = source.double(), target.double()
    mean_source, mean_target = source.mean(1), target.mean(1)
    centred = source - mean_source[:, None]
    covariance = (target - mean_target[:, None]).mT @ centred
    rotation = nearest_rotation(covariance)
    spread = (centred**2).flatten(1).sum(1)
    scale = (rotation * covariance).flatten(1).sum(1) / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    moved = scale[:, None] * (rotation @ mean_source[..., None]).squeeze(-1)
    return Similarity(scale, rotation, mean_target - moved)


def align_similarity(source: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J 3"]:
    """Transform `source` by the least-squares similarity onto `target`."""
    return fit_similarity(source, target)(source)


def nearest_rotation(matrix: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 3 3"]:
    """The rotation nearest to a matrix in the Frobenius norm; applied to a mean of rotations, the mean rotation.

    Avoids the SVD, which is much slower. In the polar decomposition M = R P, the trace t of P is the largest root of a
    quartic in M's invariants (Horn, JOSA A 1987), found by Newton's method from above (Theobald, Acta Cryst. A 2005).
    The Cayley-Hamilton theorem for P then yields R. That formula divides by the sums of two singular values (signed by
    det M); matrices for which the product of these sums is nearly 0 use the SVD.
    """
    m = matrix.double()
    m = m / (m**2).sum((-2, -1), keepdim=True).sqrt().clamp(min=torch.finfo(m.dtype).tiny)
    cofactor = torch.linalg.cross(m[..., (1, 2, 0), :], m[..., (2, 0, 1), :], dim=-1)
    det, minors = (m[..., 0, :] * cofactor[..., 0, :]).sum(-1), (cofactor**2).sum((-2, -1))
    trace = torch.full_like(det, 3**0.5)  # upper bound for a matrix of norm 1
    for _ in range(NEWTON_STEPS):
        value = ((trace**2 - 2) * trace - 8 * det) * trace + 1 - 4 * minors
        trace = trace - value / (4 * (trace**2 - 1) * trace - 8 * det)
    second = (trace**2 - 1) / 2
    gaps = trace * second - det  # the product of the sums of two singular values
    t, s, g = (x[..., None, None] for x in (trace, second, gaps))
    rotation = (t * cofactor + (t**2 - s) * m - m @ m.mT @ m) / g
    unsure = ~(gaps > LEAST_GAPS)
    if unsure.any():
        rotation[unsure] = _nearest_rotation_by_svd(m[unsure])
    return rotation.to(matrix.dtype)


def _nearest_rotation_by_svd(matrix: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3 3"]:
    u, _, vt = torch.linalg.svd(matrix)
    flip = torch.ones_like(u[..., 0])
    flip[..., -1] = torch.det(u @ vt)
    return (u * flip[..., None, :]) @ vt
