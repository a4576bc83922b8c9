"""hmrb list-specs: lists the experiments of a folder as a table."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hmrb.spec import Experiment


def list_specs(
    folder: Annotated[Path, typer.Argument(help="Folder with the specs.")] = Path("specs"),
    study: Annotated[
        str | None, typer.Option(help="Only specs in this subfolder: backbones, init, augment, ...", show_default=False)
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Only specs with this backbone.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only specs that train on this dataset.", show_default=False)
    ] = None,
    hashes: Annotated[bool, typer.Option("--hashes", help="Print the hash and path of each resolved spec.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print only the rows, as JSON.")] = False,
) -> None:
    """List the specs of a folder. Shows backbone, datasets, losses and published numbers."""
    from hmrb.errors import RequestError
    from hmrb.formats.files import visible
    from hmrb.spec import load_experiment

    paths = visible(folder.rglob("*.yaml"))
    if not paths:
        raise RequestError(f"no spec in {folder}; give the folder: hmrb list-specs FOLDER")
    rows = [_row(folder, path, load_experiment(path)) for path in paths]
    known = {"study": {r["study"] for r in rows}, "backbone": {r["backbone"] for r in rows}}
    known["dataset"] = {name for row in rows for name in row["mix"]}
    for kind, value in (("study", study), ("backbone", backbone), ("dataset", dataset)):
        if value is not None:
            value = _known(kind, value, known[kind])
            rows = [row for row in rows if (value in row["mix"] if kind == "dataset" else value == row[kind])]
    if hashes:
        from hmrb.check import resolve

        for row in rows:
            typer.echo(f"{resolve(load_experiment(folder / row['path'])).sha()}  {row['path']}")
    elif json_:
        import json

        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows)


def _known(kind: str, value: str, known: set[str]) -> str:
    from hmrb.lookup import find

    return find(kind, value, {name: name for name in known})


def _row(folder: Path, path: Path, experiment: "Experiment") -> dict[str, Any]:
    model, data = experiment.model, experiment.data
    from hmrb.spec import STUDY_LOSSES

    distances = {term.distance for term in experiment.losses.values()}
    losses = "default" if experiment.losses == STUDY_LOSSES else ", ".join(sorted(distances))
    return {
        "path": str(path.relative_to(folder)),
        "study": path.parent.relative_to(folder).parts[0] if path.parent != folder else "mixes",
        "backbone": model.backbone,
        "weights": model.weights,
        "features": model.features,
        "mix": data.mix,
        "augment": [op.name for op in data.augment],
        "losses": losses,
        "published": [row.model_dump() for row in experiment.published],
        "expected": [row.model_dump() for row in experiment.expected],
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(width=200, markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("spec", "backbone", "from", "trained on", "losses"):
        table.add_column(title, overflow="fold")
    table.add_column("published PA-MPJPE", justify="right")
    for row in rows:
        mix = row["mix"]
        sets = ", ".join(f"{name} {share:g}" if len(mix) > 1 else name for name, share in mix.items())
        numbers = [p for p in row["published"] if p["metric"] == "pa_mpjpe"]
        shown = ", ".join(f"{p['value']:.2f}{' ?' if p['doubt'] else ''}" for p in numbers)
        table.add_row(row["path"], row["backbone"], row["weights"], sets, row["losses"], shown)
    console.print(table)
    console.print(f"{len(rows)} specs. Published numbers are from their source, in mm; ? marks unreliable ones.")
