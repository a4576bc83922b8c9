"""Who this process is among those of a run, and what they tell one another."""

import ctypes
import os
import platform
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, distributed

from hmrb.errors import RequestError, RunError
from hmrb.parallel.heartbeat import PATIENCE_S, Heartbeat

TIMEOUT = timedelta(seconds=2 * PATIENCE_S)  # the engine's own, which can't name who is missing: after ours
PATIENCE = timedelta(days=1)  # the same while the first process makes a dataset for all
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
FIRST_PORT, NUM_PORTS = 20_000, 12_000  # below those that Linux gives to whoever asks for any, 32,768 and up


@dataclass(frozen=True, slots=True)
class World:
    """This process's rank among `size`, and its device."""

    rank: int
    size: int
    device: torch.device
    heartbeat: Heartbeat = field(default_factory=Heartbeat, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to people."""
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
            distributed.barrier()

    def of_first(self, act: Callable[[], int]) -> int:
        """What `act` gives on the first process, on every process; the others wait for it, a day if need be."""
        if self.size == 1:
            return act()
        patient: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)
        told = torch.tensor(act() if self.is_main else 0)
        distributed.broadcast(told, 0, group=patient)
        distributed.destroy_process_group(patient)
        return int(told)

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites these tensors by those of the first process."""
        if self.size > 1:
            self.heartbeat.meetings += 1
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def gather_rows(self, rows: Num[Tensor, " n"], values: Num[Tensor, "n C"], total: int) -> Num[Tensor, "total C"]:
        """`values` of all processes in the order of their rows 0 .. total - 1, on every process, on the CPU.

        Raises RunError where a row is missing or came twice.
        """
        mine = (rows.cpu().numpy(), values.cpu().numpy())
        parts = [mine] * self.size
        if self.size > 1:
            self.heartbeat.meetings += 1
            distributed.all_gather_object(parts, mine)
        all_rows = torch.from_numpy(np.concatenate([part[0] for part in parts])).long()
        counts = torch.bincount(all_rows, minlength=total)
        if len(counts) != total or (counts != 1).any():
            wrong = (counts != 1).nonzero().flatten().tolist()
            raise RunError(f"rows {wrong[:10]} were evaluated {counts[wrong[:10]].tolist()} times, each should be once")
        out = torch.from_numpy(np.concatenate([part[1] for part in parts]))
        return out[all_rows.argsort()]


@dataclass(frozen=True, slots=True)
class Pending:
    """The result of a collective that runs in the background: other ranks may be late."""

    result: Tensor
    work: Any = None

    def wait(self) -> Tensor:
        """The result, once every rank has contributed."""
        if self.work is not None:
            self.work.wait()
        return self.result


def launched() -> bool:
    """Whether torchrun or srun started this process as one of several. srun's places are put where torchrun has its.

    A batch script and the shell of `salloc` know how many processes may be started, but are none of them: they have
    no step.
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
    """The first machine of Slurm's step: `gpu[07-09,12]` and `gpu07,gpu08` both begin with gpu07."""
    found = re.match(r"([^,\[]+)(?:\[(\w+)[^\]]*\])?([^,\[]*)", os.environ["SLURM_STEP_NODELIST"])
    if found is None:
        raise RequestError(f"SLURM_STEP_NODELIST={os.environ['SLURM_STEP_NODELIST']}: no list of machines")
    return "".join(part or "" for part in found.groups())


def job_port() -> int:
    """A port that the processes of a Slurm job agree on without talking; steps of one job have different ones."""
    job, step = int(os.environ["SLURM_JOB_ID"]), int(os.environ["SLURM_STEP_ID"])
    return FIRST_PORT + (job + 7919 * step) % NUM_PORTS  # a prime, so that the next job's steps do not follow on


def start_world() -> World:
    """The world that a launcher (torchrun, torch elastic, srun) put into the environment; alone where there is none."""
    size, rank, local = (
        int(os.environ.get(key, default)) for key, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    use_gpu = torch.cuda.is_available() and os.environ.get("HMRB_DEVICE") != "cpu"
    # srun may show each process its own GPU only: then it is number 0 to every one of them.
    device = torch.device("cuda", local % torch.cuda.device_count()) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)  # one process a core: threads of their own would spin at each other's barriers
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("cpu:gloo,cuda:nccl" if use_gpu else "gloo", timeout=TIMEOUT)
    return World(rank, size, device)


def keep_memory() -> bool:
    """Keeps what this process frees for its own next use, from here on; gives whether that can be done (with glibc).

    A step on a CPU frees gigabytes and takes them again. From the system they come emptied, page by page: a fifth of
    the time of a ResNet-50 step of 32 pictures.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    tell = ctypes.CDLL(None).mallopt
    return bool(tell(M_MMAP_MAX, 0) and tell(M_TRIM_THRESHOLD, -1))


def end_world() -> None:
    """Leaves the group of processes, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
