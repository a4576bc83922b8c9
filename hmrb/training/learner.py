"""What a training step updates: model, optimiser, adversary, averaged weights; and how a spec builds them."""

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hmrb.body.official import check_mean
from hmrb.bodykind import kind_of
from hmrb.data.labelled_bodies import mean_body
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.formats.npz import Npz
from hmrb.models.backbones import keep_no_maps
from hmrb.models.half_precision import precision_in_use
from hmrb.models.head import set_mean
from hmrb.models.hmr import HMR, build_model
from hmrb.models.machine_speed import keeps_memory, remembered
from hmrb.models.numerics import apply_numerics
from hmrb.needs import file_need, mean_file
from hmrb.parallel.cores import cores_per_process
from hmrb.parallel.world import World
from hmrb.spec import EvalPrecision, Experiment, OptimSpec, Precision
from hmrb.store import Store
from hmrb.system import keep_memory
from hmrb.training.adversary import Adversary, build_adversary
from hmrb.training.average import WeightAverage

SYNC_BELOW = 16  # images per GPU below which BatchNorm's error rises (Wu and He, Group Normalization, 2018, fig. 1)
TABLES = ("pos_embed", "position_bias", "rel_pos", "_token")  # words in timm's names of position tables and tokens


@dataclass
class Learner:
    """What a step updates: the model (DDP wraps it for several processes), its optimiser, adversary and average."""

    model: HMR
    wrapped: nn.Module
    optimiser: torch.optim.Optimizer
    adversary: Adversary | None
    average: WeightAverage | None
    scaler: torch.amp.GradScaler = field(default_factory=lambda: torch.amp.GradScaler("cpu", enabled=False))
    """Keeps fp16 gradients from vanishing; off in the other precisions."""
    num_micro_batches: int = 1
    """How many equal micro-batches a process splits its share of a batch into."""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    """The speed settings and the precision in use, with device and process counts, for the record."""

    @property
    def to_evaluate(self) -> HMR:
        """The model with averaged weights, if the run averages them."""
        return cast(HMR, self.average.module) if self.average else self.model

    def precision(self, asked: Precision) -> Precision:
        """The network's precision: the one asked for, unless this CPU would be slower in it."""
        used: Precision = self.knobs.get("precision", asked)
        return used

    @property
    def eval_precision(self) -> EvalPrecision:
        """The network's precision in training, in which it is also evaluated during training."""
        precision: EvalPrecision = self.knobs.get("precision", "fp32")
        return "tf32" if precision == "fp32" and self.knobs.get("tf32") else precision

    def state(self) -> dict[str, Any]:
        """All state that a resumed run needs besides the evaluated weights."""
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
        """Clears the gradients of the previous step."""
        self.optimiser.zero_grad(set_to_none=True)
        if self.adversary:
            self.adversary.optimiser.zero_grad(set_to_none=True)

    @contextmanager
    def gradient_sync(self, is_last: bool) -> Iterator[None]:
        """Backward passes inside average gradients over the ranks only for the last micro-batch."""
        networks = [self.wrapped, self.adversary.wrapped] if self.adversary else [self.wrapped]
        with ExitStack() as stack:
            for network in networks:
                if isinstance(network, DistributedDataParallel) and not is_last:
                    stack.enter_context(network.no_sync())
            yield


def build_learner(experiment: Experiment, shards: Mapping[str, Shard], store: Store, world: World) -> Learner:
    """Model, optimisers and adversary of a spec, on this process's device."""
    optim, speed = experiment.optim, experiment.speed
    kind = kind_of(experiment.body)
    model = build_model(experiment.model, store, kind)
    if world.is_main and model.weights_used:
        print(model.weights_used, flush=True)
    if experiment.model.start == "backbone":
        set_mean(model.head, read_mean(experiment, shards, store))
    model.to(world.device)
    if speed.channels_last:
        model = model.to(memory_format=torch.channels_last)
    if speed.checkpointing:
        keep_no_maps(model.backbone)
    num_micro_batches = speed.micro_batches(optim.batch, world.size)
    device_batch = optim.batch // world.size // num_micro_batches
    sync_bn = syncs_bn(experiment.model.sync_bn, device_batch, world)
    if sync_bn:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    average = average_of(model, optim)
    wrapped: nn.Module = model
    if world.size > 1:
        # No static graph: DDP can't look into a Prediction, and would exchange no gradients in the first step of a
        # process; a resumed run ended with other digits.
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
        wrapped.broadcast_buffers = False  # the first process's own are used, shared where weights are scored
    precision, why = world.from_first(lambda: precision_in_use(optim.precision, world.device, remembered(store)))
    if why and world.is_main:
        print(why, flush=True)
    scaler = torch.amp.GradScaler(world.device.type, enabled=precision == "fp16")
    adversary = build_adversary(experiment, world)
    on_gpu = world.device.type == "cuda"
    memory_is_kept = not on_gpu and keeps_memory(speed.keep_memory, store) and keep_memory()
    knobs = {
        "device": world.device.type, "processes": world.size, "micro_batches": num_micro_batches,
        "precision": precision, "sync_bn": sync_bn,
        "workers": experiment.data.workers_for(cores_per_process(), on_gpu), "decay": optim.decay,
        **speed.model_dump(exclude={"profile_steps"}), **apply_numerics(speed, world.device),
        "device_batch": device_batch, "compile": [],
        "keep_memory": memory_is_kept,
        "pin_memory": speed.pin_memory and on_gpu, "prefetch": speed.prefetch and on_gpu,
    }  # fmt: skip
    return Learner(
        model, wrapped, optimiser_for(model, optim, speed.fused), adversary, average, scaler, num_micro_batches, knobs
    )


def syncs_bn(choice: bool | Literal["auto"], device_batch: int, world: World) -> bool:
    """Whether BatchNorm's statistics are over all GPUs; `device_batch` is the number of pictures of one at a time."""
    is_wanted = device_batch < SYNC_BELOW if choice == "auto" else choice
    return is_wanted and world.size > 1 and world.device.type == "cuda"


def optimiser_for(model: HMR, optim: OptimSpec, fused: bool = True) -> torch.optim.Optimizer:
    """The optimiser of a spec. Backbone and head are groups with rates of their own.

    With `decay: matrices`, each is two groups: the matrices, and what does not decay.
    """
    groups: list[dict[str, Any]] = []
    head_lr = optim.head_lr or optim.lr
    for weights, lr in (*by_layer(model.backbone, optim), (dict(model.head.named_parameters()), head_lr)):
        kept = {} if optim.decay == "all" else {name: w for name, w in weights.items() if not is_matrix(name, w)}
        groups.append({"params": [w for name, w in weights.items() if name not in kept], "lr": lr})
        if kept:
            groups.append({"params": list(kept.values()), "lr": lr, "weight_decay": 0.0})
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimiser = kinds[optim.optimiser](groups, weight_decay=optim.weight_decay, fused=fused)
    for group in optimiser.param_groups:
        group["base_lr"] = group["lr"]
    return optimiser


def by_layer(backbone: nn.Module, optim: OptimSpec) -> list[tuple[dict[str, nn.Parameter], float]]:
    """The backbone's weights and their rate; with `layer_decay` below 1 by layer, from the first to the last.

    The layers are timm's (`group_matcher`); what belongs to none, such as a tail, has the rate of the last. Raises
    RequestError for a network without.
    """
    weights = dict(backbone.named_parameters())
    if optim.layer_decay == 1:
        return [(weights, optim.lr)]
    network: Any = backbone.network
    if not hasattr(network, "group_matcher"):
        raise RequestError(f"optim.layer_decay: {type(network).__name__} does not say what its layers are; set it to 1")
    from timm.models import group_parameters

    numbers = group_parameters(network, network.group_matcher(coarse=False), reverse=True)
    layers: dict[int, dict[str, nn.Parameter]] = {}
    last = max(numbers.values())
    for name, weight in weights.items():
        layers.setdefault(numbers.get(name.removeprefix("network."), last), {})[name] = weight
    return [(layers[number], optim.lr * optim.layer_decay ** (last - number)) for number in sorted(layers)]


def is_matrix(name: str, weight: Tensor) -> bool:
    """Whether a weight multiplies features: a matrix or kernel, and no norm, bias, position table or token.

    As in ViT and Swin (Dosovitskiy et al., ICLR 2021; Liu et al., ICCV 2021) and timm's `no_weight_decay`.
    """
    leaf = name.rpartition(".")[2]
    return weight.ndim > 1 and not any(word in leaf for word in TABLES)


def _load_optimiser(optimiser: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Loads `state` under the speed settings of this run.

    A fused kernel reads weights and moments in memory order, so moments take the layout of their weights here.
    """
    groups = [group | {"fused": optimiser.defaults["fused"]} for group in state["param_groups"]]
    optimiser.load_state_dict({**state, "param_groups": groups})
    for weight, moments in optimiser.state.items():
        for name, moment in moments.items():
            if moment.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(moment)


def average_of(model: HMR, optim: OptimSpec) -> WeightAverage | None:
    """The averaged weights of a spec, or None."""
    if not optim.ema:
        return None
    return WeightAverage(model, optim.ema)


def read_mean(experiment: Experiment, shards: Mapping[str, Shard], store: Store) -> Float[Tensor, " M"]:
    """The body that the regressor starts from."""
    if experiment.model.mean == "labels":
        return mean_body(shards, experiment.data)
    import numpy as np

    path, kind = mean_file(experiment.body, store), kind_of(experiment.body)
    if not path.exists():
        message = f"{path}: no such file. SPIN's data contains it; or set model.mean to labels"
        raise RequestError(message, [file_need(path)])
    if experiment.body == "smplx":
        check_mean(path)
    with Npz(path) as mean:
        parts = {key: np.asarray(mean.read(key)) for key in ("pose", "shape", "cam")}
    for key, part in parts.items():
        if part.dtype.kind not in "fiu" or not np.isfinite(part).all():
            raise RequestError(f"{path}: {key} contains values that are not finite numbers; download it again")
    if experiment.body == "smplx":  # BEDLAM: SMPL's first joints, and 0 for the beta that SMPL lacks
        parts["pose"] = parts["pose"][: kind.rot6d_numbers]
        parts["shape"] = np.pad(parts["shape"], (0, kind.num_betas - len(parts["shape"])))
    return torch.from_numpy(np.concatenate([part.ravel() for part in parts.values()])).float()


def set_rates(optimiser: torch.optim.Optimizer, optim: OptimSpec, step: int, steps_per_epoch: int) -> None:
    """Sets the learning rates of a step; they depend only on the step."""
    factor = 1.0
    if optim.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / (optim.epochs * steps_per_epoch)))
    if optim.schedule == "step":
        factor = optim.step_factor ** sum(step >= epoch * steps_per_epoch for epoch in optim.step_epochs)
    if step < optim.warmup_steps:
        factor *= (step + 1) / optim.warmup_steps
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor
