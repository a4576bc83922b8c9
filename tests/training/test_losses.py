from functools import partial

import pytest
import torch
from conftest import body_from, golden

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL, Mesh
from hmrb.geometry import rotvec_to_rotmat
from hmrb.names import PART_LOSSES
from hmrb.spec import LossTerm
from hmrb.training.loss_terms import DISTANCES, LOSSES, LabelCounts, LossPair, Measure, count_labels, origin_rows
from hmrb.training.losses import Losses, fake_loss, real_loss

OF_BODIES = [name for name in LOSSES if name not in PART_LOSSES]
OF_LABELS = [name for name in OF_BODIES if name not in ("betas_or_zero", "camera_prior")]  # those pull people without
WEIGHTS = {"keypoints3d": 100, "keypoints2d": 10, "vertices": 2, "pose": 3, "betas": 0.02}
THEIRS = {name: name for name in ("keypoints3d", "keypoints2d")}
THEIRS |= {"vertices": "vertex", "pose": "smpl_pose", "betas": "smpl_betas"}
DISTANCE = {"L1Loss": "l1", "MSELoss": "mse", "SmoothL1Loss": "smooth_l1"}


def measured(term: LossTerm) -> Measure:
    """The distance and reduction of a term."""
    return Measure(partial(DISTANCES[term.distance], reduction="none"), term)


def alone(batch: Batch) -> LabelCounts:
    """Label counts of a batch on one rank without micro-batches."""
    return LabelCounts.mean_of(count_labels(batch), 1)


def study_pair(variant: str = "") -> LossPair:
    """The study's inputs: six people; `has_smpl` marks those with a labelled body."""
    s = {key: torch.from_numpy(value) for key, value in golden("3_smpl_forward").items()}
    g = {key: torch.from_numpy(value) for key, value in golden("3_losses_no_disc").items()}
    pose = torch.cat([s["global_orient"], s["body_pose"]], 1).unflatten(1, (24, 3))
    has_body = {"": g["has_smpl"] > 0, "_none": torch.zeros(6).bool(), "_all": torch.ones(6).bool()}
    keypoints2d, keypoints3d = g["gt_keypoints2d"].clone(), g["gt_keypoints3d"].clone()
    if variant == "_zeroconf":
        keypoints2d[..., 2] = keypoints3d[..., 3] = 0
    batch = Batch(
        image=torch.zeros(6, 3, 224, 224),
        keypoints2d=keypoints2d,
        keypoints3d=keypoints3d,
        rotmats=rotvec_to_rotmat(pose),
        betas=s["betas"],
        has_body=has_body.get(variant, g["has_smpl"] > 0).view(-1),
        row=torch.arange(6),
    )
    prediction = Prediction(s["pred_pose"], s["pred_shape"], s["pred_cam"])
    mesh = Mesh(s["pred_vertices"], torch.zeros(6, 24, 3), "smpl")
    origins = origin_rows("smpl54")[:1]  # the study's only pair, labelled or not
    return LossPair(
        prediction,
        s["pred_joints54"],
        mesh,
        batch,
        s["gt_vertices"],
        alone(batch),
        "smpl54",
        origins,
        batch.has_body.float(),
    )


@pytest.mark.parametrize("kind", DISTANCE)
@pytest.mark.parametrize(
    ("name", "variant"),
    [(name, "") for name in THEIRS]
    + [(name, v) for name in ("vertices", "pose", "betas") for v in ("_none", "_all")]
    + [(name, "_zeroconf") for name in ("keypoints3d", "keypoints2d")],
)
def test_terms_equal_the_study(kind: str, name: str, variant: str) -> None:
    measure = measured(LossTerm(distance=DISTANCE[kind], weight=1))
    ours = WEIGHTS[name] * LOSSES[name](study_pair(variant), measure)
    theirs = torch.as_tensor(golden("3_losses_no_disc")[f"{kind}/{THEIRS[name]}{variant}"])
    torch.testing.assert_close(ours.double(), theirs.double().squeeze(), rtol=1e-5, atol=1e-7)


def test_adversarial_terms_equal_the_study() -> None:
    g = {
        key: torch.from_numpy(value)
        for key, value in golden("3_losses_no_disc").items()
        if "score" in key or "lsgan" in key
    }
    scores = g["disc.fake_score"]
    torch.testing.assert_close(0.5 * real_loss(scores), g["gan/lsgan/gen"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(fake_loss(scores), g["gan/lsgan/disc_fake"], rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(real_loss(g["disc.real_score"]), g["gan/lsgan/disc_real"], rtol=1e-5, atol=1e-7)


def toy(body: SMPL, labelled: bool = True) -> tuple[Prediction, Batch, LabelCounts]:
    """A batch whose labels equal the prediction."""
    rng = torch.Generator().manual_seed(0)
    pose, betas = 0.3 * torch.randn(3, 24, 3, generator=rng), torch.randn(3, 10, generator=rng)
    camera = torch.tensor([[0.9, 0.05, 0.1]]).repeat(3, 1)
    rotmats = rotvec_to_rotmat(pose).requires_grad_()
    prediction = Prediction(rotmats, betas.clone().requires_grad_(), camera.requires_grad_())
    with torch.no_grad():
        from hmrb.geometry import project

        joints = body.joints(body(rotmats, betas), "smpl54")
        # The study uses two pixel frames: the label's origin differs from the projection's by half a pixel.
        pixels = project(joints, camera, 224) + 223 / 2
        confidence = torch.full((3, 54, 1), float(labelled))
        batch = Batch(
            image=torch.zeros(3, 3, 224, 224),
            keypoints2d=torch.cat([pixels, confidence], 2),
            keypoints3d=torch.cat([joints + 1.5, confidence], 2),
            rotmats=rotvec_to_rotmat(pose),
            betas=betas,
            has_body=torch.full((3,), labelled),
            row=torch.arange(3),
        )
    return prediction, batch, alone(batch)


@pytest.mark.parametrize("distance", DISTANCE.values())
@pytest.mark.parametrize("name", OF_BODIES)
def test_a_perfect_prediction_costs_nothing(name: str, distance: str, tiny_smpl: SMPL) -> None:
    losses = Losses({name: LossTerm(distance=distance, weight=1)}, tiny_smpl)
    least = {"camera_prior": 2e-4}.get(name, 1e-5)  # exp(-10 scale) of a true camera is small, not 0
    assert losses(*toy(tiny_smpl))[name] < least


@pytest.mark.parametrize("name", OF_LABELS)
def test_no_labels_cost_nothing_and_keep_a_gradient(name: str, tiny_smpl: SMPL) -> None:
    prediction, batch, counts = toy(tiny_smpl, labelled=False)
    value = Losses({name: LossTerm(distance="l1", weight=1)}, tiny_smpl)(prediction, batch, counts)[name]
    value.backward()
    assert value == 0
    grads = [part.grad for part in (prediction.rotmats, prediction.betas, prediction.camera) if part.grad is not None]
    assert grads
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("name", OF_LABELS)
def test_a_wrong_prediction_costs_and_pulls(name: str, tiny_smpl: SMPL) -> None:
    from dataclasses import replace

    prediction, batch, counts = toy(tiny_smpl)
    batch = replace(batch, rotmats=batch.rotmats @ rotvec_to_rotmat(torch.full((24, 3), 0.3)), betas=batch.betas + 1)
    batch = replace(batch, keypoints2d=batch.keypoints2d * 1.1, keypoints3d=batch.keypoints3d * 1.1)
    value = Losses({name: LossTerm(distance="mse", weight=1)}, tiny_smpl)(prediction, batch, counts)[name]
    value.backward()
    assert value > 0
    assert max(part.grad.abs().max() for part in (prediction.rotmats, prediction.betas) if part.grad is not None) > 0


def test_a_term_of_weight_0_is_not_taken(tiny_smpl: SMPL) -> None:
    terms = {"pose": LossTerm(distance="l1", weight=0), "betas": LossTerm(distance="l1", weight=1)}
    assert list(Losses(terms, tiny_smpl)(*toy(tiny_smpl))) == ["betas"]


def test_the_reference_body_part_gives_the_study_s_key_point_terms() -> None:
    """From parameters to loss terms, with hmrb's body model."""
    body = body_from(golden("reference_body_part"))
    pair, g = study_pair(), golden("3_compute_losses")
    terms = {name: LossTerm(distance="smooth_l1", weight=WEIGHTS[name]) for name in ("keypoints3d", "keypoints2d")}
    losses = Losses(terms, body)
    losses.origins = pair.origins
    for name, value in losses(pair.prediction, pair.batch, pair.labelled).items():
        assert float(value) == pytest.approx(float(g[f"loss.{name}_loss"]), rel=1e-4)


@pytest.mark.parametrize("missing", [("hip_extra",), ("hip_extra", "hip"), ("hip_extra", "hip", "pelvis_extra")])
def test_3d_joints_far_from_the_camera_are_measured_from_what_is_labelled(missing: tuple[str, ...]) -> None:
    """Some datasets only have the body's own joints, absolute in the camera frame."""
    from hmrb.skeleton import SKELETONS
    from hmrb.training.loss_terms import _from, _origin

    names = SKELETONS["smpl54"].joints
    joints = torch.randn(2, 54, 3)
    gone = {f"{side}{name}" for name in missing for side in ("left_", "right_", "")}
    confidence = torch.tensor([0.0 if name in gone else 1.0 for name in names]).expand(2, 54)
    label = (joints + torch.tensor([0.0, 0.0, 5.0])) * confidence[..., None]
    origin = _origin(torch.cat([label, confidence[..., None]], 2), origin_rows("smpl54"))
    error = (_from(joints, origin) - _from(label, origin)).abs() * confidence[..., None]
    assert error.max() < 1e-5
    assert not {names[row] for row in origin.flatten().tolist()} & gone
