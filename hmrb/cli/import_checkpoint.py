"""hmrb import-checkpoint: converts a checkpoint of another project to an hmrb checkpoint."""

from pathlib import Path
from typing import Annotated

import typer


def import_checkpoint(
    file: Annotated[Path, typer.Argument(help="A checkpoint of the study, mmhuman3d or SPIN.", show_default=False)],
    out: Annotated[Path, typer.Option("-o", "--out", help="The checkpoint to write.", show_default=False)],
    as_: Annotated[
        str | None,
        typer.Option("--as", help="Required format: study, mmhuman3d or spin.", show_default=False),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Required backbone.", show_default=False)] = None,
) -> None:
    """Import another project's checkpoint. Reads the study's, mmhuman3d's and SPIN's, for use with hmrb eval."""
    import torch

    from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, code_version, save_checkpoint
    from hmrb.errors import RequestError
    from hmrb.models.importing import import_model
    from hmrb.run import file_sha
    from hmrb.spec import parse_experiment

    if out.exists():
        raise RequestError(f"{out} already exists; choose another name with --out")
    if not out.parent.is_dir():
        raise RequestError(f"{out}: no such folder: {out.parent}")
    imported = import_model(file, as_, backbone)
    tree = {
        "name": "imported",
        "body": "smpl",
        "model": imported.spec.model_dump(mode="json"),
        "data": {"mix": {"unknown": 1.0}},
        "evals": {"benches": [], "select_on": None},
    }
    checkpoint = Checkpoint(
        spec=parse_experiment(tree, "an imported model").model_dump_json(),
        model=imported.arrays,
        training={},
        step=0,
        body={"name": "smpl", "sha": UNKNOWN_BODY},
        shards={},
        chosen_by=f"unknown: imported from {file.name}, sha {file_sha(file)}, of {imported.made_by}",
        score=None,
        code_version=code_version(),
        torch_version=str(torch.__version__),
    )
    save_checkpoint(checkpoint, out)
    typer.echo(f"{imported.report}\n{out}: written; score it with hmrb eval {out} --bench ...")
