import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from test_checkpoint import checkpoint  # noqa: F401  a fixture

from hmrb.checkpoint import Checkpoint, Run, load_checkpoint
from hmrb.spec import CheckpointSpec
from hmrb.training.retention import CheckpointRetention


def retention_of(folder: Path, said: list[str], **spec: float) -> CheckpointRetention:
    return CheckpointRetention(Run(folder), CheckpointSpec.model_validate(spec), 0, said.append)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_last_two_the_best_and_the_newest_epochs_are_kept(checkpoint: Checkpoint, tmp_path: Path) -> None:  # noqa: F811
    retention = retention_of(tmp_path, said := [], every_epochs=2, keep=2)
    for epoch in range(1, 8):
        retention.keep(replace(checkpoint, step=10 * epoch, training={"epoch": epoch}), epoch == 3, epoch)
    retention.keep(replace(checkpoint, step=75), False, None)
    assert names(tmp_path) == ["best.pt", "epoch_0004.pt", "epoch_0006.pt", "last.1.pt", "last.pt"]
    steps = {name: load_checkpoint(tmp_path / name).step for name in names(tmp_path)}
    assert steps == {"best.pt": 30, "epoch_0004.pt": 40, "epoch_0006.pt": 60, "last.1.pt": 70, "last.pt": 75}
    assert load_checkpoint(tmp_path / "best.pt").training == {"knobs": {}}
    assert load_checkpoint(tmp_path / "last.1.pt").training == {"epoch": 7}
    assert (said, retention.step, retention.failure) == ([], 75, None)


def test_what_a_full_disk_refused_is_written_with_the_next(
    checkpoint: Checkpoint,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    retention = retention_of(tmp_path, said := [], every_epochs=1)
    retention.keep(replace(checkpoint, step=10), True, 1)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    name, weights = next(iter(checkpoint.model.items()))
    as_saved = weights.clone()
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        retention.keep(replace(checkpoint, step=20), True, 2)
    weights += 1  # training continues
    reason = "could not write the checkpoint (No space left on device)"
    assert said[0] == f"step 20: {tmp_path}/best.pt: {reason}; the previous one is kept; the run continues"
    assert (len(said), retention.step, retention.failure is None) == (1, 10, False)
    assert {load_checkpoint(tmp_path / name).step for name in names(tmp_path)} == {10}
    retention.keep(replace(checkpoint, step=30), False, 3)
    steps = {name: load_checkpoint(tmp_path / name).step for name in names(tmp_path)}
    epochs = {f"epoch_000{epoch}.pt": 10 * epoch for epoch in (1, 2, 3)}
    assert steps == {"best.pt": 20, "last.1.pt": 10, "last.pt": 30, **epochs}
    assert torch.equal(load_checkpoint(tmp_path / "best.pt").model[name], as_saved)
    assert (len(said), retention.step, retention.failure) == (1, 30, None)


def test_a_checkpoint_is_due_after_the_minutes_of_the_spec(checkpoint: Checkpoint, tmp_path: Path) -> None:  # noqa: F811
    assert not retention_of(tmp_path, []).is_due
    retention = retention_of(tmp_path, [], minutes=1e-9)
    assert retention.is_due
