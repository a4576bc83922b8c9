"""Which checkpoints a run keeps on disk: the last two, the best, and the weights of every n-th epoch."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from hmrb.checkpoint import Checkpoint, Run, save_checkpoint
from hmrb.errors import RunError
from hmrb.spec import CheckpointSpec


class CheckpointRetention:
    """Writes a run's checkpoints; after a write error, such as a full disk, retries with the next checkpoint.

    `last.pt` is written after the best and epoch weights. A run that is killed between two files therefore resumes from
    a checkpoint whose best and epoch weights exist or will be created again.
    """

    def __init__(self, run: Run, spec: CheckpointSpec, step: int, say: Callable[[str], None]) -> None:
        self._run, self._spec, self._say = run, spec, say
        self._weights: dict[Path, Checkpoint] = {}  # not yet on disk; written before the next last.pt
        self._tried = time.monotonic()
        self.step = step
        """Step of the last checkpoint on disk."""
        self.failure: RunError | None = None
        """The error that kept the newest checkpoint from being written, or None."""

    @property
    def is_due(self) -> bool:
        """Whether the last checkpoint has reached the maximum age in the spec."""
        return time.monotonic() - self._tried > 60 * self._spec.minutes

    def keep(self, checkpoint: Checkpoint, is_best: bool, epoch: int | None) -> None:
        """Writes a checkpoint; `epoch` is the epoch that ends at its step. Reports write errors without raising."""
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
            self._say(f"step {checkpoint.step}: {error}; the run continues")
        if self._spec.keep:
            for path in self._run.of_epochs[: -self._spec.keep]:
                path.unlink(missing_ok=True)
        self._tried = time.monotonic()


def _copied(checkpoint: Checkpoint) -> Checkpoint:
    """A copy of the checkpoint whose weights training does not modify."""
    return replace(checkpoint, model={name: torch.clone(value).cpu() for name, value in checkpoint.model.items()})
