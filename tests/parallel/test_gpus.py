"""Each process has a GPU of its own, or one message says that there are too few."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed import HashStore

from hmrb.cli.launch import plan_processes
from hmrb.errors import RequestError
from hmrb.parallel import world
from hmrb.parallel.world import join_group, own_gpu

GPU = torch.device("cuda", 0)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_WORLD_SIZE", "CUDA_VISIBLE_DEVICES", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def test_torchrun_gets_no_two_processes_onto_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    said = []
    for local in range(4):
        with pytest.raises(
            RequestError, match=r"4 processes on this machine, which has 2 \(CUDA_VISIBLE_DEVICES=2,5\)"
        ) as error:
            own_gpu(local, 2)
        said.append(not error.value.is_shared)
    assert said == [True, False, False, False]  # one message
    assert own_gpu(1, 4) == torch.device("cuda", 1)


def test_srun_shows_each_process_its_own_gpu_as_number_0() -> None:
    assert own_gpu(3, 1) == torch.device("cuda", 0)
    assert own_gpu(3, 4) == torch.device("cuda", 3)
    with pytest.raises(RequestError, match="5 processes on this machine, which has 4 GPUs"):
        own_gpu(4, 4)


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Arguments with which process groups are started, without starting them."""
    store, started = HashStore(), []
    monkeypatch.setattr(world, "rendezvous", lambda *_, **__: iter([(store, 0, 2)]))
    monkeypatch.setattr(
        distributed, "init_process_group", lambda name, **given: started.append({"backend": name, **given})
    )
    return started


def of_gpu(bus: int, number: int = 0) -> SimpleNamespace:
    return SimpleNamespace(pci_domain_id=0, pci_bus_id=bus, pci_device_id=0, uuid=f"uuid-{number}")


def test_nccl_connects_with_its_device(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for rank in range(2):
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, rank=rank: of_gpu(0x1B, rank))
        join_group(rank, 2, GPU)
    assert [(group["backend"], group["device_id"], group["rank"]) for group in joined] == [
        ("cpu:gloo,cuda:nccl", GPU, rank) for rank in range(2)
    ]


def test_two_processes_on_one_gpu_are_refused(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    """As where srun shows every process the same GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: of_gpu(0x1B))
    join_group(0, 2, GPU)
    with pytest.raises(RequestError, match="process 1: another process has the same GPU, uuid-0; NCCL needs"):
        join_group(1, 2, GPU)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # after a restart the processes come again
    join_group(0, 2, GPU)
    assert len(joined) == 2


def test_instances_of_mig_on_one_gpu_are_one(joined: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, bus in enumerate((0x1B, 0x1C, 0x1B)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"MIG-{rank}")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _, bus=bus, rank=rank: of_gpu(bus, rank))
        if rank < 2:
            join_group(rank, 3, GPU)
    with pytest.raises(RequestError, match="process 2: another process has the same GPU, .* 0000:1b:00"):
        join_group(2, 3, GPU)


def test_without_gpus_there_is_gloo_alone(joined: list[dict[str, Any]]) -> None:
    join_group(0, 2, torch.device("cpu"))
    assert joined[0]["backend"] == "gloo"
    assert "device_id" not in joined[0]


def test_too_many_gpus_asked_for_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-aa,MIG-bb")
    with pytest.raises(
        RequestError, match=r"--gpus 4: this machine has 2 \(CUDA_VISIBLE_DEVICES=MIG-aa,MIG-bb\); use fewer"
    ):
        plan_processes(4, 1)
