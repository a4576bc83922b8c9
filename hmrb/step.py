"""What a step moves, and the step: a function of learner, losses and batch."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hmrb.data.loader import bodiless, mean_body, mixture, real_poses, stream_seed
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.losses import Losses, fake_loss, real_loss
from hmrb.models.discriminator import Discriminator
from hmrb.models.head import set_mean
from hmrb.models.hmr import HMR, build_model
from hmrb.records import Batch, BodyParams, Prediction
from hmrb.spec import AdversarySpec, Experiment, OptimSpec
from hmrb.store import Store
from hmrb.world import World

HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Adversary:
    """The discriminator, its optimiser, and where real bodies come from."""

    network: Discriminator
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    weight: float
    real: Callable[[int], BodyParams]


@dataclass
class Learner:
    """What a step moves: the model (wrapped for several processes), its optimiser, the adversary, the average."""

    model: HMR
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    adversary: Adversary | None
    average: AveragedModel | None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Keeps fp16 gradients from vanishing; off in the other precisions."""

    @property
    def to_evaluate(self) -> HMR:
        """The averaged weights where there are any."""
        return cast(HMR, self.average.module) if self.average else self.model

    def state(self) -> dict[str, Any]:
        """Everything besides the evaluated weights that a resumed run needs."""
        out: dict[str, Any] = {"model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        if self.adversary:
            out["adversary"] = self.adversary.network.state_dict()
            out["adversary_optimiser"] = self.adversary.optimiser.state_dict()
        if self.average:
            out["average"] = self.average.state_dict()
        return out | {"scaler": self.scaler.state_dict()}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.adversary:
            self.adversary.network.load_state_dict(state["adversary"])
            self.adversary.optimiser.load_state_dict(state["adversary_optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])

    def zero_grad(self) -> None:
        """Forgets the gradients of the step before."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.adversary:
            self.adversary.optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def exchanging(self, gradients: bool) -> Iterator[None]:
        """Backward passes inside average gradients over the processes, or leave that to a later pass."""
        networks = [self.wrapped, self.adversary.wrapped] if self.adversary else [self.wrapped]
        with ExitStack() as held:
            for network in networks:
                if isinstance(network, DistributedDataParallel) and not gradients:
                    held.enter_context(network.no_sync())
            yield


def train_step(
    learner: Learner, losses: Losses, batch: Batch, step: int, optim: OptimSpec, world: World
) -> dict[str, Float[Tensor, ""]]:
    """One step of discriminator and model; gives each weighted term of the loss, its mean over the parts of the batch.

    As in the study the discriminator steps on this step's prediction before the model's loss is taken; where the
    batch is taken in parts, before that of the last.
    """
    parts = batch.parts(optim.accumulate)
    real = learner.adversary.real(step).parts(len(parts)) if learner.adversary else [None] * len(parts)
    means: dict[str, Tensor] = {}
    learner.zero_grad()
    for index, (part, real_part) in enumerate(zip(parts, real, strict=True)):
        is_last = index == len(parts) - 1
        with learner.exchanging(gradients=is_last):
            terms = _backward(learner, losses, part, real_part, step, optim, world, is_last)
        for name, term in terms.items():
            means[name] = means.get(name, 0) + term.detach() / len(parts)
    if optim.clip_norm is not None:
        learner.scaler.unscale_(learner.optimiser)
        nn.utils.clip_grad_norm_(learner.model.parameters(), optim.clip_norm)
    learner.scaler.step(learner.optimiser)
    learner.scaler.update()
    if learner.average:
        learner.average.update_parameters(learner.model)
    return means


def _backward(
    learner: Learner,
    losses: Losses,
    part: Batch,
    real: BodyParams | None,
    step: int,
    optim: OptimSpec,
    world: World,
    is_last: bool,
) -> dict[str, Tensor]:
    """Forward and backward of one part of a batch; with the last, the discriminator's step."""
    with torch.autocast(world.device.type, HALF.get(optim.precision), enabled=optim.precision in HALF):
        prediction = learner.wrapped(part.image)
    terms: dict[str, Tensor] = {}
    if learner.adversary and real:
        terms |= _adversary_backward(learner.adversary, prediction, real, optim.accumulate)
        if is_last:
            learner.adversary.optimiser.step()
    generator = losses(prediction, part)
    if learner.adversary:
        network = learner.adversary.network.requires_grad_(False)  # it learns from its own loss alone
        generator["adversarial"] = learner.adversary.weight * real_loss(network(prediction.rotmats, prediction.betas))
        network.requires_grad_(True)
    total = torch.stack(list(generator.values())).sum()
    stop_unless_finite(generator, prediction, part, step, world)
    learner.scaler.scale(total / optim.accumulate).backward()
    return {"total": total} | generator | terms


def _adversary_backward(
    adversary: Adversary, prediction: Prediction, real: BodyParams, num_parts: int
) -> dict[str, Tensor]:
    device = prediction.betas.device
    rotmats = torch.cat([rotvec_to_rotmat(real.pose.to(device)), prediction.rotmats.detach()])
    betas = torch.cat([real.betas.to(device), prediction.betas.detach()])
    scores = adversary.wrapped(rotmats, betas)  # one pass for both: a wrapped network allows one a backward
    of_real, of_fake = scores.split([len(real.betas), len(prediction.betas)])
    terms = {"discriminator_real": real_loss(of_real), "discriminator_fake": fake_loss(of_fake)}
    (torch.stack(list(terms.values())).sum() / num_parts).backward()
    return terms


def stop_unless_finite(
    terms: Mapping[str, Tensor], prediction: Prediction, batch: Batch, step: int, world: World
) -> None:
    """Raises RunError on every process, before any weight moves, where a term is not finite on one of them."""
    finite = torch.stack([term.detach() for term in terms.values()]).isfinite()
    if not world.most(int(not finite.all())):
        return
    bad_terms = [name for name, ok in zip(terms, finite.tolist(), strict=True) if not ok]
    if not bad_terms:
        raise RunError(f"step {step}: the loss of another process is not finite; no weight was changed")
    parts = (batch.keypoints2d, batch.keypoints3d, batch.pose, batch.betas, batch.image)
    guesses = (prediction.rotmats, prediction.betas, prediction.camera)
    label_rows = _not_finite(parts, batch)
    where = (
        f"labels or picture of rows {label_rows}"
        if label_rows
        else f"predictions for rows {_not_finite(guesses, batch)}"
    )
    raise RunError(
        f"step {step}, process {world.rank}: {', '.join(bad_terms)} is not finite; not finite are the {where}."
        " No weight was changed."
    )


def _not_finite(parts: tuple[Tensor, ...], batch: Batch) -> list[int]:
    ok = torch.stack([part.flatten(1).isfinite().all(1) for part in parts]).all(0)
    rows: list[int] = batch.row[~ok].tolist()
    return rows


def build_learner(experiment: Experiment, shards: Mapping[str, Shard], store: Store, world: World) -> Learner:
    """Model, optimisers and adversary of a spec, on this process's device."""
    optim = experiment.optim
    model = build_model(experiment.model, store)
    if world.is_main and model.weights_used:
        print(model.weights_used, flush=True)
    set_mean(model.head, read_mean(experiment, shards, store))
    model.to(world.device)
    if world.device.type == "cpu":
        model = model.to(memory_format=torch.channels_last)
    wrapped: nn.Module = model
    if world.size > 1:
        if experiment.model.sync_bn and world.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        # No static_graph: its first step rounds otherwise than the later ones, and a resumed run has one more of these.
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    scaler = torch.amp.GradScaler(world.device.type, enabled=optim.precision == "fp16")
    adversary = _build_adversary(experiment, shards, store, world)
    return Learner(model, wrapped, _optimiser(model, optim), adversary, _average(model, optim), scaler)


def _optimiser(model: HMR, optim: OptimSpec) -> torch.optim.Optimizer:
    groups = [
        {"params": list(model.backbone.parameters()), "lr": optim.lr},
        {"params": list(model.head.parameters()), "lr": optim.head_lr or optim.lr},
    ]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimiser = kinds[optim.optimiser](groups, weight_decay=optim.weight_decay, fused=True)
    for group in optimiser.param_groups:
        group["base_lr"] = group["lr"]
    return optimiser


def _average(model: HMR, optim: OptimSpec) -> AveragedModel | None:
    if not optim.ema:
        return None
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema), use_buffers=True)


def _build_adversary(
    experiment: Experiment, shards: Mapping[str, Shard], store: Store, world: World
) -> Adversary | None:
    spec: AdversarySpec = experiment.adversary
    if not spec.weight:
        return None
    if spec.poses == "labels":
        real_shards, sampler = shards, mixture(shards, experiment.data, stream_seed(experiment.seed, "real poses"))
        unused = bodiless(experiment.data)
    else:
        real_shards = {spec.poses: open_shard(store.shard(spec.poses, "train"), spec.poses)}
        alone = experiment.data.model_copy(update={"mix": {spec.poses: 1.0}})
        sampler = mixture(real_shards, alone, stream_seed(experiment.seed, "real poses"))
        unused = frozenset()  # asked for by name
    network = Discriminator().to(world.device)
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True) if world.size > 1 else network
    batch = experiment.optim.batch

    def real(step: int) -> BodyParams:
        draws = range(step * batch + world.rank, (step + 1) * batch, world.size)
        return real_poses(real_shards, sampler, draws, unused)

    return Adversary(network, wrapped, torch.optim.Adam(network.parameters(), spec.lr), spec.weight, real)


def read_mean(experiment: Experiment, shards: Mapping[str, Shard], store: Store) -> Float[Tensor, "157"]:
    """The body that the regressor starts from."""
    if experiment.model.mean == "labels":
        return mean_body(shards, experiment.data.mix, bodiless(experiment.data))
    import numpy as np

    path = store.bodies / experiment.body / "smpl_mean_params.npz"
    if not path.exists():
        raise RequestError(f"{path}: no such file; it comes with SPIN's data. Or set model.mean to labels")
    with np.load(path, allow_pickle=False) as mean:
        return torch.from_numpy(np.concatenate([mean[key].ravel() for key in ("pose", "shape", "cam")])).float()


def set_rates(optimiser: torch.optim.Optimizer, optim: OptimSpec, step: int, steps_per_epoch: int) -> None:
    """The schedule: a function of the step alone."""
    factor = 1.0
    if optim.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / (optim.epochs * steps_per_epoch)))
    if optim.schedule == "step":
        factor = optim.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in optim.step_epochs)
    if step < optim.warmup_steps:
        factor *= (step + 1) / optim.warmup_steps
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
