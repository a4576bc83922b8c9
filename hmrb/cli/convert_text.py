"""What hmrb convert-data prints: a dataset's card, the estimate of a conversion, a finished shard."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from hmrb.cli.lines import for_terminal

if TYPE_CHECKING:
    from rich.console import Console

    from hmrb.data.convert.conversion import ConversionOptions, Converter, SplitPlan
    from hmrb.data.shard import ShardInfo


Record = dict[str, Any]
"""What --json says of a file that was written."""


@contextmanager
def records_to(is_json: bool) -> Iterator[list[Record]]:
    """A list for records. With --json it is printed at the end, and what is said meanwhile goes to stderr."""
    records: list[Record] = []
    if not is_json:
        yield records
        return
    try:
        with redirect_stdout(sys.stderr):
            yield records
    finally:  # what was written stays, whatever comes after it
        if records:
            typer.echo(json.dumps(records, indent=1))


def print_shard(console: "Console", path: Path, info: "ShardInfo", accounts: dict[str, Record]) -> Record:
    """Prints a shard's people, size and hash, and where its contact sheet is. Returns the same as a record."""
    from hmrb.data.convert.contact_sheet import contact_sheet
    from hmrb.objects import shown, size_bytes

    size, place = size_bytes(path), shown(path)
    pictures = f"pictures: {info.pictures}" if info.num_images else "no pictures"
    says = f"{place}: {info.num_people} people, {size / 1e6:.1f} MB, {pictures}, sha {info.sha}"
    console.print(says, soft_wrap=True, highlight=False)
    sheet = contact_sheet(path) if info.num_images > 1 else None
    if sheet:
        console.print(f"  contact sheet: {sheet}", soft_wrap=True, highlight=False)
    console.print(f"  to check it: hmrb verify {place}", soft_wrap=True, highlight=False)
    about = {"file": str(place), "bytes": size, "contact_sheet": str(sheet) if sheet else None}
    return about | asdict(info) | accounts.get(path.name, {})


def print_estimate(source: "Converter", parts: "Sequence[SplitPlan]", making: "ConversionOptions") -> None:
    """Prints the number of items, and the time and size estimated from a few items of each part."""
    from dataclasses import replace

    from hmrb.data.convert.conversion import estimate, packing_of

    for part in parts:
        packing = packing_of(part.split, making, part.split in source.benchmarks)
        about = estimate(part, replace(making, packing=packing))
        print(
            f"{part.split}: {len(part.items)} items, about {about.people:.0f} people, {about.bytes / 1e6:.0f} MB,"
            f" {_minutes(about.seconds / making.workers)} in {making.workers} processes"
        )


def _minutes(seconds: float) -> str:
    return "less than a minute" if seconds < 60 else f"{seconds / 60:.0f} min"


def explain_dataset(slug: str) -> None:
    """Prints where to get a dataset, its files and its pitfalls."""
    from hmrb.data.convert.catalogue import DATASETS
    from hmrb.data.sources import CONVERTERS

    row = DATASETS[slug]
    print(f"{row.name} ({slug}), {row.venue} {row.year or ''}")
    print(for_terminal(f"download: {row.homepage} ({row.access}); {row.licence}", 2))
    source = CONVERTERS.get(slug)
    if source is None:
        packed = f"made from packed files, FILE or all in DIR: {row.packed_command}\n{for_terminal(row.note, 2)}"
        print(packed if row.packed else "hmrb has no converter for it yet.")
        return
    _print_files(source)


def explain_offered(source: "Converter") -> None:
    """Prints what explain_dataset does, of a dataset of another package."""
    print(f"{source.title} ({source.name}), {source.source}; {source.licence}")
    _print_files(source)


def _print_files(source: "Converter") -> None:
    print(f"splits: {', '.join(source.splits)}; key points: {source.skeleton}\n\nfiles:\n{source.tree}\n")
    print("\n".join(for_terminal(f"- {trap}", 2) for trap in source.traps))
    if source.study:
        print(f"\n{for_terminal(f'--compat study: {source.study}', 2)}")
