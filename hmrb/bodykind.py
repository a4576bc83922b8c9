"""Constants of each kind of body: joints, shape coefficients, kinematic tree, mirror pairs, keypoints."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from hmrb.lookup import find
from hmrb.skeleton import SKELETONS

ROT6D = 6  # numbers per rotation in the regressor's output (Zhou et al., CVPR 2019)
CAMERA = 3  # weak perspective: scale, x, y


@dataclass(frozen=True)
class BodyKind:
    """Constants that all bodies of one kind share. In array types, R is `num_joints` and S is `num_betas`.

    `parents` is the kinematic tree, with -1 for the root, and `kinematic` the skeleton of its joints. `keypoints` is
    the skeleton that labels and losses use: first the kinematic joints, then `num_landmarks` vertices of the mesh, then
    `num_extra` regressed points.
    """

    name: str
    kinematic: str
    keypoints: str
    parents: tuple[int, ...]
    num_betas: int
    num_landmarks: int
    num_extra: int

    @property
    def num_joints(self) -> int:
        """Number of kinematic joints including the root; equals the number of rotations."""
        return len(self.parents)

    @property
    def num_keypoints(self) -> int:
        """Number of points in `keypoints`."""
        return len(SKELETONS[self.keypoints].joints)

    @cached_property
    def mirror(self) -> Int[np.ndarray, " R"]:
        """For each joint, the index of its counterpart on the other side of the body."""
        return SKELETONS[self.kinematic].mirror()

    @cached_property
    def keypoint_mirror(self) -> Int[np.ndarray, " K"]:
        """For each point of `keypoints`, the index of its counterpart on the other side of the body."""
        return SKELETONS[self.keypoints].mirror()

    @property
    def pose_numbers(self) -> int:
        """Number of values in an axis-angle pose."""
        return 3 * self.num_joints

    @property
    def rotmat_numbers(self) -> int:
        """Number of values in a pose of rotation matrices."""
        return 9 * self.num_joints

    @property
    def rot6d_numbers(self) -> int:
        """Number of values in a 6D pose, the regressor's output."""
        return ROT6D * self.num_joints

    @property
    def bend_numbers(self) -> int:
        """Number of pose blend shapes: one per matrix entry of every rotation except the root's."""
        return 9 * (self.num_joints - 1)

    @property
    def mean_numbers(self) -> int:
        """Number of values in the mean body: a 6D pose, betas, a camera."""
        return self.rot6d_numbers + self.num_betas + CAMERA


SMPL_KIND = BodyKind(
    name="SMPL",
    kinematic="smpl24",
    keypoints="smpl54",
    parents=(-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21),
    num_betas=10,
    num_landmarks=21,
    num_extra=9,
)
SMPLX_KIND = BodyKind(
    name="SMPL-X",
    kinematic="smplx22",
    keypoints="smplx52",
    parents=SMPL_KIND.parents[:22],  # its first joints are SMPL's but for the hands
    num_betas=11,
    num_landmarks=SMPL_KIND.num_landmarks,
    num_extra=SMPL_KIND.num_extra,
)
"""SMPL-X with hands, jaw and eyes at rest, as BEDLAM-CLIFF predicts it."""
BODIES = {"open": SMPL_KIND, "smpl": SMPL_KIND, "smplx": SMPLX_KIND}


def kind_of(body: str) -> BodyKind:
    """The kind of a body, by the name used in specs, shards and records. Raises UnknownName."""
    return find("body", body, BODIES)
