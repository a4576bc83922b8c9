"""The CPU cores of this process."""

import os


def usable_cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0))


def cores_per_process() -> float:
    """Cores for each of the processes that torchrun or torch elastic started here; srun gives each process its own."""
    return usable_cores() / int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
