"""The loss terms, each a function of prediction and label; missing labels have weight 0.

As in the study, a term is the confidence-weighted sum divided by the number of labelled entries. The number is counted
over the global batch, so the loss does not depend on how a batch is split over ranks and micro-batches.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.profiler import record_function

from hmrb.batch import Batch, Prediction
from hmrb.body import SMPL, Mesh
from hmrb.errors import RunError
from hmrb.lookup import find
from hmrb.models.cameras import project_to_crop
from hmrb.plugins import Plugin, find_plugin, refuse_arguments
from hmrb.skeleton import SKELETONS
from hmrb.spec import LossTerm

DISTANCES: dict[str, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
}
# Pairs of joints whose midpoint is the origin of 3D keypoints; the first labelled pair is used. The study only has the
# first pair: for datasets without those labels it moves the prediction to that origin but not the label. A label is
# there if its confidence is above 0; coordinates do not count.
ORIGINS = (
    ("left_hip_extra", "right_hip_extra"), ("left_hip", "right_hip"), ("pelvis_extra", "pelvis_extra"),
    ("pelvis", "pelvis"),
)  # fmt: skip
Distance = Callable[[Tensor, Tensor], Tensor]


def count_labels(batch: Batch) -> Float[Tensor, "3"]:
    """Numbers of labelled 2D keypoints, 3D keypoints and bodies in a batch."""
    labelled = (batch.keypoints2d[..., 2] > 0, batch.keypoints3d[..., 3] > 0, batch.has_body)
    return torch.stack([is_labelled.sum(dtype=torch.float32) for is_labelled in labelled])


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """Numbers of labelled keypoints and bodies, by which the loss terms are divided."""

    keypoints2d: Float[Tensor, ""]
    keypoints3d: Float[Tensor, ""]
    bodies: Float[Tensor, ""]

    @classmethod
    def mean_of(cls, counts: Float[Tensor, "3"], num_micro_batches: int) -> "LabelCounts":
        """Mean counts per micro-batch, from the counts of the global batch.

        With these counts, the mean of a term over the micro-batches equals the term of the global batch.
        """
        counts = counts.clamp(min=1)
        return cls(*(counts if num_micro_batches == 1 else counts / num_micro_batches))


@dataclass(frozen=True, slots=True)
class LossPair:
    """Input of the loss terms: the prediction and its posed body, the batch and its posed labelled bodies."""

    prediction: Prediction
    joints: Float[Tensor, "B J 3"]
    mesh: Mesh
    batch: Batch
    label_vertices: Float[Tensor, "B V 3"] | None
    labelled: LabelCounts
    origins: Int[Tensor, "C 2"]
    """Rows of the pairs in ORIGINS that exist in the skeleton."""
    has_body: Float[Tensor, " B"]
    """1 for people with labelled pose and betas, 0 for others."""


def keypoints3d(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Joints in metres, prediction and label each relative to the midpoint of the hips or another labelled origin."""
    label = pair.batch.keypoints3d
    origin = _origin(label, pair.origins)
    error = distance(_from(pair.joints, origin), _from(label[..., :3], origin))
    return _mean(error, label[..., 3:], pair.labelled.keypoints3d)


def keypoints2d(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Projected joints in normalised crop coordinates, [-1, 1]."""
    label, size = pair.batch.keypoints2d, pair.batch.image.shape[-1]
    predicted = pair.prediction
    pixels = project_to_crop(pair.joints, predicted.camera, size, predicted.projection, predicted.place)
    to_crop = 2 / (size - 1)
    error = distance(pixels * to_crop, label[..., :2] * to_crop - 1)
    return _mean(error, label[..., 2:], pair.labelled.keypoints2d)


def vertices(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Mesh vertices in metres, before translation."""
    assert pair.label_vertices is not None
    error = distance(pair.mesh.vertices, pair.label_vertices)
    return _mean(error, pair.has_body[:, None, None], pair.labelled.bodies)


def pose(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Entries of the parent-relative rotation matrices."""
    error = distance(pair.prediction.rotmats, pair.batch.rotmats)
    return _mean(error, pair.has_body[:, None, None, None], pair.labelled.bodies)


def betas(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Shape coefficients."""
    error = distance(pair.prediction.betas, pair.batch.betas)
    return _mean(error, pair.has_body[:, None], pair.labelled.bodies)


class Losses:
    """The weighted loss terms of a spec and the body that they use."""

    def __init__(self, terms: Mapping[str, LossTerm], body: SMPL) -> None:
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
        self.functions = {name: loss_function(name, term) for name, term in self.terms.items()}
        self.needs_mesh = "vertices" in self.terms or any(needs_mesh(one) for one in self.functions.values())
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
            distance = partial(DISTANCES[term.distance], reduction="none")
            loss = self.functions[name](pair, distance)
            out[name] = scaled(loss, term.weight)
        return out

    def pair(self, prediction: Prediction, batch: Batch, labelled: LabelCounts) -> LossPair:
        """Pose prediction and labels; without a term that needs them, only the vertices that the joints depend on."""
        whole_mesh, skeleton = self.needs_mesh, self.body.kind.keypoints
        label_vertices = None
        if whole_mesh:  # prediction and label in one call: half the launches
            both = (torch.cat([prediction.rotmats, batch.rotmats]), torch.cat([prediction.betas, batch.betas]))
            mesh, label_mesh = self.body(*both).split(len(batch.row))
            label_vertices = label_mesh.vertices.detach()
        else:
            mesh = self.body(prediction.rotmats, prediction.betas, skeleton)
        joints = self.body.joints(mesh, skeleton)
        return LossPair(prediction, joints, mesh, batch, label_vertices, labelled, self.origins, batch.has_body.float())


def loss_function(name: str, term: LossTerm) -> Callable[[LossPair, Distance], Tensor]:
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

    def __call__(self, pair: LossPair, distance: Distance) -> Tensor:
        """The loss. Raises RunError if it is not one number."""
        loss = self.function(pair, distance)
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


def origin_rows(skeleton: str) -> Int[Tensor, "C 2"]:
    """Rows of the pairs in ORIGINS that exist in a skeleton."""
    joints = SKELETONS[skeleton].joints
    return torch.tensor([[joints.index(name) for name in pair] for pair in ORIGINS if set(pair) <= set(joints)])


def _origin(label: Float[Tensor, "B J 4"], pairs: Int[Tensor, "C 2"]) -> Int[Tensor, "B 2"]:
    """Each person's first labelled pair of joints, or the first pair if none is labelled."""
    is_there = (label[..., 3] > 0)[:, pairs].all(2)
    return pairs[is_there.int().argmax(1)]  # the first True, or 0


def _from(points: Float[Tensor, "B J 3"], origin: Int[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return points - points.gather(1, origin[..., None].expand(-1, -1, 3)).mean(1, keepdim=True)


def _mean(error: Tensor, confidence: Tensor, labelled: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Confidence-weighted sum divided by the number of labelled entries; 0 with a gradient path if there are none.

    `labelled` counts confidences; one confidence can apply to several entries.
    """
    return (error * confidence).sum() / (labelled * (error.numel() // confidence.numel()))


LOSSES: dict[str, Callable[[LossPair, Distance], Tensor]] = {
    function.__name__: function for function in (keypoints3d, keypoints2d, vertices, pose, betas)
}
