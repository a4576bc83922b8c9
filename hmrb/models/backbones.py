"""Backbones, all from timm: an image to a feature vector."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.errors import RequestError
from hmrb.lookup import UnknownName, did_you_mean
from hmrb.models import tails
from hmrb.models.necks import MapNeck, StridedNeck
from hmrb.models.vitpose import SIZES as VITPOSE
from hmrb.models.vitpose import build_vitpose
from hmrb.names import BACKBONE_ALIASES, IMAGENET, PART_HEADS
from hmrb.plugins import Plugin, offered, only_plugin, refuse_arguments
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
    make: Callable[[str, int, int, float], nn.Module] | None = None
    """Builds a network that timm does not have, from its name, the image's height and width, and `drop_path`."""


TIMM_SINCE = {"dinov3": "1.0.20"}  # timm's release notes


class Features(nn.Module):
    """A timm network without its classifier, and the tail that pools its last map into one vector."""

    def __init__(self, network: nn.Module, tail: tails.Mean) -> None:
        super().__init__()
        self.network, self.tail = network, tail

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F *cells"]:
        """Compute features of normalised images: a vector, or a map for heads that look at places."""
        features: Tensor = self.tail(self.network, image)
        return features


def backbone_name(name: str) -> str:
    """Resolve a backbone's name, an alias or timm's name to its name in BACKBONES; others keep their name.

    Raises UnknownName with the nearest names in the table, in other packages and in timm.
    """
    if plugin := backbone_plugin(name):
        return plugin.name
    key = BACKBONE_ALIASES.get(name.replace("-", "_"), name.replace("-", "_"))
    if key in BACKBONES:
        return key
    for ours, row in BACKBONES.items():
        if row.pretrained and key in (row.timm_name, row.timm_name.partition(".")[0]):
            return ours
    import timm  # takes longer to import than torch: only where a network of its is named

    architecture, _, tag = key.partition(".")
    if timm.is_model(architecture) and (not tag or key in timm.list_pretrained(f"{architecture}.*")):
        return key
    others = [model for model in timm.list_models() if model not in BACKBONES]
    theirs = did_you_mean(key, others).replace(" Did you mean", "; similar:").rstrip("?")
    known = [*BACKBONES, *offered("backbone")]
    raise UnknownName(
        f"no backbone named '{name}'.{did_you_mean(key, known)} Known: {', '.join(sorted(known))},"
        f" and every timm model{theirs}.{_needs_newer(key, others)}"
    )


def _needs_newer(name: str, known: list[str]) -> str:
    """What to install where timm lacks a whole family."""
    import timm

    for family, since in TIMM_SINCE.items():
        if family in name and not any(family in model for model in known):
            return f" timm {timm.__version__} has no {family}: install timm {since} or newer."
    return ""


def find_backbone(name: str) -> Backbone:
    """The row of a backbone; for a timm model outside the table, a plain row. Raises UnknownName."""
    key = backbone_name(name)
    if key in BACKBONES:
        return BACKBONES[key]
    if backbone_plugin(name):
        return Backbone(key, pretrained=False)
    import timm

    config = timm.models.get_pretrained_cfg(key)
    return Backbone(key, pretrained=bool(config and config.has_weights))


def build_backbone(spec: ModelSpec) -> tuple[Features, int]:
    """Build a backbone without pretrained weights; returns it and its number of features.

    Raises RequestError if it does not have the requested features or does not accept images of this size.
    """
    if plugin := backbone_plugin(spec.backbone):
        return _of_plugin(plugin, spec)
    refuse_arguments("backbone", spec.backbone, spec.backbone_args)
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
    height, width = seen_px(spec)
    size = f"{height} x {width}" if height != width else f"{height}"
    try:
        if row.make:
            network = row.make(backbone_name(spec.backbone), height, width, spec.drop_path)
        else:
            import timm

            args = network_args(row, height, width) | ({"drop_path_rate": spec.drop_path} if spec.drop_path else {})
            network = timm.create_model(row.timm_name, pretrained=False, **args)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise RequestError(f"backbone '{spec.backbone}' cannot be built for {size} px: {_said(error)}") from None
    backbone = Features(network, _tail(row, spec, network))
    if row.channels and spec.features in ("mean", "map") and spec.image_px == tails.STUDY_PX:
        return backbone, row.channels
    return backbone, _count(backbone, spec)


def _tail(row: Backbone, spec: ModelSpec, network: Any) -> tails.Mean:
    """The module that makes the requested features of a network's last map. Raises RequestError."""
    plain = {"mean": tails.Mean, "flatten": tails.Flatten, "map": tails.Map}.get(spec.features)
    if plain:
        return plain()
    if spec.features == "study":
        assert row.study is not None
        return row.study(network)
    having = {name: neck for name, neck in NECKS.items() if spec.features in neck}
    neck = having.get(backbone_name(spec.backbone))
    if neck is None:
        raise RequestError(
            f"model.features: {spec.features} is available for {' and '.join(having)}; for '{spec.backbone}' use mean,"
            " flatten or map"
        )
    return neck[spec.features](network)


NECKS: dict[str, dict[str, Callable[[Any], tails.Mean]]] = {
    "hrnet_w32": {"upsampled": MapNeck, "conv": partial(StridedNeck, width=32)},
    "hrnet_w48": {"conv": partial(StridedNeck, width=48)},
}


def seen_px(spec: ModelSpec) -> tuple[int, int]:
    """Height and width of what the backbone sees of a crop."""
    columns = seen_columns(spec)
    return spec.image_px, spec.image_px if columns == slice(None) else columns.stop - columns.start


def seen_columns(spec: ModelSpec) -> slice:
    """The columns of a crop that the backbone sees: all, or of 256 the middle 192."""
    if spec.crop == "square":
        return slice(None)
    aside = spec.image_px // 8
    return slice(aside, spec.image_px - aside)


def backbone_plugin(name: str) -> Plugin | None:
    """The backbone of another package with this name, or None. Raises RequestError if two or timm have the name."""
    plugin = only_plugin("backbone", name, (*BACKBONES, *BACKBONE_ALIASES))
    if plugin is None:
        return None
    import timm

    if timm.is_model(plugin.name):
        raise RequestError(f"the {plugin} has the name of a model of timm; uninstall it, or rename its own")
    return plugin


def unseen_rim(spec: ModelSpec, backbone: Features) -> str:
    """What a transformer leaves out of pictures that its patches do not fill, in words; "" if nothing.

    Networks outside timm, and those that pad the picture, leave nothing out.
    """
    embed = getattr(backbone.network, "patch_embed", None)
    patch, cells = getattr(embed, "patch_size", None), getattr(embed, "grid_size", None)
    if not isinstance(patch, tuple) or not isinstance(cells, tuple) or getattr(embed, "dynamic_img_pad", False):
        return ""
    height, width = seen_px(spec)
    rows, columns = height - cells[0] * patch[0], width - cells[1] * patch[1]
    if rows <= 0 and columns <= 0:
        return ""
    step = patch[0] * (4 if spec.crop == "tall" else 1)
    return (
        f"backbone {spec.backbone}: patches of {patch[0]} px leave the last {rows} rows and {columns} columns of"
        f" {height} x {width} px unseen; model.image_px: {round(spec.image_px / step) * step} leaves out none"
    )


def _of_plugin(plugin: Plugin, spec: ModelSpec) -> tuple[Features, int]:
    """A backbone of another package, with one more layer that pools its map."""
    tail = {"mean": tails.MapMean, "flatten": tails.MapFlatten}.get(spec.features)
    if tail is None:
        raise RequestError(f"model.features: the {plugin} has no features {spec.features}; use mean or flatten")
    if spec.drop_path:
        raise RequestError(f"model.drop_path: the {plugin} has no stochastic depth of hmrb; set it in its own args")
    network = plugin.build(spec.backbone_args, spec.image_px)
    if not isinstance(network, nn.Module):
        raise RequestError(f"the {plugin} makes a {type(network).__name__}, not a torch.nn.Module")
    backbone = Features(network, tail())
    return backbone, plugin.tried("does not work as a backbone", lambda: _count(backbone, spec))


def keep_no_maps(backbone: Features) -> None:
    """Turn on gradient checkpointing. Raises RequestError if timm does not support it for the network."""
    network: Any = backbone.network
    try:
        network.set_grad_checkpointing(True)
    except (AttributeError, AssertionError):
        name = type(network).__name__
        raise RequestError(f"speed.checkpointing: timm does not support it for {name}; leave it out") from None


def network_args(row: Backbone, height: int, width: int) -> dict[str, Any]:
    """Arguments of timm's `create_model`: no classifier, and the image size if the network has a fixed input size."""
    import timm

    config = timm.models.get_pretrained_cfg(row.timm_name)
    fixed = config is not None and config.fixed_input_size and tuple(config.input_size[-2:]) != (height, width)
    size = height if height == width else (height, width)
    return {"num_classes": 0, "global_pool": "", **row.args, **({"img_size": size} if fixed else {})}


@torch.enable_grad()
def _count(backbone: Features, spec: ModelSpec) -> int:
    """Find the number of features by a forward pass; freezes parameters that no feature depends on.

    ConvNeXt has such a parameter, a norm in timm's classifier head. Distributed training would wait for its gradient.
    """
    was_training, parameters = backbone.training, list(backbone.parameters())
    try:
        features = backbone.eval()(torch.zeros(1, 3, *seen_px(spec)))
        gradients = torch.autograd.grad(features.sum(), parameters, allow_unused=True)
    except RequestError as error:
        raise RequestError(f"backbone '{spec.backbone}' has no features '{spec.features}': {error}") from None
    except (RuntimeError, AssertionError, ValueError, IndexError) as error:
        raise RequestError(
            f"backbone '{spec.backbone}' does not accept images of {spec.image_px} px"
            f"{' (tall)' if spec.crop == 'tall' else ''}: {_said(error)}"
        ) from None
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.requires_grad_(gradient is not None)
    backbone.train(was_training)
    if spec.head.name in PART_HEADS and features.ndim != 4:
        raise RequestError(
            f"head {spec.head.name} reads rows and columns; the features of backbone '{spec.backbone}' have none: use"
            " another backbone, or head decoder"
        )
    return int(features.shape[1])


def _said(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


HRNET_OPTIONAL = (
    "network.incre_modules.", "network.downsamp_modules.", "network.head.",  # for classification; not in pose networks
    "network.final_layer.", "network.stage4.2.fuse_layers.",  # pose networks only output the finest map
    "tail.",
)  # fmt: skip

MINI = {"channels": (32, 64, 128, 256), "stem_width": 16}
BACKBONES: dict[str, Backbone] = {
    "resnet50": Backbone(IMAGENET["resnet50"], 2048, study=tails.plain),
    "resnet101": Backbone(IMAGENET["resnet101"], 2048, study=tails.plain),
    "resnet152": Backbone(IMAGENET["resnet152"], 2048, study=tails.plain),
    "resnext101": Backbone(IMAGENET["resnext101"], 2048, study=tails.plain),
    "hrnet_w32": Backbone(IMAGENET["hrnet_w32"], 2048, study=tails.HRNetTail, optional=HRNET_OPTIONAL),
    "hrnet_w48": Backbone(IMAGENET["hrnet_w48"], 2048, optional=HRNET_OPTIONAL),
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
    # Start from pose networks: model.weights is coco or the path of a file of ViTPose.
    **{
        name: Backbone(name, size.width, pretrained=False, optional=("network.last_norm.",), make=build_vitpose)
        for name, size in VITPOSE.items()
    },
    # For CPUs: a ResNet with one block per stage and a quarter of ResNet-18's width.
    "mini": Backbone("resnet10t", 256, MINI, pretrained=False),
    "mini_s16": Backbone("resnet10t", 256, {**MINI, "output_stride": 16}, pretrained=False),  # a finer last map
}  # fmt: skip
