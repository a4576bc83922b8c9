"""Skeletons: the joint names of each convention, their left/right mirroring, and conversion between them by name."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float, Int

from hmrb.lookup import find


@dataclass(frozen=True, slots=True)
class Skeleton:
    """An ordered list of joint names. A name means the same point of the body in every skeleton."""

    name: str
    joints: tuple[str, ...]

    def index(self, joint: str) -> int:
        """Row of a joint."""
        return self.joints.index(joint)

    def of_side(self, side: str) -> frozenset[int]:
        """Rows of the joints on one side, `left` or `right`."""
        return frozenset(row for row, joint in enumerate(self.joints) if side in joint.split("_"))

    def mirror(self) -> Int[np.ndarray, " J"]:
        """For each row, its row in a mirrored image, derived from `left` and `right` in the names.

        A name without a side keeps its row, as in the study. That is correct for the body but incomplete for the face:
        mouth, lips, nostrils and contour have numbers instead of sides and would need explicit pairs.
        """
        return np.array([self.index(_other_side(joint)) for joint in self.joints], np.int64)


def _other_side(joint: str) -> str:
    there = {"left": "right", "right": "left"}
    return "_".join(there.get(word, word) for word in joint.split("_"))


def plain_names(joints: Sequence[str]) -> dict[str, str]:
    """The joints in words for readers: `right_hip_extra` is the right hip.

    Where two of them would have one name, the one with an ending says which it is: `right hip (extra)`.
    """
    words = {joint: _words(joint) for joint in joints}
    bare = {joint: word for joint, (word, _) in words.items()}
    twice = {word for word in bare.values() if list(bare.values()).count(word) > 1}
    return {joint: f"{word} ({end})" if word in twice and end else word for joint, (word, end) in words.items()}


def _words(joint: str) -> tuple[str, str]:
    """A joint's name in words, and its ending."""
    stem, found, end = joint.rpartition("_")
    stem, end = (stem, end) if found and end in ENDINGS else (joint, "")
    side, found, point = stem.partition("_")
    side, point = (f"{side} ", point) if found and side in ("left", "right") else ("", stem)
    return side + PLAIN.get(point, point.replace("_", " ")), end


def remap(keypoints: Float[np.ndarray, "*N K C"], source: str, target: str) -> Float[np.ndarray, "*N J C"]:
    """Reorder keypoints from skeleton `source` to `target` by exact name; rows without a source are 0."""
    rows = _rows(source, target)
    if not keypoints.shape[-2]:
        return np.zeros((*keypoints.shape[:-2], len(rows), keypoints.shape[-1]), keypoints.dtype)
    out = keypoints[..., rows, :]
    out[..., rows < 0, :] = 0
    return out


@cache
def _rows(source: str, target: str) -> Int[np.ndarray, " J"]:
    have = {joint: row for row, joint in enumerate(find("skeleton", source, SKELETONS).joints)}
    return np.array([have.get(joint, -1) for joint in find("skeleton", target, SKELETONS).joints])


def _each(names: str, pattern: str) -> str:
    """Repeat the pattern for every name; the name replaces each `*`."""
    return " ".join(pattern.replace("*", name) for name in names.split())


def _sides(names: str) -> str:
    """All left joints, then all right joints."""
    return f"{_each(names, 'left_*')} {_each(names, 'right_*')}"


def _pairs(names: str) -> str:
    """Left and right of each joint in turn."""
    return _each(names, "left_* right_*")


def _numbered(name: str, count: int) -> str:
    return " ".join(f"{name}_{number}" for number in range(1, count + 1))


def _annotated(names: str) -> str:
    """Rename annotated hips, pelvis and neck, because they differ from SMPL's joints of those names."""
    special = ("left_hip", "right_hip", "pelvis", "neck")
    return " ".join(f"{name}_extra" if name in special else name for name in names.split())


def _openpose(names: str) -> str:
    """Rename OpenPose's points to separate them from annotations; it has no top of the head, so `headtop` stays."""
    return " ".join(name if name == "headtop" else f"{name}_openpose" for name in names.split())


_LEFT_ARM, _RIGHT_ARM = "left_shoulder left_elbow left_wrist", "right_shoulder right_elbow right_wrist"
_LEFT_LEG, _RIGHT_LEG = "left_hip left_knee left_ankle", "right_hip right_knee right_ankle"
_LIMBS = f"{_RIGHT_ARM} {_LEFT_ARM} {_RIGHT_LEG} {_LEFT_LEG}"
_LIMB_PAIRS = _pairs("shoulder elbow wrist hip knee ankle")
_EYES_EARS = "right_eye left_eye right_ear left_ear"
_FEET = _sides("bigtoe smalltoe heel")
_FINGERS = _each("thumb index middle ring pinky", "*_1 *_2 *_3 *")  # three joints, base first, and the tip

# iBUG's 68 landmarks, without the contour. Points on the left have the number of their mirror image on the right.
_FACE = f"""{_numbered("right_eyebrow", 5)}
    left_eyebrow_5 left_eyebrow_4 left_eyebrow_3 left_eyebrow_2 left_eyebrow_1
    {_numbered("nosebridge", 4)} {_numbered("nose", 5)} {_numbered("right_eye", 6)}
    left_eye_4 left_eye_3 left_eye_2 left_eye_1 left_eye_6 left_eye_5 {_numbered("mouth", 12)} {_numbered("lip", 8)}"""
_CONTOUR = _numbered("face_contour", 17)

_SMPLX_BODY = """pelvis left_hip right_hip spine_1 left_knee right_knee spine_2 left_ankle right_ankle spine_3
    left_foot right_foot neck left_collar right_collar head left_shoulder right_shoulder left_elbow right_elbow
    left_wrist right_wrist"""
_SMPL = f"{_SMPLX_BODY} left_hand right_hand"
# Single vertices of the mesh. The right eye and ear come first, unlike the joints above.
_VERTICES = f"nose {_EYES_EARS} {_FEET} {_sides('thumb index middle ring pinky')}"
_SMPL45 = f"{_SMPL} {_VERTICES}"
# The right hip comes first: SPIN's order of J_regressor_extra.
_EXTRA = """right_hip_extra left_hip_extra neck_extra headtop pelvis_extra thorax_extra spine_extra
    jaw_extra head_extra"""
_SMPL54 = f"{_SMPL45} {_EXTRA}"
_SMPLX_FINGERS = _each("index middle pinky ring thumb", "*_1 *_2 *_3")
_AGORA = f"""{_SMPLX_BODY} jaw left_eyeball right_eyeball
    {_sides(_SMPLX_FINGERS)} {_VERTICES} {_FACE}"""
_SMPLX = f"{_AGORA} {_CONTOUR}"

_COCO = f"nose {_pairs('eye ear')} {_LIMB_PAIRS}"
# Right limb upwards, then left limb downwards.
_LEGS_UP_AND_DOWN = "right_ankle right_knee right_hip left_hip left_knee left_ankle"
_ARMS_UP_AND_DOWN = "right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist"
_LSP = _annotated(f"{_LEGS_UP_AND_DOWN} {_ARMS_UP_AND_DOWN} neck headtop")
_MPII = _annotated(f"{_LEGS_UP_AND_DOWN} pelvis thorax_extra neck headtop {_ARMS_UP_AND_DOWN}")
_SPIN24 = f"{_LSP} pelvis_extra thorax_extra spine_extra jaw_extra head_extra nose {_pairs('eye ear')}"
# H36M's and MPI-INF-3DHP's head and head top have the study's names; SPIN assigns them to its jaw and head.
_H36M_TORSO_ARMS = f"spine_extra neck head_extra headtop {_LEFT_ARM} {_RIGHT_ARM}"
_H36M = _annotated(f"pelvis {_LEFT_LEG} {_RIGHT_LEG} {_H36M_TORSO_ARMS}")  # as the rows of J_regressor_h36m
_3DHP = f"""spine_3 spine_4_3dhp spine_2 spine_extra pelvis neck head_extra headtop
    {_sides("clavicle_3dhp shoulder elbow wrist hand_3dhp")} {_sides("hip knee ankle foot toe_3dhp")}"""
_3DHP_TEST = _annotated(f"headtop neck {_LIMBS} pelvis spine_extra head_extra")
_OPENPOSE25 = f"nose neck {_RIGHT_ARM} {_LEFT_ARM} pelvis {_RIGHT_LEG} {_LEFT_LEG} {_EYES_EARS} {_FEET}"
_INSTAVARIETY = f"""{_LEGS_UP_AND_DOWN.replace("ankle", "heel")} {_ARMS_UP_AND_DOWN} neck headtop nose
    {_pairs("eye ear bigtoe smalltoe ankle")}"""
_HUMAN_DATA = f"""{_SMPLX} {_EXTRA} {_openpose(_OPENPOSE25)}
    spine_4_3dhp {_pairs("clavicle_3dhp hand_3dhp toe_3dhp")}
    head_h36m headtop_h36m head_bottom_pt left_hand right_hand"""
# SMPL's joint names for bones that match them, the game's bone names for the rest. As in the study, mirroring does not
# swap the `L` and `R` in bone names.
_GTA = """gta_head_top head neck gta_right_clavicle right_shoulder right_elbow right_wrist
    gta_left_clavicle left_shoulder left_elbow left_wrist spine_2 gta_spine1 spine_1 pelvis gta_spine4
    right_hip right_knee right_ankle left_hip left_knee left_ankle gta_SKEL_ROOT gta_FB_R_Brow_Out_000 left_foot
    gta_MH_R_Elbow left_thumb_2 left_thumb_3 left_ring_2 left_ring_3 left_pinky_2 left_pinky_3
    left_index_2 left_index_3 left_middle_2 left_middle_3 gta_RB_L_ArmRoll gta_IK_R_Hand gta_RB_R_ThighRoll
    gta_FB_R_Lip_Corner_000 gta_SKEL_Pelvis gta_IK_Head gta_MH_R_Knee gta_FB_LowerLipRoot_000 gta_FB_R_Lip_Top_000
    gta_FB_R_CheekBone_000 gta_FB_UpperLipRoot_000 gta_FB_L_Lip_Top_000 gta_FB_LowerLip_000 right_foot
    gta_FB_L_CheekBone_000 gta_MH_L_Elbow gta_RB_L_ThighRoll gta_PH_R_Foot left_eye gta_SKEL_L_Finger00
    left_index_1 left_middle_1 left_ring_1 left_pinky_1 right_eye gta_PH_R_Hand gta_FB_L_Lip_Corner_000
    gta_IK_R_Foot gta_RB_Neck_1 gta_IK_L_Hand gta_RB_R_ArmRoll gta_FB_Brow_Centre_000 gta_FB_R_Lid_Upper_000
    gta_RB_R_ForeArmRoll gta_FB_L_Lid_Upper_000 gta_MH_L_Knee gta_FB_Jaw_000 gta_FB_L_Lip_Bot_000 gta_FB_Tongue_000
    gta_FB_R_Lip_Bot_000 gta_IK_Root gta_PH_L_Foot gta_FB_L_Brow_Out_000 gta_SKEL_R_Finger00
    right_index_1 right_middle_1 right_ring_1 right_pinky_1 gta_PH_L_Hand gta_RB_L_ForeArmRoll gta_FB_UpperLip_000
    right_thumb_2 right_thumb_3 right_ring_2 right_ring_3 right_pinky_2 right_pinky_3 right_index_2 right_index_3
    right_middle_2 right_middle_3 gta_FACIAL_facialRoot gta_IK_L_Foot nose"""
# `_4` is the end of a finger's last bone; it differs from SMPL's fingertip vertex.
_PEOPLE3D_ARM = f"collar shoulder elbow wrist {_each('middle thumb index ring pinky', '*_1 *_2 *_3 *_4')}"
_PEOPLE3D_LEG = "hip_extra knee ankle foot toe_end"
_PEOPLE3D = f"""pelvis_extra spine_1 spine_2 spine_3 neck head headtop right_eye left_eye
    {_sides(_PEOPLE3D_ARM)}
    {_each(_PEOPLE3D_LEG, "right_*")} {_each(_PEOPLE3D_LEG, "left_*")}"""

SKELETONS = {
    name: Skeleton(name, tuple(joints.split()))
    for name, joints in {
        # Skeletons that body models output.
        "smpl24": _SMPL,  # the kinematic joints; not the same as smpl_24
        "mesh24": _SMPL,  # the same joints, regressed from the posed vertices
        "smpl45": _SMPL45,
        "smpl54": _SMPL54,
        "smplx22": _SMPLX_BODY,
        "smplx52": f"{_SMPLX_BODY} {_VERTICES} {_EXTRA}",
        "h36m17": _H36M,
        "lsp14": _LSP,
        "spin19": f"{_LSP} pelvis_extra thorax_extra spine_extra jaw_extra head_extra",  # rows of SMPL_to_J19
        "hmr2_44": f"{_openpose(_OPENPOSE25)} {_LSP} pelvis_extra thorax_extra spine_extra jaw_extra head_extra",
        "hmr2_14": f"{_LSP.removesuffix(' headtop')} head_extra",  # the joints that 4D-Humans evaluates
        # The study's conventions, under its names. In crowdpose, penn_action, posetrack, coco_wholebody and
        # openpose_135, hips (and head and neck if present) have the names of SMPL's joints although they are annotated
        # in images. As in the study, they supervise SMPL's joints.
        "agora": _AGORA,
        "coco": _annotated(_COCO),
        "coco_wholebody": f"{_COCO} {_FEET} {_CONTOUR} {_FACE} {_sides(f'hand_root {_FINGERS}')}",
        "crowdpose": f"{_LIMB_PAIRS} head neck",
        "gta": _GTA,
        "h36m": _H36M,
        "h36m_mmpose": _annotated(f"pelvis {_RIGHT_LEG} {_LEFT_LEG} {_H36M_TORSO_ARMS}"),
        "human_data": _HUMAN_DATA,
        "hybrik_29": f"{_SMPLX_BODY.replace('head', 'jaw')} {_pairs('thumb')} head {_pairs('middle bigtoe')}",
        "hybrik_hp3d": _3DHP,
        "instavariety": _openpose(_INSTAVARIETY),
        "lsp": _LSP,
        "mpi_inf_3dhp": _annotated(_3DHP),
        "mpi_inf_3dhp_test": _3DHP_TEST,  # also MuPoTS-3D
        "mpii": _MPII,
        "none": "",  # body parameters only, no keypoints
        "openpose_25": _openpose(_OPENPOSE25),
        "openpose_118": f"{_openpose(_OPENPOSE25)} {_sides(f'wrist {_FINGERS}')} {_FACE}",
        "openpose_135": f"{_COCO} neck head {_FEET} {_sides(_FINGERS)} {_CONTOUR} {_FACE} right_eyeball left_eyeball",
        "penn_action": f"head {_LIMB_PAIRS}",
        "posetrack": f"nose head_bottom_pt headtop left_ear right_ear {_LIMB_PAIRS}",
        "pw3d": _annotated(f"nose neck {_LIMBS} {_EYES_EARS}"),
        "smpl": _SMPL,
        "smpl_24": _SPIN24,  # SPIN's annotated points: the second part of smpl_49
        "smpl_45": _SMPL45,
        "smpl_49": f"{_openpose(_OPENPOSE25)} {_SPIN24}",
        "smpl_54": _SMPL54,
        "smplx": _SMPLX,
        # Datasets that the study trained on without publishing their joint tables; reconstructed.
        "aic_14": _annotated(f"{_LIMBS} headtop neck"),
        "instavariety_nop": _annotated(_INSTAVARIETY),  # no OpenPose suffix, so that it supervises a body; also VLOG
        "lip_16": _MPII,
        "muco_21": f"{_3DHP_TEST} right_hand_3dhp left_hand_3dhp right_toe_3dhp left_toe_3dhp",
        "ochuman_19": _annotated(f"{_LIMBS} headtop neck right_ear left_ear nose right_eye left_eye"),
        "people3d": _PEOPLE3D,
        "prox": _annotated(_OPENPOSE25),  # OpenPose without the suffix, for the same reason; also MTP
    }.items()
}
ENDINGS = ("extra", "openpose", "h36m", "3dhp", "pt")  # of names that tell equal points of two conventions apart
PLAIN = {
    "headtop": "top of the head", "head_bottom": "base of the head", "thorax": "chest", "collar": "collarbone",
    "clavicle": "collarbone", "bigtoe": "big toe", "smalltoe": "small toe", "toe_end": "toe tip",
    "spine_1": "lower spine", "spine_2": "middle spine", "spine_3": "upper spine", "spine_4": "top of the spine",
}  # fmt: skip
TRAINING_SKELETON = "smpl54"
