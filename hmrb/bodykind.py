"""The numbers of a kind of body, in one place: joints, shape coefficients, tree, mirror pairs, key points."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Int

from hmrb.lookup import find
from hmrb.skeleton import SKELETONS

ROT6D = 6  # numbers of a rotation as the regressor predicts it (Zhou et al., CVPR 2019)
CAMERA = 3  # weak perspective: scale, x, y


@dataclass(frozen=True)
class BodyKind:
    """What all bodies of one kind share; array types name R = `num_joints` and S = `num_betas`.

    `parents` is the kinematic tree, -1 for the root. `kinematic` is the skeleton of its joints, `keypoints` that of
    the points that labels and losses use: the kinematic joints first, then `num_landmarks` vertices of the mesh, then
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
        """Kinematic joints, the root among them: as many as rotations."""
        return len(self.parents)

    @property
    def num_keypoints(self) -> int:
        """Points of `keypoints`."""
        return len(SKELETONS[self.keypoints].joints)

    @cached_property
    def mirror(self) -> Int[np.ndarray, " R"]:
        """For each joint its counterpart on the other side of the body."""
        return SKELETONS[self.kinematic].mirror()

    @cached_property
    def keypoint_mirror(self) -> Int[np.ndarray, " K"]:
        """The same for the points of `keypoints`."""
        return SKELETONS[self.keypoints].mirror()

    @property
    def pose_numbers(self) -> int:
        """Numbers of a pose in axis-angle."""
        return 3 * self.num_joints

    @property
    def rotmat_numbers(self) -> int:
        """Numbers of a pose as rotation matrices."""
        return 9 * self.num_joints

    @property
    def rot6d_numbers(self) -> int:
        """Numbers of a pose as the regressor predicts it."""
        return ROT6D * self.num_joints

    @property
    def bend_numbers(self) -> int:
        """Pose blend shapes: the entries of every rotation but the root's."""
        return 9 * (self.num_joints - 1)

    @property
    def mean_numbers(self) -> int:
        """Numbers of the mean body: a 6D pose, betas, a camera."""
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
BODIES = {"open": SMPL_KIND, "smpl": SMPL_KIND}


def kind_of(body: str) -> BodyKind:
    """The kind of a body that specs, shards and records name. Raises UnknownName."""
    return find("body", body, BODIES)
