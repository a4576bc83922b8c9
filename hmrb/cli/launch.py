"""Runs one job in many processes, started by torch elastic (on one machine or several), torchrun or srun."""

import logging
import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import typer

from hmrb.cli.needs import message_of
from hmrb.errors import RequestError, RunError

if TYPE_CHECKING:
    from hmrb.parallel.world import World

FAILED, REFUSED = 1, 2
GO_ON, AGAIN = "continue with --resume", "run the command again"
MEETING_S = 300  # timeout for reaching the rendezvous host
LAST_WORDS_S = 120  # time for a process to write its checkpoint after a stop signal
# torch raises a plain RuntimeError when a process, its device or the network fails; these words identify it.
LOST = ("gloo", "NCCL", "onnection", "EADDRINUSE", "CUDA error", "DataLoader worker")

PANEL = "GPUs, processes and machines"
Gpus = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="GPUs per machine, one process each; 0: use the CPU.  [default: all]",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
CpuProcs = Annotated[
    int, typer.Option(min=1, help="Without GPUs: processes per machine, one thread each.", rich_help_panel=PANEL)
]


@dataclass(frozen=True, slots=True)
class Processes:
    """Processes per machine, their device type, the number of machines and the rendezvous HOST:PORT."""

    count: int
    use_gpu: bool
    nodes: int = 1
    rdzv: str = ""

    @property
    def total(self) -> int:
        """Processes on all machines."""
        return self.count * self.nodes

    def words(self) -> tuple[str, ...]:
        """The same as flags of hmrb."""
        if self.use_gpu:
            return "--gpus", str(self.count)
        return "--gpus", "0", "--cpu-procs", str(self.count)


@runtime_checkable  # tests check types
class Job(Protocol):
    """The work of a group of processes. It is pickled to reach them."""

    @property
    def name(self) -> str:
        """Identifies the job at the rendezvous."""

    @property
    def folder(self) -> Path | None:
        """Where a job that may restart records its final exit code; None if it never restarts."""

    def prepare(self) -> None:
        """Runs in one process, before the others start. Raises RequestError and RunError."""

    def run(self, world: "World") -> None:
        """Runs in every process."""


def plan_processes(gpus: int | None, cpu_procs: int, nodes: int = 1, rdzv: str = "") -> Processes:
    """Checks the request against this machine; `gpus=None` uses all GPUs. Raises RequestError."""
    import torch

    from hmrb.parallel.world import launched, visible_gpus

    if launched():
        if nodes > 1:
            raise RequestError(f"--nodes {nodes}: torchrun or srun already started the processes; omit it")
        return Processes(int(os.environ["WORLD_SIZE"]), torch.cuda.is_available() and gpus != 0)
    if nodes > 1 and not rdzv:
        raise RequestError(f"--nodes {nodes}: set --rdzv HOST:PORT, where the machines connect, or use --slurm")
    if rdzv and nodes == 1:
        raise RequestError(f"--rdzv {rdzv}: set --nodes N, the number of machines that connect there")
    if rdzv and not re.fullmatch(r"[^:\s]+:\d{1,5}", rdzv):
        raise RequestError(f"--rdzv {rdzv}: write it as HOST:PORT, one of the machines and a free port on it")
    there = torch.cuda.device_count()  # of CUDA_VISIBLE_DEVICES, if that is set
    if gpus is not None and gpus > there:
        has = f"has {visible_gpus(there)}"
        raise RequestError(f"--gpus {gpus}: this machine {has}; use fewer, or --cpu-procs N to train on the CPU")
    count = there if gpus is None else gpus
    return Processes(count, True, nodes, rdzv) if count else Processes(cpu_procs, False, nodes, rdzv)


def launch(processes: Processes, job: Job, max_restarts: int = 0) -> None:
    """Runs the job in the planned processes and restarts all of them if one dies. Exits with their exit code.

    The launcher prepares the job. Under torchrun, srun or several machines, rank 0 prepares it while the others wait.
    A single process without restarts runs here, without a second process to watch it.
    """
    from hmrb.parallel.world import launched

    os.environ["HMRB_DEVICE"] = "cuda" if processes.use_gpu else "cpu"
    is_one_of_many = launched() or processes.nodes > 1
    if not is_one_of_many:
        job.prepare()
    is_here = launched() or (processes.total == 1 and not max_restarts)
    start = work if is_here else partial(_by_elastic, processes, max_restarts)
    if code := start(job, not is_one_of_many):
        sys.exit(code)


def restarts() -> int:
    """How often torch elastic has restarted the processes of this job."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _by_elastic(processes: Processes, max_restarts: int, job: Job, is_prepared: bool) -> int:
    """Runs the job in processes that torch elastic starts, watches and ends. Returns their highest exit code."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousTimeoutError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from hmrb.parallel.world import TIMEOUT

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our workers print their own errors
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(LAST_WORDS_S))
    # A store that survives restarts gives new processes the addresses of dead ones (torch 2.14).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=processes.nodes, max_nodes=processes.nodes, nproc_per_node=processes.count,
        rdzv_backend="c10d", **_meeting(processes, job),
        max_restarts=max_restarts, monitor_interval=0.5, start_method="spawn",
    )  # fmt: skip
    try:
        codes = elastic_launch(config, work)(job, is_prepared, os.getpid())
    except SignalException as stopped:
        return 128 + stopped.sigval
    except (RendezvousConnectionError, RendezvousTimeoutError):
        raise RunError(
            f"the {processes.nodes} machines did not all connect to {processes.rdzv}: start hmrb on each of them with"
            " the same command, and check that the port is open"
        ) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode  # the process printed why
        after = f" after {max_restarts} restarts" if max_restarts else ""
        by_nccl = f" (NCCL sends it after {TIMEOUT.total_seconds():.0f} s without an answer)"
        aborted = by_nccl if failure.exitcode == -signal.SIGABRT else ""
        raise RunError(
            f"process {rank} was killed by signal {-failure.exitcode}{aborted}{after}; {GO_ON if job.folder else AGAIN}"
        ) from None
    return max(codes.values())


def _meeting(processes: Processes, job: Job) -> dict[str, Any]:
    """Rendezvous settings of torch elastic: a free local port for one machine, the --rdzv host for several."""
    if processes.nodes == 1:
        return {"rdzv_endpoint": "127.0.0.1:0", "run_id": f"hmrb-{os.getpid()}"}
    host, _, port = processes.rdzv.partition(":")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise RequestError(f"--rdzv {processes.rdzv}: unknown host '{host}' ({error.strerror})") from None
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0))  # succeeds only on the machine that has this address
            is_host, mine = True, host
        except OSError:
            probe.connect(address)  # sends nothing; selects this machine's address on the route to the host
            is_host, mine = False, probe.getsockname()[0]
    say(f"waiting for {processes.nodes} machines at {processes.rdzv}; this one is {mine}")
    return {
        "rdzv_endpoint": processes.rdzv,
        "run_id": job.name,
        "local_addr": mine,  # torch's default is the host name, which other machines may not resolve
        "rdzv_configs": {"is_host": is_host, "read_timeout": MEETING_S},
    }


def work(job: Job, is_prepared: bool, launcher: int = 0) -> int:
    """Runs one process of a job. Returns its exit code, after printing to stderr why it is not 0.

    If a process dies without a recorded exit code, all processes restart. `launcher` is the pid of its parent.
    """
    from hmrb.checkpoint import record_exit_code, recorded_exit_code

    if launcher not in (0, os.getppid()):
        os._exit(FAILED)  # the launcher died while this process started; on return, torch would wait for it forever
    folder = job.folder
    if folder and restarts() and (code := recorded_exit_code(folder)) is not None:
        return code
    code, is_known = _run(job, is_prepared)
    if code and is_known and folder and "TORCHELASTIC_RUN_ID" in os.environ:
        record_exit_code(folder, code)
    if code and "WORLD_SIZE" in os.environ:
        os._exit(code)  # others may be waiting for this process: the launcher sees it exit and ends them
    if launcher:
        threading.Thread(target=_end_with, args=(launcher, code), daemon=True).start()
    return code


def _end_with(launcher: int, code: int) -> None:
    """Exits when the launcher dies: torch elastic otherwise keeps a process until the launcher reads its result."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os._exit(code)


def _run(job: Job, is_prepared: bool) -> tuple[int, bool]:
    """The exit code, and whether a retry would end the same way."""
    from hmrb.checkpoint import recorded_exit_code
    from hmrb.formats.files import refusal
    from hmrb.parallel.heartbeat import beating
    from hmrb.parallel.world import end_world, start_world
    from hmrb.training.failures import known_failure
    from hmrb.training.loop import Stopped

    world: World | None = None
    try:
        world = start_world()
        if not is_prepared and (code := world.from_first(partial(_prepare, job))):
            return code, True
        with beating(world.heartbeat, world.rank, world.size):
            job.run(world)
        end_world()
    except Stopped as stopped:
        if world and world.is_main:
            say(str(stopped))
        return 128 + stopped.signum, True
    except (RequestError, RunError) as error:
        if not error.is_shared or (world and world.is_main):
            say(message_of(error))
        return REFUSED if isinstance(error, RequestError) else FAILED, True
    except Exception as error:
        if message := known_failure(error):
            say(message)
            return FAILED, True
        if "WORLD_SIZE" not in os.environ:
            raise
        if isinstance(error, RuntimeError) and any(word in str(error) for word in LOST):
            if job.folder is None or recorded_exit_code(job.folder) is None:
                say(f"process {os.environ['RANK']} lost its connection to the others: {str(error).splitlines()[0]}")
            return FAILED, False
        if isinstance(error, OSError) and error.errno:
            say(f"process {os.environ['RANK']}: {refusal(error)}")
            return FAILED, False
        say(f"process {os.environ['RANK']} failed with a bug in hmrb:\n{traceback.format_exc()}")
        return FAILED, True
    return 0, True


def _prepare(job: Job) -> int:
    try:
        job.prepare()
    except (RequestError, RunError) as error:
        say(message_of(error))
        return REFUSED if isinstance(error, RequestError) else FAILED
    return 0


def say(message: str) -> None:
    """Prints a message to stderr."""
    print(f"hmrb: {message}", file=sys.stderr, flush=True)
