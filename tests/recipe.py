"""The stand-in weights of the goldens: a checkpoint of any size, made again from names and shapes alone."""

import gzip
import json
import math
import zlib

import numpy as np
import torch
from conftest import GOLDENS


def recipe(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The array under a name: float32, or int64 for a counter."""
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])
    leaf = key.rsplit(".", 1)[-1]
    if leaf == "num_batches_tracked":
        return np.full(shape, 12345, np.int64)
    if leaf == "running_var":
        return rng.uniform(0.6, 1.4, shape).astype(np.float32)
    if leaf == "running_mean":
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if key == "head.init_pose":
        base = np.tile(np.array([1, 0, 0, 1, 0, 0], np.float64), 24)
        return (base + 0.1 * rng.standard_normal(144)).astype(np.float32).reshape(shape)
    if key == "head.init_cam":
        return np.array([0.9, 0.05, -0.05], np.float32).reshape(shape)
    if leaf == "bias" or len(shape) == 0:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    if len(shape) == 1:
        return rng.uniform(0.6, 0.8, shape).astype(np.float32)
    if leaf in ("cls_token", "pos_embed", "relative_position_bias_table", "init_shape"):
        return (0.2 * rng.standard_normal(shape)).astype(np.float32)
    gain = math.sqrt(2.0) if len(shape) == 4 else 1.0
    if key.split(".")[-2] in ("decpose", "decshape", "deccam"):
        gain = 0.15
    return (gain / math.sqrt(math.prod(shape[1:])) * rng.standard_normal(shape)).astype(np.float32)


def study_state(backbone: str) -> dict[str, torch.Tensor]:
    """A state dict as the study saves it; `backbone` is its own name for it."""
    with gzip.open(GOLDENS / "state_dict_keys.json.gz", "rt") as file:
        shapes = json.load(file)[backbone]
    return {key: torch.from_numpy(np.asarray(recipe(key, tuple(shape)))) for key, shape in shapes.items()}
