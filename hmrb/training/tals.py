"""TokenHMR's gate: labels of pictures, which are not measured, count in full only where a prediction is far from them.

Threshold-adaptive loss scaling (Dwivedi et al., CVPR 2024). The thresholds are the errors that fitting true poses to
their own projections leaves. Source: saidwivedi/TokenHMR@198645f: tokenhmr/lib/models/losses.py, tokenhmr.py. There, a
trusted person without a labelled pose counts all the same; here, such a person has no pose to count.
"""

from functools import cache
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hmrb.skeleton import SKELETONS

if TYPE_CHECKING:
    from hmrb.training.loss_terms import LossPair

# Squared distance in units of the crop's side, of OpenPose's 25 points and of SPIN's 19.
OPENPOSE = (
    0.0085024, 0.00648666, 0.00747825, 0.01103439, 0.01355629, 0.00741691, 0.01096735, 0.01414461, 0.00974212,
    0.01127469, 0.01663222, 0.00564927, 0.01126335, 0.01615757, 0.00532595, 0.00829731, 0.00831497, 0.00737241,
    0.00743286, 0.00543739, 0.00550524, 0.00535504, 0.00565414, 0.00581685, 0.00573041,
)  # fmt: skip
SPIN = (
    0.00554029, 0.01515258, 0.00986267, 0.00997563, 0.01519944, 0.00511402, 0.01288267, 0.01105894, 0.00710525,
    0.00709785, 0.01092387, 0.01388091, 0.00648326, 0.00766487, 0.00931454, 0.00646622, 0.00677057, 0.00744011,
    0.00752381,
)  # fmt: skip
SURE = 0.5  # confidence of a 2D key point above which it may open the gate of its 3D label
ROOT_RAD = 0.46
BODY_RAD = tuple(
    0.8 * angle
    for angle in (
        0.273709, 0.26481161, 0.1838198, 0.41490657, 0.37521194, 0.20793171, 0.24905021, 0.33887333, 0.14481062,
        0.35632194, 0.34944217, 0.30542146, 0.32835298, 0.33110567, 0.34813467, 0.36357761, 0.40062272, 0.43493496,
        0.4400709, 0.78017052, 0.7375746, 0.24927082, 0.24966981,
    )
)  # fmt: skip


def is_open_2d(pair: "LossPair") -> Bool[Tensor, "B J"]:
    """Whether a joint's projection is farther from its label than the threshold; the error counts its confidence."""
    label, size = pair.batch.keypoints2d, pair.batch.image.shape[-1]
    pixels = pair.pixels.detach() - (label[..., :2] - (size - 1) / 2)
    return label[..., 2] * (pixels / size).square().sum(-1) > thresholds_2d(pair.skeleton, label.device)


def is_open_pose(
    predicted: Float[Tensor, "B R 3 3"], label: Float[Tensor, "B R 3 3"], joints: slice
) -> Bool[Tensor, "B R"]:
    """Whether a rotation is farther from its label than the joint's threshold."""
    cosine = ((predicted.detach() * label).sum((-2, -1)) - 1) / 2
    return cosine.clamp(-1, 1).arccos() > _thresholds_pose(label.device)[joints]


def loosened(is_open: Tensor, loose: float) -> Tensor:
    """1 where the gate is open, `loose` elsewhere."""
    return torch.where(is_open, 1.0, loose)


@cache
def thresholds_2d(skeleton: str, device: torch.device) -> Float[Tensor, " J"]:
    """Thresholds of a skeleton's joints, by name; of joints that the method does not use, infinity."""
    joints = SKELETONS[skeleton].joints
    known = dict(zip(SKELETONS["spin19"].joints, SPIN, strict=True))
    for name, threshold in zip(SKELETONS["openpose_25"].joints, OPENPOSE, strict=True):
        # A joint that is in both lists, and once in the skeleton, has OpenPose's.
        known[name if name in joints else name.removesuffix("_openpose")] = threshold
    return torch.tensor([known.get(name, torch.inf) for name in joints], device=device)


@cache
def _thresholds_pose(device: torch.device) -> Float[Tensor, " R"]:
    return torch.tensor([ROOT_RAD, *BODY_RAD], device=device)
