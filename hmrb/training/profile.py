"""Where the time of a step goes: torch's profiler over a few steps of a run, its trace and a table of shares."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, schedule

from hmrb.parallel.world import World
from hmrb.training.logger import Logger

SETTLING = 4  # steps before the profile: caches fill, threads and workers start
RANGES = (
    "data wait", "host to device", "counts", "forward", "SMPL", "losses", "adversary",
    "backward of losses and SMPL", "backward", "finite", "optimiser",
)  # fmt: skip
INSIDE = {"losses": "SMPL"}  # a range that holds another, whose time is not counted twice


class Profiler:
    """Told of each step's end. This one does nothing."""

    def step(self) -> None:
        """A step is done."""


class StepProfiler(Profiler):
    """Writes a trace of each process and the first one's table into `folder` after so many steps."""

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
        """A step is done."""
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
    """A line a range: ms a step and share of the step's `seconds`; on a GPU the time of its kernels beside it.

    All-reduce runs beside the backward pass and is part of none of the others' sum.
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
    """A profiler of that many steps of what is done inside, into `folder`/profile; of none where they are 0."""
    if not steps:
        yield Profiler()
        return
    profiler = StepProfiler(steps, folder / "profile", world, logger)
    with profiler.torch:
        yield profiler
