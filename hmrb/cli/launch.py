"""One job in many processes: by torch elastic on one machine or several; or as torchrun or srun has started them."""

import logging
import os
import re
import socket
import sys
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Protocol, runtime_checkable

import typer

from hmrb.errors import RequestError, RunError

if TYPE_CHECKING:
    from hmrb.world import World

FAILED, REFUSED = 1, 2
DIED = -1  # of the others' death: no reason not to try again
MEETING_S = 300  # how long a machine waits for the one that all meet at
LAST_WORDS_S = 120  # how long a process may take to write its checkpoint once it is told to stop
# Nothing more special than RuntimeError is raised where a process, its device or the network has died.
LOST = ("gloo", "NCCL", "onnection", "EADDRINUSE", "CUDA error", "DataLoader worker")

Gpus = Annotated[
    int | None,
    typer.Option(min=0, help="GPUs of a machine, one process each; 0: the CPU.  [default: all]", show_default=False),
]
CpuProcs = Annotated[int, typer.Option(min=1, help="Without GPUs: processes of one thread each.")]


@dataclass(frozen=True, slots=True)
class Processes:
    """How many processes on each machine, and on what; how many machines, and the HOST:PORT that they meet at.

    They start again at most `max_restarts` times where one of them dies. A single one that is not started again runs
    in the process that asks for it, with no other to watch over it.
    """

    count: int
    use_gpu: bool
    nodes: int = 1
    rdzv: str = ""
    max_restarts: int = 0

    @property
    def total(self) -> int:
        """Processes on all machines."""
        return self.count * self.nodes

    def words(self) -> tuple[str, ...]:
        """As flags of hmrb."""
        if self.use_gpu:
            return "--gpus", str(self.count)
        return "--gpus", "0", "--cpu-procs", str(self.count)


@runtime_checkable  # tests check types
class Job(Protocol):
    """What the processes of a world do together; pickled on its way to them."""

    @property
    def name(self) -> str:
        """By this the machines of a job know one another."""

    @property
    def folder(self) -> Path:
        """Where it writes."""

    def prepare(self) -> None:
        """What one process does for all before they start. Raises RequestError and RunError."""

    def run(self, world: "World") -> None:
        """What each of them does."""


def plan_processes(gpus: int | None, cpu_procs: int, nodes: int = 1, rdzv: str = "") -> Processes:
    """What was asked for, held against the machine; no number of GPUs is all there are. Raises RequestError."""
    import torch

    from hmrb.world import launched

    if launched():
        if nodes > 1:
            raise RequestError(f"--nodes {nodes}: torchrun or srun has started the processes already; leave it out")
        return Processes(int(os.environ["WORLD_SIZE"]), torch.cuda.is_available() and gpus != 0)
    if nodes > 1 and not rdzv:
        raise RequestError(f"--nodes {nodes}: --rdzv HOST:PORT has to say where they meet; or --slurm")
    if rdzv and nodes == 1:
        raise RequestError(f"--rdzv {rdzv}: --nodes N has to say how many machines meet there")
    if rdzv and not re.fullmatch(r"[^:\s]+:\d{1,5}", rdzv):
        raise RequestError(f"--rdzv {rdzv}: write it as HOST:PORT, one of the machines and a free port of it")
    there = torch.cuda.device_count()
    if gpus is not None and gpus > there:
        has = f"has {there}" if there else "has none"
        raise RequestError(f"--gpus {gpus}: this machine {has}; use fewer, or --cpu-procs N to train on the CPU")
    count = there if gpus is None else gpus
    return Processes(count, True, nodes, rdzv) if count else Processes(cpu_procs, False, nodes, rdzv)


def launch(processes: Processes, job: Job) -> None:
    """Does the job in as many processes as planned. Raises what went wrong in them.

    Who starts the processes prepares the job. Where that is torchrun, srun or one hmrb on each of several machines,
    the first of all processes does, and the others wait.
    """
    from hmrb.world import launched

    os.environ["HMRB_DEVICE"] = "cuda" if processes.use_gpu else "cpu"
    is_one_of_many = launched() or processes.nodes > 1
    if not is_one_of_many:
        job.prepare()
    start = (
        work if launched() or not (processes.total > 1 or processes.max_restarts) else partial(_by_elastic, processes)
    )
    if code := start(job, not is_one_of_many):
        sys.exit(code)


def _by_elastic(processes: Processes, job: Job, is_prepared: bool) -> int:
    """The job in processes that torch elastic starts, watches and ends; the worst of their exit codes."""
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousTimeoutError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our workers say what went wrong
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A store that the launcher keeps over restarts tells new processes the addresses of dead ones (torch 2.14).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(LAST_WORDS_S))
    config = LaunchConfig(
        min_nodes=processes.nodes, max_nodes=processes.nodes, nproc_per_node=processes.count,
        rdzv_backend="c10d", **_meeting(processes, job),
        max_restarts=processes.max_restarts, monitor_interval=0.5, start_method="spawn",
    )  # fmt: skip
    try:
        codes = elastic_launch(config, work)(job, is_prepared, os.getpid())
    except SignalException as stopped:
        return 128 + stopped.sigval
    except (RendezvousConnectionError, RendezvousTimeoutError):
        raise RunError(
            f"the {processes.nodes} machines did not meet at {processes.rdzv}: is hmrb started on each of them with"
            " the same line, and is the port open?"
        ) from None
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return failure.exitcode  # it has said why
        after = f" after {processes.max_restarts} restarts" if processes.max_restarts else ""
        raise RunError(f"process {rank} was killed by signal {-failure.exitcode}{after}; go on with --resume") from None
    return max(codes.values())


def _meeting(processes: Processes, job: Job) -> dict[str, Any]:
    """Where torch elastic's agents meet: on one machine at a port that is free, on several at one of them."""
    if processes.nodes == 1:
        return {"rdzv_endpoint": "127.0.0.1:0", "run_id": f"hmrb-{os.getpid()}"}
    host, _, port = processes.rdzv.partition(":")
    try:
        family, *_, address = socket.getaddrinfo(host, int(port), type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise RequestError(f"--rdzv {processes.rdzv}: there is no machine '{host}' ({error.strerror})") from None
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address[0], 0))  # only its owner can
            is_host, mine = True, host
        except OSError:
            probe.connect(address)  # sends nothing; tells which of this machine's addresses looks towards the host
            is_host, mine = False, probe.getsockname()[0]
    _say(f"waiting for {processes.nodes} machines at {processes.rdzv}; this one is {mine}")
    return {
        "rdzv_endpoint": processes.rdzv,
        "run_id": job.name,
        "local_addr": mine,  # torch would ask for the host's name, which need not be known to the others
        "rdzv_configs": {"is_host": is_host, "read_timeout": MEETING_S},
    }


def work(job: Job, is_prepared: bool, launcher: int = 0) -> int:
    """One process of a job; gives its exit code, after saying on stderr why it is not 0.

    A process that ends without a verdict has died, and its launcher starts all of them again.
    """
    from hmrb.checkpoint import give_verdict, verdict

    if launcher not in (0, os.getppid()):
        os._exit(FAILED)  # it died while this process started; torch would wait for it
    if restarts() and (code := verdict(job.folder)) is not None:
        return code
    code = _run(job, is_prepared)
    if code and "WORLD_SIZE" in os.environ:
        if code != DIED and "TORCHELASTIC_RUN_ID" in os.environ:
            give_verdict(job.folder, code)
        # The others may be waiting for this process: the launcher sees it go, and ends them.
        os._exit(FAILED if code == DIED else code)
    return code


def restarts() -> int:
    """How often torch elastic has started the processes again."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))


def _prepare(job: Job) -> int:
    try:
        job.prepare()
    except (RequestError, RunError) as error:
        _say(str(error))
        return REFUSED if isinstance(error, RequestError) else FAILED
    return 0


def _run(job: Job, is_prepared: bool) -> int:
    from hmrb.checkpoint import clear_verdict, verdict
    from hmrb.pulse import beating
    from hmrb.train import Stopped
    from hmrb.world import end_world, start_world

    rank = os.environ.get("RANK", "0")
    try:
        world = start_world()
        if world.is_main and not restarts():
            clear_verdict(job.folder)
        elif world.is_main:
            at_most = os.environ["TORCHELASTIC_MAX_RESTARTS"]
            _say(f"a process was lost: restart {restarts()} of {at_most}, from the last checkpoint")
        with beating(world.pulse, world.rank, world.size):
            if not is_prepared and (code := world.of_first(partial(_prepare, job))):
                return code
            job.run(world)
        end_world()
    except Stopped as stopped:
        if rank == "0":
            _say(str(stopped))
        return 128 + stopped.signum
    except (RequestError, RunError) as error:
        _say(str(error))
        return REFUSED if isinstance(error, RequestError) else FAILED
    except Exception as error:
        if "WORLD_SIZE" not in os.environ:
            raise
        if isinstance(error, RuntimeError) and any(word in str(error) for word in LOST):
            if verdict(job.folder) is None:
                _say(f"process {rank} lost the others: {str(error).splitlines()[0]}")
            return DIED
        _say(f"process {rank} failed, a bug in hmrb:\n{traceback.format_exc()}")
        return FAILED
    return 0


def _say(message: str) -> None:
    print(f"hmrb: {message}", file=sys.stderr, flush=True)
