"""Signs of life among the processes of a run: whoever waits too long for another says for whom, and leaves."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch._C._distributed_c10d import PrefixStore, Store, TCPStore

PATIENCE_S = float(os.environ.get("HMRB_PATIENCE_S", "600"))
"""Longest wait for another process before it is called lost."""


@dataclass(slots=True)
class Pulse:
    """How often this process has come to meet the others; who has come less often is waited for."""

    meetings: int = 0


@contextmanager
def beating(pulse: Pulse, rank: int, size: int, patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Tells the others that this process lives, from a thread, and ends it where it waits in vain for one of them.

    A process that is stopped, or whose machine is gone, closes no connection: without this, the others wait on in
    silence. The store is that of the process group, reached by a connection of its own.
    """
    if size == 1:
        yield
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"pulse/{attempt}", TCPStore(address, port, is_master=False))
    store.set(str(rank), "0 0")
    done = threading.Event()
    thread = threading.Thread(target=_beat, args=(store, pulse, rank, size, patience_s, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=1)


def _beat(
    store: Store, pulse: Pulse, rank: int, size: int, patience_s: float, done: threading.Event
) -> None:
    beat, meetings, met_at, looked_at = 0, -1, 0.0, 0.0
    before: list[str] = []
    while not done.wait(min(1.0, patience_s / 10)):
        beat, now = beat + 1, time.monotonic()
        if pulse.meetings != meetings:
            meetings, met_at, looked_at, before = pulse.meetings, now, now, []
        try:
            store.set(str(rank), f"{beat} {meetings}")
            if now - looked_at < patience_s / 2:
                continue  # others are looked at only by those who wait: a thousand processes share this store
            signs = [sign.decode() for sign in store.multi_get([str(other) for other in range(size)])]
        except RuntimeError:
            return  # the store is gone, and with it the run: the next collective says so
        silent = [other for other, sign in enumerate(before) if sign == signs[other] and other != rank]
        behind = [other for other, sign in enumerate(signs) if int(sign.split()[1]) < meetings]
        missing = silent or behind
        if missing and now - met_at >= patience_s:
            if rank == min(set(range(size)) - set(missing)):
                _say_missing(rank, missing, bool(silent), now - met_at)
            os._exit(1)
        looked_at, before = now, signs


def _say_missing(rank: int, missing: list[int], are_silent: bool, waited_s: float) -> None:
    who = f"process{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing))}"
    why = "no sign of life: stopped, or the machine is gone" if are_silent else "alive, but stuck before this point"
    print(
        f"hmrb: process {rank} waited {waited_s:.0f} s for {who} ({why}); HMRB_PATIENCE_S sets the longest wait",
        file=sys.stderr,
        flush=True,
    )
