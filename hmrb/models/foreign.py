"""Weights of the study, mmhuman3d, SPIN, mmpose and mmpretrain under the names of hmrb's models.

A backbone is recognised by the shapes of a few tensors and renamed by rules; `docs/checkpoints.md` describes them.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from hmrb.models.vitpose import PATCH
from hmrb.models.vitpose import SIZES as VITPOSE

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]
HEAD = ("fc1", "fc2", "decpose", "decshape", "deccam", "init_pose", "init_shape", "init_cam")
EFFICIENTNET_B5_DEPTHS = (3, 5, 5, 7, 7, 9, 3)
DROP = ""


@dataclass(frozen=True, slots=True)
class Components:
    """A file's tensors by component, and the layout of its names. `rest` counts the other tensors by group."""

    kind: Literal["hmrb", "hmr", "spin", "network", "backbone"]
    backbone: State
    head: State
    rest: Counter[str]


@dataclass(frozen=True, slots=True)
class ForeignLayout:
    """A backbone's layout in foreign files: shapes that identify it (None: absent), and rules to rename its tensors."""

    shapes: Mapping[str, tuple[int, ...] | None]
    rules: Rules = ()
    reorder: Callable[[State], State] = field(default=lambda state: state)

    def fits(self, backbone: Mapping[str, Tensor]) -> bool:
        """Whether these tensors have the layout."""
        return all(
            key not in backbone if shape is None else key in backbone and tuple(backbone[key].shape) == shape
            for key, shape in self.shapes.items()
        )


def components_of(tensors: Mapping[str, Tensor]) -> Components:
    """Sort a file's tensors: `backbone.` and `head.`, or SPIN's ResNet and regressor, or only a backbone."""
    if not any(key.startswith("backbone.") for key in tensors):
        head = {key: value for key, value in tensors.items() if key.split(".")[0] in HEAD}
        backbone = {key: value for key, value in tensors.items() if key not in head}
        return Components("spin" if "decpose.weight" in head else "backbone", backbone, head, Counter())
    backbone = _under("backbone.", tensors)
    head = _under("head.", tensors)
    rest = Counter(group_of(key) for key in tensors if not key.startswith(("backbone.", "head.")))
    if any(key.startswith("network.") for key in backbone):
        return Components("hmrb", backbone, head, rest)
    return Components("hmr" if "decpose.weight" in head else "network", backbone, head, rest)


def group_of(key: str) -> str:
    """A tensor's group in reports: the first part of its name, or ema_* for copies of averaged weights."""
    return "ema_*" if key.startswith("ema_") else key.split(".")[0]


def recognise(backbone: Mapping[str, Tensor]) -> str | None:
    """The name of the backbone that has these tensors, or None."""
    layouts = (*THEIRS.items(), *MMPOSE.items())
    return next((name for name, theirs in layouts if theirs.fits(backbone)), None)


def renamed(name: str, backbone: State) -> tuple[State, Counter[str]]:
    """Rename tensors to the names in `Features`; also returns the number of dropped tensors by group."""
    in_mmpose = name in MMPOSE and MMPOSE[name].fits(backbone)
    return renamed_by(MMPOSE[name] if in_mmpose else THEIRS[name], backbone)


def renamed_by(theirs: ForeignLayout, backbone: State) -> tuple[State, Counter[str]]:
    """As `renamed`, for a layout outside THEIRS."""
    out, dropped = follow(theirs.rules, theirs.reorder(backbone))
    return {key if key.startswith("tail.") else f"network.{key}": value for key, value in out.items()}, dropped


def follow(rules: Rules, tensors: State) -> tuple[State, Counter[str]]:
    """Rename tensors by every rule in turn; also returns the number of dropped tensors by group."""
    out, dropped = {}, Counter[str]()
    for key, value in tensors.items():
        new = key
        for pattern, replacement in rules:
            new = re.sub(pattern, replacement, new)
        if new == DROP:
            dropped[key.split(".")[-1] if "index" in key else group_of(key)] += 1
        else:
            out[new] = value
    return out, dropped


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> State:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _efficientnet(backbone: State) -> State:
    """Renumber blocks: five groups in these files and seven in timm contain the same blocks in the same order."""
    theirs = sorted({(int(a), int(b)) for a, b in re.findall(r"layers\.([1-5])\.(\d+)\.", " ".join(backbone))})
    ours = [(a, b) for a, depth in enumerate(EFFICIENTNET_B5_DEPTHS) for b in range(depth)]
    place = {f"{i}.{j}": f"{a}.{b}" for (i, j), (a, b) in zip(theirs, ours, strict=False)}
    return {
        re.sub(r"^layers\.([1-5]\.\d+)\.", lambda found: f"blocks.{place.get(found[1], found[1])}.", key): value
        for key, value in backbone.items()
    }


def _swin(backbone: State) -> State:
    """Reorder merged 2x2 patches: by channel and row by row in these files, by patch and column by column in timm."""
    return {
        key: value.unflatten(-1, (-1, 2, 2)).transpose(-1, -3).flatten(-3)
        if re.fullmatch(r"stages\.\d\.downsample\.(norm|reduction)\.(weight|bias)", key)
        else value
        for key, value in backbone.items()
    }


def _with_first_row(backbone: State) -> State:
    """Without a class token, the row of ViTPose's table that is added to every patch is 0."""
    return {
        key: torch.cat([torch.zeros_like(value[:, :1]), value], 1) if key == "pos_embed" else value
        for key, value in backbone.items()
    }


def _resnet(blocks: int, width: int, inner: int) -> ForeignLayout:
    last = f"layer3.{blocks - 1}.conv1.weight"
    return ForeignLayout(
        {
            "layer1.0.conv1.weight": (width, 64, 1, 1),
            "layer1.0.conv2.weight": (width, inner, 3, 3),
            "layer1.0.conv3.weight": (256, width, 1, 1),
            last: (4 * width, 1024, 1, 1),
            f"layer3.{blocks}.conv1.weight": None,
        }
    )


MLP: Rules = ((r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."), (r"\.ffn\.layers\.1\.", ".mlp.fc2."))
VIT: Rules = (
    (r"^patch_embed\.projection\.", "patch_embed.proj."),
    (r"^layers\.", "blocks."),
    (r"\.ln([12])\.", r".norm\1."),
)
UPSAMPLED: Rules = ((r"^upsample_stage_", "tail.upsample_stage_"),)
TWINS: Rules = (
    *MLP,
    (r"^(patch_embeds\.\d)\.projection\.", r"\1.proj."),
    (r"^stages\.", "blocks."),
    (r"^position_encodings\.(\d)\.proj\.", r"pos_block.\1.proj.0."),
    (r"^norm_after_stage3\.", "norm."),
)

THEIRS: dict[str, ForeignLayout] = {
    "resnet50": _resnet(6, 64, 64),
    "resnet101": _resnet(23, 64, 64),
    "resnet152": _resnet(36, 64, 64),
    "resnext101": _resnet(23, 256, 8),
    "hrnet_w32": ForeignLayout(
        {"stage2.0.branches.0.0.conv1.weight": (32, 32, 3, 3), "stage4.2.branches.3.0.conv1.weight": (256, 256, 3, 3)},
        (*UPSAMPLED, (r"^final_layer\.(weight|bias)$", DROP)),
    ),
    "efficientnet_b5": ForeignLayout(
        {"layers.0.conv.weight": (48, 3, 3, 3), "layers.6.conv.weight": (2048, 512, 1, 1)},
        (
            (r"^layers\.0\.conv\.", "conv_stem."),
            (r"^layers\.0\.bn\.", "bn1."),
            (r"^layers\.6\.conv\.", "conv_head."),
            (r"^layers\.6\.bn\.", "bn2."),
            (r"\.se\.conv1\.conv\.", ".se.conv_reduce."),
            (r"\.se\.conv2\.conv\.", ".se.conv_expand."),
            (r"^(blocks\.0\.\d+)\.depthwise_conv\.conv\.", r"\1.conv_dw."),  # the first stage has no expansion
            (r"^(blocks\.0\.\d+)\.depthwise_conv\.bn\.", r"\1.bn1."),
            (r"^(blocks\.0\.\d+)\.linear_conv\.conv\.", r"\1.conv_pw."),
            (r"^(blocks\.0\.\d+)\.linear_conv\.bn\.", r"\1.bn2."),
            (r"\.expand_conv\.conv\.", ".conv_pw."),
            (r"\.expand_conv\.bn\.", ".bn1."),
            (r"\.depthwise_conv\.conv\.", ".conv_dw."),
            (r"\.depthwise_conv\.bn\.", ".bn2."),
            (r"\.linear_conv\.conv\.", ".conv_pwl."),
            (r"\.linear_conv\.bn\.", ".bn3."),
        ),
        _efficientnet,
    ),
    "vit_b16": ForeignLayout(
        {
            "cls_token": (1, 1, 768),
            "patch_embed.projection.weight": (768, 3, 16, 16),
            "layers.11.ln1.weight": (768,),
            "layers.12.ln1.weight": None,
        },
        (
            *MLP,
            *VIT,
            (r"\.attn\.attn\.in_proj_", ".attn.qkv."),
            (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
            (r"^ln1\.", "norm."),
        ),
    ),
    "swin_t": ForeignLayout(
        {
            "patch_embed.projection.weight": (96, 3, 4, 4),
            "stages.2.blocks.5.norm1.weight": (384,),
            "stages.2.blocks.6.norm1.weight": None,
        },
        (
            *MLP,
            *UPSAMPLED,
            (r".*\.relative_position_index$", DROP),  # timm computes the same values
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^norm(\d)\.", r"tail.norms.\1."),
            (r"\.attn\.w_msa\.", ".attn."),
            *((rf"^stages\.{i}\.downsample\.", f"layers.{i + 1}.downsample.") for i in range(3)),
            (r"^stages\.", "layers."),
        ),
        _swin,
    ),
    "twins_svt_b": ForeignLayout(
        {
            "patch_embeds.0.projection.weight": (96, 3, 4, 4),
            "stages.2.17.norm1.weight": (384,),
            "stages.2.18.norm1.weight": None,
        },
        TWINS,
    ),
    "twins_pcpvt_b": ForeignLayout(
        {
            "patch_embeds.0.projection.weight": (64, 3, 4, 4),
            "stages.2.17.norm1.weight": (320,),
            "stages.2.18.norm1.weight": None,
        },
        TWINS,
    ),
    "mini": ForeignLayout({"conv1.0.weight": (12, 3, 3, 3), "layer4.0.conv1.weight": (256, 128, 3, 3)}),
    **{
        name: ForeignLayout(
            {
                "patch_embed.proj.weight": (size.width, 3, PATCH, PATCH),
                "cls_token": None,
                "norm.weight": None,
                f"blocks.{size.depth - 1}.norm1.weight": (size.width,),
                f"blocks.{size.depth}.norm1.weight": None,
            }
        )
        for name, size in VITPOSE.items()
    },
}
MMPOSE = {
    name: ForeignLayout(
        {
            "cls_token": None,
            "patch_embed.projection.weight": (size.width, 3, PATCH, PATCH),
            f"layers.{size.depth - 1}.ln1.weight": (size.width,),
            f"layers.{size.depth}.ln1.weight": None,
        },
        (*MLP, *VIT, (r"^ln1\.", "last_norm.")),
        _with_first_row,
    )
    for name, size in VITPOSE.items()
}
"""ViTPose's networks as mmpose has them since version 1: mmpretrain's ViT, without a class token and its position."""
