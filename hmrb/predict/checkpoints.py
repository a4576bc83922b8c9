"""Finds the model that a word names: a run, a checkpoint, or another project's file, which is imported once."""

from dataclasses import dataclass
from pathlib import Path

import torch

from hmrb.checkpoint import (
    UNKNOWN_BODY,
    Checkpoint,
    DamagedCheckpoint,
    ForeignCheckpoint,
    Run,
    code_version,
    load_checkpoint,
    save_checkpoint,
)
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import reason, short_sha
from hmrb.models.importing import import_model
from hmrb.models.weight_files import WeightsError
from hmrb.spec import parse_experiment
from hmrb.store import Store


@dataclass(frozen=True, slots=True)
class FoundCheckpoint:
    """A checkpoint, its file, and what is worth saying about where it comes from."""

    checkpoint: Checkpoint
    path: Path
    note: str = ""


def imported_checkpoint(file: Path, kind: str | None = None, backbone: str | None = None) -> tuple[Checkpoint, str]:
    """Another project's file as a checkpoint, and a report on its tensors. Raises WeightsError."""
    imported = import_model(file, kind, backbone)
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
        chosen_by=f"unknown: imported from {file.name}, sha {short_sha(file)}, of {imported.made_by}",
        score=None,
        code_version=code_version(),
        torch_version=str(torch.__version__),
    )
    return checkpoint, imported.report


def find_checkpoint(path: Path, store: Store) -> FoundCheckpoint:
    """The checkpoint at a path. Another project's file is imported into the store's models/imported, by its hash.

    Raises RequestError if it is neither.
    """
    if path.is_dir():
        run = Run(path)
        path = run.best if run.best.exists() else run.last
    try:
        return FoundCheckpoint(load_checkpoint(path), path)
    except (DamagedCheckpoint, ForeignCheckpoint) as error:
        refusal = str(error)
    cached = store.root / "models" / "imported" / f"{short_sha(path)}.pt"
    if cached.exists():
        try:
            return FoundCheckpoint(load_checkpoint(cached), path, f"{path}: imported before, {cached}")
        except DamagedCheckpoint:
            cached.unlink()
    try:
        checkpoint, report = imported_checkpoint(path)
    except WeightsError as error:
        raise RequestError(f"{refusal}; nor can hmrb import-checkpoint read it: {error}") from None
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        save_checkpoint(checkpoint, cached)
    except (OSError, RunError) as error:  # a store that cannot be written only costs time
        return FoundCheckpoint(checkpoint, path, f"{report}\nnot kept for the next time: {reason(error)}")
    return FoundCheckpoint(checkpoint, path, f"{report}\nkept for the next time: {cached}")
