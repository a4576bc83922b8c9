"""Crops around parts of the body: which part, its square, and the people who are left as they are."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import view

from hmrb.data.augment import augmenter
from hmrb.data.extreme_crop import OF_UPPER, OF_WHOLE, PARTS, drawn_part, extreme_crop
from hmrb.data.warp import mirror, turned, warp
from hmrb.preflight import needed_region
from hmrb.records import View
from hmrb.skeleton import SKELETONS
from hmrb.spec import Op, parse_experiment

SMPL54 = SKELETONS["smpl54"]
# A person who stands with arms apart, as annotated: x, y in a picture of 200 x 300.
STANDING = {
    "nose": (100, 50), "right_eye": (97, 46), "left_eye": (103, 46), "headtop": (100, 35), "neck_extra": (100, 70),
    "right_shoulder": (85, 75), "left_shoulder": (115, 75), "right_elbow": (65, 90), "left_elbow": (135, 100),
    "right_wrist": (45, 80), "left_wrist": (130, 130), "right_hip_extra": (90, 140), "left_hip_extra": (110, 142),
    "right_knee": (88, 190), "left_knee": (114, 192), "right_ankle": (86, 240), "left_ankle": (118, 242),
    "left_bigtoe": (126, 248), "pelvis_extra": (100, 140), "thorax_extra": (100, 78),
}  # fmt: skip
KNEES_DOWN = [name for name in STANDING if name.endswith(("knee", "ankle", "toe"))]
SQUARE = {"center": np.array([100.0, 140.0]), "side": 260.0}


def standing(*without: str, **changes: object) -> View:
    points = np.zeros((54, 3), np.float32)
    for name, place in STANDING.items():
        if name not in without:
            points[SMPL54.index(name)] = *place, 1
    return view(np.zeros((300, 200, 3), np.uint8), **{"keypoints2d": points, **SQUARE, **changes})


def squares(start: View, level: int, draws: int = 300) -> set[tuple[float, float, float]]:
    """What many draws give: centre and side, rounded."""
    out = [extreme_crop(start, np.random.default_rng(seed), p=1, level=level) for seed in range(draws)]
    return {(*np.round(one.center, 3).tolist(), round(one.side, 3)) for one in out}


def around(*names: str, margin: float) -> tuple[float, float, float]:
    places = np.array([STANDING[name] for name in names], float)
    low, high = places.min(0), places.max(0)
    return (*((low + high) / 2).tolist(), round(margin * (high - low).max(), 3))


TO_HIPS = around("headtop", "right_wrist", "left_elbow", "left_hip_extra", margin=1.32)
TO_SHOULDERS = around("headtop", "right_shoulder", "left_shoulder", margin=1.44)
HEAD = around("headtop", "neck_extra", "right_eye", "left_eye", margin=1.56)
TORSO = around("neck_extra", "right_shoulder", "left_shoulder", "left_hip_extra", margin=1.32)
RIGHT_ARM = around("right_shoulder", "right_elbow", "right_wrist", margin=1.32)
LEFT_ARM = around("left_shoulder", "left_elbow", "left_wrist", margin=1.32)
LEGS = around("right_ankle", "left_bigtoe", "right_hip_extra", margin=1.32)
RIGHT_LEG = around("right_hip_extra", "right_knee", "right_ankle", margin=1.32)
LEFT_LEG = around("left_hip_extra", "left_ankle", "left_bigtoe", margin=1.32)


def test_parts_are_the_boxes_of_their_points_with_their_margins() -> None:
    assert squares(standing(), 0) == {TO_HIPS, TO_SHOULDERS, HEAD}
    everything = {TO_HIPS, TO_SHOULDERS, HEAD, TORSO, RIGHT_ARM, LEFT_ARM, LEGS, RIGHT_LEG, LEFT_LEG}
    assert squares(standing(), 1) == everything
    assert len(everything) == 9


def test_who_is_seen_to_the_waist_keeps_their_upper_body() -> None:
    start = standing(*KNEES_DOWN)
    assert squares(start, 0) == {TO_SHOULDERS, HEAD}
    assert squares(start, 1) == {TO_SHOULDERS, HEAD, TORSO, RIGHT_ARM, LEFT_ARM}


UNCHANGED = {(100.0, 140.0, 260.0)}


@pytest.mark.parametrize(
    "start",
    [
        standing(*STANDING),  # no labels
        standing("left_wrist"),  # neither whole nor without legs
        standing(*[name for name in KNEES_DOWN if name != "left_ankle"]),
        standing(*[name for name in STANDING if name != "nose"]),  # one point
        standing(center=np.array([900.0, 900.0])),  # labels, but none in the square
    ],
    ids=["none", "a wrist less", "one ankle", "nose", "outside"],
)
def test_others_keep_their_square(start: View) -> None:
    unchanged = {(*start.center.tolist(), start.side)}
    assert squares(start, 0) == squares(start, 1) == unchanged


def test_a_part_without_labels_keeps_the_square() -> None:
    only_head = standing(*[name for name in STANDING if name not in ("nose", "left_eye", "right_eye")])
    assert squares(only_head, 1) == {around("nose", "left_eye", "right_eye", margin=1.44)} | {
        around("nose", "left_eye", "right_eye", margin=1.56)
    } | UNCHANGED  # fmt: skip


def test_a_point_outside_the_picture_or_the_square_is_not_seen() -> None:
    """The legs are labelled, as by a fitted body, but cut off: the person is one who is seen to the waist."""
    start = standing()
    cut = replace(start, image=start.image[:180])
    assert squares(cut, 0) == {TO_SHOULDERS, HEAD}
    higher = replace(start, center=np.array([100.0, 80.0]), side=200.0)
    assert squares(higher, 0) == {TO_SHOULDERS, HEAD}


@pytest.mark.parametrize(("scale", "sides"), [(0.026, set()), (0.03, {4.2, 4.3})])
def test_a_part_of_few_pixels_keeps_the_square(scale: float, sides: set[float]) -> None:
    """Upper body and legs are the largest parts, of 141 and 143 px: 3.7 px each, below 4D-Humans' 4, or 4.2 and 4.3."""
    start = standing(keypoints2d=standing().keypoints2d * (scale, scale, 1), center=np.array([3.0, 4.2]), side=8.4)
    assert {round(side, 1) for _, _, side in squares(start, 1)} == {8.4} | sides


def test_a_part_that_is_larger_than_the_square_keeps_it() -> None:
    """Head and shoulders fill the square: with their margins, 58 and 55 px of 44."""
    start = standing(center=np.array([100.0, 55.0]), side=44.0)
    assert squares(start, 0) == {(100.0, 55.0, 44.0)}


@pytest.mark.parametrize("degrees", [0.0, 30.0, -120.0])
def test_a_new_square_is_inside_the_old_one_along_its_axes(degrees: float) -> None:
    """Also where the margin reaches out of it; corners in the axes of the old square."""
    turn = np.deg2rad(degrees)
    start = standing(center=np.array([100.0, 140.0]), side=226.0, rotation=turn)
    moved = 0
    for seed in range(200):
        out = extreme_crop(start, np.random.default_rng(seed), p=1)
        assert out.rotation == turn
        offset = turned(-turn) @ (out.center - start.center)
        assert (np.abs(offset) + out.side / 2 <= start.side / 2 + 1e-6).all()
        moved += out.side < start.side
    assert moved > 150


def test_a_turned_square_holds_its_part_with_the_margin() -> None:
    """The part's points fill 1 / 1.32 of a limb's crop, however the square is turned."""
    start = standing(rotation=0.5)
    arm = [SMPL54.index(f"right_{point}") for point in ("shoulder", "elbow", "wrist")]
    seeds = [seed for seed in range(200) if drawn_share(seed) == "right_arm"]
    out = warp(extreme_crop(start, np.random.default_rng(seeds[0]), p=1), 132)
    places = out.keypoints2d[arm, :2]
    assert np.ptp(places, 0).max() == pytest.approx(100, abs=0.1)
    np.testing.assert_allclose((places.max(0) + places.min(0)) / 2, 66, atol=0.1)


def drawn_share(seed: int) -> str:
    rng = np.random.default_rng(seed)
    rng.random()
    return drawn_part(frozenset(name.removesuffix("_extra") for name in STANDING), 1, rng.random())


def test_the_right_arm_is_the_right_arm_of_who_is_mirrored() -> None:
    start = mirror(standing())
    seed = next(seed for seed in range(200) if drawn_share(seed) == "right_arm")
    out = extreme_crop(start, np.random.default_rng(seed), p=1)
    x, y, side = LEFT_ARM  # of the person before, whose right it is now
    np.testing.assert_allclose([*out.center, out.side], [199 - x, y, side], atol=1e-3)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ops", [("extreme_crop",), ("extreme_crop", "flip", "rotate_scale"), ("flip", "extreme_crop")])
def test_labels_stay_on_their_pixels(ops: tuple[str, ...], seed: int) -> None:
    """A dot at each joint is found at the joint's place in the crop."""
    args = {"extreme_crop": {"p": 1}, "flip": {"p": 1}}
    run = augmenter([Op(name=name, args=args.get(name, {})) for name in ops], "any")
    mirrored = SMPL54.mirror()
    shown = 0
    for name in ("nose", "left_elbow", "right_wrist", "right_knee", "left_hip_extra"):
        start = standing()
        cv2.circle(start.image, STANDING[name], 2, (255, 255, 255), -1)
        out = run(start, np.random.default_rng(seed), 128)
        row = SMPL54.index(name)
        x, y = out.keypoints2d[mirrored[row] if "flip" in ops else row, :2]
        bright = out.image[..., 0].astype(float)
        if not (12 < x < 116 and 12 < y < 116):
            continue
        shown += 1
        found = (np.indices(bright.shape)[::-1] * bright).sum((1, 2)) / bright.sum()
        np.testing.assert_allclose(found, [x, y], rtol=0, atol=0.5)
    assert shown


def test_the_chances_of_the_parts_sum_to_1() -> None:
    for chances in (*OF_WHOLE, *OF_UPPER):
        assert sum(chances.values()) == pytest.approx(1)
        assert chances.keys() <= PARTS.keys()
    whole = frozenset(name.removesuffix("_extra") for name in STANDING)
    assert drawn_part(whole, 1, 0.0) == drawn_part(whole, 1, 0.199) == "to_the_hips"
    assert drawn_part(whole, 1, 0.201) == "to_the_shoulders"
    assert drawn_part(whole, 1, np.nextafter(1, 0)) == "left_leg"
    assert drawn_part(whole, 0, np.nextafter(1, 0)) == "head"


@pytest.mark.parametrize("skeleton", ["smpl54", "coco", "lsp", "mpii", "spin19"])
def test_parts_are_known_by_the_names_of_skeletons(skeleton: str) -> None:
    names = {joint.removesuffix("_extra") for joint in SKELETONS[skeleton].joints}
    assert all(len(names & points) >= 2 for points, _ in PARTS.values())
    assert all(points <= {joint.removesuffix("_extra") for joint in SMPL54.joints} for points, _ in PARTS.values())


def test_a_region_needs_no_more_pixels_and_no_wider_reach() -> None:
    """A part's pixels are enlarged, as those of `random_crop`, and its square is inside the person's."""
    from conftest import tiny_tree

    def needed(*ops: object) -> object:
        data = {"mix": {"synthetic": 1.0}, "workers": 0, "augment": list(ops)}
        return needed_region(parse_experiment(tiny_tree() | {"data": data}, "tiny"), "synthetic")

    crop = {"extreme_crop": {"p": 1}}
    assert needed(crop) == needed()
    assert needed(crop, "rotate_scale") == needed("rotate_scale")
    assert needed("random_crop", crop) == needed("random_crop")


@pytest.mark.parametrize("first", ["extreme_crop", "rotate_scale"])
def test_turned_and_grown_squares_of_parts_stay_in_the_reach(first: str) -> None:
    names = [first, "rotate_scale" if first == "extreme_crop" else "extreme_crop"]
    args = {"extreme_crop": {"p": 1}, "rotate_scale": {"p": 1, "rotation_deg": 30, "scale": 0.25}}
    ops = augmenter([Op(name=name, args=args[name]) for name in names], "any").before
    reach = 1.25 * np.sqrt(2)
    corners = np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    start = standing(side=226.0)
    for seed in range(300):
        rng, out = np.random.default_rng(seed), start
        for op in ops:
            out = op(out, rng)
        at = out.center + out.side / 2 * corners @ turned(out.rotation).T
        assert np.abs(at - start.center).max() <= reach * start.side / 2 + 1e-6
