"""Tables made from result records and nothing else: runs of one experiment with several seeds make one row."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Float, Int

from hmrb.errors import RequestError
from hmrb.lookup import find
from hmrb.metrics import TITLES, UNITS, interval95


@dataclass(frozen=True, slots=True)
class Result:
    """One checkpoint on one benchmark: its record, each person's error in mm by metric, and its sequence if it has one.

    Intervals are over sequences where there are any: frames of one are alike.
    """

    record: dict[str, Any]
    errors: dict[str, Float[np.ndarray, " N"]]
    sequences: Int[np.ndarray, " N"] | None = None

    @property
    def experiment(self) -> str:
        """The spec's name."""
        return str(self.record["experiment"])

    @property
    def protocol(self) -> tuple[str, str, str]:
        """What has to be equal for two numbers to be compared: protocol, people and body."""
        return self.record["protocol"], self.record["shard"]["sha"], self.record["body_sha"]


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment in a table. Millimetres; `spread` is the standard deviation over seeds, None for a single one.

    Intervals are 95 % bootstrap intervals over people, whose errors are averaged over seeds first; `difference` is to
    the table's base, its interval paired by person.
    """

    experiment: str
    seeds: tuple[int, ...]
    value: float
    ci95: tuple[float, float]
    spread: float | None
    difference: float | None
    difference_ci95: tuple[float, float] | None
    published: float | None
    doubt: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """Rows whose numbers may stand side by side: one metric of one protocol on the same people."""

    protocol: str
    shard_sha: str
    body_sha: str
    num_people: int
    metric: str
    base: str
    rows: tuple[Row, ...]


def read_results(paths: Sequence[Path]) -> list[Result]:
    """The records at `paths`: .json files, or folders of runs. Raises RequestError with what is no record."""
    files = []
    for path in paths:
        found = sorted(path.glob("eval/*.json")) or sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise RequestError(f"{path}: no result in it; hmrb eval writes them")
        files += found
    return [_read(file) for file in files]


def compare(results: Sequence[Result], metric: str, base: str | None) -> list[Comparison]:
    """A table for each protocol among the results; numbers of different protocols never share one."""
    find("metric", metric, TITLES)
    names = {result.experiment for result in results}
    if base is not None:
        find("experiment", base, {name.replace("-", "_"): name for name in names})
    ordered = sorted(results, key=lambda result: result.protocol)
    return [_comparison(list(group), metric, base or "") for _, group in groupby(ordered, lambda r: r.protocol)]


@dataclass(frozen=True, slots=True)
class Difference:
    """Two checkpoints on the same people by one metric: means, the second less the first, its 95 % interval.

    The interval is a bootstrap of each person's difference; `share_lower` of the people have a lower error with the
    second.
    """

    metric: str
    first: float
    second: float
    difference: float
    ci95: tuple[float, float]
    share_lower: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves out 0."""
        return not self.ci95[0] <= 0 <= self.ci95[1]


def paired(first: Result, second: Result) -> list[Difference]:
    """What two results differ by, metric by metric. Raises RequestError with all in which their protocols differ."""
    names = ("protocol", "shard", "body")
    odd = [
        f"{name}: {one}, and {two}"
        for name, one, two in zip(names, first.protocol, second.protocol, strict=True)
        if one != two
    ]
    if odd:
        raise RequestError(f"these numbers are not of the same thing and can't be compared: {'; '.join(odd)}")
    out = []
    for metric in first.errors:
        if metric in second.errors:
            one, two = first.errors[metric], second.errors[metric]
            away, ci95 = two - one, interval95(two - one, first.sequences)
            means, lower = (float(one.mean()), float(two.mean())), float((two < one).mean())
            out.append(Difference(metric, *means, float(away.mean()), ci95, lower))
    return out


def _comparison(results: list[Result], metric: str, base: str) -> Comparison:
    runs: dict[str, list[Result]] = {}
    for result in results:
        if metric not in result.errors:
            raise RequestError(f"{result.experiment}: its record has no {metric}, only {', '.join(result.errors)}")
        runs.setdefault(result.experiment, []).append(result)
    for name, group in runs.items():
        recipes = {json.dumps({**r.record["spec"], "seed": 0}, sort_keys=True) for r in group}
        if len(recipes) > 1:
            raise RequestError(f"results of '{name}' come from {len(recipes)} different specs of that name")
        seeds = [r.record["spec"]["seed"] for r in group]
        if len(set(seeds)) < len(seeds):
            raise RequestError(f"'{name}' has two results with seed {max(seeds, key=seeds.count)}; give each once")
    people = {name: np.mean([r.errors[metric] for r in group], 0) for name, group in runs.items()}
    rows = [_row(name, runs[name], people[name], people.get(base), metric) for name in runs]
    protocol, shard_sha, body_sha = results[0].protocol
    count = len(next(iter(people.values())))
    return Comparison(protocol, shard_sha, body_sha, count, metric, base, tuple(rows))


def _row(name: str, group: list[Result], errors: np.ndarray, base: np.ndarray | None, metric: str) -> Row:
    seeds = [float(r.errors[metric].mean()) for r in group]
    record = group[0].record
    published = [
        p for p in record["spec"]["published"] if p["benchmark"] == record["benchmark"] and p["metric"] == metric
    ]
    away = None if base is None or base is errors else errors - base
    return Row(
        experiment=name,
        seeds=tuple(sorted(r.record["spec"]["seed"] for r in group)),
        value=float(errors.mean()),
        ci95=interval95(errors, group[0].sequences),
        spread=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        difference=None if away is None else float(away.mean()),
        difference_ci95=None if away is None else interval95(away, group[0].sequences),
        published=published[0]["value"] if published else None,
        doubt=published[0]["doubt"] if published else "",
    )


def _read(path: Path) -> Result:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        samples = path.with_name(f"{path.stem}_samples.h5")
        with h5py.File(samples, "r") as file:
            errors = {name: file["error_mm"][name][:] for name in file["error_mm"]}
            sequences = file["sequence"][:] if "sequence" in file else None
        assert {"experiment", "protocol", "shard", "body_sha", "spec"} <= record.keys()
    except (OSError, ValueError, KeyError, TypeError, AssertionError):
        raise RequestError(f"{path}: no result of hmrb, or its _samples.h5 is not beside it") from None
    return Result(record, errors, sequences)


def cells(comparison: Comparison) -> list[list[str]]:
    """The table as text: a heading line, then a line each row; columns that are empty everywhere are left out."""
    title = f"{TITLES[comparison.metric]} {UNITS[comparison.metric]}"
    head = ["experiment", "seeds", title, "95 %", "seeds ±", "difference", "95 %", "published"]
    lines = [head, *(_cells(row) for row in comparison.rows)]
    keep = [column for column in range(len(head)) if any(line[column] for line in lines[1:])]
    return [[line[column] for column in keep] for line in lines]


def _cells(row: Row) -> list[str]:
    def interval(ends: tuple[float, float] | None, sign: str = "") -> str:
        return f"{ends[0]:{sign}.1f}..{ends[1]:{sign}.1f}" if ends else ""

    return [
        row.experiment,
        str(len(row.seeds)),
        f"{row.value:.1f}",
        interval(row.ci95),
        f"{row.spread:.1f}" if row.spread is not None else "",
        f"{row.difference:+.1f}" if row.difference is not None else "",
        interval(row.difference_ci95, "+"),
        f"{row.published:.2f}{' ?' if row.doubt else ''}" if row.published is not None else "",
    ]


def as_markdown(comparison: Comparison) -> str:
    """A table for a page, under the protocol that its numbers are of."""
    head, *lines = cells(comparison)
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *lines]
    return about(comparison) + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in rows) + "\n"


def as_csv(comparison: Comparison) -> str:
    """Full precision, a column a fact."""
    out = io.StringIO()
    writer = csv.writer(out)
    facts = {k: v for k, v in asdict(comparison).items() if k != "rows"}
    rows = [asdict(row) | facts for row in comparison.rows]
    writer.writerow(rows[0])
    writer.writerows(row.values() for row in rows)
    return out.getvalue()


def about(comparison: Comparison) -> str:
    """What the numbers of a table are of."""
    base = f"; differences to {comparison.base}" if comparison.base else ""
    return f"{comparison.protocol}, {comparison.num_people} people of shard {comparison.shard_sha}{base}"
