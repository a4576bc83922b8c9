"""hmrb list-datasets: lists the datasets and which of them have a shard in the store."""

from contextlib import suppress
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.data.convert.catalogue import Dataset, Size
    from hmrb.store import Store

FULL_WIDTH = 400  # width for a pipe: one line per dataset
NARROW = 170  # narrower terminals get FEW_COLUMNS
ALL_COLUMNS = ("name", "slug", "year, venue", "kind", "annotations", "size", "licence; access", "PA-MPJPE", "here")
FEW_COLUMNS = ("slug", "annotations", "size", "PA-MPJPE", "here")
LEGEND = (
    "size: ~ inferred from another published number; ? unverified, no source found.",
    "PA-MPJPE: mm on 3DPW-test, published by the study for its ResNet-50 HMR trained on this dataset alone.",
    "here: splits with a shard in {shards}; packed: from a packed file, not the dataset's raw files; --json names it.",
)


def list_datasets(
    word: Annotated[
        str, typer.Argument(help="Only datasets with this word in a name, alias or note.", show_default=False)
    ] = "",
    role: Annotated[
        str | None,
        typer.Option(help="Only this role: train, test, auxiliary, embedded, extra or own.", show_default=False),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(help="Only this kind: real, synthetic, composite, indoor, outdoor, mixed.", show_default=False),
    ] = None,
    with_: Annotated[
        list[str], typer.Option("--with", help="Only datasets with this annotation: keypoints3d, smpl, ...")
    ] = [],  # noqa: B006
    here: Annotated[bool, typer.Option("--here", help="Only datasets with a shard in the store.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print complete records as JSON.")] = False,
) -> None:
    """List the datasets of the catalogue. Shows contents, access and which are in the store."""
    from hmrb.data.convert.catalogue import ANNOTATIONS, DATASETS, ORIGINS, PLACES, ROLES
    from hmrb.data.convert.own import offered_rows, own_datasets
    from hmrb.errors import RequestError
    from hmrb.lookup import find
    from hmrb.store import Store

    for what, asked, known in (
        ("role", [role] if role else [], ROLES),
        ("kind", [kind] if kind else [], ORIGINS + PLACES),
        ("annotation", with_, ANNOTATIONS),
    ):
        for name in asked:
            find(what, name, dict.fromkeys(known))
    store = Store.default()
    own = own_datasets(store)
    offered = [row for row in offered_rows() if row.slug not in {one.slug for one in own}]
    chosen = [
        row
        for row in (*DATASETS.values(), *own, *offered)
        if role in (None, row.role)
        and kind in (None, row.source, row.place)
        and set(with_) <= set(row.annotations)
        and word.lower() in " ".join((row.slug, row.name, row.venue, row.note, *row.aliases)).lower()
        and (not here or _splits_here(row, store))
    ]
    if json_:
        _print_json(chosen, store)
    elif chosen:
        _print_table(chosen, store)
    else:
        raise RequestError("no dataset matches all filters; hmrb list-datasets lists them all")


def _splits_here(row: "Dataset", store: "Store") -> list[str]:
    return [split for name, split in row.shards if store.shard(name, split).exists()]


def _packed_here(row: "Dataset", store: "Store") -> dict[str, str]:
    """The file that each split was packed from, for those that were."""
    from hmrb.errors import RequestError

    found = {}
    for name, split in row.shards:
        if (path := store.shard(name, split)).exists():
            from hmrb.data.shard import Shard  # HDF5 only if there is something to read

            with suppress(RequestError):  # hmrb verify says what is wrong with it
                found[split] = Shard(path).info.source
    return {split: source for split, source in found.items() if source}


def _print_json(rows: "list[Dataset]", store: "Store") -> None:
    import json
    from dataclasses import asdict

    records = [
        asdict(row)
        | {
            "shards": [str(store.shard(name, split)) for name, split in row.shards],
            "here": _splits_here(row, store),
            "packed": _packed_here(row, store),
        }
        for row in rows
    ]
    typer.echo(json.dumps(records, indent=2, ensure_ascii=False))


def _print_table(rows: "list[Dataset]", store: "Store") -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = FULL_WIDTH
    columns = ALL_COLUMNS if console.width >= NARROW else FEW_COLUMNS
    roles = sorted({row.role for row in rows}, key=[row.role for row in rows].index)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=column in ("slug", "here"), justify="right" if "PA" in column else "left")
    for role in roles:
        table.add_row(f"[{role}]", *[""] * (len(columns) - 1))
        for row in (row for row in rows if row.role == role):
            table.add_row(*(_cells(row, store)[column] for column in columns))
        table.add_section()
    console.print(table)
    for line in LEGEND:
        console.print(line.format(shards=store.root / "shards"), soft_wrap=True)
    if columns == FEW_COLUMNS:
        console.print(f"A terminal of {NARROW} columns, a pipe or --json shows more columns.", soft_wrap=True)


def _cells(row: "Dataset", store: "Store") -> dict[str, str]:
    published = row.published_pa_mpjpe_mm
    return {
        "name": row.name,
        "slug": row.slug,
        "year, venue": f"{row.year or ''} {row.venue}".strip() or "-",
        "kind": f"{row.source}, {row.place}",
        "annotations": ", ".join(row.annotations) or "unknown",
        "size": _size(row.size),
        "licence; access": f"{row.licence}; {row.access}",
        "PA-MPJPE": "-" if published is None else f"{published:.2f}",
        "here": _here(row, store),
    }


def _here(row: "Dataset", store: "Store") -> str:
    packed = _packed_here(row, store) if row.role != "own" else {}
    return ", ".join(f"{split} (packed)" if split in packed else split for split in _splits_here(row, store)) or "-"


def _size(size: "Size") -> str:
    if size.count is None:
        return f"? {size.unit}"
    before, after = {"verified": ("", ""), "inferred": ("~", ""), "unverified": ("", "?")}[size.status]
    return f"{before}{size.count:,}{after} {size.unit}"
