"""This process's rank and device, and the collectives of its process group."""

import os
import re
import socket
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, distributed
from torch.distributed.rendezvous import rendezvous

from hmrb.errors import RequestError, RunError
from hmrb.parallel.heartbeat import PATIENCE_S, Heartbeat

TIMEOUT = timedelta(seconds=2 * PATIENCE_S)  # torch's own, which can't name the missing rank: after ours
PATIENCE = timedelta(days=1)  # the same while rank 0 renders a dataset for all
FEWER = "Start one process per GPU: torchrun --nproc-per-node N, srun --ntasks-per-node N, or hmrb --gpus N"
FIRST_PORT, NUM_PORTS = 20_000, 12_000  # below Linux's ephemeral ports, 32,768 and up


Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class World:
    """This process's rank among `size`, and its device."""

    rank: int
    size: int
    device: torch.device
    heartbeat: Heartbeat = field(default_factory=Heartbeat, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints: rank 0."""
        return self.rank == 0

    def max(self, flag: int) -> int:
        """The largest flag of all ranks."""
        return int(self.start_max(torch.tensor(flag)).wait())

    def start_max(self, flag: Int[Tensor, ""]) -> "Pending":
        """Starts to exchange a flag; `wait` returns the largest of all ranks.

        Leave a flag that the CPU knows on the CPU: a GPU would first finish its queue.
        """
        return self._start(flag, distributed.ReduceOp.MAX)

    def sum(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The sums of the values over all ranks."""
        return self.start_sum(values).wait()

    def start_sum(self, values: Float[Tensor, " n"]) -> "Pending":
        """Starts to sum the values over all ranks; `wait` returns the sums."""
        return self._start(values, distributed.ReduceOp.SUM)

    def _start(self, values: Tensor, operation: Any) -> "Pending":
        if self.size == 1:
            return Pending(values)
        self.heartbeat.meetings += 1
        reduced = values.clone()
        return Pending(reduced, distributed.all_reduce(reduced, operation, async_op=True))

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            self.heartbeat.meetings += 1
            distributed.all_reduce(torch.zeros(1))  # distributed.barrier would use the GPU, and NCCL names nobody

    def from_first(self, act: Callable[[], Result]) -> Result:
        """Runs `act` on rank 0 and returns its result on every rank, so that all go by one reading of a file.

        A RequestError or RunError of `act` is raised on every rank, marked as shared. The others wait up to a day.
        """
        if self.size == 1:
            return act()
        answer: list[Any] = [None]
        if self.is_main:
            try:
                answer = [act()]
            except (RequestError, RunError) as error:
                error.is_shared = True
                answer = [error]
        self.heartbeat.meetings += 1
        patient: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)
        distributed.broadcast_object_list(answer, 0, group=patient, device=torch.device("cpu"))
        distributed.destroy_process_group(patient)
        if isinstance(answer[0], RequestError | RunError):
            answer[0].is_shared = True  # pickling drops it
            raise answer[0]
        result: Result = answer[0]
        return result

    def agree(self, values: Num[Tensor, " n"]) -> bool:
        """Whether every rank has the same values, to the last digit."""
        largest = self._start(torch.cat([values, -values]), distributed.ReduceOp.MAX).wait()
        return bool((largest == torch.cat([values, -values])).all())

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites these tensors with those of rank 0."""
        if self.size > 1:
            self.heartbeat.meetings += 1
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather_rows(
        self, rows: Int[Tensor, " n"], columns: Mapping[str, Num[Tensor, "n ..."]], total: int
    ) -> dict[str, Num[Tensor, "total ..."]]:
        """The columns of all ranks, ordered by their rows 0 .. total - 1, on every rank, on the CPU.

        A rank without rows may leave out the columns. Raises RunError if a row is missing or duplicated.
        """
        mine = (rows.cpu().numpy(), {name: column.cpu().numpy() for name, column in columns.items()})
        parts = [mine] * self.size
        if self.size > 1:
            self.heartbeat.meetings += 1
            distributed.all_gather_object(parts, mine)
        parts = [part for part in parts if len(part[0])]
        all_rows = np.concatenate([np.zeros(0, np.int64), *(part[0] for part in parts)])
        counts = np.bincount(all_rows, minlength=total)
        if len(counts) != total or (counts != 1).any():
            wrong = np.flatnonzero(counts != 1)[:10]
            raise RunError(f"rows {wrong.tolist()} were evaluated {counts[wrong].tolist()} times, expected once each")
        order = all_rows.argsort()
        return {
            name: torch.from_numpy(np.concatenate([part[1][name] for part in parts])[order]) for name in parts[0][1]
        }


@dataclass(frozen=True, slots=True)
class Pending:
    """The result of a collective that runs in the background: other ranks may be late."""

    result: Tensor
    work: Any = None
    copied: "HostCopy | None" = None

    def wait(self) -> Tensor:
        """The result, once every rank has contributed."""
        if self.work is not None:
            self.work.wait()
        return self.result

    def to_host(self) -> "Pending":
        """Also starts to copy the result of a GPU to the host, beside what is queued after this call."""
        return replace(self, copied=HostCopy(self)) if self.result.is_cuda else self

    def number(self) -> int:
        """The result as a number. After `to_host`, this waits for what the result was computed from, and no more."""
        return self.copied.wait() if self.copied else int(self.wait())


class HostCopy:
    """A copy of a GPU's number to page-locked memory, on a stream of its own."""

    def __init__(self, pending: Pending) -> None:
        device = pending.result.device
        computing, copying = torch.cuda.current_stream(device), _copying(device)
        copying.wait_stream(computing)
        with torch.cuda.stream(copying):
            result = pending.wait()
            self._value = torch.empty(result.shape, dtype=result.dtype, pin_memory=True)
            self._value.copy_(result, non_blocking=True)
            result.record_stream(copying)
            self._event = copying.record_event()

    def wait(self) -> int:
        """The number, once it is here."""
        self._event.synchronize()
        return int(self._value)


@cache
def _copying(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)


def launched() -> bool:
    """Whether torchrun or srun started this process as one of several. Copies srun's variables to torchrun's names.

    Batch scripts and `salloc` shells also see SLURM_NTASKS, but they are not tasks: they have no SLURM_STEP_ID.
    """
    step = os.environ.get("SLURM_STEP_ID", "")
    if "WORLD_SIZE" not in os.environ and step.isdigit() and os.environ.get("SLURM_NTASKS", "1") != "1":
        os.environ |= {
            "RANK": os.environ["SLURM_PROCID"],
            "WORLD_SIZE": os.environ["SLURM_NTASKS"],
            "LOCAL_RANK": os.environ["SLURM_LOCALID"],
            "MASTER_ADDR": os.environ.get("MASTER_ADDR", first_host()),
            "MASTER_PORT": os.environ.get("MASTER_PORT", str(job_port())),
        }
    return "WORLD_SIZE" in os.environ


def first_host() -> str:
    """The first host of Slurm's step: gpu07 for both `gpu[07-09,12]` and `gpu07,gpu08`."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\])?([^,\[]*)", os.environ["SLURM_STEP_NODELIST"])
    if found is None:
        raise RequestError(f"SLURM_STEP_NODELIST={os.environ['SLURM_STEP_NODELIST']}: not a list of hosts")
    return "".join(part or "" for part in found.groups())


def job_port() -> int:
    """A port derived from Slurm's job and step ids, so all processes agree on it; steps of one job differ."""
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    return FIRST_PORT + (job + 7919 * step) % NUM_PORTS  # a prime, so that steps do not collide with the next jobs


def start_world() -> World:
    """Joins the process group of the launcher (torchrun, torch elastic, srun); without one, a world of size 1."""
    size, rank, local = (
        int(os.environ.get(key, default)) for key, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    use_gpu = torch.cuda.is_available() and os.environ.get("HMRB_DEVICE") != "cpu"
    if use_gpu:
        device = own_gpu(local, torch.cuda.device_count())
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
        torch.set_num_threads(1)  # one process per core: more threads would compete for the same cores
    if size > 1 and not distributed.is_initialized():
        join_group(rank, size, device)
    return World(rank, size, device)


def own_gpu(local: int, visible: int) -> torch.device:
    """The GPU of a machine's process `local`. Raises RequestError if the machine shows fewer GPUs than processes."""
    told = os.environ.get("LOCAL_WORLD_SIZE")  # not by srun, which may show each process only its own GPU, as number 0
    count = int(told) if told else local + 1
    if count > visible and (told or visible > 1):
        error = RequestError(f"{count} processes on this machine, which has {visible_gpus(visible)} GPUs. {FEWER}")
        error.is_shared = bool(told) and local > 0  # process 0 says it
        raise error
    return torch.device("cuda", local if visible > 1 else 0)


def visible_gpus(count: int) -> str:
    """How many GPUs are visible, and the variable that limits them."""
    limit = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(count or "none") + ("" if limit is None else f" (CUDA_VISIBLE_DEVICES={limit})")


def join_group(rank: int, size: int, device: torch.device) -> None:
    """Joins the process group of the launcher's store: gloo for CPU tensors, NCCL for GPU tensors.

    With its device, NCCL connects here, where a failure has a cause, and not in the first step. Raises RequestError
    if two processes share a GPU, which NCCL does not support.
    """
    store, *_ = next(rendezvous("env://", rank, size, timeout=TIMEOUT))
    store.set_timeout(TIMEOUT)
    if device.type == "cpu":
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
        return
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    if store.add(f"gpu/{attempt}/{gpu_id(device)}", 1) > 1:
        raise RequestError(
            f"process {rank}: another process has the same GPU, {gpu_id(device)}; NCCL needs one for each, and counts"
            f" instances of MIG on one GPU as one. {FEWER}"
        )
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl", store=store, rank=rank, world_size=size, timeout=TIMEOUT, device_id=device
    )


def gpu_id(device: torch.device) -> str:
    """What NCCL tells GPUs apart by: instances of MIG on one GPU have names of their own, but one PCI address."""
    about: Any = torch.cuda.get_device_properties(device)
    if "MIG-" in os.environ.get("CUDA_VISIBLE_DEVICES", "") and hasattr(about, "pci_bus_id"):  # not in older torch
        return f"{socket.gethostname()} {about.pci_domain_id:04x}:{about.pci_bus_id:02x}:{about.pci_device_id:02x}"
    return str(about.uuid)


def end_world() -> None:
    """Leaves the process group, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
