"""Joint names: what a skeleton's rows are, which rows mirror which, and how to go from one to another by name."""

from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from hmrb.lookup import find


@dataclass(frozen=True, slots=True)
class Skeleton:
    """An ordered list of joint names. The same name means the same point of the body everywhere."""

    name: str
    joints: tuple[str, ...]

    def index(self, joint: str) -> int:
        """The row of a joint."""
        return self.joints.index(joint)

    def mirror(self) -> Int[np.ndarray, " J"]:
        """The row that each row becomes in a mirrored picture, derived from `left_` and `right_`."""
        return np.array([self.index(_other_side(joint)) for joint in self.joints])


def _other_side(joint: str) -> str:
    for here, there in (("left_", "right_"), ("right_", "left_")):
        if joint.startswith(here):
            return there + joint.removeprefix(here)
    return joint


def remap(keypoints: Float[np.ndarray, "*N K C"], source: str, target: str) -> Float[np.ndarray, "*N J C"]:
    """Key points of skeleton `source` in the rows of `target`, by exact name; rows without a source are 0."""
    rows = _rows(source, target)
    out = keypoints[..., rows, :].copy()
    out[..., rows < 0, :] = 0
    return out


@cache
def _rows(source: str, target: str) -> Int[np.ndarray, " J"]:
    have = {joint: row for row, joint in enumerate(find("skeleton", source, SKELETONS).joints)}
    return np.array([have.get(joint, -1) for joint in find("skeleton", target, SKELETONS).joints])


_SMPL24 = """pelvis left_hip right_hip spine_1 left_knee right_knee spine_2 left_ankle right_ankle spine_3
    left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow
    left_wrist right_wrist left_hand right_hand"""
_LANDMARKS = """nose right_eye left_eye right_ear left_ear left_bigtoe left_smalltoe left_heel
    right_bigtoe right_smalltoe right_heel left_thumb left_index left_middle left_ring left_pinky
    right_thumb right_index right_middle right_ring right_pinky"""
# Right hip first, unlike everything before it: SPIN's order of J_regressor_extra.
_EXTRA = """right_hip_extra left_hip_extra neck_extra headtop pelvis_extra thorax_extra spine_extra
    jaw_extra head_extra"""
# The left leg comes first in the rows of J_regressor_h36m.
_H36M = """pelvis_extra left_hip_extra left_knee left_ankle right_hip_extra right_knee right_ankle
    spine_extra neck_extra head_extra headtop left_shoulder left_elbow left_wrist
    right_shoulder right_elbow right_wrist"""
_LSP14 = """right_ankle right_knee right_hip_extra left_hip_extra left_knee left_ankle right_wrist right_elbow
    right_shoulder left_shoulder left_elbow left_wrist neck_extra headtop"""

SKELETONS = {
    name: Skeleton(name, tuple(joints.split()))
    for name, joints in {
        "smpl24": _SMPL24,
        "smpl45": f"{_SMPL24} {_LANDMARKS}",
        "smpl54": f"{_SMPL24} {_LANDMARKS} {_EXTRA}",
        "h36m17": _H36M,
        "lsp14": _LSP14,
    }.items()
}
TRAINING_SKELETON = "smpl54"
SMPL24_MIRROR = SKELETONS["smpl24"].mirror()
