"""The loss terms, each a function of prediction and label; missing labels have weight 0.

As in the study, a term is the confidence-weighted sum divided by the number of labelled entries. The number is counted
over the global batch, so the loss does not depend on how a batch is split over ranks and micro-batches. Methods that
sum are met by `reduction`: a sum for each person, times the batch size that a published weight belongs to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from hmrb.batch import Batch, Prediction
from hmrb.body import Mesh
from hmrb.models.cameras import project_to_crop
from hmrb.skeleton import SKELETONS
from hmrb.spec import LossTerm
from hmrb.training import tals
from hmrb.training.part_terms import PartLabels, part_heatmaps, part_points, parts

DISTANCES: dict[str, Callable[..., Tensor]] = {
    "l1": functional.l1_loss,
    "mse": functional.mse_loss,
    "smooth_l1": functional.smooth_l1_loss,
    "cross_entropy": functional.cross_entropy,  # of `parts` alone
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
    skeleton: str
    """Of the joints and key points."""
    origins: Int[Tensor, "C 2"]
    """Rows of the pairs in ORIGINS that exist in the skeleton."""
    has_body: Float[Tensor, " B"]
    """1 for people with labelled pose and betas, 0 for others."""
    part_labels: PartLabels | None = None
    """What a head's maps of parts should show; None where no term asks for it."""

    @property
    def pixels(self) -> Float[Tensor, "B J 2"]:
        """The predicted joints in pixels of the crop, from the middle of its pixels."""
        predicted, size = self.prediction, self.batch.image.shape[-1]
        return project_to_crop(self.joints, predicted.camera, size, predicted.projection, predicted.place)

    @property
    def is_trusted(self) -> Bool[Tensor, " B"]:
        """Whether a person's labels are measured, in which case a gate does not loosen them."""
        trusted = self.batch.is_trusted
        return torch.zeros_like(self.batch.has_body) if trusted is None else trusted


@dataclass(frozen=True, slots=True)
class Measure:
    """A term's distance, without reduction, and how it is reduced to one number."""

    distance: Distance
    term: LossTerm

    def __call__(self, predicted: Tensor, label: Tensor) -> Tensor:
        """The distance of every entry."""
        return self.distance(predicted, label)

    def reduced(self, error: Tensor, confidence: Tensor, labelled: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """The confidence-weighted sum, divided by the number of labelled entries, or by that of people.

        `labelled` counts confidences; one confidence can apply to several entries. 0 with a gradient path if there are
        none. A sum over a batch of other size than the published one is scaled to that.
        """
        total = (error * confidence).sum()
        if self.term.reduction == "mean":
            return total / (labelled * (error.numel() // confidence.numel()))
        return total * ((self.term.of_batch or 1) / len(error))


def keypoints3d(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Joints in metres, prediction and label each relative to the midpoint of the hips or another labelled origin.

    With `origin: none`, relative to nothing: as they lie before the camera, without translation.
    """
    label = pair.batch.keypoints3d
    if measure.term.origin == "none":
        error = measure(pair.joints, label[..., :3])
    else:
        origin = _origin(label, pair.origins)
        error = measure(_from(pair.joints, origin), _from(label[..., :3], origin))
    confidence = label[..., 3:]
    if measure.term.gate == "tals":
        is_sure = pair.batch.keypoints2d[..., 2] > tals.SURE
        confidence = confidence * (tals.is_open_2d(pair) & is_sure | pair.is_trusted[:, None])[..., None]
    return measure.reduced(error, confidence, pair.labelled.keypoints3d)


def keypoints2d(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Projected joints in normalised crop coordinates, [-1, 1]; with `space: picture`, in those of the picture.

    Picture coordinates are then weighted by the picture's size over the crop's, as in BEDLAM-CLIFF.
    """
    label, size = pair.batch.keypoints2d, pair.batch.image.shape[-1]
    to_crop = 2 / (size - 1)
    if measure.term.space == "picture":
        place = pair.prediction.place
        assert place is not None
        side = place.square[:, 2:]
        scale = (2 / size * side / place.picture_px)[:, None]
        error = measure(pair.pixels * scale, (label[..., :2] - 1 / to_crop) * scale)
        error = error * (place.picture_px / side)[:, None]
    else:
        error = measure(pair.pixels * to_crop, label[..., :2] * to_crop - 1)
    confidence = label[..., 2:]
    if measure.term.gate == "tals":
        confidence = confidence * tals.loosened(tals.is_open_2d(pair), measure.term.loose)[..., None]
    return measure.reduced(error, confidence, pair.labelled.keypoints2d)


def vertices(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Mesh vertices in metres, before translation."""
    assert pair.label_vertices is not None
    error = measure(pair.mesh.vertices, pair.label_vertices)
    return measure.reduced(error, pair.has_body[:, None, None], pair.labelled.bodies)


def pose(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Entries of the parent-relative rotation matrices."""
    return _rotations(pair, measure, slice(None))


def global_orient(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Entries of the root's rotation matrix alone."""
    return _rotations(pair, measure, slice(0, 1))


def body_pose(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Entries of all rotation matrices but the root's."""
    return _rotations(pair, measure, slice(1, None))


def _rotations(pair: LossPair, measure: Measure, joints: slice) -> Float[Tensor, ""]:
    predicted, label = pair.prediction.rotmats[:, joints], pair.batch.rotmats[:, joints]
    confidence = pair.has_body[:, None, None, None]
    if measure.term.gate == "tals":
        is_open = tals.is_open_pose(predicted, label, joints) | pair.is_trusted[:, None]
        confidence = confidence * tals.loosened(is_open, measure.term.loose)[..., None, None]
    return measure.reduced(measure(predicted, label), confidence, pair.labelled.bodies)


def betas(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Shape coefficients; with a gate, of trusted labels alone."""
    confidence = pair.has_body[:, None]
    if measure.term.gate == "tals":
        confidence = confidence * pair.is_trusted[:, None]
    error = measure(pair.prediction.betas, pair.batch.betas)
    return measure.reduced(error, confidence, pair.labelled.bodies)


def betas_or_zero(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Shape coefficients; people without a labelled shape are pulled to the mean shape (HMR2.0)."""
    label = torch.where(pair.batch.has_body[:, None], pair.batch.betas, torch.zeros_like(pair.batch.betas))
    error = measure(pair.prediction.betas, label)
    everybody = torch.ones_like(pair.has_body)
    return measure.reduced(error, everybody[:, None], everybody.sum())


def camera_prior(pair: LossPair, measure: Measure) -> Float[Tensor, ""]:
    """Keeps the camera's scale above 0: the distance of exp(-10 scale) to 0 (PARE, BEDLAM-CLIFF: with mse)."""
    small = torch.exp(-10 * pair.prediction.camera[:, 0])
    everybody = torch.ones_like(small)
    return measure.reduced(measure(small, torch.zeros_like(small)), everybody, everybody.sum())


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


LOSSES: dict[str, Callable[[LossPair, Measure], Tensor]] = {
    function.__name__: function
    for function in (
        keypoints3d, keypoints2d, vertices, pose, global_orient, body_pose, betas, betas_or_zero, camera_prior,
        parts, part_heatmaps, part_points,
    )
}  # fmt: skip
