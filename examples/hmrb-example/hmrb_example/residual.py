"""A head of residual layers, one step from the mean body."""

from typing import Annotated

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from hmrb.batch import Prediction
from hmrb.bodykind import BodyKind
from hmrb.models.head import Decoders, decoder_layers, dropout_factors, keep_mean
from hmrb.spec import HeadSpec


class ResidualHead(nn.Module):
    """Features to a body. Of the spec it takes `hidden` and `dropout`; `blocks` is its own argument."""

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(
        self, num_features: int, spec: HeadSpec, kind: BodyKind, *, blocks: Annotated[int, Field(gt=0, le=16)] = 2
    ) -> None:
        super().__init__()
        self.dropout = spec.dropout
        self.first = nn.Linear(num_features, spec.hidden)
        self.blocks = nn.ModuleList(nn.Linear(spec.hidden, spec.hidden) for _ in range(blocks))
        self.decpose, self.decshape, self.deccam = decoder_layers(spec.hidden, kind)
        keep_mean(self, kind)

    def forward(self, features: Float[Tensor, "B F"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """Features to rotations, betas and weak-perspective camera; `keys` determine what dropout sets to 0."""
        decoders = Decoders(self)
        drops = dropout_factors(self, keys, len(self.blocks), self.first.out_features)
        hidden = self.first(features)
        for number, block in enumerate(self.blocks):
            step = block(hidden.relu())
            hidden = hidden + (step * drops[number] if drops else step)
        mean = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1)
        return decoders.prediction(mean + decoders(hidden))
