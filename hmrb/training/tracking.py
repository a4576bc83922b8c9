"""Sends a run's numbers to trackers, from a thread for each: none of them can stop a run or slow it down."""

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Full, Queue

from hmrb.evaluation.records import Record
from hmrb.formats.writing import replacing
from hmrb.spec import Experiment
from hmrb.training.trackers import TRACKERS, TrackedRun, Tracker, flat, without_folders

IDS = "tracked.json"  # in the run's folder: the id of the run in each tracker
END_S = 75.0  # wait for the trackers at the end of a run; more than a tracker's own limits together
STOPPED_S = 15.0  # the same where a run was stopped, which may be killed soon
MAX_WAITING = 10_000  # calls that a tracker has not taken yet: 200,000 steps


class Sender:
    """Hands calls to one tracker in order. Its first error is said, the others are counted."""

    def __init__(self, name: str, tracker: Tracker, run: TrackedRun, ids: "Ids") -> None:
        self._name, self._tracker, self._run, self._ids = name, tracker, run, ids
        self._waiting: Queue[Callable[[], None] | None] = Queue(MAX_WAITING)
        self._lost, self._has_said, self._is_open = 0, False, True
        self._thread = threading.Thread(target=self._work, name=f"track-{name}", daemon=True)
        self._thread.start()

    def put(self, call: Callable[[Tracker], None]) -> None:
        """Queues a call; returns at once."""
        if not self._is_open:
            return
        try:
            self._waiting.put_nowait(partial(call, self._tracker))
        except Full:
            self._lost += 1

    def end(self, is_done: bool) -> None:
        """Queues the end of the tracked run."""
        self.put(lambda tracker: tracker.end(is_done))
        with suppress(Full):  # it hangs since long ago
            self._waiting.put_nowait(None)

    def close(self, until: float) -> None:
        """Waits until a time of `time.monotonic` for what is queued. Says what was not sent."""
        self._thread.join(max(until - time.monotonic(), 0))
        is_late = self._thread.is_alive()
        lost = self._lost + (max(self._waiting.qsize(), 1) if is_late else 0)
        if lost and (self._is_open or is_late):
            late = "it does not answer; " if is_late else ""
            _say(f"--track {self._name}: {late}{lost} of its messages were lost; log.jsonl and eval/ have all numbers")

    def _work(self) -> None:
        self._is_open = self._try(self._begin)
        while self._is_open and (call := self._waiting.get()) is not None:
            self._lost += not self._try(call)

    def _begin(self) -> None:
        self._ids.keep(self._name, self._tracker.begin(self._run, self._ids.of(self._name)))
        _say(f"--track {self._name}: {self._tracker.where()}")

    def _try(self, call: Callable[[], None]) -> bool:
        try:
            call()
        except Exception as error:  # foreign code, networks and servers raise anything, and a run outlives it
            if not self._has_said:
                words = next(iter(str(error).strip().splitlines()), "")
                _say(f"--track {self._name}: {type(error).__name__}: {words[:300]}; the run goes on without it")
            self._has_said = True
            return False
        return True


class Tracking:
    """The trackers of a run; without any it does nothing."""

    def __init__(self, senders: Sequence[Sender] = ()) -> None:
        self._senders = senders

    def numbers(self, step: int, group: str, numbers: Mapping[str, float]) -> None:
        """Sends what TensorBoard gets, as `group/name`; a group of scores is their protocol."""
        named = {f"{group}/{name}": float(value) for name, value in numbers.items()}
        for sender in self._senders:
            sender.put(lambda tracker: tracker.numbers(step, named))

    def result(self, record: Record) -> None:
        """Sends the scores of a record and its provenance; names have its protocol."""
        step = int(record.source.checkpoint["step"])
        scores = {f"{record.protocol}/{name}": number.value for name, number in record.metrics.items()}
        provenance = {f"{record.protocol}/{key}": text for key, text in provenance_of(record).items()}
        for sender in self._senders:
            sender.put(lambda tracker: tracker.results(step, scores, provenance))


UNTRACKED = Tracking()


class Ids:
    """The ids that trackers gave a run, kept in its folder."""

    def __init__(self, folder: Path) -> None:
        self._path, self._lock = folder / IDS, threading.Lock()
        self._ids: dict[str, str] = {}
        try:
            found = json.loads(self._path.read_bytes()) if self._path.exists() else {}
            if not (isinstance(found, dict) and all(map(_is_id, found.values()))):
                raise ValueError
            self._ids = found
        except (OSError, ValueError, RecursionError):
            _say(f"{self._path}: not the ids that hmrb wrote; the run is tracked as a new one")

    def of(self, name: str) -> str:
        """The id in a tracker, or ""."""
        return self._ids.get(name, "")

    def keep(self, name: str, value: str) -> None:
        """Writes the id in a tracker. Raises OSError."""
        with self._lock:
            self._ids[name] = value
            with replacing(self._path) as part:
                part.write_text(json.dumps(self._ids), encoding="utf-8")


def _is_id(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_-]{1,64}", value) is not None


@contextmanager
def tracked(names: Sequence[str], experiment: Experiment, folder: Path, wait_s: float = END_S) -> Iterator[Tracking]:
    """Tracks a run by these trackers until the block ends, as failed if that raises."""
    if not names:
        yield UNTRACKED
        return
    spec = without_folders(experiment.model_dump(mode="json"))
    run, ids = TrackedRun(folder.absolute().name, experiment.name, folder, spec), Ids(folder)
    senders = [Sender(name, tracker, run, ids) for name in names if (tracker := _made(name))]
    is_done = False
    try:
        yield Tracking(senders)
        is_done = True
    finally:
        until = time.monotonic() + (wait_s if is_done else min(wait_s, STOPPED_S))
        for sender in senders:
            sender.end(is_done)
        for sender in senders:
            sender.close(until)


def _made(name: str) -> Tracker | None:
    """A tracker; imports its package here, as a process that forks during an import may hang. None if that fails."""
    try:
        return TRACKERS[name]()
    except Exception as error:  # whatever a broken installation raises
        _say(f"--track {name}: {type(error).__name__}: {str(error)[:300]}; the run goes on without it")
        return None


def provenance_of(record: Record) -> dict[str, str]:
    """Where a record's numbers come from, as text by name: checkpoint, shards, body, versions; no folder and no host.

    The spec is left out: it is the run's own.
    """
    tree = {
        "record": record.sha,
        "shard": record.conditions.shard["sha"],
        "people": record.num_people,
        "skipped": sum(record.skipped.values()),
        **record.source.model_dump(mode="json", exclude={"spec"}),
        "machine": record.machine.model_dump(mode="json"),
    }
    return flat(without_folders(tree))


def _say(message: str) -> None:
    print(f"hmrb: {message}", file=sys.stderr, flush=True)
