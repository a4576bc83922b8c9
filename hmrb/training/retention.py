"""Which checkpoints of a run are on disk, and when: the last two, the best, every n-th epoch's weights."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hmrb.checkpoint import Checkpoint, Run, save_checkpoint
from hmrb.errors import RunError
from hmrb.spec import CheckpointSpec


class CheckpointRetention:
    """Writes a run's checkpoints, and outlives a full disk: what could not be written is written with the next.

    `last.pt` is written after all that belongs to its past, so a run that dies between two files goes on from a
    checkpoint whose best and epochs are there, or will be made again.
    """

    def __init__(self, run: Run, spec: CheckpointSpec, step: int, say: Callable[[str], None]) -> None:
        self._run, self._spec, self._say = run, spec, say
        self._weights: dict[Path, Checkpoint] = {}  # to be written before the next last.pt
        self._tried = time.monotonic()
        self.step = step
        """The step of the last checkpoint on disk."""
        self.failure: RunError | None = None
        """Why the newest checkpoint is not on disk."""

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint is as old as the spec allows."""
        return time.monotonic() - self._tried > 60 * self._spec.minutes

    def keep(self, checkpoint: Checkpoint, is_best: bool, epoch: int | None) -> None:
        """Writes a checkpoint; `epoch` is the one that ends with it. Says so where that fails, and goes on."""
        weights = replace(checkpoint, training={"knobs": checkpoint.training.get("knobs", {})})
        if is_best:
            self._weights[self._run.best] = weights
        if epoch and self._spec.every_epochs and epoch % self._spec.every_epochs == 0:
            self._weights[self._run.of_epoch(epoch)] = weights
        try:
            while self._weights:
                path = next(iter(self._weights))
                save_checkpoint(self._weights[path], path)
                del self._weights[path]
            save_checkpoint(checkpoint, self._run.last, older=self._run.before)
            self.step, self.failure = checkpoint.step, None
        except RunError as error:
            self._weights = {path: _copied(kept) for path, kept in self._weights.items()}
            self.failure = error
            self._say(f"step {checkpoint.step}: {error}; the run goes on")
        if self._spec.keep:
            for path in self._run.of_epochs[: -self._spec.keep]:
                path.unlink(missing_ok=True)
        self._tried = time.monotonic()


def _copied(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with weights that training does not move."""
    return replace(checkpoint, model={name: torch.clone(value).cpu() for name, value in checkpoint.model.items()})
