"""Synthetic people: poses within limits, labels that match the pixels, and determinism."""

import math
from dataclasses import fields

import cv2
import numpy as np
import pytest
import torch

from hmrb.body import SMPL, load_body
from hmrb.bodykind import SMPL_KIND
from hmrb.data.sources import CONVERTERS
from hmrb.data.sources.synthetic import TEST_PEOPLE, render
from hmrb.geometry import rotvec_to_rotmat as torch_rotvec_to_rotmat
from hmrb.lookup import UnknownName
from hmrb.records import Sample
from hmrb.synthetic import poses
from hmrb.synthetic.people import PRESETS, SPLITS, render_people, render_person
from hmrb.synthetic.wardrobe import Measures, paint, sample_look, thickness

PEOPLE = 4
ARRAYS = [field.name for field in fields(Sample) if "ndarray" in str(field.type) or field.name in ("jpeg", "columns")]


@pytest.fixture(scope="module")
def body() -> SMPL:
    return load_body("open", "neutral")


@pytest.fixture(scope="module", params=sorted(PRESETS))
def samples(body: SMPL, request: pytest.FixtureRequest) -> list[Sample]:
    return render_people(body, request.param, "train", 0, range(PEOPLE))


def same(first: Sample, second: Sample) -> bool:
    pairs = ((getattr(first, name), getattr(second, name)) for name in ARRAYS)
    return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)


def test_a_person_does_not_depend_on_who_is_drawn_along(body: SMPL) -> None:
    together = render_people(body, "full", "train", 3, [0, 1, 2])
    apart = [render_person(body, "full", "train", 3, index) for index in (2, 1, 0)][::-1]
    assert all(same(a, b) for a, b in zip(together, apart, strict=True))


def test_a_person_does_not_depend_on_the_number_of_threads(body: SMPL) -> None:
    threads = torch.get_num_threads()
    drawn = []
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            drawn.append(render_person(body, "easy", "val", 0, 7))
    finally:
        torch.set_num_threads(threads)
    assert same(*drawn)


def test_splits_presets_seeds_and_indices_are_different_people(body: SMPL) -> None:
    drawn = [render_person(body, "easy", split, 0, 5) for split in SPLITS]
    drawn += [render_person(body, "full", "train", 0, 5), render_person(body, "easy", "train", 1, 5)]
    drawn += [render_person(body, "easy", "train", 0, 6)]
    for name in ("pose", "betas", "jpeg"):
        values = {np.asarray(getattr(sample, name)).tobytes() for sample in drawn}
        assert len(values) == len(drawn)


def test_names_that_do_not_exist_are_refused_with_the_known_ones(body: SMPL) -> None:
    with pytest.raises(UnknownName, match="easy"):
        render_person(body, "eazy", "train", 0, 0)
    with pytest.raises(UnknownName, match="train"):
        render_person(body, "easy", "training", 0, 0)


def test_projected_joints_are_the_keypoints(samples: list[Sample]) -> None:
    for sample in samples:
        x, y, z, confidence = sample.keypoints3d.T
        center = (128 - 1) / 2
        projected = np.stack([x / z, y / z], 1) * sample.columns["focal"] + center
        np.testing.assert_allclose(sample.keypoints2d[:, :2], projected, atol=2e-3)
        assert (confidence == 1).all()
        assert (z > 0).all()


def test_the_labels_pose_the_body_into_the_picture(body: SMPL, samples: list[Sample]) -> None:
    for sample in samples:
        rotmats = torch_rotvec_to_rotmat(torch.from_numpy(sample.pose))[None]
        mesh = body(rotmats, torch.from_numpy(sample.betas)[None])
        joints = body.joints(mesh, "smpl54")[0].numpy() + sample.transl
        np.testing.assert_allclose(joints, sample.keypoints3d[:, :3], atol=1e-5)


def test_confidence_says_whether_a_keypoint_is_in_the_picture(samples: list[Sample]) -> None:
    for sample in samples:
        x, y, confidence = sample.keypoints2d.T
        inside = (np.abs(x - 63.5) < 64) & (np.abs(y - 63.5) < 64)
        assert (confidence == inside).all()


def test_the_picture_of_an_easy_person_holds_the_square_around_the_box(body: SMPL) -> None:
    for sample in render_people(body, "easy", "val", 0, range(PEOPLE)):
        x, y, width, height = sample.box
        half = max(width, height) / 2
        assert min(x + width / 2, y + height / 2) - half >= -0.5
        assert max(x + width / 2, y + height / 2) + half <= 127.5
        assert sample.columns["truncation"] == 0
        assert (sample.keypoints2d[:, 2] == 1).all()


def test_an_easy_upright_person_faces_the_camera_with_the_head_up(body: SMPL) -> None:
    facing = [s for s in render_people(body, "easy", "train", 0, range(8)) if abs(s.columns["yaw"]) < math.radians(30)]
    roots = torch_rotvec_to_rotmat(torch.from_numpy(np.stack([sample.pose[0] for sample in facing])))
    assert len(facing) > 1
    assert (roots[:, 2, 2].median() < -0.5).item()  # the chest looks at the camera, along -z
    assert (roots[:, 1, 1].median() < -0.5).item()  # up is -y


def test_pictures_are_jpegs_of_the_asked_size(body: SMPL) -> None:
    sample = render_person(body, "easy", "test", 0, 1, side=64)
    picture = cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert picture.shape == (64, 64, 3)
    assert sample.name == "test/000001"


def test_arrays_of_a_sample_are_float32(samples: list[Sample]) -> None:
    names = ("box", "keypoints2d", "keypoints3d", "pose", "betas", "transl")
    assert {getattr(samples[0], name).dtype for name in names} == {np.dtype(np.float32)}


def test_full_people_are_sometimes_hidden_and_sometimes_cut_off(body: SMPL) -> None:
    drawn = render_people(body, "full", "train", 1, range(40), side=32)
    hidden, cut = (np.array([sample.columns[key] for sample in drawn]) for key in ("occlusion", "truncation"))
    assert 1 <= (hidden > 0).sum() <= 20
    assert 1 <= (cut > 0).sum() <= 15
    assert hidden.max() <= 1
    assert cut.max() <= 1


@pytest.mark.parametrize("name", sorted(poses.KEY_POSES))
def test_a_key_pose_is_made_of_rotations_within_the_limits(name: str) -> None:
    pose = poses.KEY_POSES[name]
    np.testing.assert_allclose(pose @ np.swapaxes(pose, 1, 2), np.tile(np.eye(3), (24, 1, 1)), atol=1e-9)
    assert (np.linalg.det(pose) > 0).all()
    np.testing.assert_allclose(poses.limit_hinges(pose), pose, atol=1e-9)


def test_the_rows_of_weights_name_key_poses() -> None:
    assert set(poses.COMMON) | set(poses.FLOOR) <= set(poses.KEY_POSES)


def test_hidden_people_are_the_test_people_behind_something() -> None:
    (plan,) = CONVERTERS["synthetic_hidden"].plan(people=2)
    assert (plan.split, len(plan.items)) == ("test", TEST_PEOPLE)
    hidden = [one for item in range(12) for one in plan.read(item)]
    clear = [one for item in range(12) for one in render("easy", "test", 0, item)]
    for one, twin in zip(hidden, clear, strict=True):
        for label in ("name", "pose", "betas", "transl", "keypoints2d", "keypoints3d", "box"):
            np.testing.assert_array_equal(getattr(one, label), getattr(twin, label))
        change = np.abs(picture(one).astype(int) - picture(twin)).max(2)
        assert (change > 60).any() == (one.columns["occlusion"] > 0.02)
        assert twin.columns["occlusion"] == 0
    assert np.mean([one.columns["occlusion"] for one in hidden]) > 0.1


def picture(sample: Sample) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(sample.jpeg, np.uint8), cv2.IMREAD_COLOR)


def test_a_knee_cannot_bend_forwards_nor_an_elbow_backwards() -> None:
    pose = np.tile(np.eye(3), (24, 1, 1))
    pose[4], pose[18], pose[19] = poses.turn(x=-40), poses.turn(y=50), poses.turn(y=-50)
    np.testing.assert_allclose(poses.limit_hinges(pose), np.tile(np.eye(3), (24, 1, 1)), atol=1e-12)
    pose[5] = poses.turn(x=170)
    np.testing.assert_allclose(poses.limit_hinges(pose)[5], poses.turn(x=150), atol=1e-12)


def test_a_mirrored_pose_mirrors_the_body(body: SMPL) -> None:
    pose = poses.KEY_POSES["throw"]
    both = torch.from_numpy(np.stack([pose, poses.mirror(pose)])).float()
    chain = body(both, torch.zeros(2, 10)).chain.numpy()
    flipped = chain[0][SMPL_KIND.mirror] * np.array([-1, 1, 1])
    np.testing.assert_allclose(chain[1], flipped, atol=5e-3)  # the open body's sides differ by a millimetre or two


def test_limbs_go_where_their_words_say(body: SMPL) -> None:
    named = [poses.both(arms=poses.arm(lift=170)), poses.both(arms=poses.arm(lift=90, ahead=90))]
    named += [poses.both(legs=poses.leg(flex=90, knee=90))]
    up, forward, seat = body(torch.from_numpy(np.stack(named)).float(), torch.zeros(3, 10)).chain.numpy()
    assert up[20, 1] > up[15, 1]  # wrist above head
    assert forward[20, 2] > 0.4  # wrist in front of the chest
    assert seat[4, 2] > 0.3  # knee in front of the hip
    assert seat[7, 1] < seat[4, 1] - 0.3  # shin down


def test_rotations_survive_a_trip_through_axis_angle() -> None:
    rng = np.random.default_rng(0)
    rotvec = rng.normal(size=(200, 3))
    rotvec *= (rng.uniform(0, np.pi, 200) / np.linalg.norm(rotvec, axis=1))[:, None]
    rotvec[:2] = [[0, 0, 0], [np.pi, 0, 0]]
    np.testing.assert_allclose(poses.rotmat_to_rotvec(poses.rotvec_to_rotmat(rotvec)), rotvec, atol=1e-6)
    theirs = torch_rotvec_to_rotmat(torch.from_numpy(rotvec)).numpy()
    np.testing.assert_allclose(poses.rotvec_to_rotmat(rotvec), theirs, atol=1e-9)


def test_sampled_poses_keep_the_limits_and_differ() -> None:
    rng = np.random.default_rng(0)
    drawn = [poses.sample_pose(rng, PRESETS["full"].pose) for _ in range(20)]
    for pose in drawn:
        np.testing.assert_allclose(poses.limit_hinges(pose), pose, atol=1e-6)
    assert len({pose.tobytes() for pose in drawn}) == 20


def test_clothes_have_colours_and_a_thickness_everywhere(body: SMPL) -> None:
    points = body.template.T.numpy()
    upright = body(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10))
    measures = Measures.take(body.joints(upright, "smpl54")[0].numpy(), float(points[:, 1].min()))
    rng = np.random.default_rng(0)
    for _ in range(20):
        look = sample_look(rng)
        colour, width = paint(look, measures, points), thickness(look, measures, points)
        assert colour.min() >= 0
        assert colour.max() <= 1
        assert width.min() >= 0
        assert width.max() < 0.12
        hands = np.abs(points[:, 0]) > measures.wrist_x + 0.05
        np.testing.assert_allclose(colour[hands], np.broadcast_to(look.skin, (hands.sum(), 3)), atol=1e-6)
