"""The training loop, selection of the best checkpoint, and handling of stop signals."""

import json
import math
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import FrameType

import torch

from hmrb.batch import Batch
from hmrb.body import SMPL, load_body
from hmrb.checkpoint import (
    Checkpoint,
    CheckpointError,
    Found,
    Run,
    code_version,
    load_checkpoint,
    load_weights_into,
    newest_checkpoint,
    save_checkpoint,
)
from hmrb.data.checksums import NOT_VERIFIED, marked_sha
from hmrb.data.loader import (
    StepDraws,
    epoch_len,
    on_device,
    stream_seed,
    train_loader,
)  # fmt: skip
from hmrb.data.shard import Shard, open_shard, plain_name
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.evaluate import Feed, evaluate_model, open_benchmark
from hmrb.evaluation.protocols import SELECTED, find_benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.parallel.world import World
from hmrb.spec import Experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.compiling import compile_parts
from hmrb.training.failures import explained
from hmrb.training.learner import Learner, build_learner, set_rates
from hmrb.training.logger import Logger
from hmrb.training.losses import Losses
from hmrb.training.meter import Meter
from hmrb.training.profile import profiled
from hmrb.training.retention import CheckpointRetention
from hmrb.training.step import train_step
from hmrb.training.utilisation import Utilisation

LOG_EVERY = 20  # steps per line of the log
CHECKPOINT = 1  # sent by rank 0 if a checkpoint is due; smaller than the numbers of stop signals


class Stopped(Exception):
    """The run stopped on a signal, after writing a checkpoint unless the disk was full."""

    def __init__(self, signum: int, step: int, written: int) -> None:
        where = "" if written == step else f", from step {written}"
        super().__init__(f"stopped at step {step} by {signal.Signals(signum).name}; continue with --resume{where}")
        self.signum = signum


def train(experiment: Experiment, run: Run, store: Store, world: World, logger: Logger) -> Checkpoint:
    """Train to the end of the spec, from the run's last checkpoint if any. Raises Stopped on SIGTERM and SIGINT."""
    # ---- data and body
    shards = {name: open_shard(store.shard(name, "train"), name) for name in experiment.data.mix}
    shas = {shard.info.label: marked_sha(shard, store) for shard in shards.values()}
    body = load_body(experiment.body, store=store).to(world.device)
    optim, speed = experiment.optim, experiment.speed
    steps_per_epoch = max(epoch_len(shards, experiment.data) // optim.batch, 1)
    total = optim.epochs * steps_per_epoch

    # ---- model, losses, optimisers
    torch.manual_seed(stream_seed(experiment.seed, "weights"))
    learner = build_learner(experiment, shards, store, world)
    losses = Losses(experiment.losses, body)
    if speed.compile:
        compile_parts(learner, losses, world)
    select = CheckpointSelection.build(experiment, store, world)
    step = 0
    if found := world.from_first(lambda: newest_checkpoint(run)):
        step = found.checkpoint.step
        _restore(found, learner, run, body, shards, select, world, logger)
    retention = CheckpointRetention(run, experiment.checkpoints, step, logger.say)

    # ---- loop
    logger.start(step, total, steps_per_epoch)
    dataset = draw_dataset(experiment, shards, store)
    draws = StepDraws(optim.batch, step, total, world.rank, world.size)
    meter = Meter(world)
    unreadable: set[str] = set()
    last = None
    knobs = learner.knobs
    logger.knobs(step, knobs)
    use = Utilisation.of(experiment, world)
    if use.problem:
        logger.say(use.problem)
    with Signals() as signals, profiled(speed.profile_steps, run.folder, world, logger, use) as profiler:
        loader = train_loader(dataset, draws, learner.knobs["workers"], learner.knobs["pin_memory"])
        for batch in on_device(meter.waits(loader), world.device, speed.channels_last, speed.prefetch):
            unreadable = _note_unreadable(unreadable, batch, experiment.data.unreadable_limit, logger)
            set_rates(learner.optimiser, optim, step, steps_per_epoch)
            torch.manual_seed(stream_seed(experiment.seed, f"step {step} of rank {world.rank}"))
            due = CHECKPOINT if world.is_main and retention.is_due else 0
            stop_flag = world.start_max(torch.tensor(signals.received or due))
            meter.begin()
            with explained(step, len(batch.row) // learner.num_micro_batches):
                terms = train_step(learner, losses, batch, step, optim, world)
            if learner.knobs is not knobs:  # a part did not compile
                knobs = learner.knobs
                logger.knobs(step, knobs)
            step += 1
            profiler.step()
            meter.add(terms, len(batch.row))
            if step % LOG_EVERY == 0 or step == total:
                facts = meter.facts() | {"lr": learner.optimiser.param_groups[0]["lr"], "epoch": step / steps_per_epoch}
                logger.step(step, facts | use.facts(facts["images_per_s"]))
            ends_epoch = step % steps_per_epoch == 0
            asked = stop_flag.number()
            with meter.paused():
                if ends_epoch and select:
                    select.consider(learner, step, step // steps_per_epoch, step == total, logger)
                if ends_epoch or asked:
                    last = _checkpoint(experiment, learner, step, body, shas, select)
                    if world.is_main:
                        is_best = select is not None and select.best_step == step
                        retention.keep(last, is_best, step // steps_per_epoch if ends_epoch else None)
                        if retention.failure and step == total:
                            raise retention.failure
                    world.barrier()
            if asked > CHECKPOINT and step < total:
                raise Stopped(asked, step, retention.step if world.is_main else step)
    if shares := meter.shares():
        logger.limited(step, shares)
    return last or load_checkpoint(run.last)


@dataclass
class CheckpointSelection:
    """Selects the best checkpoint on a benchmark; holds the best score so far and its step."""

    feed: Feed
    bodies: Bodies
    world: World
    every: int
    best: float = math.inf
    best_step: int = -1

    @classmethod
    def build(cls, experiment: Experiment, store: Store, world: World) -> "CheckpointSelection | None":
        """The selection of a spec; None if the spec keeps the last weights."""
        if experiment.evals.select_on is None:
            return None
        row = find_benchmark(experiment.evals.select_on)
        row = row.only(tuple(name for name in SELECTED if name in row.metrics))
        benchmark, shard = open_benchmark(row, experiment.body, store)
        bodies = Bodies.load(experiment.body, benchmark, store, world.device)
        model = experiment.model
        feed = Feed(benchmark, shard, model.image_px, world.device, experiment.data.workers, model.needs_place)
        return cls(feed, bodies, world, experiment.evals.every)

    def consider(self, learner: Learner, step: int, epoch: int, is_end: bool, logger: Logger) -> None:
        """Evaluate the weights every `every` epochs and at the end of the run."""
        if epoch % self.every and not is_end:
            return
        self.world.share(learner.to_evaluate.buffers())  # BatchNorm statistics differ between ranks
        scores = evaluate_model(learner.to_evaluate, self.feed, self.bodies, self.world, learner.eval_precision)
        logger.scored(step, scores)
        if scores.mean("pa_mpjpe") < self.best:
            self.best, self.best_step = scores.mean("pa_mpjpe"), step


class Signals:
    """Records SIGTERM and SIGINT instead of exiting; a dead launcher counts as SIGTERM."""

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
        """Number of the received signal, or 0."""
        orphaned = "TORCHELASTIC_RUN_ID" in os.environ and os.getppid() != self._parent
        return self._got or (signal.SIGTERM if orphaned else 0)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._got = number


def _restore(
    found: Found,
    learner: Learner,
    run: Run,
    body: SMPL,
    shards: Mapping[str, Shard],
    select: CheckpointSelection | None,
    world: World,
    logger: Logger,
) -> None:
    """Restore a run from its checkpoint. Raises RequestError if shards or body have changed since then."""
    checkpoint = found.checkpoint
    if found.damage:
        logger.say(found.damage)
    load_weights_into(learner.to_evaluate, checkpoint, str(run.folder))
    now = {name: shard.info.sha for name, shard in shards.items()}
    before = {plain_name(label): sha.removesuffix(NOT_VERIFIED) for label, sha in checkpoint.shards.items()}
    if before != now or checkpoint.body["sha"] != body.sha:
        raise RequestError(
            f"{run.folder}: the run was trained with shards {before} and body {checkpoint.body['sha']},"
            f" but now there are {now} and {body.sha}; it cannot be resumed"
        )
    learner.load(checkpoint.training)
    weights = [value.double().sum().cpu() for value in learner.model.state_dict().values()]
    if not world.agree(torch.stack([torch.tensor(float(checkpoint.step)), *weights])):
        raise RunError(f"{run.folder}: the processes did not restore the same weights; resume again")
    if select:
        _restore_choice(select, checkpoint, run, world, logger)
    if found.damage and world.is_main:
        os.replace(run.last, run.damaged)  # otherwise the next checkpoint would keep it as the previous one


def _restore_choice(
    select: CheckpointSelection, checkpoint: Checkpoint, run: Run, world: World, logger: Logger
) -> None:
    """Restore the best score so far, after checking it against best.pt."""
    select.best, select.best_step = checkpoint.training["best"], checkpoint.training["best_step"]
    score, step, reason = world.from_first(lambda: _read_best(run))
    if step == select.best_step:
        return
    if score is not None and step > checkpoint.step:  # the run was killed after best.pt and before last.pt
        select.best, select.best_step = score, step
    elif select.best_step == checkpoint.step:
        if world.is_main:
            knobs = checkpoint.training.get("knobs", {})
            save_checkpoint(replace(checkpoint, training={"knobs": knobs}), run.best)
    else:
        logger.say(f"{reason}; the best weights (step {select.best_step}) are lost, so the selection starts again")
        select.best, select.best_step = math.inf, -1


def _read_best(run: Run) -> tuple[float | None, int, str]:
    """Score and step of best.pt, and what it contains in words; step -1 if it cannot be read."""
    try:
        best = load_checkpoint(run.best)
    except CheckpointError as error:
        return None, -1, str(error)
    return best.score, best.step, f"{run.best} contains step {best.step}"


def _checkpoint(
    experiment: Experiment,
    learner: Learner,
    step: int,
    body: SMPL,
    shas: dict[str, str],
    select: CheckpointSelection | None,
) -> Checkpoint:
    best = {"best": select.best, "best_step": select.best_step} if select else {}
    return Checkpoint(
        spec=json.dumps(experiment.model_dump(mode="json")),
        model=learner.to_evaluate.state_dict(),
        training=learner.state() | best,
        step=step,
        body={"name": body.name, "sha": body.sha},
        shards=shas,
        chosen_by=select.feed.benchmark.protocol if select else "none: the last weights",
        score=select.best if select and select.best_step == step else None,
        code_version=code_version(),
        torch_version=str(torch.__version__),
    )


def _note_unreadable(known: set[str], batch: Batch, limit: int, logger: Logger) -> set[str]:
    """Unreadable images so far. Raises RunError if there are more than the spec allows."""
    new = set(batch.skipped) - known
    for line in sorted(new):
        logger.say(f"{line}; replaced by another draw")
    together = known | new
    if len(together) > limit:
        names = "; ".join(sorted(together)[:5])
        raise RunError(f"{len(together)} unreadable images, data.unreadable_limit allows {limit}: {names}")
    return together
