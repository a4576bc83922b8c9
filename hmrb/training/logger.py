"""Progress of a run: progress bar, log.jsonl, TensorBoard, trackers."""

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from hmrb.errors import RunError
from hmrb.evaluation.evaluate import Scores
from hmrb.evaluation.metric_table import PACE, TITLES, UNITS
from hmrb.formats.writing import replacing
from hmrb.training.meter import Shares
from hmrb.training.tracking import UNTRACKED, Tracking


class Logger:
    """Receives the progress of a run. This class ignores it; all ranks except 0 use it."""

    def start(self, done: int, total: int, steps_per_epoch: int) -> None:
        """Called before the first step."""

    def knobs(self, step: int, knobs: Mapping[str, Any]) -> None:
        """Called before the first step, with the active settings of the spec's `speed`."""

    def step(self, step: int, facts: Mapping[str, float]) -> None:
        """Called every few steps: mean losses since the last call, epoch, and those facts of PACE that are known."""

    def scored(self, step: int, scores: Scores) -> None:
        """Called after each evaluation on a benchmark."""

    def limited(self, step: int, shares: Shares) -> None:
        """Called at the end of the run."""

    def say(self, line: str) -> None:
        """Shows a message to the user."""


class RunLogger(Logger):
    """Progress bar on a terminal, otherwise one line per epoch; log.jsonl, TensorBoard and trackers get everything."""

    def __init__(self, folder: Path, console: Console, progress: Progress, tracking: Tracking) -> None:
        self._folder, self._console, self._progress, self._tracking = folder, console, progress, tracking
        self._log = folder / "log.jsonl"
        self._unwritten = ""
        self._board: Any = None
        self._task: Any = None
        self._steps_per_epoch = 1
        self._printed = 0

    def start(self, done: int, total: int, steps_per_epoch: int) -> None:
        """Removes log lines after the last checkpoint of an interrupted run, and shows the bar."""
        keep_log_until(self._log, done)
        with self._or_no_board():
            self._board = _board(self._folder / "tensorboard", done or None)
        self._steps_per_epoch = steps_per_epoch
        self._printed = done // steps_per_epoch
        self._task = self._progress.add_task("train", total=total, completed=done, facts="")

    def knobs(self, step: int, knobs: Mapping[str, Any]) -> None:
        """Writes a line to the log."""
        self._write({"step": step, "knobs": dict(knobs)})

    def step(self, step: int, facts: Mapping[str, float]) -> None:
        """Writes a line to the log and updates the bar."""
        self._write({"step": step, **facts})
        self._draw("train", facts, step)
        self._tracking.numbers(step, "train", facts)
        losses = {k: v for k, v in facts.items() if k not in (*PACE, "epoch")}
        used = f"  MFU {100 * facts['mfu']:.0f} %" if "mfu" in facts else ""
        line = (
            f"epoch {facts['epoch']:.1f}  step {step}  {facts['images_per_s']:.0f} images/s{used}"
            f"  data wait {100 * facts['data_wait']:.0f} %  " + "  ".join(f"{k} {v:.3g}" for k, v in losses.items())
        )
        self._progress.update(self._task, completed=step, facts=line)
        epoch = step // self._steps_per_epoch
        if not self._console.is_terminal and epoch > self._printed:
            self._printed = epoch
            self._console.print(f"{line}  {_left(self._progress, self._task)}", soft_wrap=True, highlight=False)

    def scored(self, step: int, scores: Scores) -> None:
        """Writes a line to the log and to the console."""
        means = {name: scores.mean(name) for name in scores.errors}
        self._write({"step": step, "benchmark": scores.benchmark.name, "protocol": scores.benchmark.protocol, **means})
        self._draw(scores.benchmark.name, means, step)
        self._tracking.numbers(step, scores.benchmark.protocol, means)
        listed = "  ".join(f"{TITLES[name]} {value:.1f} {UNITS[name]}" for name, value in means.items())
        self.say(f"step {step}  {scores.benchmark.name}: {listed}")

    def limited(self, step: int, shares: Shares) -> None:
        """Writes a line to the log and to the console."""
        self._write({"step": step, "limit": {"by": shares.limit, **asdict(shares)}})
        self.say(shares.line())

    def say(self, line: str) -> None:
        """Prints a line above the bar."""
        self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def close(self) -> str:
        """Closes TensorBoard and writes pending log lines; returns a message if they could not be written."""
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
            self.say(
                f"{self._folder / 'tensorboard'}: could not be written ({error.strerror}); TensorBoard logging stops"
            )

    def _write(self, facts: Mapping[str, Any]) -> None:
        was_written = not self._unwritten
        self._unwritten += json.dumps(facts) + "\n"
        reason = self._append()
        if reason and was_written:
            self.say(f"{self._log}: could not be written ({reason}); new lines stay in memory until writing succeeds")

    def _append(self) -> str | None:
        """Appends all pending lines or none; returns the reason if that failed."""
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
def run_logger(folder: Path, tracking: Tracking = UNTRACKED) -> Iterator[RunLogger]:
    """A RunLogger; removes the bar at the end, also after an error. Raises RunError if log lines are not on disk."""
    console = Console(markup=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %", markup=False),
        TimeElapsedColumn(),
        TextColumn("left", markup=False),
        TimeRemainingColumn(),
    )
    with FactsBelow(*columns, console=console, disable=not console.is_terminal) as bar:
        logger = RunLogger(folder, console, bar, tracking)
        threading.excepthook = _only_bugs
        try:
            yield logger
        finally:
            unwritten = logger.close()
            threading.excepthook = threading.__excepthook__
    if unwritten:
        raise RunError(unwritten)


def _board(folder: Path, purge_step: int | None) -> Any:
    """TensorBoard's writer. It names its files after the host, which is nobody's business who gets the run."""
    from tensorboard.summary.writer import event_file_writer  # type: ignore[import-untyped]
    from torch.utils.tensorboard import SummaryWriter

    named, event_file_writer.socket = event_file_writer.socket, SimpleNamespace(gethostname=lambda: "hmrb")
    try:
        return SummaryWriter(str(folder), purge_step=purge_step)
    finally:
        event_file_writer.socket = named


def _only_bugs(error: threading.ExceptHookArgs) -> None:
    """Hides OSErrors in threads, such as a full disk, because TensorBoard raises them again at the next write."""
    if not issubclass(error.exc_type, OSError):
        threading.__excepthook__(error)


class FactsBelow(Progress):
    """Shows the step's facts below the bar, so that the remaining time stays visible."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yields the bars, then each task's facts."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["facts"])


def keep_log_until(log: Path, step: int) -> None:
    """Removes the lines of a log after a step, because the resumed run writes them again. Raises RunError."""
    if not log.exists():
        return
    kept = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line)
        except (json.JSONDecodeError, KeyError):
            continue  # incomplete last line of a killed run
    try:
        with replacing(log) as part:
            part.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{log}: could not be written ({error.strerror})") from None


def _left(progress: Progress, task: Any) -> str:
    remaining = next((t.time_remaining for t in progress.tasks if t.id == task), None)
    return "" if remaining is None else f"{remaining / 60:.1f} min left"
