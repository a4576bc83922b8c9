"""Convert raw datasets to shards, block by block, in parallel processes.

An interrupted conversion can be resumed: finished blocks are kept next to the shard until it is complete.
"""

import json
import multiprocessing
import os
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from itertools import islice
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.writer import Block, guard, join
from hmrb.data.shard import ShardInfo
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import visible
from hmrb.formats.inside import inside
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Photo, Sample
from hmrb.store import Store

BLOCK_PHOTOS = 128


@dataclass(frozen=True, slots=True)
class Raw:
    """A downloaded dataset: its folder, and whether to reproduce the study's mistakes (`compat`)."""

    root: Path
    compat: bool = False
    store: Store = field(default_factory=Store.default)

    def need(self, *names: str) -> Path:
        """Return the first of these files or folders that exists. Raises RequestError with the names if none does."""
        for name in names:
            if (found := self.root / name).exists():
                return found
        raise RequestError(f"{self.root}: contains no {' or '.join(names)}; see hmrb convert-data NAME --explain")

    def some(self, pattern: str) -> list[Path]:
        """Return the matching files, sorted by name. Raises RequestError if there are none."""
        found = visible(self.root.glob(pattern))
        if not found:
            raise RequestError(f"{self.root}: contains no {pattern}; see hmrb convert-data NAME --explain")
        return found

    def file(self, name: str) -> Path:
        """Path of a file that an annotation names. Raises RunError if it is outside the folder."""
        return inside(self.root, name)


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """One split to convert: `read` turns each of `items` into photos and can run in any process.

    `photos_each` is the approximate number of photos per item. A block is held in memory, so it has fewer items if
    they are long.
    """

    split: str
    items: Sequence[Any]
    read: Callable[[Any], Iterable[Photo | Sample]]
    photos_each: int = 1


@dataclass(frozen=True, slots=True)
class Converter:
    """How to convert a dataset. `plan` lists its splits from a Raw folder, or without input if `makes_itself`.

    Shown to users: `tree`, the exact layout of the raw files; `traps`, common mistakes; and `study`, what
    `--compat study` changes ("" if nothing). `benchmarks` are the splits that keep the original images. `known` are
    the published numbers of people by split.
    """

    name: str
    title: str
    licence: str
    skeleton: str
    splits: tuple[str, ...]
    plan: Callable[..., list[SplitPlan]]
    body: str = "smpl"
    tree: str = ""
    traps: tuple[str, ...] = ()
    study: str = ""
    benchmarks: tuple[str, ...] = ()
    known: dict[str, int] = field(default_factory=dict)
    makes_itself: bool = False


@dataclass(frozen=True, slots=True)
class PhotoFilter:
    """Which photos of a dataset to keep: every n-th of each item, a fraction chosen by name, or names that match."""

    every: int = 1
    fraction: float = 1.0
    match: str = ""

    @property
    def name(self) -> str:
        """The shard's `selection` attribute; "" if everything is kept."""
        words = [f"every {self.every}"] if self.every > 1 else []
        words += [f"fraction {self.fraction:g}"] if self.fraction < 1 else []
        return ", ".join(words + ([f"match {self.match}"] if self.match else []))

    def keeps(self, name: str, number: int) -> bool:
        """Whether to keep the photo with this name and this index in the dataset's order."""
        share = (zlib.crc32(name.encode()) % 10_000) / 10_000
        return not number % self.every and share < self.fraction and (not self.match or fnmatch(name, self.match))


EVERYTHING, ORIGINAL = PhotoFilter(), Packing()


@dataclass(frozen=True, slots=True)
class ConversionOptions:
    """Options of a conversion: selection of photos, storage of images, tolerated missing images, worker processes."""

    made_by: str
    workers: int = 1
    selection: PhotoFilter = EVERYTHING
    packing: Packing = ORIGINAL
    compat: bool = False
    missing_limit: int = 0
    """How many missing or unreadable images may be left out."""


class ProgressReporter:
    """Receives progress events; the command line shows them as a progress bar."""

    def part(self, path: Path, items: int) -> None:
        """A shard with this many items is started."""

    def done(self, item: object) -> None:
        """An item is finished."""

    def say(self, line: str) -> None:
        """Show a message to the user."""


def convert(
    source: Converter, parts: Sequence[SplitPlan], store: Store, making: ConversionOptions, ticker: ProgressReporter
) -> list[ShardInfo]:
    """Write the shard of each part. Its bytes depend neither on the number of processes nor on earlier attempts.

    Raises RunError if more images are unreadable than `making` allows, or if the disk is full.
    """
    return [_convert(source, part, store, making, ticker) for part in parts]


def _convert(
    source: Converter, part: SplitPlan, store: Store, making: ConversionOptions, ticker: ProgressReporter
) -> ShardInfo:
    path = store.shard(source.name, part.split)
    packing = replace(making.packing, kind="original") if part.split in source.benchmarks else making.packing
    about = {
        "dataset": source.name, "split": part.split, "skeleton": source.skeleton, "body": source.body,
        "made_by": making.made_by, "pictures": packing.name, "selection": making.selection.name,
        "compat": "study" if making.compat and source.study else "",
    }  # fmt: skip
    ticker.part(path, len(part.items))
    folder = _folder(path)
    size = max(BLOCK_PHOTOS // part.photos_each, 1)
    starts = range(0, len(part.items), size)
    blocks = [(number, start, part.items[start : start + size]) for number, start in enumerate(starts)]
    said = {**about, "items": len(part.items), "first": repr(part.items[:1])[:500], "block": size}
    guard(path, lambda: _open_blocks(folder, said))
    work = partial(_write_block, part.read, about, making.selection, packing, path)
    problems: list[str] = []
    for number, count, missing in _each(work, blocks, making.workers, path, part.read):
        problems += missing
        if len(problems) > making.missing_limit:
            raise RunError(
                f"{path}: {len(problems)} images cannot be read, --allow-missing allows {making.missing_limit}:"
                f" {'; '.join(problems[:3])}. Finished blocks are kept; run the command again to resume"
            )
        for _ in range(count):
            ticker.done(number)
    for line in problems:
        ticker.say(f"left out: {line}")
    written = [block for number, *_ in blocks if (block := _block(folder, number)).exists()]
    if not written:
        raise RequestError(f"{path}: no person in {len(part.items)} items was selected; nothing was written")
    info = join(written, path, about)
    shutil.rmtree(folder, ignore_errors=True)
    return info


def usable_cores() -> int:
    """Number of CPU cores available to this process."""
    return len(os.sched_getaffinity(0))


def pick_parts(parts: Sequence[SplitPlan], split: str | None) -> list[SplitPlan]:
    """All parts, or only those of one split. Raises RequestError with the available splits if it does not exist."""
    chosen = [part for part in parts if split in (None, part.split)]
    if not chosen:
        raise RequestError(f"no split '{split}'; available: {', '.join(part.split for part in parts)}")
    return chosen


def _open_blocks(folder: Path, plan: dict[str, Any]) -> None:
    """Create the folder of finished blocks; blocks of a different plan are deleted."""
    said = json.dumps(plan, sort_keys=True)
    note = folder / "plan.json"
    if folder.exists() and (not note.exists() or note.read_text() != said):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(said)


def _folder(path: Path) -> Path:
    """Folder of a shard's finished blocks until the shard is complete."""
    return path.parent / f".{path.stem}.blocks"


def _block(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.h5"


def _report(folder: Path, number: int) -> Path:
    """Report written after each block, even an empty one: it marks the block as done and lists missing images."""
    return folder / f"{number:06d}.json"


def _write_block(
    read: Callable[[Any], Iterable[Photo | Sample]],
    about: dict[str, Any],
    selection: PhotoFilter,
    packing: Packing,
    path: Path,
    job: tuple[int, int, Sequence[Any]],
) -> tuple[int, int, list[str]]:
    """Write one block unless it is done. Returns its number, its number of items and its unreadable images."""
    number, start, items = job
    folder = _folder(path)
    report = _report(folder, number)
    if report.exists() and not json.loads(report.read_text()):  # retry blocks with missing images
        return number, len(items), []
    block = Block(about, about["dataset"])
    missing = []
    for index, item in enumerate(items):
        for order, made in enumerate(read(item)):
            if not selection.keeps(made.name, start + index + order):
                continue
            try:
                samples = [made] if isinstance(made, Sample) else pack(made, packing)
            except UnreadablePicture as error:
                missing.append(str(error))
                continue
            for sample in samples:
                block.add(sample)

    def write() -> None:
        if block.num_people:
            block.write(_block(folder, number))
        part = report.with_suffix(".part")
        part.write_text(json.dumps(missing))
        os.replace(part, report)

    guard(path, write)
    return number, len(items), missing


def _each(work: Any, jobs: Sequence[Any], workers: int, path: Path, read: Callable[..., Any]) -> Iterator[Any]:
    if workers <= 1:
        yield from map(work, jobs)
        return
    # With forkserver, workers start fast and from a process without threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([read.func.__module__ if isinstance(read, partial) else read.__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_serve)
    try:
        yield from pool.map(work, jobs)
    except BrokenProcessPool:
        raise RunError(
            f"{path}: a worker process was killed; if it ran out of memory, use fewer --workers."
            " Finished blocks are kept; run the command again to resume"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _serve() -> None:
    """Initialise a worker: ignore Ctrl-C, which the parent handles, and exit when the parent exits."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def follow() -> None:
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    Thread(target=follow, daemon=True).start()


@dataclass(frozen=True, slots=True)
class Estimate:
    """Approximate size and duration of a part."""

    people: float
    bytes: float
    seconds: float


def estimate(part: SplitPlan, making: ConversionOptions, num_items: int = 4, num_photos: int = 20) -> Estimate:
    """Estimate a part from the first photos of a few items; seconds are for one process."""
    begin = time.perf_counter()
    samples: list[Sample] = []
    looked = part.items[:: max(len(part.items) // num_items, 1)][:num_items]
    for item in looked:
        for made in islice(part.read(item), num_photos):
            try:
                samples += [made] if isinstance(made, Sample) else pack(made, making.packing)
            except UnreadablePicture:
                continue
    seen = len(looked) * min(num_photos / part.photos_each, 1)  # in items
    share = len(part.items) / seen * making.selection.fraction / making.selection.every if seen else 0.0
    size = sum(len(sample.jpeg) for sample in samples)
    return Estimate(len(samples) * share, size * share, (time.perf_counter() - begin) * share)
