"""Regressors: pooled features to pose, shape and camera."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, ROT6D, SMPL_KIND, BodyKind
from hmrb.errors import RequestError
from hmrb.geometry import Layout6D, rot6d_to_rotmat, rotmat_to_rot6d
from hmrb.models.cameras import BOX_NUMBERS
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
    rotation = "interleaved"

    def __init__(self, num_features: int, spec: HeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.steps, self.box = spec.steps, spec.box
        told = BOX_NUMBERS if spec.box != "none" else 0
        self.fc1 = nn.Linear(num_features + told + kind.mean_numbers, spec.hidden)
        self.fc2 = nn.Linear(spec.hidden, spec.hidden)
        self.dropout = spec.dropout
        self.decpose, self.decshape, self.deccam = decoder_layers(spec.hidden, kind)
        keep_mean(self, kind)

    def forward(
        self,
        features: Float[Tensor, "B F"],
        keys: Int[Tensor, " B"] | None = None,
        box: Float[Tensor, "B 3"] | None = None,
    ) -> Prediction:
        """Features to rotations, betas and weak-perspective camera; `keys` determine what dropout sets to 0.

        `box` is what the head is told of the crop's place, where `spec.box` asks for it.
        """
        features = features if box is None else torch.cat([features, box], 1)
        body = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1).expand(features.shape[0], -1)
        decoders = Decoders(self)
        drops = dropout_factors(self, keys, 2 * self.steps, self.fc1.out_features)
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
    rotation, box = "interleaved", "none"

    def __init__(self, num_features: int, spec: HeadSpec, kind: BodyKind = SMPL_KIND) -> None:
        super().__init__()
        self.dropout = spec.dropout
        widths = {"0": num_features, "3": spec.hidden}  # the layers' names in checkpoints
        self.layers = nn.ModuleDict({name: nn.Linear(width, spec.hidden) for name, width in widths.items()})
        self.decpose, self.decshape, self.deccam = decoder_layers(spec.hidden, kind)
        for decoder in (self.decpose, self.decshape, self.deccam):
            nn.init.zeros_(decoder.bias)
        keep_mean(self, kind)

    def forward(self, features: Float[Tensor, "B F"], keys: Int[Tensor, " B"] | None = None) -> Prediction:
        """Features to rotations, betas and weak-perspective camera; `keys` determine what dropout sets to 0."""
        hidden, decoders = features, Decoders(self)
        drops = dropout_factors(self, keys, len(self.layers), self.decpose.in_features)
        for number, layer in enumerate(self.layers.values()):
            hidden = torch.relu(layer(hidden))
            hidden = hidden * drops[number] if drops else hidden
        mean = torch.cat([self.init_pose, self.init_shape, self.init_cam], 1)
        return decoders.prediction(mean + decoders(hidden))


class Decoders:
    """A head's layers for pose, betas and camera as one product; each keeps its own parameters."""

    def __init__(self, head: Any) -> None:
        layers = [getattr(head, name) for name in ("decpose", "decshape", "deccam")]
        self.sizes = [layer.out_features for layer in layers]
        self.rotation = rotation_of(head)
        self.weight = torch.cat([layer.weight for layer in layers])
        self.bias = torch.cat([layer.bias for layer in layers])

    def __call__(self, hidden: Float[Tensor, "B F"]) -> Float[Tensor, "B M"]:
        """6D rotations, betas and camera, concatenated."""
        return nn.functional.linear(hidden, self.weight, self.bias)

    def prediction(self, body: Float[Tensor, "B M"]) -> Prediction:
        """The body that these numbers describe."""
        pose, betas, camera = body.split(self.sizes, 1)
        return Prediction(rot6d_to_rotmat(pose.unflatten(1, (-1, ROT6D)), self.rotation), betas, camera)


def dropout_factors(head: Any, keys: Int[Tensor, " B"] | None, layers: int, width: int) -> tuple[Tensor, ...]:
    """Factors of dropout for the layers of a head, by its share `dropout`; empty where nothing is dropped.

    They depend on the draws' `keys` alone, so a resumed run repeats them.
    """
    if not head.training or not head.dropout:
        return ()
    return drop_factors(head.dropout, keys, width, 0, layers - 1)


def set_mean(head: nn.Module, mean: Float[Tensor, " M"]) -> None:
    """Set the body that the regressor starts from: 6D rotations (interleaved), betas and camera, concatenated.

    A head that reads six numbers in another way gets the same rotations in its own.
    """
    buffers = [getattr(head, name) for name in ("init_pose", "init_shape", "init_cam")]
    sizes = [buffer.shape[1] for buffer in buffers]
    pose, *others = mean.split(sizes)
    if (layout := rotation_of(head)) != "interleaved":
        pose = rotmat_to_rot6d(rot6d_to_rotmat(pose.view(-1, ROT6D)), layout).flatten()
    for buffer, part in zip(buffers, (pose, *others), strict=True):
        buffer.copy_(part[None])


def rotation_of(head: nn.Module) -> Layout6D:
    """How a head reads six numbers as a rotation; heads of other packages as HMR does, unless they say otherwise."""
    layout: Layout6D = getattr(head, "rotation", "interleaved")
    return layout


def mean_prediction(head: nn.Module, batch: int) -> Prediction:
    """The body that the regressor starts from, for any image: the baseline of every result."""
    pose, betas, camera = (getattr(head, name).expand(batch, -1) for name in ("init_pose", "init_shape", "init_cam"))
    return Prediction(rot6d_to_rotmat(pose.unflatten(1, (-1, ROT6D)), rotation_of(head)), betas, camera)


def keep_mean(head: nn.Module, kind: BodyKind) -> None:
    """Give a head its mean body, the buffers `init_pose`, `init_shape` and `init_cam`: a body at rest until set."""
    at_rest = rotmat_to_rot6d(torch.eye(3), rotation_of(head))
    head.register_buffer("init_pose", at_rest.repeat(kind.num_joints)[None])
    head.register_buffer("init_shape", torch.zeros(1, kind.num_betas))
    head.register_buffer("init_cam", torch.tensor([[1.0, 0, 0]]))


def decoder_layers(hidden: int, kind: BodyKind) -> list[nn.Linear]:
    """The last layers of a head: to 6D rotations, betas and camera."""
    decoders = [nn.Linear(hidden, size) for size in (kind.rot6d_numbers, kind.num_betas, CAMERA)]
    for decoder in decoders:
        nn.init.xavier_uniform_(decoder.weight, gain=SMALL_GAIN)
    return decoders


@torch.no_grad()
def check_head(head: Any, num_features: int, kind: BodyKind) -> None:
    """Raises RequestError if a head lacks its mean body, or predicts something else than a body."""
    if not isinstance(head, nn.Module):
        raise RequestError(f"it is a {type(head).__name__}, not a torch.nn.Module")
    buffers = dict(head.named_buffers())
    if lacking := [name for name in ("init_pose", "init_shape", "init_cam") if name not in buffers]:
        raise RequestError(f"it lacks {', '.join(lacking)}; call hmrb.models.head.keep_mean in its constructor")
    found = head.eval()(torch.zeros(2, num_features), None)
    head.train()
    if not isinstance(found, Prediction):
        raise RequestError(f"it returns a {type(found).__name__}, not a hmrb.batch.Prediction")
    shapes = [tuple(tensor.shape) for tensor in found.tensors]
    wanted = [(2, kind.num_joints, 3, 3), (2, kind.num_betas), (2, CAMERA)]
    if shapes != wanted:
        raise RequestError(f"for two people it returns shapes {shapes}, expected {wanted}")
