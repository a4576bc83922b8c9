"""Training: one page of loop, and the step as a function of its arguments."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hmrb.benchmarks import BENCHMARKS, Benchmark
from hmrb.body import SMPL, load_body
from hmrb.checkpoint import Checkpoint, Run, code_version, load_checkpoint, load_weights_into, save_checkpoint
from hmrb.data.loader import (
    DrawDataset,
    StepDraws,
    bodiless,
    epoch_len,
    mean_body,
    mixture,
    real_poses,
    stream_seed,
    train_loader,
)  # fmt: skip
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.evaluate import Bodies, evaluate_model
from hmrb.geometry import rotvec_to_rotmat
from hmrb.lookup import find
from hmrb.losses import Losses, fake_loss, real_loss
from hmrb.models.discriminator import Discriminator
from hmrb.models.head import set_mean
from hmrb.models.hmr import HMR, build_model
from hmrb.records import Batch, BodyParams, Prediction
from hmrb.spec import AdversarySpec, Experiment, OptimSpec
from hmrb.store import Store
from hmrb.watch import Watcher
from hmrb.world import World

LOG_EVERY = 20  # steps between two lines of the log


class Stopped(Exception):
    """A signal asked the run to stop; its checkpoint is written."""

    def __init__(self, signum: int, step: int) -> None:
        super().__init__(f"stopped at step {step} by {signal.Signals(signum).name}; go on with --resume")
        self.signum = signum


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
        return out

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.adversary:
            self.adversary.network.load_state_dict(state["adversary"])
            self.adversary.optimiser.load_state_dict(state["adversary_optimiser"])
        if self.average:
            self.average.load_state_dict(state["average"])


def train(experiment: Experiment, run: Run, store: Store, world: World, watcher: Watcher) -> Checkpoint:
    """Trains to the end of the spec from the run's last checkpoint on. Raises Stopped on SIGTERM and SIGINT."""
    # ---- data and body
    shards = {name: open_shard(store.shard(name, "train"), name) for name in experiment.data.mix}
    body = load_body(experiment.body, store=store).to(world.device)
    optim = experiment.optim
    steps_per_epoch = max(epoch_len(shards, experiment.data) // optim.batch, 1)
    total = optim.epochs * steps_per_epoch

    # ---- model, losses, optimisers
    torch.manual_seed(stream_seed(experiment.seed, "weights"))
    learner = build_learner(experiment, shards, store, world)
    losses = Losses(experiment.losses, body)
    select = Selection.build(experiment, store, world)
    step = _restore(learner, run, body, shards, select)

    # ---- loop
    watcher.start(step, total, steps_per_epoch)
    dataset = DrawDataset(shards, experiment.data, experiment.model.image_px, experiment.seed)
    draws = StepDraws(optim.batch, step, total, world.rank, world.size)
    meter = Meter(world.size)
    unreadable: set[str] = set()
    last = None
    with Signals() as signals:
        for batch in meter.waits(train_loader(dataset, draws, experiment.data.workers)):
            unreadable = _note_unreadable(unreadable, batch, experiment.data.unreadable_limit, watcher)
            set_rates(learner.optimiser, optim, step, total)
            torch.manual_seed(stream_seed(experiment.seed, f"step {step} of rank {world.rank}"))
            terms = train_step(learner, losses, batch.to(world.device), step, optim, world)
            step += 1
            meter.add(terms, len(batch.row))
            if step % LOG_EVERY == 0 or step == total:
                facts = meter.facts() | {"lr": learner.optimiser.param_groups[0]["lr"], "epoch": step / steps_per_epoch}
                watcher.step(step, facts)
            ends_epoch = step % steps_per_epoch == 0
            stop = world.most(signals.received)
            if ends_epoch and select:
                select.consider(learner, step, step // steps_per_epoch, step == total, watcher)
            if ends_epoch or stop:
                last = _checkpoint(experiment, learner, step, body, shards, select)
                if world.is_main:
                    if select and select.best_step == step:
                        save_checkpoint(replace(last, training={}), run.best)
                    save_checkpoint(last, run.last)
                world.barrier()
            if stop and step < total:
                raise Stopped(stop, step)
    return last or load_checkpoint(run.last)


def train_step(
    learner: Learner, losses: Losses, batch: Batch, step: int, optim: OptimSpec, world: World
) -> dict[str, Float[Tensor, ""]]:
    """One step of discriminator and model; gives each weighted term of the loss.

    As in the study the discriminator steps on this step's prediction before the model's loss is taken.
    """
    prediction = learner.wrapped(batch.image)
    terms: dict[str, Tensor] = {}
    if learner.adversary:
        terms |= _adversary_step(learner.adversary, prediction, step)
    generator = losses(prediction, batch)
    if learner.adversary:
        network = learner.adversary.network.requires_grad_(False)  # its own step is done
        generator["adversarial"] = learner.adversary.weight * real_loss(network(prediction.rotmats, prediction.betas))
        network.requires_grad_(True)
    total = torch.stack(list(generator.values())).sum()
    stop_unless_finite(generator, prediction, batch, step, world)
    learner.optimiser.zero_grad(set_to_none=True)
    total.backward()
    if optim.clip_norm is not None:
        nn.utils.clip_grad_norm_(learner.model.parameters(), optim.clip_norm)
    learner.optimiser.step()
    if learner.average:
        learner.average.update_parameters(learner.model)
    return {name: term.detach() for name, term in ({"total": total} | generator | terms).items()}


def _adversary_step(adversary: Adversary, prediction: Prediction, step: int) -> dict[str, Tensor]:
    real = adversary.real(step)
    device = prediction.betas.device
    rotmats = torch.cat([rotvec_to_rotmat(real.pose.to(device)), prediction.rotmats.detach()])
    betas = torch.cat([real.betas.to(device), prediction.betas.detach()])
    scores = adversary.wrapped(rotmats, betas)  # one pass for both: a wrapped network allows one a backward
    of_real, of_fake = scores.split([len(real.betas), len(prediction.betas)])
    terms = {"discriminator_real": real_loss(of_real), "discriminator_fake": fake_loss(of_fake)}
    adversary.optimiser.zero_grad(set_to_none=True)
    torch.stack(list(terms.values())).sum().backward()
    adversary.optimiser.step()
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
    model = build_model(experiment.model)
    set_mean(model.head, read_mean(experiment, shards, store))
    model.to(world.device)
    if world.device.type == "cpu":
        model = model.to(memory_format=torch.channels_last)
    wrapped: nn.Module = model
    if world.size > 1:
        if experiment.model.sync_bn and world.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        wrapped = DistributedDataParallel(model, gradient_as_bucket_view=True)
    groups = [
        {"params": list(model.backbone.parameters()), "lr": optim.lr},
        {"params": list(model.head.parameters()), "lr": optim.head_lr or optim.lr},
    ]
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
    optimiser = kinds[optim.optimiser](groups, weight_decay=optim.weight_decay, fused=True)
    for group in optimiser.param_groups:
        group["base_lr"] = group["lr"]
    average = (
        AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(optim.ema), use_buffers=True) if optim.ema else None
    )
    return Learner(model, wrapped, optimiser, _build_adversary(experiment, shards, store, world), average)


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
    wrapped = DistributedDataParallel(network) if world.size > 1 else network
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


def set_rates(optimiser: torch.optim.Optimizer, optim: OptimSpec, step: int, total: int) -> None:
    """The schedule: a function of the step alone."""
    factor = 1.0
    if optim.schedule == "cosine":
        factor = 0.5 * (1 + math.cos(math.pi * step / total))
    if step < optim.warmup_steps:
        factor *= (step + 1) / optim.warmup_steps
    for group in optimiser.param_groups:
        group["lr"] = group["base_lr"] * factor


@dataclass
class Selection:
    """The benchmark that chooses the best checkpoint, and its choice so far."""

    benchmark: Benchmark
    shard: Shard
    bodies: Bodies
    world: World
    image_px: int
    every: int
    workers: int
    best: float = math.inf
    best_step: int = -1

    @classmethod
    def build(cls, experiment: Experiment, store: Store, world: World) -> "Selection | None":
        """None where the spec keeps the last weights."""
        if experiment.evals.select_on is None:
            return None
        benchmark = find("benchmark", experiment.evals.select_on, BENCHMARKS)
        shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
        bodies = Bodies.load(experiment.body, benchmark, store, world.device)
        evals, workers = experiment.evals, experiment.data.workers
        return cls(benchmark, shard, bodies, world, experiment.model.image_px, evals.every, workers)

    def consider(self, learner: Learner, step: int, epoch: int, is_end: bool, watcher: Watcher) -> None:
        """Scores the weights every `every` epochs and at the end."""
        if epoch % self.every and not is_end:
            return
        scores = evaluate_model(
            learner.to_evaluate, self.benchmark, self.shard, self.bodies, self.world, self.image_px, self.workers
        )
        watcher.scored(step, scores)
        if scores.mean("pa_mpjpe") < self.best:
            self.best, self.best_step = scores.mean("pa_mpjpe"), step


class Signals:
    """Notes SIGTERM and SIGINT instead of dying of them; a launcher that is gone counts as SIGTERM."""

    def __init__(self) -> None:
        self._got, self._parent = 0, os.getppid()

    def __enter__(self) -> "Signals":
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @property
    def received(self) -> int:
        """The signal's number, or 0."""
        orphaned = "TORCHELASTIC_RUN_ID" in os.environ and os.getppid() != self._parent
        return self._got or (signal.SIGTERM if orphaned else 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._got = number


class Meter:
    """Images per second and the share of time spent waiting for data, since the last look."""

    def __init__(self, processes: int) -> None:
        self._processes, self._sums = processes, dict[str, Tensor]()
        self._reset()

    def _reset(self) -> None:
        self._start, self._waited, self._images, self._steps = time.perf_counter(), 0.0, 0, 0
        self._sums = {}

    def waits(self, batches: Any) -> Iterator[Batch]:
        """The batches, their waiting timed."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            batch = next(source, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        """One step; nothing is read from the device."""
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term
        self._images, self._steps = self._images + images, self._steps + 1

    def facts(self) -> dict[str, float]:
        """Means of the losses of this process, and speed over all processes."""
        elapsed = time.perf_counter() - self._start
        out = {name: float(total) / self._steps for name, total in self._sums.items()}
        out |= {"images_per_s": self._processes * self._images / elapsed, "data_wait": self._waited / elapsed}
        self._reset()
        return out


def _restore(learner: Learner, run: Run, body: SMPL, shards: Mapping[str, Shard], select: Selection | None) -> int:
    """Loads the run's last checkpoint, if there is one; gives the step to go on from."""
    if not run.last.exists():
        return 0
    checkpoint = load_checkpoint(run.last)
    load_weights_into(learner.to_evaluate, checkpoint, str(run.last))
    now = {name: shard.info.sha for name, shard in shards.items()}
    if checkpoint.shards != now or checkpoint.body["sha"] != body.sha:
        raise RequestError(
            f"{run.folder}: the run was made with shards {checkpoint.shards} and body {checkpoint.body['sha']},"
            f" here are {now} and {body.sha}; it can't go on as the same run"
        )
    learner.load(checkpoint.training)
    if select:
        select.best = checkpoint.training["best"]
        select.best_step = checkpoint.training["best_step"]
    return checkpoint.step


def _checkpoint(
    experiment: Experiment,
    learner: Learner,
    step: int,
    body: SMPL,
    shards: Mapping[str, Shard],
    select: Selection | None,
) -> Checkpoint:
    best = {"best": select.best, "best_step": select.best_step} if select else {}
    return Checkpoint(
        spec=json.dumps(experiment.model_dump(mode="json")),
        model=learner.to_evaluate.state_dict(),
        training=learner.state() | best,
        step=step,
        body={"name": body.name, "sha": body.sha},
        shards={name: shard.info.sha for name, shard in shards.items()},
        chosen_by=select.benchmark.protocol if select else "none: the last weights",
        score=select.best if select and select.best_step == step else None,
        code_version=code_version(),
        torch_version=str(torch.__version__),
    )


def _note_unreadable(known: set[str], batch: Batch, limit: int, watcher: Watcher) -> set[str]:
    """The pictures that could not be read so far. Raises RunError where they are more than the spec allows."""
    new = set(batch.skipped) - known
    for line in sorted(new):
        watcher.say(f"{line}; another draw took its place")
    together = known | new
    if len(together) > limit:
        names = "; ".join(sorted(together)[:5])
        raise RunError(f"{len(together)} unreadable pictures, data.unreadable_limit allows {limit}: {names}")
    return together
