"""HMR's adversarial prior (Kanazawa et al., CVPR 2018): scores how plausible a body is."""

from collections import OrderedDict
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hmrb.bodykind import SMPL_KIND, BodyKind

HIDDEN = 32  # hidden values per rotation


class Discriminator(nn.Module):
    """Scores each joint rotation, all rotations together, and the betas; ignores the root rotation.

    As in the study, there is no activation between the two 1x1 convolutions. Parameter names are the study's.
    """

    def __init__(self, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        num_rotations = kind.num_joints - 1
        self.pose_discriminator = JointScores(num_rotations)
        self.full_pose_discriminator = Layers(num_rotations * HIDDEN, 1024, 1024, 1)
        self.shape_discriminator = Layers(kind.num_betas, 5, 1)

    def forward(self, rotmats: Float[Tensor, "B R 3 3"], betas: Float[Tensor, "B S"]) -> Float[Tensor, "B R+1"]:
        """Scores, one per part: near 1 for a real body, near 0 for a predicted one (LSGAN)."""
        scores, hidden = self.pose_discriminator(rotmats[:, 1:])
        return torch.cat([scores, self.full_pose_discriminator(hidden.flatten(1)), self.shape_discriminator(betas)], 1)


class JointScores(nn.Module):
    """Scores each joint rotation: layers shared by all joints, then one layer per joint."""

    def __init__(self, num_rotations: int) -> None:
        super().__init__()
        layers: OrderedDict[str, nn.Module] = OrderedDict(
            conv_0=nn.Conv2d(9, HIDDEN, 1), conv_1=nn.Conv2d(HIDDEN, HIDDEN, 1)
        )
        self.conv_blocks = nn.Sequential(layers)
        self.fc_layer = nn.ModuleList(nn.Linear(HIDDEN, 1) for _ in range(num_rotations))
        self._names = [f"fc_layer.{joint}" for joint in range(num_rotations)]

    def forward(self, rotmats: Float[Tensor, "B N 3 3"]) -> tuple[Float[Tensor, "B N"], Float[Tensor, "B H N"]]:
        """Returns the scores and the hidden values, which the score of the whole pose uses."""
        # Contiguous, because distributed training needs gradients in the parameters' memory layout.
        hidden = self.conv_blocks(rotmats.flatten(2).mT[:, :, None].contiguous())[:, :, 0]
        weights = torch.cat([self.get_parameter(f"{name}.weight") for name in self._names])
        biases = torch.cat([self.get_parameter(f"{name}.bias") for name in self._names])
        # All joints in one product.
        scores = torch.baddbmm(biases[:, None, None], hidden.permute(2, 0, 1), weights[:, :, None])
        return scores[:, :, 0].mT, hidden


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
        """Maps values to scores."""
        out: Tensor = self.fc_blocks(values)
        return out
