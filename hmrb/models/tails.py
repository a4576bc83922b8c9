"""Tails: pool a timm network's last map into features, by standard pooling or exactly as the study does.

For HRNet, ViT and Swin the study uses other maps than their classifiers do, and its head reshapes every map to 2048
rows: it averages runs of neighbouring values across channel borders instead of channels. The study's checkpoints work
only with these peculiarities; `docs/checkpoints.md` lists them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.errors import RequestError

STUDY_PX = 224
STUDY_ROWS = 2048  # `feat_dim` of the study's head for HRNet, ViT and Swin, whose maps do not have 2048 channels


class Mean(nn.Module):
    """Global average pooling of the last map, also for tokens."""

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The last map after the last norm, channels first, without class and register tokens."""
        return _channels_first(network, network.forward_features(image))

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Compute features of images. The network is an argument because `Features` owns its parameters."""
        last = self.map(network, image)
        return last.mean(tuple(range(2, last.ndim)))


class Flatten(Mean):
    """Every value of the last map."""

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Compute features of images."""
        return self.map(network, image).flatten(1)


class Map(Mean):
    """The last map itself, for heads that look at places; tokens whose rows and columns are unknown have one axis."""

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """Compute the map of images."""
        last = self.map(network, image)
        cells = getattr(getattr(network, "patch_embed", None), "grid_size", None)
        if last.ndim == 4 or not cells or cells[0] * cells[1] != last.shape[2]:
            return last
        return last.unflatten(2, tuple(cells))


class MapMean(Mean):
    """Global average pooling of a network that returns its last map, or a vector, as it is called."""

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The network's output, channels first. Raises RequestError if it is none."""
        last = network(image)
        if not isinstance(last, Tensor) or last.ndim < 2 or len(last) != len(image):
            shown = f"shape {tuple(last.shape)}" if isinstance(last, Tensor) else f"a {type(last).__name__}"
            raise RequestError(f"the network returns {shown} for {len(image)} images, not (B, C) or (B, C, H, W)")
        return last


class MapFlatten(MapMean, Flatten):
    """Every value of the output of such a network."""


class Runs(Mean):
    """The study's pooling of maps that do not have 2048 channels: means of runs of neighbouring values."""

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Compute features of images."""
        return self.map(network, image).reshape(image.shape[0], STUDY_ROWS, -1).mean(2)


class Upsampled(Runs):
    """Upsamples four stages to the size of the first and stacks them. Parameter names are the study's."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        for doublings, width in enumerate(channels, 1):
            self.add_module(f"upsample_stage_{doublings + 1}", _doublings(width, doublings))

    def stack(self, stages: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """Stack the stages' maps, given finest first."""
        first, *coarser = stages
        return torch.cat([first, *(self.get_submodule(f"upsample_stage_{i}")(y) for i, y in enumerate(coarser, 2))], 1)


class HRNetTail(Upsampled):
    """The four resolutions of the last stage; removes timm's modules for ImageNet classification."""

    def __init__(self, network: Any) -> None:
        super().__init__((64, 128, 256))
        leave_branches(network)

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The map: 480 channels at a quarter of the image's side."""
        return self.stack(network.forward_features(image))


class ViTTail(Runs):
    """The patches after blocks 3, 6, 9 and 12, concatenated, without the last norm."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.norm = nn.Identity()
        _set_eps((norm for block in network.blocks for norm in (block.norm1, block.norm2)), 1e-5)

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The map: 3072 channels, one cell per patch."""
        blocks = network.forward_intermediates(image, indices=[2, 5, 8, 11], intermediates_only=True)
        return torch.cat(blocks, 1)


class SwinTail(Upsampled):
    """The four stages, each with a separate norm.

    In the last stage, one window covers the whole map. timm does not shift windows there; the study does.
    """

    def __init__(self, network: Any) -> None:
        super().__init__((192, 384, 768))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in (96, 192, 384, 768))
        network.norm = nn.Identity()
        block = network.layers[3].blocks[1]
        block.shift_size = (3, 3)
        block.attn_mask = block.get_attn_mask(device=block.norm1.weight.device, dtype=block.norm1.weight.dtype)

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The map: 1440 channels at a quarter of the image's side."""
        stages = network.forward_intermediates(image, intermediates_only=True)
        return self.stack(
            [norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, y in zip(self.norms, stages, strict=True)]
        )


def leave_branches(network: Any) -> None:
    """Remove timm's modules that join an HRNet's four branches for classification."""
    network.incre_modules = network.downsamp_modules = network.final_layer = None


def plain(network: Any) -> Mean:
    """Mean of the last map: for ResNets and EfficientNet the study uses standard pooling."""
    return Mean()


def twins_svt(network: Any) -> Mean:
    """Mean of the last map, with the study's epsilon in every norm."""
    _set_eps((module for module in network.modules() if isinstance(module, nn.LayerNorm)), 1e-5)
    return Mean()


def twins_pcpvt(network: Any) -> Mean:
    """Mean of the last map, with the study's epsilon in the norms of attention's reduced keys."""
    _set_eps((block.attn.norm for stage in network.blocks for block in stage if block.attn.norm is not None), 1e-6)
    return Mean()


def _channels_first(network: Any, last: Any) -> Float[Tensor, "B C *cells"]:
    """Bring a map to channels first, by timm's `output_fmt` and `num_prefix_tokens`, or `cls_token` in older models."""
    if not isinstance(last, Tensor) or last.ndim not in (3, 4):
        raise RequestError("it outputs no single map that could be averaged")
    if last.ndim == 4:
        return last.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else last
    owned = sum(getattr(network, name, None) is not None for name in ("cls_token", "dist_token"))
    patches = last[:, getattr(network, "num_prefix_tokens", owned) :]
    if not patches.shape[1]:
        raise RequestError("it outputs only its class token, no map")
    return patches.mT


def conv_norm_relu(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    """A 3x3 convolution without bias, which keeps the size at stride 1, and its norm."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU()]


def _doublings(width: int, times: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(times):
        layers += [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            *conv_norm_relu(width, width, 1),
        ]
    return nn.Sequential(*layers)


def _set_eps(norms: Iterable[Any], eps: float) -> None:
    for norm in norms:
        norm.eps = eps
