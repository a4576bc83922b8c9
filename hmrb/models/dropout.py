"""Dropout and stochastic depth by draw: the result for an image does not depend on its process or batch position."""

import sys
from functools import cache

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

_ODD = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)  # SplitMix64's constants, as int64


def drop_factors(
    share: float, keys: Int[Tensor, " B"] | None, width: int, first: int, last: int
) -> tuple[Float[Tensor, "B F"], ...]:
    """Dropout's factors of layers `first` to `last`, each `width` wide: 0 for a share of the values, 1 / (1 - share).

    A row's key and the layer determine which values are dropped, so the result is the same on every device. Raises
    ValueError without keys.
    """
    if keys is None:
        raise ValueError("training with dropout needs the keys of the draws: model(batch.image, batch.key)")
    bits = (keys[:, None] ^ _places(first * width, (last + 1) * width, keys.device)) * _ODD[1]  # wraps around
    bits = (bits ^ (bits >> 32)) * _ODD[2]
    is_kept = (bits >> 40 & 0xFFFFFF) >= share * 2**24
    return (is_kept / (1 - share)).split(width, 1)


@cache
def _places(start: int, stop: int, device: torch.device) -> Int[Tensor, " N"]:
    return torch.arange(start, stop, device=device) * _ODD[0]


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., ECCV 2016): skips a residual branch for a share of the images.

    `keys` belong to the current batch. The input has one row per image, or the same number of consecutive rows for
    each image (windows).
    """

    def __init__(self, share: float, number: int) -> None:
        super().__init__()
        self.share, self.number = share, number
        self.keys: Int[Tensor, " B"] | None = None

    def forward(self, branch: Float[Tensor, "P ..."]) -> Float[Tensor, "P ..."]:
        """The branch: 0 for skipped images, scaled up for the others. Raises ValueError in training without keys."""
        if not self.training or not self.share:
            return branch
        num_pictures = len(branch) if self.keys is None else len(self.keys)
        layer = -1 - self.number  # negative, to differ from the head's layers
        (factors,) = drop_factors(self.share, self.keys, 1, layer, layer)
        factors = factors.to(branch.dtype).repeat_interleave(len(branch) // num_pictures, 0)
        return branch * factors.view(-1, *[1] * (branch.ndim - 1))


def drop_paths_by_draw(network: nn.Module) -> list[DropPath]:
    """Replaces timm's DropPath modules, whose random numbers differ by process; returns the new modules."""
    timm = sys.modules.get("timm.layers.drop")
    if timm is None:  # then nothing here is timm's
        return []
    found: list[DropPath] = []
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, timm.DropPath):
                found.append(DropPath(child.drop_prob, len(found)))
                setattr(module, name, found[-1])
    return found
