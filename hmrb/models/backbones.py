"""Backbones, all of them timm's: a picture to a feature map."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.lookup import find
from hmrb.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Backbone:
    """A row: timm's name, the channels of its last map, and what differs from timm's defaults."""

    timm_name: str
    channels: int
    args: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = True


class Features(nn.Module):
    """A timm network without its classifier, and how its last map becomes one vector."""

    def __init__(self, network: nn.Module, features: str) -> None:
        super().__init__()
        self.network, self.features = network, features

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Features of a normalised picture."""
        last: Tensor = self.network.forward_features(image)  # type: ignore[operator]
        return last.mean((2, 3)) if self.features == "mean" else last.flatten(1)


def build_backbone(spec: ModelSpec) -> tuple[Features, int]:
    """The backbone and the number of its features. Raises RequestError where a weight is not to be had."""
    row = find("backbone", spec.backbone, BACKBONES)
    network = timm.create_model(row.timm_name, pretrained=False, num_classes=0, global_pool="", **row.args)
    if spec.weights != "none":
        load_weights(network, row, spec)
    cells = 1 if spec.features == "mean" else _map_cells(network, spec.image_px)
    return Features(network, spec.features), row.channels * cells


def weight_problems(spec: ModelSpec) -> list[str]:
    """Why the weights that a spec asks for can't be had, said before anything runs."""
    row = find("backbone", spec.backbone, BACKBONES)
    if spec.weights == "imagenet" and not row.pretrained:
        return [f"backbone '{spec.backbone}' has no ImageNet weights; set model.weights to none"]
    if spec.weights not in ("none", "imagenet") and not Path(spec.weights).is_file():
        return [f"model.weights: no file {spec.weights}; it is none, imagenet, or the path of a state dict"]
    return []


def load_weights(network: nn.Module, row: Backbone, spec: ModelSpec) -> None:
    """ImageNet weights from timm (its cache, else the hub), or a state dict from a file."""
    if spec.weights == "imagenet":
        try:
            donor = timm.create_model(row.timm_name, pretrained=True, num_classes=0, global_pool="", **row.args)
        except (OSError, RuntimeError, ValueError) as error:
            raise RequestError(
                f"timm could not get the ImageNet weights of '{row.timm_name}' ({type(error).__name__}: {error})."
                " Fetch them once where there is a network (they stay in its cache, $HF_HOME), or give a file in"
                " model.weights, or set it to none."
            ) from None
        network.load_state_dict(donor.state_dict())
        return
    try:
        state = torch.load(spec.weights, map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError, EOFError, pickle.UnpicklingError) as error:
        raise RequestError(f"{spec.weights}: no state dict of '{row.timm_name}': {error}") from None


def _map_cells(network: nn.Module, image_px: int) -> int:
    was_training = network.training
    with torch.no_grad():
        features = network.eval().forward_features(torch.zeros(1, 3, image_px, image_px))  # type: ignore[operator]
    network.train(was_training)
    return int(features.shape[2] * features.shape[3])


BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone("resnet50", 2048),
    # For a CPU: a ResNet of one block a stage, a quarter of ResNet-18's width.
    "mini": Backbone("resnet10t", 256, {"channels": (32, 64, 128, 256), "stem_width": 16}, pretrained=False),
}
