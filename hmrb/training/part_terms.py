"""PARE's loss terms on a head's maps of parts: what they show, and where they have their weight.

Kocabas et al., ICCV 2021; mkocabas/PARE@f848b2f: pare/losses/losses.py, pare/core/trainer.py and
pare/utils/image_utils.py. Its cross entropy is taken at the crop's size, to which the scores are enlarged; here it is
taken at the map's own. Labels are rendered from the labelled body: what others hide counts as seen, as there.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hmrb.batch import Batch
from hmrb.body import SMPL, Mesh
from hmrb.body.part_maps import PartMaps
from hmrb.errors import RunError
from hmrb.geometry import FEWEST_POINTS, fit_weak_camera, project
from hmrb.names import PART_LOSSES

if TYPE_CHECKING:
    from hmrb.training.loss_terms import LossPair, Measure

SIGMA_CELLS = 1.0  # of the heat map of a joint; 2/64 of 224 px, over 4 and rounded down
REACH = 3  # in sigmas, beyond which a heat map is 0


@dataclass(frozen=True, slots=True)
class PartLabels:
    """Where the parts of labelled bodies are on a map: 0 for the background, 1 + joint; and their joints, in cells."""

    parts: Int[Tensor, "B h w"]
    joints: Float[Tensor, "B R 2"]
    """Column and row, 0 at the first cell's centre."""
    is_placed: Bool[Tensor, " B"]
    """Whether a person has a labelled body, and enough labelled 2D points to tell where it is."""


class PartLabeller:
    """Makes the labels of a batch from its posed labelled bodies."""

    def __init__(self, body: SMPL) -> None:
        self.body, self.maps = body, PartMaps(body)

    @torch.no_grad()
    def __call__(self, mesh: Mesh, batch: Batch, cells: tuple[int, int]) -> PartLabels:
        """The labels on a map of `cells` rows and columns.

        Batches hold no camera: as in PARE, the body is put where it fits the labelled 2D key points best.
        """
        size = batch.image.shape[-2]
        joints = self.body.joints(mesh, self.body.kind.keypoints)
        confidence = batch.keypoints2d[..., 2]
        camera = fit_weak_camera(joints, batch.keypoints2d[..., :2] - (size - 1) / 2, confidence, size)
        is_placed = batch.has_body & ((confidence > 0).sum(1) >= FEWEST_POINTS) & (camera[:, 0] > 0)
        camera = torch.where(is_placed[:, None], camera, camera.new_tensor([1.0, 0, 0]))
        middle = camera.new_tensor([cells[1] - 1, cells[0] - 1]) / 2
        points = project(mesh.chain, camera, size) * (cells[0] / size) + middle
        return PartLabels(self.maps(mesh, camera, size, cells), points, is_placed)


def parts(pair: "LossPair", measure: "Measure") -> Float[Tensor, ""]:
    """Cross entropy of the part that each cell shows."""
    scores, labels = _maps(pair)
    weight = labels.is_placed.float()[:, None, None]
    return measure.reduced(measure(scores, labels.parts), weight, pair.labelled.bodies)


def part_heatmaps(pair: "LossPair", measure: "Measure") -> Float[Tensor, ""]:
    """A part's scores to a bell of height 1 about its joint. PARE's weight is for half of the squared error."""
    scores, labels = _maps(pair)
    rows, columns = (torch.arange(size, device=scores.device) for size in scores.shape[2:])
    at = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1)
    away = at - labels.joints.round()[:, :, None, None]
    bell = torch.exp(-away.square().sum(-1) / (2 * SIGMA_CELLS**2))
    bell = torch.where((away.abs() <= REACH * SIGMA_CELLS).all(-1), bell, 0.0)
    weight = (bell.amax((2, 3)) > 0) & labels.is_placed[:, None]
    error = measure(scores[:, 1:], bell)
    return measure.reduced(error, weight.float()[:, :, None, None], pair.labelled.bodies * weight.shape[1])


def part_points(pair: "LossPair", measure: "Measure") -> Float[Tensor, ""]:
    """The middle of a part's attention to its joint, both in [-1, 1] on the map; joints outside of it do not count."""
    scores, labels = _maps(pair)
    height, width = scores.shape[2:]
    attention = scores[:, 1:].flatten(2).softmax(2).unflatten(2, (height, width))
    rows, columns = (torch.linspace(-1, 1, size).to(scores) for size in (height, width))
    middle = torch.stack([attention.sum(2) @ columns, attention.sum(3) @ rows], -1)
    joints = 2 * labels.joints / labels.joints.new_tensor([max(width - 1, 1), max(height - 1, 1)]) - 1
    weight = (joints.abs() <= 1).all(-1) & labels.is_placed[:, None]
    return measure.reduced(measure(middle, joints), weight.float()[..., None], pair.labelled.bodies * weight.shape[1])


def _maps(pair: "LossPair") -> tuple[Float[Tensor, "B P h w"], PartLabels]:
    if pair.prediction.parts is None or pair.part_labels is None:
        raise RunError(
            f"the head returns no parts, which the losses {', '.join(PART_LOSSES)} are of; leave them out, or set"
            " Prediction.parts in training"
        )
    return pair.prediction.parts, pair.part_labels
