"""Everything that can be known to be wrong with an experiment before a device is touched, in one list."""

from collections.abc import Callable
from functools import partial

from hmrb.benchmarks import BENCHMARKS
from hmrb.body import load_body
from hmrb.data.augment import AUGMENTS
from hmrb.data.catalogue import DATASETS, train_set
from hmrb.data.shard import open_shard
from hmrb.data.sources import SOURCES
from hmrb.errors import RequestError
from hmrb.lookup import bind, find
from hmrb.losses import LOSSES
from hmrb.models.backbones import BACKBONES, weight_problems
from hmrb.models.head import HEADS
from hmrb.models.hmr import MODELS
from hmrb.spec import Experiment, Op
from hmrb.store import Store


def name_problems(experiment: Experiment, processes: int = 1) -> list[str]:
    """Names that no table has, arguments that nothing takes, choices that contradict one another."""
    model, evals = experiment.model, experiment.evals
    checks: list[Callable[[], object]] = [
        partial(find, "method", model.method, MODELS),
        partial(find, "backbone", model.backbone, BACKBONES),
        partial(find, "head", model.head.name, HEADS),
        *(partial(train_set, name) for name in experiment.data.mix),
        *(partial(find, "loss", name, LOSSES) for name in experiment.losses),
        *(partial(find, "benchmark", name, BENCHMARKS) for name in _benches(experiment)),
        *(partial(_bind, op) for op in experiment.data.augment),
    ]
    problems = _said(checks)
    if evals.select_on in BENCHMARKS and BENCHMARKS[evals.select_on].is_test and not evals.select_on_test:
        problems.append(
            f"evals.select_on: '{evals.select_on}' is a test split; a checkpoint chosen on it has seen the test."
            " Choose another, or say evals.select_on_test: true"
        )
    if experiment.optim.batch % processes:
        problems.append(f"optim.batch: {experiment.optim.batch} can't be shared evenly by {processes} processes")
    if model.head.name == "direct" and model.head.steps != 1:
        problems.append(f"model.head.steps: the direct head takes 1 step, got {model.head.steps}")
    return problems


def file_problems(experiment: Experiment, store: Store) -> list[str]:
    """Bodies, shards and weights that are not there or can't be read."""
    checks: list[Callable[[], object]] = [partial(load_body, experiment.body, store=store)]
    needed = {(name, "train") for name in experiment.data.mix}
    needed |= {
        (BENCHMARKS[name].dataset, BENCHMARKS[name].split) for name in _benches(experiment) if name in BENCHMARKS
    }
    if experiment.adversary.weight and experiment.adversary.poses != "labels":
        needed.add((experiment.adversary.poses, "train"))
    checks += [partial(_map, store, name, split) for name, split in sorted(needed)]
    return _said(checks) + weight_problems(experiment.model)


def missing_synthetic(experiment: Experiment, store: Store) -> list[str]:
    """Datasets that the experiment needs, that make themselves, and that are not there yet."""
    names = {*experiment.data.mix, *(BENCHMARKS[name].dataset for name in _benches(experiment))}
    sources = [SOURCES[name] for name in sorted(names) if name in SOURCES and SOURCES[name].makes_itself]
    return [s.name for s in sources if not all(store.shard(s.name, split).exists() for split in s.splits)]


def _benches(experiment: Experiment) -> list[str]:
    chosen = experiment.evals.select_on
    return [*experiment.evals.benches, *([chosen] if chosen else [])]


def _bind(op: Op) -> object:
    return bind("augmentation", find("augmentation", op.name, AUGMENTS), op.args)


def _map(store: Store, name: str, split: str) -> object:
    return open_shard(store.shard(name, split), name, _command(name)).arrays


def _command(name: str) -> str:
    command, row = f"hmrb convert-data {name}", DATASETS.get(name)
    return f"{command} (its files: {row.homepage}, {row.access})" if row and row.homepage else command


def _said(checks: list[Callable[[], object]]) -> list[str]:
    problems = []
    for check in checks:
        try:
            check()
        except RequestError as error:
            problems.append(str(error))
    return problems
