"""Numbers and lists that others have published, against those of timm and smplx, or as their papers have them."""

import numpy as np
import pytest
import torch
from smplx.joint_names import SMPLH_JOINT_NAMES
from smplx.vertex_ids import vertex_ids
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from hmrb.body.official import SMPL_LANDMARKS
from hmrb.bodykind import CAMERA, SMPL_KIND
from hmrb.data.labelled_bodies import MEAN_CAMERA
from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD, normalised
from hmrb.data.mixture import mix64
from hmrb.data.occlude import NOISE_LEVELS, PATCH_TRIES, SIZED_FOR_PX
from hmrb.evaluation import intervals, metric_table, metrics
from hmrb.evaluation.metrics import METRICS, MetricPair, Posed, measure
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.geometry import FOCAL_PX, project
from hmrb.models.discriminator import Discriminator
from hmrb.models.head import SMALL_GAIN
from hmrb.models.tails import STUDY_PX, STUDY_ROWS
from hmrb.skeleton import SKELETONS
from hmrb.synthetic.domains import DOMAINS


def test_pictures_are_normalised_with_imagenet_s_numbers_of_red_green_and_blue() -> None:
    np.testing.assert_allclose(IMAGENET_MEAN, 255 * np.array(IMAGENET_DEFAULT_MEAN))
    np.testing.assert_allclose(IMAGENET_STD, 255 * np.array(IMAGENET_DEFAULT_STD))


@pytest.mark.parametrize("channel", range(3))
def test_each_channel_is_normalised_with_its_own_numbers(channel: int) -> None:
    image = torch.zeros(1, 3, 2, 2, dtype=torch.uint8)
    image[:, channel] = 255
    expected = (image / 255 - torch.tensor(IMAGENET_DEFAULT_MEAN)[:, None, None]) / torch.tensor(IMAGENET_DEFAULT_STD)[
        :, None, None
    ]
    torch.testing.assert_close(normalised(image), expected, rtol=1e-5, atol=1e-5)  # float32, in another order


def test_single_vertices_are_those_of_smplx() -> None:
    """smplx's names are short: reye, lthumb, LBigToe."""
    theirs = {name.lower(): number for name, number in vertex_ids["smplh"].items()}
    joints = SKELETONS["smpl45"].joints[24:]
    short = [joint.replace("left_", "l").replace("right_", "r") for joint in joints]
    assert len(short) == len(theirs) == 21
    assert [theirs[name] for name in short] == list(SMPL_LANDMARKS)


def test_joints_of_smpl_have_smplx_s_order_and_parents() -> None:
    ours = [joint.replace("spine_", "spine") for joint in SKELETONS["smpl24"].joints]
    assert ours[:22] == SMPLH_JOINT_NAMES[:22]
    assert ours[22:] == ["left_hand", "right_hand"]  # where SMPL-H has fingers
    # The parent of each joint by name, as drawn in the SMPL paper.
    parents = {
        "left_hip": "pelvis", "right_hip": "pelvis", "spine1": "pelvis", "left_knee": "left_hip",
        "right_knee": "right_hip", "spine2": "spine1", "left_ankle": "left_knee", "right_ankle": "right_knee",
        "spine3": "spine2", "left_foot": "left_ankle", "right_foot": "right_ankle", "neck": "spine3",
        "left_collar": "spine3", "right_collar": "spine3", "head": "neck", "left_shoulder": "left_collar",
        "right_shoulder": "right_collar", "left_elbow": "left_shoulder", "right_elbow": "right_shoulder",
        "left_wrist": "left_elbow", "right_wrist": "right_elbow", "left_hand": "left_wrist",
        "right_hand": "right_wrist",
    }  # fmt: skip
    assert SMPL_KIND.parents[0] == -1
    assert {ours[j]: ours[SMPL_KIND.parents[j]] for j in range(1, 24)} == parents


def test_landmarks_of_smpl45_have_smplx_s_order() -> None:
    theirs = [name.replace("big_toe", "bigtoe").replace("small_toe", "smalltoe") for name in SMPLH_JOINT_NAMES[52:]]
    assert list(SKELETONS["smpl45"].joints[24:]) == theirs


def test_angles_are_of_the_joints_of_3dpw_s_challenge() -> None:
    """Its evaluation: SMPL_OR_JOINTS = [0, 1, 2, 4, 5, 16, 17, 18, 19], the pelvis and four limbs' two upper bones."""
    names = list(metrics.ANGLE_JOINTS)
    assert names == [
        "pelvis", "left_hip", "right_hip", "left_knee", "right_knee", "left_shoulder", "right_shoulder", "left_elbow",
        "right_elbow",
    ]  # fmt: skip


@pytest.mark.parametrize("joint", range(24))
def test_a_turned_joint_turns_what_hangs_on_it_and_counts_among_nine(joint: int) -> None:
    """By 10 degrees each: of the nine joints those at or below the turned one are wrong."""
    below = {
        0: 9, 1: 2, 2: 2, 3: 4, 4: 1, 5: 1, 6: 4, 9: 4, 13: 2, 14: 2, 16: 2, 17: 2, 18: 1, 19: 1,
    }  # fmt: skip
    true = torch.eye(3).repeat(1, 24, 1, 1)
    pred = true.clone()
    turn = np.radians(10)
    pred[0, joint] = torch.tensor(
        [[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]], dtype=torch.float32
    )
    joints = torch.randn(1, 14, 3, generator=torch.Generator().manual_seed(0))
    found = measure(["mpjae"], Posed(joints, rotmats=pred), Posed(joints, rotmats=true))["mpjae"]
    # A cosine near 1 in float32 knows an angle of 10 degrees to about 1e-5 of it.
    assert float(found) == pytest.approx(10 * below.get(joint, 0) / 9, abs=1e-3)


LSP = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder"
    " left_shoulder left_elbow left_wrist neck headtop"
)
MPII = (
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax neck headtop right_wrist"
    " right_elbow right_shoulder left_shoulder left_elbow left_wrist"
)
COCO = (
    "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist"
    " right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle"
)
H36M = (
    "pelvis left_hip left_knee left_ankle right_hip right_knee right_ankle spine neck head headtop left_shoulder"
    " left_elbow left_wrist right_shoulder right_elbow right_wrist"
)
OPENPOSE = (
    "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist pelvis right_hip right_knee"
    " right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_bigtoe left_smalltoe"
    " left_heel right_bigtoe right_smalltoe right_heel"
)
AIC = (
    "right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee right_ankle"
    " left_hip left_knee left_ankle headtop neck"
)


@pytest.mark.parametrize(
    ("skeleton", "published"),
    [("lsp14", LSP), ("lsp", LSP), ("mpii", MPII), ("lip_16", MPII), ("coco", COCO), ("h36m17", H36M),
     ("openpose_25", OPENPOSE), ("prox", OPENPOSE), ("aic_14", AIC)],
)  # fmt: skip
def test_joints_have_the_published_order(skeleton: str, published: str) -> None:
    """As on the pages of the datasets and of OpenPose (BODY_25); ours say besides who marked them."""
    ours = [joint.removesuffix("_openpose").removesuffix("_extra") for joint in SKELETONS[skeleton].joints]
    assert ours == published.split()


def test_a_metric_s_numbers_are_those_of_its_paper() -> None:
    assert metrics.MM == 1000
    assert metrics.PCK_MM == 150  # Mehta et al., 3DV 2017: 3DPCK at 150 mm
    assert list(metrics.AUC_MM) == list(range(0, 151, 5))  # and their mpii_compute_3d_pck.m: 0:5:150
    assert metric_table.PCK2D == {"pck2d_05": 0.05, "pck2d_10": 0.1}  # 4D-Humans, table 2: PCK@0.05, PCK@0.1
    assert intervals.RESAMPLES == 2000


@pytest.mark.parametrize(
    ("off_mm", "expected"),
    [
        # Of one joint's distance: is it below 150; below how many of 0, 5, ..., 150.
        (0.0, {"mpjpe": 0, "pck3d": 100, "auc": 100 * 30 / 31}),
        (149.0, {"mpjpe": 149, "pck3d": 100, "auc": 100 * 1 / 31}),
        (151.0, {"mpjpe": 151, "pck3d": 0, "auc": 0}),
        (52.0, {"mpjpe": 52, "pck3d": 100, "auc": 100 * 20 / 31}),
    ],
)
def test_scores_of_one_wrong_distance_are_those_counted_by_hand(off_mm: float, expected: dict[str, float]) -> None:
    truth = torch.randn(1, 14, 3, generator=torch.Generator().manual_seed(0))
    pair = MetricPair(Posed(truth + torch.tensor([0.0, off_mm / 1000, 0])), Posed(truth))
    for name, value in expected.items():
        assert float(METRICS[name].of(pair)) == pytest.approx(value, abs=1e-2), name  # float32 metres to mm


def test_a_better_score_is_lower_but_for_shares() -> None:
    higher = {name for name, way in metric_table.BETTER.items() if way == "higher"}
    assert higher == {"pck3d", "pa_pck3d", "auc", "pa_auc", "pck2d_05", "pck2d_10"}


def test_benchmarks_have_their_datasets_frame_rates_and_margins() -> None:
    moving = {name: row.fps for name, row in BENCHMARKS.items() if row.fps}
    assert {row.dataset for row in BENCHMARKS.values() if row.fps} == {"3dpw", "emdb"}
    assert set(moving.values()) == {30}  # both were filmed at 30 frames/s
    assert {row.box_scale for row in BENCHMARKS.values()} == {1.0, 1.2}
    assert {row.min_labelled for row in BENCHMARKS.values()} == {0.5}
    chosen_on = {row.name for row in BENCHMARKS.values() if not row.is_test}
    domains = {f"synthetic_{name}_val" for name in DOMAINS}
    assert chosen_on == {"3dpw_val", "agora_val", "synthetic_val", "synthetic_full_val"} | domains


def test_the_camera_is_spin_s() -> None:
    """SPIN: FOCAL_LENGTH = 5000; a person of scale 0.9 in 224 px is 2 * 5000 / (224 * 0.9) metres away."""
    assert FOCAL_PX == 5000
    assert MEAN_CAMERA == (0.9, 0, 0)
    pixels = project(torch.tensor([[[0.5, -0.25, 0.0]]]), torch.tensor([[0.9, 0.1, 0.2]]), 224)
    torch.testing.assert_close(pixels, torch.tensor([[[0.6, -0.05]]]) * 5000 / (2 * 5000 / (224 * 0.9)))


def test_the_regressor_and_the_discriminator_have_hmr_s_sizes() -> None:
    assert (SMPL_KIND.rot6d_numbers, SMPL_KIND.num_betas, CAMERA, SMALL_GAIN) == (24 * 6, 10, 3, 0.01)
    eye, betas = torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10)
    assert Discriminator()(eye, betas).shape == (1, 23 + 1 + 1)
    assert (STUDY_PX, STUDY_ROWS) == (224, 2048)


def test_occlusion_has_the_study_s_numbers() -> None:
    assert (PATCH_TRIES, NOISE_LEVELS, SIZED_FOR_PX) == (100, 255, 256)


@pytest.mark.parametrize(
    ("seed", "first"),
    [(0, 0xE220A8397B1DCDAF), (1, 0x910A2DEC89025CC1), (1234567, 0x599ED017FB08FC85)],
)
def test_random_bits_are_splitmix64_s(seed: int, first: int) -> None:
    """The first numbers of the public C code (Vigna, splitmix64.c) with these seeds."""
    assert mix64(seed) == first
