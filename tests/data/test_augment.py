import inspect
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import golden, view

from hmrb.data.augment import (
    AFTER_WARP,
    AUGMENTS,
    BEFORE_WARP,
    HUES,
    augmenter,
    distort,
    photometric_distortion,
    random_crop,
    smaller_square,
)
from hmrb.data.warp import crop_matrix, exposed, mirror, warp
from hmrb.errors import RequestError
from hmrb.lookup import bind
from hmrb.records import View
from hmrb.skeleton import SKELETONS
from hmrb.spec import DataSpec, Op


def golden_view(g: dict[str, np.ndarray], row: int, **changes) -> View:
    labels = {
        "keypoints2d": g["kp2d"][row].astype(np.float32),
        "keypoints3d": g["kp3d"][row].astype(np.float32),
        "pose": g["pose"][row].reshape(24, 3).astype(np.float32),
    }
    return view(np.ascontiguousarray(g["img"][..., ::-1]), **labels | changes)


def test_crop_matrices_equal_the_study() -> None:
    g = golden("5_transforms_part")
    for (x, y, side, degrees), matrix in zip(g["affine/params_cx_cy_s_rot"], g["affine/matrix_224"], strict=True):
        square = golden_view(g, 0, center=np.array([x, y]), side=side, rotation=np.deg2rad(degrees))
        np.testing.assert_allclose(crop_matrix(square, 224), matrix, rtol=0, atol=3e-4)  # theirs is solved in float32


def test_mirrored_labels_equal_the_study() -> None:
    g = golden("5_transforms_part")
    for row in range(5):
        out = mirror(golden_view(g, row))
        np.testing.assert_allclose(out.pose.ravel(), g["flip/pose"][row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(out.keypoints2d, g["flip/kp2d_w131"][row], rtol=0, atol=1e-4)
        np.testing.assert_allclose(out.keypoints3d, g["flip/kp3d"][row], rtol=0, atol=1e-5)


def test_turned_labels_equal_the_study() -> None:
    g = golden("5_transforms_part")
    for row, degrees in enumerate(g["rot/deg"]):
        out = warp(golden_view(g, row, rotation=np.deg2rad(degrees)), 64)
        np.testing.assert_allclose(out.pose.ravel(), g["rot/pose"][row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(out.keypoints3d[:, :3], g["rot/kp3d"][row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("degrees", [0.0, 25.0, -40.0])
def test_who_is_turned_and_then_mirrored_is_the_mirror_image_of_who_is_turned(degrees: float) -> None:
    turned = golden_view(golden("5_transforms_part"), 0, rotation=np.deg2rad(degrees))
    plain, mirrored = warp(turned, 64), warp(mirror(turned), 64)
    rows, body = SKELETONS["smpl54"].mirror(), SKELETONS["smpl24"].mirror()
    seen = mirrored.keypoints2d[:, 2] > 0
    x, y = plain.keypoints2d[rows][seen, :2].T
    # Float32 pixels and radians.
    np.testing.assert_allclose(mirrored.keypoints2d[seen, :2].T, [64 - x, y], rtol=0, atol=1e-3)
    np.testing.assert_allclose(mirrored.keypoints3d[:, :3], plain.keypoints3d[rows, :3] * (-1, 1, 1), atol=1e-5)
    np.testing.assert_allclose(mirrored.pose, plain.pose[body] * (1, -1, -1), atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_way_equals_the_study(seed: int) -> None:
    """The study's five seeded runs: noise, flip, scale, rotation, warp; pixels match up to the effect of late noise."""
    inputs = golden("5_transforms_part")
    g = {key.removeprefix(f"pipeline/seed{seed}/"): value for key, value in inputs.items() if f"seed{seed}/" in key}
    center, flipped = g["center"], bool(g["is_flipped"][0])
    start = np.array([130 - center[0], center[1]]) if flipped else center
    square = golden_view(inputs, seed, center=start, side=float(g["scale"][0]))
    square = replace(mirror(square) if flipped else square, rotation=np.deg2rad(float(g["rotation"])))
    out = warp(square, 224)
    np.testing.assert_allclose(out.keypoints2d, g["keypoints2d"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(out.keypoints3d, g["keypoints3d"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(out.pose[0], g["smpl_global_orient"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(out.pose[1:], g["smpl_body_pose"], rtol=0, atol=1e-5)
    theirs = g["img"][..., ::-1].astype(float)
    # The study multiplies the source by noise; where nothing saturates, the crops are equal up to that gain.
    ours, inside = out.image.reshape(-1, 3).astype(float), (theirs.max(-1) < 250).ravel() & (theirs.min(-1) > 0).ravel()
    for channel in range(3):
        unsaturated = inside & (ours[:, channel] < 180)  # gains go up to 1.4
        a, b = ours[unsaturated, channel], theirs.reshape(-1, 3)[unsaturated, channel]
        gain = (a @ b) / (a @ a)
        assert np.abs(gain * a - b).mean() < 1.5  # rounding, and interpolation between OpenCV versions


@pytest.mark.parametrize("seed", range(3))
def test_a_cropped_square_equals_the_study(seed: int) -> None:
    """The study's axis y moves along y: it draws for one axis and swaps them twice."""
    g = golden("5_augment")
    before, after = (g[f"aug/{name}/seed{seed}/center_scale"] for name in ("rand_occ", "rand_crop"))
    legacy = np.random.RandomState(seed)
    assert legacy.rand() <= 0.8
    start = view(g["img"], center=before[:2], side=float(before[2]))
    out = smaller_square(start, 0.4, 0.5, float(legacy.rand()))
    np.testing.assert_array_equal([*out.center, out.side, out.side], after)


@pytest.mark.parametrize(("axis", "moves"), [("x", (True, False)), ("y", (False, True)), ("all", (True, True))])
def test_a_crop_moves_along_its_axis(axis: str, moves: tuple[bool, bool]) -> None:
    start = view(np.zeros((100, 200, 3), np.uint8))
    out = [random_crop(start, np.random.default_rng(seed), p=1, axis=axis) for seed in range(200)]
    shifts = np.array([v.center - start.center for v in out])
    assert {v.side for v in out} == {36.0}  # 60 minus 40 %
    for shift, moved in zip(shifts.T, moves, strict=True):
        assert (shift.min(), shift.max()) == ((-12, 11) if moved else (0, 0))  # 24 px of free space, integer pixels


def study_distortion(legacy: np.random.RandomState) -> tuple[float, float, float, int, float]:
    """The study's random numbers in its order: shift, contrast before, saturation, hue, contrast after."""
    shift = legacy.uniform(-32, 32) if legacy.randint(2) else 0.0
    contrast_first = legacy.randint(2)
    first = legacy.uniform(0.5, 1.5) if contrast_first and legacy.randint(2) else 1.0
    mode = legacy.randint(4)
    saturation = legacy.uniform(0.5, 1.5) if mode in (1, 3) else 1.0
    hue = legacy.randint(-18, 18) if mode in (2, 3) else 0
    last = legacy.uniform(0.5, 1.5) if not contrast_first and legacy.randint(2) else 1.0
    return shift, first, saturation, int(hue), last


@pytest.mark.parametrize("seed", range(3))
def test_distorted_colours_equal_the_study(seed: int) -> None:
    g = golden("5_augment")
    image = np.ascontiguousarray(g["img"][..., ::-1])
    ours = distort(image, *study_distortion(np.random.RandomState(seed)), (0, 1, 2))
    np.testing.assert_array_equal(ours[..., ::-1], g[f"aug/photometric/seed{seed}/img"])


def test_a_new_order_of_channels_has_an_effect() -> None:
    """The study draws it but discards the result."""
    picture = np.zeros((4, 4, 3), np.uint8) + np.array([10, 20, 30], np.uint8)
    assert (distort(picture, 0.0, 1.0, 1.0, 0, 1.0, (2, 0, 1)) == [30, 10, 20]).all()
    plain = {"brightness": 0, "contrast": (1, 1), "saturation": (1, 1), "hue": 0}
    out = [photometric_distortion(view(picture), np.random.default_rng(i), **plain).image[0, 0] for i in range(600)]
    orders = np.array([tuple(pixel) != (10, 20, 30) for pixel in out])
    assert 0.35 < orders.mean() < 0.49  # drawn with probability 1/2; 1 in 6 permutations is the identity


def test_hues_are_shifted_around_the_circle() -> None:
    red = np.full((2, 2, 3), (200, 0, 0), np.uint8)
    for hue, colour in ((0, (200, 0, 0)), (60, (0, 200, 0)), (-60, (0, 0, 200)), (-HUES, (200, 0, 0))):
        assert (distort(red, 0.0, 1.0, 1.0, hue, 1.0, (0, 1, 2)) == colour).all()


def test_noise_in_the_pixels_equals_the_study() -> None:
    g = golden("5_augment")
    out = exposed(view(g["img"], gain=g["noise/factors"]))
    np.testing.assert_array_equal(out.image, g["noise/img"])
    assert (out.gain == 1).all()


MOVING = ("channel_noise", "random_crop", "extreme_crop", "flip", "rotate_scale")
HIDING = tuple(name for name in AUGMENTS if name not in (*MOVING, "photometric_distortion"))


def run(name: str, start: View, seed: int, size: int = 64, **args: object) -> View:
    """Run one augmentation in its stage, and the warp."""
    return augmenter([Op(name=name, args=args)], "any")(start, np.random.default_rng(seed), size)


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_on_their_pixels(name: str, seed: int) -> None:
    """Bright dots at four joints are found at the joints' positions in the crop, unless they are hidden."""
    points = np.zeros((54, 3), np.float32)
    for joint, x, y in ((0, 40, 40), (4, 75, 42), (5, 45, 80), (15, 78, 76)):
        points[joint] = x, y, 1
    blank = np.zeros((120, 120, 3), np.uint8)
    for joint in (0, 4, 5, 15):
        picture = blank.copy()
        cv2.circle(picture, (int(points[joint, 0]), int(points[joint, 1])), 3, (255, 255, 255), -1)
        start = view(picture, keypoints2d=points.copy(), side=100.0)
        out = run(name, start, seed, 128)
        same_draws = run(name, replace(start, image=blank), seed, 128)  # what the augmentation draws
        bright = np.abs(out.image.astype(float) - same_draws.image).sum(-1)
        flipped = name == "flip" and AUGMENTS[name](start, np.random.default_rng(seed)).flipped
        there = int(SKELETONS["smpl54"].mirror()[joint]) if flipped else joint
        x, y = out.keypoints2d[there, :2]
        if name == "random_crop" and not (4 < x < 124 and 4 < y < 124):
            continue
        if bright.sum() < 1000:  # hidden by something
            assert name in HIDING
            continue
        near = np.hypot(*(np.indices(bright.shape)[::-1] - np.array([x, y])[:, None, None])) < 12
        found = (np.indices(bright.shape)[::-1] * bright * near).sum((1, 2)) / (bright * near).sum()
        np.testing.assert_allclose(found, [x, y], rtol=0, atol=4 if name in HIDING else 0.35)  # 4: the dot's radius


@pytest.mark.parametrize("name", [*HIDING, "photometric_distortion"])
@pytest.mark.parametrize("flipped", [False, True])
def test_what_hides_or_colours_touches_no_label(name: str, flipped: bool) -> None:
    start = view(np.random.default_rng(0).integers(0, 255, (90, 80, 3)).astype(np.uint8))
    start = mirror(start) if flipped else start
    untouched = {field: np.copy(getattr(start, field)) for field in View.__dataclass_fields__}
    changed = 0
    for seed in range(10):
        out = AUGMENTS[name](start, np.random.default_rng(seed), p=1.0)
        for field, before in untouched.items():
            np.testing.assert_array_equal(getattr(start, field), before)  # the caller's view is unchanged
            if field != "image":
                np.testing.assert_array_equal(getattr(out, field), before)
        assert (out.image.shape, out.image.dtype) == (start.image.shape, np.uint8)
        changed += bool((out.image != start.image).any())
    assert changed >= 4


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_augmentation_is_its_generator_alone(name: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (70, 80, 3)).astype(np.uint8)
    first, second = (AUGMENTS[name](view(picture), np.random.default_rng(5)) for _ in range(2))
    for field in View.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    parameters = inspect.signature(AUGMENTS[name]).parameters.values()
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)


@pytest.mark.parametrize("name", [n for n in AUGMENTS if "p" in inspect.signature(AUGMENTS[n]).parameters])
def test_with_p_0_nothing_happens(name: str) -> None:
    start = view(np.random.default_rng(0).integers(0, 255, (70, 80, 3)).astype(np.uint8), gain=np.array([1, 0.5, 1.2]))
    args = {"scale": 0} if name == "rotate_scale" else {}  # its p applies to the rotation
    for seed in range(20):
        out = AUGMENTS[name](start, np.random.default_rng(seed), p=0.0, **args)
        for field in View.__dataclass_fields__:
            np.testing.assert_array_equal(getattr(out, field), getattr(start, field))


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 40), (97, 131)])
@pytest.mark.parametrize("place", [(0.5, 0.5), (-0.2, 1.1), (3.0, 3.0)])
def test_tiny_pictures_and_people_at_the_edge(name: str, shape: tuple[int, int], place: tuple[float, float]) -> None:
    """People partly or completely outside the image: the crop keeps its shape, labels stay finite."""
    picture = np.random.default_rng(0).integers(0, 255, (*shape, 3)).astype(np.uint8)
    middle = np.array(place) * shape[::-1]
    start = view(picture, center=middle, side=30.0, box=np.array([*(middle - 15), 30, 25]))
    for seed in range(12):
        out = run(name, start, seed, 32, **({"p": 1.0} if "p" in inspect.signature(AUGMENTS[name]).parameters else {}))
        assert (out.image.shape, out.image.dtype) == ((32, 32, 3), np.uint8)
        assert all(np.isfinite(getattr(out, field)).all() for field in ("keypoints2d", "keypoints3d", "pose"))


def test_augmentations_run_in_the_order_of_the_spec_within_their_stage() -> None:
    ops = [Op(name=name) for name in ("self_mix", "flip", "coarse_dropout", "channel_noise")]
    both = augmenter(ops, "any")
    assert [op.func.__name__ for op in both.before] == ["flip", "channel_noise"]
    assert [op.func.__name__ for op in both.after] == ["self_mix", "coarse_dropout"]
    assert set(AUGMENTS.values()) == {*BEFORE_WARP, *AFTER_WARP}


def test_noise_named_before_an_occluder_does_not_colour_it() -> None:
    """As in the study, which has applied the noise by then; noise named after the occluder does colour it."""
    start = view(np.full((80, 80, 3), 100, np.uint8))
    noise, erase = (
        Op(name="channel_noise", args={"factor": 0.9}),
        Op(name="hard_erase", args={"p": 1, "area": [0.3, 0.4]}),
    )
    first, last = (
        augmenter(ops, "any")(start, np.random.default_rng(2), 60) for ops in ([noise, erase], [erase, noise])
    )
    assert (first.gain == 1).all()
    assert (last.gain != 1).all()


def test_an_augmentation_for_one_dataset_is_not_run_on_others() -> None:
    spec = DataSpec(mix={"h36m": 0.5, "3dpw": 0.5}, augment=["flip", {"self_mix": {"p": 1, "only": ["h36m"]}}])
    assert [len(augmenter(spec.augment, name).after) for name in ("h36m", "3dpw")] == [1, 0]
    assert [len(augmenter(spec.augment, name).before) for name in ("h36m", "3dpw")] == [1, 1]


@pytest.mark.parametrize(
    ("name", "args", "said"),
    [
        ("self_mix", {"shape": 1}, "'self_mix' has no argument 'shape'; it takes p=0.5, area=(0.02, 0.4), aspect=0.3"),
        ("coarse_dropout", {"holes": [8, 1]}, "the lower limit 8 is above the upper limit 1"),
        ("occlude", {"occluders": "coco"}, "occluders='coco': Input should be 'procedural' or 'pascal'"),
        ("grid_dropout", {"p": 1.5}, "p=1.5: Input should be less than or equal to 1"),
    ],
)
def test_wrong_arguments_are_told_apart(name: str, args: dict[str, object], said: str) -> None:
    with pytest.raises(RequestError) as error:
        bind("augmentation", AUGMENTS[name], args)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_scale_and_turn_stay_in_their_limits() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    out = [AUGMENTS["rotate_scale"](view(picture), np.random.default_rng(i)) for i in range(400)]
    sides, turns = np.array([v.side for v in out]) / 60, np.rad2deg([v.rotation for v in out])
    assert sides.min() == 0.75
    assert sides.max() == 1.25
    assert np.abs(turns).max() <= 60
    assert 0.3 < (turns == 0).mean() < 0.5  # rotated with probability 0.6


def test_unlabelled_joints_are_not_moved() -> None:
    points = np.zeros((54, 3), np.float32)
    out = warp(view(np.zeros((50, 50, 3), np.uint8), keypoints2d=points, rotation=0.4), 64)
    assert (out.keypoints2d == 0).all()


def test_noise_saturates_like_a_camera() -> None:
    crop = replace(view(np.full((2, 2, 3), 200, np.uint8)), gain=np.array([1.0, 2.0, 0.5]))
    np.testing.assert_array_equal(exposed(crop).image, np.broadcast_to(np.uint8([200, 255, 100]), (2, 2, 3)))
    assert (crop.image == 200).all()
