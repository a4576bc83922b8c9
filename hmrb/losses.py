"""The terms of the loss, each a function of prediction and label; a missing label weighs nothing.

Every mean divides by the number of labelled entries while the sum is weighted by confidence, as in the study.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from hmrb.body import SMPL, Mesh
from hmrb.geometry import project, rotvec_to_rotmat
from hmrb.records import Batch, Prediction
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON
from hmrb.spec import LossTerm

DISTANCES: dict[str, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
}
# Pairs of joints whose middle 3D joints are measured from: the first that is there. The study knows the first alone;
# for datasets that have only the body's own joints it moves its prediction and not the label.
_ORIGINS = torch.tensor(
    [
        [SKELETONS[TRAINING_SKELETON].index(name) for name in pair]
        for pair in (
            ("left_hip_extra", "right_hip_extra"), ("left_hip", "right_hip"), ("pelvis_extra", "pelvis_extra"),
            ("pelvis", "pelvis"),
        )
    ]
)  # fmt: skip
Distance = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Pair:
    """What a loss may look at: the prediction posed by the body, and the batch with its labelled bodies posed."""

    prediction: Prediction
    joints: Float[Tensor, "B J 3"]
    mesh: Mesh
    batch: Batch
    label_rotmats: Float[Tensor, "B 24 3 3"]
    label_vertices: Float[Tensor, "B V 3"] | None

    @property
    def has_body(self) -> Float[Tensor, " B"]:
        """1 where pose and betas are labels."""
        return self.batch.has_body.to(self.joints.dtype)


def keypoints3d(pair: Pair, distance: Distance) -> Float[Tensor, ""]:
    """Joints in metres, both sides relative to the middle of their hips, or to another origin that is labelled."""
    label = pair.batch.keypoints3d
    origin = _origin(label)
    error = distance(_from(pair.joints, origin), _from(label[..., :3], origin))
    return _mean(error, label[..., 3:])


def keypoints2d(pair: Pair, distance: Distance) -> Float[Tensor, ""]:
    """Projected joints in halves of the crop, [-1, 1] over the picture."""
    label, size = pair.batch.keypoints2d, pair.batch.image.shape[-1]
    pixels = project(pair.joints, pair.prediction.camera, size)
    error = distance(2 * pixels / (size - 1), 2 * label[..., :2] / (size - 1) - 1)
    return _mean(error, label[..., 2:])


def vertices(pair: Pair, distance: Distance) -> Float[Tensor, ""]:
    """The mesh in metres, before translation."""
    assert pair.label_vertices is not None
    return _mean(distance(pair.mesh.vertices, pair.label_vertices), pair.has_body[:, None, None])


def pose(pair: Pair, distance: Distance) -> Float[Tensor, ""]:
    """Entries of the 24 rotation matrices."""
    return _mean(distance(pair.prediction.rotmats, pair.label_rotmats), pair.has_body[:, None, None, None])


def betas(pair: Pair, distance: Distance) -> Float[Tensor, ""]:
    """The ten shape coefficients."""
    return _mean(distance(pair.prediction.betas, pair.batch.betas), pair.has_body[:, None])


class Losses:
    """The weighted terms of a spec, and what they need of the body."""

    def __init__(self, terms: Mapping[str, LossTerm], body: SMPL) -> None:
        self.terms = {name: term for name, term in terms.items() if term.weight > 0}
        self.body = body

    def __call__(self, prediction: Prediction, batch: Batch) -> dict[str, Float[Tensor, ""]]:
        """Each term times its weight; their sum is the loss."""
        pair = self.pair(prediction, batch)
        out = {}
        for name, term in self.terms.items():
            distance = partial(DISTANCES[term.distance], reduction="none")
            out[name] = term.weight * LOSSES[name](pair, distance)
        return out

    def pair(self, prediction: Prediction, batch: Batch) -> Pair:
        """Poses both sides; only the vertices that joints are made of where no term looks at the mesh."""
        whole_mesh = "vertices" in self.terms
        label_rotmats = rotvec_to_rotmat(batch.pose)
        mesh = self.body(prediction.rotmats, prediction.betas, "" if whole_mesh else TRAINING_SKELETON)
        label_vertices = None
        if whole_mesh:
            with torch.no_grad():
                label_vertices = self.body(label_rotmats, batch.betas).vertices
        joints = self.body.joints(mesh, TRAINING_SKELETON)
        return Pair(prediction, joints, mesh, batch, label_rotmats, label_vertices)


def real_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """How far scores are from those of real bodies (LSGAN: Mao et al., ICCV 2017)."""
    return ((scores - 1) ** 2).mean()


def fake_loss(scores: Float[Tensor, "B S"]) -> Float[Tensor, ""]:
    """How far scores are from those of made-up bodies."""
    return (scores**2).mean()


def _origin(label: Float[Tensor, "B J 4"]) -> Int[Tensor, "B 2"]:
    """Each person's pair of joints to measure from; the hips where none is there. What is not there is all zeros."""
    pairs = _ORIGINS.to(label.device)
    is_there = (label != 0).any(2)[:, pairs].all(2)
    return pairs[is_there.int().argmax(1)]  # the first True, or 0


def _from(points: Float[Tensor, "B J 3"], origin: Int[Tensor, "B 2"]) -> Float[Tensor, "B J 3"]:
    return points - points.gather(1, origin[..., None].expand(-1, -1, 3)).mean(1, keepdim=True)


def _mean(error: Tensor, confidence: Tensor) -> Float[Tensor, ""]:
    """Confidence-weighted sum over the number of labelled entries; 0 with a gradient path where there are none."""
    confidence = confidence.expand_as(error)
    return (error * confidence).sum() / (confidence > 0).sum().clamp(min=1)


LOSSES: dict[str, Callable[[Pair, Distance], Tensor]] = {
    function.__name__: function for function in (keypoints3d, keypoints2d, vertices, pose, betas)
}
