import inspect
from dataclasses import replace

import cv2
import numpy as np
import pytest
from conftest import golden

from hmrb.data.augment import AUGMENTS, IMAGENET_MEAN, IMAGENET_STD, crop_matrix, mirror, normalise, warp
from hmrb.records import View
from hmrb.skeleton import SKELETONS


def view(image: np.ndarray, **changes) -> View:
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    points = np.concatenate([rng.uniform(10, 60, (54, 2)), np.ones((54, 1))], 1)
    base = View(
        image=image,
        center=np.array([width / 2, height / 2]),
        side=60.0,
        rotation=0.0,
        flipped=False,
        gain=np.ones(3),
        keypoints2d=points.astype(np.float32),
        keypoints3d=rng.normal(0, 1, (54, 4)).astype(np.float32),
        pose=rng.normal(0, 0.5, (24, 3)).astype(np.float32),
    )
    return replace(base, **changes)


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
        _, out = warp(golden_view(g, row, rotation=np.deg2rad(degrees)), 64)
        np.testing.assert_allclose(out.pose.ravel(), g["rot/pose"][row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(out.keypoints3d[:, :3], g["rot/kp3d"][row], rtol=0, atol=1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_way_equals_the_study(seed: int) -> None:
    """Its five seeded runs: noise, flip, scale and turn, warp; pixels within what noise after the warp costs."""
    inputs = golden("5_transforms_part")
    g = {key.removeprefix(f"pipeline/seed{seed}/"): value for key, value in inputs.items() if f"seed{seed}/" in key}
    center, flipped = g["center"], bool(g["is_flipped"][0])
    start = np.array([130 - center[0], center[1]]) if flipped else center
    square = golden_view(inputs, seed, center=start, side=float(g["scale"][0]))
    square = replace(mirror(square) if flipped else square, rotation=np.deg2rad(float(g["rotation"])))
    image, out = warp(square, 224)
    np.testing.assert_allclose(out.keypoints2d, g["keypoints2d"], rtol=0, atol=1e-3)
    np.testing.assert_allclose(out.keypoints3d, g["keypoints3d"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(out.pose[0], g["smpl_global_orient"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(out.pose[1:], g["smpl_body_pose"], rtol=0, atol=1e-5)
    pixels = image.transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    theirs = g["img"][..., ::-1].astype(float)
    # Their noise multiplies the source; where nothing saturates the crops are the same up to that gain.
    ours, inside = pixels.reshape(-1, 3), (theirs.max(-1) < 250).ravel() & (theirs.min(-1) > 0).ravel()
    for channel in range(3):
        unsaturated = inside & (ours[:, channel] < 180)  # gains go up to 1.4
        a, b = ours[unsaturated, channel], theirs.reshape(-1, 3)[unsaturated, channel]
        gain = (a @ b) / (a @ a)
        assert np.abs(gain * a - b).mean() < 1.5  # rounding, and interpolation between OpenCV versions


@pytest.mark.parametrize("name", AUGMENTS)
@pytest.mark.parametrize("seed", range(3))
def test_labels_stay_on_their_pixels(name: str, seed: int) -> None:
    """A white dot under each of four joints is found again at the joint's place in the crop."""
    points = np.zeros((54, 3), np.float32)
    for joint, x, y in ((0, 40, 40), (4, 75, 42), (5, 45, 80), (15, 78, 76)):
        points[joint] = x, y, 1
    for joint in (0, 4, 5, 15):
        picture = np.zeros((120, 120, 3), np.uint8)
        cv2.circle(picture, (int(points[joint, 0]), int(points[joint, 1])), 3, (255, 255, 255), -1)
        out = AUGMENTS[name](view(picture, keypoints2d=points.copy(), side=100.0), np.random.default_rng(seed))
        image, moved = warp(out, 128)
        bright = image.sum(0) - image.sum(0).min()
        y, x = (np.indices(bright.shape) * bright).sum((1, 2)) / bright.sum()
        there = joint
        if out.flipped:
            there = int(SKELETONS["smpl54"].mirror()[joint])
        np.testing.assert_allclose([x, y], moved.keypoints2d[there, :2], rtol=0, atol=0.35)


@pytest.mark.parametrize("name", AUGMENTS)
def test_every_augmentation_is_its_generator_alone(name: str) -> None:
    picture = np.random.default_rng(0).integers(0, 255, (70, 80, 3)).astype(np.uint8)
    first, second = (AUGMENTS[name](view(picture), np.random.default_rng(5)) for _ in range(2))
    for field in View.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(first, field), getattr(second, field))
    parameters = inspect.signature(AUGMENTS[name]).parameters.values()
    assert all(p.default is not p.empty for p in parameters if p.kind is p.KEYWORD_ONLY)


def test_scale_and_turn_stay_in_their_limits() -> None:
    picture = np.zeros((10, 10, 3), np.uint8)
    out = [AUGMENTS["rotate_scale"](view(picture), np.random.default_rng(i)) for i in range(400)]
    sides, turns = np.array([v.side for v in out]) / 60, np.rad2deg([v.rotation for v in out])
    assert sides.min() == 0.75
    assert sides.max() == 1.25
    assert np.abs(turns).max() <= 60
    assert 0.3 < (turns == 0).mean() < 0.5  # turned with probability 0.6


def test_unlabelled_joints_are_not_moved() -> None:
    points = np.zeros((54, 3), np.float32)
    _, out = warp(view(np.zeros((50, 50, 3), np.uint8), keypoints2d=points, rotation=0.4), 64)
    assert (out.keypoints2d == 0).all()


def test_noise_saturates_like_a_camera() -> None:
    crop = np.full((2, 2, 3), 200, np.uint8)
    out = normalise(crop, np.array([1.0, 2.0, 0.5])).transpose(1, 2, 0) * IMAGENET_STD + IMAGENET_MEAN
    np.testing.assert_allclose(out, np.broadcast_to([200, 255, 100], out.shape), rtol=0, atol=1e-4)
