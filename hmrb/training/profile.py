"""Profile a few steps of a run with torch's profiler: writes traces, a table of time by phase and the idle gaps."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from hmrb.parallel.world import World
from hmrb.training.logger import Logger
from hmrb.training.timeline import ALL_REDUCE, REST, Timeline
from hmrb.training.utilisation import Utilisation

SETTLING = 4  # warm-up steps before profiling, in which caches fill and threads and workers start
NUM_GAPS = 3
RANGES = (
    "data wait", "host to device", "counts", "forward", "SMPL", "losses", "adversary",
    "backward of losses and SMPL", "backward", "finite", "optimiser",
)  # fmt: skip


class Profiler:
    """Receives the end of each step. This class does nothing."""

    def step(self) -> None:
        """Called after each step."""


class StepProfiler(Profiler):
    """Profiles `steps` steps; writes a trace per rank and rank 0's table to `folder`."""

    def __init__(self, steps: int, folder: Path, world: World, logger: Logger, use: Utilisation) -> None:
        self._steps, self._folder, self._world, self._logger, self._use = steps, folder, world, logger, use
        self._start, self._seconds, self._seen = 0.0, 0.0, 0
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (world.device.type == "cuda")
        self.torch = profile(
            activities=activities,
            schedule=schedule(wait=SETTLING - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
        )

    def step(self) -> None:
        """Called after each step; times the steps after SETTLING, without what the profiler does at their end."""
        self._seen += 1
        if self._seen == SETTLING:
            self._start = self._now()
        if self._seen == SETTLING + self._steps:
            self._seconds = (self._now() - self._start) / self._steps
        self.torch.step()

    def _now(self) -> float:
        """The time at which the device has finished what the host has queued."""
        if self._world.device.type == "cuda":
            torch.cuda.synchronize(self._world.device)
        return time.perf_counter()

    def _write(self, done: profile) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"trace-{self._world.rank}.json.gz"
        done.export_chrome_trace(str(trace))
        if self._world.is_main and self._seconds:
            on_gpu = self._world.device.type == "cuda"
            lines = shares(Timeline.of(done.events()), self._seconds, self._steps, on_gpu)
            table = "\n".join([*lines, "", *self._use.lines(self._seconds)])
            (self._folder / "summary.txt").write_text(table + "\n")
            self._logger.say(f"{table}\ntrace: {trace} (chrome://tracing, ui.perfetto.dev)")


def shares(timeline: Timeline, seconds: float, steps: int, on_gpu: bool) -> list[str]:
    """One line per phase: the host's ms per step and share of the step's `seconds`.

    On a GPU also the ms of its work by the phase that launched it, each once, and the largest idle gaps. All-reduce
    runs beside the backward pass, so its time is not part of the sum.
    """
    total = seconds * 1e3
    host, device = timeline.host_ms(steps), timeline.device_ms(steps)
    known = [name for name in RANGES if name in host]
    rows = {name: host[name] for name in known}
    rows |= {REST: total - sum(rows.values()), "a step": total}
    if ALL_REDUCE in host or ALL_REDUCE in device:
        rows[ALL_REDUCE] = host.get(ALL_REDUCE, 0.0)
    device["a step"] = busy = timeline.busy_ms(steps)
    beside = [f"{device.get(name, 0.0):10.2f}" if on_gpu else "" for name in rows]
    head = f"{'':30}{'ms':>10}{'share':>9}{'GPU ms' if on_gpu else '':>10}".rstrip()
    lines = [
        f"{name:30}{ms:10.2f}{ms / total:9.1%}{extra}" for (name, ms), extra in zip(rows.items(), beside, strict=True)
    ]
    if not on_gpu:
        return [head, *lines]
    idle = [f"the GPU computes or copies in {busy:.2f} of {total:.2f} ms ({busy / total:.1%}); its largest idle gaps:"]
    idle += [f"  {line}" for line in timeline.gaps(steps)[:NUM_GAPS]]
    return [head, *lines, "", *idle]


@contextmanager
def profiled(steps: int, folder: Path, world: World, logger: Logger, use: Utilisation) -> Iterator[Profiler]:
    """Profile `steps` steps inside the context and write to `folder`/profile; does nothing if `steps` is 0."""
    if not steps:
        yield Profiler()
        return
    profiler = StepProfiler(steps, folder / "profile", world, logger, use)
    with profiler.torch:
        yield profiler
