"""The questions of the study in small (docs/small.md): what each is compared with, and what the study published."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hmrb.evaluation.records import Result

PREFIX = "small_study_"
SURE = 0.05  # p-values below it, corrected for the comparisons of a table, are answers
IS_BETTER, IS_WORSE, IS_OPEN = "better", "worse", "no difference shown"
SAME_PEOPLE = {"synthetic_hidden": "synthetic"}
"""Benchmarks of the same people in the same order, photographed once more with something in front of them."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question, and the row that the others are compared with.

    `published` has, for rows that the study asked about too, the names of its specs. Of initial weights, both compare
    a backbone that learnt pictures with one that learnt 2D poses; the study's learnt the classes of ImageNet.
    """

    asks: str
    base: str
    published: Mapping[str, str] = field(default_factory=dict)


def question_of(experiment: str) -> str:
    """The question that an experiment belongs to, or ""."""
    name = experiment.removeprefix(PREFIX).partition("_")[0] if experiment.startswith(PREFIX) else ""
    return name if name in QUESTIONS else ""


def prefix_of(question: str) -> str:
    """How the names of a question's experiments begin."""
    return f"{PREFIX}{question}_"


def title_of(question: str) -> str:
    """The question in words, for the heading of a table."""
    return f"{question} ({QUESTIONS[question].asks})"


def hidden_less_clean(results: Sequence[Result]) -> list[Result]:
    """For runs tested on the same people clean and hidden, what hiding costs each person, as results of their own."""
    of_run = {(result.experiment, result.seed, result.record.benchmark): result for result in results}
    out = []
    for (experiment, seed, benchmark), result in of_run.items():
        clean = of_run.get((experiment, seed, SAME_PEOPLE.get(benchmark, "")))
        if clean and np.array_equal(clean.rows, result.rows):
            out.append(_less(result, clean))
    return out


def _less(hidden: Result, clean: Result) -> Result:
    both = {name: hidden.counted[name] & clean.counted[name] for name in hidden.errors if name in clean.errors}
    errors = {name: hidden.errors[name] - clean.errors[name] for name in both}
    protocol = f"{hidden.record.protocol} less {clean.record.protocol}"
    record = hidden.record.model_copy(update={"protocol": protocol})
    return replace(hidden, record=record, errors=errors, counted=both)


_AUGMENTATIONS = (
    "none", "random_crop", "photometric_distortion", "hard_erase", "soft_erase", "self_mix", "coarse_dropout",
    "grid_dropout", "occlude", "occlude_keypoints",
)  # fmt: skip
QUESTIONS = {
    "dataset": Question("which dataset alone", "street"),
    "mix": Question("which mix, with which labels", "two"),
    "backbone": Question("which backbone", "regnety_002"),
    "init": Question(
        "which initial weights", "scratch", {"selfsup": "init/resnet50_imagenet", "pose2d": "init/resnet50_coco"}
    ),
    "augment": Question("which augmentation", "none", {name: f"augment/eft_coco_{name}" for name in _AUGMENTATIONS}),
    "loss": Question("which losses", "default", {"default": "algorithms/hmr", "l1": "algorithms/hmr_l1"}),
    "amount": Question("how many people", "part_100"),
    "combined": Question(
        "all that helps, together", "baseline",
        {"baseline": "algorithms/hmr", "recipe": "algorithms/hmr_l1_coco_aug"},
    ),
}  # fmt: skip
