"""The study's training step from deterministic weights: discriminator, losses, gradients."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import body_from, golden
from recipe import recipe

from hmrb.batch import Batch, BodyParams
from hmrb.body import SMPL
from hmrb.errors import RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.discriminator import Discriminator
from hmrb.models.hmr import build_model
from hmrb.parallel.world import World
from hmrb.spec import STUDY_LOSSES, HeadSpec, ModelSpec, OptimSpec
from hmrb.training.adversary import Adversary
from hmrb.training.learner import Learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

ALONE = World(0, 1, torch.device("cpu"))


def study_learner() -> Learner:
    model = build_model(ModelSpec(weights="none", head=HeadSpec(dropout=0.0)))
    names = {key: key.replace("backbone.network.", "backbone.") for key in model.state_dict()}
    shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    model.load_state_dict({key: torch.from_numpy(np.asarray(recipe(name, shapes[key]))) for key, name in names.items()})
    network = Discriminator()
    network.load_state_dict(
        {
            key: torch.from_numpy(recipe(f"disc.{key}", tuple(value.shape)))
            for key, value in network.state_dict().items()
        }
    )
    adversary = Adversary(network, network, torch.optim.Adam(network.parameters(), 1e-4), 1.0)
    return Learner(model.train(), model, torch.optim.Adam(model.parameters(), 2.5e-4), adversary, None)


def study_batch() -> Batch:
    g = {
        key: torch.from_numpy(value) for key, value in golden("train_step_resnet50").items() if key.startswith("batch.")
    }
    rotvecs = torch.cat([g["batch.adv_smpl_global_orient"], g["batch.adv_smpl_body_pose"]], 1).unflatten(1, (24, 3))
    images = [golden(f"train_step_resnet50_images_{half}")["img"].astype(np.float32) for half in "ab"]
    return Batch(
        image=torch.from_numpy(np.concatenate(images)),
        keypoints2d=g["batch.keypoints2d"],
        keypoints3d=g["batch.keypoints3d"],
        rotmats=rotvec_to_rotmat(torch.cat([g["batch.smpl_global_orient"][:, None], g["batch.smpl_body_pose"]], 1)),
        betas=g["batch.smpl_betas"],
        has_body=g["batch.has_smpl"].view(-1) > 0,
        row=torch.arange(4),
        real=BodyParams(rotvec_to_rotmat(rotvecs), g["batch.adv_smpl_betas"]),
    )


def check_step(body: SMPL, names: dict[str, str]) -> Learner:
    learner, g = study_learner(), golden("train_step_resnet50")
    losses = Losses(STUDY_LOSSES, body)
    losses.origins = losses.origins[:1]  # the study's only pair, labelled or not
    terms = train_step(learner, losses, study_batch(), 0, OptimSpec(), ALONE)
    for ours, theirs in names.items():
        assert float(terms[ours]) == pytest.approx(float(g[f"step0.{theirs}"]), rel=1e-4), ours
    mean = learner.model.state_dict()["backbone.network.bn1.running_mean"]
    torch.testing.assert_close(mean, torch.from_numpy(g["step0.bn1.running_mean"]), rtol=1e-4, atol=1e-5)
    for name, parameter in learner.adversary.network.named_parameters():
        if f"step0.gradnorm.disc.{name}" in g and parameter.grad is not None:
            assert float(parameter.grad.norm()) == pytest.approx(float(g[f"step0.gradnorm.disc.{name}"]), rel=1e-3)
    return learner


WITHOUT_MESH = {
    "keypoints3d": "keypoints3d_loss",
    "keypoints2d": "keypoints2d_loss",
    "pose": "smpl_pose_loss",
    "betas": "smpl_betas_loss",
    "adversarial": "adv_loss",
    "discriminator_real": "disc.real_loss",
    "discriminator_fake": "disc.fake_loss",
}


def test_a_step_equals_the_study_in_all_but_the_mesh() -> None:
    check_step(body_from(golden("reference_body_part")), WITHOUT_MESH)


@pytest.mark.skipif("HMRB_REFERENCE_BODY" not in os.environ, reason="$HMRB_REFERENCE_BODY names no SMPL_NEUTRAL.npz")
def test_a_step_equals_the_study_gradients_and_all() -> None:
    folder = Path(os.environ["HMRB_REFERENCE_BODY"])
    with np.load(folder / "SMPL_NEUTRAL.npz", allow_pickle=False) as arrays:
        members = {key: arrays[key] for key in arrays.files}
    for key in ("J_regressor_h36m", "J_regressor_extra"):
        members[key] = np.load(folder / f"{key}.npy", allow_pickle=False)
    from hmrb.body.official import SMPL_LANDMARKS

    body = body_from(members | {"vertex_ids": np.array(SMPL_LANDMARKS)})
    learner = check_step(body, WITHOUT_MESH | {"vertices": "vertex_loss", "total": "loss"})
    g = golden("train_step_resnet50")
    for name, parameter in learner.model.named_parameters():
        key = name.replace("backbone.network.", "backbone.")
        if f"step0.gradnorm.{key}" in g:
            # The recorded images have half precision, and 50 layers with BatchNorm over 4 samples amplify rounding.
            assert float(parameter.grad.norm()) == pytest.approx(float(g[f"step0.gradnorm.{key}"]), rel=5e-3), key
            after = float(parameter.detach().norm())
            assert after == pytest.approx(float(g[f"step0.param_after_l2.{key}"]), rel=1e-4), key


@pytest.mark.parametrize("broken", ["keypoints3d", "image"])
def test_a_loss_that_is_not_finite_stops_before_the_step(broken: str) -> None:
    from dataclasses import replace

    body = body_from(golden("reference_body_part"))
    learner, batch = study_learner(), study_batch()
    poisoned = getattr(batch, broken).clone()
    poisoned[2].view(-1)[0] = float("nan")
    batch = replace(batch, **{broken: poisoned, "row": torch.tensor([11, 12, 13, 14])})
    before = {key: value.clone() for key, value in learner.model.named_parameters()}
    losses = Losses({k: v for k, v in STUDY_LOSSES.items() if k != "vertices"}, body)
    with pytest.raises(RunError, match=r"step 7, process 0: .*keypoints3d.* is not finite; .*rows \[13\]"):
        train_step(learner, losses, batch, 7, OptimSpec(), ALONE)
    assert all(torch.equal(before[key], value) for key, value in learner.model.named_parameters())
