"""What a step moves, and the step: a function of learner, losses and batch."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.profiler import record_function

from hmrb.bodykind import kind_of
from hmrb.data.loader import bodiless, mean_body, mixture, real_poses, stream_seed
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.backbones import keep_no_maps
from hmrb.models.discriminator import Discriminator
from hmrb.models.head import set_mean
from hmrb.models.hmr import HMR, build_model, computing_in
from hmrb.parallel.world import World, keep_memory
from hmrb.records import Batch, BodyParams, Prediction
from hmrb.spec import AdversarySpec, Experiment, OptimSpec
from hmrb.store import Store
from hmrb.training.losses import LabelCounts, Losses, fake_loss, real_loss


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
    num_parts: int = 1
    """Equal parts that a process takes its share of a batch in; their gradients are averaged."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """What of the spec's `speed` and precision is on, and on how much hardware: for the record."""

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
        return out | {"scaler": self.scaler.state_dict(), "knobs": dict(self.knobs)}

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        _load_optimiser(self.optimiser, state["optimiser"])
        if self.adversary:
            self.adversary.network.load_state_dict(state["adversary"])
            _load_optimiser(self.adversary.optimiser, state["adversary_optimiser"])
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

    The terms of all processes have those of the whole batch as their mean. As in the study the discriminator steps on
    this step's prediction before the model's loss is taken; where the batch is taken in parts, before that of the last.
    Raises RunError on every process, before the model's weights move, where a term is not finite on one of them.
    """
    parts = batch.parts(learner.num_parts)
    real = learner.adversary.real(step).parts(len(parts)) if learner.adversary else [None] * len(parts)
    with record_function("hmrb: counts"):
        labelled = LabelCounts.of(batch).of_part(len(parts), world)
    learner.zero_grad()
    passes = []
    for index, (part, real_part) in enumerate(zip(parts, real, strict=True)):
        is_last = index == len(parts) - 1
        with learner.exchanging(gradients=is_last):
            passes.append(_forward(learner, losses, part, labelled, real_part, optim, is_last))
            if is_last:  # told while the network's gradients are taken: nobody stands still for the answer
                telling = world.start_max(_not_finite_terms(passes))
            with record_function("hmrb: backward"):
                torch.autograd.backward(passes[-1].outputs, passes[-1].gradients)
    with record_function("hmrb: finite"):
        if telling():
            raise _not_finite_error(passes, step, world)
    with record_function("hmrb: optimiser"):
        if optim.clip_norm is not None:
            learner.scaler.unscale_(learner.optimiser)
            nn.utils.clip_grad_norm_(learner.model.parameters(), optim.clip_norm)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        if learner.average:
            learner.average.update_parameters(learner.model)
    return {name: torch.stack([of.terms[name] for of in passes]).mean() for name in passes[0].terms}


@dataclass(frozen=True, slots=True)
class Pass:
    """What came of one part of a batch: its terms, none with a gradient, and what they are of.

    `outputs` are those of the network, `gradients` the loss's by them.
    """

    terms: dict[str, Tensor]
    prediction: Prediction
    part: Batch
    outputs: tuple[Tensor, ...]
    gradients: list[Tensor]


def _forward(
    learner: Learner,
    losses: Losses,
    part: Batch,
    labelled: Callable[[], LabelCounts],
    real: BodyParams | None,
    optim: OptimSpec,
    is_last: bool,
) -> Pass:
    """One part of a batch through network, body and losses, and back to the network; the last moves the adversary."""
    with record_function("hmrb: forward"), computing_in(optim.precision, part.image.device):
        prediction = learner.wrapped(part.image, part.key)
    outputs = (prediction.rotmats, prediction.betas, prediction.camera)
    # The backward pass in two: through body and losses to here, then through the network. Each is seen in a profile.
    leaves = [output.detach().requires_grad_() for output in outputs]
    prediction = Prediction(*leaves)
    terms: dict[str, Tensor] = {}
    if learner.adversary and real:
        with record_function("hmrb: adversary"):
            terms = _adversary_backward(learner.adversary, prediction, real, learner.num_parts)
            if is_last:
                learner.adversary.optimiser.step()
    with record_function("hmrb: losses"):
        generator = losses(prediction, part, labelled())
    if learner.adversary:
        with record_function("hmrb: adversary"):
            network = learner.adversary.network.requires_grad_(False)  # it learns from its own loss alone
            scores = network(prediction.rotmats, prediction.betas)
            generator["adversarial"] = learner.adversary.weight * real_loss(scores)
            network.requires_grad_(True)
    total = torch.stack(list(generator.values())).sum()
    with record_function("hmrb: backward of losses and SMPL"):
        learner.scaler.scale(total / learner.num_parts).backward()
    gradients = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves]
    terms = {name: term.detach() for name, term in ({"total": total} | generator | terms).items()}
    return Pass(terms, prediction, part, outputs, gradients)


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


def _not_finite_terms(passes: Sequence[Pass]) -> Int[Tensor, ""]:
    """How many; a GPU is not waited for."""
    return torch.stack([term for of in passes for term in of.terms.values()]).isfinite().logical_not().sum()


def _not_finite_error(passes: Sequence[Pass], step: int, world: World) -> RunError:
    """What each process says where a term is not finite on one of them."""
    for of in passes:
        if bad_terms := [name for name, term in of.terms.items() if name != "total" and not term.isfinite()]:
            labels = (of.part.keypoints2d, of.part.keypoints3d, of.part.pose, of.part.betas, of.part.image)
            predicted = (of.prediction.rotmats, of.prediction.betas, of.prediction.camera)
            label_rows = _not_finite(labels, of.part)
            where = (
                f"labels or picture of rows {label_rows}"
                if label_rows
                else f"predictions for rows {_not_finite(predicted, of.part)}"
            )
            return RunError(
                f"step {step}, process {world.rank}: {', '.join(bad_terms)} is not finite; not finite are the {where}."
                " No weight was changed."
            )
    return RunError(f"step {step}: the loss of another process is not finite; no weight was changed")


def _not_finite(parts: tuple[Tensor, ...], batch: Batch) -> list[int]:
    ok = torch.stack([part.detach().flatten(1).isfinite().all(1) for part in parts]).all(0)
    rows: list[int] = batch.row[~ok].tolist()
    return rows


def build_learner(experiment: Experiment, shards: Mapping[str, Shard], store: Store, world: World) -> Learner:
    """Model, optimisers and adversary of a spec, on this process's device."""
    optim, speed = experiment.optim, experiment.speed
    kind = kind_of(experiment.body)
    model = build_model(experiment.model, store, kind)
    if world.is_main and model.weights_used:
        print(model.weights_used, flush=True)
    set_mean(model.head, read_mean(experiment, shards, store))
    model.to(world.device)
    if speed.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if speed.checkpointing:
        keep_no_maps(model.backbone)
    sync_bn = world.size > 1 and experiment.model.sync_bn and world.device.type == "cuda"
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    average = _average(model, optim)
    why_not = compile_backbone(model) if speed.compile else ""
    if why_not and world.is_main:
        print(f"speed.compile: torch.compile does not work here, the backbone runs as it is: {why_not}", flush=True)
    wrapped: nn.Module = model
    if world.size > 1:
        # No static graph: DDP can't look into a Prediction, and would exchange no gradients in the first step of a
        # process; a resumed run ended with other digits.
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
        wrapped.broadcast_buffers = False  # the first process's own are used, shared where weights are scored
    scaler = torch.amp.GradScaler(world.device.type, enabled=optim.precision == "fp16")
    adversary = _build_adversary(experiment, shards, store, world)
    num_parts = speed.parts(optim.batch, world.size)
    on_gpu = world.device.type == "cuda"
    memory_is_kept = speed.keep_memory and not on_gpu and keep_memory()
    knobs = {
        "device": world.device.type, "processes": world.size, "parts": num_parts, "precision": optim.precision,
        "sync_bn": sync_bn, "workers": experiment.data.workers, **speed.model_dump(exclude={"profile_steps"}),
        "device_batch": optim.batch // world.size // num_parts, "compile": speed.compile and not why_not,
        "keep_memory": memory_is_kept,
        "pin_memory": speed.pin_memory and on_gpu, "prefetch": speed.prefetch and on_gpu,
    }  # fmt: skip
    return Learner(model, wrapped, _optimiser(model, optim, speed.fused), adversary, average, scaler, num_parts, knobs)


def compile_backbone(model: HMR) -> str:
    """Puts the backbone through torch.compile; where it does not work here, leaves it and gives the reason."""
    try:
        torch.compile(torch.sin)(torch.ones(1, device=next(model.parameters()).device))
    except (RuntimeError, ImportError, OSError) as error:  # no compiler, no Triton, an unsupported Python
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    torch._dynamo.config.suppress_errors = True  # what of a backbone can't be compiled runs as it is, with a warning
    model.backbone.compile()
    return ""


def _optimiser(model: HMR, optim: OptimSpec, fused: bool = True) -> torch.optim.Optimizer:
    groups = [
        {"params": list(model.backbone.parameters()), "lr": optim.lr},
        {"params": list(model.head.parameters()), "lr": optim.head_lr or optim.lr},
    ]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimiser = kinds[optim.optimiser](groups, weight_decay=optim.weight_decay, fused=fused)
    for group in optimiser.param_groups:
        group["base_lr"] = group["lr"]
    return optimiser


def _load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Puts `state` under the knobs of this run, whatever those it was saved under.

    A fused kernel walks weight and moments in the order of memory: moments in another layout would be another weight's.
    """
    groups = [group | {"fused": optimiser.defaults["fused"]} for group in state["param_groups"]]
    optimiser.load_state_dict({**state, "param_groups": groups})
    for weight, moments in optimiser.state.items():
        for name, moment in moments.items():
            if moment.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(moment)


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
    network = Discriminator(kind_of(experiment.body)).to(world.device)
    wrapped = DistributedDataParallel(network, gradient_as_bucket_view=True) if world.size > 1 else network
    batch = experiment.optim.batch

    def real(step: int) -> BodyParams:
        draws = range(step * batch + world.rank, (step + 1) * batch, world.size)
        return real_poses(real_shards, sampler, draws, unused)

    optimiser = torch.optim.Adam(network.parameters(), spec.lr, fused=experiment.speed.fused)
    return Adversary(network, wrapped, optimiser, spec.weight, real)


def read_mean(experiment: Experiment, shards: Mapping[str, Shard], store: Store) -> Float[Tensor, " M"]:
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
