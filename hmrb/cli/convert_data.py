"""hmrb convert-data: a dataset to shards."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from hmrb.data.source import Source, Ticker
    from hmrb.store import Store

SHEET_PEOPLE = 64


def convert_data(
    name: Annotated[str, typer.Argument(help="The dataset, or `occluders`.", show_default=False)],
    raw: Annotated[Path | None, typer.Option(help="Folder of the raw files.", show_default=False)] = None,
    preset: Annotated[str, typer.Option(help="synthetic: easy or full.")] = "easy",
    people: Annotated[
        int | None, typer.Option(min=1, help="synthetic: people to train on.  [default: 10000]", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="synthetic: the seed of everybody in it.")] = 0,
    split: Annotated[str | None, typer.Option(help="Make this split only.", show_default=False)] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes.  [default: the cores]", show_default=False)
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Store to write into.  [default: $HMRB_HOME]", show_default=False)
    ] = None,
) -> None:
    """Turn a dataset into shards; `synthetic` is made from nothing."""
    from hmrb.data.sources import SOURCES, synthetic
    from hmrb.lookup import find
    from hmrb.store import Store

    store = Store(out) if out else Store.default()
    if name == "occluders":
        _prepare_occluders(raw, store)
        return
    find("dataset", name, SOURCES)
    _make(synthetic.by_preset(preset), store, people or synthetic.TRAIN_PEOPLE, seed, split, workers)


def make_dataset(name: str, store: "Store") -> None:
    """Makes a dataset that needs nothing from anywhere, as `hmrb convert-data` does by default."""
    from hmrb.data.sources import SOURCES, synthetic

    _make(SOURCES[name], store, synthetic.TRAIN_PEOPLE, 0, None, None)


def _make(source: "Source", store: "Store", people: int, seed: int, split: str | None, workers: int | None) -> None:
    """Shards with a progress bar, then a contact sheet of each for a person to look at."""
    from hmrb.data.source import convert, pick_parts, usable_cores
    from hmrb.data.sources.synthetic import preset_of, recipe

    parts = pick_parts(source.plan(people=people, seed=seed), split)
    with _bar() as (console, ticker):
        made_by = recipe(preset_of(source), people, seed)
        for info in convert(source, parts, store, made_by, workers or usable_cores(), ticker):
            path = store.shard(source.name, info.split)
            size = path.stat().st_size / 1e6
            for line in (
                f"{path}: {info.num_people} people, {size:.1f} MB, sha {info.sha}",
                f"  look at it: {_contact_sheet(path)}",
            ):
                console.print(line, soft_wrap=True, highlight=False)


def _prepare_occluders(raw: Path | None, store: "Store") -> None:
    """Objects of Pascal VOC 2012, for the augmentations that paste them over people."""
    from hmrb.data.occluders import prepare_pascal
    from hmrb.errors import RequestError

    if raw is None:
        raise RequestError("occluders: --raw DIR has to say where Pascal VOC 2012 is unpacked")
    with _bar("pictures") as (console, ticker):
        count = prepare_pascal(raw, store.pascal, ticker)
        size = store.pascal.stat().st_size / 1e6
        console.print(f"{store.pascal}: {count} objects, {size:.1f} MB", soft_wrap=True, highlight=False)


@contextmanager
def _bar(what: str = "people") -> "Iterator[tuple[Console, Ticker]]":
    """Items done, rate and time left; a line each tenth where nobody watches a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from hmrb.data.source import Ticker

    console = Console()
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    ]

    class Bar(Ticker):
        task = None

        def part(self, path: Path, items: int) -> None:
            self.task = progress.add_task(path.name, total=items, rate="")

        def done(self, sample: object) -> None:
            task = progress.tasks[-1]
            speed = task.finished_speed or task.speed or 0.0
            progress.update(task.id, advance=1, rate=f"{speed:.0f} {what}/s, left")
            if not console.is_terminal and task.total and task.completed % max(task.total // 10, 1) == 0:
                left = f", {task.time_remaining} s left" if task.time_remaining else ""
                console.print(
                    f"{task.description}: {task.completed:.0f} of {task.total:.0f}, {speed:.0f} {what}/s{left}",
                    highlight=False,
                )

    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield console, Bar()


def _contact_sheet(path: Path) -> Path:
    import cv2

    from hmrb.data.shard import Shard
    from hmrb.synthetic.people import contact_sheet

    shard = Shard(path)
    rows = range(0, len(shard), max(len(shard) // SHEET_PEOPLE, 1))
    sheet = contact_sheet([shard.read(row) for row in list(rows)[:SHEET_PEOPLE]])
    out = path.with_suffix(".png")
    cv2.imwrite(str(out), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR))
    return out
