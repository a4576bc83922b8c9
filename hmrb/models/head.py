"""Regressors: pooled features to pose, shape and camera."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, ROT6D, SMPL_KIND, BodyKind
from hmrb.geometry import rot6d_to_rotmat
from hmrb.models.dropout import drop_factors
from hmrb.spec import HeadSpec

SMALL_GAIN = 0.01  # of the last layers, so that an untrained head predicts almost the mean body (HMR, CVPR 2018)


class IterativeHead(nn.Module):
    """HMR's regressor: refines (6D pose, betas, camera) `steps` times, starting from the mean body.

    As in SPIN and the study, there is no activation between its two layers. Parameter names are the study's.
    """

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, num_features: int, spec: HeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.steps = spec.steps
        self.fc1 = nn.Linear(num_features + kind.mean_numbers, spec.hidden)
        self.fc2 = nn.Linear(spec.hidden, spec.hidden)
        self.dropout = spec.dropout
        self.decpose, self.decshape, self.deccam = _decoders(spec.hidden, kind)
        keep_mean(self, kind)

    def forward(self, features: Float[Tensor, "B F"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """Features to rotations, betas and weak-perspective camera; `keys` determine what dropout sets to 0."""
        body = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1).expand(features.shape[0], -1)
        decoders = Decoders(self)
        drops = _drops(self, keys, 2 * self.steps, self.fc1.out_features)
        for step in range(self.steps):
            hidden = self.fc1(torch.cat([features, body], 1))
            hidden = hidden * drops[2 * step] if drops else hidden
            hidden = self.fc2(hidden)
            hidden = hidden * drops[2 * step + 1] if drops else hidden
            body = body + decoders(hidden)
        return decoders.prediction(body)


class DirectHead(nn.Module):
    """Two layers with ReLU, one step from the mean body; trains in minutes on a CPU. `steps` must be 1."""

    init_pose: Tensor
    init_shape: Tensor
    init_cam: Tensor

    def __init__(self, num_features: int, spec: HeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.dropout = spec.dropout
        widths = {"0": num_features, "3": spec.hidden}  # the layers' names in checkpoints
        self.layers = nn.ModuleDict({name: nn.Linear(width, spec.hidden) for name, width in widths.items()})
        self.decpose, self.decshape, self.deccam = _decoders(spec.hidden, kind)
        for decoder in (self.decpose, self.decshape, self.deccam):
            nn.init.zeros_(decoder.bias)
        keep_mean(self, kind)

    def forward(self, features: Float[Tensor, "B F"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """Features to rotations, betas and weak-perspective camera; `keys` determine what dropout sets to 0."""
        hidden, decoders = features, Decoders(self)
        drops = _drops(self, keys, len(self.layers), self.decpose.in_features)
        for number, layer in enumerate(self.layers.values()):
            hidden = torch.relu(layer(hidden))
            hidden = hidden * drops[number] if drops else hidden
        mean = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1)
        return decoders.prediction(mean + decoders(hidden))


class Decoders:
    """A head's layers for pose, betas and camera as one product; each keeps its own parameters."""

    def __init__(self, head: nn.Module) -> None:
        layers = [getattr(head, name) for name in ("decpose", "decshape", "deccam")]
        self.sizes = [layer.out_features for layer in layers]
        self.weight = torch.cat([layer.weight for layer in layers])
        self.bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, hidden: Float[Tensor, "B F"]) -> Float[Tensor, "B M"]:
        """6D rotations, betas and camera, concatenated."""
        return nn.functional.linear(hidden, self.weight, self.bias)

    def prediction(self, body: Float[Tensor, "B M"]) -> Prediction:
        """The body that these numbers describe."""
        pose, betas, camera = body.split(self.sizes, 1)
        return Prediction(rot6d_to_rotmat(pose.unflatten(1, (-1, ROT6D))), betas, camera)


def _drops(
    head: "IterativeHead | DirectHead", keys: Int[Tensor, " B"] | None, layers: int, width: int
) -> tuple[Tensor, ...]:
    """Dropout's factors for a head's layers; empty where nothing is dropped."""
    if not head.training or not head.dropout:
        return ()
    return drop_factors(head.dropout, keys, width, 0, layers - 1)


def set_mean(head: nn.Module, mean: Float[Tensor, " M"]) -> None:
    """Set the body that the regressor starts from: 6D rotations, betas and camera, concatenated."""
    buffers = [getattr(head, name) for name in ("init_pose", "init_shape", "init_cam")]
    sizes = [buffer.shape[1] for buffer in buffers]
    for buffer, part in zip(buffers, mean.split(sizes), strict=True):
        buffer.copy_(part[None])


def mean_prediction(head: nn.Module, batch: int) -> Prediction:
    """The body that the regressor starts from, for any image: the baseline of every result."""
    pose, betas, camera = (getattr(head, name).expand(batch, -1) for name in ("init_pose", "init_shape", "init_cam"))
    return Prediction(rot6d_to_rotmat(pose.unflatten(1, (-1, ROT6D))), betas, camera)


def keep_mean(head: nn.Module, kind: BodyKind) -> None:
    """Give a head the buffers that `set_mean` fills, with every joint at rest until then."""
    head.register_buffer("init_pose", torch.tensor([1.0, 0, 0, 1, 0, 0]).repeat(kind.num_joints)[None])
    head.register_buffer("init_shape", torch.zeros(1, kind.num_betas))
    head.register_buffer("init_cam", torch.tensor([[1.0, 0, 0]]))


def _decoders(hidden: int, kind: BodyKind) -> list[nn.Linear]:
    decoders = [nn.Linear(hidden, size) for size in (kind.rot6d_numbers, kind.num_betas, CAMERA)]
    for decoder in decoders:
        nn.init.xavier_uniform_(decoder.weight, gain=SMALL_GAIN)
    return decoders


HEADS: dict[str, Callable[[int, HeadSpec, BodyKind], nn.Module]] = {"iterative": IterativeHead, "direct": DirectHead}
