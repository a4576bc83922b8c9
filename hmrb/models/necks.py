"""HRNet's four branches joined as the methods after the study do: strided to one vector, or upsampled to one map.

A neck is the tail of `Features` over timm's `hrnet_w32` or `hrnet_w48`, built with `num_classes=0, global_pool=""`.
CLIFF (huawei-noah/noah-research@aa0f80c: CLIFF/models/backbones/hrnet/cls_hrnet.py) needs no neck of its own: timm's
network for classification and `tails.Mean` give its 2048 features.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.models.foreign import DROP, THEIRS, ForeignLayout, Rules
from hmrb.models.tails import HRNetTail, Mean, conv_norm_relu, leave_branches


class StridedNeck(Mean):
    """Halves the finer three branches to the size of the coarsest and stacks all four; pools to their mean.

    The neck of BEDLAM-CLIFF (pixelite1201/BEDLAM@9ad6adf: train/models/backbone/hrnet.py) and of CameraHMR's network
    for the field of view. Branch i, `width` * 2^i wide, passes 3 - i convolutions of stride 2 at its own width.
    Parameter names are theirs. A 32nd of the image's side must be a whole number, as it must for timm's HRNet.
    """

    def __init__(self, network: Any, width: int = 48) -> None:
        super().__init__()
        leave_branches(network)
        for branch in range(3):
            channels = width * 2**branch
            halvings = [layer for _ in range(3 - branch) for layer in conv_norm_relu(channels, channels, 2)]
            self.add_module(f"downsample_stage_{branch + 1}", nn.Sequential(*halvings))

    def map(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C *cells"]:
        """The map: 15 * `width` channels (720 for `hrnet_w48`) at a 32nd of the image's side."""
        *finer, last = network.forward_features(image)
        halved = [self.get_submodule(f"downsample_stage_{i}")(y) for i, y in enumerate(finer, 1)]
        return torch.cat([*halved, last], 1)


class MapNeck(HRNetTail):
    """The study's upsampled map of `hrnet_w32`, not pooled: what PARE's head attends to.

    PARE (mkocabas/PARE@f848b2f: pare/models/backbone/hrnet.py) and the study upsample alike, under the same names.
    """

    def forward(self, network: Any, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C H4 W4"]:
        """The map: 480 channels at a quarter of the image's side."""
        return self.map(network, image)


HRNET_W48 = {
    "stage2.0.branches.0.0.conv1.weight": (48, 48, 3, 3),
    "stage4.2.branches.3.0.conv1.weight": (384, 384, 3, 3),
}
STRIDED: Rules = (
    (r"^downsample_stage_", "tail.downsample_stage_"),
    (r"^final_layer\.(weight|bias)$", DROP),  # a pose network's key-point maps, which these methods do not run
)

# Released names below `model.backbone.` (BEDLAM, PARE), `backbone.` (field of view) and `module.encoder.` (CLIFF).
RELEASED_HRNETS: dict[str, ForeignLayout] = {
    "hrnet_w48 strided": ForeignLayout({**HRNET_W48, "downsample_stage_1.0.weight": (48, 48, 3, 3)}, STRIDED),
    "hrnet_w48 classifier": ForeignLayout({**HRNET_W48, "final_layer.0.weight": (2048, 1024, 1, 1)}),
    "hrnet_w32 map": THEIRS["hrnet_w32"],
}
