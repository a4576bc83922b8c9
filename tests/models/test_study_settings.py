"""What of the study's ten backbones is no weight: epsilons, activations, strides, dropout. Built without memory.

Values are those of the study's networks: mmcls 0.x and mmpose for ResNet, ResNeXt, HRNet, Swin and EfficientNet, its
own files for ViT and Twins. The heavy tests compare outputs; these look at each module.
"""

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hmrb.models.backbones import BACKBONES, Features, build_backbone
from hmrb.models.tails import STUDY_PX
from hmrb.spec import ModelSpec

STUDY = {name: row for name, row in BACKBONES.items() if row.study}
RESNETS = ("resnet50", "resnet101", "resnet152", "resnext101")
NORMS = {
    # torch's defaults; mmcls changes none of them for these
    **{name: {"BatchNorm2d 1e-05"} for name in (*RESNETS, "hrnet_w32")},
    "efficientnet_b5": {"BatchNormAct2d 0.001"},  # mmcls: norm_cfg=dict(type='BN', eps=1e-3)
    "vit_b16": {"LayerNorm 1e-05"},
    "swin_t": {"LayerNorm 1e-05", "BatchNorm2d 1e-05"},  # BatchNorm in the tail alone
    "twins_svt_b": {"LayerNorm 1e-05"},
    "twins_pcpvt_b": {"LayerNorm 1e-05", "LayerNorm 1e-06"},
}
NUM_NORMS = {
    "resnet50": 53, "resnet101": 104, "resnet152": 155, "resnext101": 104, "hrnet_w32": 311, "efficientnet_b5": 116,
    "vit_b16": 24,  # two a block, none after the last
    "swin_t": 38, "twins_svt_b": 64, "twins_pcpvt_b": 86,
}  # fmt: skip
ACTIVATIONS = {
    **{name: {"ReLU"} for name in (*RESNETS, "hrnet_w32")},
    "efficientnet_b5": {"SiLU", "Sigmoid"},  # Sigmoid gates the channels
    "vit_b16": {"GELU"},
    "swin_t": {"GELU", "ReLU"},  # ReLU in the tail alone
    "twins_svt_b": {"GELU"},
    "twins_pcpvt_b": {"GELU"},
}
# Kernel, stride and padding of what makes the map smaller: ResNets have the stride in the 3x3 (style='pytorch').
RESNET = {"7x7/2+3": 1, "3x3/2+1": 3, "1x1/2+0": 3}
STRIDES = {
    **dict.fromkeys(RESNETS, RESNET),
    "efficientnet_b5": {"3x3/2+0": 3, "5x5/2+0": 2},  # padded by TensorFlow's rule: more behind than before
    "vit_b16": {"16x16/16+0": 1},
    "swin_t": {"4x4/4+0": 1},
    "twins_svt_b": {"4x4/4+0": 2, "2x2/2+0": 12, "8x8/8+0": 1},
    "twins_pcpvt_b": {"4x4/4+0": 5, "2x2/2+0": 21, "8x8/8+0": 3},
    # Two before the first stage, one for each new resolution, then from each resolution to all coarser ones: in one
    # module of two, four of three, three of four.
    "hrnet_w32": {"3x3/2+1": 2 + 3 + 1 * 1 + 4 * (1 + 2 + 1) + 3 * (1 + 2 + 1 + 3 + 2 + 1)},
}
BUILT: dict[str, Features] = {}


def built(name: str) -> Features:
    if name not in BUILT:
        with torch.device("meta"):
            spec = ModelSpec(backbone=name, weights="none", features="study", image_px=STUDY_PX)
            BUILT[name] = build_backbone(spec)[0]
    return BUILT[name]


def norms(module: nn.Module) -> Iterator[tuple[str, nn.LayerNorm | _BatchNorm]]:
    return ((name, m) for name, m in module.named_modules() if isinstance(m, nn.LayerNorm | _BatchNorm))


def test_every_backbone_of_the_study_is_looked_at() -> None:
    assert len(STUDY) == 10
    assert set(STUDY) == set(NORMS) == set(NUM_NORMS) == set(ACTIVATIONS) == set(STRIDES)


@pytest.mark.parametrize("name", STUDY)
def test_norms_have_the_study_s_epsilon(name: str) -> None:
    found = Counter(f"{type(norm).__name__} {norm.eps:g}" for _, norm in norms(built(name)))
    assert set(found) == NORMS[name]
    assert found.total() == NUM_NORMS[name]


def test_norms_of_pcpvt_have_1e_6_but_for_those_of_the_patches() -> None:
    """The study: norm_layer=partial(nn.LayerNorm, eps=1e-6); the norm that ends a patch embedding is torch's own."""
    other = [name for name, norm in norms(built("twins_pcpvt_b").network) if norm.eps != 1e-6]
    assert other == [f"patch_embeds.{stage}.norm" for stage in range(4)]


@pytest.mark.parametrize("name", STUDY)
def test_batchnorm_keeps_statistics_and_has_weights(name: str) -> None:
    for where, norm in norms(built(name)):
        if isinstance(norm, _BatchNorm):
            assert (norm.momentum, norm.affine, norm.track_running_stats) == (0.1, True, True), where


@pytest.mark.parametrize("name", STUDY)
def test_activations_are_the_study_s(name: str) -> None:
    known = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Hardswish, nn.Sigmoid, nn.Tanh, nn.ELU, nn.Mish)
    found = [module for module in built(name).modules() if isinstance(module, known)]
    assert {type(module).__name__ for module in found} == ACTIVATIONS[name]
    assert all(module.approximate == "none" for module in found if isinstance(module, nn.GELU))


@pytest.mark.parametrize("name", STUDY)
def test_nothing_is_left_out_by_chance(name: str) -> None:
    """Training has dropout in the regressor alone, unless the spec's drop_path asks for more; Swin see below."""
    for where, module in built(name).named_modules():
        if "Drop" in type(module).__name__:
            assert not getattr(module, "p", 0), where
            if name != "swin_t":
                assert not getattr(module, "drop_prob", 0), where


def test_swin_s_branches_are_left_out_as_in_mmcls() -> None:
    """Its drop_path_rate of 0.1: from 0 to 0.1 over the twelve blocks, for both branches of each."""
    found = [m.drop_prob for m in built("swin_t").modules() if type(m).__name__ == "DropPath"]
    assert found == pytest.approx([0.1 * block / 11 for block in range(1, 12) for _ in range(2)], abs=1e-6)


@pytest.mark.parametrize("name", STUDY)
def test_maps_shrink_where_the_study_s_do(name: str) -> None:
    found: Counter[str] = Counter()
    for module in built(name).modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            (kernel, _), (stride, _), (padding, _) = module.kernel_size, module.stride, module.padding
            found[f"{kernel}x{kernel}/{stride}+{padding}"] += 1
    assert found == STRIDES[name]


@pytest.mark.parametrize("name", RESNETS)
def test_resnets_pool_with_overlap_and_have_the_groups_of_their_name(name: str) -> None:
    network = built(name).network
    pool = network.maxpool
    assert (pool.kernel_size, pool.stride, pool.padding, pool.ceil_mode) == (3, 2, 1, False)
    groups = {block.conv2.groups for stage in range(1, 5) for block in getattr(network, f"layer{stage}")}
    assert groups == {32 if name == "resnext101" else 1}
    widths = [block.conv2.out_channels for block in network.layer1]
    assert set(widths) == {256 if name == "resnext101" else 64}  # 32 groups of 8


def test_attention_has_the_study_s_heads_and_windows() -> None:
    swin = built("swin_t").network
    blocks = [block for stage in swin.layers for block in stage.blocks]
    assert [block.attn.num_heads for block in blocks] == [3, 3, 6, 6, *[12] * 6, 24, 24]
    assert {tuple(block.window_size) for block in blocks} == {(7, 7)}
    # Every second block shifts its windows, the last one too.
    assert [tuple(block.shift_size) for block in blocks] == [(0, 0), (3, 3)] * 6
    vit = built("vit_b16").network
    assert {block.attn.num_heads for block in vit.blocks} == {12}
    assert all(block.attn.qkv.bias is not None for block in vit.blocks)
    svt, pcpvt = built("twins_svt_b").network, built("twins_pcpvt_b").network
    assert [stage[0].attn.num_heads for stage in svt.blocks] == [3, 6, 12, 24]
    assert [stage[0].attn.num_heads for stage in pcpvt.blocks] == [1, 2, 5, 8]


@pytest.mark.parametrize("name", ["hrnet_w32", "swin_t"])
def test_stages_are_brought_to_one_size_with_corners_on_corners(name: str) -> None:
    """The study: nn.Upsample(scale_factor=2, mode='bilinear', align_corners=True), conv, BatchNorm, ReLU."""
    ways = [module for module in built(name).tail.modules() if isinstance(module, nn.Upsample)]
    assert len(ways) == 1 + 2 + 3
    assert {(way.scale_factor, way.mode, way.align_corners) for way in ways} == {(2.0, "bilinear", True)}
    convs = [module for module in built(name).tail.modules() if isinstance(module, nn.Conv2d)]
    assert {(conv.kernel_size, conv.padding, conv.bias) for conv in convs} == {((3, 3), (1, 1), None)}


def test_hrnet_s_own_maps_grow_by_repeating() -> None:
    ways = [module for module in built("hrnet_w32").network.modules() if isinstance(module, nn.Upsample)]
    assert {way.mode for way in ways} == {"nearest"}
    assert Counter(way.scale_factor for way in ways) == {2.0: 18, 4.0: 10, 8.0: 3}
