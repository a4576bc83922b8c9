"""Names that specs use for code in torch: a spec is checked by them before torch is imported."""

from dataclasses import dataclass
from typing import Literal

Decode = Literal["full", "seen"]
Antialias = Literal["none", "area"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What a method leaves to a spec: its heads, what they are told of the crop's place, and its cameras."""

    heads: tuple[str, ...]
    boxes: tuple[str, ...] = ("none",)
    cameras: tuple[str, ...] = ("crop_weak",)


METHODS = {
    "hmr": Choices(("iterative", "direct")),
    "hmr2": Choices(("decoder",)),
    "cliff": Choices(("iterative",), ("cliff",), ("full_frame", "intrinsics")),
    "bedlam_cliff": Choices(("iterative",), ("over_f",), ("intrinsics",)),
    "camerahmr": Choices(("decoder",), ("over_f",), ("intrinsics",)),
    "tokenhmr": Choices(("decoder", "tokens")),
    "pare": Choices(("part_attention",)),
}
HEADS = ("iterative", "direct", "decoder", "tokens", "part_attention")
MAP_HEADS = ("decoder", "tokens", "part_attention")
"""The heads that look at places."""
LOSSES = (
    "keypoints3d", "keypoints2d", "vertices", "pose", "global_orient", "body_pose", "betas", "betas_or_zero",
    "camera_prior", "parts", "part_heatmaps", "part_points",
)  # fmt: skip
PART_LOSSES = ("parts", "part_heatmaps", "part_points")
"""The losses on a head's maps of parts."""
PART_HEADS = ("part_attention",)
BACKBONES = (  # timm's models have timm's names besides
    "resnet50", "resnet101", "resnet152", "resnext101", "hrnet_w32", "hrnet_w48", "efficientnet_b5", "vit_b16",
    "swin_t", "twins_svt_b", "twins_pcpvt_b", "vitpose_s", "vitpose_b", "vitpose_l", "vitpose_h", "mini", "mini_s16",
)  # fmt: skip

# The study's own spellings.
BACKBONE_ALIASES = {
    "resnext101_32x8d": "resnext101",
    "hrnet": "hrnet_w32",
    "efficientnet": "efficientnet_b5",  # timm's efficientnet_b5 pads differently; the study's is tf_efficientnet_b5
    "vit": "vit_b16",
    "vit_b": "vit_b16",
    "vit_base": "vit_b16",
    "swin": "swin_t",
    "swin_tiny": "swin_t",
    "twins_svt": "twins_svt_b",
    "twins_pcpvt": "twins_pcpvt_b",
}

IMAGENET = {  # timm's names of the weights that the study started from, or of the closest that timm has
    "resnet50": "resnet50.tv_in1k",
    "resnet101": "resnet101.tv_in1k",
    "resnet152": "resnet152.tv_in1k",
    "resnext101": "resnext101_32x8d.tv_in1k",
    "hrnet_w32": "hrnet_w32.ms_in1k",
    "hrnet_w48": "hrnet_w48.ms_in1k",
    "efficientnet_b5": "tf_efficientnet_b5.in1k",
    "vit_b16": "vit_base_patch16_224.orig_in21k_ft_in1k",
    "swin_t": "swin_tiny_patch4_window7_224.ms_in1k",
    "twins_svt_b": "twins_svt_base.in1k",
    "twins_pcpvt_b": "twins_pcpvt_base.in1k",
}
