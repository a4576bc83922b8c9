"""Gradients: of each loss against finite differences, and who learns from which loss in a step with the adversary."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from conftest import body_arrays, body_from, tiny_tree, write_tiny_store
from test_losses import alone
from test_step import batch_of
from torch import Tensor

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL
from hmrb.data.shard import open_shard
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.discriminator import Discriminator
from hmrb.names import PART_LOSSES
from hmrb.parallel.world import World
from hmrb.spec import Experiment, LossTerm, parse_experiment
from hmrb.training.learner import Learner, build_learner
from hmrb.training.loss_terms import LOSSES
from hmrb.training.losses import Losses, fake_loss, real_loss
from hmrb.training.step import train_step

ALONE = World(0, 1, torch.device("cpu"))
STEP = 1e-6  # where rounding of float64 and the bend of the function both cost about 1e-9
OF_BODIES = [name for name in LOSSES if name not in PART_LOSSES]
NEAR = {"rtol": 1e-5, "atol": 1e-8}


@pytest.fixture(scope="module")
def body() -> SMPL:
    return body_from(body_arrays(30)).double()


def doubled(batch: Batch) -> Batch:
    return batch._each(lambda tensor: tensor.double() if tensor.is_floating_point() else tensor)


def made_up(count: int = 3) -> tuple[Prediction, Batch]:
    """People half of whom have a body; a prediction that is no rotation, as gradients are taken entry by entry."""
    rng = torch.Generator().manual_seed(4)

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng, dtype=torch.float64)

    rotmats = rotvec_to_rotmat(numbers(count, 24, 3)) + 0.01 * numbers(count, 24, 3, 3)
    camera = torch.tensor([0.9, 0.0, 0.0], dtype=torch.float64) + 0.1 * numbers(count, 3)
    batch = replace(batch_of(count), has_body=torch.arange(count) % 2 == 0)
    return Prediction(rotmats, numbers(count, 10), camera), doubled(batch)


@pytest.mark.parametrize("distance", ["l1", "mse", "smooth_l1"])
@pytest.mark.parametrize("name", OF_BODIES)
def test_a_loss_s_gradient_is_its_slope(name: str, distance: str, body: SMPL) -> None:
    prediction, batch = made_up()
    losses = Losses({name: LossTerm(distance=distance, weight=3)}, body)
    parts = (prediction.rotmats, prediction.betas, prediction.camera)

    def value(*of: Tensor) -> Tensor:
        return losses(Prediction(*of), batch, alone(batch))[name]

    leaves = [part.clone().requires_grad_() for part in parts]
    value(*leaves).backward()
    rng = torch.Generator().manual_seed(5)
    for number, leaf in enumerate(leaves):
        way = torch.randn(leaf.shape, generator=rng, dtype=leaf.dtype)
        ahead, behind = (
            value(*(part + sign * STEP * way if n == number else part for n, part in enumerate(parts)))
            for sign in (1, -1)
        )
        slope = 0.0 if leaf.grad is None else (leaf.grad * way).sum()
        torch.testing.assert_close(torch.as_tensor(slope).double(), (ahead - behind) / (2 * STEP), **NEAR)


@pytest.mark.parametrize("name", [name for name in OF_BODIES if name not in ("betas_or_zero", "camera_prior")])
def test_labels_that_are_not_there_pull_nobody(name: str, body: SMPL) -> None:
    """A person without a body, a joint of confidence 0: their gradient is 0, and that of others is not."""
    prediction, batch = made_up()
    gone = torch.tensor([False, True, False])
    batch = replace(
        batch,
        has_body=~gone,
        keypoints2d=batch.keypoints2d * torch.tensor([1.0, 1, 0]) + (~gone)[:, None, None] * torch.tensor([0.0, 0, 1]),
        keypoints3d=batch.keypoints3d * torch.tensor([1.0, 1, 1, 0])
        + (~gone)[:, None, None] * torch.tensor([0.0, 0, 0, 1]),
    )
    leaves = [part.clone().requires_grad_() for part in (prediction.rotmats, prediction.betas, prediction.camera)]
    Losses({name: LossTerm(distance="mse", weight=1)}, body)(Prediction(*leaves), batch, alone(batch))[name].backward()
    pulled = [leaf.grad.flatten(1).abs().sum(1) for leaf in leaves if leaf.grad is not None]
    assert all((of[gone] == 0).all() for of in pulled)
    assert (torch.stack(pulled).sum(0)[~gone] > 0).all()


@pytest.mark.parametrize("loss", [real_loss, fake_loss])
def test_the_discriminator_s_gradients_are_slopes(loss: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    network = Discriminator().double()
    prediction, _ = made_up(2)
    rotmats, betas = prediction.rotmats.requires_grad_(), prediction.betas.requires_grad_()

    def value() -> Tensor:
        return loss(network(rotmats, betas))

    value().backward()
    rng = torch.Generator().manual_seed(6)
    for leaf in (rotmats, betas, *network.parameters()):
        way, there = torch.randn(leaf.shape, generator=rng, dtype=leaf.dtype), leaf.detach().clone()
        with torch.no_grad():
            leaf.copy_(there + STEP * way)
            ahead = value()
            leaf.copy_(there - STEP * way)
            behind = value()
            leaf.copy_(there)
        torch.testing.assert_close((leaf.grad * way).sum(), (ahead - behind) / (2 * STEP), **NEAR)


# A step with the adversary, against the same written out here.


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    tree = tiny_tree()
    tree["model"] = {**tree["model"], "freeze_bn": True, "head": {**tree["model"]["head"], "dropout": 0.0}}
    tree["adversary"] = {"weight": 0.7, "poses": "labels"}
    tree["optim"] = {**tree["optim"], "ema": 0.0, "batch": 4}
    return parse_experiment(tree, "tiny")


@pytest.fixture
def learner(experiment: Experiment, tmp_path_factory: pytest.TempPathFactory) -> Learner:
    torch.manual_seed(0)
    store = write_tiny_store(tmp_path_factory.mktemp("store"))
    shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
    learner = build_learner(experiment, shards, store, ALONE)
    with torch.no_grad():  # the first prediction is the mean body whatever the picture: move it
        learner.model.head.decpose.weight.normal_(0, 0.05)
        learner.model.head.decshape.weight.normal_(0, 0.05)
    return learner


def grads(module: torch.nn.Module) -> dict[str, Tensor]:
    return {n: torch.zeros_like(p) if p.grad is None else p.grad.clone() for n, p in module.named_parameters()}


def assert_same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    largest = max(float(value.abs().max()) for value in theirs.values())
    assert largest > 0
    for name, value in theirs.items():
        # Sums of float32 in another order.
        torch.testing.assert_close(ours[name], value, rtol=1e-3, atol=1e-5 * largest, msg=name)


def by_hand(learner: Learner, losses: Losses, batch: Batch) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Gradients of the model and of the discriminator: this learns first, from a prediction that stands still."""
    assert learner.adversary
    model, network = copy.deepcopy(learner.model), copy.deepcopy(learner.adversary.network)
    optimiser = torch.optim.Adam(network.parameters(), learner.adversary.optimiser.param_groups[0]["lr"])
    prediction, real = model(batch.image, batch.key), batch.real
    assert real is not None
    own = real_loss(network(real.rotmats, real.betas))
    own = own + fake_loss(network(prediction.rotmats.detach(), prediction.betas.detach()))
    own.backward()
    discriminator = grads(network)
    optimiser.step()
    total = torch.stack(list(losses(prediction, batch, alone(batch)).values())).sum() if losses.terms else 0
    adversarial = learner.adversary.weight * real_loss(network(prediction.rotmats, prediction.betas))
    (total + adversarial).backward()
    return grads(model), discriminator


TERMS = {
    "nothing but the adversary": {},
    "all losses": {name: LossTerm(distance="mse", weight=1) for name in OF_BODIES},
}


@pytest.mark.parametrize("terms", TERMS)
def test_the_network_learns_from_its_losses_and_from_looking_real_alone(
    terms: str, learner: Learner, experiment: Experiment
) -> None:
    """The discriminator's own loss does not reach it."""
    batch, losses = batch_of(4), Losses(TERMS[terms], body_from(body_arrays(30)))
    expected, _ = by_hand(learner, losses, batch)
    train_step(learner, losses, batch, 0, experiment.optim, ALONE)
    assert_same(grads(learner.model), expected)


@pytest.mark.parametrize("terms", TERMS)
def test_the_discriminator_learns_from_its_own_loss_alone(terms: str, learner: Learner, experiment: Experiment) -> None:
    """The network's wish to look real does not move it, nor does any other loss."""
    batch, losses = batch_of(4), Losses(TERMS[terms], body_from(body_arrays(30)))
    _, expected = by_hand(learner, losses, batch)
    train_step(learner, losses, batch, 0, experiment.optim, ALONE)
    assert learner.adversary
    assert_same(grads(learner.adversary.network), expected)


def test_the_discriminator_goes_on_learning_after_a_step(learner: Learner, experiment: Experiment) -> None:
    losses = Losses({}, body_from(body_arrays(30)))
    assert learner.adversary
    for step in range(2):
        train_step(learner, losses, batch_of(4), step, experiment.optim, ALONE)
        assert all(parameter.requires_grad for parameter in learner.adversary.network.parameters())
        assert any(value.any() for value in grads(learner.adversary.network).values())


def test_terms_of_a_step_are_those_of_the_losses(learner: Learner, experiment: Experiment) -> None:
    batch, losses = batch_of(4), Losses(TERMS["all losses"], body_from(body_arrays(30)))
    model = copy.deepcopy(learner.model)
    with torch.no_grad():
        prediction = model(batch.image, batch.key)
        expected = losses(prediction, batch, alone(batch))
    terms = train_step(learner, losses, batch, 0, experiment.optim, ALONE)
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-4, atol=1e-7)  # float32, once more with a gradient
    weighted = sum(terms[name] for name in (*expected, "adversarial"))
    torch.testing.assert_close(terms["total"], weighted, rtol=1e-5, atol=1e-7)
