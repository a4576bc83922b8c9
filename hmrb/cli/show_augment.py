"""hmrb show-augment: draws the effect of a spec's augmentations."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.records import View
    from hmrb.store import Store

SYNTHETIC_PX = 320  # side of a rendered picture; larger than the crop, as with photos


def show_augment(
    spec: Annotated[
        Path | None, typer.Argument(help="A spec: a YAML file, or a name of hmrb list-specs.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="PNG to write.  [default: NAME_augment.png]", show_default=False),
    ] = None,
    people: Annotated[int, typer.Option(min=1, max=64, help="Number of people, one per row.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for people and augmentations.")] = 0,
    all_: Annotated[
        bool, typer.Option("--all", help="Draw every augmentation of hmrb, with default arguments.")
    ] = False,
) -> None:
    """Draw the effect of a spec's augmentations. One column for each, and one for all together."""
    from hmrb.check import name_problems
    from hmrb.cli.names import png_path
    from hmrb.cli.shipped import find_spec
    from hmrb.errors import RequestError, RunError
    from hmrb.spec import Op, SpecError, load_experiment
    from hmrb.store import Store

    if spec is None and not all_:
        raise RequestError("which spec? hmrb show-augment SPEC, or --all for every augmentation of hmrb")
    path = png_path(out) if out else None
    experiment = load_experiment(find_spec(spec or Path("quickstart")))
    if problems := name_problems(experiment):
        raise SpecError("\n".join(f"{spec}: {problem}" for problem in problems))

    import cv2

    from hmrb.data.augment import AUGMENTS
    from hmrb.formats.writing import replacing
    from hmrb.reports.augment_sheet import Column, draw_sheet, each_alone

    if all_:
        columns = each_alone([Op(name=name) for name in AUGMENTS])
    else:
        ops = experiment.data.augment
        columns = [*each_alone(ops), Column("all", "as drawn in training", ops)]
    views = _people(list(experiment.data.mix), Store.default(), people, seed)
    sheet = draw_sheet(views, columns, experiment.model.image_px, seed)
    path = path or Path(f"{experiment.name}_augment.png")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            part.write_bytes(cv2.imencode(".png", sheet[..., ::-1])[1].tobytes())
    except OSError as error:
        raise RunError(f"{path}: could not be written: {error.strerror}") from None
    typer.echo(f"{path}: {len(views)} people, {len(columns)} columns, {sheet.shape[1]} x {sheet.shape[0]} px")


def _people(mix: list[str], store: "Store", count: int, seed: int) -> "list[tuple[str, View]]":
    """(dataset, person) pairs from the mix's datasets in turn; a dataset without a shard gets synthetic people."""
    from numpy.random import default_rng

    from hmrb.data.loader import read_view
    from hmrb.data.shard import Shard

    shards = {name: Shard(path) for name in mix if (path := store.shard(name, "train")).exists()}
    if missing := [name for name in mix if name not in shards]:
        typer.echo(f"no shard of {', '.join(missing)} in {store.root}: using synthetic people instead")
    found = []
    for number in range(count):
        name = mix[number % len(mix)]
        if name in shards:
            row = int(default_rng([seed, number]).integers(len(shards[name])))
            found.append((name, read_view(shards[name], row)))
        else:
            found.append((name, _drawn(seed, number)))
    return found


def _drawn(seed: int, number: int) -> "View":
    from hmrb.body import load_body
    from hmrb.data.loader import view_of
    from hmrb.synthetic.people import render_person

    return view_of(render_person(load_body("open"), "easy", "train", seed, number, SYNTHETIC_PX), "smpl54", "synthetic")
