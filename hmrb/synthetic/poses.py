"""Poses without motion capture: handwritten key poses, blended, recombined and perturbed.

A pose has one rotation matrix per joint, relative to its parent, on SMPL's T-pose: x to the person's left, y up,
facing +z. Limbs are written for the left side in degrees; the right side is mirrored.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hmrb.bodykind import SMPL_KIND

NUM_JOINTS = SMPL_KIND.num_joints
LEFT_ARM, RIGHT_ARM = [13, 16, 18, 20, 22], [14, 17, 19, 21, 23]
LEGS = [1, 2, 4, 5, 7, 8, 10, 11]
FLIP = np.array([-1.0, 1.0, 1.0])
SHRUG_SHARE = 0.3  # fraction of an arm's rise above the horizontal that the collar takes (scapulohumeral rhythm)
BLEND_REACH = 0.7  # maximum blend weight of the second key pose, so that the pose stays meaningful
# Degrees of noise per joint at strength 1: small for the spine and the feet, large for shoulders and elbows.
NOISE_DEGREES = np.array([2, 9, 9, 4, 9, 9, 4, 7, 7, 4, 3, 3, 7, 3, 3, 8, 14, 14, 12, 12, 10, 10, 6, 6], np.float64)
# Limits of a hinge's axis-angle in degrees: flexion 0..150 (calf touches thigh), play 8, forearm roll 60.
HINGES = {
    4: ((0, 150), (-8, 8), (-8, 8)),
    5: ((0, 150), (-8, 8), (-8, 8)),
    18: ((-60, 60), (-150, 0), (-8, 8)),
    19: ((-60, 60), (0, 150), (-8, 8)),
}

Rotations = Float[np.ndarray, "*N 3 3"]
Pose = Float[np.ndarray, "R 3 3"]
Limb = dict[int, np.ndarray]  # joint -> rotation


@dataclass(frozen=True, slots=True)
class PoseStyle:
    """Variation of sampled poses.

    `floor` is the weight of key poses on the floor (other poses have weight 1, common ones more or less); `blend` and
    `recombine` are probabilities; the noise strength is uniform in the range `noise`.
    """

    floor: float
    blend: float
    recombine: float
    noise: tuple[float, float]


def rotvec_to_rotmat(rotvec: Float[np.ndarray, "*N 3"]) -> Rotations:
    """Axis-angle in radians to rotation matrix (Rodrigues' formula)."""
    angle = np.sqrt((rotvec * rotvec).sum(-1))[..., None, None]
    skew = np.zeros((*rotvec.shape, 3))
    for axis, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
        skew[..., i, j], skew[..., j, i] = rotvec[..., axis], -rotvec[..., axis]
    sine, cosine = np.sinc(angle / np.pi), 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    matrix: np.ndarray = np.eye(3) + sine * skew + cosine * (skew @ skew)
    return matrix


def rotmat_to_rotvec(rotmat: Rotations) -> Float[np.ndarray, "*N 3"]:
    """Rotation matrix to axis-angle in radians with angle in [0, pi]; uses the largest quaternion component, stable
    near pi.
    """
    m = rotmat
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    wx, wy, wz = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    xy, xz, yz = m[..., 1, 0] + m[..., 0, 1], m[..., 0, 2] + m[..., 2, 0], m[..., 2, 1] + m[..., 1, 2]
    w2, x2, y2, z2 = 1 + xx + yy + zz, 1 + xx - yy - zz, 1 - xx + yy - zz, 1 - xx - yy + zz
    rows = np.array([[w2, wx, wy, wz], [wx, x2, xy, xz], [wy, xy, y2, yz], [wz, xz, yz, z2]])
    best = np.array([w2, x2, y2, z2]).argmax(0)
    quaternion = np.moveaxis(np.take_along_axis(rows, best[None, None], 0)[0], 0, -1)
    quaternion = quaternion / np.sqrt((quaternion * quaternion).sum(-1, keepdims=True))
    quaternion = np.where(quaternion[..., :1] < 0, -quaternion, quaternion)
    sine = np.sqrt((quaternion[..., 1:] ** 2).sum(-1, keepdims=True))
    half = np.arctan2(sine, quaternion[..., :1])
    rotvec: np.ndarray = quaternion[..., 1:] * np.where(sine > 1e-9, 2 * half / np.maximum(sine, 1e-9), 2.0)
    return rotvec


def turn(*, x: float = 0, y: float = 0, z: float = 0) -> Rotations:
    """Rotation by the axis-angle vector (x, y, z) in degrees; with one argument, about that axis."""
    return rotvec_to_rotmat(np.radians([x, y, z], dtype=np.float64))


def mirror(pose: Pose) -> Pose:
    """The pose with left and right swapped."""
    mirrored: np.ndarray = pose[SMPL_KIND.mirror] * FLIP[:, None] * FLIP
    return mirrored


def arm(*, lift: float = 9, ahead: float = 0, elbow: float = 12, roll: float = 0, wrist: float = 0) -> Limb:
    """The left arm. `lift`: 0 down, 90 horizontal, 180 up. `ahead`: 0 sideways, 90 forwards, more crosses the chest.

    `roll` rotates the upper arm outwards: for a horizontal arm to the side, 90 bends the forearm up and -90 down.
    """
    way = np.radians(ahead)
    raised = rotvec_to_rotmat(np.radians(lift) * np.array([-np.sin(way), 0, np.cos(way)]))
    shrug = turn(z=SHRUG_SHARE * max(0.0, lift - 90))
    shoulder = shrug.T @ raised @ turn(z=-90) @ turn(x=-roll)
    return {13: shrug, 16: shoulder, 18: turn(y=-elbow), 20: turn(z=wrist)}


def leg(*, flex: float = 0, apart: float = 5, out: float = 6, knee: float = 3, toes_up: float = 0) -> Limb:
    """The left leg. `flex`: thigh forwards (negative: backwards); `apart`: sideways; `out`: toes outwards."""
    return {1: turn(x=-flex) @ turn(z=apart) @ turn(y=out), 4: turn(x=knee), 7: turn(x=-toes_up)}


def trunk(
    *, bend: float = 0, side: float = 0, twist: float = 0, nod: float = 0, tilt: float = 0, look: float = 0
) -> Limb:
    """Spine and head. `bend`, `nod`: forwards; `side`, `tilt`: to the right; `twist`, `look`: to the left."""
    back = turn(y=twist / 3) @ turn(z=side / 3) @ turn(x=bend / 3)
    head = turn(y=look / 2) @ turn(z=tilt / 2) @ turn(x=nod / 2)
    return {3: back, 6: back, 9: back, 12: head, 15: head}


def both(*, arms: Limb | None = None, legs: Limb | None = None, spine: Limb | None = None, lean: float = 0) -> Pose:
    """A symmetric pose; by default arms hang and legs stand. `lean` tilts the whole body forwards, in degrees."""
    return each(arm_l=arms, arm_r=arms, leg_l=legs, leg_r=legs, spine=spine, lean=lean)


def each(
    *,
    arm_l: Limb | None = None,
    arm_r: Limb | None = None,
    leg_l: Limb | None = None,
    leg_r: Limb | None = None,
    spine: Limb | None = None,
    lean: float = 0,
    side: float = 0,
) -> Pose:
    """A pose from separate limbs, all written for the left side; `lean` and `side` tilt the whole body, in degrees."""
    pose = np.tile(np.eye(3), (NUM_JOINTS, 1, 1))
    for joint, rotation in ((arm_r or arm()) | (leg_r or leg())).items():
        pose[joint] = rotation
    pose = mirror(pose)
    for joint, rotation in ((arm_l or arm()) | (leg_l or leg()) | (spine or trunk())).items():
        pose[joint] = rotation
    pose[0] = turn(z=side) @ turn(x=lean)
    return pose


def sample_pose(rng: np.random.Generator, style: PoseStyle) -> Pose:
    """Sample a key pose, blend it with a second one, replace limbs, add noise and limit the hinges.

    The root keeps the key pose's lean; the caller chooses the facing direction.
    """
    pose = _draw_key(rng, style)
    if rng.random() < style.blend:
        pose = _between(pose, _draw_key(rng, style), BLEND_REACH * rng.beta(1.2, 1.2))
    for joints, chance in ((LEFT_ARM, style.recombine), (RIGHT_ARM, style.recombine), (LEGS, 0.6 * style.recombine)):
        if rng.random() < chance:
            pose[joints] = _draw_key(rng, style)[joints]
    strength = rng.uniform(*style.noise)
    shake = rng.standard_normal((NUM_JOINTS, 3)) * np.radians(strength * NOISE_DEGREES)[:, None]
    return limit_hinges(pose @ rotvec_to_rotmat(shake))


def limit_hinges(pose: Pose) -> Pose:
    """Clip knees and elbows to the limits in HINGES."""
    limited = pose.copy()
    joints = list(HINGES)
    low, high = np.moveaxis(np.radians([HINGES[joint] for joint in joints]), -1, 0)
    limited[joints] = rotvec_to_rotmat(np.clip(rotmat_to_rotvec(pose[joints]), low, high))
    return limited


def _draw_key(rng: np.random.Generator, style: PoseStyle) -> Pose:
    """Draw a key pose by weight and mirror it with probability 1/2."""
    weights = np.array([style.floor if name in FLOOR else COMMON.get(name, 1.0) for name in KEY_POSES])
    row = int(np.searchsorted(np.cumsum(weights / weights.sum()), rng.random()))
    pose = tuple(KEY_POSES.values())[min(row, len(KEY_POSES) - 1)]
    return mirror(pose) if rng.random() < 0.5 else pose.copy()


def _between(pose: Pose, other: Pose, share: float) -> Pose:
    """Interpolate every joint rotation towards the other pose by the fraction `share`."""
    turned: np.ndarray = pose @ rotvec_to_rotmat(share * rotmat_to_rotvec(np.swapaxes(pose, -1, -2) @ other))
    return turned


# Weights of key poses relative to 1, the default; poses on the floor have the style's weight.
COMMON = {"stand": 5, "contrapposto": 4.5, "walk": 4, "stroll": 4.5, "run": 2, "sit": 2, "wave": 1.5, "t": 0.5}
FLOOR = ("sit_floor", "sit_crossed", "plank", "crawl", "lie_back", "lie_side", "kneel", "stretch_floor")

KEY_POSES: dict[str, Pose] = {
    "t": both(arms=arm(lift=90, elbow=0)),
    "a": both(arms=arm(lift=45, elbow=5)),
    "stand": both(),
    "attention": both(arms=arm(lift=4, elbow=3), legs=leg(apart=1, out=3, knee=0)),
    "contrapposto": each(
        arm_l=arm(lift=14, elbow=25), leg_l=leg(apart=2), leg_r=leg(flex=16, apart=12, out=20, knee=26),
        spine=trunk(side=6, twist=5, tilt=-4),
    ),
    "legs_apart": both(arms=arm(lift=25, elbow=20), legs=leg(apart=20, out=12)),
    "stroll": each(
        arm_l=arm(lift=18, ahead=90, elbow=18), arm_r=arm(lift=18, ahead=-85, elbow=12),
        leg_l=leg(flex=-14, knee=18, toes_up=-12), leg_r=leg(flex=20, knee=5, toes_up=8), spine=trunk(twist=-4),
    ),
    "walk": each(
        arm_l=arm(lift=34, ahead=90, elbow=30), arm_r=arm(lift=28, ahead=-85, elbow=20),
        leg_l=leg(flex=-22, knee=30, toes_up=-20), leg_r=leg(flex=32, knee=10, toes_up=10),
        spine=trunk(bend=4, twist=-8),
    ),
    "jog": each(
        arm_l=arm(lift=30, ahead=85, elbow=85), arm_r=arm(lift=35, ahead=-80, elbow=80),
        leg_l=leg(flex=-8, knee=75, toes_up=-20), leg_r=leg(flex=38, knee=30), spine=trunk(bend=6, twist=-8), lean=5,
    ),
    "run": each(
        arm_l=arm(lift=55, ahead=85, elbow=95), arm_r=arm(lift=55, ahead=-80, elbow=90),
        leg_l=leg(flex=-25, knee=95, toes_up=-30), leg_r=leg(flex=62, knee=60), spine=trunk(bend=8, twist=-12), lean=12,
    ),
    "crouch_run": each(
        arm_l=arm(lift=50, ahead=80, elbow=90), arm_r=arm(lift=40, ahead=-80, elbow=85),
        leg_l=leg(flex=15, knee=90, toes_up=-20), leg_r=leg(flex=95, knee=85),
        spine=trunk(bend=25, twist=-8, nod=-20), lean=25,
    ),
    "sit": both(arms=arm(lift=28, ahead=72, elbow=60, roll=-25), legs=leg(flex=86, apart=10, knee=88)),
    "sit_back": each(
        arm_l=arm(lift=20, ahead=20, elbow=40), arm_r=arm(lift=45, ahead=-10, elbow=20),
        leg_l=leg(flex=72, apart=8, knee=55), leg_r=leg(flex=78, apart=14, knee=95), spine=trunk(bend=12), lean=-12,
    ),
    "sit_legs_crossed": each(
        arm_l=arm(lift=35, ahead=75, elbow=75, roll=-35), arm_r=arm(lift=25, ahead=70, elbow=70, roll=-35),
        leg_l=leg(flex=88, apart=4, knee=85), leg_r=leg(flex=98, apart=-12, out=-5, knee=75), spine=trunk(bend=8),
    ),
    "half_squat": both(
        arms=arm(lift=72, ahead=85, elbow=12), legs=leg(flex=78, apart=12, out=15, knee=80, toes_up=18),
        spine=trunk(bend=8), lean=18,
    ),
    "squat": both(
        arms=arm(lift=55, ahead=80, elbow=50), legs=leg(flex=118, apart=18, out=20, knee=138, toes_up=25),
        spine=trunk(bend=25, nod=-15), lean=16,
    ),
    "kneel_one": each(
        arm_l=arm(lift=35, ahead=75, elbow=55, roll=-20), leg_l=leg(flex=92, knee=92),
        leg_r=leg(flex=-4, knee=96, toes_up=-25), spine=trunk(bend=10),
    ),
    "lunge": each(
        arm_l=arm(lift=30, elbow=60), arm_r=arm(lift=30, elbow=60), leg_l=leg(flex=82, knee=84),
        leg_r=leg(flex=-32, knee=28, toes_up=35), spine=trunk(bend=-4), lean=6,
    ),
    "side_lunge": each(
        arm_l=arm(lift=50, ahead=60, elbow=70), arm_r=arm(lift=60, ahead=20, elbow=25),
        leg_l=leg(flex=55, apart=30, out=20, knee=75), leg_r=leg(apart=38, out=10, knee=3),
        spine=trunk(bend=15), lean=10,
    ),
    "reach_up": each(
        arm_l=arm(lift=165, ahead=60, elbow=12), leg_r=leg(flex=-10, knee=18), spine=trunk(side=8, nod=-25),
    ),
    "reach_forward": each(arm_l=arm(lift=92, ahead=88, elbow=8), spine=trunk(bend=14, twist=-15)),
    "arms_up": both(arms=arm(lift=168, ahead=20, elbow=15), spine=trunk(bend=-5)),
    "arms_v": both(arms=arm(lift=138, elbow=8), legs=leg(apart=12)),
    "cactus": both(arms=arm(lift=92, elbow=90, roll=90)),
    "arms_forward": both(arms=arm(lift=88, ahead=84, elbow=6)),
    "wave": each(arm_l=arm(lift=95, ahead=15, elbow=105, roll=78), spine=trunk(tilt=6)),
    "point": each(arm_l=arm(lift=86, ahead=42, elbow=4), arm_r=arm(lift=12, elbow=25), spine=trunk(look=25, twist=8)),
    "hands_on_hips": both(arms=arm(lift=48, ahead=-15, elbow=100, roll=-62), legs=leg(apart=9)),
    "hand_on_hip": each(
        arm_l=arm(lift=48, ahead=-15, elbow=100, roll=-62), leg_r=leg(flex=12, apart=10, knee=20), spine=trunk(side=-5),
    ),
    "phone": each(arm_l=arm(lift=42, ahead=60, elbow=138, roll=15), spine=trunk(tilt=-8, look=10)),
    "read_phone": both(arms=arm(lift=24, ahead=70, elbow=98, roll=-28), spine=trunk(bend=6, nod=32)),
    "crossed_arms": each(
        arm_l=arm(lift=38, ahead=78, elbow=98, roll=-72), arm_r=arm(lift=30, ahead=78, elbow=92, roll=-74),
        leg_l=leg(apart=8), spine=trunk(bend=3),
    ),
    "hold_box": both(arms=arm(lift=32, ahead=72, elbow=72, roll=-8), spine=trunk(bend=-6)),
    "hands_behind_head": both(arms=arm(lift=112, ahead=15, elbow=138, roll=88), spine=trunk(bend=-4)),
    "bow": both(
        arms=arm(lift=12, ahead=80, elbow=10), legs=leg(flex=48, knee=6), spine=trunk(bend=32, nod=10), lean=45,
    ),
    "pick_up": each(
        arm_l=arm(lift=70, ahead=80, elbow=8), arm_r=arm(lift=40, ahead=60, elbow=50),
        leg_l=leg(flex=92, knee=62, toes_up=15), leg_r=leg(flex=72, knee=68, toes_up=12), spine=trunk(bend=42), lean=42,
    ),
    "kick": each(
        arm_l=arm(lift=55, ahead=-20, elbow=20), arm_r=arm(lift=65, ahead=50, elbow=25),
        leg_l=leg(flex=72, knee=12, toes_up=-20), leg_r=leg(knee=12), spine=trunk(bend=10, twist=12), lean=-12,
    ),
    "side_kick": each(
        arm_l=arm(lift=40, ahead=60, elbow=95), arm_r=arm(lift=40, ahead=60, elbow=105),
        leg_l=leg(flex=12, apart=68, knee=8), leg_r=leg(knee=8), spine=trunk(side=12), side=18,
    ),
    "throw": each(
        arm_l=arm(lift=98, ahead=-20, elbow=95, roll=80), arm_r=arm(lift=75, ahead=75, elbow=15),
        leg_l=leg(flex=-15, knee=22), leg_r=leg(flex=35, knee=15), spine=trunk(twist=28, bend=-5, look=-20),
    ),
    "serve": each(
        arm_l=arm(lift=150, ahead=10, elbow=80, roll=60), arm_r=arm(lift=150, ahead=70, elbow=8),
        leg_l=leg(flex=-8, knee=20), leg_r=leg(flex=20, knee=25), spine=trunk(bend=-14, nod=-28),
    ),
    "swing": each(
        arm_l=arm(lift=55, ahead=80, elbow=10, roll=-20), arm_r=arm(lift=60, ahead=105, elbow=18),
        leg_l=leg(flex=25, apart=14, knee=22), leg_r=leg(flex=25, apart=14, knee=22),
        spine=trunk(bend=16, twist=38, nod=12, look=-25), lean=18,
    ),
    "jump": both(arms=arm(lift=125, ahead=35, elbow=20), legs=leg(flex=30, apart=12, knee=72, toes_up=-30)),
    "star": both(arms=arm(lift=118, elbow=4), legs=leg(apart=34, out=14)),
    "climb": each(
        arm_l=arm(lift=150, ahead=75, elbow=35), arm_r=arm(lift=85, ahead=80, elbow=85),
        leg_l=leg(flex=5, knee=12), leg_r=leg(flex=88, apart=14, knee=92), spine=trunk(bend=6, nod=-15),
    ),
    "one_leg": each(
        arm_l=arm(lift=88, elbow=10), arm_r=arm(lift=80, elbow=14), leg_r=leg(flex=72, apart=18, out=30, knee=118),
    ),
    "arabesque": each(
        arm_l=arm(lift=98, ahead=80, elbow=5), arm_r=arm(lift=85, elbow=6), leg_l=leg(flex=48),
        leg_r=leg(flex=-22, knee=8, toes_up=-30), spine=trunk(bend=-8, nod=-20), lean=48,
    ),
    "twist": both(arms=arm(lift=62, elbow=55), legs=leg(apart=12), spine=trunk(twist=42, look=20)),
    "side_bend": each(
        arm_l=arm(lift=160, elbow=25), arm_r=arm(lift=16, elbow=8), leg_l=leg(apart=10), leg_r=leg(apart=10),
        spine=trunk(side=-28, tilt=-8),
    ),
    "stretch_floor": both(
        arms=arm(lift=70, ahead=82, elbow=10), legs=leg(flex=92, apart=6, knee=6), spine=trunk(bend=35), lean=8,
    ),
    "sit_floor": each(
        arm_l=arm(lift=48, ahead=-75, elbow=8), arm_r=arm(lift=45, ahead=60, elbow=35),
        leg_l=leg(flex=80, apart=8, knee=8), leg_r=leg(flex=105, apart=8, knee=85), spine=trunk(bend=8), lean=-12,
    ),
    "sit_crossed": both(
        arms=arm(lift=30, ahead=60, elbow=50, roll=-15), legs=leg(flex=88, apart=42, out=48, knee=122),
        spine=trunk(bend=14),
    ),
    "kneel": both(arms=arm(lift=18, ahead=60, elbow=40), legs=leg(flex=2, apart=8, knee=92, toes_up=-50)),
    "crawl": each(
        arm_l=arm(lift=92, ahead=84, elbow=6), arm_r=arm(lift=68, ahead=84, elbow=12),
        leg_l=leg(flex=72, knee=88, toes_up=-40), leg_r=leg(flex=98, knee=92, toes_up=-40),
        spine=trunk(nod=-28), lean=84,
    ),
    "plank": both(arms=arm(lift=82, ahead=84, elbow=5), legs=leg(flex=-4, knee=2), spine=trunk(nod=-15), lean=76),
    "lie_back": each(
        arm_l=arm(lift=32, elbow=10), arm_r=arm(lift=40, ahead=30, elbow=60), leg_l=leg(flex=4, apart=8),
        leg_r=leg(flex=42, apart=8, knee=72), lean=-90,
    ),
    "lie_side": each(
        arm_l=arm(lift=28, ahead=70, elbow=40), arm_r=arm(lift=130, ahead=60, elbow=110, roll=20),
        leg_l=leg(flex=48, knee=62), leg_r=leg(flex=15, knee=20), side=84,
    ),
}  # fmt: skip
