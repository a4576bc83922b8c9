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
from hmrb.plugins import Kind, Plugin, check_packages, find_plugin, only_plugin, refuse_arguments
from hmrb.spec import DataSpec, Expected, Experiment, HeadSpec, ModelSpec, Op, Published
from hmrb.store import Store


def name_problems(experiment: Experiment, processes: int = 1) -> list[str]:
    """Problems that need no files: unknown names, invalid arguments, contradictory settings. Imports no torch."""
    model, evals, store = experiment.model, experiment.evals, Store.default()
    checks: list[Callable[[], object]] = [
        partial(find, "body", experiment.body, BODIES),
        *(partial(_named, *use) for use in _uses(experiment)),
        partial(check_packages, experiment.packages, "the spec"),
        *(partial(trainable, name, store) for name in experiment.data.mix),
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
    problems += batch_problems(experiment, processes) + _method_problems(experiment.model) + _loss_problems(experiment)
    if isinstance(model.head, HeadSpec) and model.head.name == "direct" and model.head.steps != 1:
        problems.append(f"model.head.steps: the direct head takes 1 step, got {model.head.steps}")
    return problems


MAPS = ("map", "upsampled")
"""The features that are a map; the others are a vector."""


def _method_problems(model: ModelSpec) -> list[str]:
    """Choices that contradict the method, or features that the head cannot read."""
    problems, choices = [], names.METHODS.get(model.method.replace("-", "_"))
    head = model.head
    if choices and head.name in names.HEADS:
        for field, value, allowed in (
            ("model.head.name", head.name, choices.heads),
            ("model.head.box", head.box, choices.boxes),
            ("model.camera", model.camera, choices.cameras),
        ):
            if value not in allowed:
                having = [name for name, other in names.METHODS.items() if _allows(other, field, value)]
                instead = f"; {value} is of method {' or '.join(having)}" if having else ""
                problems.append(f"{field}: method {model.method} takes {' or '.join(allowed)}, got {value}{instead}")
    reads_map = head.name in names.MAP_HEADS
    if head.name in names.HEADS and reads_map != (model.features in MAPS):
        wanted = "map (or upsampled, of HRNet)" if reads_map else "mean, flatten, study or conv"
        problems.append(
            f"model.features: head {head.name} reads {'a map' if reads_map else 'a vector'}: set {wanted}, got"
            f" {model.features}"
        )
    return problems


def _loss_problems(experiment: Experiment) -> list[str]:
    """Losses on maps that the head does not make, and distances that are not theirs."""
    problems, head = [], experiment.model.head.name
    for name, term in experiment.losses.items():
        if name in names.PART_LOSSES and head in names.HEADS and head not in names.PART_HEADS:
            problems.append(
                f"losses.{name}: head {head} makes no maps of parts; it is of {' or '.join(names.PART_HEADS)}"
            )
        if (name == "parts") != (term.distance == "cross_entropy"):
            wanted = "cross_entropy" if name == "parts" else "l1, mse or smooth_l1"
            problems.append(f"losses.{name}.distance: expected {wanted}, got {term.distance}")
    return problems


def _allows(choices: names.Choices, field: str, value: str) -> bool:
    return value in {"model.head.name": choices.heads, "model.head.box": choices.boxes}.get(field, choices.cameras)


def batch_problems(experiment: Experiment, processes: int) -> list[str]:
    """A message if the batch does not split evenly over the processes and their micro-batches."""
    try:
        experiment.speed.micro_batches(experiment.optim.batch, processes)
    except ValueError as error:
        return [str(error)]
    return []


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with the defaults of augmentations and plugins written out, and the plugins' packages.

    Later changes of defaults do not affect it. Raises RequestError if a name or an argument is invalid.
    """
    ops = tuple(op.model_copy(update={"args": _bind(op)}) for op in experiment.data.augment)
    plugins = {(kind, name): plugin for kind, name, _ in _uses(experiment) if (plugin := _plugin(kind, name))}

    def args(kind: Kind, name: str, given: dict[str, Any]) -> dict[str, Any]:
        return plugins[kind, name].plain_arguments(given) if (kind, name) in plugins else given

    model = experiment.model
    changes = {
        "args": args("method", model.method, model.args),
        "backbone_args": args("backbone", model.backbone, model.backbone_args),
        "head": model.head.model_copy(update={"args": args("head", model.head.name, model.head.args)})
        if isinstance(model.head, HeadSpec)
        else model.head,
    }
    losses = {
        name: term.model_copy(update={"args": args("loss", name, term.args)})
        for name, term in experiment.losses.items()
    }
    return experiment.model_copy(
        update={
            "data": experiment.data.model_copy(update={"augment": ops}),
            "model": model.model_copy(update=changes),
            "losses": losses,
            "packages": {plugin.package: plugin.version for plugin in plugins.values()},
        }
    )


def _uses(experiment: Experiment) -> list[tuple[Kind, str, dict[str, Any]]]:
    """What a spec names that another package may offer, with its arguments."""
    model = experiment.model
    return [
        ("method", model.method, model.args),
        ("backbone", model.backbone, model.backbone_args),
        ("head", model.head.name, getattr(model.head, "args", {})),
        *(("loss", name, term.args) for name, term in experiment.losses.items()),
    ]


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


def _named(kind: Kind, name: str, args: dict[str, Any]) -> None:
    """Raises UnknownName, or RequestError if the arguments are not those of that name."""
    if plugin := _plugin(kind, name):
        plugin.plain_arguments(args)
    else:
        refuse_arguments(kind, name, args)


def _plugin(kind: Kind, name: str) -> Plugin | None:
    """What another package offers under a name, None for a name of hmrb or timm. Raises UnknownName."""
    if kind != "backbone":
        return find_plugin(kind, name, OWN[kind])
    if (plugin := only_plugin(kind, name, OWN[kind])) or name.replace("-", "_") not in OWN[kind]:
        from hmrb.models.backbones import find_backbone  # only this needs timm, and torch with it

        find_backbone(name)
    return plugin


def _bind(op: Op) -> dict[str, Any]:
    return bind("augmentation", find("augmentation", op.name, AUGMENTS), op.args)


def _measures(row: Published | Expected) -> object:
    """Raises RequestError if the row's benchmark or metric is unknown."""
    benchmark = find_benchmark(row.benchmark)
    return find(f"metric of {benchmark.name}", row.metric, {name: name for name in benchmark.metrics})


def _outside_the_mix(data: DataSpec) -> list[str]:
    """Problems with datasets that the spec mentions but that are not in its mix."""
    named = [("data.trusted", name) for name in data.trusted]
    named += [(f"data.augment: {op.name}: only", name) for op in data.augment for name in op.only]
    named += [("data.without", name) for name in data.without]
    named += [("data.fraction", name) for name in data.fraction]
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


OWN: dict[Kind, tuple[str, ...]] = {
    "method": tuple(names.METHODS),
    "backbone": (*names.BACKBONES, *names.BACKBONE_ALIASES),
    "head": names.HEADS,
    "loss": names.LOSSES,
}
