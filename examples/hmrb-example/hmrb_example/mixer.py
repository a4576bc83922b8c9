"""A small backbone: patches, mixed over space and over channels (ConvMixer: Trockman and Kolter, TMLR 2023)."""

from typing import Annotated

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

Count = Annotated[int, Field(gt=0, le=1024)]


class Mixer(nn.Module):
    """Normalised images to a map of `width` channels, one cell per patch of `patch_px` pixels."""

    def __init__(self, image_px: int, *, patch_px: Count = 16, width: Count = 128, blocks: Count = 2) -> None:
        super().__init__()
        if image_px % patch_px:
            raise ValueError(f"image_px {image_px} is no multiple of patch_px {patch_px}")
        self.patches = nn.Conv2d(3, width, patch_px, patch_px)
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(blocks)))

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """The last map; hmrb takes its mean over the cells."""
        features: Tensor = self.blocks(self.patches(image).relu())
        return features


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.space = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.channels = nn.Conv2d(width, width, 1)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
        return features + self.norm(self.channels(self.space(features).relu()))
