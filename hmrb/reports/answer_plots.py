"""Figures of the study in small: a question's bars, what hiding costs, errors over the share of the people."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.errors import RequestError
from hmrb.evaluation.intervals import Difference, between_people, over_seeds_and_people, spread_of_runs
from hmrb.evaluation.metric_table import HEADINGS, TITLES
from hmrb.evaluation.records import Result
from hmrb.reports.answers import TableRuns, answers
from hmrb.reports.plots import COLOURS, MARKS, as_label, new_figure, put_legend
from hmrb.reports.questions import IS_OPEN, QUESTIONS, SAME_PEOPLE, prefix_of, question_of

Found = tuple[str, list[tuple[str, Difference]]]  # a benchmark, and a number with interval for each experiment


def draw_answers(results: Sequence[Result], metric: str, width_mm: float) -> Any:
    """Bars of one question, a panel per benchmark: differences to the base, over people and seeds, with intervals.

    Rows that differ for sure are dark. Raises RequestError for several questions, or where a table has no base.
    """
    only_question(results)
    tables = [table for table in answers(results, metric) if " less " not in table.protocol]
    if not all(table.base for table in tables):
        raise RequestError("answers draws differences to the question's base, of which there is no result")
    prefix, bases = tables[0].prefix, {table.base for table in tables}
    names = list(dict.fromkeys(row.experiment for table in tables for row in table.rows if row.experiment not in bases))
    figure, axes = new_figure(width_mm, (28 + 5 * len(names)) / width_mm, len(tables))
    for panel, table in zip(np.atleast_1d(axes), tables, strict=True):
        (base,) = (row for row in table.rows if row.experiment == table.base)
        for row in table.rows:
            if row.difference is None or row.difference_ci95 is None:
                continue
            low, high = row.difference_ci95
            colour = COLOURS[0] if row.answer not in ("", IS_OPEN) else "0.7"
            away = [[row.difference - low], [high - row.difference]]
            place = names.index(row.experiment)
            panel.barh(place, row.difference, xerr=away, color=colour, ecolor="black", capsize=1.5, height=0.7)
        panel.axvline(0, color="black", linewidth=0.6)
        title = table.protocol.partition("/")[0].removesuffix("-test").replace("-", "_")
        panel.set_title(as_label(title.removeprefix("synthetic_")), fontsize=8)
        panel.set_xlabel(as_label(f"{base.experiment.removeprefix(prefix)}: {base.value:.1f}"))
    first = np.atleast_1d(axes)[0]
    first.set_yticks(range(len(names)), [as_label(name.removeprefix(prefix)) for name in names])
    first.invert_yaxis()
    figure.supxlabel(as_label(f"{HEADINGS[metric]}: difference to {tables[0].base.removeprefix(prefix)}"), fontsize=8)
    return figure


def draw_hidden(results: Sequence[Result], metric: str, width_mm: float) -> Any:
    """What hiding costs, for each experiment of a question: its error on other people less that on the clean ones.

    People who are the same in both are paired. Raises RequestError if no clean benchmark has its hidden twin.
    """
    question = only_question(results)
    prefix = prefix_of(question)
    there = {result.record.benchmark for result in results if metric in result.errors}
    clean = next((easy for hard, easy in SAME_PEOPLE.items() if {hard, easy} <= there), None)
    if clean is None:
        pairs = ", ".join(f"{easy} and {hard}" for hard, easy in SAME_PEOPLE.items())
        raise RequestError(f"hidden needs results of {pairs}; these are of {', '.join(sorted(there))}")
    easy = TableRuns.of(_of(results, clean, metric), metric)
    found = [
        (name, _gaps(TableRuns.of(_of(results, name, metric), metric), easy, SAME_PEOPLE.get(name) == clean))
        for name in sorted(there - {clean}, key=lambda name: (name not in SAME_PEOPLE, name))
    ]
    base = f"{prefix}{QUESTIONS[question].base}"
    names = sorted(dict.fromkeys(name for _, gaps in found for name, _ in gaps), key=lambda name: (name != base, name))
    figure, axes = new_figure(width_mm, (30 + 5 * len(names)) / width_mm)
    for i, (bench, gaps) in enumerate(found):
        places = [names.index(name) + 0.2 * (i - (len(found) - 1) / 2) for name, _ in gaps]
        told = bench + (", the same people" if bench in SAME_PEOPLE else "")
        values, away = _with_ends([gap for _, gap in gaps])
        axes.errorbar(values, places, xerr=away, fmt=MARKS[i], color=COLOURS[i], capsize=1.5, label=as_label(told))
    axes.set_yticks(range(len(names)), [as_label(name.removeprefix(prefix)) for name in names])
    axes.invert_yaxis()
    axes.axvline(0, color="black", linewidth=0.6)
    axes.set_xlabel(f"{TITLES[metric]} less that on {clean}, mm" if "mm" in HEADINGS[metric] else HEADINGS[metric])
    put_legend(figure, axes)
    return figure


def draw_share(results: Sequence[Result], metric: str, width_mm: float) -> Any:
    """An error over the share of the people that runs knew (`data.fraction`), with intervals, a line per benchmark."""
    figure, axes = new_figure(width_mm, 0.62)
    shares = {result.experiment: share_known(result) for result in results}
    benches = dict.fromkeys(result.record.benchmark for result in results if metric in result.errors)
    if not benches or len(set(shares.values())) < 2:
        raise RequestError(
            f"share needs results of two or more shares of the people (data.fraction), with {metric}; these are of"
            f" {', '.join(f'{share:.0%}' for share in sorted(set(shares.values())))}"
        )
    for i, bench in enumerate(benches):
        runs = TableRuns.of(_of(results, bench, metric), metric)
        spread = spread_of_runs([errors.mean(1) for errors in runs.errors.values()])
        names = sorted(runs.errors, key=shares.__getitem__)
        values, away = _with_ends([over_seeds_and_people(runs.errors[name], spread, runs.groups) for name in names])
        at = [100 * shares[name] for name in names]
        axes.errorbar(at, values, yerr=away, fmt=f"{MARKS[i]}-", color=COLOURS[i], capsize=2, label=as_label(bench))
    axes.set_xlabel("% of the people")
    axes.set_xticks(sorted({100 * share for share in shares.values()}))
    axes.set_ylabel(HEADINGS[metric])
    put_legend(figure, axes)
    return figure


def share_known(result: Result) -> float:
    """The share of the mix's people that a run was told of."""
    data = result.record.source.spec.get("data", {})
    fraction, mix = data.get("fraction", {}), data.get("mix", {})
    return float(sum(share * fraction.get(name, 1.0) for name, share in mix.items())) if mix else 1.0


def only_question(results: Sequence[Result]) -> str:
    """The question that all results belong to. Raises RequestError."""
    found = {question_of(result.experiment) for result in results}
    if len(found) != 1 or "" in found:
        named = ", ".join(sorted(name or "no question" for name in found))
        raise RequestError(f"this figure has one question of small_study; the results are of {named}")
    return found.pop()


def _of(results: Sequence[Result], benchmark: str, metric: str) -> list[Result]:
    return [result for result in results if result.record.benchmark == benchmark and metric in result.errors]


def _gaps(hard: TableRuns, easy: TableRuns, is_paired: bool) -> list[tuple[str, Difference]]:
    """For each experiment with the same seeds in both, the errors of `hard` less those of `easy`."""
    names = [name for name in easy.errors if easy.seeds[name] == hard.seeds.get(name)]
    spread = spread_of_runs([hard.errors[name].mean(1) - easy.errors[name].mean(1) for name in names])
    if is_paired:
        return [(name, over_seeds_and_people(hard.errors[name] - easy.errors[name], spread)) for name in names]
    return [(name, between_people(hard.errors[name], easy.errors[name], spread)) for name in names]


def _with_ends(found: Sequence[Difference]) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, "2 K"]]:
    """Values, and how far the ends of their intervals are away."""
    values = np.array([one.mean for one in found])
    return values, np.abs(np.array([one.ci95 for one in found]).T - values)
