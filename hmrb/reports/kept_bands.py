"""What reruns of the shipped recipes give: curves and end values of kept runs, and whether a new run is among them."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import HEADINGS
from hmrb.evaluation.records import Result, read_results
from hmrb.reports.band import t_quantile
from hmrb.reports.charts import read_log
from hmrb.reports.tables import recipe_of

FILE = "bands.json"  # beside the shipped specs
PARTS = 10  # of a curve, at most; each is the mean loss of its steps
CHANCE = 0.05  # that a right run has any value outside
METRICS = ("pa_mpjpe", "mpjpe", "pve")


@dataclass(frozen=True, slots=True)
class Kept:
    """The runs of one recipe, one value per seed everywhere.

    `curve` has the mean loss up to each step, `ends` the means of metrics by `benchmark/metric`; `scored` is, by
    benchmark, the protocol and the hash of the people. What seeds do is pooled over the recipes of a `group`.
    """

    name: str
    group: str
    seeds: tuple[int, ...]
    curve: Mapping[str, tuple[float, ...]]
    ends: Mapping[str, tuple[float, ...]]
    scored: Mapping[str, tuple[str, str]]


@dataclass(frozen=True, slots=True)
class BandValue:
    """A value of a run and the band it should be in."""

    what: str
    value: float
    low: float
    high: float

    @property
    def is_within(self) -> bool:
        """Whether the value is in its band."""
        return self.low <= self.value <= self.high


def key_of(recipe: str) -> str:
    """Under what a recipe's runs are kept: a hash of the text of `recipe_of`."""
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def kept_runs(runs: Sequence[Path], group: str) -> dict[str, Kept]:
    """The finished runs of one or more recipes, by recipe. Raises RequestError for a run without results or log."""
    found: dict[str, list[tuple[list[Result], dict[str, float]]]] = {}
    for run in runs:
        results = read_results([run])
        found.setdefault(key_of(recipe_of(results[0])), []).append((results, _curve(run)))
    return {key: _kept(same, group) for key, same in found.items()}


def write_kept(kept: Mapping[str, Kept], path: Path) -> None:
    """Writes a file of kept runs, one recipe a line."""
    ordered = sorted(kept.items(), key=lambda item: (item[1].group, item[1].name))
    rows = (f"{json.dumps(key)}: {json.dumps(asdict(row), separators=(',', ':'))}" for key, row in ordered)
    path.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


def read_kept(path: Path) -> dict[str, Kept]:
    """A file of kept runs."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    return {
        key: Kept(
            row["name"],
            row["group"],
            tuple(row["seeds"]),
            {step: tuple(values) for step, values in row["curve"].items()},
            {end: tuple(values) for end, values in row["ends"].items()},
            {bench: (protocol, people) for bench, (protocol, people) in row["scored"].items()},
        )
        for key, row in rows.items()
    }


def check_run(run: Path, kept: Mapping[str, Kept]) -> tuple[Kept, list[BandValue], list[str]]:
    """Compares a run with the kept ones of its recipe; returns these, its values and what the run lacks of theirs.

    Seeds may differ. Raises RequestError if no runs of its recipe are kept, or its results are of another protocol or
    other people.
    """
    results = read_results([run])
    same = kept.get(key_of(recipe_of(results[0])))
    if same is None:
        groups = ", ".join(sorted({row.group for row in kept.values()}))
        raise RequestError(
            f"{run}: no runs of its recipe ({results[0].experiment}) are kept. Kept are runs of {groups}. Compare it"
            " with runs of your own: hmrb compare ONE TWO --band A --band B"
        )
    for result in results:
        bench, now = result.record.benchmark, _scored(result)
        if bench in same.scored and same.scored[bench] != now:
            raise RequestError(
                f"{run}: {bench} is {now[0]} of people {now[1]}, but the kept runs are {same.scored[bench][0]} of"
                f" {same.scored[bench][1]}; a CPU without AVX2 renders people who differ by rounding"
            )
    curve = _curve(run) if (run / "log.jsonl").exists() else {}
    if unlike := [step for step in curve if step not in same.curve]:
        raise RequestError(f"{run}: its log has step {unlike[0]}, the kept runs do not; finish it with --resume")
    ends = {key: value for result in results for key, value in _ends(result).items() if key in same.ends}
    lacks = ["the loss (no log.jsonl)"] if not curve else []
    return same, checks_of(curve, ends, same, kept), lacks + [_title(key) for key in same.ends if key not in ends]


def checks_of(
    curve: Mapping[str, float], ends: Mapping[str, float], same: Kept, kept: Mapping[str, Kept]
) -> list[BandValue]:
    """Each value of a run with its band.

    A band is Student's interval for one more run, with the standard deviation between seeds pooled over the recipes of
    the group (of losses: relative to their mean); all bands of a run together contain a right one with 95 %.
    """
    group = [row for row in kept.values() if row.group == same.group]
    share = 1 - CHANCE / 2 / max(1, len(curve) + len(ends))
    checks, before = [], 0
    for step, value in curve.items():
        relative = _pooled(np.array(row.curve[step]) / np.mean(row.curve[step]) for row in group if step in row.curve)
        middle = float(np.mean(same.curve[step]))
        half = middle * _half(*relative, len(same.seeds), share)
        checks.append(BandValue(f"loss, steps {before + 1} to {step}", value, middle - half, middle + half))
        before = int(step)
    for key, value in ends.items():
        spread = _pooled(np.array(row.ends[key]) for row in group if key in row.ends)
        middle, half = float(np.mean(same.ends[key])), _half(*spread, len(same.seeds), share)
        checks.append(BandValue(_title(key), value, middle - half, middle + half))
    return checks


def _pooled(rows: Iterable[np.ndarray]) -> tuple[float, int]:
    """Standard deviation within rows, and its degrees of freedom."""
    squares, degrees = 0.0, 0
    for row in rows:
        squares += float(((row - row.mean()) ** 2).sum())
        degrees += len(row) - 1
    return math.sqrt(squares / degrees), degrees


def _half(spread: float, degrees: int, runs: int, share: float) -> float:
    """Half the width of the interval for one more run beside `runs`."""
    return t_quantile(share, degrees) * spread * math.sqrt(1 + 1 / runs)


def _title(end: str) -> str:
    bench, metric = end.split("/")
    return f"{bench} {HEADINGS[metric]}"


def _kept(same: Sequence[tuple[list[Result], dict[str, float]]], group: str) -> Kept:
    same = sorted(same, key=lambda run: run[0][0].seed)
    curves, ends = (
        [curve for _, curve in same],
        [{k: v for one in run for k, v in _ends(one).items()} for run, _ in same],
    )
    first = same[0][0]
    return Kept(
        name=first[0].experiment,
        group=group,
        seeds=tuple(run[0].seed for run, _ in same),
        curve={step: tuple(_short(curve[step]) for curve in curves) for step in curves[0]},
        ends={key: tuple(_short(one[key]) for one in ends) for key in ends[0]},
        scored={result.record.benchmark: _scored(result) for result in first},
    )


def _ends(result: Result) -> dict[str, float]:
    bench = result.record.benchmark
    return {
        f"{bench}/{name}": float(result.of(name)[0].mean(dtype=np.float64)) for name in METRICS if name in result.errors
    }


def _curve(run: Path) -> dict[str, float]:
    """The mean loss of each part of a run, by its last step. Raises RequestError if the log has no losses."""
    losses = [(line["step"], line["total"]) for line in read_log(run / "log.jsonl") if "total" in line]
    if not losses:
        raise RequestError(f"{run}: log.jsonl has no losses; the folder is not of a finished run")
    steps, values = np.array(losses, float).T
    edges = np.linspace(0, steps[-1], min(PARTS, len(steps)) + 1)
    return {str(round(high)): float(values[(steps > low) & (steps <= high)].mean()) for low, high in pairwise(edges)}


def _scored(result: Result) -> tuple[str, str]:
    return result.record.protocol, str(result.record.conditions.shard["sha"])


def _short(value: float) -> float:
    return float(f"{value:.5g}")
