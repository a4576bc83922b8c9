"""The training step does what the spec says, with and without the adversary."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import body_arrays, body_from, tiny_tree
from forked import start_server

from hmrb.batch import Batch, BodyParams
from hmrb.body import SMPL
from hmrb.errors import RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.discriminator import Discriminator
from hmrb.models.hmr import build_model
from hmrb.models.numerics import products_in
from hmrb.parallel.world import World
from hmrb.spec import OptimSpec, parse_experiment
from hmrb.training.adversary import Adversary
from hmrb.training.learner import Learner, average_of, optimiser_for, set_rates
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

start_server()
ALONE = World(0, 1, torch.device("cpu"))
EXPERIMENT = parse_experiment(tiny_tree(), "tiny")
# The result for a row must not depend on the rest of the batch.
EXPERIMENT = EXPERIMENT.model_copy(update={"model": EXPERIMENT.model.model_copy(update={"freeze_bn": True})})


def batch_of(count: int) -> Batch:
    rng = torch.Generator().manual_seed(1)
    return Batch(
        image=torch.randn(count, 3, 32, 32, generator=rng),
        keypoints2d=torch.cat([32 * torch.rand(count, 54, 2, generator=rng), seen((count, 54, 1), rng)], 2),
        keypoints3d=torch.cat([torch.randn(count, 54, 3, generator=rng), seen((count, 54, 1), rng)], 2),
        rotmats=rotvec_to_rotmat(0.3 * torch.randn(count, 24, 3, generator=rng)),
        betas=torch.randn(count, 10, generator=rng),
        has_body=torch.arange(count) % 5 < 2,
        row=torch.arange(count),
        key=torch.randint(2**62, (count,), generator=rng),
        real=BodyParams(
            rotvec_to_rotmat(0.2 * torch.randn(count, 24, 3, generator=rng)), torch.randn(count, 10, generator=rng)
        ),
    )


def seen(shape: tuple[int, ...], rng: torch.Generator) -> torch.Tensor:
    """Confidences, many of them 0, so that the numbers of labels differ between parts of a batch."""
    return (torch.rand(shape, generator=rng) * torch.linspace(0, 2, shape[0])[:, None, None] > 0.5).float()


def learner(optim: OptimSpec, adversary: bool, parts: int = 1) -> Learner:
    torch.manual_seed(0)
    model = build_model(EXPERIMENT.model)
    network = Discriminator()
    prior = Adversary(network, network, torch.optim.Adam(network.parameters(), 1e-4), 0.5)
    scaler = torch.amp.GradScaler("cpu", enabled=optim.precision == "fp16")
    prior_asked = prior if adversary else None
    return Learner(model, model, optimiser_for(model, optim), prior_asked, average_of(model, optim), scaler, parts)


def gradients(body: SMPL, adversary: bool, parts: int = 1, **optim: Any) -> dict[str, torch.Tensor]:
    spec = OptimSpec(**optim)
    one = learner(spec, adversary, parts)
    terms = train_step(one, Losses(EXPERIMENT.losses, body), batch_of(8), 0, spec, ALONE)
    assert all(term.isfinite() for term in terms.values())
    return {name: parameter.grad.clone() for name, parameter in one.model.named_parameters()} | {
        f"discriminator.{name}": parameter.grad.clone()
        for name, parameter in (one.adversary.network.named_parameters() if one.adversary else ())
    }


def difference(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    return max(float((one[key] - two[key]).norm() / two[key].norm().clamp(min=1e-6)) for key in two)


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(tiny_smpl: SMPL, parts: int) -> None:
    whole, accumulated = gradients(tiny_smpl, False), gradients(tiny_smpl, False, parts)
    assert difference(accumulated, whole) < 1e-4  # from the summation order of floats


def test_a_batch_in_parts_gives_the_discriminator_the_gradient_of_the_whole(tiny_smpl: SMPL) -> None:
    whole, accumulated = gradients(tiny_smpl, True), gradients(tiny_smpl, True, 2)
    own = {key: value for key, value in whole.items() if key.startswith("discriminator")}
    assert own
    assert difference(accumulated, own) < 1e-4


@pytest.mark.parametrize("adversary", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_gradients_are_clipped_with_and_without_the_adversary(tiny_smpl: SMPL, adversary: bool, precision: str) -> None:
    clipped = gradients(tiny_smpl, adversary, clip_norm=1e-3, precision=precision)
    norm = torch.stack([value.norm() for key, value in clipped.items() if "discriminator" not in key]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("precision", "near"), [("bf16", 0.2), ("fp16", 0.05)])  # mantissas of 8 and 11 bits
def test_half_precision_gives_nearly_the_same_direction(tiny_smpl: SMPL, precision: str, near: float) -> None:
    exact, half = gradients(tiny_smpl, True), gradients(tiny_smpl, True, precision=precision)
    scale = 2.0**16 if precision == "fp16" else 1.0  # the gradient scaler's; Adam divides it out
    assert any(not torch.equal(half[key] / scale, exact[key]) for key in exact)
    last = "head.decpose.weight"
    assert half[last].dtype == torch.float32
    assert float((half[last] / half[last].norm() - exact[last] / exact[last].norm()).norm()) < near


@pytest.mark.parametrize("adversary", [False, True])
def test_averaged_weights_follow_slowly(tiny_smpl: SMPL, adversary: bool) -> None:
    spec = OptimSpec(ema=0.9, lr=1e-2)
    one = learner(spec, adversary)
    losses = Losses(EXPERIMENT.losses, tiny_smpl)
    train_step(one, losses, batch_of(8), 0, spec, ALONE)  # the average starts with the weights after the first step
    before = one.model.head.decpose.weight.detach().clone()
    train_step(one, losses, batch_of(8), 1, spec, ALONE)
    now, averaged = one.model.head.decpose.weight, one.to_evaluate.head.decpose.weight
    torch.testing.assert_close(averaged, 0.9 * before + 0.1 * now)


def test_backbone_head_and_discriminator_have_rates_of_their_own(tiny_smpl: SMPL) -> None:
    spec = OptimSpec(lr=1e-3, head_lr=1e-2)
    one = learner(spec, True)
    set_rates(one.optimiser, spec, 0, 5)
    before = {name: parameter.detach().clone() for name, parameter in one.model.named_parameters()}
    prior = [parameter.detach().clone() for parameter in one.adversary.network.parameters()]
    train_step(one, Losses(EXPERIMENT.losses, tiny_smpl), batch_of(8), 0, spec, ALONE)
    moved = {name: (parameter.detach() - before[name]).abs().max() for name, parameter in one.model.named_parameters()}
    # Adam's first step changes a weight by the learning rate, for any gradient
    backbone = max(value for name, value in moved.items() if name.startswith("backbone"))
    head = max(value for name, value in moved.items() if name.startswith("head"))
    discriminator = max(
        (now.detach() - then).abs().max() for now, then in zip(one.adversary.network.parameters(), prior, strict=True)
    )
    assert [float(value) for value in (backbone, head, discriminator)] == pytest.approx([1e-3, 1e-2, 1e-4], rel=1e-2)


def test_schedules_are_functions_of_the_step() -> None:
    def rates(**optim: Any) -> list[float]:
        spec = OptimSpec(lr=1.0, epochs=4, **optim)
        optimiser = optimiser_for(build_model(EXPERIMENT.model), spec)
        found = []
        for step in range(8):
            set_rates(optimiser, spec, step, 2)
            found.append(optimiser.param_groups[0]["lr"])
        return found

    assert rates() == [1.0] * 8
    assert rates(schedule="step", step_epochs=(1, 3), step_factor=0.5) == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]
    assert rates(warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1, 1]
    cosine = rates(schedule="cosine")
    assert cosine[0] == 1
    assert cosine[4] == pytest.approx(0.5)
    assert cosine == sorted(cosine, reverse=True)


def test_parts_are_the_batch_in_order() -> None:
    batch = replace(batch_of(6), skipped=("a picture",))
    parts = batch.micro_batches(3)
    assert [part.row.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    assert torch.equal(torch.cat([part.image for part in parts]), batch.image)


def _one_of_two(rank: int, folder: str, parts: int) -> None:
    """One of two ranks: trains on its half of the batch in micro-batches; rank 0 writes the gradients."""
    from torch import distributed
    from torch.nn.parallel import DistributedDataParallel

    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    spec = OptimSpec()
    one = learner(spec, True, parts)
    one.wrapped = DistributedDataParallel(one.model)
    one.adversary.wrapped = DistributedDataParallel(one.adversary.network)
    batch = batch_of(8)._each(lambda tensor: tensor[rank::2])
    body = body_from(body_arrays())
    train_step(one, Losses(EXPERIMENT.losses, body), batch, 0, spec, World(rank, 2, torch.device("cpu")))
    if rank == 0:
        networks = {"": one.model, "discriminator.": one.adversary.network}
        grads = {f"{p}{n}": w.grad for p, network in networks.items() for n, w in network.named_parameters()}
        torch.save(grads, f"{folder}/gradients.pt")
    distributed.destroy_process_group()


def test_two_processes_in_parts_have_the_gradient_of_one(tmp_path: Path) -> None:
    """Gradients are exchanged once, with the last micro-batch, and equal the global batch's gradients."""
    torch.multiprocessing.start_processes(_one_of_two, (str(tmp_path), 2), nprocs=2, start_method="forkserver")
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    whole = gradients(body_from(body_arrays()), True)
    # The discriminator steps before the last micro-batch's loss, so the adversarial gradient differs slightly.
    own = {key: value for key, value in whole.items() if key.startswith("discriminator")}
    assert difference(found, own) < 1e-4
    assert difference(found, whole) < 1e-2


def test_bodies_and_losses_never_compute_in_tf32(tiny_smpl: SMPL, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vertex 1 m away would move by up to 0.5 mm. The network does, forward and backward."""
    flag, seen = torch.backends.cuda.matmul, {}

    def note(part: str, *_: object) -> None:
        seen[part] = flag.allow_tf32

    made = learner(EXPERIMENT.optim, adversary=True)
    made.model.backbone.register_forward_hook(lambda *_: note("network"))
    next(made.model.backbone.parameters()).register_hook(lambda *_: note("network, backward"))
    tiny_smpl.register_forward_hook(lambda *_: note("body"))
    losses = Losses(EXPERIMENT.losses, tiny_smpl)
    pair = losses.pair

    def watched(*given: object) -> object:
        posed = pair(*given)
        posed.joints.register_hook(lambda _: note("body, backward"))
        return posed

    monkeypatch.setattr(losses, "pair", watched)
    with products_in(tf32=True):
        train_step(made, losses, batch_of(4), 0, EXPERIMENT.optim, ALONE)
        assert flag.allow_tf32
    assert seen == {"network": True, "network, backward": True, "body": False, "body, backward": False}


def test_predictions_that_are_not_finite_come_with_advice_and_few_rows(tiny_smpl: SMPL) -> None:
    one = learner(OptimSpec(), adversary=False)
    with torch.no_grad():
        next(one.model.parameters()).fill_(float("nan"))
    with pytest.raises(RunError) as failed:
        train_step(one, Losses(EXPERIMENT.losses, tiny_smpl), batch_of(12), 0, OptimSpec(), ALONE)
    said = "not finite are the predictions for rows [0, 1, 2, 3, 4, 5, 6, 7] and 4 more; usually, training diverged."
    for words in (said, "smaller optim.lr", "optim.clip_norm", "optim.warmup_steps", "weights were not changed"):
        assert words in str(failed.value)


def test_a_term_too_large_for_single_precision_says_so_and_names_no_rows(tiny_smpl: SMPL) -> None:
    losses = {name: term.model_copy(update={"weight": 3e38}) for name, term in EXPERIMENT.losses.items()}
    with pytest.raises(RunError) as failed:
        train_step(learner(OptimSpec(), adversary=False), Losses(losses, tiny_smpl), batch_of(8), 0, OptimSpec(), ALONE)
    assert "too large for single precision. Lower its weight" in str(failed.value)
    assert "rows" not in str(failed.value)
