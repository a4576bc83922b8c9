"""PARE's head: each joint reads pose and shape where the network sees its body part."""

from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, ROT6D, SMPL_KIND, BodyKind
from hmrb.geometry import rot6d_to_rotmat
from hmrb.models.head import keep_mean
from hmrb.models.tails import conv_norm_relu


class PartAttentionHead(nn.Module):
    """Part attention regressor (Kocabas et al., ICCV 2021) on a map, without the mean body.

    From mkocabas/PARE@f848b2f: pare/models/head/pare_head.py, with the settings of its released networks. Parameter
    names are those of its files below `model.head.`. It has no dropout. Neither the mean body nor `temperature` is
    used, there as here; they are kept because the files hold them, and `mean_prediction` reads the former.

    `channels` is the map's width, `width` that of both branches, `shape_width` that of the features for shape and
    camera. One part per joint of `kind`, and a background.
    """

    def __init__(
        self, channels: int = 480, width: int = 128, shape_width: int = 64, kind: BodyKind = SMPL_KIND
    ) -> None:
        super().__init__()
        parts = kind.num_joints
        self.keypoint_deconv_layers = _branch(channels, width)
        self.smpl_deconv_layers = _branch(channels, width)
        self.keypoint_final_layer = nn.Conv2d(width, 1 + parts, 1)
        self.smpl_final_layer = nn.Conv2d(width, shape_width, 1)
        self.pose_mlp = LayerPerJoint(width, ROT6D, parts)
        self.shape_mlp = nn.Linear(parts * shape_width, kind.num_betas)
        self.cam_mlp = nn.Linear(parts * shape_width, CAMERA)
        self.register_buffer("temperature", torch.ones(()))
        keep_mean(self, kind)

    def forward(self, cells: Float[Tensor, "B C H W"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """A map to rotations, betas and weak-perspective camera; in training, with the scores of the parts.

        `keys` are not needed: nothing is dropped.
        """
        prediction, parts = self.with_parts(cells)
        return replace(prediction, parts=parts) if self.training else prediction

    def with_parts(self, cells: Float[Tensor, "B C H W"]) -> tuple[Prediction, Float[Tensor, "B P H W"]]:
        """The prediction, and each cell's scores (logits) of background and parts, for a loss on parts."""
        parts = self.keypoint_final_layer(self.keypoint_deconv_layers(cells))
        attention = parts[:, 1:].flatten(2).softmax(2)
        body = self.smpl_deconv_layers(cells)
        pose = self.pose_mlp(_pooled(body, attention))
        shape = _pooled(self.smpl_final_layer(body), attention).flatten(1)
        rotmats = rot6d_to_rotmat(pose.mT)
        return Prediction(rotmats, self.shape_mlp(shape), self.cam_mlp(shape)), parts


class LayerPerJoint(nn.Module):
    """A linear layer of its own for each joint, without bias. `weight` has two axes of size 1 more, as in PARE."""

    def __init__(self, inputs: int, outputs: int, joints: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, joints, 1, 1))  # as PARE starts

    def forward(self, features: Float[Tensor, "B I J"]) -> Float[Tensor, "B O J"]:
        """Map each joint's features."""
        return torch.einsum("bij,oij->boj", features, self.weight[0, ..., 0, 0])


def _pooled(cells: Float[Tensor, "B C H W"], attention: Float[Tensor, "B J N"]) -> Float[Tensor, "B C J"]:
    """Each joint's mean over the map, weighted by its attention."""
    return torch.einsum("bcn,bjn->bcj", cells.flatten(2), attention)


def _branch(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(*conv_norm_relu(channels, width, 1), *conv_norm_relu(width, width, 1))
