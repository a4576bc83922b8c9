"""What the machine refuses is one message with the setting to change, not a bug in hmrb."""

import time

import pytest
import torch

from hmrb.errors import RunError
from hmrb.parallel.world import World
from hmrb.training.failures import explained, known_failure
from hmrb.training.loop import Meter


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory on the GPU"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"), "on the CPU"),
        (MemoryError(), "out of memory on the CPU"),
    ],
)
def test_out_of_memory_names_the_step_the_batch_and_the_settings(error: Exception, where: str) -> None:
    with pytest.raises(RunError) as failed, explained(7, 64):
        raise error
    for words in ("step 7", where, "64 pictures per device", "speed.device_batch", "speed.checkpointing"):
        assert words in str(failed.value)
    assert where in known_failure(error)


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="shapes"), explained(7, 64):
        raise RuntimeError("shapes cannot be multiplied")
    assert known_failure(RuntimeError("shapes cannot be multiplied")) == ""


def test_shared_memory_and_gpu_assertions_are_explained() -> None:
    bus = RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that dataloader's")
    assert "--shm-size" in known_failure(bus)
    assert "CUDA_LAUNCH_BLOCKING" in known_failure(RuntimeError("CUDA error: device-side assert triggered"))
    assert known_failure(RuntimeError("CUDA error: an illegal memory access")) == ""  # may be the machine's: retried


def test_evaluations_do_not_count_as_training_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter = Meter(World(0, 1, torch.device("cpu")))
    meter.add({"total": torch.tensor(1.0)}, 64)
    now[0] += 2  # of training
    with meter.paused():
        now[0] += 30  # of evaluation
    assert meter.facts()["images_per_s"] == pytest.approx(32)
