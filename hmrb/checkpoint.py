"""A run's folder and its checkpoints. A checkpoint contains its spec; writes are atomic."""

import errno
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from hmrb import system
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import files_in, is_about_the_file, reason, system_error
from hmrb.formats.writing import replacing
from hmrb.formats.zips import zip_problem
from hmrb.spec import ADDED, Experiment, dump_experiment, parse_experiment

FORMAT_VERSION = 1
_BROKEN = (  # what torch raises for files that are damaged or crafted
    OSError, RuntimeError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, AttributeError,
    AssertionError, MemoryError, ImportError, pickle.UnpicklingError,
)  # fmt: skip
EXIT_CODE = ".exit-code"
LOCKED = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)  # another process has the lock; others: there are no locks
UNKNOWN_BODY = "unknown"  # body sha of an imported model


class CheckpointError(RequestError):
    """A checkpoint that can't be read or does not fit the model."""


class DamagedCheckpoint(CheckpointError):
    """A file that is damaged or not an hmrb checkpoint."""


class ForeignCheckpoint(CheckpointError):
    """A file of tensors that hmrb did not write."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Everything needed to resume a run exactly, plus the provenance of its weights.

    `step` counts optimiser steps; `step * batch` is the next draw. The random numbers of a step depend only on
    (seed, step), so no other random state is saved. `training` holds optimisers, adversary and averaged weights. An
    imported model has no shards, no training state, and the body `UNKNOWN_BODY`.
    """

    spec: str
    model: dict[str, torch.Tensor]
    training: dict[str, Any]
    step: int
    body: dict[str, str]
    shards: dict[str, str]
    chosen_by: str
    score: float | None
    code_version: str
    torch_version: str
    format: int = FORMAT_VERSION

    def experiment(self) -> Experiment:
        """The resolved spec of its run."""
        return parse_experiment(json.loads(self.spec), "the spec inside the checkpoint")


@dataclass(frozen=True, slots=True)
class Run:
    """A run's folder."""

    folder: Path

    @property
    def last(self) -> Path:
        """The newest checkpoint: a resumed run starts from it."""
        return self.folder / "last.pt"

    @property
    def before(self) -> Path:
        """The previous checkpoint: a resumed run starts from it if the last is damaged."""
        return self.folder / "last.1.pt"

    @property
    def damaged(self) -> Path:
        """Where a damaged last checkpoint is moved."""
        return self.folder / "last.damaged.pt"

    @property
    def best(self) -> Path:
        """The best weights on the selection benchmark."""
        return self.folder / "best.pt"

    def of_epoch(self, epoch: int) -> Path:
        """The weights after an epoch, if the spec keeps them."""
        return self.folder / f"epoch_{epoch:04d}.pt"

    @property
    def of_epochs(self) -> list[Path]:
        """All existing epoch checkpoints, oldest first."""
        return sorted(files_in(self.folder, "epoch_*.pt"), key=lambda path: (len(path.name), path.name))

    @property
    def log(self) -> Path:
        """The log, one JSON object per line: losses, rates, scores."""
        return self.folder / "log.jsonl"


def open_run(folder: Path, experiment: Experiment, resume: bool) -> Run:
    """Creates or reopens the folder of a run. Raises RequestError if it holds another run."""
    run = Run(folder)
    if (run.last.exists() or run.before.exists()) and not resume:
        raise RequestError(f"{folder} already holds a run: continue with --resume, or choose another folder with --out")
    if found := newest_checkpoint(run):
        before = found.checkpoint.experiment()
        if before.recipe() != experiment.recipe():
            raise RequestError(f"{folder} holds a run of another spec:\n{_differences(before, experiment)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / "spec.yaml") as part:
            part.write_text(dump_experiment(experiment), encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder}: could not write the spec there ({error.strerror})") from None
    return run


@dataclass(frozen=True, slots=True)
class Found:
    """The newest intact checkpoint of a run, and a message about a newer damaged one."""

    checkpoint: Checkpoint
    damage: str = ""


def newest_checkpoint(run: Run) -> Found | None:
    """The last checkpoint of a run, or the previous one if the last is damaged; None if there is none.

    Raises DamagedCheckpoint if no intact checkpoint is left.
    """
    if not run.last.exists():  # a process that dies between two renames leaves only the previous one
        return Found(load_checkpoint(run.before)) if run.before.exists() else None
    try:
        return Found(load_checkpoint(run.last))
    except DamagedCheckpoint as error:
        if not run.before.exists():
            raise
        older = load_checkpoint(run.before)
        return Found(
            older,
            f"{error}; renamed it to {run.damaged.name}; the run continues from {run.before.name}, step {older.step}",
        )


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Locks a run's folder until the process ends, however it ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab+", buffering=0)  # noqa: SIM115  held until the end
    except OSError as error:
        raise RequestError(f"{folder}: not writable ({error.strerror})") from None
    with lock:
        try:
            system.lock(lock)
        except OSError as error:
            if error.errno not in LOCKED:
                print(
                    f"hmrb: {folder} cannot be locked ({reason(error)}); make sure that no other run uses it",
                    file=sys.stderr,
                    flush=True,
                )
                yield
                return
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "another process"
            raise RequestError(f"{folder} is in use by another run ({holder}); wait for it or choose --out") from None
        with suppress(OSError):  # the holder's pid is only informative: a full disk must not stop the run
            lock.truncate(0)
            lock.write(f"process {os.getpid()}".encode())
        yield


def record_exit_code(folder: Path, code: int) -> None:
    """Records that a run ended for a known reason: restarted processes exit with its code instead of retrying.

    The first code counts. On a full disk the file may stay empty, which stands for 1, a failed run.
    """
    with suppress(OSError), open(folder / EXIT_CODE, "x", encoding="ascii") as file:
        file.write(str(code))


def recorded_exit_code(folder: Path) -> int | None:
    """The exit code of a run that ended for a known reason, or None."""
    try:
        return int((folder / EXIT_CODE).read_text(encoding="ascii") or 1)
    except OSError:
        return None


def forget_exit_code(folder: Path) -> None:
    """Removes the recorded exit code of an earlier run."""
    (folder / EXIT_CODE).unlink(missing_ok=True)


def save_checkpoint(checkpoint: Checkpoint, path: Path, older: Path | None = None) -> None:
    """Writes a checkpoint atomically: temporary file, fsync, rename. On RunError the old file is untouched.

    With `older`, the previous file is renamed to it.
    """
    try:
        with replacing(path, older) as part, open(part, "wb") as file:
            torch.save(asdict_shallow(checkpoint), file)
    except (OSError, RuntimeError) as error:  # torch's zip writer turns a full disk into a RuntimeError
        found = system_error(error)
        words = found.strerror if found else str(error).splitlines()[0]
        raise RunError(f"{path}: could not write the checkpoint ({words}); the previous one is kept") from None


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads an hmrb checkpoint without running any code in it. `path` may be a run's folder."""
    if path.is_dir():
        run = Run(path)
        path = run.best if run.best.exists() else run.last
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint")
    refusal = f"{path}: refused: not an hmrb checkpoint, truncated, or it would run code"
    try:
        if problem := zip_problem(path):  # torch's older formats are bare pickles; hmrb never wrote those
            raise DamagedCheckpoint(f"{refusal}: {problem}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sparse tensors, which are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
        given = content.get("format")
    except _BROKEN as error:
        if is_about_the_file(error):
            raise DamagedCheckpoint(refusal) from None
        raise CheckpointError(f"{path}: {reason(error)}") from None
    if given != FORMAT_VERSION:
        kind = CheckpointError if "format" in content else ForeignCheckpoint
        raise kind(f"{path}: checkpoint format {given}; this hmrb reads format {FORMAT_VERSION}")
    if content.keys() != Checkpoint.__dataclass_fields__.keys():
        raise DamagedCheckpoint(refusal)
    if wrong := [name for name, value in content.items() if not _fits(name, value)]:
        raise DamagedCheckpoint(f"{refusal}: {', '.join(wrong)} of another type than hmrb writes")
    return Checkpoint(**content)


def _fits(name: str, value: Any) -> bool:
    """Whether a field's value has the type that hmrb writes."""
    if name == "spec":
        try:
            return isinstance(json.loads(value), dict)
        except (TypeError, ValueError, RecursionError):
            return False
    kind = FIELDS.get(name, object)
    if not isinstance(kind, dict):
        return isinstance(value, kind) and not isinstance(value, bool)
    parts = kind.get("parts", object)
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(part, parts) and _is_plain(part) for key, part in value.items()
    )


def _is_plain(value: Any) -> bool:
    """Whether a value is no tensor, or one that the file has all numbers of."""
    if not isinstance(value, torch.Tensor):
        return True
    is_dense = value.layout == torch.strided
    return is_dense and value.numel() * value.element_size() <= value.untyped_storage().nbytes()


FIELDS: dict[str, Any] = {
    "model": {"parts": torch.Tensor}, "training": {}, "body": {"parts": str}, "shards": {"parts": str}, "step": int,
    "chosen_by": str, "score": float | int | None, "code_version": str, "torch_version": str,
}  # fmt: skip


def load_weights_into(model: torch.nn.Module, checkpoint: Checkpoint, label: str) -> None:
    """Loads the checkpoint's weights into a model. Raises CheckpointError with what does not fit."""
    have, want = checkpoint.model, model.state_dict()
    problems = [f"{key} is missing" for key in want if key not in have]
    problems += [f"{key} is not in the model" for key in have if key not in want]
    problems += [
        f"{key} has shape {tuple(have[key].shape)}, the model has {tuple(want[key].shape)}"
        for key in want
        if key in have and have[key].shape != want[key].shape
    ]
    problems += [
        f"{key} has numbers of type {have[key].dtype}, the model has {want[key].dtype}"
        for key in want
        if key in have and _kind(have[key]) != _kind(want[key])
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise CheckpointError(f"{label}: a checkpoint of another architecture: {'; '.join(problems[:3])}{more}")
    model.load_state_dict(have)


def _kind(value: torch.Tensor) -> tuple[bool, bool]:
    return value.is_floating_point(), value.is_complex()


def asdict_shallow(checkpoint: Checkpoint) -> dict[str, Any]:
    """The fields as a dict, without copying tensors."""
    return {name: getattr(checkpoint, name) for name in Checkpoint.__dataclass_fields__}


@cache
def code_version() -> str:
    """The version of hmrb. From a checkout also the commit, with `-dirty` if tracked files were changed since."""
    try:
        number = version("hmrb")
    except PackageNotFoundError:
        number = "unknown"
    root = Path(__file__).parent.parent
    if not (root / ".git").exists():  # a file in a worktree
        return number
    commit, changes = _git(root, "rev-parse", "HEAD"), _git(root, "status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:
        return f"{number}+unknown"
    return f"{number}+{commit[:10]}{'-dirty' if changes else ''}"


def _git(root: Path, *words: str) -> str | None:
    """Output of a git command; None if git is missing or refuses."""
    try:
        done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _differences(before: Experiment, now: Experiment) -> str:
    old, new = _flat(before.recipe()), _flat(now.recipe())
    lines = [
        f"  {key}: {old.get(key, ADDED.get(key))} in the folder, {new.get(key, ADDED.get(key))} requested"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    return "\n".join(lines)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return out
