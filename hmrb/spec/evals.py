"""The tables `evals`, `checkpoints`, `published` and `expected`: what a run is measured by, and what it keeps."""

from typing import Annotated

from pydantic import BeforeValidator, model_validator

from hmrb.spec.fields import Names, Positive, Rate, SpecModel, one_spelling


class EvalSpec(SpecModel):
    """Which benchmarks run, when, and which one selects the best checkpoint."""

    benches: Names = ("3dpw",)
    """Run at the end of training, on the selected checkpoint."""
    select_on: Annotated[str | None, BeforeValidator(one_spelling)] = "3dpw_val"
    """The benchmark whose PA-MPJPE selects `best.pt`; null keeps the last weights."""
    every: Positive = 1
    """Epochs between two evaluations of `select_on`."""
    select_on_test: bool = False
    """Allows `select_on` to be a test split."""


class CheckpointSpec(SpecModel):
    """When checkpoints are written and which are kept besides the last two and the best. Does not affect results."""

    minutes: Rate = 15.0
    """Maximum training time between two checkpoints; the end of an epoch always writes one."""
    every_epochs: Positive | None = None
    """Epochs between two sets of weights kept as `epoch_0010.pt`; by default none are kept."""
    keep: Positive | None = None
    """How many of those to keep, newest first; by default all."""

    @model_validator(mode="after")
    def _keeps_what_there_is(self) -> "CheckpointSpec":
        if self.keep and not self.every_epochs:
            raise ValueError(
                "keep would have no effect without every_epochs, the number of epochs between kept checkpoints"
            )
        return self


class Published(SpecModel):
    """A number published elsewhere for this experiment. `doubt` says why it may be wrong; empty if nothing is known."""

    benchmark: Annotated[str, BeforeValidator(one_spelling)]
    metric: str = "pa_mpjpe"
    value: float
    source: str
    doubt: str = ""


class Expected(SpecModel):
    """A number that this experiment must reproduce, within a tolerance."""

    benchmark: Annotated[str, BeforeValidator(one_spelling)]
    metric: str = "pa_mpjpe"
    value: float
    tolerance: Rate
    source: str
