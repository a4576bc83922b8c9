"""Backbones, all from timm: an image to a feature vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.lookup import UnknownName, did_you_mean
from hmrb.models import tails
from hmrb.names import BACKBONE_ALIASES, IMAGENET
from hmrb.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Backbone:
    """A row of BACKBONES: timm's name with its ImageNet weights' tag, channels of the last map, differences from timm.

    With `channels` 0 the number is found by running the network. `study` builds the study's tail for a network.
    `optional` are modules that a weights file may lack, or may contain without being used: files of classifiers and of
    pose networks differ there.
    """

    timm_name: str
    channels: int = 0
    args: Mapping[str, Any] = field(default_factory=dict)
    study: Callable[[Any], tails.Mean] | None = None
    optional: tuple[str, ...] = ()
    pretrained: bool = True


class Features(nn.Module):
    """A timm network without its classifier, and the tail that pools its last map into one vector."""

    def __init__(self, network: nn.Module, tail: tails.Mean) -> None:
        super().__init__()
        self.network, self.tail = network, tail

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Compute features of normalised images."""
        features: Tensor = self.tail(self.network, image)
        return features


def backbone_name(name: str) -> str:
    """Resolve a backbone's name, an alias or timm's name to its name in BACKBONES; other timm models keep timm's name.

    Raises UnknownName with the nearest names in the table and in timm.
    """
    key = BACKBONE_ALIASES.get(name.replace("-", "_"), name.replace("-", "_"))
    if key in BACKBONES:
        return key
    for ours, row in BACKBONES.items():
        if row.pretrained and key in (row.timm_name, row.timm_name.partition(".")[0]):
            return ours
    architecture, _, tag = key.partition(".")
    if timm.is_model(architecture) and (not tag or key in timm.list_pretrained(f"{architecture}.*")):
        return key
    others = [model for model in timm.list_models() if model not in BACKBONES]
    theirs = did_you_mean(key, others).replace(" Did you mean", "; similar:").rstrip("?")
    raise UnknownName(
        f"no backbone named '{name}'.{did_you_mean(key, BACKBONES)} Known: {', '.join(sorted(BACKBONES))},"
        f" and every timm model{theirs}."
    )


def find_backbone(name: str) -> Backbone:
    """The row of a backbone; for a timm model outside the table, a plain row. Raises UnknownName."""
    key = backbone_name(name)
    if key in BACKBONES:
        return BACKBONES[key]
    config = timm.models.get_pretrained_cfg(key)
    return Backbone(key, pretrained=bool(config and config.has_weights))


def build_backbone(spec: ModelSpec) -> tuple[Features, int]:
    """Build a backbone without pretrained weights; returns it and its number of features.

    Raises RequestError if it does not have the requested features or does not accept images of this size.
    """
    row = find_backbone(spec.backbone)
    if spec.features == "study":
        if row.study is None:
            having = ", ".join(name for name, row in BACKBONES.items() if row.study)
            raise RequestError(f"model.features: study is available for {having}; for '{spec.backbone}' use mean")
        if spec.image_px != tails.STUDY_PX:
            raise RequestError(
                f"model.image_px: features study need {tails.STUDY_PX} px, as in the study, not {spec.image_px};"
                " use features mean for other sizes"
            )
    args = network_args(row, spec.image_px) | ({"drop_path_rate": spec.drop_path} if spec.drop_path else {})
    try:
        network = timm.create_model(row.timm_name, pretrained=False, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RequestError(
            f"backbone '{spec.backbone}' cannot be built for {spec.image_px} px: {_said(error)}"
        ) from None
    tail = {"mean": tails.Mean, "flatten": tails.Flatten}.get(spec.features)
    backbone = Features(network, tail() if tail else row.study(network))  # type: ignore[misc]
    if row.channels and spec.features == "mean" and spec.image_px == tails.STUDY_PX:
        return backbone, row.channels
    return backbone, _count(backbone, spec)


def keep_no_maps(backbone: Features) -> None:
    """Turn on gradient checkpointing. Raises RequestError if timm does not support it for the network."""
    network: Any = backbone.network
    try:
        network.set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        name = type(network).__name__
        raise RequestError(f"speed.checkpointing: timm does not support it for {name}; leave it out") from None


def network_args(row: Backbone, image_px: int) -> dict[str, Any]:
    """Arguments of timm's `create_model`: no classifier, and the image size if the network has a fixed input size."""
    config = timm.models.get_pretrained_cfg(row.timm_name)
    fixed = config is not None and config.fixed_input_size and config.input_size[-1] != image_px
    return {"num_classes": 0, "global_pool": "", **row.args, **({"img_size": image_px} if fixed else {})}


@torch.enable_grad()
def _count(backbone: Features, spec: ModelSpec) -> int:
    """Find the number of features by a forward pass; freezes parameters that no feature depends on.

    ConvNeXt has such a parameter, a norm in timm's classifier head. Distributed training would wait for its gradient.
    """
    was_training, parameters = backbone.training, list(backbone.parameters())
    try:
        features = backbone.eval()(torch.zeros(1, 3, spec.image_px, spec.image_px))
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    except RequestError as error:
        raise RequestError(f"backbone '{spec.backbone}' has no features '{spec.features}': {error}") from None
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise RequestError(
            f"backbone '{spec.backbone}' does not accept images of {spec.image_px} px: {_said(error)}"
        ) from None
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    backbone.train(was_training)
    return int(features.shape[1])


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


HRNET_OPTIONAL = (
    "network.incre_modules.", "network.downsamp_modules.", "network.head.",  # for classification; not in pose networks
    "network.final_layer.", "network.stage4.2.fuse_layers.",  # pose networks only output the finest map
    "tail.",
)  # fmt: skip

BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(IMAGENET["resnet50"], 2048, study=tails.plain),
    "resnet101": Backbone(IMAGENET["resnet101"], 2048, study=tails.plain),
    "resnet152": Backbone(IMAGENET["resnet152"], 2048, study=tails.plain),
    "resnext101": Backbone(IMAGENET["resnext101"], 2048, study=tails.plain),
    "hrnet_w32": Backbone(IMAGENET["hrnet_w32"], 2048, study=tails.HRNetTail, optional=HRNET_OPTIONAL),
    "efficientnet_b5": Backbone(IMAGENET["efficientnet_b5"], 2048, study=tails.plain),
    "vit_b16": Backbone(
        IMAGENET["vit_b16"], 768, study=tails.ViTTail, optional=("network.norm.",)
    ),
    "swin_t": Backbone(
        IMAGENET["swin_t"], 768,
        study=tails.SwinTail, optional=("network.norm.", "tail."),
    ),
    "twins_svt_b": Backbone(IMAGENET["twins_svt_b"], 768, study=tails.twins_svt),
    "twins_pcpvt_b": Backbone(IMAGENET["twins_pcpvt_b"], 512, study=tails.twins_pcpvt),
    # For CPUs: a ResNet with one block per stage and a quarter of ResNet-18's width.
    "mini": Backbone("resnet10t", 256, {"channels": (32, 64, 128, 256), "stem_width": 16}, pretrained=False),
}  # fmt: skip
