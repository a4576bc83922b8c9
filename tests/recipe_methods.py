"""Stand-in weights and pictures of the recorded methods, made again by rule from names and shapes."""

import gzip
import json
import math
import zlib

import numpy as np
import torch
from conftest import GOLDENS, golden
from jaxtyping import Float, UInt8
from torch import Tensor

from hmrb.batch import Conditioning

MEAN_ROTATION = {"init_pose": (1, 0, 0, 1, 0, 0), "init_body_pose": (1, 0, 0, 0, 1, 0)}  # interleaved, two vectors
TABLES = ("cls_token", "pos_embed", "pos_embedding", "init_shape", "init_betas")
GAINS = dict.fromkeys(("decpose", "decshape", "deccam", "decpose_grot", "decpose_hands"), 0.15)
GAINS |= {"cam_mlp": 0.3, "keypoint_final_layer": 4.0, "class_pred_layer": 4.0}


def method_golden(name: str) -> dict[str, np.ndarray]:
    """Every array of a recorded file of a method."""
    return golden(f"methods/{name}")


def released(method: str, prefix: str, section: str = "state_dict") -> dict[str, Tensor]:
    """The tensors of a released file below a prefix, which includes the file's wrapper, by their names there.

    The rule sees the names without the wrapper `module.` or `model.`.
    """
    with gzip.open(GOLDENS / "methods" / f"{method}_keys.json.gz", "rt") as file:
        shapes: dict[str, list[int]] = json.load(file)[section]
    return {
        key.removeprefix(prefix): torch.from_numpy(
            method_weight(key.removeprefix("module.").removeprefix("model."), tuple(shape))
        )
        for key, shape in shapes.items()
        if key.startswith(prefix)
    }


def method_weight(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The array under a name: float32, int64 for a counter, bool for a flag."""
    *_, owner, leaf = ("", *key.split("."))
    if leaf == "num_batches_tracked":
        return np.full(shape, 12345, np.int64)
    if leaf == "initialized":
        return np.zeros(shape, bool)
    if leaf == "temperature":
        return np.ones(shape, np.float32)
    if leaf == "init_cam" or (owner, leaf) == ("cam_mlp", "bias"):
        return np.array([0.9, 0.05, -0.05], np.float32).reshape(shape)
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    if leaf == "running_var":
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    if len(shape) == 1 and leaf not in ("running_mean", "bias"):  # norms; small where HRNet sums without one
        is_summed = ".fuse_layers." in key or (".branches." in key and owner == "bn2")
        return rng.uniform(*((0.2, 0.4) if is_summed else (0.6, 0.8)), shape).astype(np.float32)
    noise = rng.standard_normal(math.prod(shape) if leaf in MEAN_ROTATION else shape)
    if leaf in MEAN_ROTATION:
        mean = np.tile(np.array(MEAN_ROTATION[leaf], np.float64), noise.size // 6)
        return (mean + 0.1 * noise).astype(np.float32).reshape(shape)
    return (_size(owner, leaf, shape) * noise).astype(np.float32)


def _size(owner: str, leaf: str, shape: tuple[int, ...]) -> float:
    if leaf == "running_mean":
        return 0.1
    if leaf == "bias" or not shape:
        return 0.05
    if leaf in TABLES:
        return 0.2
    if leaf == "codebook":
        return 1.0
    if len(shape) == 6:  # one layer per joint: (1, out, in, joints, 1, 1)
        return 1 / math.sqrt(shape[2])
    usual = math.sqrt(2) if len(shape) in (3, 4) else 1.0
    return GAINS.get(owner, usual) / math.sqrt(math.prod(shape[1:]))


def pictures(height: int, width: int) -> Float[Tensor, "2 3 H W"]:
    """Two pictures, taken as already normalised: blocks of 32 px and fine noise."""
    rng = np.random.default_rng(7)
    blocks = rng.standard_normal((2, 3, -(-height // 32), -(-width // 32)))
    coarse = blocks.repeat(32, axis=2).repeat(32, axis=3)[:, :, :height, :width]
    return torch.from_numpy((0.8 * coarse + 0.5 * rng.standard_normal((2, 3, height, width))).astype(np.float32))


def photo() -> UInt8[np.ndarray, "480 640 3"]:
    """A picture of whole numbers alone; channel 0 is red."""
    blocks = np.random.default_rng(11).integers(0, 200, (60, 80, 3)).repeat(8, axis=0).repeat(8, axis=1)
    y, x = np.mgrid[0:480, 0:640]
    return (blocks + ((3 * x + 5 * y) % 56)[:, :, None]).astype(np.uint8)


def off(got: Tensor, recorded: np.ndarray) -> float:
    """Largest difference from a recording, relative to its largest value."""
    assert tuple(got.shape) == recorded.shape
    return float(np.abs(got.detach().numpy() - recorded).max() / np.abs(recorded).max())


def method_shapes(method: str, section: str = "state_dict") -> dict[str, tuple[int, ...]]:
    """The shapes of a released file, by name."""
    with gzip.open(GOLDENS / "methods" / f"{method}_keys.json.gz", "rt") as file:
        return {key: tuple(shape) for key, shape in json.load(file)[section].items()}


def method_place(knows_focal: bool) -> Conditioning:
    """Where the two recorded people stand in their pictures of 640 x 480 px, with a focal length each."""
    square = torch.tensor([[255.0, 232.5, 270.0], [400.25, 180.75, 180.0]])
    intrinsics = torch.tensor([[[f, 0, 320], [0, f, 240], [0, 0, 1]] for f in (800.0, 650.0)])
    known = torch.tensor([knows_focal, knows_focal])
    return Conditioning(square, torch.tensor([[640.0, 480.0]] * 2), torch.zeros(2, 2, 3), intrinsics, known)


def method_labels(points: int) -> dict[str, np.ndarray]:
    """Labels of the two people: key points of crop sides from its middle, of metres, poses, shapes."""
    rng = np.random.default_rng(23)
    seen2d = (rng.random((2, points, 1)) > 0.25) * rng.uniform(0.3, 1.0, (2, points, 1))
    seen3d = (rng.random((2, points, 1)) > 0.25).astype(np.float64)
    flat, deep = rng.uniform(-0.5, 0.5, (2, points, 2)), 0.5 * rng.standard_normal((2, points, 3))
    poses = {"global_orient": 0.7 * rng.standard_normal((2, 3)), "body_pose": 0.3 * rng.standard_normal((2, 69))}
    betas = 0.8 * rng.standard_normal((2, 10))
    found = {"kp2d": np.concatenate([flat, seen2d], -1), "kp3d": np.concatenate([deep, seen3d], -1), "betas": betas}
    return {key: value.astype(np.float32) for key, value in (found | poses).items()}
