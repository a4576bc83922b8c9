"""Measures a run: mean losses, images per second, and what the run waits for."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.profiler import record_function

from hmrb.batch import Batch
from hmrb.parallel.world import World

WORTH_SAYING = 0.2  # of the time: less is no limit, and on a CPU more workers would take cores from computing
ADVICE = {
    "loader": "loading pictures limits it: raise data.workers, or use fewer augmentations and a faster disk",
    "device": "computing limits it: optim.precision: bf16, speed.compile, or more devices",
    "host": "launching kernels limits it: more pictures per device at a time, or speed.compile",
}


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of a run's training time: waiting for data, steps on the device, device behind the host.

    `device_share` is the time between the first and the last kernel of each step, and `device_lag` the time by which
    the device ends a step after the host has queued it. On a CPU, which has no queue, both are the time not waited.
    """

    data_wait: float
    device_share: float
    device_lag: float

    @property
    def limit(self) -> Literal["loader", "device", "host"]:
        """What a faster run needs most.

        A device that is idle between steps lacks pictures; one that is behind the host is the limit itself; and if it
        is neither, it has waited for the host within steps.
        """
        if min(self.data_wait, 1 - self.device_share) > WORTH_SAYING:
            return "loader"
        return "device" if self.device_lag > WORTH_SAYING else "host"

    def line(self) -> str:
        """One line for the user: what limits the run, and what to change."""
        return (
            f"of the training time, {self.data_wait:.0%} waited for data and {self.device_share:.0%} were steps on the"
            f" device; {ADVICE[self.limit]}"
        )


class Meter:
    """Measures mean losses, images per second and the share of time spent waiting for data."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clock = DeviceClock(world.device) if world.device.type == "cuda" else None
        self._all_waited = self._all_elapsed = self._busy = self._lag = 0.0
        self._reset()

    def _reset(self) -> None:
        self._start, self._waited, self._images, self._steps = time.perf_counter(), 0.0, 0, 0
        self._sums: dict[str, Tensor] = {}

    def waits(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yields the batches and measures the time spent waiting for them."""
        source = iter(batches)
        while True:
            start = time.perf_counter()
            with record_function("hmrb: data wait"):
                batch = next(source, None)
            self._waited += time.perf_counter() - start
            if batch is None:
                return
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What runs inside (evaluations, checkpoints) does not count as training time."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def begin(self) -> None:
        """Called before each step."""
        if self._clock:
            self._clock.begin()

    def add(self, terms: Mapping[str, Tensor], images: int) -> None:
        """Adds one step; does not synchronise with the device."""
        if self._clock:
            self._clock.end()
        for name, term in terms.items():
            self._sums[name] = self._sums[name] + term if name in self._sums else term
        self._images, self._steps = self._images + images, self._steps + 1

    def facts(self) -> dict[str, float]:
        """Mean losses and throughput of all ranks since the last call, data_wait of this rank; all ranks must call.

        On a GPU also device_share and device_lag of this rank, see Shares.
        """
        totals = self._world.sum(torch.stack(list(self._sums.values()))) / (self._steps * self._world.size)
        numbers = totals.tolist()  # waits for the device
        elapsed = time.perf_counter() - self._start
        out = dict(zip(self._sums, numbers, strict=True))
        out |= {"images_per_s": self._world.size * self._images / elapsed, "data_wait": self._waited / elapsed}
        busy, lag = self._clock.read() if self._clock else (elapsed - self._waited,) * 2
        if self._clock:
            out |= {"device_share": busy / elapsed, "device_lag": lag / elapsed}
        self._all_waited, self._all_elapsed = self._all_waited + self._waited, self._all_elapsed + elapsed
        self._busy, self._lag = self._busy + busy, self._lag + lag
        self._reset()
        return out

    def shares(self) -> Shares | None:
        """The shares of the whole run up to the last `facts`, None without steps; all ranks must call.

        `data_wait` is of the rank that waited longest, because the others wait for it in each step.
        """
        if not self._all_elapsed:
            return None
        waited, busy, lag = (each / self._all_elapsed for each in (self._all_waited, self._busy, self._lag))
        longest = self._world.max(round(1000 * waited)) / 1000
        if not self._clock:  # what another rank waits for data, this one waits for that rank
            busy = lag = 1 - longest
        return Shares(longest, min(busy, 1.0), lag)


class DeviceClock:
    """Times steps on a GPU by events in its queue, which do not make the host wait."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._steps: list[tuple[Any, Any, float]] = []
        self._first: Any = None

    def begin(self) -> None:
        """Marks the first kernel of a step."""
        self._first = self._event()

    def end(self) -> None:
        """Marks the last kernel of a step, and when the host queued it."""
        self._steps.append((self._first, self._event(), time.perf_counter()))

    def read(self) -> tuple[float, float]:
        """Seconds of the steps since the last call on the device, and seconds by which it ended them after the host.

        The device's queue must be empty, as after reading a number from it.
        """
        now, host_now = self._event(), time.perf_counter()
        torch.cuda.synchronize(self._device)
        busy = sum(first.elapsed_time(last) for first, last, _ in self._steps) / 1e3
        lag = sum(max(host_now - last.elapsed_time(now) / 1e3 - queued, 0.0) for _, last, queued in self._steps)
        self._steps = []
        return busy, lag

    def _event(self) -> Any:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event
