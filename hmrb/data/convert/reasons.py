"""Why people are left out of a shard. Those of BY_DESIGN are the rules of a dataset or of hmrb; the others are faults.

Faults count against the limit of a conversion, rules do not. Where a clip is left out unread, it counts as one person.
"""

OUTSIDE = "the box is outside the image"
AS_IN_THE_STUDY = "a keypoint, labelled or not, is outside the image (as in the study)"
CROWD, NO_POINTS = "a crowd, not a person", "no key point is labelled"
OTHER_THING = "the category has no key points, so it is no person"
NO_BOX = "no box is given"
NO_LIMBS = "not all twelve points of the limbs are labelled"
NOT_ALL_INSIDE = "not all points are labelled and inside the image"
NOT_ALL_POINTS = "not all points are labelled"
INCOMPLETE = "points, position or scale are not given"
FEW_VISIBLE = "fewer than five points are visible"
NO_MASK = "no key points or no mask are given"
NO_FIT, HIDDEN_PELVIS = "no body is fitted", "the pelvis is hidden"
OUTSIDE_3DHP = "a joint is outside 2048 pixels (of all frames, before every tenth is taken)"
NO_FRAME = "the frame comes after the last image (of all frames, before every tenth is taken)"
NOT_VALID = "not marked as valid in the frame"
NOT_INSIDE_TEST = "a joint is outside 2048 pixels (as in the study)"
NO_MOSH = "a clip without MoSh (as in the study)"
MALFORMED_CLIP = "a clip of a malformed subject, by SURREAL's readme"
NO_JOINT_INSIDE = "no joint is inside the image"
HIDDEN_SCAN = "more than 90 percent are hidden (isValid)"
NOT_GOOD, EMPTY_BOX = "the frame is not good (good_frames_mask)", "the box of the frame is empty"
NOBODY_DETECTED = "OpenPose detected nobody"
NO_SMPLX = "the frame has no SMPL-X fit (as in the study)"
NO_CAMERA_POSE = "the camera's pose is not valid"
BY_DESIGN = frozenset(
    {
        OUTSIDE, AS_IN_THE_STUDY, CROWD, NO_POINTS, OTHER_THING, NO_BOX, NO_LIMBS, NOT_ALL_INSIDE, NOT_ALL_POINTS,
        INCOMPLETE, FEW_VISIBLE, NO_MASK, NO_FIT, HIDDEN_PELVIS, OUTSIDE_3DHP, NO_FRAME, NOT_VALID, NOT_INSIDE_TEST,
        NO_MOSH, MALFORMED_CLIP, NO_JOINT_INSIDE, HIDDEN_SCAN, NOT_GOOD, EMPTY_BOX, NOBODY_DETECTED, NO_SMPLX,
        NO_CAMERA_POSE,
    }
)  # fmt: skip

NO_SIZE = "the box has no size or a negative size"
NO_BODY = "the body is not finite"
STRAY = "the annotation names an image that its file does not list"


def without_box(has_points: bool) -> str:
    """Why a person has no box of points: none is labelled, or all are at one place."""
    return NO_SIZE if has_points else NO_POINTS
