"""An experiment as one frozen object. A YAML spec lists only what differs from the defaults here, the baseline."""

import hashlib
import json
import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hmrb.errors import RequestError
from hmrb.formats.files import LOOKED_BYTES, reason, what_bytes_are
from hmrb.formats.yaml_text import MAX_BYTES, YamlProblem, load_yaml
from hmrb.lookup import did_you_mean

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


MOST_HIDDEN = 1 << 14  # a layer of 1 GB; the study's have 1024
SHOWN = 200  # letters of a wrong value in a message
MOST_DIVISORS = 100_000  # sizes tried for the list of a message

Precision = Literal["fp32", "bf16", "fp16"]


class SpecError(RequestError):
    """An invalid spec; the message lists every problem, one per line."""


class SpecModel(BaseModel):
    """Base class of all spec tables: frozen, refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _one_spelling(value: object) -> object:
    """Replaces `-` with `_` in names, as in the tables."""
    if isinstance(value, str):
        return value.replace("-", "_")
    if isinstance(value, dict):
        return {_one_spelling(key): number for key, number in value.items()}
    return [_one_spelling(name) for name in value] if isinstance(value, list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_spelling)]


class Op(SpecModel):
    """One augmentation and its arguments; written `name` or `name: {argument: value}`.

    The argument `only` lists the datasets that it applies to; by default it applies to all.
    """

    name: str
    args: dict[str, Any] = {}
    only: Names = ()


def _op(value: object) -> object:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and len(value) == 1 and not value.keys() & Op.model_fields.keys():
        name, args = next(iter(value.items()))
        if not isinstance(args, dict):
            return {"name": name, "args": {} if args is None else args}
        only = {"only": args["only"]} if "only" in args else {}
        return {"name": name, "args": {key: value for key, value in args.items() if key != "only"}, **only}
    return value


class HeadSpec(SpecModel):
    """The regressor: refines the mean body `steps` times with two layers on the backbone's features."""

    name: str = "iterative"
    steps: Positive = 3
    hidden: Annotated[int, Field(gt=0, le=MOST_HIDDEN)] = 1024
    dropout: Share = 0.5


class ModelSpec(SpecModel):
    """The network that predicts a body from a picture."""

    method: str = "hmr"
    backbone: str = "resnet50"
    weights: str = "imagenet"
    """Initial weights: `none`, `imagenet`, `mpii` or `coco` (pose networks), or the path of a checkpoint."""
    features: Literal["mean", "flatten", "study"] = "mean"
    """The regressor's input: the mean of the last feature map, the whole map, or the study's own tail and pooling."""
    drop_path: Share = 0.0
    """Stochastic depth of the backbone in training: the drop probability of its last residual branch."""
    head: HeadSpec = HeadSpec()
    image_px: Positive = 224
    mean: Literal["file", "labels"] = "file"
    """The regressor's initial body: from smpl_mean_params.npz, or the mean of the training labels."""
    sync_bn: bool = True
    freeze_bn: bool = False
    """Keeps BatchNorm's initial statistics, so a picture's features do not depend on the rest of its batch."""


def _sums_to_1(mix: dict[str, float]) -> dict[str, float]:
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise ValueError(f"shares sum to {sum(mix.values()):g}, but must sum to 1")
    return mix


LabelKind = Literal["keypoints2d", "keypoints3d", "body"]


class DataSpec(SpecModel):
    """The training data: datasets with their shares of the draws, and the augmentations."""

    mix: Annotated[dict[str, Share], BeforeValidator(_one_spelling), AfterValidator(_sums_to_1), Field(min_length=1)]
    augment: tuple[Annotated[Op, BeforeValidator(_op)], ...] = (
        Op(name="channel_noise", args={"factor": 0.4}),
        Op(name="flip", args={"p": 0.5}),
        Op(name="rotate_scale", args={"rotation_deg": 30, "scale": 0.25, "p": 0.6}),
    )
    without: Annotated[dict[str, tuple[LabelKind, ...]], BeforeValidator(_one_spelling)] = {}
    """Labels to ignore in training, by dataset."""
    epoch_len: Positive | None = None
    """Draws per epoch; by default the size of the largest dataset of the mix, as in the study."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Loading processes per training process; 0 loads in the training process."""
    unreadable_limit: Annotated[int, Field(ge=0)] = 0
    """Number of unreadable pictures that a process may replace with other draws before the run fails."""


class LossTerm(SpecModel):
    """One term of the loss: a distance between prediction and label, times a weight."""

    distance: Literal["l1", "mse", "smooth_l1"]
    weight: Weight


class AdversarySpec(SpecModel):
    """The adversarial prior: a discriminator of poses and shapes. Weight 0 disables it."""

    weight: Weight = 1.0
    lr: Rate = 1e-4
    poses: str = "cmu_mosh"
    """The dataset of real bodies for the discriminator, or `labels`: the bodies of the training mix."""


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
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights, which are then evaluated and saved as the model; 0 disables averaging."""
    precision: Precision = "fp32"
    """Precision of the network; weights, body and losses stay in fp32."""

    @model_validator(mode="before")
    @classmethod
    def _without_accumulate(cls, value: Any) -> Any:
        """Drops `accumulate: 1` of specs in older checkpoints; it is now derived from `speed.device_batch`."""
        if isinstance(value, dict) and value.get("accumulate") == 1:
            return {key: field for key, field in value.items() if key != "accumulate"}
        return value

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
    """Compiles the backbone with torch.compile, where that works."""
    checkpointing: bool = False
    """Recomputes the backbone's feature maps in the backward pass instead of keeping them: less memory, about one more
    forward pass of time. BatchNorm that is not frozen counts each batch twice in its statistics."""
    keep_memory: bool = True
    """On a CPU: keeps memory that a step freed for the next step."""
    pin_memory: bool = True
    """On a GPU: allocates batches in page-locked memory, for asynchronous copies."""
    prefetch: bool = True
    """On a GPU: copies the next batch while the current one is computed."""
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


class EvalSpec(SpecModel):
    """Which benchmarks run, when, and which one selects the best checkpoint."""

    benches: Names = ("3dpw",)
    """Run at the end of training, on the selected checkpoint."""
    select_on: Annotated[str | None, BeforeValidator(_one_spelling)] = "3dpw_val"
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

    benchmark: Annotated[str, BeforeValidator(_one_spelling)]
    metric: str = "pa_mpjpe"
    value: float
    source: str
    doubt: str = ""


class Expected(SpecModel):
    """A number that this experiment must reproduce, within a tolerance."""

    benchmark: Annotated[str, BeforeValidator(_one_spelling)]
    metric: str = "pa_mpjpe"
    value: float
    tolerance: Rate
    source: str


STUDY_LOSSES = {
    "keypoints3d": LossTerm(distance="smooth_l1", weight=100),
    "keypoints2d": LossTerm(distance="smooth_l1", weight=10),
    "vertices": LossTerm(distance="l1", weight=2),
    "pose": LossTerm(distance="mse", weight=3),
    "betas": LossTerm(distance="mse", weight=0.02),
}


class Experiment(SpecModel):
    """Everything that determines a run's results, and the numbers to compare them with."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    body: str = "smpl"
    model: ModelSpec = ModelSpec()
    data: DataSpec
    losses: dict[str, LossTerm] = Field(default=STUDY_LOSSES, min_length=1)
    adversary: AdversarySpec = AdversarySpec()
    optim: OptimSpec = OptimSpec()
    evals: EvalSpec = EvalSpec()
    checkpoints: CheckpointSpec = CheckpointSpec()
    speed: SpeedSpec = SpeedSpec()
    published: tuple[Published, ...] = ()
    expected: tuple[Expected, ...] = ()

    def recipe(self) -> dict[str, Any]:
        """The fields that determine the run's results, as plain values: no file, speed or reference-number settings."""
        left_out: dict[str, Any] = dict.fromkeys(("checkpoints", "speed", "published", "expected"), True)
        return self.model_dump(mode="json", exclude=left_out | {"data": {"workers"}})

    def sha(self) -> str:
        """12 hex digits of the recipe's hash: equal for equal runs."""
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()[:12]


def load_experiment(path: Path, overrides: tuple[str, ...] = ()) -> Experiment:
    """Reads a YAML spec and applies `a.b=value` overrides. Raises SpecError with every problem."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: not a readable spec: {reason(error)}") from None
    try:
        tree = load_yaml(data)
    except YamlProblem as problem:
        found = what_bytes_are(data[:LOOKED_BYTES]) if data else ""
        raise SpecError(f"{path}: not a readable spec: {f'it is {found}' if found else problem}") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{path}: a spec must be a table of fields, got {_kind(tree)}")
    for override in overrides:
        _lay(tree, override)
    return parse_experiment(tree, str(path))


def parse_experiment(tree: dict[str, Any], source: str) -> Experiment:
    """Builds an Experiment from plain values; `source` starts each line of a SpecError."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = [f"{source}: {_problem(detail)}" for detail in error.errors()]
        raise SpecError("\n".join(lines)) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved spec as YAML, with all defaults written out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


def _lay(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override}: write it as field.field=value")
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SpecError(f"--set {override}: '{parent}' is not a table")
    try:
        tree[leaf] = load_yaml(value)
    except YamlProblem as problem:
        raise SpecError(f"--set {override[:SHOWN]}: '{value[:SHOWN]}' is not a valid YAML value: {problem}") from None


def _problem(detail: Any) -> str:
    """Formats a pydantic error: `losses.keypoints3d.weigth: no such field; did you mean 'weight'?`"""
    keys = [str(key) for key in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        fields = _fields_at(keys[:-1])
        near = did_you_mean(keys[-1], fields).replace(" Did", "; did")
        return f"{'.'.join(keys)}: no such field{near or '; known: ' + ', '.join(fields)}"
    if detail["type"] == "missing":
        return f"{'.'.join(keys)}: required"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = detail["input"]
    shown = "" if isinstance(got, dict | list) else f", got {repr(got)[:SHOWN]}"
    return f"{'.'.join(keys)}: {message}{shown}"


def _fields_at(keys: list[str]) -> list[str]:
    """The fields of the table at a path of keys."""
    kind: Any = Experiment
    for key in keys:
        if _is_model(kind) and key in kind.model_fields:
            kind = kind.model_fields[key].annotation
        kind = next(filter(_is_model, _parts(kind)), kind)
    return list(kind.model_fields) if _is_model(kind) else []


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts(kind: Any) -> list[Any]:
    """A type and every type inside its brackets."""
    return [kind] + [inner for part in get_args(kind) for inner in _parts(part)]


def _kind(value: object) -> str:
    return "an empty file" if value is None else f"a {type(value).__name__}"
