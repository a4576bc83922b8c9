"""Finds the checkpoint that a word means: a run, a checkpoint, another project's file, or a name of the model zoo."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from hmrb import system
from hmrb.checkpoint import (
    UNKNOWN_BODY,
    Checkpoint,
    CheckpointError,
    DamagedCheckpoint,
    ForeignCheckpoint,
    Run,
    code_version,
    load_checkpoint,
    save_checkpoint,
)
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import reason, short_sha
from hmrb.models.demo import DEMO, DEMO_NAME, named_checkpoint
from hmrb.models.importing import import_model
from hmrb.models.weight_files import WeightsError
from hmrb.models.words import check_word
from hmrb.models.zoo import FAMILIES, find_row, licences
from hmrb.spec import parse_experiment
from hmrb.store import Store


def _say_nothing(_: str) -> None:
    """Drops a message."""


def find_model(word: str | Path, store: Store, tell: Callable[[str], object] = _say_nothing) -> Path:
    """The hmrb checkpoint that a path or a name of the model zoo means; a run means its best checkpoint, else its last.

    Another project's file is imported into the store's models/imported, once; `tell` gets the report. A path that
    exists comes before a name. Raises RequestError with where to get a published file that is not here, or with the
    nearest names; RunError if the import cannot be written.
    """
    path = named_checkpoint(Path(word).expanduser())
    if path.is_dir():
        run = Run(path)
        path = run.best if run.best.exists() else run.last
    if path.exists():
        return _ours(path, store, tell)
    if row := find_row(str(word)):
        return _ours(row.file_in(store), store, tell)
    check_word(word)
    raise CheckpointError(f"{path}: no such checkpoint")  # a run's folder without one


def results_folder(checkpoint: Path, store: Store) -> Path:
    """Where results go by default: beside a checkpoint; for an imported one, a folder of its own beside it."""
    if checkpoint == DEMO:  # in the package, which may be read-only
        return Path("runs") / DEMO_NAME
    return checkpoint.with_suffix("") if checkpoint.parent == store.imported else checkpoint.parent


def imported_checkpoint(file: Path, kind: str | None = None, backbone: str | None = None) -> tuple[Checkpoint, str]:
    """Another project's file as a checkpoint, and a report on its tensors. Raises WeightsError."""
    imported = import_model(file, kind, backbone)
    family = FAMILIES.get(imported.family)
    licence = f"; {licences(family)}" if family else ""
    tree = {
        "name": "imported",
        "body": imported.body,
        "model": imported.spec.model_dump(mode="json"),
        "data": {"mix": {"unknown": 1.0}},
        "evals": {"benches": [], "select_on": None},
    }
    checkpoint = Checkpoint(
        spec=parse_experiment(tree, "an imported model").model_dump_json(),
        model=imported.arrays,
        training={},
        step=0,
        body={"name": imported.body, "sha": UNKNOWN_BODY},
        shards={},
        chosen_by=f"unknown: imported from {file.name}, sha {short_sha(file)}, of {imported.made_by}{licence}",
        score=None,
        code_version=code_version(),
        torch_version=str(torch.__version__),
    )
    return checkpoint, f"{imported.report}{licence.replace('; ', chr(10) + '  ', 1)}"


def _ours(path: Path, store: Store, tell: Callable[[str], object]) -> Path:
    """The path of an hmrb checkpoint; for another project's file, of its import."""
    try:
        load_checkpoint(path)
        return path
    except (DamagedCheckpoint, ForeignCheckpoint) as error:
        refusal = str(error)
    ours = store.imported / f"{short_sha(path)}.pt"
    if _is_whole(ours):
        return ours
    tell(f"importing {path}")
    try:
        checkpoint, report = imported_checkpoint(path)
    except WeightsError as error:
        raise RequestError(f"{refusal}; nor can hmrb import-checkpoint read it: {error}") from None
    with _alone(store.imported):  # the processes of one job write the same file
        if not _is_whole(ours):
            save_checkpoint(checkpoint, ours)
            tell(f"{report}\nimported as {ours}")
    return ours


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Waits for other processes that write to a folder. Raises RunError if it is not writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115  closed below
    except OSError as error:
        raise RunError(f"{folder}: {reason(error)}; imported checkpoints go there") from None
    with lock:
        with suppress(OSError):  # a file system without locks
            system.lock(lock, wait=True)
        yield


def _is_whole(ours: Path) -> bool:
    try:
        load_checkpoint(ours)
    except CheckpointError:
        return False
    return True
