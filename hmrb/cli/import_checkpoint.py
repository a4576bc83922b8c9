"""hmrb import-checkpoint: converts a checkpoint of another project to an hmrb checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint of another project: docs/checkpoints.md.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint to write.", show_default=False)],
    as_: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Required format: study, mmhuman3d, spin, hmr2, cliff, bedlam_cliff, camerahmr, tokenhmr or pare.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Required backbone.", show_default=False)] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print only what was imported, as JSON.")] = False,
) -> None:
    """Import another project's checkpoint: the study's, mmhuman3d's, SPIN's, or of a method in docs/methods.md."""
    import json

    from hmrb.cli.progress import waiting
    from hmrb.errors import RequestError

    if not file.is_file():
        raise RequestError(f"{file}: no such file")
    if out.exists():
        raise RequestError(f"{out} already exists; choose another name with --out")
    if not out.parent.is_dir():
        raise RequestError(f"{out}: no such folder: {out.parent}")
    with waiting(f"importing {file}"):
        from hmrb.checkpoint import save_checkpoint
        from hmrb.finding import imported_checkpoint

        checkpoint, report = imported_checkpoint(file, as_, backbone)
        save_checkpoint(checkpoint, out)
    if json_:
        model = checkpoint.experiment().model
        made = {"file": str(out), "method": model.method, "backbone": model.backbone, "body": checkpoint.body["name"]}
        typer.echo(json.dumps(made | {"from": checkpoint.chosen_by, "report": report.splitlines()}, indent=1))
        return
    typer.echo(f"{report}\n{out}: written; score it with hmrb eval {out} --bench ...")
