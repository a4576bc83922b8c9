"""TokenHMR's head: pose as a soft choice of tokens, which a tokenizer trained on motion capture turns into rotations.

From saidwivedi/TokenHMR@198645f. Parameter names are those of its files: of the network's checkpoint below `smpl_head.`
for `TokenHead`, and of `tokenizer.pth` for `PoseTokenizer`. The checkpoint holds no tokenizer, so both files are needed
to run the network. Its recipe has dropout at 0; there is none here.
"""

from collections import OrderedDict

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, ROT6D, SMPL_KIND
from hmrb.geometry import rot6d_to_rotmat
from hmrb.models.foreign import DROP, Rules

NUM_TOKENS = 160  # of one pose; TokenHMR's release and paper
NUM_CODES = 2048
CODE_WIDTH = 256
BODY_JOINTS = 21  # that the tokenizer knows: SMPL's without root and hands
HAND_JOINTS = 2
MIXER_LAYERS = 4
DECODER_LENGTHS = (125, 90, 55, 21)  # linspace(21, 160, 4, endpoint=False), in whole numbers and reversed
ENCODER_LENGTHS = (40, 80, 160, 320)  # nearly twice the joints, then doubled; a stride of 2 ends at NUM_TOKENS


class TokenHead(nn.Module):
    """A decoder's vector to a body: root and hands by linear layers, the other joints by tokens (CVPR 2024).

    From tokenhmr/lib/models/heads/token_head.py. `tokenizer` is frozen; its weights come from `tokenizer.pth`. The sum
    with `init_body_pose` has a meaning only with the numbers of the checkpoint, which may be no pose near the mean.
    """

    init_body_pose: Tensor
    init_betas: Tensor
    init_cam: Tensor

    def __init__(self, features: int = 1024) -> None:
        super().__init__()
        self.decpose_grot = nn.Linear(features, ROT6D)
        self.decpose = TokenClassifier(features)
        self.decpose_hands = nn.Linear(features, HAND_JOINTS * ROT6D)
        self.decshape = nn.Linear(features, SMPL_KIND.num_betas)
        self.deccam = nn.Linear(features, CAMERA)
        self.tokenizer = TokenDecoder().requires_grad_(False)
        rest = torch.tensor([1.0, 0, 0, 0, 1, 0])
        self.register_buffer("init_body_pose", rest.repeat(SMPL_KIND.num_joints)[None])
        self.register_buffer("init_betas", torch.zeros(1, SMPL_KIND.num_betas))
        self.register_buffer("init_cam", torch.tensor([[1.0, 0, 0]]))

    def forward(self, token: Float[Tensor, "B F"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """A decoder's vector to rotations, betas and weak-perspective camera. `keys` are not needed."""
        return self.with_scores(token)[0]

    def with_scores(self, token: Float[Tensor, "B F"]) -> tuple[Prediction, Float[Tensor, "B T K"]]:
        """The prediction, and the scores (logits) of every code for each token."""
        scores = self.decpose(token)
        body = self.tokenizer.decode(scores.softmax(-1)).flatten(1)
        pose = torch.cat([self.decpose_grot(token), body, self.decpose_hands(token)], 1) + self.init_body_pose
        betas, camera = self.decshape(token) + self.init_betas, self.deccam(token) + self.init_cam
        return Prediction(rot6d_to_rotmat(pose.unflatten(1, (-1, ROT6D)), "rows"), betas, camera), scores


class TokenClassifier(nn.Module):
    """Which code each token is: an MLP-mixer from one vector (tokenhmr/lib/models/heads/token_classifier.py)."""

    def __init__(self, features: int = 1024, width: int = 64) -> None:
        super().__init__()
        self.mixer_trans = _normed(features, NUM_TOKENS * width)
        self.mixer_head = nn.Sequential(*(MixerLayer(NUM_TOKENS, width) for _ in range(MIXER_LAYERS)))
        self.mixer_norm_layer = _normed(width, width)
        self.class_pred_layer = nn.Linear(width, NUM_CODES)

    def forward(self, token: Float[Tensor, "B F"]) -> Float[Tensor, "B T K"]:
        """The scores (logits) of every code for each token."""
        mixed = self.mixer_head(self.mixer_trans(token).unflatten(1, (NUM_TOKENS, -1)))
        return self.class_pred_layer(self.mixer_norm_layer(mixed))


class MixerLayer(nn.Module):
    """A layer of MLP-Mixer (Tolstikhin et al., NeurIPS 2021): mixes tokens, then channels."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.layernorm1, self.layernorm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.MLP_token = _perceptron(tokens, 64)
        self.MLP_channel = _perceptron(width, 256)

    def forward(self, x: Float[Tensor, "B T C"]) -> Float[Tensor, "B T C"]:
        """Mix tokens and channels."""
        x = x + self.MLP_token(self.layernorm1(x).mT).mT
        return x + self.MLP_channel(self.layernorm2(x))


class TokenDecoder(nn.Module):
    """Tokens to rotations: the part of the tokenizer that the network runs (tokenization/models/)."""

    def __init__(self, width: int = 512) -> None:
        super().__init__()
        shrinking = (layer for length in DECODER_LENGTHS for layer in _resized(width, length))
        last = nn.Sequential(_residual(width), _conv(width, width))
        layers = (_conv(CODE_WIDTH, width), nn.ReLU(), *shrinking, last, _conv(width, ROT6D))
        self.decoder = _named("decoder", *layers)
        self.quantizer = Codebook()

    def decode(self, choice: Float[Tensor, "B T K"]) -> Float[Tensor, "B 21 6"]:
        """Each code's share in each token to the body's rotations, six numbers each, in the layout `rows`."""
        return self.decoder((choice @ self.quantizer.codebook).mT).mT


class PoseTokenizer(TokenDecoder):
    """The complete tokenizer: a VQ-VAE of body poses (tokenization/models/vanilla_pose_vqvae.py)."""

    def __init__(self, width: int = 512) -> None:
        super().__init__(width)
        growing = (layer for length in ENCODER_LENGTHS for layer in _resized(width, length))
        halving = nn.Sequential(nn.Conv1d(width, width, 4, stride=2, padding=1), _residual(width))
        layers = (_conv(ROT6D, width), nn.ReLU(), *growing, halving, _conv(width, CODE_WIDTH))
        self.encoder = _named("encoder", *layers)

    def latents(self, rot6d: Float[Tensor, "B 21 6"]) -> Float[Tensor, "B T C"]:
        """The body's rotations, as the layout `rows` reads them, to one vector per token."""
        return self.encoder(rot6d.mT).mT

    def encode(self, rot6d: Float[Tensor, "B 21 6"]) -> Int[Tensor, "B T"]:
        """The number of the code nearest to each token's vector."""
        return torch.cdist(self.latents(rot6d), self.quantizer.codebook[None]).argmin(2)


class Codebook(nn.Module):
    """The vectors that tokens choose from; moving averages in training, no parameters."""

    codebook: Float[Tensor, "K C"]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("codebook", torch.randn(NUM_CODES, CODE_WIDTH))


class ResidualConv(nn.Module):
    """Two convolutions, each after a ReLU, added to the input."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(width, width, 1)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        """Add what the convolutions find."""
        return x + self.conv2(self.conv1(x.relu()).relu())


def _residual(width: int) -> nn.Sequential:
    return _named("model", ResidualConv(width, 3), ResidualConv(width, 1))  # the wider dilation first


def _resized(width: int, length: int) -> tuple[nn.Module, ...]:
    return nn.Upsample(length), _conv(width, width), nn.ReLU()  # the nearest value


def _conv(inputs: int, outputs: int) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, 3, padding=1)


def _normed(inputs: int, outputs: int) -> nn.Sequential:
    return _named("ff", nn.Linear(inputs, outputs), nn.LayerNorm(outputs), nn.ReLU())


def _perceptron(width: int, hidden: int) -> nn.Sequential:
    return _named("ff", nn.Linear(width, hidden), nn.GELU(), nn.Identity(), nn.Linear(hidden, width))


def _named(name: str, *layers: nn.Module) -> nn.Sequential:
    """Layers in a row, one level down: their files wrap them so."""
    return nn.Sequential(OrderedDict({name: nn.Sequential(*layers)}))


# Names in `tokenizer.pth` to those in `TokenHead`, which does not encode.
RELEASED_TOKENIZER: Rules = ((r"^encoder\..*", DROP), (r"^(decoder|quantizer)\.", r"tokenizer.\1."))
