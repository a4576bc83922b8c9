"""Posed ground truth that is kept from one checkpoint to the next of a benchmark."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from hmrb.evaluation.metrics import Posed
from hmrb.system import memory_bytes

KEPT_SHARE = 0.25  # of the machine's memory, for all its processes; SMPL's vertices take 83 kB a person
SMALLEST_MACHINE = 4 << 30  # assumed where nobody knows


@dataclass(slots=True)
class Truths:
    """Posed people by what decides about them; those that no longer fit in `most_bytes` are posed each time.

    A GPU poses people faster than it could spare the memory, so only those posed on a CPU are kept.
    """

    most_bytes: int
    _kept: dict[Hashable, Posed] = field(default_factory=dict)
    _bytes: int = 0

    @classmethod
    def for_processes(cls, count: int) -> "Truths":
        """For one of `count` processes of a machine."""
        return cls(int(KEPT_SHARE * (memory_bytes() or SMALLEST_MACHINE)) // count)

    @property
    def gigabytes(self) -> float:
        """What is kept."""
        return self._bytes / 1e9

    def of(self, key: Hashable, pose: Callable[[], Posed]) -> Posed:
        """The people of a key, which are posed if they are not kept. Nobody may change them."""
        if key in self._kept:
            return self._kept[key]
        posed = pose()
        size = sum(part.nbytes for part in _tensors(posed))
        if self._bytes + size <= self.most_bytes and posed.joints.device == torch.device("cpu"):
            self._kept[key] = posed
            self._bytes += size
        return posed


def _tensors(posed: Posed) -> list[Tensor]:
    parts = (posed.joints, posed.vertices, posed.rotmats, posed.seen, posed.root)
    return [part for part in parts if part is not None]
