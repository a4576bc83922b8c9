"""The CPU cores of this process."""

import os

from hmrb.system import cores


def usable_cores() -> int:
    """Number of CPU cores available to this process."""
    return cores()


def cores_per_process() -> float:
    """Cores for each of the processes that torchrun or torch elastic started here; srun gives each process its own."""
    return usable_cores() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
