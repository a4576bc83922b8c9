"""ViTPose's backbone, which HMR2.0, CameraHMR and TokenHMR start from, with the names of its files.

Differences from timm's ViT: the patch convolution is padded by 2 pixels, there is no class token, and the first row of
the position table, which was the class token's, is added to every patch. Source: shubham-goel/4D-Humans@6ec7965:
hmr2/models/backbones/vit.py; sizes: ViTAE-Transformer/ViTPose, configs/body/2d_kpt_sview_rgb_img/topdown_heatmap/coco.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

PATCH = 16
PADDING = 2
EPS = 1e-6


@dataclass(frozen=True, slots=True)
class VitSize:
    """Channels, blocks and heads of attention."""

    width: int
    depth: int
    heads: int


SIZES = {
    "vitpose_s": VitSize(384, 12, 12),
    "vitpose_b": VitSize(768, 12, 12),
    "vitpose_l": VitSize(1024, 24, 16),
    "vitpose_h": VitSize(1280, 32, 16),
}


class ViTPose(nn.Module):
    """An image to a map of C channels, a cell for each patch of 16 px. Stochastic depth grows linearly with depth."""

    pretrained_cfg: dict[str, Any] = {"classifier": ()}

    def __init__(self, size: VitSize, height: int, width: int, drop_path: float = 0.0) -> None:
        from timm.models.vision_transformer import Block

        super().__init__()
        self.cells = tuple((side + 2 * PADDING - PATCH) // PATCH + 1 for side in (height, width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, size.width, PATCH, stride=PATCH, padding=PADDING)})
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.cells[0] * self.cells[1], size.width))
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        norm: Any = partial(nn.LayerNorm, eps=EPS)
        rates = [drop_path * number / max(size.depth - 1, 1) for number in range(size.depth)]
        self.blocks = nn.ModuleList(
            Block(size.width, size.heads, qkv_bias=True, drop_path=rate, norm_layer=norm) for rate in rates
        )
        self.last_norm = norm(size.width)
        self.keeps_maps = True

    def set_grad_checkpointing(self, enable: bool) -> None:
        """Recompute the blocks' maps in the backward pass instead of keeping them."""
        self.keeps_maps = not enable

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Which parameters are of which layer, as timm's models say it."""
        return {"stem": r"^(?:patch_embed|pos_embed)", "blocks": [(r"^blocks\.(\d+)", None), (r"^last_norm", (99999,))]}

    def forward_features(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The map after the last norm."""
        patches = self.patch_embed["proj"](image).flatten(2).mT
        tokens = patches + self.pos_embed[:, 1:] + self.pos_embed[:, :1]
        for block in self.blocks:
            tokens = block(tokens) if self.keeps_maps else checkpoint(block, tokens, use_reentrant=False)
        return self.last_norm(tokens).mT.unflatten(2, self.cells)


def build_vitpose(name: str, height: int, width: int, drop_path: float = 0.0) -> ViTPose:
    """A backbone of SIZES for images of this size. Raises ValueError for a size that holds no whole patch."""
    if min(height, width) < PATCH:
        raise ValueError(f"images must be at least {PATCH} px, got {height} x {width}")
    return ViTPose(SIZES[name], height, width, drop_path)
