"""Predicts how training scales from 1 to 1,024 GPUs and from 10^5 to 10^9 people, and checks the formulas.

Without options it prints the tables of docs/scale.md from the constants below. With --check it measures what this
machine can run, beside the predictions of the same formulas: the throughput of 1, 2 and 4 gloo processes, and reads of
a shard through fsspec with added latency.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import h5py
import numpy as np
import torch
from record import Figure, arguments, finish
from step_rate import made_up
from torch import distributed

from hmrb.body import load_body
from hmrb.data.loader import StepDraws, on_device, train_loader
from hmrb.data.shard import Shard
from hmrb.parallel.world import World
from hmrb.spec import Experiment, load_experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.learner import build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

# Published: NVIDIA DeepLearningExamples, ResNet50 v1.5 for PyTorch, DGX A100 80GB, pytorch-21.03, mixed precision.
GPU_IMAGES_PER_S, EIGHT_GPUS_IMAGES_PER_S = 2470.0, 16621.0
# Nominal: DGX A100's NVLink (600 GB/s both ways) and its 200 Gb/s of InfiniBand a GPU.
NVLINK_BYTES_PER_S, NETWORK_BYTES_PER_S, GPUS_PER_NODE = 300e9, 25e9, 8
HOP_S = 10e-6  # assumed: latency of one step of a collective
GRADIENT_BYTES = 4 * (26.98e6 + 1.81e6)  # counted: backbone and regressor, discriminator
GPU_BATCH = 64
# Counted: tests/training/launches.py, operations of a step outside the backbone. Assumed, not measured: what the host
# takes for one of them. A GPU computes such small operations faster than the host starts them, so a step waits for the
# host, whatever its batch.
REST_LAUNCHES, LAUNCH_S = 422, 7e-6
REST_S = REST_LAUNCHES * LAUNCH_S
# Measured: docs/shards.md.
CORE_IMAGES_PER_S, DRAW_S = 765.0, 3.6e-6
# Measured: bytes of a person's picture packed for crops of 224 px (shard_rate.py). Counted: its labels (data/shard.py).
PICTURE_BYTES, LABEL_BYTES = 82e3, 2006.0
# Published: Amazon S3 user guide, "Best practices design patterns: optimizing Amazon S3 performance".
STORE_LATENCY_S, GETS_PER_PREFIX = 0.15, 5500.0

GPUS, PEOPLE = (1, 8, 64, 256, 1024), (1e5, 1e6, 1e7, 1e8, 1e9)
BATCH, STEPS = 64, 40  # of --check


def all_reduce_s(size: int, num_bytes: float, bytes_per_s: float, hop_s: float = HOP_S) -> float:
    """Seconds of a ring all-reduce: sends 2 (n - 1) / n of the bytes in 2 (n - 1) hops."""
    return 2 * (size - 1) / size * num_bytes / bytes_per_s + 2 * (size - 1) * hop_s


def gpus_all_reduce_s(gpus: int) -> float:
    """Seconds of the all-reduce: NVLink within a node, then an eighth of the bytes per GPU between nodes."""
    within, nodes = min(gpus, GPUS_PER_NODE), max(gpus // GPUS_PER_NODE, 1)
    return all_reduce_s(within, GRADIENT_BYTES, NVLINK_BYTES_PER_S) + all_reduce_s(
        nodes, GRADIENT_BYTES / within, NETWORK_BYTES_PER_S
    )


def step_s(compute_s: float, reduce_s: float) -> float:
    """Seconds of a step if the all-reduce does not overlap with the backward pass: the worst case."""
    return compute_s + reduce_s


def reads_per_s(readers: int, latency_s: float, num_bytes: float, bytes_per_s: float) -> float:
    """Ranges per second of this many readers, each with one request at a time."""
    return readers / (latency_s + num_bytes / bytes_per_s)


def main() -> None:
    """Prints the tables, or the comparison with measurements."""
    parser = arguments(__doc__)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--steps", type=int, default=STEPS, help="of --check")
    asked = parser.parse_args()
    figures: list[Figure] = []
    lines = check(asked.processes, asked.steps, figures) if asked.check else [*by_gpus(), "", *by_people()]
    print("\n".join(lines))
    finish(asked, "scale", figures)


def throughput(gpus: int) -> tuple[float, float, float]:
    """Images/s, and seconds of a step and of its all-reduce."""
    reduce_s = gpus_all_reduce_s(gpus)
    seconds = step_s(GPU_BATCH / GPU_IMAGES_PER_S + REST_S, reduce_s)
    return gpus * GPU_BATCH / seconds, seconds, reduce_s


def by_gpus() -> list[str]:
    """The table from 1 to 1,024 GPUs."""
    columns = (
        "GPUs", "batch", "images/s", "all-reduce, ms", "step, ms", "efficiency", "loader cores", "read, GB/s",
        "prefixes", "readers",
    )  # fmt: skip
    out = [f"| {' | '.join(columns)} |", "| ---: " * len(columns) + "|"]
    one = throughput(1)[0]
    for gpus in GPUS:
        rate, seconds, reduce_s = throughput(gpus)
        readers = rate * STORE_LATENCY_S
        out.append(
            f"| {gpus:,} | {gpus * GPU_BATCH:,} | {rate:,.0f} | {1e3 * reduce_s:.1f} | {1e3 * seconds:.1f} |"
            f" {rate / one / gpus:.2f} | {rate / CORE_IMAGES_PER_S:,.0f} | {rate * PICTURE_BYTES / 1e9:,.2f} |"
            f" {int(np.ceil(rate / GETS_PER_PREFIX))} | {readers:,.0f} |"
        )
    return out


def by_people() -> list[str]:
    """The table from 10^5 to 10^9 people."""
    out = ["| people | pictures | labels | an epoch on " + " | ".join(f"{n:,}" for n in GPUS) + " GPUs |"]
    out += ["| ---: " * (3 + len(GPUS)) + "|"]
    for people in PEOPLE:
        times = " | ".join(duration(people / throughput(gpus)[0]) for gpus in GPUS)
        out.append(f"| {people:,.0f} | {size(people * PICTURE_BYTES)} | {size(people * LABEL_BYTES)} | {times} |")
    return out


def duration(seconds: float) -> str:
    """A duration in a readable unit."""
    for unit, length in (("d", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.2g} s"


def size(num_bytes: float) -> str:
    """A number of bytes in a readable unit."""
    for unit, length in (("TB", 1e12), ("GB", 1e9)):
        if num_bytes >= length:
            return f"{num_bytes / length:.3g} {unit}"
    return f"{num_bytes / 1e6:.3g} MB"


def check(processes: list[int], steps: int, figures: list[Figure]) -> list[str]:
    """Measurements beside predictions, for what this machine can run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shard = made_up(folder)
        return [*check_processes(folder, shard, processes, steps, figures), "", *check_reads(shard, figures)]


def check_processes(folder: Path, shard: Shard, processes: list[int], steps: int, figures: list[Figure]) -> list[str]:
    """Predicted and measured throughput of the quickstart's model, with one batch in total and one per process."""
    cores = len(os.sched_getaffinity(0))
    columns = (
        "processes", "batch", "compute, ms", "all-reduce, ms", "predicted, images/s", "measured",
        "measured / predicted", "efficiency",
    )  # fmt: skip
    out = [f"{cores} cores", "", f"| {' | '.join(columns)} |", "| ---: " * len(columns) + "|"]
    one = 0.0
    plans = [(count, BATCH) for count in processes] + [(count, BATCH * count) for count in processes if count > 1]
    for count, batch in plans:
        compute_s = spawned(folder, shard, 1, batch // count, steps)["step"] * max(count / cores, 1)
        found = spawned(folder, shard, count, batch, steps)
        said, got = batch / step_s(compute_s, found["reduce"]), batch / found["step"]
        one = one or got
        figures.append(Figure(f"the quickstart's steps, {count} processes, batch {batch}", [got], "images/s", "higher"))
        cells = (f"{1e3 * compute_s:.1f}", f"{1e3 * found['reduce']:.1f}", f"{said:.0f}", f"{got:.0f}")
        out.append(f"| {count} | {batch} | {' | '.join(cells)} | {got / said:.2f} | {got / one / count:.2f} |")
    return out


def spawned(folder: Path, shard: Shard, count: int, batch: int, steps: int) -> dict[str, float]:
    """Mean seconds of a step and of an all-reduce of its gradients, in `count` processes."""
    meet = folder / f"meet-{count}-{batch}-{time.time_ns()}"
    torch.multiprocessing.spawn(  # type: ignore[attr-defined,no-untyped-call]
        _process, (count, str(meet), str(shard.path), batch, steps), nprocs=count
    )
    told: dict[str, float] = json.loads(meet.with_suffix(".json").read_text())
    return told


def _process(rank: int, count: int, meet: str, path: str, batch: int, steps: int) -> None:
    torch.set_num_threads(1)
    if count > 1:
        distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=count)
    world, shards = World(rank, count, torch.device("cpu")), {"synthetic": Shard(Path(path))}
    spec: Experiment = load_experiment(Path("specs/quickstart.yaml"), (f"optim.batch={batch}",))
    learner, losses = build_learner(spec, shards, Store.default(), world), Losses(spec.losses, load_body("open"))
    dataset = draw_dataset(spec, shards, Store.default())
    loader = on_device(train_loader(dataset, StepDraws(batch, 0, steps + 3, rank, count), 0), world.device)

    def step() -> None:
        train_step(learner, losses, next(loader), 0, spec.optim, world)

    num_bytes = 4 * sum(p.numel() for p in learner.model.parameters())
    buffer = torch.zeros(num_bytes // 4)
    found = {"step": timed(step, steps, world)}
    found["reduce"] = timed(lambda: distributed.all_reduce(buffer), steps, world) if count > 1 else 0.0
    if rank == 0:
        Path(meet).with_suffix(".json").write_text(json.dumps(found))
    if count > 1:
        distributed.destroy_process_group()


def timed(work: Callable[[], object], count: int, world: World) -> float:
    """Mean seconds of a call after three warm-up calls; all processes start together."""
    for _ in range(3):
        work()
    world.barrier()
    begun = time.perf_counter()
    for _ in range(count):
        work()
    return (time.perf_counter() - begun) / count


def check_reads(shard: Shard, figures: list[Figure]) -> list[str]:
    """Predicted and measured range reads of pictures from fsspec's memory file system, with added latency."""
    files = fsspec.filesystem("memory")
    files.pipe_file("/shard.h5", shard.path.read_bytes())
    with files.open("/shard.h5") as remote, h5py.File(remote) as found:  # opens the shard through a file object
        first, offsets = (
            found["jpeg/bytes"].id.get_offset(),
            found["jpeg/offset"][:] + found["jpeg/bytes"].id.get_offset(),
        )
        assert first == offsets[0]
    count, mean_bytes = len(offsets) - 1, float(np.diff(offsets).mean())

    def read(row: int, latency_s: float) -> int:
        time.sleep(latency_s)
        start, stop = offsets[row % count : row % count + 2].tolist()
        return len(files.cat_file("/shard.h5", start, stop))

    begun = time.perf_counter()
    local_s = sum(read(row, 0.0) for row in range(2000)) and (time.perf_counter() - begun) / 2000
    out = ["| latency, ms | readers | predicted, reads/s | measured | measured / predicted |", "| ---: " * 5 + "|"]
    for latency_s, readers in ((0.02, 1), (0.02, 16), (STORE_LATENCY_S, 16), (STORE_LATENCY_S, 64)):
        said = reads_per_s(readers, latency_s, mean_bytes, mean_bytes / local_s)
        with ThreadPoolExecutor(readers) as pool:
            total = int(said * 2) + readers
            begun = time.perf_counter()
            list(pool.map(read, range(total), [latency_s] * total))
            got = total / (time.perf_counter() - begun)
        name = f"reads, {1e3 * latency_s:.0f} ms of latency, {readers} readers: measured / predicted"
        figures.append(Figure(name, [got / said], "times", "higher"))
        out.append(f"| {1e3 * latency_s:.0f} | {readers} | {said:.0f} | {got:.0f} | {got / said:.2f} |")
    return out


if __name__ == "__main__":
    main()
