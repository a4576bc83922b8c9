"""What a dataset of the catalogue is, and how its raw form becomes shards."""

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hmrb.data.shard import ShardInfo, ShardWriter
from hmrb.errors import RequestError
from hmrb.records import Sample
from hmrb.store import Store


@dataclass(frozen=True, slots=True)
class Part:
    """One split to be made: `read` turns each of `items` into its samples, whichever process it runs in."""

    split: str
    items: Sequence[Any]
    read: Callable[[Any], Iterable[Sample]]


@dataclass(frozen=True, slots=True)
class Source:
    """A dataset: `plan` names its parts. `makes_itself` says that it needs nothing from anywhere."""

    name: str
    title: str
    licence: str
    skeleton: str
    body: str
    splits: tuple[str, ...]
    plan: Callable[..., list[Part]]
    makes_itself: bool = False


class Ticker:
    """Told of each part and of each item done; the door makes a progress bar of it."""

    def part(self, path: Path, items: int) -> None:
        """A shard is begun."""

    def done(self, item: object) -> None:
        """A person is written, or another item dealt with."""


def convert(
    source: Source, parts: Sequence[Part], store: Store, made_by: str, workers: int, ticker: Ticker
) -> list[ShardInfo]:
    """Writes each part's shard. The bytes do not depend on `workers`: people are written in the order of the items."""
    infos = []
    for part in parts:
        path = store.shard(source.name, part.split)
        ticker.part(path, len(part.items))
        about = {"dataset": source.name, "split": part.split, "skeleton": source.skeleton, "body": source.body}
        with ShardWriter(path, made_by=made_by, **about) as writer:
            for sample in _samples(part, workers):
                writer.add(sample)
                ticker.done(sample)
        infos.append(writer.info)
    return infos


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def pick_parts(parts: Sequence[Part], split: str | None) -> list[Part]:
    """All parts, or the one of a split. Raises RequestError with the splits there are."""
    chosen = [part for part in parts if split in (None, part.split)]
    if not chosen:
        raise RequestError(f"no split '{split}'; there are {', '.join(part.split for part in parts)}")
    return chosen


def _samples(part: Part, workers: int) -> Iterator[Sample]:
    if workers <= 1:
        for item in part.items:
            yield from part.read(item)
        return
    # A server forks the workers: they start at once, and from a process that has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [part.read.func.__module__ if isinstance(part.read, partial) else part.read.__module__]
    )
    with context.Pool(workers, initializer=_quiet) as pool:
        for samples in pool.imap(partial(_read, part.read), part.items, chunksize=8):
            yield from samples


def _read(read: Callable[[Any], Iterable[Sample]], item: Any) -> list[Sample]:
    return list(read(item))


def _quiet() -> None:
    """Ctrl-C is the parent's to handle."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)
