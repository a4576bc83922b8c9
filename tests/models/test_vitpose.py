"""ViTPose's backbone against timm's ViT, given the same numbers."""

import timm
import torch
from torch import nn

from hmrb.models.vitpose import SIZES, ViTPose, VitSize, build_vitpose

TINY = VitSize(32, 3, 2)


def made(height: int = 64, width: int = 48) -> ViTPose:
    torch.manual_seed(0)
    return ViTPose(TINY, height, width).eval()


@torch.no_grad()
def test_it_is_timm_s_vit_with_padded_patches_and_the_first_row_added_to_all() -> None:
    ours = made()
    theirs = timm.models.vision_transformer.VisionTransformer(
        img_size=(64, 48), patch_size=16, embed_dim=32, depth=3, num_heads=2, num_classes=0, class_token=False,
        global_pool="",
    ).eval()  # fmt: skip
    state = ours.state_dict()
    position = state.pop("pos_embed")
    state = {key.replace("last_norm.", "norm."): value for key, value in state.items()}
    theirs.load_state_dict(state | {"pos_embed": position[:, 1:] + position[:, :1]})
    theirs.patch_embed.proj.padding = (2, 2)
    image = torch.randn(2, 3, 64, 48)
    expected = theirs.forward_features(image).mT.unflatten(2, (4, 3))
    torch.testing.assert_close(ours.forward_features(image), expected)


def test_recomputed_maps_have_the_same_gradients() -> None:
    one, two = made(), made()
    two.set_grad_checkpointing(True)
    image = torch.randn(2, 3, 64, 48)
    for network in (one, two):
        network.forward_features(image).square().sum().backward()
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_the_four_sizes_have_vitpose_s_parameters() -> None:
    """Of the released backbones: 21.7, 85.8, 303 and 631 million (with 16 x 12 patches)."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in build_vitpose(name, 256, 192).parameters()) for name in SIZES]
    assert [round(count / 1e6) for count in counts] == [22, 86, 303, 631]


def test_stochastic_depth_grows_with_depth() -> None:
    network = build_vitpose("vitpose_s", 32, 32, 0.55)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in network.blocks]
    assert isinstance(network.blocks[0].drop_path1, nn.Identity)
    assert rates == sorted(rates)
    assert rates[-1] == 0.55
