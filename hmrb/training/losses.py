"""The terms of the loss, each a function of prediction and label; a missing label weighs nothing.

Every mean divides by the number of labelled entries while the sum is weighted by confidence, as in the study. The
number is that of the whole batch, whoever holds it: the loss does not depend on how a batch is shared out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from torch.profiler import record_function

from hmrb.body import SMPL, Mesh
from hmrb.geometry import project, rotvec_to_rotmat
from hmrb.records import Batch, Prediction
from hmrb.skeleton import SKELETONS
from hmrb.spec import LossTerm

DISTANCES: dict[str, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
}
# Pairs of joints whose middle 3D joints are measured from: the first that is there. The study knows the first alone;
# for datasets that have only the body's own joints it moves its prediction and not the label.
ORIGINS = (
    ("left_hip_extra", "right_hip_extra"), ("left_hip", "right_hip"), ("pelvis_extra", "pelvis_extra"),
    ("pelvis", "pelvis"),
)  # fmt: skip
Distance = Callable[[Tensor, Tensor], Tensor]


def count_labels(batch: Batch) -> Float[Tensor, "3"]:
    """How many 2D key points, 3D key points and bodies of a batch are labelled."""
    labelled = (batch.keypoints2d[..., 2] > 0, batch.keypoints3d[..., 3] > 0, batch.has_body)
    return torch.stack([is_labelled.sum().float() for is_labelled in labelled])


@dataclass(frozen=True, slots=True)
class LabelCounts:
    """How many key points and bodies are labelled: what the loss terms divide by."""

    keypoints2d: Float[Tensor, ""]
    keypoints3d: Float[Tensor, ""]
    bodies: Float[Tensor, ""]

    @classmethod
    def mean_of(cls, counts: Float[Tensor, "3"], num_micro_batches: int) -> "LabelCounts":
        """The mean per micro-batch of the counts of a whole batch, that of all ranks together.

        Terms of the micro-batches that divide by it have the whole batch's term as their mean.
        """
        return cls(*(counts.clamp(min=1) / num_micro_batches))


@dataclass(frozen=True, slots=True)
class LossPair:
    """What a loss may look at: the prediction posed by the body, and the batch with its labelled bodies posed."""

    prediction: Prediction
    joints: Float[Tensor, "B J 3"]
    mesh: Mesh
    batch: Batch
    label_rotmats: Float[Tensor, "B R 3 3"]
    label_vertices: Float[Tensor, "B V 3"] | None
    labelled: LabelCounts
    origins: Int[Tensor, "C 2"]
    """Rows of the pairs in ORIGINS that the skeleton has."""

    @property
    def has_body(self) -> Float[Tensor, " B"]:
        """1 where pose and betas are labels."""
        return self.batch.has_body.to(self.joints.dtype)


def keypoints3d(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Joints in metres, both sides relative to the middle of their hips, or to another origin that is labelled."""
    label = pair.batch.keypoints3d
    origin = _origin(label, pair.origins)
    error = distance(_from(pair.joints, origin), _from(label[..., :3], origin))
    return _mean(error, label[..., 3:], pair.labelled.keypoints3d)


def keypoints2d(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Projected joints in halves of the crop, [-1, 1] over the picture."""
    label, size = pair.batch.keypoints2d, pair.batch.image.shape[-1]
    pixels = project(pair.joints, pair.prediction.camera, size)
    error = distance(2 * pixels / (size - 1), 2 * label[..., :2] / (size - 1) - 1)
    return _mean(error, label[..., 2:], pair.labelled.keypoints2d)


def vertices(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """The mesh in metres, before translation."""
    assert pair.label_vertices is not None
    error = distance(pair.mesh.vertices, pair.label_vertices)
    return _mean(error, pair.has_body[:, None, None], pair.labelled.bodies)


def pose(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """Entries of the rotation matrices."""
    error = distance(pair.prediction.rotmats, pair.label_rotmats)
    return _mean(error, pair.has_body[:, None, None, None], pair.labelled.bodies)


def betas(pair: LossPair, distance: Distance) -> Float[Tensor, ""]:
    """The shape coefficients."""
    error = distance(pair.prediction.betas, pair.batch.betas)
    return _mean(error, pair.has_body[:, None], pair.labelled.bodies)


class Losses:
    """The weighted terms of a spec, and what they need of the body."""

    def __init__(self, terms: Mapping[str, LossTerm], body: SMPL) -> None:
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
        self.body = body
        self.origins = origin_rows(body.kind.keypoints).to(body.template.device)

    def __call__(self, prediction: Prediction, batch: Batch, labelled: LabelCounts) -> dict[str, Float[Tensor, ""]]:
        """Each term times its weight; their sum is the loss."""
        pair = self.pair(prediction, batch, labelled)
        out = {}
        for name, term in self.terms.items():
            distance = partial(DISTANCES[term.distance], reduction="none")
            out[name] = term.weight * LOSSES[name](pair, distance)
        return out

    def pair(self, prediction: Prediction, batch: Batch, labelled: LabelCounts) -> LossPair:
        """Poses both sides; only the vertices that joints are made of where no term looks at the mesh."""
        whole_mesh, skeleton = "vertices" in self.terms, self.body.kind.keypoints
        label_rotmats = rotvec_to_rotmat(batch.pose)
        label_vertices = None
        with record_function("hmrb: SMPL"):
            mesh = self.body(prediction.rotmats, prediction.betas, "" if whole_mesh else skeleton)
            joints = self.body.joints(mesh, skeleton)
            if whole_mesh:
                with torch.no_grad():
                    label_vertices = self.body(label_rotmats, batch.betas).vertices
        return LossPair(prediction, joints, mesh, batch, label_rotmats, label_vertices, labelled, self.origins)


def real_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """How far scores are from those of real bodies (LSGAN: Mao et al., ICCV 2017)."""
    return ((scores - 1) ** 2).mean()


def fake_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """How far scores are from those of made-up bodies."""
    return (scores**2).mean()


def origin_rows(skeleton: str) -> Int[Tensor, "C 2"]:
    """The rows of the pairs in ORIGINS that a skeleton has."""
    joints = SKELETONS[skeleton].joints
    return torch.tensor([[joints.index(name) for name in pair] for pair in ORIGINS if set(pair) <= set(joints)])


def _origin(label: Float[Tensor, "B J 4"], pairs: Int[Tensor, "C 2"]) -> Int[Tensor, "B 2"]:
    """Each person's pair of joints to measure from; the hips where none is there. What is not there is all zeros."""
    is_there = (label != 0).any(2)[:, pairs].all(2)
    return pairs[is_there.int().argmax(1)]  # the first True, or 0


def _from(points: Float[Tensor, "B J 3"], origin: Int[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return points - points.gather(1, origin[..., None].expand(-1, -1, 3)).mean(1, keepdim=True)


def _mean(error: Tensor, confidence: Tensor, labelled: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Confidence-weighted sum over the number of entries with a label; 0 with a gradient path where there are none.

    `labelled` counts confidences, each of which may stand for several entries.
    """
    return (error * confidence).sum() / (labelled * (error.numel() // confidence.numel()))


LOSSES: dict[str, Callable[[LossPair, Distance], Tensor]] = {
    function.__name__: function for function in (keypoints3d, keypoints2d, vertices, pose, betas)
}
