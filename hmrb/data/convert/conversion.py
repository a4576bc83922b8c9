"""Convert raw datasets to shards, block by block, in parallel processes.

An interrupted conversion can be resumed: finished blocks are kept next to the shard until it is complete.
"""

import multiprocessing
import os
import re
import shutil
import signal
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from functools import partial
from itertools import groupby, islice
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

from hmrb.data.convert.blocks import (
    BlockReport,
    block_file,
    code_sha,
    digest,
    folder_of,
    open_blocks,
    read_report,
    tally_of,
    whole_blocks,
    write_report,
)
from hmrb.data.convert.pack import Packing
from hmrb.data.convert.people import Tally, check_missing, check_share, packed, summary
from hmrb.data.convert.raw import Raw as Raw
from hmrb.data.convert.writer import Block, guard, join
from hmrb.data.shard import ShardInfo
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import short_sha
from hmrb.formats.pictures import UnreadablePicture
from hmrb.records import Photo, Sample
from hmrb.store import Store
from hmrb.system import worker_context

BLOCK_PHOTOS = 128
RESUME = ". Finished blocks are kept; run the command again to resume"


@dataclass(frozen=True, slots=True)
class SplitPlan:
    """One split to convert: `read` turns each of `items` into photos and can run in any process.

    `photos_each` is the approximate number of photos per item. A block is held in memory, so it has fewer items if
    they are long. `left_out` counts people that the plan itself leaves out, by reason.
    """

    split: str
    items: Sequence[Any]
    read: Callable[[Any], Iterable[Photo | Sample]]
    photos_each: int = 1
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Converter:
    """How to convert a dataset. `plan` lists its splits from a Raw folder, or without input if `makes_itself`.

    Shown to users: `tree`, the exact layout of the raw files; `traps`, common mistakes; and `study`, what
    `--compat study` changes ("" if nothing). `study_fails` are the checks of hmrb verify that these changes fail.
    `benchmarks` are the splits that keep the original images. `known` are the published numbers of people by split.
    `source` is the shard's attribute of that name: the file of data that are not a dataset's own, or "".
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
    study_fails: tuple[str, ...] = ()
    benchmarks: tuple[str, ...] = ()
    known: dict[str, int] = field(default_factory=dict)
    makes_itself: bool = False
    source: str = ""


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
    """How many missing or unreadable images, and people that cannot be used, may be left out."""
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Size and time of change of the label files that the plan read."""


class ProgressReporter:
    """Receives progress events; the command line shows them as a progress bar."""

    def part(self, path: Path, items: int) -> None:
        """A shard with this many items is started."""

    def done(self, item: object) -> None:
        """An item is finished."""

    def say(self, line: str) -> None:
        """Show a message to the user."""

    def account(self, tally: Tally, missing: Sequence[str], changed: Mapping[str, int] = {}) -> None:
        """Who is not in the shard, doubtful or changed, by reason, and the images that could not be used."""
        told = (*summary("left out", tally.left_out), *summary("kept, but doubtful", tally.doubtful))
        for line in (*(f"left out: {line}" for line in missing), *told, *summary("changed", changed)):
            self.say(line)


def convert(
    source: Converter, parts: Sequence[SplitPlan], store: Store, making: ConversionOptions, ticker: ProgressReporter
) -> list[ShardInfo]:
    """Write the shard of each part. Its bytes depend neither on the number of processes nor on earlier attempts.

    Raises RunError if more images are unreadable than `making` allows, or if the disk is full.
    """
    return [_convert(source, part, store, making, ticker) for part in parts]


def packing_of(split: str, making: ConversionOptions, is_kept: bool) -> Packing:
    """How a split's images are stored: as asked, or as they are, `is_kept`, for splits that results are computed on."""
    return replace(making.packing, kind="original") if is_kept else making.packing


def refuse_regions(splits: str, making: ConversionOptions) -> None:
    """Raises RequestError if tiled or raw regions were asked for splits whose pictures are kept as they are."""
    if making.packing.form != "jpeg":
        raise RequestError(
            f"--pictures {making.packing.form}: {splits} keeps the original pictures, as every split that results are"
            " computed on; leave --pictures out"
        )


def _convert(
    source: Converter, part: SplitPlan, store: Store, making: ConversionOptions, ticker: ProgressReporter
) -> ShardInfo:
    path = store.shard(source.name, part.split)
    packing = packing_of(part.split, making, part.split in source.benchmarks)
    about = {
        "dataset": source.name, "split": part.split, "skeleton": source.skeleton, "body": source.body,
        "made_by": making.made_by, "selection": making.selection.name,
        "compat": "study" if making.compat and source.study else "", **packing.attributes,
        **({"source": source.source} if source.source else {}),
    }  # fmt: skip
    ticker.part(path, len(part.items))
    size = max(BLOCK_PHOTOS // part.photos_each, 1)
    starts = range(0, len(part.items), size)
    jobs = [(number, start, part.items[start : start + size]) for number, start in enumerate(starts)]
    work = partial(_write_block, part.read, about, making.selection, packing, path)
    reports: dict[int, BlockReport] = {}
    with open_blocks(path, _identity(part, about, making, size)) as folder:
        for number, count, report in _each(work, jobs, making.workers, path, part.read):
            reports[number] = report
            check_missing(str(path), _missing(reports), making.missing_limit, RESUME)
            for _ in range(count):
                ticker.done(number)
        tally, people = tally_of(reports.values()), sum(report.people for report in reports.values())
        tally.left_out.update(part.left_out)
        check_share(str(path), tally, people, making.missing_limit)
        ticker.account(tally, _missing(reports))
        if not people:
            raise RequestError(f"{path}: no person in {len(part.items)} items was selected; nothing was written")
        info = join(whole_blocks(path, folder, reports), path, about)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            ticker.say(f"{folder}: could not be deleted; {path.name} is complete, so delete the folder")
    return info


def _identity(part: SplitPlan, about: dict[str, Any], making: ConversionOptions, size: int) -> dict[str, Any]:
    """What finished blocks depend on: a conversion goes on only with blocks of the same code, labels and options."""
    command = re.sub(r" --allow-missing[ =]\d+", "", about["made_by"])
    inputs = digest(part.items, sorted(making.inputs.items()))
    return {**about, "made_by": command, "block": size, "inputs": inputs, "code": code_sha()}


def _missing(reports: dict[int, BlockReport]) -> list[str]:
    return [line for _, report in sorted(reports.items()) for line in report.missing]


def pick_parts(parts: Sequence[SplitPlan], split: str | None) -> list[SplitPlan]:
    """All parts, or only those of one split. Raises RequestError with the available splits if it does not exist."""
    chosen = [part for part in parts if split in (None, part.split)]
    if not chosen:
        raise RequestError(f"no split '{split}'; available: {', '.join(part.split for part in parts)}")
    return chosen


def _write_block(
    read: Callable[[Any], Iterable[Photo | Sample]],
    about: dict[str, Any],
    selection: PhotoFilter,
    packing: Packing,
    path: Path,
    job: tuple[int, int, Sequence[Any]],
) -> tuple[int, int, BlockReport]:
    """Write one block unless it is done. Returns its number, its number of items and its report."""
    number, start, items = job
    folder = folder_of(path)
    if done := read_report(folder, number):
        return number, len(items), done
    block = Block(about, about["dataset"])
    missing: list[str] = []
    tally = Tally()
    for index, item in enumerate(items):
        for order, made in enumerate(read(item)):
            is_somebody = isinstance(made, Sample) or bool(made.people)
            if is_somebody and not selection.keeps(made.name, start + index + order):
                continue
            try:
                for sample in packed(made, packing, tally):
                    block.add(sample)
            except UnreadablePicture as error:
                missing.append(str(error))

    def write() -> BlockReport:
        file = block_file(folder, number)
        if block.num_people:
            block.write(file)
        sha = short_sha(file) if block.num_people else ""
        report = BlockReport(block.num_people, sha, missing, dict(tally.left_out), dict(tally.doubtful))
        write_report(folder, number, report)
        return report

    return number, len(items), guard(path, write)


def _each(work: Any, jobs: Sequence[Any], workers: int, path: Path, read: Callable[..., Any]) -> Iterator[Any]:
    if workers <= 1:
        yield from map(work, jobs)
        return
    context = worker_context([read.func.__module__ if isinstance(read, partial) else read.__module__])
    pool = ProcessPoolExecutor(workers, context, initializer=_serve)
    try:
        yield from pool.map(work, jobs)
    except BrokenProcessPool:
        raise RunError(
            f"{path}: a worker process was killed; if it ran out of memory, use fewer --workers{RESUME}"
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
                samples += packed(made, making.packing, Tally())
            except UnreadablePicture:
                continue
    seen = len(looked) * min(num_photos / part.photos_each, 1)  # in items
    share = len(part.items) / seen * making.selection.fraction / making.selection.every if seen else 0.0
    size = sum(len(jpeg) for jpeg, _ in groupby(sample.jpeg for sample in samples))  # people of one photo may share it
    return Estimate(len(samples) * share, size * share, (time.perf_counter() - begin) * share)
