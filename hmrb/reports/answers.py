"""Answers of the study in small: one table per question and benchmark, over seeds and people together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from hmrb.errors import RequestError
from hmrb.evaluation.intervals import (
    Difference,
    SeedSpread,
    holm,
    over_seeds_and_people,
    spread_of_differences,
    spread_of_runs,
)
from hmrb.evaluation.metric_table import BETTER, UNITS
from hmrb.evaluation.records import Result
from hmrb.lookup import find
from hmrb.reports.questions import (
    IS_BETTER,
    IS_OPEN,
    IS_WORSE,
    QUESTIONS,
    SURE,
    hidden_less_clean,
    prefix_of,
    question_of,
    title_of,
)
from hmrb.reports.tables import Comparison, Row, runs_of

Errors = Float[np.ndarray, "S N"]


def answers(results: Sequence[Result], metric: str, base: str | None = None) -> list[Comparison]:
    """The tables of the questions that the results belong to, and of what hiding costs where they tell.

    `base` replaces the row that a question's others are compared with. Raises RequestError if no table has the metric.
    """
    metric = find("metric", metric, {name: name for name in UNITS})
    if base is not None:
        base = find("experiment", base, {result.experiment.replace("-", "_"): result.experiment for result in results})
    tables = []
    for question in QUESTIONS:
        own = [result for result in results if question_of(result.experiment) == question]
        groups: dict[tuple[str, ...], list[Result]] = {}
        for result in [*own, *hidden_less_clean(own)]:
            groups.setdefault(tuple(result.record.comparable.values()), []).append(result)
        for group in groups.values():
            if have := [result for result in group if metric in result.errors]:
                tables.append(_table(question, have, metric, base or ""))
    if results and not tables:
        names = sorted({name for result in results for name in result.errors})
        raise RequestError(f"no record of a question has {metric}; they have {', '.join(names)}")
    return tables


@dataclass(frozen=True, slots=True)
class TableRuns:
    """The errors of a table's runs on the people that all of them count: for each experiment, its seeds and rows."""

    seeds: Mapping[str, tuple[int, ...]]
    errors: Mapping[str, Errors]
    groups: Int[np.ndarray, " N"] | None
    left_out: int

    @classmethod
    def of(cls, results: Sequence[Result], metric: str) -> "TableRuns":
        """Raises RequestError if the results cover different people, or are of several recipes of one name."""
        first, runs = results[0], runs_of(results)
        if any(not np.array_equal(first.rows, result.rows) for result in results):
            raise RequestError("these results cover different people of the shard and can't be compared")
        who = np.logical_and.reduce([result.counted[metric] for result in results])
        for group in runs.values():
            group.sort(key=lambda result: result.seed)
        return cls(
            {name: tuple(result.seed for result in group) for name, group in runs.items()},
            {name: np.stack([r.errors[metric][who].astype(np.float64) for r in group]) for name, group in runs.items()},
            None if first.sequences is None else first.sequences[who],
            int((~who).sum()),
        )

    @property
    def shared(self) -> tuple[int, ...]:
        """The seeds that every experiment has, by which differences are paired."""
        first, *rest = self.seeds.values()
        return tuple(seed for seed in first if all(seed in seeds for seeds in rest))

    def paired(self, name: str) -> Errors:
        """The errors of an experiment's shared seeds."""
        return self.errors[name][[self.seeds[name].index(seed) for seed in self.shared]]

    def spread(self) -> SeedSpread:
        """What seeds do to a run."""
        return spread_of_runs([errors.mean(1) for errors in self.errors.values()])

    def less(self, base: str) -> dict[str, Difference]:
        """The paired differences of all experiments but one to that one; p-values are not corrected yet."""
        if not self.shared or base not in self.errors:
            return {}
        spread = spread_of_differences(np.stack([self.paired(name).mean(1) for name in self.errors]))
        own = self.paired(base)
        return {
            name: over_seeds_and_people(self.paired(name) - own, spread, self.groups)
            for name in self.errors
            if name != base
        }


def _table(question: str, results: Sequence[Result], metric: str, asked: str) -> Comparison:
    runs, record, prefix = TableRuns.of(results, metric), results[0].record, prefix_of(question)
    base = asked if asked in runs.errors else f"{prefix}{QUESTIONS[question].base}"
    differences = runs.less(base)
    is_told = len(runs.shared) > 1  # one seed tells nothing about seeds
    p_values = dict(zip(differences, holm([one.p for one in differences.values()]), strict=True)) if is_told else {}
    spread = runs.spread()
    rows = [_row(runs, name, spread, differences.get(name), p_values.get(name), metric) for name in runs.errors]
    rows.sort(key=lambda row: row.experiment != base)
    return Comparison(
        study=title_of(question),
        protocol=record.protocol,
        shard_sha=str(record.conditions.shard["sha"]),
        body_sha=record.conditions.body_sha,
        num_people=len(next(iter(runs.errors.values()))[0]),
        metric=metric,
        unit=UNITS[metric],
        better=BETTER[metric],
        base=base if base in runs.errors else "",
        rows=tuple(rows),
        prefix=prefix,
        notes=_notes(runs, spread, len(differences), is_told),
    )


def _row(
    runs: TableRuns, name: str, spread: SeedSpread, less: Difference | None, p_value: float | None, metric: str
) -> Row:
    errors = runs.errors[name]
    found, means = over_seeds_and_people(errors, spread, runs.groups), errors.mean(1)
    answer = ""
    if less and p_value is not None:
        is_better = less.mean < 0 if BETTER[metric] == "lower" else less.mean > 0
        answer = (IS_BETTER if is_better else IS_WORSE) if p_value < SURE else IS_OPEN
    return Row(
        experiment=name,
        seeds=runs.seeds[name],
        value=found.mean,
        ci95=found.ci95,
        spread=float(means.std(ddof=1)) if len(means) > 1 else None,
        difference=less.mean if less else None,
        difference_ci95=less.ci95 if less else None,
        published=None,
        to_published=None,
        doubt="",
        p=p_value,
        answer=answer,
    )


def _notes(runs: TableRuns, spread: SeedSpread, comparisons: int, is_told: bool) -> str:
    """What the numbers of a table are over, and who and what is not in it."""
    told = ["intervals over seeds and people" if spread.degrees else "one seed: intervals over people alone"]
    if is_told and comparisons:
        told.append(f"p corrected for {comparisons} comparison{'s' if comparisons > 1 else ''} (Holm)")
    if any(set(seeds) != set(runs.shared) for seeds in runs.seeds.values()):
        alone = ", so over people alone" if len(runs.shared) == 1 else ""
        told.append(f"differences over the shared seeds: {', '.join(map(str, runs.shared)) or 'none'}{alone}")
    if runs.left_out:
        told.append(f"{runs.left_out} people left out, whom not every run counts")
    return "; ".join(told)
