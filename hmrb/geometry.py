"""Rotations, projection and alignment: pure functions on tensors."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

FOCAL_PX = 5000.0  # as in SPIN, so that its translations can be compared


def rotvec_to_rotmat(rotvec: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 3 3"]:
    """Rodrigues' formula; axis-angle in radians. Smooth at 0, where its derivative is the skew matrix."""
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
    """Axis-angle in radians, angle in [0, pi], through the quaternion part that is largest (stable near pi)."""
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


def rot6d_to_rotmat(rot6d: Float[Tensor, "*N 6"]) -> Float[Tensor, "*N 3 3"]:
    """Gram-Schmidt of the two columns of a row-major 3x2 (Zhou et al., CVPR 2019)."""
    columns = rot6d.unflatten(-1, (3, 2))
    first = normalize(columns[..., 0], dim=-1)
    second = columns[..., 1] - (first * columns[..., 1]).sum(-1, keepdim=True) * first
    second = normalize(second, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second, dim=-1)], -1)


def rotmat_to_rot6d(rotmat: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 6"]:
    """The first two columns, row-major 3x2: what rot6d_to_rotmat undoes."""
    return rotmat[..., :2].flatten(-2)


def camera_translation(camera: Float[Tensor, "B 3"], image_px: int) -> Float[Tensor, "B 3"]:
    """Metres from the camera at FOCAL_PX that give the person the weak-perspective (scale, tx, ty)."""
    scale, x, y = camera.unbind(-1)
    return torch.stack([x, y, 2 * FOCAL_PX / (image_px * scale + 1e-9)], -1)


def project(points: Float[Tensor, "B J 3"], camera: Float[Tensor, "B 3"], image_px: int) -> Float[Tensor, "B J 2"]:
    """Weak-perspective projection to crop pixels, origin at the crop's centre (study, `project_points`)."""
    moved = points + camera_translation(camera, image_px)[:, None]
    return FOCAL_PX * moved[..., :2] / moved[..., 2:]


def align_similarity(source: Float[Tensor, "B J 3"], target: Float[Tensor, "B J 3"]) -> Float[Tensor, "B J 3"]:
    """`source` under the similarity (scale, rotation, translation) that best maps it onto `target`.

    Umeyama, PAMI 1991, batched. A source whose points coincide goes to the target's centroid.
    """
    mean_source, mean_target = source.mean(1, keepdim=True), target.mean(1, keepdim=True)
    centred, wanted = source - mean_source, target - mean_target
    u, singular, vt = torch.linalg.svd(centred.mT @ wanted)
    flip = torch.ones_like(singular)
    flip[:, -1] = torch.sign(torch.linalg.det(u @ vt))
    spread = (centred**2).sum((1, 2))
    scale = (singular * flip).sum(-1) / spread.clamp(min=torch.finfo(spread.dtype).tiny)
    rotation = (u * flip[:, None]) @ vt
    return scale[:, None, None] * centred @ rotation + mean_target


def nearest_rotation(matrix: Float[Tensor, "*N 3 3"]) -> Float[Tensor, "*N 3 3"]:
    """The rotation closest to a matrix in the Frobenius norm; the mean of rotations is that of their mean."""
    u, _, vt = torch.linalg.svd(matrix)
    flip = torch.ones_like(u[..., 0])
    flip[..., -1] = torch.det(u @ vt)
    return (u * flip[..., None, :]) @ vt
