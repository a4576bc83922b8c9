"""Profile a few steps of a run with torch's profiler: writes traces and a table of time shares."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from hmrb.parallel.world import World
from hmrb.training.logger import Logger

SETTLING = 4  # warm-up steps before profiling, in which caches fill and threads and workers start
RANGES = (
    "data wait", "host to device", "counts", "forward", "SMPL", "losses", "adversary",
    "backward of losses and SMPL", "backward", "finite", "optimiser",
)  # fmt: skip
INSIDE = {"losses": "SMPL"}  # outer range: inner range, whose time is subtracted from the outer one


class Profiler:
    """Receives the end of each step. This class does nothing."""

    def step(self) -> None:
        """Called after each step."""


class StepProfiler(Profiler):
    """Profiles `steps` steps; writes a trace per rank and rank 0's table to `folder`."""

    def __init__(self, steps: int, folder: Path, world: World, logger: Logger) -> None:
        self._steps, self._folder, self._world, self._logger = steps, folder, world, logger
        self._start, self._seen = 0.0, 0
        activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (world.device.type == "cuda")
        self.torch = profile(
            activities=activities,
            schedule=schedule(wait=SETTLING - 1, warmup=1, active=steps, repeat=1),
            on_trace_ready=self._write,
        )

    def step(self) -> None:
        """Called after each step; starts timing after SETTLING steps."""
        self._seen += 1
        if self._seen == SETTLING:
            self._start = time.perf_counter()
        self.torch.step()

    def _write(self, done: profile) -> None:
        seconds = (time.perf_counter() - self._start) / self._steps
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"trace-{self._world.rank}.json.gz"
        done.export_chrome_trace(str(trace))
        if self._world.is_main:
            table = "\n".join(shares(done, seconds, self._steps, self._world.device.type == "cuda"))
            (self._folder / "summary.txt").write_text(table + "\n")
            self._logger.say(f"{table}\ntrace: {trace} (chrome://tracing, ui.perfetto.dev)")


def shares(done: profile, seconds: float, steps: int, on_gpu: bool) -> list[str]:
    """One line per range: ms per step and share of the step's `seconds`; on a GPU also the time of its kernels.

    All-reduce runs in parallel with the backward pass, so its time is not part of the sum.
    """
    cpu: dict[str, float] = {}
    gpu: dict[str, float] = {}
    for event in done.key_averages():
        name = event.key.removeprefix("hmrb: ")
        if any(word in event.key for word in ("gloo:all_reduce", "nccl:all_reduce")):
            name = "all-reduce (beside backward)"
        cpu[name] = cpu.get(name, 0.0) + event.cpu_time_total / 1e3 / steps
        gpu[name] = gpu.get(name, 0.0) + event.device_time_total / 1e3 / steps
    for outer, inner in INSIDE.items():
        cpu[outer], gpu[outer] = cpu[outer] - cpu.get(inner, 0.0), gpu[outer] - gpu.get(inner, 0.0)
    total = seconds * 1e3
    known = [name for name in RANGES if name in cpu]
    rest = {"everything else": total - sum(cpu[name] for name in known), "a step": total}
    rows = {name: cpu[name] for name in known} | rest
    if "all-reduce (beside backward)" in cpu:
        rows["all-reduce (beside backward)"] = cpu["all-reduce (beside backward)"]
    beside = [f"{gpu.get(name, 0.0):10.2f}" if on_gpu else "" for name in rows]
    head = f"{'':30}{'ms':>10}{'share':>9}{'GPU ms' if on_gpu else '':>10}".rstrip()
    lines = [
        f"{name:30}{ms:10.2f}{ms / total:9.1%}{extra}" for (name, ms), extra in zip(rows.items(), beside, strict=True)
    ]
    return [head, *lines]


@contextmanager
def profiled(steps: int, folder: Path, world: World, logger: Logger) -> Iterator[Profiler]:
    """Profile `steps` steps inside the context and write to `folder`/profile; does nothing if `steps` is 0."""
    if not steps:
        yield Profiler()
        return
    profiler = StepProfiler(steps, folder / "profile", world, logger)
    with profiler.torch:
        yield profiler
