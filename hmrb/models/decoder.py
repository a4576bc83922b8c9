"""HMR2.0's regressor: a transformer decoder with one query that looks at the backbone's map.

Source: shubham-goel/4D-Humans@6ec7965: hmr2/models/heads/smpl_head.py, hmr2/models/components/pose_transformer.py;
with box and mean body as the query: pixelite1201/CameraHMR@65d11a0: core/heads/smpl_head_cliff.py.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from hmrb.batch import Prediction
from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.models.cameras import BOX_NUMBERS
from hmrb.models.head import Decoders, decoder_layers, keep_mean
from hmrb.models.tokens import TokenHead
from hmrb.spec import DecoderHeadSpec, TokenHeadSpec


class DecoderLayer(nn.Module):
    """Self-attention of the query, cross-attention to the map, feed-forward; each with a norm before and a sum after.

    The map is not normalised here.
    """

    def __init__(self, spec: DecoderHeadSpec | TokenHeadSpec, context: int) -> None:
        super().__init__()
        inner = spec.heads * spec.head_width
        self.heads = spec.heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(spec.width) for _ in range(3))
        self.self_qkv = nn.Linear(spec.width, 3 * inner, bias=False)
        self.self_out = nn.Linear(inner, spec.width)
        self.cross_q = nn.Linear(spec.width, inner, bias=False)
        self.cross_kv = nn.Linear(context, 2 * inner, bias=False)
        self.cross_out = nn.Linear(inner, spec.width)
        self.fc1, self.fc2 = nn.Linear(spec.width, spec.hidden), nn.Linear(spec.hidden, spec.width)

    def forward(self, query: Float[Tensor, "B Q W"], context: Float[Tensor, "B N C"]) -> Float[Tensor, "B Q W"]:
        """One layer."""
        query = query + self.self_out(self._attend(*self.self_qkv(self.norm1(query)).chunk(3, -1)))
        asked = self.cross_q(self.norm2(query))
        query = query + self.cross_out(self._attend(asked, *self.cross_kv(context).chunk(2, -1)))
        return query + self.fc2(functional.gelu(self.fc1(self.norm3(query))))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (query, key, value))
        return functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)


class CrossAttentionDecoder(nn.Module):
    """A map and the numbers of a query to one vector of `spec.width`."""

    def __init__(self, spec: DecoderHeadSpec | TokenHeadSpec, context: int, query_numbers: int) -> None:
        super().__init__()
        self.to_query = nn.Linear(query_numbers, spec.width)
        self.position = nn.Parameter(torch.randn(1, 1, spec.width))
        self.layers = nn.ModuleList(DecoderLayer(spec, context) for _ in range(spec.layers))

    def forward(self, features: Float[Tensor, "B C *cells"], numbers: Float[Tensor, "B Q"]) -> Float[Tensor, "B W"]:
        """The query after all layers; there is no norm after the last."""
        context = features.flatten(2).mT
        query = self.to_query(numbers[:, None]) + self.position
        for layer in self.layers:
            query = layer(query, context)
        return query[:, 0]


class DecoderHead(nn.Module):
    """Pose, betas and camera, each read from the decoder's vector by one layer and added to the mean body's."""

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, num_features: int, spec: DecoderHeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.rotation, self.box, self.query = spec.rotation, spec.box, spec.query
        told = kind.mean_numbers + (BOX_NUMBERS if spec.box != "none" else 0)
        self.decoder = CrossAttentionDecoder(spec, num_features, 1 if spec.query == "zero" else told)
        self.decpose, self.decshape, self.deccam = decoder_layers(spec.width, kind)
        keep_mean(self, kind)

    def forward(
        self,
        features: Float[Tensor, "B C *cells"],
        keys: Int[Tensor, " B"] | None = None,
        box: Float[Tensor, "B 3"] | None = None,
    ) -> Prediction:
        """A map, and the numbers of the box where `spec.box` asks for them, to rotations, betas and camera."""
        mean = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1).expand(len(features), -1)
        told = mean if box is None else torch.cat([box, mean], 1)
        numbers = features.new_zeros(len(features), 1) if self.query == "zero" else told
        decoders = Decoders(self)
        return decoders.prediction(mean + decoders(self.decoder(features, numbers)))


class DecodedTokens(nn.Module):
    """TokenHMR's regressor: the same decoder, and a pose made of tokens of its vector."""

    rotation, box = "rows", "none"

    def __init__(self, num_features: int, spec: TokenHeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.decoder = CrossAttentionDecoder(spec, num_features, 1)
        self.tokens = TokenHead(spec.width)

    @property
    def init_pose(self) -> Tensor:
        """The 6D rotations (rows) that are added to the pose."""
        return self.tokens.init_body_pose

    @property
    def init_shape(self) -> Tensor:
        """The betas that are added to the shape."""
        return self.tokens.init_betas

    @property
    def init_cam(self) -> Tensor:
        """The camera that is added to the predicted."""
        return self.tokens.init_cam

    def forward(self, features: Float[Tensor, "B C *cells"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """A map to rotations, betas and camera."""
        prediction: Prediction = self.tokens(self.decoder(features, features.new_zeros(len(features), 1)))
        return prediction
