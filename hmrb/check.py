"""Validates an experiment before any device is touched, and lists every problem."""

from collections.abc import Callable
from functools import partial
from typing import Any

from hmrb.body import load_body
from hmrb.bodykind import BODIES, kind_of
from hmrb.data.augment import AUGMENTS
from hmrb.data.convert.catalogue import DATASETS, train_set
from hmrb.data.occluders import read_pascal
from hmrb.data.shard import open_shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError
from hmrb.evaluation.protocols import BENCHMARKS, find_benchmark
from hmrb.lookup import bind, did_you_mean, find
from hmrb.models.backbones import find_backbone
from hmrb.models.head import HEADS
from hmrb.models.hmr import MODELS, build_model
from hmrb.spec import DataSpec, Expected, Experiment, Op, Published
from hmrb.store import Store
from hmrb.training.losses import LOSSES


def name_problems(experiment: Experiment, processes: int = 1) -> list[str]:
    """Problems that need no files: unknown names, invalid arguments, contradictory settings."""
    model, evals = experiment.model, experiment.evals
    checks: list[Callable[[], object]] = [
        partial(find, "body", experiment.body, BODIES),
        partial(find, "method", model.method, MODELS),
        partial(find_backbone, model.backbone),
        partial(find, "head", model.head.name, HEADS),
        *(partial(train_set, name) for name in experiment.data.mix),
        *(partial(find, "loss", name, LOSSES) for name in experiment.losses),
        *(partial(find_benchmark, name) for name in _benches(experiment)),
        *(partial(_bind, op) for op in experiment.data.augment),
        *(partial(_measures, row) for row in experiment.published),
        *(partial(_measures, row) for row in experiment.expected),
    ]
    problems = _messages(checks) + _outside_the_mix(experiment.data)
    if evals.select_on in BENCHMARKS and BENCHMARKS[evals.select_on].is_test and not evals.select_on_test:
        problems.append(
            f"evals.select_on: '{evals.select_on}' is a test split; selecting a checkpoint on it leaks the test set."
            " Choose another, or set evals.select_on_test: true"
        )
    try:
        experiment.speed.micro_batches(experiment.optim.batch, processes)
    except ValueError as error:
        problems.append(str(error))
    if model.head.name == "direct" and model.head.steps != 1:
        problems.append(f"model.head.steps: the direct head takes 1 step, got {model.head.steps}")
    return problems


def resolve(experiment: Experiment) -> Experiment:
    """The experiment with all augmentation defaults written out, so that later changes of defaults do not affect it.

    Raises RequestError if a name or an argument is invalid.
    """
    ops = tuple(op.model_copy(update={"args": _bind(op)}) for op in experiment.data.augment)
    return experiment.model_copy(update={"data": experiment.data.model_copy(update={"augment": ops})})


def file_problems(experiment: Experiment, store: Store) -> list[str]:
    """Problems with files: missing or unreadable bodies, shards and weights, or a model that can't be built."""
    checks: list[Callable[[], object]] = [partial(load_body, experiment.body, store=store)]
    needed = {(name, "train") for name in experiment.data.mix}
    needed |= {
        (BENCHMARKS[name].dataset, BENCHMARKS[name].split) for name in _benches(experiment) if name in BENCHMARKS
    }
    if experiment.adversary.weight and experiment.adversary.poses != "labels":
        needed.add((experiment.adversary.poses, "train"))
    checks += [partial(_map, store, name, split) for name, split in sorted(needed)]
    checks.append(partial(build_model, experiment.model, store, kind_of(experiment.body)))
    if any(op.args.get("occluders") == "pascal" for op in experiment.data.augment):
        checks.append(partial(read_pascal, store.pascal))
    return _messages(checks)


def missing_synthetic(experiment: Experiment, store: Store) -> list[str]:
    """Synthetic datasets that the experiment needs and the store lacks."""
    names = {*experiment.data.mix, *(BENCHMARKS[name].dataset for name in _benches(experiment))}
    sources = [CONVERTERS[name] for name in sorted(names) if name in CONVERTERS and CONVERTERS[name].makes_itself]
    return [s.name for s in sources if not all(store.shard(s.name, split).exists() for split in s.splits)]


def _benches(experiment: Experiment) -> list[str]:
    chosen = experiment.evals.select_on
    return [*experiment.evals.benches, *([chosen] if chosen else [])]


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


def _map(store: Store, name: str, split: str) -> object:
    return open_shard(store.shard(name, split), name, _command(name)).arrays


def _command(name: str) -> str:
    command, row = f"hmrb convert-data {name}", DATASETS.get(name)
    return f"{command} --raw DIR (its files: {row.homepage}, {row.access})" if row and row.homepage else command


def _messages(checks: list[Callable[[], object]]) -> list[str]:
    problems = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            problems.append(str(error))
    return problems
