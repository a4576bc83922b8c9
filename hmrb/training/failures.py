"""Explains failures of the machine: out of memory, /dev/shm too small, a failed assertion on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hmrb.errors import RunError

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "CUBLAS_STATUS_ALLOC_FAILED")
SHARED_MEMORY = ("shared memory", "Bus error", "shm")
KNOBS = "speed.device_batch (smaller micro-batches), speed.checkpointing: true, optim.precision: bf16"


@contextmanager
def explained(step: int, device_batch: int) -> Iterator[None]:
    """Raises RunError with the step, the batch per device and the settings to change if memory runs out inside."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        reason = memory_problem(error)
        if not reason:
            raise
        raise RunError(
            f"step {step}: {reason} with {device_batch} pictures per device at a time. Change one of: {KNOBS}"
        ) from None


def memory_problem(error: BaseException) -> str:
    """What ran out of memory, in words; empty for other errors."""
    text = str(error)
    is_memory = isinstance(error, MemoryError | torch.OutOfMemoryError) or any(word in text for word in OUT_OF_MEMORY)
    if not is_memory:
        return ""
    is_cuda = isinstance(error, torch.OutOfMemoryError) or "CUDA" in text
    return f"out of memory on {'the GPU' if is_cuda else 'the CPU'}"


def known_failure(error: BaseException) -> str:
    """A message for failures that a retry would repeat and that are no bug in hmrb; empty for others."""
    text = str(error)
    if reason := memory_problem(error):
        return f"{reason}. Change one of these settings: {KNOBS}; or use fewer data.workers"
    if "DataLoader worker" in text and any(word in text for word in SHARED_MEMORY):
        return (
            "a loading worker ran out of shared memory (/dev/shm): start the container with more (docker run"
            " --shm-size=8g), or set data.workers: 0"
        )
    if "deterministic" in text and "use_deterministic_algorithms" in text:
        return f"speed.deterministic: {text.splitlines()[0].partition(' You can')[0]} Set it to false for this model"
    if "device-side assert" in text:
        return (
            "an assertion failed on the GPU, and would fail again: usually an index out of range in labels; run once"
            " with CUDA_LAUNCH_BLOCKING=1, or on the CPU (--gpus 0), to see where"
        )
    return ""
