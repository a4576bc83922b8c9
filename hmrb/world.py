"""Who this process is among those of a run, and what they tell one another."""

import os
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor, distributed

from hmrb.errors import RunError

TIMEOUT = timedelta(minutes=10)  # longest wait for another process before it is called lost


@dataclass(frozen=True, slots=True)
class World:
    """This process's rank among `size`, and its device."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to people."""
        return self.rank == 0

    def most(self, flag: int) -> int:
        """The largest flag of all processes."""
        if self.size == 1:
            return flag
        told = torch.tensor(flag, device=self.device)
        distributed.all_reduce(told, distributed.ReduceOp.MAX)
        return int(told)

    def sum(self, values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """The sums of the values over all processes."""
        if self.size == 1:
            return values
        total = values.clone()
        distributed.all_reduce(total)
        return total

    def barrier(self) -> None:
        """Waits until every process is here."""
        if self.size > 1:
            distributed.barrier()

    def gather_rows(self, rows: Num[Tensor, " n"], values: Num[Tensor, "n C"], total: int) -> Num[Tensor, "total C"]:
        """`values` of all processes in the order of their rows 0 .. total - 1, on every process, on the CPU.

        Raises RunError where a row is missing or came twice.
        """
        mine = (rows.cpu().numpy(), values.cpu().numpy())
        parts = [mine] * self.size
        if self.size > 1:
            distributed.all_gather_object(parts, mine)
        all_rows = torch.from_numpy(np.concatenate([part[0] for part in parts])).long()
        counts = torch.bincount(all_rows, minlength=total)
        if len(counts) != total or (counts != 1).any():
            wrong = (counts != 1).nonzero().flatten().tolist()
            raise RunError(f"rows {wrong[:10]} were evaluated {counts[wrong[:10]].tolist()} times, each should be once")
        out = torch.from_numpy(np.concatenate([part[1] for part in parts]))
        return out[all_rows.argsort()]


def start_world() -> World:
    """The world that the launcher (torchrun, torch elastic) put into the environment; alone where there is none."""
    size, rank, local = (
        int(os.environ.get(key, default)) for key, default in (("WORLD_SIZE", 1), ("RANK", 0), ("LOCAL_RANK", 0))
    )
    use_gpu = torch.cuda.is_available() and os.environ.get("HMRB_DEVICE") != "cpu"
    device = torch.device("cuda", local) if use_gpu else torch.device("cpu")
    if use_gpu:
        torch.cuda.set_device(device)
    else:
        torch.set_num_threads(1)  # one process a core: threads of their own would spin at each other's barriers
    if size > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if use_gpu else "gloo", timeout=TIMEOUT)
    return World(rank, size, device)


def end_world() -> None:
    """Leaves the group of processes, if there is one."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
