"""How a run tells people and machines how it goes: a progress bar, log.jsonl, TensorBoard."""

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from hmrb.errors import RunError
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.metrics import TITLES, UNITS


class Logger:
    """Who is told how a run goes. This one keeps it to itself: that of every process but the first."""

    def start(self, done: int, total: int, steps_per_epoch: int) -> None:
        """Before the first step."""

    def knobs(self, step: int, knobs: Mapping[str, Any]) -> None:
        """Before the first step: what of the spec's `speed` is on."""

    def step(self, step: int, facts: Mapping[str, float]) -> None:
        """Every few steps: mean losses since the last time, images_per_s, data_wait (share of time), lr, epoch."""

    def scored(self, step: int, scores: Scores) -> None:
        """After each run of a benchmark."""

    def say(self, line: str) -> None:
        """Something a person should read."""


class RunLogger(Logger):
    """A live bar on a terminal, a line an epoch elsewhere; every fact in log.jsonl and TensorBoard."""

    def __init__(self, folder: Path, console: Console, progress: Progress) -> None:
        self._folder, self._console, self._progress = folder, console, progress
        self._log = folder / "log.jsonl"
        self._unwritten = ""
        self._board: Any = None
        self._task: Any = None
        self._steps_per_epoch = 1
        self._printed = 0

    def start(self, done: int, total: int, steps_per_epoch: int) -> None:
        """Drops what an interrupted run logged after its last checkpoint, and draws the bar."""
        from torch.utils.tensorboard import SummaryWriter

        keep_log_until(self._log, done)
        with self._or_no_board():
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=done or None)
        self._steps_per_epoch = steps_per_epoch
        self._printed = done // steps_per_epoch
        self._task = self._progress.add_task("train", total=total, completed=done, facts="")

    def knobs(self, step: int, knobs: Mapping[str, Any]) -> None:
        """One line of the log."""
        self._write({"step": step, "knobs": dict(knobs)})

    def step(self, step: int, facts: Mapping[str, float]) -> None:
        """One line of the log; the bar moves."""
        self._write({"step": step, **facts})
        self._draw("train", facts, step)
        losses = {k: v for k, v in facts.items() if k not in ("images_per_s", "data_wait", "lr", "epoch")}
        line = (
            f"epoch {facts['epoch']:.1f}  step {step}  {facts['images_per_s']:.0f} images/s"
            f"  data wait {100 * facts['data_wait']:.0f} %  " + "  ".join(f"{k} {v:.3g}" for k, v in losses.items())
        )
        self._progress.update(self._task, completed=step, facts=line)
        epoch = step // self._steps_per_epoch
        if not self._console.is_terminal and epoch > self._printed:
            self._printed = epoch
            self._console.print(f"{line}  {_left(self._progress, self._task)}", soft_wrap=True, highlight=False)

    def scored(self, step: int, scores: Scores) -> None:
        """One line of the log and of the console."""
        means = {name: scores.mean(name) for name in scores.errors}
        self._write({"step": step, "benchmark": scores.benchmark.name, "protocol": scores.benchmark.protocol, **means})
        self._draw(scores.benchmark.name, means, step)
        said = "  ".join(f"{TITLES[name]} {value:.1f} {UNITS[name]}" for name, value in means.items())
        self.say(f"step {step}  {scores.benchmark.name}: {said}")

    def say(self, line: str) -> None:
        """Above the bar."""
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def close(self) -> str:
        """Flushes TensorBoard; gives a message where lines of the log are still not on the disk."""
        with self._or_no_board():
            if self._board is not None:
                self._board.close()
        reason = self._append()
        return f"{self._log}: its last lines could not be written ({reason})" if reason else ""

    def _draw(self, group: str, facts: Mapping[str, float], step: int) -> None:
        with self._or_no_board():
            if self._board is not None:
                for name, value in facts.items():
                    self._board.add_scalar(f"{group}/{name}", value, step)

    @contextmanager
    def _or_no_board(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._board = None
            self.say(f"{self._folder / 'tensorboard'}: could not be written ({error.strerror}); no more of it")

    def _write(self, facts: Mapping[str, Any]) -> None:
        was_written = not self._unwritten
        self._unwritten += json.dumps(facts) + "\n"
        reason = self._append()
        if reason and was_written:
            self.say(f"{self._log}: could not be written ({reason}); its lines are kept until it can")

    def _append(self) -> str | None:
        """Writes what is not on the disk yet, all or nothing; gives the reason where it could not."""
        if not self._unwritten:
            return None
        try:
            with open(self._log, "ab", buffering=0) as log:
                end, lines = log.tell(), self._unwritten.encode()
                if log.write(lines) < len(lines):
                    log.truncate(end)
                    return "the disk is full"
        except OSError as error:
            return error.strerror
        self._unwritten = ""
        return None


@contextmanager
def run_logger(folder: Path) -> Iterator[RunLogger]:
    """A RunLogger whose bar is taken down at the end, however that comes."""
    console = Console()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with FactsBelow(*columns, console=console, disable=not console.is_terminal) as bar:
        logger = RunLogger(folder, console, bar)
        threading.excepthook = _only_bugs
        try:
            yield logger
        finally:
            unwritten = logger.close()
            threading.excepthook = threading.__excepthook__
    if unwritten:
        raise RunError(unwritten)


def _only_bugs(error: threading.ExceptHookArgs) -> None:
    """Leaves out a full disk: TensorBoard's thread tells of it once more when it is written to."""
    if not issubclass(error.exc_type, OSError):
        threading.__excepthook__(error)


class FactsBelow(Progress):
    """The bar on a line of its own, so that time left stays in sight; the step's facts under it."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, then each task's facts."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["facts"])


def keep_log_until(log: Path, step: int) -> None:
    """Drops the lines of a log that come after a step: they will be written again."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue  # a line that was being written when the run died
    part = log.with_suffix(".part")
    part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    os.replace(part, log)


def _left(progress: Progress, task: Any) -> str:
    remaining = next((t.time_remaining for t in progress.tasks if t.id == task), None)
    return "" if remaining is None else f"{remaining / 60:.1f} min left"
