"""hmrb export: writes a checkpoint as ONNX or as a torch.export program."""

from pathlib import Path
from typing import Annotated

import typer


def export(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, a run's folder, or a name of hmrb list-models.", show_default=False)
    ],
    out: Annotated[Path, typer.Argument(help="The file to write: NAME.onnx or NAME.pt2.", show_default=False)],
    body: Annotated[
        bool, typer.Option("--body", help="Also pose the checkpoint's body: outputs vertices and joints.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print only the report, as JSON.")] = False,
) -> None:
    """Export a model to ONNX or torch.export, compared with torch before it is written. ONNX needs hmrb[export]."""
    import json
    from functools import partial

    from hmrb.models.words import check_word

    check_word(checkpoint)
    from hmrb.export import export_checkpoint
    from hmrb.finding import find_model
    from hmrb.store import Store

    store = Store.default()
    path = find_model(checkpoint, store, partial(typer.echo, err=True))
    report = export_checkpoint(path, out, store, body)
    typer.echo(json.dumps(report.record(), indent=1) if json_ else "\n".join(report.lines()))
