"""One process for each device, by torch elastic; or this one, where a launcher has started it already."""

import json
import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hmrb.checkpoint import Run, hold
from hmrb.errors import RequestError, RunError
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store

FAILED, REFUSED = 1, 2


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


def launch(processes: Processes, experiment: Experiment, run: Run, store: Store) -> None:
    """Runs the experiment in as many processes as planned. Raises what went wrong in them."""
    os.environ["HMRB_DEVICE"] = "cuda" if processes.use_gpu else "cpu"
    if processes.count == 1 or "WORLD_SIZE" in os.environ:
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
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=processes.count,
        rdzv_backend="c10d", rdzv_endpoint="127.0.0.1:0", run_id=f"hmrb-{os.getpid()}",
        max_restarts=0, monitor_interval=0.5, start_method="spawn",
    )  # fmt: skip
    try:
        codes = elastic_launch(config, work)(experiment.model_dump_json(), str(run.folder), str(store.root))
    except SignalException as stopped:
        sys.exit(128 + stopped.sigval)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            raise RunError(f"process {rank} was killed by signal {-failure.exitcode}; go on with --resume") from None
        told: Any = failure.message
        if isinstance(told, dict) and "SystemExit" not in told["message"]:
            _say(f"process {rank} failed, a bug in hmrb:\n{told['extraInfo']['py_callstack']}")
        sys.exit(failure.exitcode)
    if worst := max(codes.values()):
        sys.exit(worst)


def work(experiment_json: str, folder: str, store_root: str) -> int:
    """One process of a run; gives its exit code, after saying on stderr why it is not 0."""
    from hmrb.run import run_experiment
    from hmrb.train import Stopped
    from hmrb.world import end_world, start_world

    world = start_world()
    experiment = parse_experiment(json.loads(experiment_json), "spec")
    code = 0
    # The first process holds the folder, not the launcher: it may outlive a launcher that is killed by a step.
    held: AbstractContextManager[None] = hold(Path(folder)) if world.is_main else nullcontext()
    try:
        with held:
            run_experiment(experiment, Run(Path(folder)), Store(Path(store_root)), world)
        end_world()
    except Stopped as stopped:
        code = 128 + stopped.signum
        if world.is_main:
            _say(str(stopped))
    except (RequestError, RunError) as error:
        code = REFUSED if isinstance(error, RequestError) else FAILED
        _say(str(error))
    except RuntimeError as error:  # gloo and NCCL raise nothing more special
        if not any(word in str(error) for word in ("gloo", "NCCL", "onnection")):
            raise
        code = FAILED
        _say(f"process {world.rank} lost the others: {str(error).splitlines()[0]}")
    if code and world.size > 1:
        os._exit(code)  # the others may be waiting for this process: the launcher sees it go, and ends them
    return code


def _say(message: str) -> None:
    print(f"hmrb: {message}", file=sys.stderr, flush=True)
