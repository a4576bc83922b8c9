"""Does the study in small order things as the study did? One row per question that both ask, and benchmark."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from hmrb.evaluation.agreement import kendall_tau_b
from hmrb.evaluation.intervals import SeedSpread, resampled_recipes, spread_of_differences
from hmrb.evaluation.metric_table import TITLES
from hmrb.evaluation.records import Result
from hmrb.reports.answers import TableRuns
from hmrb.reports.questions import QUESTIONS, prefix_of, question_of
from hmrb.reports.tables import markdown_table
from hmrb.spec import Published

FEWEST = 2
THEIRS = "3dpw"  # the benchmark of the published tables


@dataclass(frozen=True, slots=True)
class Agreement:
    """Kendall's tau-b of a question's rows on one benchmark with the published numbers, and its 95 % interval.

    The interval is over people and seeds of the study in small; the published numbers have one run each, and are taken
    as they are. Two items are in the same order, +1, or in the other, -1. `items` are compared, `doubtful` have a
    published number that is in doubt and are left out. `tau` is None with fewer than FEWEST items.
    """

    question: str
    benchmark: str
    metric: str
    items: tuple[str, ...]
    doubtful: tuple[str, ...]
    tau: float | None
    ci95: tuple[float, float] | None


def agreements(results: Sequence[Result], metric: str, published: Mapping[str, Sequence[Published]]) -> list[Agreement]:
    """The rows of all questions with published numbers; `published` has those of the study's specs, by name."""
    out = []
    for question, row in QUESTIONS.items():
        own = [r for r in results if row.published and question_of(r.experiment) == question and metric in r.errors]
        for benchmark in dict.fromkeys(result.record.benchmark for result in own):
            there = [result for result in own if result.record.benchmark == benchmark]
            known = {
                f"{prefix_of(question)}{item}": found
                for item, name in row.published.items()
                if (found := _number(published[name], metric))
            }
            out.append(_agreement(question, benchmark, metric, TableRuns.of(there, metric), known))
    return out


def _number(rows: Sequence[Published], metric: str) -> Published | None:
    return next((row for row in rows if (row.benchmark, row.metric) == (THEIRS, metric)), None)


def _agreement(
    question: str, benchmark: str, metric: str, runs: TableRuns, known: Mapping[str, Published]
) -> Agreement:
    there = [name for name in runs.errors if name in known]
    sure = [name for name in there if not known[name].doubt]
    items, doubtful = (
        tuple(name.removeprefix(prefix_of(question)) for name in names)
        for names in (sure, [name for name in there if name not in sure])
    )
    if len(sure) < FEWEST:
        return Agreement(question, benchmark, metric, items, doubtful, None, None)
    errors, theirs = [runs.errors[name] for name in sure], np.array([known[name].value for name in sure])
    spread = SeedSpread(0.0, 0)
    if len(runs.shared) > 1:
        of_two = spread_of_differences(np.stack([runs.paired(name).mean(1) for name in runs.errors]))
        spread = SeedSpread(of_two.std / math.sqrt(2), of_two.degrees)
    taus = [kendall_tau_b(means, theirs) for means in resampled_recipes(errors, spread)]
    tau = kendall_tau_b(np.array([one.mean() for one in errors]), theirs)
    low, high = np.nanpercentile(taus, [2.5, 97.5])
    return Agreement(question, benchmark, metric, items, doubtful, tau, (float(low), float(high)))


def as_markdown(rows: Sequence[Agreement]) -> str:
    """The table; what cannot be compared is in it with the reason, in one row for all benchmarks."""
    lines = [["question", "benchmark", "metric", "in both", "doubtful, left out", "tau-b", "95 %"]]
    merged = {(row.question, row.metric, "all" if row.tau is None else row.benchmark): row for row in rows}
    for (_, _, benchmark), row in merged.items():
        few = f"fewer than {FEWEST}" if row.tau is None else f"{row.tau:+.2f}"
        ends = f"[{row.ci95[0]:+.2f}, {row.ci95[1]:+.2f}]" if row.ci95 else ""
        items = ", ".join(row.items) or "none"
        lines.append([row.question, benchmark, TITLES[row.metric], items, str(len(row.doubtful)), few, ends])
    return markdown_table(lines)
