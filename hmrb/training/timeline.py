"""What host and device did at each time of a profile: phases of the host, work of the device, gaps between the work."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile
from typing import Any

from torch._C._autograd import DeviceType

PREFIX = "hmrb: "  # of the names that record_function gives phases
RUNTIME = ("cu", "hip")  # calls of the driver: cudaLaunchKernel, cudaMemcpyAsync, cuLaunchKernel, hipLaunchKernel
ALL_REDUCE, REST = "all-reduce (beside backward)", "everything else"


@dataclass(frozen=True, slots=True)
class Span:
    """What went on from `start` to `stop`, in microseconds: a phase, or work of the device with its phase."""

    start: float
    stop: float
    phase: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The phases that the host was in, one at a time, and the device's work by the phase that launched it.

    torch lists a range twice on a GPU: its time on the host and, under the same name, the time between its first and
    its last kernel; the second is left out here. Kernels of a backward pass are launched by a thread of autograd's,
    outside all ranges. Therefore work belongs to the phase of the main thread at the time of its launch.
    """

    host: Sequence[Span]
    device: Sequence[Span]
    all_reduce_us: float
    """Time of the exchange of gradients on the host: gloo's."""

    @classmethod
    def of(cls, events: Iterable[Any]) -> "Timeline":
        """The timeline of torch's FunctionEvents."""
        events = list(events)
        on_host = [event for event in events if event.device_type == DeviceType.CPU]
        ranges = [event for event in on_host if event.name.startswith(PREFIX)]
        host = list(_innermost(ranges))
        starts = [span.start for span in host]
        # Ids of calls and of operators are counted apart, so only calls of the driver may lend theirs.
        calls = [event for event in on_host if event.name.startswith(RUNTIME) and "::" not in event.name]
        launches = {event.id: event.time_range.start for event in calls}

        def phase(event: Any) -> str:
            if "allreduce" in event.name.lower():
                return ALL_REDUCE
            at = launches.get(event.id)
            index = bisect_right(starts, at) - 1 if at is not None else -1
            return host[index].phase if index >= 0 and at is not None and at < host[index].stop else REST

        work = [event for event in events if event.device_type != DeviceType.CPU and not event.is_user_annotation]
        device = [Span(event.time_range.start, event.time_range.end, phase(event)) for event in work]
        exchange = sum(event.cpu_time_total for event in on_host if ":all_reduce" in event.name)
        return cls(host, sorted(device, key=lambda span: span.start), exchange)

    def host_ms(self, steps: int) -> dict[str, float]:
        """Milliseconds of a step that the host spent in each phase, and in no inner one."""
        out = _sums(self.host, steps)
        return out | ({ALL_REDUCE: self.all_reduce_us / 1e3 / steps} if self.all_reduce_us else {})

    def device_ms(self, steps: int) -> dict[str, float]:
        """Milliseconds of a step that the device worked for each phase; what ran side by side counts for both."""
        return _sums(self.device, steps)

    def busy_ms(self, steps: int) -> float:
        """Milliseconds of a step in which the device worked at all; what ran side by side counts once."""
        return sum(stop - start for start, stop, *_ in self._busy()) / 1e3 / steps

    def gaps(self, steps: int) -> list[str]:
        """The gaps between the device's work in words, those with the most time first, the same place in each step as
        one: between which phases the device had nothing to do, and where the host was for most of that time."""
        lengths: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
        busy = list(self._busy())
        for (_, start, _, before), (stop, _, after, _) in pairwise(busy):
            lengths[before, after, self._host_during(start, stop)].append(stop - start)
        ranked = sorted(lengths.items(), key=lambda item: -sum(item[1]))
        return [
            f"{sum(found) / 1e3 / steps:.2f} ms a step (longest {max(found) / 1e3:.2f} ms)"
            f" {f'within {before}' if before == after else f'between {before} and {after}'}, host in: {host}"
            for (before, after, host), found in ranked
        ]

    def _busy(self) -> Iterator[tuple[float, float, str, str]]:
        """Start and stop of each stretch of work without a pause, and the phases of its first and its last work."""
        start, stop, first, last = 0.0, float("-inf"), "", ""
        for span in self.device:
            if span.start > stop:
                if first:
                    yield start, stop, first, last
                start, first = span.start, span.phase
            if span.stop > stop:
                stop, last = span.stop, span.phase
        if first:
            yield start, stop, first, last

    def _host_during(self, start: float, stop: float) -> str:
        found: defaultdict[str, float] = defaultdict(float)
        first = bisect_right(self.host, start, key=lambda span: span.stop)
        for span in takewhile(lambda span: span.start < stop, islice(self.host, first, None)):
            found[span.phase] += min(span.stop, stop) - max(span.start, start)
        found[REST] = stop - start - sum(found.values())
        return max(found, key=lambda phase: found[phase])


def _innermost(ranges: Iterable[Any]) -> Iterator[Span]:
    """Cuts nested ranges of one thread into spans in order, each named after the innermost range."""
    open_ranges: list[tuple[float, str]] = []
    at = 0.0
    for event in sorted(ranges, key=lambda event: (event.time_range.start, -event.time_range.end)):
        start, stop = event.time_range.start, event.time_range.end
        while open_ranges and open_ranges[-1][0] <= start:
            end, phase = open_ranges.pop()
            if end > at:
                yield Span(at, end, phase)
            at = max(at, end)
        if open_ranges and start > at:
            yield Span(at, start, open_ranges[-1][1])
        at = max(at, start)
        open_ranges.append((stop, event.name.removeprefix(PREFIX)))
    for end, phase in reversed(open_ranges):
        if end > at:
            yield Span(at, end, phase)
        at = max(at, end)


def _sums(spans: Iterable[Span], steps: int) -> dict[str, float]:
    out: defaultdict[str, float] = defaultdict(float)
    for span in spans:
        out[span.phase] += (span.stop - span.start) / 1e3 / steps
    return dict(out)
