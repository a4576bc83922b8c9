"""Submits runs to Slurm through submitit: one task per node, which starts hmrb there.

One task per node, not per GPU: torch elastic then starts, watches and restarts the processes of a node exactly as it
does without Slurm.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from hmrb.cli.launch import LAST_WORDS_S, Processes
from hmrb.cli.many import Command, live_table, raise_failed
from hmrb.cli.names import plain
from hmrb.errors import RequestError

WARNING_S = LAST_WORDS_S + 60  # warning before the time limit: the job writes its checkpoint and requeues
MAX_TIMEOUTS = 1000  # how often a job may requeue after its time limit
LOOK_S = 2.0  # polling interval

PANEL = "Slurm"
Slurm = Annotated[bool, typer.Option("--slurm", help="Submit to Slurm instead of running here.", rich_help_panel=PANEL)]
Partition = Annotated[
    str | None,
    typer.Option(help="Partition.  [default: Slurm's default]", show_default=False, rich_help_panel=PANEL),
]
Time = Annotated[
    str,
    typer.Option(
        metavar="D-HH:MM:SS",
        help="Time limit, in sbatch's format; then the job requeues.",
        rich_help_panel=PANEL,
    ),
]
Sbatch = Annotated[
    list[str],
    typer.Option(
        metavar="KEY=VALUE",
        help="Any sbatch option: account=lab, mem=200G.",
        show_default=False,
        rich_help_panel=PANEL,
    ),
]
Follow = Annotated[bool, typer.Option("--follow", help="Print the log until the job ends.", rich_help_panel=PANEL)]


def check_slurm() -> None:
    """Raises RequestError at once if this machine or this installation cannot submit jobs."""
    if find_spec("submitit") is None:
        raise RequestError("--slurm needs submitit: pip install 'hmrb[slurm]'")
    if shutil.which("srun") is None:
        raise RequestError("--slurm: srun not found; run this on a machine that submits to Slurm")


def plan_nodes(gpus: int | None, cpu_procs: int, nodes: int = 1) -> Processes:
    """The processes per node. Raises RequestError without --gpus: this machine's GPUs say nothing about the nodes."""
    if gpus is None:
        raise RequestError("--slurm: set --gpus N, the number of GPUs per node; 0 uses --cpu-procs on its CPUs")
    return Processes(gpus, True, nodes) if gpus else Processes(cpu_procs, False, nodes)


def request(
    processes: Processes, workers: int, partition: str | None, time: str, sbatch: Sequence[str], at_once: int
) -> dict[str, Any]:
    """Submitit parameters of a job, or of an array with `at_once` jobs at a time. Raises RequestError.

    Each process gets one core, plus one per loading worker, unless `sbatch` overrides it.
    """
    more = {}
    for words in (*sbatch, partition or ""):
        plain(words, "--sbatch and --partition")
    for words in sbatch:
        key, equals, value = words.partition("=")
        if not key:
            raise RequestError(f"--sbatch {words}: write it as OPTION=VALUE with an sbatch option, e.g. account=lab")
        more[key.lstrip("-").replace("_", "-")] = value if equals else True
    asked: dict[str, Any] = {
        "nodes": processes.nodes,
        "ntasks_per_node": 1,
        "time": minutes(time),
        "signal_delay_s": WARNING_S,
        "stderr_to_stdout": True,
        "array_parallelism": at_once,
        "additional_parameters": {"requeue": True, **more},
    }
    if partition:
        asked["partition"] = partition
    if processes.use_gpu:
        asked["gpus_per_node"] = processes.count
    if not more.keys() & {"cpus-per-task", "cpus-per-gpu", "exclusive"}:
        asked["cpus_per_task"] = processes.count * (1 + workers)
    return asked


def minutes(text: str) -> int:
    """Minutes of a time in sbatch's format: M, MM:SS, HH:MM:SS, D-HH, D-HH:MM, D-HH:MM:SS. Raises RequestError."""
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise RequestError(f"--time {text}: write it as minutes, HH:MM:SS or D-HH:MM:SS")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, mins, seconds = (parts + [0, 0])[:3]
    elif len(parts) == 3:
        hours, mins, seconds = parts
    else:  # minutes, or MM:SS
        hours, mins, seconds = 0, parts[0], sum(parts[1:])
    return max(int(days or 0) * 1440 + hours * 60 + mins + (seconds + 59) // 60, 1)


def submit(commands: Sequence[Command], asked: dict[str, Any], papers: Path, follow: bool) -> None:
    """Submits a job or an array; submitit writes its files to `papers`.

    Raises RequestError if Slurm refuses the job and, with `follow`, RunError if it fails.
    """
    check_slurm()
    import submitit
    from submitit.core.utils import FailedJobError

    executor = submitit.SlurmExecutor(folder=papers / "%j", max_num_timeout=MAX_TIMEOUTS)
    for name in (str(papers), *(part for command in commands for part in (command.name, str(command.log)))):
        plain(name, "--slurm: the name of a folder or a run")
    executor.update_parameters(job_name=commands[0].name if len(commands) == 1 else "hmrb", **asked)
    try:
        with redirect_stderr(StringIO()), executor.batch():  # submitit also prints the error that it raises
            jobs = [executor.submit(Node(command, asked["nodes"])) for command in commands]
    except FailedJobError as error:
        raise RequestError(_refusal(str(error), asked)) from None
    ids = {command.name: str(job.job_id) for command, job in zip(commands, jobs, strict=True)}
    for command in commands:
        typer.echo(f"job {ids[command.name]}: {command.name}, {command.log}")
    if follow:
        _follow(commands, ids)


def without(words: Sequence[str], options: tuple[str, ...], flags: tuple[str, ...]) -> list[str]:
    """The words of a command without these options (and their values) and without these flags."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip or word.split("=")[0] in options:
            skip = not skip and word in options
            continue
        if word not in flags:
            kept.append(word)
    return kept


def _refusal(said: str, asked: dict[str, Any]) -> str:
    """Sbatch's reason for refusing a job, as one message."""
    reasons = re.findall(r"sbatch: (?:error: )?(.+)", said) or [said.strip().splitlines()[-1]]
    message = f"Slurm refused the job: {reasons[-1].removeprefix('Batch job submission failed: ')}"
    if "partition" in message and "partition" in asked:
        there = _ask("sinfo", "--noheader", "--format=%R").split()
        message += f": --partition {asked['partition']}; known: {', '.join(sorted(set(there)))}"
    return message


@dataclass
class Node:
    """Runs on each node of a job: the command, which is stopped and requeued at its time limit."""

    command: Command
    nodes: int
    _pid: int = field(default=0, init=False)

    def __call__(self) -> None:
        """Runs the command and exits with its code. Requeues a command that preemption stopped."""
        from hmrb.parallel.world import first_host, job_port

        meeting: tuple[str, ...] = ()
        if self.nodes > 1:
            meeting = ("--nodes", str(self.nodes), "--rdzv", f"{first_host()}:{job_port()}")
        node = os.environ.get("SLURM_NODEID", "0")
        log = self.command.log if node == "0" else self.command.log.with_suffix(f".{node}{self.command.log.suffix}")
        # Without this, hmrb would take itself for one of the processes that srun started.
        environment = {key: value for key, value in os.environ.items() if key != "SLURM_STEP_ID"}
        process = self.command.start(log, *meeting, environment=environment)
        self._pid = process.pid
        _wait(self._pid)
        code = process.wait()
        if code in (130, 143):
            _queue_again(is_first=node == "0")
        if code:
            sys.exit(code if code > 0 else 128 - code)

    def checkpoint(self) -> Any:
        """Called at Slurm's warning: stops the command, which writes its checkpoint. Returns the job to requeue."""
        import submitit

        if self._pid:
            os.kill(self._pid, 15)
            _wait(self._pid)
        return submitit.helpers.DelayedSubmission(Node(self.command, self.nodes))


def _wait(pid: int) -> None:
    """Waits for a process without reaping it: a Popen.wait may be in progress below this signal handler."""
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def _queue_again(is_first: bool) -> None:
    """Requeues this job if Slurm still lists it as running: then it was stopped in the grace period of a preemption.

    Slurm itself requeues only jobs that outlive the grace period. The other nodes wait for the first to do it.
    """
    job, deadline = os.environ["SLURM_JOB_ID"], time.time() + LAST_WORDS_S
    while _ask("squeue", "--noheader", f"--jobs={job}", "--format=%T").strip() == "RUNNING" and time.time() < deadline:
        if is_first:
            _ask("scontrol", "requeue", job)
        time.sleep(LOOK_S)


def _follow(commands: Sequence[Command], ids: dict[str, str]) -> None:
    """Prints the log of one run, or a table of several, until every job has ended."""
    states = dict.fromkeys(ids, "PENDING")
    shown = 0
    with live_table(commands, states) as redraw:
        while True:
            known = _states(ids)
            states.update({name: known.get(job, "gone") for name, job in ids.items()})
            if len(commands) == 1:
                shown = _print_from(commands[0].log, shown)
            else:
                redraw()
            if not any(state in GOING for state in states.values()):
                break
            time.sleep(LOOK_S)
    raise_failed(commands, {name: "done" if state == "COMPLETED" else state for name, state in states.items()})


def _states(ids: dict[str, str]) -> dict[str, str]:
    """Slurm's state of each job; Slurm forgets jobs some minutes after they end."""
    main = next(iter(ids.values())).partition("_")[0]
    lines = _ask("squeue", "--noheader", "--array", "--states=all", f"--jobs={main}", "--format=%i %T").splitlines()
    return dict(line.split(maxsplit=1) for line in lines)


def _print_from(log: Path, start: int) -> int:
    """Prints a log from `start` on and returns its new end."""
    if not log.exists():
        return start
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(start)
        typer.echo(file.read(), nl=False)
        return file.tell()


def _ask(*words: str) -> str:
    """The stdout of a Slurm command; failures are ignored."""
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


GOING = {
    "PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESIZING",
    "SIGNALING", "STAGE_OUT", "STOPPED", "SUSPENDED", "SPECIAL_EXIT", "RESV_DEL_HOLD",
}  # fmt: skip
