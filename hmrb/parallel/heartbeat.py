"""Signs of life among the processes of a run: whoever waits too long for another says for whom, and leaves."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

PATIENCE_S = float(os.environ.get("HMRB_PATIENCE_S", "600"))
"""Longest wait for another process before it is called lost."""


@dataclass(slots=True)
class Heartbeat:
    """How often this process has come to meet the others; who has come less often is waited for."""

    meetings: int = 0


@contextmanager
def beating(heartbeat: Heartbeat, rank: int, size: int, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Tells the others that this process lives, and ends it where it waits in vain for one of them.

    A process that is stopped, or whose machine is gone, closes no connection: without this, the others wait on in
    silence. The store is that of the process group, reached by a connection of its own; the first process may host it.
    """
    if size == 1:
        yield
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    signs = Signs(heartbeat, rank, size, patience_s)
    store = PrefixStore(f"heartbeat/{attempt}", TCPStore(address, port, is_master=False))
    store.set(str(rank), signs.own)
    # Two threads, for a store whose host has stopped never answers.
    for target, args in ((signs.exchange, (store,)), (signs.watch, ())):
        threading.Thread(target=target, args=args, daemon=True).start()
    try:
        yield
    finally:
        signs.done.set()


@dataclass(slots=True)
class Signs:
    """What this process tells the others and knows of them: `beat meetings` of each."""

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
        """How long this process has met nobody."""
        return time.monotonic() - self.waits_since

    def exchange(self, store: Store) -> None:
        """Writes this process's sign again and again; reads those of the others where it waits for them."""
        beat, looked_at = 0, 0.0
        while not self.done.wait(min(1.0, self.patience_s / 10)):
            beat += 1
            meetings = self.heartbeat.meetings
            if meetings != int(self.own.split()[1]):
                self.waits_since, self.seen, self.seen_before = time.monotonic(), [], []
            self.own = f"{beat} {meetings}"
            try:
                store.set(str(self.rank), self.own)
                # Only those who wait look at the others: a thousand processes share this store.
                if min(self.waited_s, time.monotonic() - looked_at) > self.patience_s / 3:
                    signs = store.multi_get([str(rank) for rank in range(self.size)])
                    self.seen_before, self.seen = self.seen, [sign.decode() for sign in signs]
                    looked_at = time.monotonic()
            except RuntimeError:
                self.is_lost = True  # the host of the store is gone: the next meeting says so
                return
            self.answered_at = time.monotonic()

    def watch(self) -> None:
        """Ends this process where it has waited too long for others that are silent or behind."""
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
                    _say_missing(self.rank, missing, bool(silent), self.waited_s)
                os._exit(1)


def _say_missing(rank: int, missing: list[int], are_silent: bool, waited_s: float) -> None:
    who = f"process{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
    why = "no sign of life: stopped, or the machine is gone" if are_silent else "alive, but stuck before this point"
    print(
        f"hmrb: process {rank} waited {waited_s:.0f} s for {who} ({why}); HMRB_PATIENCE_S sets the longest wait",
        file=sys.stderr,
        flush=True,
    )
