"""hmrb list-specs: lists the specs of hmrb, or of a folder, as a table, and copies them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from hmrb.spec import Experiment

NARROW = 130  # narrower terminals get FEW_COLUMNS, so that no name is cut
ALL_COLUMNS = ("spec", "backbone", "from", "trained on", "losses", "published PA-MPJPE")
FEW_COLUMNS = ("spec", "backbone", "published PA-MPJPE")


def list_specs(
    folder: Annotated[
        Path | None, typer.Argument(help="Folder with specs.  [default: those of hmrb]", show_default=False)
    ] = None,
    study: Annotated[
        str | None, typer.Option(help="Only specs in this subfolder: backbones, init, augment, ...", show_default=False)
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Only specs with this backbone.", show_default=False)] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only specs that train on this dataset.", show_default=False)
    ] = None,
    here: Annotated[bool, typer.Option("--here", help="Only specs that can run with what is in the store.")] = False,
    hashes: Annotated[bool, typer.Option("--hashes", help="Print the hash and path of each resolved spec.")] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of a spec, for editors of YAML.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print only the rows, as JSON.")] = False,
    copy: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Copy the listed specs to this folder.", show_default=False)
    ] = None,
) -> None:
    """List the specs of hmrb. Shows backbone, datasets, losses and published numbers. hmrb train takes their names."""
    from hmrb.cli.shipped import shipped_folder
    from hmrb.data.convert.catalogue import spoken
    from hmrb.errors import RequestError
    from hmrb.formats.files import files_below, visible
    from hmrb.spec import load_experiment

    if schema:
        _print_schema()
        return
    folder = folder or shipped_folder()
    paths = visible(path for path in files_below(folder) if path.suffix == ".yaml")
    if not paths:
        raise RequestError(f"no spec in {folder}; give the folder: hmrb list-specs FOLDER")
    experiments = {str(path.relative_to(folder)): load_experiment(path) for path in paths}
    rows = [_row(folder, folder / name, experiment) for name, experiment in experiments.items()]
    known = {"study": {r["study"] for r in rows}, "backbone": {r["backbone"] for r in rows}}
    known["dataset"] = {name for row in rows for name in row["mix"]}
    for kind, value in (("study", study), ("backbone", backbone), ("dataset", dataset)):
        if value is not None:
            value = _known(kind, (spoken(value) or value) if kind == "dataset" else value, known[kind])
            rows = [row for row in rows if (value in row["mix"] if kind == "dataset" else value == row[kind])]
    if here:
        rows = [row for row in rows if _is_ready(experiments[row["path"]])]
    if copy:
        _copy([Path(row["path"]) for row in rows], folder, copy)
    elif hashes:
        from hmrb.check import resolve

        for row in rows:
            typer.echo(f"{resolve(experiments[row['path']]).sha()}  {row['path']}")
    elif json_:
        import json

        typer.echo(json.dumps(rows, indent=1))
    else:
        _show(rows)


def _is_ready(experiment: "Experiment") -> bool:
    """Whether the store has every file that an experiment needs, or hmrb makes or downloads it."""
    from hmrb.check import resolve
    from hmrb.missing import experiment_needs, is_blocking
    from hmrb.store import Store

    return not any(map(is_blocking, experiment_needs(resolve(experiment), Store.default())))


def _print_schema() -> None:
    import json

    from hmrb.cli.spec_schema import spec_schema

    typer.echo(json.dumps(spec_schema(), indent=1))


def _copy(names: list[Path], folder: Path, to: Path) -> None:
    """Copies specs to a folder, or none of them if it has another file of one's name."""
    from hmrb.cli.spec_schema import NAME
    from hmrb.errors import RequestError, RunError
    from hmrb.formats.files import reason
    from hmrb.formats.writing import replacing

    beside = [Path(NAME)] if (folder / NAME).is_file() else []  # of which the specs speak in a comment
    wanted = {to / name: (folder / name).read_bytes() for name in [*names, *beside]}
    try:
        there = {path for path in wanted if path.exists()}
        if other := [path for path in sorted(there) if path.read_bytes() != wanted[path]]:
            raise RequestError(
                f"{to}: has {len(other)} other files of these names, the first {other[0]}; nothing was copied. Choose"
                " another folder, or move them away"
            )
        for path, data in wanted.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_bytes(data)
    except OSError as error:
        raise RunError(f"{to}: the specs could not be copied ({reason(error)})") from None
    typer.echo(f"{to}: {len(names)} specs")


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
    columns = ALL_COLUMNS if console.width >= NARROW else FEW_COLUMNS
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in columns:
        table.add_column(title, no_wrap=title == "spec", justify="right" if "PA" in title else "left")
    for row in rows:
        cells = _cells(row)
        table.add_row(*(cells[title] for title in columns))
    console.print(table)
    console.print(f"{len(rows)} specs. Published numbers are from their source, in mm; ? marks unreliable ones.")
    if columns == FEW_COLUMNS:
        console.print(f"A terminal of {NARROW} columns, a pipe or --json shows more columns.")


def _cells(row: dict[str, Any]) -> dict[str, str]:
    mix = row["mix"]
    numbers = [p for p in row["published"] if p["metric"] == "pa_mpjpe"]
    return {
        "spec": row["path"],
        "backbone": row["backbone"],
        "from": row["weights"],
        "trained on": ", ".join(f"{name} {share:g}" if len(mix) > 1 else name for name, share in mix.items()),
        "losses": row["losses"],
        "published PA-MPJPE": ", ".join(f"{p['value']:.2f}{' ?' if p['doubt'] else ''}" for p in numbers),
    }
