"""Poses of the domains: blends of two key poses of one group, where each pair of key poses belongs to one split."""

import zlib
from functools import cache

import numpy as np

from hmrb.synthetic.poses import (
    KEY_POSES,
    LEFT_ARM,
    NOISE_DEGREES,
    NUM_JOINTS,
    RIGHT_ARM,
    Pose,
    arm,
    both,
    each,
    leg,
    limit_hinges,
    mirror,
    rotmat_to_rotvec,
    rotvec_to_rotmat,
    trunk,
)

PARTS = 8  # of all pairs, one part is for val, one for test, the others for train
UPRIGHT = (
    "stand", "contrapposto", "walk", "stroll", "wave", "point", "hands_on_hips", "hand_on_hip", "phone", "read_phone",
    "crossed_arms", "hold_box", "reach_forward", "attention",
)  # fmt: skip
SCRIPTED = ("stand", "walk", "stroll", "arms_up", "arms_v", "cactus", "arms_forward", "wave", "twist", "t", "a", "bow")
ATHLETIC = (
    "run", "crouch_run", "kick", "side_kick", "throw", "serve", "swing", "jump", "star", "climb", "one_leg",
    "arabesque", "lunge", "side_lunge", "squat", "reach_up", "side_bend", "leap", "split",
)  # fmt: skip
UPSIDE_DOWN = ("handstand", "cartwheel", "bridge")
ON_SEATS = ("sit", "sit_back", "sit_legs_crossed", "sit_typing", "sit_leaning")
ON_FLOOR = ("sit_floor", "sit_crossed", "stretch_floor", "sit_hugging")
LYING = ("lie_back", "lie_flat", "lie_arms_up")
LYING_FRONT = ("lie_front", "lie_front_arms")
LYING_SIDE = ("lie_side", "lie_curled")

MORE_POSES: dict[str, Pose] = {
    "leap": each(
        arm_l=arm(lift=110, ahead=70, elbow=10), arm_r=arm(lift=95, ahead=-20, elbow=15),
        leg_l=leg(flex=-48, knee=20, toes_up=-35), leg_r=leg(flex=88, knee=12, toes_up=-20),
        spine=trunk(bend=8, twist=-15), lean=10,
    ),
    "split": each(
        arm_l=arm(lift=85, elbow=5), arm_r=arm(lift=85, elbow=5), leg_l=leg(flex=82, apart=6, knee=4),
        leg_r=leg(flex=-70, apart=6, knee=8, toes_up=-40), spine=trunk(bend=6),
    ),
    "handstand": both(arms=arm(lift=172, ahead=40, elbow=4), legs=leg(flex=4, apart=8, toes_up=-30), lean=180),
    "cartwheel": each(
        arm_l=arm(lift=150, elbow=5), arm_r=arm(lift=150, elbow=5), leg_l=leg(apart=42), leg_r=leg(apart=42), side=140,
    ),
    "bridge": both(
        arms=arm(lift=175, ahead=60, elbow=5), legs=leg(flex=-12, apart=12, knee=70), spine=trunk(bend=-60, nod=-20),
        lean=-135,
    ),
    "sit_typing": both(
        arms=arm(lift=30, ahead=75, elbow=75, roll=-20), legs=leg(flex=84, apart=6, knee=78), spine=trunk(bend=12),
    ),
    "sit_leaning": each(
        arm_l=arm(lift=52, ahead=80, elbow=95, roll=-10), arm_r=arm(lift=40, ahead=75, elbow=40),
        leg_l=leg(flex=92, apart=16, knee=92), leg_r=leg(flex=88, apart=18, knee=80), spine=trunk(bend=40, nod=-12),
        lean=10,
    ),
    "sit_hugging": both(
        arms=arm(lift=50, ahead=85, elbow=55, roll=-20), legs=leg(flex=112, apart=6, knee=118), spine=trunk(bend=30),
        lean=-6,
    ),
    "lie_flat": both(arms=arm(lift=22, elbow=8), legs=leg(apart=8, toes_up=-15), lean=-90),
    "lie_arms_up": each(
        arm_l=arm(lift=140, ahead=10, elbow=60), arm_r=arm(lift=115, ahead=10, elbow=100, roll=60),
        leg_l=leg(flex=30, apart=14, knee=55), leg_r=leg(apart=6), lean=-90,
    ),
    "lie_front": both(arms=arm(lift=25, elbow=12), legs=leg(apart=8, toes_up=-45), spine=trunk(look=50), lean=90),
    "lie_front_arms": both(
        arms=arm(lift=120, ahead=15, elbow=95, roll=70), legs=leg(apart=14, toes_up=-45), spine=trunk(look=-55),
        lean=90,
    ),
    "lie_curled": each(
        arm_l=arm(lift=60, ahead=80, elbow=110), arm_r=arm(lift=70, ahead=75, elbow=120),
        leg_l=leg(flex=85, knee=100), leg_r=leg(flex=70, knee=92), spine=trunk(bend=25, nod=15), side=88,
    ),
}  # fmt: skip
ACTIONS = KEY_POSES | MORE_POSES


@cache
def pairs(group: tuple[str, ...], split: str) -> tuple[tuple[str, str], ...]:
    """The ordered pairs of a group's key poses that belong to a split; no pair belongs to two. Never empty."""
    every = sorted(((a, b) for a in group for b in group), key=lambda pair: zlib.crc32("-".join(pair).encode()))
    held = max(len(every) // PARTS, 1)
    chosen = {"val": every[:held], "test": every[held : 2 * held]}.get(split, every[2 * held :])
    return tuple(chosen)


def sample_action(
    rng: np.random.Generator, group: tuple[str, ...], split: str, noise: tuple[float, float]
) -> tuple[Pose, str]:
    """Sample a pair of a split, blend its key poses, the arms apart from the rest, add noise; and the pair's name.

    `noise` is the range of the strength of the noise; see NOISE_DEGREES.
    """
    mine = pairs(group, split)
    first, second = mine[int(rng.integers(len(mine)))]
    pose, other = ACTIONS[first], ACTIONS[second]
    share = np.full(NUM_JOINTS, rng.uniform(0, 0.6))
    share[LEFT_ARM], share[RIGHT_ARM] = rng.uniform(0, 1, 2)
    towards = rotmat_to_rotvec(np.swapaxes(pose, -1, -2) @ other)
    pose = pose @ rotvec_to_rotmat(share[:, None] * towards)
    pose = mirror(pose) if rng.random() < 0.5 else pose
    shake = rng.standard_normal((NUM_JOINTS, 3)) * np.radians(rng.uniform(*noise) * NOISE_DEGREES)[:, None]
    shake[0] = 0 if "lie" in first else shake[0]  # who lies, lies flat
    return limit_hinges(pose @ rotvec_to_rotmat(shake)), f"{first}-{second}"
