"""Crops around a part of the body, as of a person close to the camera or behind a table.

Not in the study. Proposed by EFT (Joo et al., 3DV 2021). Parts, margins and chances are those of 4D-Humans'
hmr2/datasets/utils.py, with which HMR2.0 and CameraHMR are trained (level 1, p 0.1).
"""

from dataclasses import replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float
from numpy.random import Generator

from hmrb.data.occlude import Share
from hmrb.data.warp import turned
from hmrb.records import View
from hmrb.skeleton import SKELETONS

Points = frozenset[str]
Chances = dict[str, float]

MIN_SIDE_PX = 4  # as in 4D-Humans
MIN_POINTS = 2  # of a part, and of the head and shoulders of who is seen to the waist; as in 4D-Humans


def extreme_crop(view: View, rng: Generator, *, p: Share = 0.1, level: Literal[0, 1] = 1) -> View:
    """With p crop to the square around a part of the body: in level 0 the upper body, in level 1 also limbs.

    Which parts can be drawn depends on the labelled key points that the square shows: all shoulders, elbows, wrists,
    knees and ankles; or no knee or ankle, and two points of head and shoulders. For others, and for a part with fewer
    than two points, the square stays. The new square is inside the old one: it is moved into it and never larger. It
    replaces the old one's size: name it before `rotate_scale`, as in 4D-Humans. Not in the study.
    """
    if rng.random() >= p:
        return view
    share = rng.random()
    local = (view.keypoints2d[:, :2] - view.center) @ turned(-view.rotation).T
    seen = _seen(view, local)
    names = np.array([joint.removesuffix("_extra") for joint in SKELETONS[view.kind.keypoints].joints])
    part = drawn_part(frozenset(names[seen].tolist()), level, share)
    if not part:
        return view
    points, margin = PARTS[part]
    mine = local[seen & np.isin(names, list(points))]
    return _square_around(view, mine, margin) if len(mine) >= MIN_POINTS else view


def drawn_part(labelled: Points, level: int, share: float) -> str:
    """The part at `share` of the chances of a person with these points; empty if no part can be cut out."""
    if labelled >= WHOLE:
        chances = OF_WHOLE[level]
    elif not labelled & KNEES_DOWN and len(labelled & (HEAD | SHOULDERS)) >= MIN_POINTS:
        chances = OF_UPPER[level]
    else:
        return ""
    limits = np.cumsum(list(chances.values()))
    return list(chances)[min(int(np.searchsorted(limits, share, side="right")), len(chances) - 1)]


def _seen(view: View, local: Float[np.ndarray, "J 2"]) -> Bool[np.ndarray, " J"]:
    """Labelled points that are in the square and in the picture, whatever the picture shows beside the square."""
    height, width = view.image.shape[:2]
    inside = (view.keypoints2d[:, :2] >= -0.5) & (view.keypoints2d[:, :2] <= np.array([width, height]) - 0.5)
    return (view.keypoints2d[:, 2] > 0) & inside.all(1) & (np.abs(local) <= view.side / 2).all(1)


def _square_around(view: View, points: Float[np.ndarray, "N 2"], margin: float) -> View:
    """The square around points in the square's axes, relative to its centre, moved into the square."""
    low, high = points.min(0), points.max(0)
    side = min(margin * float((high - low).max()), view.side)
    if side < MIN_SIDE_PX:
        return view
    room = (view.side - side) / 2
    return replace(view, center=view.center + turned(view.rotation) @ np.clip((low + high) / 2, -room, room), side=side)


def _both(points: str) -> Points:
    return frozenset(f"{side}_{point}" for side in ("left", "right") for point in points.split())


def _of(side: str, points: str) -> Points:
    return frozenset(f"{side}_{point}" for point in points.split())


ARM, LEG = "shoulder elbow wrist", "hip knee ankle bigtoe smalltoe heel"
SHOULDERS, KNEES_DOWN = _both("shoulder"), _both("knee ankle")
WHOLE = _both(ARM) | KNEES_DOWN
HEAD = frozenset(("nose", "neck", "head", "headtop", "jaw")) | _both("eye ear")
TORSO = frozenset(("neck", "pelvis", "thorax", "spine")) | _both("shoulder hip")
# Points, without the endings of annotated ones, and the square's side as a multiple of the longer side of their box.
# 4D-Humans' head has OpenPose's shoulders too, but not annotated ones; here it never has shoulders.
PARTS: dict[str, tuple[Points, float]] = {
    "to_the_hips": (HEAD | TORSO | _both(ARM), 1.2 * 1.1),
    "to_the_shoulders": (HEAD | SHOULDERS, 1.2 * 1.2),
    "head": (HEAD, 1.2 * 1.3),
    "torso": (TORSO, 1.2 * 1.1),
    "right_arm": (_of("right", ARM), 1.2 * 1.1),
    "left_arm": (_of("left", ARM), 1.2 * 1.1),
    "legs": (_both(LEG) | {"pelvis"}, 1.2 * 1.1),
    "right_leg": (_of("right", LEG), 1.2 * 1.1),
    "left_leg": (_of("left", LEG), 1.2 * 1.1),
}
# By level: of people with a whole body, and of those who are seen to the waist.
OF_WHOLE: tuple[Chances, Chances] = (
    {"to_the_hips": 0.7, "to_the_shoulders": 0.2, "head": 0.1},
    {part: 0.2 if part == "to_the_hips" else 0.1 for part in PARTS},
)
OF_UPPER: tuple[Chances, Chances] = (
    {"to_the_shoulders": 0.9, "head": 0.1},
    dict.fromkeys(("to_the_shoulders", "head", "torso", "right_arm", "left_arm"), 0.2),
)
