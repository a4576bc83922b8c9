"""The adversarial prior of HMR (Kanazawa et al., CVPR 2018): is this body one that people have?"""

from collections import OrderedDict
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

NUM_SCORES = 25  # 23 joints one by one, the whole pose, the shape


class Discriminator(nn.Module):
    """Scores of 23 joint rotations, of all of them together and of the betas; the root's rotation is not looked at.

    Parameter names are the study's; so is the absence of an activation between the two 1x1 convolutions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pose_discriminator = JointScores()
        self.full_pose_discriminator = Layers(23 * 32, 1024, 1024, 1)
        self.shape_discriminator = Layers(10, 5, 1)

    def forward(self, rotmats: Float[Tensor, "B 24 3 3"], betas: Float[Tensor, "B 10"]) -> Float[Tensor, "B 25"]:
        """One score a part: near 1 for a real body, near 0 for a made-up one (LSGAN)."""
        scores, hidden = self.pose_discriminator(rotmats[:, 1:])
        return torch.cat([scores, self.full_pose_discriminator(hidden.flatten(1)), self.shape_discriminator(betas)], 1)


class JointScores(nn.Module):
    """Each joint's rotation through layers that all share, then one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_blocks = nn.Sequential(OrderedDict(conv_0=nn.Conv2d(9, 32, 1), conv_1=nn.Conv2d(32, 32, 1)))
        self.fc_layer = nn.ModuleList(nn.Linear(32, 1) for _ in range(23))

    def forward(self, rotmats: Float[Tensor, "B 23 3 3"]) -> tuple[Float[Tensor, "B 23"], Float[Tensor, "B 32 23"]]:
        """Scores, and the hidden values that the whole pose is judged by."""
        # Contiguous, or the gradient's layout is not the one that several processes exchange.
        hidden = self.conv_blocks(rotmats.flatten(2).mT[:, :, None].contiguous())[:, :, 0]
        scores = torch.cat([layer(hidden[:, :, joint]) for joint, layer in enumerate(self.fc_layer)], 1)
        return scores, hidden


class Layers(nn.Module):
    """Linear layers with ReLU between them."""

    def __init__(self, *sizes: int) -> None:
        super().__init__()
        self.fc_blocks = nn.Sequential()
        for i, (here, there) in enumerate(pairwise(sizes)):
            if i:
                self.fc_blocks.add_module(f"regressor_af_{i - 1}", nn.ReLU())
            self.fc_blocks.add_module(f"regressor_fc_{i}", nn.Linear(here, there))

    def forward(self, values: Float[Tensor, "B F"]) -> Float[Tensor, "B S"]:
        """Values to scores."""
        out: Tensor = self.fc_blocks(values)
        return out
