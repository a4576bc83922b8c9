"""Which benchmarks a command means: rows of the table, groups, and shards with a protocol that the user chooses."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hmrb.data.shard import ShardInfo
    from hmrb.evaluation.protocols import Benchmark
    from hmrb.models.zoo import ZooModel
    from hmrb.run import EvalOptions
    from hmrb.spec import Expected
    from hmrb.store import Store

ALL_PRESENT = "all-present"
PREFERRED = ("test", "val")


def chosen(names: Sequence[str], metrics: Sequence[str], store: "Store", protocol: str = "") -> "list[Benchmark]":
    """The benchmarks of these names and groups, without duplicates, limited to the requested metrics.

    A name that is no benchmark's is a shard's, which is scored by `protocol`: the name of rules, or a YAML file with
    the rules of shards by name. Raises RequestError.
    """
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import GROUPS, ROWS

    here = [row.name for row in ROWS if not row.is_variant and store.shard(row.dataset, row.split).exists()]
    groups = {**GROUPS, ALL_PRESENT: here}
    for name in names:
        if name.endswith(".h5"):
            stem = Path(name).stem
            place = store.root / "shards"
            raise RequestError(f"--bench {name}: a shard goes by its name, {stem}; hmrb finds it in {place}")
    members = [member for name in names for member in groups.get(name.replace("_", "-"), [name])]
    if not members:
        raise RequestError(
            f"{ALL_PRESENT}: {store.root / 'shards'} has no benchmark's shard; create one with hmrb convert-data"
        )
    rows = list(dict.fromkeys(_benchmark(name, store, protocol) for name in members))
    if protocol and not any(row.name.count("/") == 2 for row in rows):
        raise RequestError(f"--protocol: {', '.join(members)} has its own protocol; it is for shards without one")
    return [row.only(tuple(metrics)) for row in rows] if metrics else rows


def known() -> str:
    """A line with the names of the benchmarks."""
    from hmrb.evaluation.protocols import ROWS

    names = ", ".join(sorted(row.name for row in ROWS if not row.is_variant))
    return f"Known: {names}; hmrb list-benches lists more"


def of(words: Sequence[str], checkpoints: Sequence[Path], check: bool) -> list[str]:
    """The benchmarks of checkpoints: with `check`, or for models of the zoo, those with expected numbers; else those of
    the specs, `evals.benches`."""
    from hmrb.checkpoint import load_checkpoint

    if check or any(map(zoo_row, words)):
        names = [row.benchmark for row in all_expected(words, checkpoints)]
    else:
        names = [name for path in checkpoints for name in load_checkpoint(path).experiment().evals.benches]
    return list(dict.fromkeys(names))


def expected(word: str, path: Path) -> "Sequence[Expected]":
    """The numbers that a zoo's model has published, or the `expected:` rows of a checkpoint's spec."""
    from hmrb.checkpoint import load_checkpoint

    row = zoo_row(word)
    return row.expected if row else load_checkpoint(path).experiment().expected


def all_expected(words: Sequence[str], paths: Sequence[Path]) -> "list[Expected]":
    """The expected numbers of all checkpoints. Raises RequestError if one has none."""
    from hmrb.errors import RequestError

    rows = {word: expected(word, path) for word, path in zip(words, paths, strict=True)}
    for word, found in rows.items():
        if not found and zoo_row(word):
            raise RequestError(
                f"no number of {word} is published under a protocol of hmrb; use --bench, without --check"
            )
        if not found:
            raise RequestError(f"--check: the spec of {word} expects no number; add rows to its `expected:`")
    return [row for found in rows.values() for row in found]


def said(row: "Expected") -> str:
    """An expected number with its benchmark and tolerance."""
    from hmrb.evaluation.metric_table import TITLES

    return f"{row.benchmark} {TITLES[row.metric]} {row.value:g} ± {row.tolerance:g}"


def zoo_row(word: str) -> "ZooModel | None":
    """The row of the model zoo that a word means; a path that exists comes before a name."""
    from hmrb.models.zoo import find_row

    return None if Path(word).exists() else find_row(word)


def is_model(word: str) -> bool:
    """Whether a word is the name of a model: the package's own, or one of the zoo."""
    from hmrb.models.demo import DEMO_NAME

    return word == DEMO_NAME or zoo_row(word) is not None


def refuse_less(file: Path, checkpoint: Path, row: "Benchmark", options: "EvalOptions") -> None:
    """Raises RequestError if a record of this checkpoint would be lost to one with fewer metrics or other settings."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.metric_table import TITLES
    from hmrb.evaluation.records import read_record
    from hmrb.formats.files import short_sha

    if not file.is_file():
        return
    try:
        old = read_record(file)
    except RequestError:  # none that is worth keeping
        return
    better = [f"has {TITLES[name]}" for name in old.metrics if name not in row.metrics]
    better += ["is in float32"] * (old.machine.dtype == "float32" and options.precision != "fp32")
    better += ["is of the dataset's crops"] * (old.conditions.crop == "dataset" and options.crop != "dataset")
    if better and old.source.checkpoint.get("sha") == short_sha(checkpoint):
        raise RequestError(
            f"{file} is of the same checkpoint, {' and '.join(better)}, and would be replaced; -o DIR writes elsewhere"
        )


def check_request(
    asked_for: Sequence[str], from_predictions: Path | None, names: Sequence[str], out: Path | None
) -> None:
    """Raises RequestError for checkpoints and files that are not there, and for options that contradict each other."""
    from hmrb.errors import RequestError
    from hmrb.models.words import check_word

    if from_predictions is None:
        if out and len(asked_for) > 1:
            raise RequestError("--out takes one checkpoint; the results of several go to the folder of each")
        for word in asked_for:
            check_word(word)
        return
    if asked_for:
        raise RequestError(f"--from-predictions scores one file and no checkpoint; leave out {asked_for[0]}")
    if not names:
        raise RequestError("which benchmarks? hmrb eval --from-predictions FILE --bench NAME")
    if not from_predictions.is_file():
        what = "a folder, and one file is meant" if from_predictions.is_dir() else "no such file"
        raise RequestError(f"{from_predictions}: predictions: {what}")


def render_missing(rows: "Sequence[Benchmark]", store: "Store", quiet: bool) -> None:
    """Renders synthetic splits that the benchmarks need and the store lacks; prints to stderr if quiet."""
    import sys
    from contextlib import nullcontext, redirect_stdout

    from hmrb.data.sources import CONVERTERS

    rendered = {name for name, source in CONVERTERS.items() if source.makes_itself}
    for dataset, split in dict.fromkeys((row.dataset, row.split) for row in rows if row.dataset in rendered):
        if not store.shard(dataset, split).exists():
            with redirect_stdout(sys.stderr) if quiet else nullcontext():
                render_split(dataset, split, store)


def render_split(dataset: str, split: str, store: "Store") -> None:
    """Renders a split of a synthetic dataset that the store lacks."""
    import typer

    from hmrb.cli.convert_data import make_dataset

    typer.echo(f"{dataset} {split} is missing: creating it (hmrb convert-data {dataset} --split {split})")
    make_dataset(dataset, store, split)


def _benchmark(name: str, store: "Store", protocol: str) -> "Benchmark":
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import RULE_ALIASES, find_benchmark, with_rules
    from hmrb.lookup import UnknownName

    try:
        return find_benchmark(name)
    except UnknownName:
        info = _shard(name, store)
        if info is None:
            raise
    if not protocol:
        raise RequestError(
            f"{name}: a shard without a protocol; choose one: --protocol {', '.join(RULE_ALIASES)}, or the rules of a"
            " benchmark (docs/benchmarks.md)"
        )
    return with_rules(info.dataset, info.split, _rules(info, protocol))


def _shard(name: str, store: "Store") -> "ShardInfo | None":
    """The shard DATASET_SPLIT in the store, or the test split of DATASET, else its val. Raises RequestError."""
    from hmrb.data.shard import Shard
    from hmrb.errors import RequestError
    from hmrb.formats.files import files_in

    key = name.replace("-", "_")
    if "/" in key:
        return None
    if (path := store.root / "shards" / f"{key}.h5").is_file():
        return Shard(path).info
    found = [Shard(path).info for path in files_in(store.root / "shards", f"{key}_*.h5") if path.is_file()]
    splits = {info.split: info for info in found if info.dataset == key and "pictures-" not in info.split}
    for split in PREFERRED:
        if split in splits:
            return splits[split]
    if splits:
        names = ", ".join(f"{key}_{split}" for split in splits)
        raise RequestError(f"{name}: has no split test or val; name the one to score: {names}")
    return None


def _rules(info: "ShardInfo", protocol: str) -> str:
    """The name of the rules for a shard. Raises RequestError."""
    from hmrb.errors import RequestError
    from hmrb.formats.files import reason
    from hmrb.formats.yaml_text import MAX_BYTES, YamlProblem, load_yaml

    if Path(protocol).suffix not in (".yaml", ".yml"):
        return protocol
    try:
        with open(protocol, "rb") as file:
            table = load_yaml(file.read(MAX_BYTES + 1))
    except OSError as error:
        raise RequestError(f"--protocol {protocol}: {reason(error)}") from None
    except YamlProblem as problem:
        raise RequestError(f"--protocol {protocol}: {problem}") from None
    names = (f"{info.dataset}_{info.split}", info.dataset)
    rules = next((table[key] for key in names if key in table), None) if isinstance(table, dict) else None
    if not isinstance(rules, str):
        raise RequestError(
            f"--protocol {protocol}: names no protocol of {' or '.join(names)}; write a line {info.dataset}: pck2d"
        )
    return rules
