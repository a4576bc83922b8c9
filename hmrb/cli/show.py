"""hmrb show: draws people of a dataset with their labels, and says in numbers what they are like."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.records import Sample
    from hmrb.store import Store


def show(
    dataset: Annotated[str, typer.Argument(help="A dataset of hmrb list-datasets, or your own.", show_default=False)],
    split: Annotated[str, typer.Option(help="The split to draw from.")] = "train",
    people: Annotated[int, typer.Option(min=1, max=400, help="Number of people at most.")] = 48,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="PNG to write.  [default: DATASET_SPLIT.png]", show_default=False),
    ] = None,
) -> None:
    """Draw people of a dataset with their labels. Synthetic ones are rendered if there is no shard."""
    from hmrb.cli.names import png_path
    from hmrb.data.convert.catalogue import dataset as find_dataset
    from hmrb.data.convert.own import is_own
    from hmrb.errors import RunError
    from hmrb.store import Store

    path = png_path(out) if out else None
    store, name = Store.default(), dataset.replace("-", "_")
    if not is_own(dataset) or not store.shard(name, split).exists():
        name = find_dataset(dataset).home
    found, skeleton, whence = _people(name, split, people, store)
    from hmrb.data.convert.contact_sheet import write_sheet

    path = path or Path(f"{name}_{split}.png")
    pictured = [one for one in found if one.jpeg]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if pictured:
            write_sheet(pictured, skeleton, path, f"{name} {split}, {whence}")
    except OSError as error:
        raise RunError(f"{path}: could not be written: {error.strerror}") from None
    typer.echo(f"{name} {split}: {len(found)} people, {whence}")
    for line in facts(found):
        typer.echo(f"  {line}")
    typer.echo(str(path) if pictured else "no pictures in this dataset, so no sheet")


def facts(people: "Sequence[Sample]") -> list[str]:
    """What people have for labels, and the range of every column of numbers: 5 %, median, 95 %."""
    import numpy as np

    has = {
        "2D joints": sum(bool((one.keypoints2d[:, 2] > 0).any()) for one in people),
        "3D joints": sum(bool((one.keypoints3d[:, 3] > 0).any()) for one in people),
        "a body": sum(one.has_body for one in people),
        "intrinsics": sum(one.camera is not None and bool(np.any(one.camera)) for one in people),
    }
    lines = ["labels: " + ", ".join(f"{count} with {what}" for what, count in has.items())]
    for name in sorted({name for one in people for name in one.columns}):
        values = [one.columns[name] for one in people]
        if all(isinstance(value, str) for value in values):
            lines.append(f"{name}: {len(set(values))} different")
        else:
            low, middle, high = np.percentile(np.array(values, float), (5, 50, 95))
            lines.append(f"{name}: {middle:.3g} ({low:.3g} to {high:.3g})")
    return lines


def _people(name: str, split: str, count: int, store: "Store") -> "tuple[list[Sample], str, str]":
    """People of a shard, or rendered ones, their skeleton, and where they are from. Raises RequestError."""
    from itertools import islice

    from hmrb.data.convert.contact_sheet import spread
    from hmrb.data.convert.conversion import pick_parts
    from hmrb.data.shard import open_shard
    from hmrb.data.sources import CONVERTERS
    from hmrb.missing import MAKE_THEMSELVES, shard_command
    from hmrb.records import Sample

    if name in MAKE_THEMSELVES and not store.shard(name, split).exists():
        source = CONVERTERS[name]
        (part,) = pick_parts(source.plan(people=count), split)
        rendered = (one for item in part.items for one in part.read(item) if isinstance(one, Sample))
        return list(islice(rendered, count)), source.skeleton, "rendered now, not kept"
    shard = open_shard(store.shard(name, split), name, shard_command(name))
    return spread(shard, count), shard.info.skeleton, f"of {len(shard)} in {shard.path}"
