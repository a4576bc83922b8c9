"""From a timm network to features: the plain ways, and the study's own tails to the last digit.

The study reads HRNet, ViT and Swin where no classifier does, and averages runs of neighbouring numbers across the
borders of channels instead of channels (its head reshapes to 2048 rows, whatever the map). A checkpoint of its is of
use only with these oddities; `docs/checkpoints.md` lists them.
"""

from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.errors import RequestError

STUDY_PX = 224
STUDY_ROWS = 2048  # `feat_dim` of the study's head for HRNet, ViT and Swin, whose maps have other numbers of channels


class Mean(nn.Module):
    """The mean of the last map over its cells: global average pooling, for tokens too."""

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The last map, channels first, after its last norm and without class or register tokens."""
        return _channels_first(network, network.forward_features(image))

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Features of a picture. The network is an argument, so that its parameters have one owner."""
        last = self.map(network, image)
        return last.mean(tuple(range(2, last.ndim)))


class Flatten(Mean):
    """Every number of the last map."""

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Features of a picture."""
        return self.map(network, image).flatten(1)


class Runs(Mean):
    """The study's pooling of maps that do not have 2048 channels: means of runs of neighbouring numbers."""

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B F"]:
        """Features of a picture."""
        return self.map(network, image).reshape(len(image), STUDY_ROWS, -1).mean(2)


class Upsampled(Runs):
    """Four stages brought to the size of the first and stacked. Parameter names are the study's."""

    def __init__(self, channels: tuple[int, int, int]) -> None:
        super().__init__()
        for doublings, width in enumerate(channels, 1):
            self.add_module(f"upsample_stage_{doublings + 1}", _doublings(width, doublings))

    def stack(self, stages: list[Tensor]) -> Float[Tensor, "B C H W"]:
        """The stages' maps, finest first, as one."""
        first, *coarser = stages
        return torch.cat([first, *(self.get_submodule(f"upsample_stage_{i}")(y) for i, y in enumerate(coarser, 2))], 1)


class HRNetTail(Upsampled):
    """The four resolutions of the last stage; what timm makes of them for ImageNet is taken out."""

    def __init__(self, network: Any) -> None:
        super().__init__((64, 128, 256))
        network.incre_modules = network.downsamp_modules = network.final_layer = None

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """480 channels at a quarter of the picture's side."""
        return self.stack(network.forward_features(image))


class ViTTail(Runs):
    """The patches after blocks 3, 6, 9 and 12, side by side, without the last norm."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.norm = nn.Identity()
        _set_eps((norm for block in network.blocks for norm in (block.norm1, block.norm2)), 1e-5)

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """3072 channels, one cell a patch."""
        blocks = network.forward_intermediates(image, indices=[2, 5, 8, 11], intermediates_only=True)
        return torch.cat(blocks, 1)


class SwinTail(Upsampled):
    """The four stages, each with a norm of its own.

    The last stage's window is its whole map; there timm does not shift windows, the study does.
    """

    def __init__(self, network: Any) -> None:
        super().__init__((192, 384, 768))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in (96, 192, 384, 768))
        network.norm = nn.Identity()
        block = network.layers[3].blocks[1]
        block.shift_size = (3, 3)
        block.attn_mask = block.get_attn_mask(device=block.norm1.weight.device, dtype=block.norm1.weight.dtype)

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """1440 channels at a quarter of the picture's side."""
        stages = network.forward_intermediates(image, intermediates_only=True)
        return self.stack(
            [norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, y in zip(self.norms, stages, strict=True)]
        )


def plain(network: Any) -> Mean:
    """ResNets and EfficientNet: the study averages the last map, as everybody."""
    return Mean()


def twins_svt(network: Any) -> Mean:
    """The last map's mean, with the study's epsilon in every norm."""
    _set_eps((module for module in network.modules() if isinstance(module, nn.LayerNorm)), 1e-5)
    return Mean()


def twins_pcpvt(network: Any) -> Mean:
    """The last map's mean, with the study's epsilon in the norms of the shortened keys."""
    _set_eps((block.attn.norm for stage in network.blocks for block in stage if block.attn.norm is not None), 1e-6)
    return Mean()


def _channels_first(network: Any, last: Any) -> Float[Tensor, "B C *cells"]:
    """How a map lies, timm says: `output_fmt`, `num_prefix_tokens`; older token models own a `cls_token`."""
    if not isinstance(last, Tensor) or last.ndim not in (3, 4):
        raise RequestError("its last map is not one map, so there is nothing to average")
    if last.ndim == 4:
        return last.permute(0, 3, 1, 2) if getattr(network, "output_fmt", "NCHW") == "NHWC" else last
    owned = sum(getattr(network, name, None) is not None for name in ("cls_token", "dist_token"))
    patches = last[:, getattr(network, "num_prefix_tokens", owned) :]
    if not patches.shape[1]:
        raise RequestError("it gives its class token alone, no map")
    return patches.mT


def _doublings(width: int, times: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(times):
        layers += [
            nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers)


def _set_eps(norms: Iterable[Any], eps: float) -> None:
    for norm in norms:
        norm.eps = eps
