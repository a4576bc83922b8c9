"""One training step: a function of learner, losses and batch."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.profiler import record_function

from hmrb.batch import Batch, Prediction
from hmrb.errors import RunError
from hmrb.models.hmr import computing_in
from hmrb.models.numerics import products_in
from hmrb.parallel.world import World
from hmrb.spec import OptimSpec
from hmrb.training.learner import Learner
from hmrb.training.loss_terms import LabelCounts, count_labels
from hmrb.training.losses import Losses, scaled

SHOWN_ROWS = 8
STEADIER = "Try a smaller optim.lr, optim.clip_norm: 1.0, or more optim.warmup_steps"


def train_step(
    learner: Learner, losses: Losses, batch: Batch, step: int, optim: OptimSpec, world: World
) -> dict[str, Float[Tensor, ""]]:
    """One step of discriminator and model. Returns each weighted loss term, its mean over the micro-batches.

    The mean of a term over all ranks is the term of the whole batch. Raises RunError on every rank, before the model's
    weights change, where a term is not finite on one of them.
    """
    # For each micro-batch: forward; the discriminator learns from the prediction, as in the study before the model's
    # loss is taken (its optimiser steps with the last micro-batch); losses; backward in two passes, first through
    # losses and body to the prediction, then through the network. The ranks exchange counts of labels during forward,
    # and whether a term is not finite during the network's backward: neither makes a rank wait.
    # Then, once: finite check, clipping, optimiser, weight averaging.
    count, precision = learner.num_micro_batches, learner.precision(optim.precision)
    with record_function("hmrb: counts"):
        label_counts = world.start_sum(count_labels(batch))
    learner.zero_grad()
    passes: list[ForwardPass] = []
    for index, micro_batch in enumerate(batch.micro_batches(count)):
        is_last = index == count - 1
        with learner.gradient_sync(is_last):
            with record_function("hmrb: forward"), computing_in(precision, micro_batch.image.device):
                output = learner.wrapped(micro_batch.image, micro_batch.key, micro_batch.place)
            prediction = output.detached()

            discriminator_terms: dict[str, Tensor] = {}
            if learner.adversary:
                assert micro_batch.real is not None
                with record_function("hmrb: adversary"):
                    discriminator_terms = learner.adversary.backward(prediction, micro_batch.real, count)
                    if is_last:
                        learner.adversary.optimiser.step()

            with record_function("hmrb: losses"), products_in(tf32=False):
                terms = losses(prediction, micro_batch, LabelCounts.mean_of(label_counts.wait(), count * world.size))
            if learner.adversary:
                with record_function("hmrb: adversary"):
                    terms["adversarial"] = learner.adversary.loss(prediction)
            total = torch.stack(list(terms.values())).sum()

            with record_function("hmrb: backward of losses and SMPL"), products_in(tf32=False):
                learner.scaler.scale(scaled(total, 1 / count)).backward()
            all_terms = {"total": total} | terms | discriminator_terms
            detached = {name: term.detach() for name, term in all_terms.items()}
            passes.append(ForwardPass(detached, prediction, micro_batch))
            if is_last:
                num_not_finite = world.start_max(count_not_finite(passes)).to_host()
            with record_function("hmrb: backward"):
                torch.autograd.backward(*output.pulled_by(prediction))

    with record_function("hmrb: finite"):
        if num_not_finite.number():
            raise not_finite_error(passes, step, world)
    with record_function("hmrb: optimiser"):
        if optim.clip_norm is not None:
            learner.scaler.unscale_(learner.optimiser)
            nn.utils.clip_grad_norm_(learner.model.parameters(), optim.clip_norm)
        learner.scaler.step(learner.optimiser)
        learner.scaler.update()
        if learner.average:
            learner.average.update_parameters(learner.model)
    if count == 1:
        return passes[0].terms
    means = torch.stack([torch.stack(list(one.terms.values())) for one in passes]).mean(0)
    return dict(zip(passes[0].terms, means, strict=True))


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """The loss terms of a micro-batch, without gradients, and what they were computed from."""

    terms: dict[str, Tensor]
    prediction: Prediction
    micro_batch: Batch


def count_not_finite(passes: list[ForwardPass]) -> Int[Tensor, ""]:
    """The number of terms that are not finite; does not wait for a GPU."""
    return torch.stack([term for one in passes for term in one.terms.values()]).isfinite().logical_not().sum()


def not_finite_error(passes: list[ForwardPass], step: int, world: World) -> RunError:
    """What each rank reports where a term is not finite on one of them: what is not, and what to change."""
    for one in passes:
        if bad_terms := [name for name, term in one.terms.items() if name != "total" and not term.isfinite()]:
            return RunError(
                f"step {step}, process {world.rank}: {', '.join(bad_terms)} is not finite; {_cause(one)}."
                " The model's weights were not changed."
            )
    return RunError(f"step {step}: the loss of another process is not finite; the model's weights were not changed")


def _cause(one: ForwardPass) -> str:
    """Where the first number is that is not finite, and what helps."""
    batch = one.micro_batch
    labels = (batch.keypoints2d, batch.keypoints3d, batch.rotmats, batch.betas, batch.image)
    if rows := _rows_not_finite(labels, batch):
        return f"not finite are the labels or picture of {_some(rows)}: hmrb verify SHARD says more"
    if rows := _rows_not_finite(one.prediction.tensors, batch):
        return f"not finite are the predictions for {_some(rows)}; usually, training diverged. {STEADIER}"
    return f"predictions and labels are finite, so it is too large for single precision. Lower its weight. {STEADIER}"


def _some(rows: list[int]) -> str:
    """The first rows, and how many there are."""
    more = f" and {len(rows) - SHOWN_ROWS} more" if len(rows) > SHOWN_ROWS else ""
    return f"rows {rows[:SHOWN_ROWS]}{more}"


def _rows_not_finite(tensors: tuple[Tensor, ...], batch: Batch) -> list[int]:
    finite = torch.stack([tensor.detach().flatten(1).isfinite().all(1) for tensor in tensors]).all(0)
    rows: list[int] = batch.row[~finite].tolist()
    return rows
