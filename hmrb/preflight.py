"""Checks the files that an experiment needs, before a run: bodies, shards, weights."""

from collections.abc import Callable
from functools import partial

from hmrb.body import load_body
from hmrb.bodykind import kind_of
from hmrb.check import benches_of, messages
from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.occluders import read_pascal
from hmrb.data.shard import open_shard
from hmrb.data.sources import CONVERTERS
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.models.hmr import build_model
from hmrb.spec import Experiment
from hmrb.store import Store


def file_problems(experiment: Experiment, store: Store) -> list[str]:
    """Problems with files: missing or unreadable bodies, shards and weights, or a model that can't be built."""
    checks: list[Callable[[], object]] = [partial(load_body, experiment.body, store=store)]
    needed = {(name, "train") for name in experiment.data.mix}
    needed |= {
        (BENCHMARKS[name].dataset, BENCHMARKS[name].split) for name in benches_of(experiment) if name in BENCHMARKS
    }
    if experiment.adversary.weight and experiment.adversary.poses != "labels":
        needed.add((experiment.adversary.poses, "train"))
    checks += [partial(_map, store, name, split) for name, split in sorted(needed)]
    checks.append(partial(build_model, experiment.model, store, kind_of(experiment.body)))
    if any(op.args.get("occluders") == "pascal" for op in experiment.data.augment):
        checks.append(partial(read_pascal, store.pascal))
    return messages(checks)


def missing_synthetic(experiment: Experiment, store: Store) -> list[str]:
    """Synthetic datasets that the experiment needs and the store lacks."""
    names = {*experiment.data.mix, *(BENCHMARKS[name].dataset for name in benches_of(experiment))}
    sources = [CONVERTERS[name] for name in sorted(names) if name in CONVERTERS and CONVERTERS[name].makes_itself]
    return [s.name for s in sources if not all(store.shard(s.name, split).exists() for split in s.splits)]


def _map(store: Store, name: str, split: str) -> object:
    return open_shard(store.shard(name, split), name, _command(name)).arrays


def _command(name: str) -> str:
    command, row = f"hmrb convert-data {name}", DATASETS.get(name)
    return f"{command} --raw DIR (its files: {row.homepage}, {row.access})" if row and row.homepage else command
