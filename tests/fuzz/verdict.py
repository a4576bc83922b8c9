"""One damaged input given to `hmrb`: what it did with it, and whether that was right."""

import os
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from command import Done

from hmrb.data.shard import Shard
from hmrb.errors import RequestError

LIMIT_S = 20.0
MORE_BYTES = 4 << 30  # address space that a case may take beyond what the process has
ENDINGS = {0: "read", 1: "failed", 2: "refused"}


@dataclass(frozen=True, slots=True)
class Change:
    """What was done to an input, in words; `is_noticed` if hmrb must not exit with 0."""

    words: str
    is_noticed: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """A case: `ending` is read, failed or refused; `problem` is empty if that was right."""

    kind: str
    number: int
    change: str
    ending: str
    problem: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Room:
    """The folder of a case: inputs in `given`, outputs in `out`; `canary` exists if code of a file ran."""

    folder: Path

    @property
    def given(self) -> Path:
        return self.folder / "given"

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def canary(self) -> Path:
        return self.folder / "canary"


Changing = Callable[[Any, Room, np.random.Generator], Change]
Running = Callable[[Any, Room], list[Done]]


class TooLate(BaseException):
    """A case that did not end; no `except Exception` catches it."""


def judged(kind: str, number: int, room: Room, change: Change, run: Callable[[], list[Done]]) -> Case:
    """Runs a case and says what was wrong with what hmrb did."""
    start, ending, said = time.perf_counter(), "problem", ""
    try:
        with _limits():
            done = run()
        ending = ENDINGS.get(done[-1].returncode, "problem")
        said = next(filter(None, (_wrong(one) for one in done)), "") or _half_written(room.out)
        if change.is_noticed and not any(one.returncode for one in done):
            said = said or "the damage was not noticed"
    except TooLate:
        said = f"no end within {LIMIT_S:g} s"
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "/hmrb/" in f.filename]
        places = " < ".join(f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in frames[:-4:-1])
        said = f"{type(error).__name__}: {' '.join(str(error).split())[:200]} at {places}"
    if room.canary.exists():
        said = f"code of the file was run; {said}"
    shutil.rmtree(room.folder, ignore_errors=True)
    return Case(kind, number, change.words, ending if not said else "problem", said, time.perf_counter() - start)


def _wrong(done: Done) -> str:
    if done.returncode not in ENDINGS:
        return f"exit code {done.returncode}"
    messages = sum(line.startswith("hmrb: ") for line in done.stderr.splitlines())
    if done.returncode and messages != 1 and "Usage: " not in done.stderr:
        return f"{messages} messages with exit code {done.returncode}: {done.stderr[-300:]}"
    if "Traceback" in done.stderr + done.stdout:
        return f"a traceback was printed: {done.stderr[-300:]}"
    return ""


def _half_written(out: Path) -> str:
    """Files that a command left although they are not whole."""
    for path in sorted(out.rglob("*")):
        if path.name.endswith(".part"):
            return f"left behind: {path.relative_to(out)}"
        if path.suffix == ".h5" and path.parent.name == "shards":
            try:
                _ = Shard(path).arrays
            except RequestError as error:
                return f"left behind: {path.relative_to(out)}: {error}"
    return ""


@contextmanager
def _limits() -> Iterator[None]:
    """Ends what takes longer than LIMIT_S or more memory than MORE_BYTES. The limits before come back."""

    def late(*_: object) -> None:
        raise TooLate

    before, soft = signal.signal(signal.SIGALRM, late), resource.getrlimit(resource.RLIMIT_AS)
    timer = signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    if sys.platform == "linux":
        used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (used + MORE_BYTES, soft[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, soft)
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *timer)


def table(cases: list[Case]) -> str:
    """The cases by kind and ending."""
    columns = ("read", "refused", "failed", "problem")
    lines = [f"{'kind':14} {'cases':>6} " + " ".join(f"{name:>8}" for name in columns) + f" {'seconds':>8}"]
    for kind in [*dict.fromkeys(case.kind for case in cases), "total"]:
        mine = [case for case in cases if kind in (case.kind, "total")]
        counts = Counter(case.ending for case in mine)
        seconds = sum(case.seconds for case in mine)
        numbers = " ".join(f"{counts[name]:8}" for name in columns)
        lines.append(f"{kind:14} {len(mine):6} {numbers} {seconds:8.1f}")
    return "\n".join(lines)
