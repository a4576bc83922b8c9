"""An experiment as one frozen value. A YAML file says only how it differs from the baseline: the defaults here."""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from hmrb.errors import RequestError
from hmrb.lookup import did_you_mean

Positive = Annotated[int, Field(gt=0)]
Rate = Annotated[float, Field(gt=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


Precision = Literal["fp32", "bf16", "fp16"]


class SpecError(RequestError):
    """A spec that can't be read: every problem in it, one a line."""


class SpecModel(BaseModel):
    """Frozen; a key that is not a field is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _one_spelling(value: object) -> object:
    """Names with `_` for `-`, as the tables have them."""
    if isinstance(value, str):
        return value.replace("-", "_")
    if isinstance(value, dict):
        return {_one_spelling(key): number for key, number in value.items()}
    return [_one_spelling(name) for name in value] if isinstance(value, list | tuple) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_one_spelling)]


class Op(SpecModel):
    """One augmentation by name, with its arguments; written `name` or `name: {argument: value}`.

    `only` among the arguments names the datasets that it is for; left out, it is for all.
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
    """The regressor on the backbone's features: `steps` refinements of the mean body through two layers."""

    name: str = "iterative"
    steps: Positive = 3
    hidden: Positive = 1024
    dropout: Share = 0.5


class ModelSpec(SpecModel):
    """What turns a picture into a body."""

    method: str = "hmr"
    backbone: str = "resnet50"
    weights: str = "imagenet"
    """`none`, `imagenet`, `mpii` or `coco` (pose networks), or the path of a checkpoint."""
    features: Literal["mean", "flatten", "study"] = "mean"
    """The regressor's input: the last map's mean, all of the last map, or the study's own tail and pooling."""
    drop_path: Share = 0.0
    """Stochastic depth of the backbone in training: how often its last residual branch is left out."""
    head: HeadSpec = HeadSpec()
    image_px: Positive = 224
    mean: Literal["file", "labels"] = "file"
    """Where the regressor starts: the body's smpl_mean_params.npz, or the mean of the training labels."""
    sync_bn: bool = True
    freeze_bn: bool = False
    """BatchNorm keeps the statistics it starts with: a picture's features do not depend on who shares its batch."""


def _sums_to_1(mix: dict[str, float]) -> dict[str, float]:
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise ValueError(f"shares sum to {sum(mix.values()):g}, they should sum to 1")
    return mix


LabelKind = Literal["keypoints2d", "keypoints3d", "body"]


class DataSpec(SpecModel):
    """What is drawn for training: datasets with their shares of the draws, and what is done to a picture."""

    mix: Annotated[dict[str, Share], BeforeValidator(_one_spelling), AfterValidator(_sums_to_1), Field(min_length=1)]
    augment: tuple[Annotated[Op, BeforeValidator(_op)], ...] = (
        Op(name="channel_noise", args={"factor": 0.4}),
        Op(name="flip", args={"p": 0.5}),
        Op(name="rotate_scale", args={"rotation_deg": 30, "scale": 0.25, "p": 0.6}),
    )
    without: Annotated[dict[str, tuple[LabelKind, ...]], BeforeValidator(_one_spelling)] = {}
    """Labels of a dataset that are not trained on."""
    epoch_len: Positive | None = None
    """Draws in an epoch; left out, the size of the largest dataset of the mix, as in the study."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Loading processes for each training process; 0 loads in the training process."""
    unreadable_limit: Annotated[int, Field(ge=0)] = 0
    """How many pictures that can't be decoded a process may replace by other draws before the run stops."""


class LossTerm(SpecModel):
    """One term of the loss: how far apart prediction and label are, times a weight."""

    distance: Literal["l1", "mse", "smooth_l1"]
    weight: Weight


class AdversarySpec(SpecModel):
    """The adversarial prior: a discriminator of poses and shapes. Weight 0 builds none."""

    weight: Weight = 1.0
    lr: Rate = 1e-4
    poses: str = "cmu_mosh"
    """The dataset whose bodies are real to it, or `labels`: those of the training mix."""


class OptimSpec(SpecModel):
    """How the weights move. `batch` is the global batch, shared by all processes; rates are for that batch."""

    epochs: Positive = 100
    batch: Positive = 256
    optimiser: Literal["adam", "adamw"] = "adam"
    lr: Rate = 2.5e-4
    head_lr: Rate | None = None
    """The regressor's own rate; left out, it is `lr`."""
    weight_decay: Weight = 0.0
    schedule: Literal["fixed", "step", "cosine"] = "fixed"
    step_epochs: tuple[Positive, ...] = ()
    """With schedule step: the rates are multiplied by `step_factor` at the end of each of these epochs."""
    step_factor: Rate = 0.1
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    clip_norm: Rate | None = None
    """Largest gradient norm; left out, gradients are not clipped."""
    ema: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay of the averaged weights that are evaluated and saved as the model; 0 averages nothing."""
    precision: Precision = "fp32"
    """What the network computes in; weights, body and losses stay in fp32."""

    @model_validator(mode="before")
    @classmethod
    def _without_accumulate(cls, value: Any) -> Any:
        """Specs in older checkpoints have `accumulate: 1`, which is derived now."""
        if isinstance(value, dict) and value.get("accumulate") == 1:
            return {key: field for key, field in value.items() if key != "accumulate"}
        return value

    @model_validator(mode="after")
    def _schedule_has_its_steps(self) -> "OptimSpec":
        given = [name for name in ("step_epochs", "step_factor") if name in self.model_fields_set]
        if self.schedule == "step" and not self.step_epochs:
            raise ValueError("schedule step needs step_epochs, the epochs at whose end the rates fall")
        if self.schedule != "step" and given and (self.step_epochs or self.step_factor != 0.1):
            raise ValueError(f"{' and '.join(given)} would have no effect: schedule is {self.schedule}, not step")
        return self


class SpeedSpec(SpecModel):
    """How a step is computed, not what: outside the recipe, for it moves numbers by no more than rounding."""

    device_batch: Positive | None = None
    """Most pictures that a device takes at once: a process takes its share of a batch in as few equal parts as that
    allows. Left out, at once. BatchNorm that is not frozen sees a part at a time."""
    channels_last: bool = True
    """Pictures and maps lie in memory channel by channel of a pixel, as convolutions on CPUs and tensor cores want."""
    fused: bool = True
    """The optimiser moves all weights in one kernel."""
    compile: bool = False
    """The backbone through torch.compile, where that works."""
    checkpointing: bool = False
    """Maps of the backbone are computed again in the backward pass, not kept: less memory, about a forward pass more
    time. BatchNorm that is not frozen counts each batch twice in its statistics."""
    keep_memory: bool = True
    """On a CPU: memory that a step has freed is kept for the next."""
    pin_memory: bool = True
    """On a GPU: batches are made in page-locked memory, from which copies need not wait."""
    prefetch: bool = True
    """On a GPU: the next batch is copied while one is computed on."""
    profile_steps: Annotated[int, Field(ge=0)] = 0
    """Steps that are profiled, after the first few; `--profile` sets it."""

    def micro_batches(self, batch: int, processes: int) -> int:
        """Parts that a process takes its share of a batch in. Raises ValueError where that does not come out even."""
        if batch % processes:
            raise ValueError(f"optim.batch: {batch} can't be shared evenly by {processes} processes")
        share = batch // processes
        parts = -(-share // (self.device_batch or share))
        if share % parts:
            fitting = [size for size in range(1, share + 1) if share % size == 0]
            raise ValueError(
                f"speed.device_batch: the {share} pictures of a process can't be taken in {parts} equal parts of at"
                f" most {self.device_batch}; take one of {', '.join(map(str, fitting))}"
            )
        return parts


class EvalSpec(SpecModel):
    """Which benchmarks are run, when, and which one chooses the best checkpoint."""

    benches: Names = ("3dpw",)
    """Run at the end of training, on the chosen checkpoint."""
    select_on: Annotated[str | None, BeforeValidator(_one_spelling)] = "3dpw_val"
    """The benchmark whose PA-MPJPE chooses `best.pt`; null keeps the last weights."""
    every: Positive = 1
    """Epochs between two runs of `select_on`."""
    select_on_test: bool = False
    """True says in words that a test split may choose the checkpoint."""


class CheckpointSpec(SpecModel):
    """What of a run is on disk besides the last two checkpoints and the best weights: no number depends on it."""

    minutes: Rate = 15.0
    """Longest training between two checkpoints; the end of an epoch always writes one."""
    every_epochs: Positive | None = None
    """Epochs between two sets of weights that are kept as `epoch_0010.pt`; left out, none are."""
    keep: Positive | None = None
    """How many of those are kept, the newest; left out, all."""

    @model_validator(mode="after")
    def _keeps_what_there_is(self) -> "CheckpointSpec":
        if self.keep and not self.every_epochs:
            raise ValueError("keep would have no effect without every_epochs, the epochs between two that are kept")
        return self


class Published(SpecModel):
    """A number that others published for this experiment. `doubt` says why it is no target; empty, none is known."""

    benchmark: Annotated[str, BeforeValidator(_one_spelling)]
    metric: str = "pa_mpjpe"
    value: float
    source: str
    doubt: str = ""


class Expected(SpecModel):
    """A number that this experiment has to meet, within a tolerance."""

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
    """Everything that decides a run's numbers, and what they are held against."""

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
        """What decides the run's numbers, as plain values: neither its files and speed nor what it is held against."""
        left_out: dict[str, Any] = dict.fromkeys(("checkpoints", "speed", "published", "expected"), True)
        return self.model_dump(mode="json", exclude=left_out | {"data": {"workers"}})

    def sha(self) -> str:
        """12 hex digits over the recipe: the same for the same run."""
        return hashlib.sha256(json.dumps(self.recipe(), sort_keys=True).encode()).hexdigest()[:12]


def load_experiment(path: Path, overrides: tuple[str, ...] = ()) -> Experiment:
    """The spec in a YAML file, with `a.b=value` overrides laid over it. Raises SpecError with every problem."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path}: can't be read as a spec: {_reason(error)}") from None
    try:
        tree = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise SpecError(f"{path}: a spec is a table of fields, this is {_kind(tree)}")
    for override in overrides:
        _lay(tree, override)
    return parse_experiment(tree, str(path))


def parse_experiment(tree: dict[str, Any], source: str) -> Experiment:
    """A tree of plain values as an Experiment; `source` heads each line of a SpecError."""
    try:
        return Experiment.model_validate(tree)
    except ValidationError as error:
        lines = [f"{source}: {_problem(detail)}" for detail in error.errors()]
        raise SpecError("\n".join(lines)) from None


def dump_experiment(experiment: Experiment) -> str:
    """The resolved spec as YAML, every default written out."""
    return yaml.safe_dump(experiment.model_dump(mode="json"), sort_keys=False)


class _UniqueKeys(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice: the later one would silently win."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.MarkedYAMLError(problem=f"'{key}' is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def _lay(tree: dict[str, Any], override: str) -> None:
    path, equals, value = override.partition("=")
    if not equals or not path:
        raise SpecError(f"--set {override}: write it as field.field=value")
    *parents, leaf = path.split(".")
    for parent in parents:
        tree = tree.setdefault(parent, {})
        if not isinstance(tree, dict):
            raise SpecError(f"--set {override}: '{parent}' is no table")
    try:
        tree[leaf] = yaml.safe_load(value)
    except yaml.YAMLError:
        raise SpecError(f"--set {override}: '{value}' is no YAML value") from None


def _problem(detail: Any) -> str:
    """One line for one pydantic error: `losses.keypoints3d.weigth: no such field; did you mean 'weight'?`"""
    keys = [str(key) for key in detail["loc"]]
    if detail["type"] == "extra_forbidden":
        fields = _fields_at(keys[:-1])
        near = did_you_mean(keys[-1], fields).replace(" Did", "; did")
        return f"{'.'.join(keys)}: no such field{near or '; known: ' + ', '.join(fields)}"
    if detail["type"] == "missing":
        return f"{'.'.join(keys)}: has to be given"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    got = detail["input"]
    shown = "" if isinstance(got, dict | list) else f", got {got!r}"
    return f"{'.'.join(keys)}: {message}{shown}"


def _fields_at(keys: list[str]) -> list[str]:
    """The fields of the table that a path of keys leads to."""
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


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else "it is no text"


def _kind(value: object) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"
