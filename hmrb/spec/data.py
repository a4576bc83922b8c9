"""The table `data`: what is drawn in training."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from hmrb.names import Antialias, Decode
from hmrb.spec.fields import Names, Positive, Share, SpecModel, one_spelling


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


def _sums_to_1(mix: dict[str, float]) -> dict[str, float]:
    if abs(sum(mix.values()) - 1) > 1e-6:
        raise ValueError(f"shares sum to {sum(mix.values()):g}, but must sum to 1")
    return mix


WORKERS_GPU = 6  # a GPU at 2,500 images/s needs 4 at 643 (docs/scale.md), half as many again with pixel augmentations
WORKERS_CPU = 4
MOST_WORKERS = 1024  # more than any machine has cores; each is a process of some 100 MB, so a typing error fills memory


def auto_workers(cores: float, on_gpu: bool) -> int:
    """Loading processes for a process with this many cores to itself, at least 1."""
    return int(max(min(WORKERS_GPU if on_gpu else WORKERS_CPU, cores), 1))


LabelKind = Literal["keypoints2d", "keypoints3d", "body"]


class DataSpec(SpecModel):
    """The training data: datasets with their shares of the draws, and the augmentations."""

    mix: Annotated[dict[str, Share], BeforeValidator(one_spelling), AfterValidator(_sums_to_1), Field(min_length=1)]
    augment: tuple[Annotated[Op, BeforeValidator(_op)], ...] = (
        Op(name="channel_noise", args={"factor": 0.4}),
        Op(name="flip", args={"p": 0.5}),
        Op(name="rotate_scale", args={"rotation_deg": 30, "scale": 0.25, "p": 0.6}),
    )
    without: Annotated[dict[str, tuple[LabelKind, ...]], BeforeValidator(one_spelling)] = {}
    """Labels to ignore in training, by dataset."""
    fraction: Annotated[dict[str, Annotated[float, Field(gt=0, le=1)]], BeforeValidator(one_spelling)] = {}
    """The share of its people that training knows, by dataset: the first of the shard. By default all."""
    trusted: Names = ()
    """Data sets with measured labels, which a loss's gate does not loosen."""
    decode: Decode = "full"
    """What is decoded of a picture: all of it (`full`), or the part and the scale that the crop shows (`seen`)."""
    antialias: Antialias = "none"
    """What is done to pictures that shrink to less than half their size: nothing, as in the study,
    or the mean over squares of 2, 4, 8 ... pixels (`area`)."""
    epoch_len: Positive | None = None
    """Draws per epoch; by default the size of the largest dataset of the mix, as in the study."""
    workers: Annotated[int, Field(ge=0, le=MOST_WORKERS)] | None = None
    """Loading processes per training process; 0 loads in the training process. By default 6
    per GPU or 4 on a CPU, if there are as many cores."""
    unreadable_limit: Annotated[int, Field(ge=0)] = 0
    """Number of unreadable pictures that a process may replace with other draws before the run fails."""

    def known_people(self, name: str, there: int) -> int:
        """How many of the people that a dataset has in its shard training knows: at least one."""
        return max(round(self.fraction.get(name, 1.0) * there), 1)

    def workers_for(self, cores: float, on_gpu: bool) -> int:
        """Loading processes of a training process that has this many cores to itself."""
        return auto_workers(cores, on_gpu) if self.workers is None else self.workers
