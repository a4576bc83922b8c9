"""hmrb convert-data of raw files: the dataset's folder is found, its shards are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from hmrb.cli.convert_text import Record, print_estimate, print_shard

if TYPE_CHECKING:
    from hmrb.data.convert.conversion import ConversionOptions, Converter, Raw, SplitPlan
    from hmrb.store import Store


def convert_raw(
    source: "Converter", raw: Path | None, split: str | None, making: "ConversionOptions", store: "Store"
) -> list[Record]:
    """Converts a dataset whose files are in `raw`, or in a folder of its name in `raw`. Returns its shards' records.

    Raises RequestError.
    """
    from dataclasses import replace

    from hmrb.data.convert.conversion import Raw
    from hmrb.errors import RequestError

    slug = source.name
    if raw is None:
        raise RequestError(
            f"{slug}: set --raw DIR, the folder with its files; hmrb convert-data {slug} --explain lists them"
        )
    if not raw.is_dir():
        raise RequestError(f"{raw}: no such folder")
    if split not in (None, *source.splits):
        raise RequestError(f"no split '{split}'; available: {', '.join(source.splits)}")
    folders = [*_own_folders(raw, slug), raw]
    print(f"{source.title}: looking in {' and '.join(map(str, folders))} for\n{source.tree}")
    problems: list[RequestError] = []
    for folder in folders:
        files = Raw(folder, making.compat, store, name=slug, split=split)
        try:
            parts = source.plan(files)
        except RequestError as error:  # a folder of one of the dataset's names can be a part of its tree
            problems.append(error)
            continue
        refuse_needless_regions(source, parts, split, making)
        return make(source, parts, replace(making, inputs=_inputs(files, slug)), split, store)
    raise problems[0]


def convert_found(
    root: Path | None, making: "ConversionOptions", split: str | None, store: "Store"
) -> Iterator[Record]:
    """Converts every dataset whose files are in a folder of its name in `root`; yields the shards' records."""
    from dataclasses import replace

    from hmrb.data.convert.conversion import Raw
    from hmrb.data.sources import CONVERTERS
    from hmrb.errors import RequestError, RunError

    if root is None or not root.is_dir():
        raise RequestError("--all: set --raw DIR, the folder with one folder per dataset")
    found: list[tuple[Converter, list[SplitPlan], ConversionOptions]] = []
    damaged: list[str] = []
    for source in (*CONVERTERS.values(), *_offered_in(root)):
        for folder in _own_folders(root, source.name):
            try:
                if split not in (None, *source.splits):
                    raise RequestError(f"it has no split '{split}'")
                files = Raw(folder, making.compat, store, name=source.name, split=split)
                parts = source.plan(files)
                found.append((source, parts, replace(making, inputs=_inputs(files, source.name))))
            except (RequestError, RunError) as error:
                print(f"{source.name}: skipped: {error}")
                damaged += [source.name] if isinstance(error, RunError) else []
            else:
                print(f"{source.name}: found in {folder}")
            break
    if not found and not damaged:
        raise RequestError(f"{root}: contains no dataset folder; expected names: {', '.join(sorted(CONVERTERS))}")
    for source, parts, options in found:
        yield from make(source, parts, options, split, store)
    if damaged:
        raise RunError(f"not converted, because their files are damaged (see above): {', '.join(damaged)}")


def refuse_needless_regions(
    source: "Converter", parts: "list[SplitPlan]", split: str | None, making: "ConversionOptions"
) -> None:
    """Raises RequestError if tiled or raw regions were asked for splits that all keep their pictures."""
    from hmrb.data.convert.conversion import pick_parts, refuse_regions

    splits = [part.split for part in pick_parts(parts, split)]
    if set(splits) <= set(source.benchmarks):
        refuse_regions(" and ".join(splits), making)


def make(
    source: "Converter", parts: "list[SplitPlan]", making: "ConversionOptions", split: str | None, store: "Store"
) -> list[Record]:
    """Writes the shards with a progress bar, and a contact sheet of each for visual inspection. Returns records."""
    from hmrb.cli.progress import progress_bar
    from hmrb.data.convert.conversion import convert, pick_parts

    chosen = pick_parts(parts, split)
    if not source.makes_itself:
        print_estimate(source, chosen, making)
    accounts: dict[str, Record] = {}
    with progress_bar("items", accounts) as (console, ticker):
        infos = convert(source, chosen, store, making, ticker)
        return [print_shard(console, store.shard(source.name, info.split), info, accounts) for info in infos]


def _offered_in(root: Path) -> "list[Converter]":
    """What other packages offer for the folders in `root`."""
    from hmrb.data.convert.offered import offered_converter
    from hmrb.plugins import offered

    there = [name for name in sorted(offered("dataset")) if (root / name).is_dir()]
    return [source for name in there if (source := offered_converter(name))]


def _own_folders(root: Path, slug: str) -> list[Path]:
    """Folders in `root` with the dataset's slug or an alias as their name."""
    from hmrb.data.convert.catalogue import DATASETS

    aliases = DATASETS[slug].aliases if slug in DATASETS else ()
    return [root / name for name in (slug, *aliases) if (root / name).is_dir()]


def _inputs(files: "Raw", name: str) -> dict[str, tuple[int, int]]:
    """What finished blocks depend on besides hmrb: the label files, and the code of another package."""
    from hmrb.data.convert.offered import code_stamps

    return files.stamps() | code_stamps(name)
