"""Pseudo-labels: bodies fitted to noisy 2D joints, as data sets of photos without measured bodies have them."""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hmrb.body import SMPL
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Sample, without_unlabelled
from hmrb.synthetic.poses import KEY_POSES, rotmat_to_rotvec, turn

# Of a detector, in sides of the person's box: every joint's standard deviation, and that of the few that are far off.
NOISE, GROSS, GROSS_SHARE, SWAP_SHARE = 0.02, 0.10, 0.03, 0.04
FOCAL = 5.0  # in sides of the picture: a guess, since fits do not know the camera
ROBUST = 0.06  # sides of the box; errors beyond hardly count (Geman-McClure, as in SMPLify, ECCV 2016)
POSE_WEIGHT, BETAS_WEIGHT, BEND_WEIGHT = 2e-4, 1e-4, 3e-2  # chosen so that joints fit to about their noise
TURNS = (0.0, 90.0, 180.0, 270.0)  # degrees of yaw to start from; the best is kept
AIM_STEPS, FIT_STEPS, RATE = 25, 100, 0.04
SWAPPED = [(1, 2), (4, 5), (7, 8), (10, 11)]  # legs, which detectors confuse
BENDS = {(4, 0): 1.0, (5, 0): 1.0, (18, 1): -1.0, (19, 1): 1.0}  # joint and axis of a hinge, and the sign of its bend


def with_fits(body: SMPL, samples: Sequence[Sample], seed: int) -> list[Sample]:
    """The people with noisy 2D joints and with bodies fitted to them instead of the exact labels.

    Intrinsics are those that the fit guessed, to which its translations belong. The result depends on which people are
    given together, by rounding.
    """
    noisy = np.stack([_detected(sample, seed) for sample in samples])
    sides = np.array([max(sample.box[2:]) for sample in samples], np.float32)
    pose, betas, transl = fit(body, noisy, sides, samples[0].photo_px[0])
    guess, middle = FOCAL * samples[0].photo_px[0], (samples[0].photo_px[0] - 1) / 2
    return [
        replace(
            sample, camera=np.array([guess, guess, middle, middle], np.float32), pose=pose[row], betas=betas[row],
            transl=transl[row], keypoints2d=without_unlabelled(noisy[row]),
            keypoints3d=np.zeros_like(sample.keypoints3d),
        )
        for row, sample in enumerate(samples)
    ]  # fmt: skip


def _detected(sample: Sample, seed: int) -> Float[np.ndarray, "K 3"]:
    """A person's 2D joints as a detector finds them."""
    rng = np.random.default_rng((seed, zlib.crc32(sample.name.encode()), int(1e3 * abs(sample.transl[0]))))
    points = sample.keypoints2d.copy()
    side = float(max(sample.box[2:]))
    spread = np.where(rng.random(len(points)) < GROSS_SHARE, GROSS, NOISE) * side
    points[:, :2] += (spread[:, None] * rng.standard_normal((len(points), 2))).astype(np.float32)
    if rng.random() < SWAP_SHARE:
        for left, right in SWAPPED:
            points[[left, right]] = points[[right, left]]
    return points


def fit(
    body: SMPL, keypoints2d: Float[np.ndarray, "B K 3"], box_sides: Float[np.ndarray, " B"], picture_side: int
) -> tuple[Float[np.ndarray, "B R 3"], Float[np.ndarray, "B S"], Float[np.ndarray, "B 3"]]:
    """Pose, betas and translation whose kinematic joints project to these pixels, under a prior of small rotations.

    First turns and places a standing body, from four sides, then bends the best (after SMPLify, ECCV 2016).
    """
    count, joints = len(keypoints2d), body.kind.num_joints
    target = torch.from_numpy(keypoints2d[:, :joints, :2]) - (picture_side - 1) / 2
    weight = torch.from_numpy((keypoints2d[:, :joints, 2] > 0).astype(np.float32))
    sides = torch.from_numpy(box_sides)
    focal = FOCAL * picture_side
    starts = torch.from_numpy(np.stack([turn(x=180) @ turn(y=yaw) for yaw in TURNS]).astype(np.float32))
    many = len(starts)
    first = starts.repeat(count, 1, 1)
    # A person of 1.7 m fills the box: the depth to begin with.
    depth = (1.7 * focal / sides).repeat_interleave(many)
    middle = (target * weight[..., None]).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)
    place = torch.cat([middle.repeat_interleave(many, 0) * (depth / focal)[:, None], depth[:, None]], 1)
    still = torch.zeros(count * many, joints, 3)
    none = torch.zeros(count * many, body.kind.num_betas)
    problem = [value.repeat_interleave(many, 0) for value in (target, weight, sides)]
    bend, shape, place, loss = _descend(body, (still, none, place), first, problem, focal, AIM_STEPS, is_bent=False)
    best = loss.reshape(count, many).argmin(1) + many * torch.arange(count)
    bend, shape, place, loss = _descend(
        body,
        (bend[best], shape[best], place[best]),
        first[best],
        [target, weight, sides],
        focal,
        FIT_STEPS,
        is_bent=True,
    )
    rotmats = _turned(bend, first[best]).double().numpy()
    return rotmat_to_rotvec(rotmats).astype(np.float32), shape.numpy(), place.numpy()


def _turned(bend: Float[Tensor, "B R 3"], first: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B R 3 3"]:
    """Rotations that differ by axis-angles from a standing body's, which is turned by `first`."""
    rotmats = rotvec_to_rotmat(bend)
    standing = torch.from_numpy(KEY_POSES["stand"].astype(np.float32))[None, 1:]
    return torch.cat([(rotmats[:, 0] @ first)[:, None], standing @ rotmats[:, 1:]], 1)


def _descend(
    body: SMPL,
    start: tuple[Tensor, Tensor, Tensor],
    first: Float[Tensor, "B 3 3"],
    problem: Sequence[Tensor],
    focal: float,
    steps: int,
    *,
    is_bent: bool,
) -> tuple[Tensor, Tensor, Tensor, Float[Tensor, " B"]]:
    """Adam from a start of rotations, betas and places; with `is_bent` False, only the root and the place move."""
    target, weight, sides = problem
    bend, shape, place = (value.clone().requires_grad_() for value in start)
    scale = torch.tensor([1.0, 1.0, 5.0])  # depth moves further than the rest
    moved = torch.zeros_like(place, requires_grad=True)
    mask = torch.ones(bend.shape[1], 1)
    mask[1:] = float(is_bent)
    adam = torch.optim.Adam([bend, shape, moved], lr=RATE if is_bent else 3 * RATE)
    loss = torch.zeros(len(bend))
    for step in range(steps):
        for group in adam.param_groups:
            group["lr"] = (RATE if is_bent else 3 * RATE) * 0.5 * (1 + math.cos(math.pi * step / steps))
        chain = body(_turned(bend * mask, first), shape * float(is_bent), body.kind.kinematic).chain
        points = chain + (place.detach() + moved * scale)[:, None]
        flat = focal * points[..., :2] / points[..., 2:].clamp(min=0.3)
        error = ((flat - target) / sides[:, None, None]).square().sum(-1)
        robust = ROBUST**2 * error / (error + ROBUST**2) if is_bent else error
        loss = (robust * weight).sum(1) / weight.sum(1).clamp(min=1)
        if is_bent:
            loss = loss + POSE_WEIGHT * bend[:, 1:].square().sum((1, 2)) + BETAS_WEIGHT * shape.square().mean(1)
            backwards = [(-sign * bend[:, joint, axis]).clamp(min=0) for (joint, axis), sign in BENDS.items()]
            loss = loss + BEND_WEIGHT * torch.stack(backwards).square().sum(0)
        adam.zero_grad()
        loss.sum().backward()
        adam.step()
    with torch.no_grad():
        return (
            (bend * mask).detach(),
            (shape * float(is_bent)).detach(),
            (place + moved * scale).detach(),
            loss.detach(),
        )
