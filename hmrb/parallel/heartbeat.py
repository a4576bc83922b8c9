"""Heartbeats among the processes of a run: detects and reports a stuck or dead rank, then exits."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

PATIENCE_S = float(os.environ.get("HMRB_PATIENCE_S", "600"))
"""Timeout for another process, in seconds."""


@dataclass(slots=True)
class Heartbeat:
    """Number of collectives that this process has entered. A process with a lower count is behind."""

    meetings: int = 0


@contextmanager
def beating(heartbeat: Heartbeat, rank: int, size: int, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Sends heartbeats, and ends this process if another rank is silent or behind for `patience_s` seconds.

    A process that is stopped, or whose machine is down, closes no connection: without heartbeats the others would hang.
    The store is the process group's, over a separate connection; rank 0 may host it.
    """
    if size == 1:
        yield
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    signs = Signs(heartbeat, rank, size, patience_s)
    store = PrefixStore(f"heartbeat/{attempt}", TCPStore(address, port, is_master=False))
    store.set(str(rank), signs.own)
    # Two threads, because a store on a stopped host never answers.
    for target, args in ((signs.exchange, (store,)), (signs.watch, ())):
        threading.Thread(target=target, args=args, daemon=True).start()
    try:
        yield
    finally:
        signs.done.set()


@dataclass(slots=True)
class Signs:
    """The sign `beat meetings` of this process, and the last signs read from the others."""

    heartbeat: Heartbeat
    rank: int
    size: int
    patience_s: float
    own: str = "0 0"
    seen: list[str] = field(default_factory=list)
    seen_before: list[str] = field(default_factory=list)
    answered_at: float = field(default_factory=time.monotonic)
    waits_since: float = field(default_factory=time.monotonic)
    is_lost: bool = False
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def waited_s(self) -> float:
        """Seconds since this process last entered a collective."""
        return time.monotonic() - self.waits_since

    def exchange(self, store: Store) -> None:
        """Writes this process's sign periodically; while it waits, also reads the signs of the others."""
        beat, looked_at = 0, 0.0
        while not self.done.wait(min(1.0, self.patience_s / 10)):
            beat += 1
            meetings = self.heartbeat.meetings
            if meetings != int(self.own.split()[1]):
                self.waits_since, self.seen, self.seen_before = time.monotonic(), [], []
            self.own = f"{beat} {meetings}"
            try:
                store.set(str(self.rank), self.own)
                # Only waiting processes read: a thousand processes may share this store.
                if min(self.waited_s, time.monotonic() - looked_at) > self.patience_s / 3:
                    signs = store.multi_get([str(rank) for rank in range(self.size)])
                    self.seen_before, self.seen = self.seen, [sign.decode() for sign in signs]
                    looked_at = time.monotonic()
            except RuntimeError:
                self.is_lost = True  # the store's host is down: the next collective raises an error
                return
            self.answered_at = time.monotonic()

    def watch(self) -> None:
        """Ends this process if it has waited too long for others that are silent or behind."""
        while not self.done.wait(min(1.0, self.patience_s / 10)) and not self.is_lost:
            before, seen, meetings = self.seen_before, self.seen, self.heartbeat.meetings
            if self.waited_s < self.patience_s or meetings != int(self.own.split()[1]):
                continue
            if time.monotonic() - self.answered_at > self.patience_s / 2:
                silent, behind = [0], []
            else:
                silent = [rank for rank, (sign, then) in enumerate(zip(seen, before, strict=False)) if sign == then]
                behind = [rank for rank, sign in enumerate(seen) if int(sign.split()[1]) < meetings]
            if missing := silent or behind:
                if self.rank == min(set(range(self.size)) - set(missing)):
                    _report_missing(self.rank, missing, bool(silent), self.waited_s)
                os._exit(1)


def _report_missing(rank: int, missing: list[int], are_silent: bool, waited_s: float) -> None:
    who = f"process{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
    why = "no heartbeat: stopped, or the machine is down" if are_silent else "alive, but stuck before this point"
    print(
        f"hmrb: process {rank} waited {waited_s:.0f} s for {who} ({why}); HMRB_PATIENCE_S sets the timeout",
        file=sys.stderr,
        flush=True,
    )
