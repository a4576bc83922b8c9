"""Validates an experiment before any device is touched, and lists every problem."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from hmrb import names
from hmrb.bodykind import BODIES
from hmrb.data.augment import AUGMENTS
from hmrb.data.convert.own import trainable
from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import TITLES
from hmrb.evaluation.protocols import ROWS, SELECTED, Benchmark, find_benchmark
from hmrb.lookup import UnknownName, bind, did_you_mean, find
from hmrb.spec import DataSpec, Expected, Experiment, Op, Published
from hmrb.store import Store


def name_problems(experiment: Experiment, processes: int = 1) -> list[str]:
    """Problems that need no files: unknown names, invalid arguments, contradictory settings. Imports no torch."""
    model, evals, store = experiment.model, experiment.evals, Store.default()
    checks: list[Callable[[], object]] = [
        partial(find, "body", experiment.body, BODIES),
        partial(_known, "method", model.method, names.METHODS),
        partial(_backbone, model.backbone),
        partial(_known, "head", model.head.name, names.HEADS),
        *(partial(trainable, name, store) for name in experiment.data.mix),
        *(partial(_known, "loss", name, names.LOSSES) for name in experiment.losses),
        *(partial(find_benchmark, name) for name in benches_of(experiment)),
        *(partial(_bind, op) for op in experiment.data.augment),
        *(partial(_measures, row) for row in experiment.published),
        *(partial(_measures, row) for row in experiment.expected),
    ]
    problems = messages(checks) + _outside_the_mix(experiment.data)
    selected = known_benches([evals.select_on] if evals.select_on else [])
    if any(row.is_test for row in selected) and not evals.select_on_test:
        problems.append(
            f"evals.select_on: '{evals.select_on}' is a test split; selecting a checkpoint on it leaks the test set."
            " Choose another, or set evals.select_on_test: true"
        )
    if any(SELECTED[0] not in row.metrics for row in selected):
        able = ", ".join(row.name for row in ROWS if SELECTED[0] in row.metrics and not row.is_test)
        problems.append(
            f"evals.select_on: '{evals.select_on}' has no {TITLES[SELECTED[0]]}, which selects the checkpoint;"
            f" choose one of {able}, or null to keep the last weights"
        )
    problems += batch_problems(experiment, processes)
    if model.head.name == "direct" and model.head.steps != 1:
        problems.append(f"model.head.steps: the direct head takes 1 step, got {model.head.steps}")
    return problems


def batch_problems(experiment: Experiment, processes: int) -> list[str]:
    """A message if the batch does not split evenly over the processes and their micro-batches."""
    try:
        experiment.speed.micro_batches(experiment.optim.batch, processes)
    except ValueError as error:
        return [str(error)]
    return []


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with all augmentation defaults written out, so that later changes of defaults do not affect it.

    Raises RequestError if a name or an argument is invalid.
    """
    ops = tuple(op.model_copy(update={"args": _bind(op)}) for op in experiment.data.augment)
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"augment": ops})})


def benches_of(experiment: Experiment) -> list[str]:
    """The benchmarks that an experiment is scored on or selected by."""
    chosen = experiment.evals.select_on
    return [*experiment.evals.benches, *([chosen] if chosen else [])]


def known_benches(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of those names that are known."""
    rows = []
    for name in names:
        with suppress(UnknownName):
            rows.append(find_benchmark(name))
    return rows


def _known(kind: str, name: str, known: Sequence[str]) -> str:
    return find(kind, name, {one: one for one in known})


def _backbone(name: str) -> None:
    """Raises UnknownName. Only a name that is none of the table's needs timm, and torch with it."""
    key = name.replace("-", "_")
    if names.BACKBONE_ALIASES.get(key, key) not in names.BACKBONES:
        from hmrb.models.backbones import find_backbone

        find_backbone(name)


def _bind(op: Op) -> dict[str, Any]:
    return bind("augmentation", find("augmentation", op.name, AUGMENTS), op.args)


def _measures(row: Published | Expected) -> object:
    """Raises RequestError if the row's benchmark or metric is unknown."""
    benchmark = find_benchmark(row.benchmark)
    return find(f"metric of {benchmark.name}", row.metric, {name: name for name in benchmark.metrics})


def _outside_the_mix(data: DataSpec) -> list[str]:
    """Problems with datasets that the spec mentions but that are not in its mix."""
    named = [(f"data.augment: {op.name}: only", name) for op in data.augment for name in op.only]
    named += [("data.without", name) for name in data.without]
    return [
        f"{where}: '{name}' is not in the mix.{did_you_mean(name, data.mix)} The mix: {', '.join(data.mix)}."
        for where, name in named
        if name not in data.mix
    ]


def messages(checks: Sequence[Callable[[], object]]) -> list[str]:
    """The messages of the checks that raise RequestError."""
    problems = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            problems.append(str(error))
    return problems
