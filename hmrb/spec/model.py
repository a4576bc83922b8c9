"""The tables `model` and `losses`: the network and what it learns from."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from hmrb.spec.fields import Positive, Rate, Share, SpecModel, Weight

MOST_HIDDEN = 1 << 14  # a layer of 1 GB; the study's have 1024


class HeadSpec(SpecModel):
    """The regressor: refines the mean body `steps` times with two layers on the backbone's features."""

    name: str = "iterative"
    steps: Positive = 3
    hidden: Annotated[int, Field(gt=0, le=MOST_HIDDEN)] = 1024
    dropout: Share = 0.5
    args: dict[str, Any] = {}
    """Arguments of a head of another package."""


def _on_or_off(value: object) -> object:
    """YAML reads `on` and `off` as booleans, a command line may not."""
    known = {True: True, False: False, "on": True, "off": False, "auto": "auto"}
    if not isinstance(value, bool | int | str) or value not in known:
        raise ValueError("must be auto, on or off")
    return known[value]


class ModelSpec(SpecModel):
    """The network that predicts a body from a picture."""

    method: str = "hmr"
    args: dict[str, Any] = {}
    """Arguments of a method of another package."""
    backbone: str = "resnet50"
    backbone_args: dict[str, Any] = {}
    """Arguments of a backbone of another package."""
    weights: str = "imagenet"
    """Initial weights: `none`, `imagenet`, `mpii` or `coco` (pose networks), or the path of a checkpoint."""
    features: Literal["mean", "flatten", "study"] = "mean"
    """The regressor's input: the mean of the last feature map, the whole map, or the study's own tail and pooling."""
    drop_path: Share = 0.0
    """Stochastic depth of the backbone in training: the drop probability of its last residual branch."""
    head: HeadSpec = HeadSpec()
    image_px: Positive = 224
    mean: Literal["file", "labels"] = "file"
    """The regressor's initial body: from smpl_mean_params.npz, or the mean of the training labels."""
    sync_bn: Annotated[bool | Literal["auto"], BeforeValidator(_on_or_off)] = True
    """On several GPUs: BatchNorm's statistics are over all of them, at the cost of two exchanges per layer and step.
    `auto` does so if a GPU sees fewer than 16 pictures at a time."""
    freeze_bn: bool = False
    """Keeps BatchNorm's initial statistics, so a picture's features do not depend on the rest of its batch."""


class LossTerm(SpecModel):
    """One term of the loss: a distance between prediction and label, times a weight."""

    distance: Literal["l1", "mse", "smooth_l1"]
    weight: Weight
    args: dict[str, Any] = {}
    """Arguments of a loss of another package."""


class AdversarySpec(SpecModel):
    """The adversarial prior: a discriminator of poses and shapes. Weight 0 disables it."""

    weight: Weight = 1.0
    lr: Rate = 1e-4
    poses: str = "cmu_mosh"
    """The dataset of real bodies for the discriminator, or `labels`: the bodies of the training mix."""


STUDY_LOSSES = {
    "keypoints3d": LossTerm(distance="smooth_l1", weight=100),
    "keypoints2d": LossTerm(distance="smooth_l1", weight=10),
    "vertices": LossTerm(distance="l1", weight=2),
    "pose": LossTerm(distance="mse", weight=3),
    "betas": LossTerm(distance="mse", weight=0.02),
}
