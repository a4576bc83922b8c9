"""Runs several commands, a fixed number at a time, each with its own log, and shows them in one live table."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hmrb.cli.launch import Processes
from hmrb.errors import RequestError, RunError
from hmrb.system import apart

if TYPE_CHECKING:
    from rich.table import Table

LOOK_S = 0.5  # polling interval


@dataclass(frozen=True, slots=True)
class Command:
    """hmrb with these arguments; its output is appended to `log`. A training run's `folder` shows its progress."""

    name: str
    words: tuple[str, ...]
    log: Path
    epochs: int = 0

    @property
    def folder(self) -> Path:
        """The folder of the log, and of a training run's log.jsonl and scores."""
        return self.log.parent

    def start(self, log: Path, *more_words: str, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        """Starts a process that does not receive Ctrl-C or Slurm's warning, and that stops when this one dies."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with open(log, "ab") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "hmrb", *self.words, *more_words],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=environment,
                **apart(),
            )  # fmt: skip

    def last_words(self) -> str:
        """The last message in the log."""
        said = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("hmrb: ")]
        return f"{said[-1].removeprefix('hmrb: ')} ({self.log})" if said else f"see {self.log}"


def share_gpus(processes: Processes, at_once: int, asked: int | None) -> tuple[Processes, list[str]]:
    """Splits the GPUs among `at_once` runs: the processes of one run, and $CUDA_VISIBLE_DEVICES for each run.

    Raises RequestError if the machine has fewer GPUs than the runs need together.
    """
    if processes.nodes > 1:
        raise RequestError(f"--nodes {processes.nodes}: several specs need --slurm to run on several machines")
    if not processes.use_gpu:
        return processes, [""] * at_once
    import torch

    there = torch.cuda.device_count()
    each = max(there // at_once, 1) if asked is None else asked
    if each * at_once > there:
        raise RequestError(f"--parallel {at_once}: each run uses {each} GPUs at a time, but this machine has {there}")
    seen = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    names = seen if len(seen) >= there and seen[0] else [str(index) for index in range(there)]
    return Processes(each, True), [",".join(names[slot * each : (slot + 1) * each]) for slot in range(at_once)]


def run_commands(commands: Sequence[Command], slots: Sequence[str]) -> None:
    """Runs as many commands at a time as there are slots; a slot is the $CUDA_VISIBLE_DEVICES of its command.

    A signal stops all of them. Raises RunError with the failed ones after the last has ended.
    """
    from hmrb.training.loop import Signals

    states = {command.name: "waiting" for command in commands}
    waiting, free = list(commands), list(slots)
    running: dict[Command, tuple[subprocess.Popen[bytes], str]] = {}
    stopped = 0
    with Signals() as signals, live_table(commands, states) as redraw:
        while waiting or running:
            if signals.received and not stopped:
                stopped = signals.received
                waiting.clear()
                for process, _ in running.values():
                    process.terminate()
            while waiting and free:
                command, slot = waiting.pop(0), free.pop(0)
                environment = {**os.environ, "CUDA_VISIBLE_DEVICES": slot} if slot else os.environ
                running[command] = command.start(command.log, environment=environment), slot
                states[command.name] = "running"
            for command, (process, slot) in list(running.items()):
                if (code := process.poll()) is not None:
                    del running[command]
                    free.append(slot)
                    states[command.name] = ENDINGS.get(code, "failed")
            redraw()
            time.sleep(LOOK_S)
    if stopped:
        sys.exit(128 + stopped)
    raise_failed(commands, states)


def raise_failed(commands: Sequence[Command], states: Mapping[str, str]) -> None:
    """Raises RunError with the unfinished runs and the last message of each."""
    bad = [command for command in commands if states[command.name] != "done"]
    if bad:
        lines = [f"  {command.name}: {states[command.name]}: {command.last_words()}" for command in bad]
        raise RunError("\n".join([f"{len(bad)} of {len(commands)} runs did not finish:", *lines]))


@contextmanager
def live_table(commands: Sequence[Command], states: Mapping[str, str]) -> Iterator[Callable[[], None]]:
    """Yields a function that redraws the table; without a terminal it prints a line when a state changes."""
    from rich.console import Console
    from rich.live import Live

    console = Console(markup=False)
    if console.is_terminal:
        with Live(_table(commands, states), console=console, auto_refresh=False) as live:
            yield lambda: live.update(_table(commands, states), refresh=True)
        return
    shown: dict[str, str] = {}

    def tell() -> None:
        for command in commands:
            if states[command.name] != shown.get(command.name, "waiting"):
                shown[command.name] = states[command.name]
                step, score = progress(command)
                line = "  ".join(filter(None, [command.name, states[command.name], step, score, str(command.folder)]))
                console.print(line, soft_wrap=True, highlight=False)

    yield tell


def _table(commands: Sequence[Command], states: Mapping[str, str]) -> "Table":
    from rich.table import Table

    table = Table("spec", "state", "step", "PA-MPJPE", "folder", box=None)
    for command in commands:
        table.add_row(command.name, states[command.name], *progress(command), str(command.folder))
    return table


def progress(command: Command) -> tuple[str, str]:
    """`step of total` and the best PA-MPJPE so far; empty strings if the run's log does not have them."""
    try:
        lines = (command.folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "", ""
    facts = [json.loads(line) for line in lines if line.endswith("}")]  # the last line may be incomplete
    at = next((fact for fact in reversed(facts) if fact.get("epoch")), None)
    step = f"{at['step']} of {round(command.epochs * at['step'] / at['epoch'])}" if at else ""
    scores = [fact["pa_mpjpe"] for fact in facts if "pa_mpjpe" in fact]
    return step, f"{min(scores):.1f} mm" if scores else ""


ENDINGS = {0: "done", 130: "stopped", 143: "stopped"}
