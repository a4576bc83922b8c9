"""Labelled bodies without their pictures: real bodies for the adversarial prior, the mean body."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from hmrb.data.mixture import MixtureSampler
from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.geometry import nearest_rotation, rotmat_to_rot6d, rotvec_to_rotmat
from hmrb.spec import DataSpec

MEAN_ROWS = 20_000  # rows per dataset for computing the mean pose
MEAN_CAMERA = (0.9, 0.0, 0.0)  # as in SPIN's smpl_mean_params.npz
REPLACEMENTS = 100  # attempts to replace a draw whose image cannot be decoded, or that has no body


@dataclass(frozen=True, slots=True)
class RealBodies:
    """Labelled bodies of a mix, one per draw; a draw of a person without a body uses its replacements.

    Bodies of the datasets in `unused` count as missing.
    """

    shards: Mapping[str, Shard]
    sampler: MixtureSampler
    unused: Collection[str] = ()

    def __call__(self, draw: int) -> tuple[Float[np.ndarray, "R 3"], Float[np.ndarray, " S"]]:
        """Pose (axis-angle, radians) and betas of a draw. Raises RunError if no replacement has a labelled body."""
        for attempt in range(REPLACEMENTS):
            name, row = self.sampler.draw(draw, attempt)
            arrays = self.shards[name].arrays
            if arrays["has_body"][row] and name not in self.unused:
                return np.array(arrays["pose"][row]), np.array(arrays["betas"][row])
        raise RunError(f"the adversarial prior found no labelled body in {', '.join(self.shards)}")


def bodiless(spec: DataSpec) -> frozenset[str]:
    """Datasets whose bodies are excluded from training."""
    return frozenset(name for name, kinds in spec.without.items() if "body" in kinds)


def known_people(shards: Mapping[str, Shard], spec: DataSpec) -> dict[str, int]:
    """How many people of each shard training knows."""
    return {name: spec.known_people(name, len(shard)) for name, shard in shards.items()}


def mean_body(shards: Mapping[str, Shard], spec: DataSpec) -> Float[torch.Tensor, " M"]:
    """Mean of the labelled bodies of a mix: 6D rotations, betas, camera: `BodyKind.mean_numbers` numbers.

    Excluded bodies count as missing. Raises RequestError if there is no labelled body.
    """
    mix, unused, known = spec.mix, bodiless(spec), known_people(shards, spec)
    kind = next(iter(shards.values())).kind
    rotation, betas, total = torch.zeros(kind.num_joints, 3, 3), torch.zeros(kind.num_betas), 0.0
    for name, shard in shards.items():
        rows = np.flatnonzero(shard.arrays["has_body"][: known[name]])
        rows = rows[:: max(len(rows) // MEAN_ROWS, 1)]
        if len(rows) and mix[name] > 0 and name not in unused:
            rotation += mix[name] * rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][rows])).mean(0)
            betas += mix[name] * torch.from_numpy(shard.arrays["betas"][rows]).mean(0)
            total += mix[name]
    if not total:
        raise RequestError(
            f"model.mean: labels: none of {', '.join(shards)} has a labelled body to start from. Mix in data with"
            f" bodies, as data.mix={{synthetic: 0.5, {next(iter(shards))}: 0.5}}; with body: smpl, model.mean: file is"
            " another way"
        )
    pose = rotmat_to_rot6d(nearest_rotation(rotation / total)).flatten()
    return torch.cat([pose, betas / total, torch.tensor(MEAN_CAMERA)])
