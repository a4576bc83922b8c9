"""The weighted loss of a spec: its terms, and those of other packages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional
from torch.profiler import record_function

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL
from hmrb.errors import RunError
from hmrb.lookup import find
from hmrb.names import PART_LOSSES
from hmrb.plugins import Plugin, find_plugin, refuse_arguments
from hmrb.spec import LossTerm
from hmrb.training.loss_terms import DISTANCES, LOSSES, LabelCounts, LossPair, Measure, origin_rows
from hmrb.training.part_terms import PartLabeller


class Losses:
    """The weighted loss terms of a spec and the body that they use."""

    def __init__(self, terms: Mapping[str, LossTerm], body: SMPL) -> None:
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
        self.functions = {name: loss_function(name, term) for name, term in self.terms.items()}
        self.part_labeller = PartLabeller(body) if any(name in PART_LOSSES for name in self.terms) else None
        self.needs_mesh = (
            "vertices" in self.terms
            or self.part_labeller is not None
            or any(needs_mesh(one) for one in self.functions.values())
        )
        self.body = body
        self.origins = origin_rows(body.kind.keypoints).to(body.template.device)

    def __call__(self, prediction: Prediction, batch: Batch, labelled: LabelCounts) -> dict[str, Float[Tensor, ""]]:
        """Compute each term times its weight; their sum is the loss."""
        with record_function("hmrb: SMPL"):
            pair = self.pair(prediction, batch, labelled)
        return self.weighted(pair)

    def weighted(self, pair: LossPair) -> dict[str, Float[Tensor, ""]]:
        """Each term times its weight."""
        out = {}
        for name, term in self.terms.items():
            loss = self.functions[name](pair, Measure(partial(DISTANCES[term.distance], reduction="none"), term))
            out[name] = scaled(loss, term.weight)
        return out

    def pair(self, prediction: Prediction, batch: Batch, labelled: LabelCounts) -> LossPair:
        """Pose prediction and labels; without a term that needs them, only the vertices that the joints depend on."""
        whole_mesh, skeleton = self.needs_mesh, self.body.kind.keypoints
        label_vertices, part_labels = None, None
        if whole_mesh:  # prediction and label in one call: half the launches
            both = (torch.cat([prediction.rotmats, batch.rotmats]), torch.cat([prediction.betas, batch.betas]))
            mesh, label_mesh = self.body(*both).split(len(batch.row))
            label_vertices = label_mesh.vertices.detach()
            if self.part_labeller and prediction.parts is not None:
                height, width = prediction.parts.shape[2:]
                part_labels = self.part_labeller(label_mesh, batch, (height, width))
        else:
            mesh = self.body(prediction.rotmats, prediction.betas, skeleton)
        joints = self.body.joints(mesh, skeleton)
        has_body = batch.has_body.float()
        return LossPair(
            prediction, joints, mesh, batch, label_vertices, labelled, skeleton, self.origins, has_body, part_labels
        )


def loss_function(name: str, term: LossTerm) -> Callable[[LossPair, Measure], Tensor]:
    """The loss named `name`, of hmrb or of another package. Raises RequestError if that is not possible."""
    if plugin := find_plugin("loss", name, LOSSES):
        return PluginLoss(plugin, partial(plugin.load(), **plugin.arguments(term.args)))
    refuse_arguments("loss", name, term.args)
    return find("loss", name, LOSSES)


@dataclass(frozen=True, slots=True)
class PluginLoss:
    """A loss of another package. If it has the attribute `needs_mesh`, it receives the vertices of the label, too."""

    plugin: Plugin
    function: partial[Any]

    def __call__(self, pair: LossPair, measure: Measure) -> Tensor:
        """The loss. Raises RunError if it is not one number."""
        loss = self.function(pair, measure)
        if not isinstance(loss, Tensor) or loss.shape:
            shown = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
            raise RunError(f"the {self.plugin} returned {shown}; a loss is a tensor of one number, without axes")
        return loss


def needs_mesh(function: Callable[..., Tensor]) -> bool:
    """Whether a loss of another package asks for all vertices."""
    return isinstance(function, PluginLoss) and bool(getattr(function.function.func, "needs_mesh", False))


def scaled(value: Tensor, factor: float) -> Tensor:
    """The value times a factor; a factor of 1 costs no launch."""
    return value if factor == 1 else factor * value


def real_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """Squared distance of scores to 1, the target for real bodies (LSGAN: Mao et al., ICCV 2017)."""
    return functional.mse_loss(scores, scores.new_ones(()).expand_as(scores))


def fake_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """Squared distance of scores to 0, the target for predicted bodies."""
    return functional.mse_loss(scores, scores.new_zeros(()).expand_as(scores))
