"""One process for each device, by torch elastic; or this one, where a launcher has started it already."""

import json
import logging
import os
import sys
import traceback
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from hmrb.checkpoint import Run, clear_verdict, give_verdict, hold, verdict
from hmrb.errors import RequestError, RunError
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store

FAILED, REFUSED = 1, 2
# Nothing more special than RuntimeError is raised where a process, its device or the network has died.
LOST = ("gloo", "NCCL", "onnection", "EADDRINUSE", "CUDA error", "DataLoader worker")


@dataclass(frozen=True, slots=True)
class Processes:
    """How many training processes, and on what."""

    count: int
    use_gpu: bool


def plan_processes(gpus: int | None, cpu_procs: int) -> Processes:
    """What was asked for, held against the machine; no number of GPUs is all there are. Raises RequestError."""
    import torch

    if "WORLD_SIZE" in os.environ:
        return Processes(int(os.environ["WORLD_SIZE"]), torch.cuda.is_available())
    there = torch.cuda.device_count()
    if gpus is not None and gpus > there:
        has = f"has {there}" if there else "has none"
        raise RequestError(f"--gpus {gpus}: this machine {has}; use fewer, or --cpu-procs N to train on the CPU")
    count = there if gpus is None else gpus
    return Processes(count, True) if count else Processes(cpu_procs, False)


def launch(processes: Processes, experiment: Experiment, run: Run, store: Store, max_restarts: int) -> None:
    """Runs the experiment in as many processes as planned, again where some die. Raises what went wrong in them.

    A single process with no restarts runs here, without another to watch over it.
    """
    os.environ["HMRB_DEVICE"] = "cuda" if processes.use_gpu else "cpu"
    if (processes.count == 1 and not max_restarts) or "WORLD_SIZE" in os.environ:
        code = work(experiment.model_dump_json(), str(run.folder), str(store.root))
        if code:
            sys.exit(code)
        return
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    for name in ("torch.distributed", "torch.multiprocessing"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our workers say what went wrong
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A store that the launcher keeps over restarts tells new processes the addresses of dead ones (torch 2.14).
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes.count,
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", run_id=f"hmrb-{os.getpid()}",
        max_restarts=max_restarts, monitor_interval=0.5, start_method="spawn",
    )  # fmt: skip
    try:
        codes = elastic_launch(config, work)(
            experiment.model_dump_json(), str(run.folder), str(store.root), os.getpid()
        )
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            sys.exit(failure.exitcode)  # it has said why
        after = f" after {max_restarts} restarts" if max_restarts else ""
        raise RunError(f"process {rank} was killed by signal {-failure.exitcode}{after}; go on with --resume") from None
    if worst := max(codes.values()):
        sys.exit(worst)


def work(experiment_json: str, folder: str, store_root: str, launcher: int = 0) -> int:
    """One process of a run; gives its exit code, after saying on stderr why it is not 0.

    A process that dies without a verdict is started again with all others. `launcher` is the process that watches it.
    """
    from hmrb.pulse import beating
    from hmrb.run import run_experiment
    from hmrb.train import Stopped
    from hmrb.world import end_world, start_world

    if launcher not in (0, os.getppid()):
        return FAILED  # it died while this process started
    restarts, at_most = (int(os.environ.get(f"TORCHELASTIC_{key}", 0)) for key in ("RESTART_COUNT", "MAX_RESTARTS"))
    if restarts and (code := verdict(Path(folder))) is not None:
        return code
    code = 0
    try:
        world = start_world()
        # The first process holds the folder, not the launcher: it may outlive a launcher that is killed by a step.
        held: AbstractContextManager[None] = hold(Path(folder)) if world.is_main else nullcontext()
        with held, beating(world.pulse, world.rank, world.size):
            if world.is_main and restarts:
                _say(f"a process was lost: restart {restarts} of {at_most}, from the last checkpoint")
            elif world.is_main:
                clear_verdict(Path(folder))
            experiment = parse_experiment(json.loads(experiment_json), "spec")
            run_experiment(experiment, Run(Path(folder)), Store(Path(store_root)), world)
        end_world()
    except Stopped as stopped:
        code = 128 + stopped.signum
        if world.is_main:
            _say(str(stopped))
    except (RequestError, RunError) as error:
        code = REFUSED if isinstance(error, RequestError) else FAILED
        _say(str(error))
    except Exception as error:
        if "WORLD_SIZE" not in os.environ:
            raise
        if isinstance(error, RuntimeError) and any(word in str(error) for word in LOST):
            if verdict(Path(folder)) is None:
                _say(f"process {os.environ['RANK']} lost the others: {str(error).splitlines()[0]}")
            return _leave(FAILED)
        code = FAILED
        _say(f"process {os.environ['RANK']} failed, a bug in hmrb:\n{traceback.format_exc()}")
    if code and "TORCHELASTIC_RUN_ID" in os.environ:
        give_verdict(Path(folder), code)
    return _leave(code)


def _leave(code: int) -> int:
    if code and "WORLD_SIZE" in os.environ:
        os._exit(code)  # the others may be waiting for this process: the launcher sees it go, and ends them
    return code


def _say(message: str) -> None:
    print(f"hmrb: {message}", file=sys.stderr, flush=True)
