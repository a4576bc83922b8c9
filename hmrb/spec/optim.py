"""The tables `optim` and `speed`: how weights are updated, and how a step is computed."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from hmrb.spec.fields import Positive, Precision, Rate, SpecModel, Weight, on_or_off

MOST_DIVISORS = 100_000  # sizes tried for the list of a message


class OptimSpec(SpecModel):
    """The optimiser. `batch` is the global batch, split over all processes; learning rates are for that batch."""

    epochs: Positive = 100
    batch: Positive = 256
    optimiser: Literal["adam", "adamw"] = "adam"
    lr: Rate = 2.5e-4
    head_lr: Rate | None = None
    """Learning rate of the regressor; by default `lr`."""
    weight_decay: Weight = 0.0
    schedule: Literal["fixed", "step", "cosine"] = "fixed"
    step_epochs: tuple[Positive, ...] = ()
    """With schedule `step`: multiply the rates by `step_factor` at the end of each of these epochs."""
    step_factor: Rate = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Rate | None = None
    """Maximum gradient norm; by default gradients are not clipped."""
    decay: Literal["all", "matrices"] = "all"
    """What `weight_decay` applies to: all weights, as in the study, or not norms, biases, position tables, tokens."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The rate of each layer of the backbone over that of the next, its last layer having `lr`; 1 for equal rates."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights, which are then evaluated and saved as the model; 0 disables averaging."""
    precision: Precision = "fp32"
    """Precision of the network; weights, body and losses stay in fp32. A CPU that would be slower in half precision,
    measured by `hmrb doctor --speed` or else at the start, computes in fp32 and says so."""

    @model_validator(mode="before")
    @classmethod
    def _without_accumulate(cls, value: Any) -> Any:
        """Drops `accumulate: 1` of specs in older checkpoints; it is now derived from `speed.device_batch`."""
        if isinstance(value, dict) and value.get("accumulate") == 1:
            return {key: field for key, field in value.items() if key != "accumulate"}
        return value

    @model_validator(mode="after")
    def _decays_something(self) -> "OptimSpec":
        if self.decay != "all" and not self.weight_decay:
            raise ValueError(f"decay: {self.decay} would have no effect: weight_decay is 0")
        return self

    @model_validator(mode="after")
    def _schedule_has_its_steps(self) -> "OptimSpec":
        given = [name for name in ("step_epochs", "step_factor") if name in self.model_fields_set]
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("schedule step needs step_epochs, the epochs after which the rates drop")
        if self.schedule != "step" and given and (self.step_epochs or self.step_factor != 0.1):
            raise ValueError(f"{' and '.join(given)} would have no effect: schedule is {self.schedule}, not step")
        return self


class SpeedSpec(SpecModel):
    """How a step is computed. Not part of the recipe: these settings change results only by rounding."""

    device_batch: Positive | None = None
    """Maximum micro-batch of a device. A process splits its share of a batch into as few equal micro-batches as this
    allows; by default it does not split. BatchNorm that is not frozen sees one micro-batch at a time."""
    channels_last: bool = True
    """Stores pictures and feature maps in channels-last layout, which is faster on CPUs and tensor cores."""
    fused: bool = True
    """Uses the fused optimiser, which updates all weights in one kernel."""
    compile: bool = False
    """Compiles backbone, head, body and losses with torch.compile, each where that works."""
    checkpointing: bool = False
    """Recomputes the backbone's feature maps in the backward pass instead of keeping them: less memory, about one more
    forward pass of time. BatchNorm that is not frozen counts each batch twice in its statistics."""
    keep_memory: Annotated[bool | Literal["auto"], BeforeValidator(on_or_off)] = "auto"
    """On a CPU: keeps memory that a step freed for the next step. With `auto` it does, unless `hmrb doctor --speed`
    found a step slower with it on this machine; the results are the same digits."""
    pin_memory: bool = True
    """On a GPU: allocates batches in page-locked memory, for asynchronous copies."""
    prefetch: bool = True
    """On a GPU: copies the next batch while the current one is computed."""
    tf32: bool = True
    """On a GPU: networks in fp32 multiply in TF32, which is faster and keeps 10 bits of each factor's mantissa. Bodies
    and losses do not."""
    deterministic: bool = False
    """Uses only algorithms that give the same digits in every run on this machine; fails if there is none. Slower."""
    cudnn_benchmark: bool = True
    """On a GPU: tries the algorithms of each convolution in the first steps and uses the fastest. Not with
    `deterministic`, because the choice may differ between runs."""
    profile_steps: Annotated[int, Field(ge=0)] = 0
    """Number of steps to profile, after the first few; `--profile` sets it."""

    def micro_batches(self, batch: int, processes: int) -> int:
        """Micro-batches per process and step. Raises ValueError if the batch does not split evenly."""
        if batch % processes:
            raise ValueError(f"optim.batch: {batch} can't be split evenly over {processes} processes")
        share = batch // processes
        micro = self.device_batch or share
        parts = -(-share // micro)
        if share % parts:
            small = [size for size in range(1, min(math.isqrt(share), MOST_DIVISORS) + 1) if share % size == 0]
            fitting = sorted({*small, *(share // size for size in small)}, key=lambda size: abs(size - micro))[:12]
            raise ValueError(
                f"speed.device_batch: the {share} pictures of a process can't be split into {parts} equal micro-batches"
                f" of at most {micro}; use one of {', '.join(map(str, sorted(fitting)))}"
            )
        return parts
