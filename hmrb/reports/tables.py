"""Builds tables from result records alone; runs of one experiment with several seeds share one row."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from pydantic import ValidationError

from hmrb.errors import RequestError
from hmrb.evaluation.intervals import difference, interval95, interval_text
from hmrb.evaluation.metric_table import BETTER, HEADINGS, TITLES, UNITS
from hmrb.evaluation.records import Number, Record, Result
from hmrb.lookup import find
from hmrb.spec import Experiment

INTERVAL = "95 %"  # the title of a column with intervals
SLICED = ("mpjpe", "pa_mpjpe", "pve")  # metrics shown per slice and per person; the record has all of them


@dataclass(frozen=True, slots=True)
class Row:
    """One experiment in a table, in the metric's unit; `spread` is the standard deviation over seeds, None for one.

    Intervals are 95 % bootstrap intervals over people (over sequences if the shard has them); errors are averaged over
    seeds first. `difference` is to the table's base, with an interval paired by person. `to_published` is the value
    minus the published one; `doubt` says why that one may be wrong.
    """

    experiment: str
    seeds: tuple[int, ...]
    value: float
    ci95: tuple[float, float]
    spread: float | None
    difference: float | None
    difference_ci95: tuple[float, float] | None
    published: float | None
    to_published: float | None
    doubt: str
    p: float | None = None
    """Of no difference, corrected for the comparisons of the table. Questions of the study in small alone have it."""
    answer: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparable rows: one metric of one protocol on the same people.

    `study` is the published table that the rows are compared with, or the question of the study in small that they
    answer (answers.py), or "". `prefix` begins the names of all experiments and is not shown; `notes` end the heading.
    """

    study: str
    protocol: str
    shard_sha: str
    body_sha: str
    num_people: int
    metric: str
    unit: str
    better: str
    base: str
    rows: tuple[Row, ...]
    prefix: str = ""
    notes: str = ""


def compare(results: Sequence[Result], metric: str, base: str | None, by_study: bool = False) -> list[Comparison]:
    """One table per protocol; results of different protocols never share a table.

    With `by_study`, results with a published number get one table per published table.
    """
    known = {name: name for name in TITLES}
    metric = find("metric", metric, known)
    names = {result.experiment for result in results}
    if base is not None:
        base = find("experiment", base, {name.replace("-", "_"): name for name in names})

    def key(result: Result) -> tuple[str, ...]:
        return _study(result, metric) if by_study else "", *result.record.comparable.values()

    groups = [list(group) for _, group in groupby(sorted(results, key=key), key)]
    if all(metric not in result.errors for result in results):
        have = sorted({name for result in results for name in result.errors})
        raise RequestError(f"no record has {metric}; they have {', '.join(have)}")
    groups = [[result for result in group if metric in result.errors] for group in groups]
    return [_comparison(group, metric, base or "", by_study) for group in groups if group]


@dataclass(frozen=True, slots=True)
class Paired:
    """Two checkpoints compared by one metric on the same people: means, difference (second minus first), interval, p.

    The interval is a bootstrap over the differences of people (of sequences if the shard has them); `p` is its
    two-sided p-value for no difference. `share_better` is the share of people for whom the second is better, `people`
    their number.
    """

    metric: str
    first: float
    second: float
    difference: float
    ci95: tuple[float, float]
    p: float
    share_better: float
    people: int

    @property
    def is_sure(self) -> bool:
        """Whether the interval excludes 0; that of a single person tells nothing."""
        return self.people > 1 and not self.ci95[0] <= 0 <= self.ci95[1]


def paired(first: Result, second: Result) -> list[Paired]:
    """The differences of two results, metric by metric. Raises RequestError with every mismatch of their protocols."""
    one, two = first.record.comparable, second.record.comparable
    odd = [f"{name}: {one[name]} and {two[name]}" for name in one if one[name] != two[name]]
    if odd:
        raise RequestError(f"these results measure different things and can't be compared: {'; '.join(odd)}")
    if not np.array_equal(first.rows, second.rows):
        raise RequestError("these results cover different people of the shard and can't be compared")
    out = []
    for metric in first.errors:
        if metric in second.errors:
            (ours, groups), (theirs, _) = first.of(metric), second.of(metric)
            found = difference(theirs.astype(np.float64), ours.astype(np.float64), groups)
            is_better = theirs < ours if BETTER[metric] == "lower" else theirs > ours
            means = float(ours.mean(dtype=np.float64)), float(theirs.mean(dtype=np.float64))
            out.append(Paired(metric, *means, found.mean, found.ci95, found.p, float(is_better.mean()), len(ours)))
    return out


def _study(result: Result, metric: str) -> str:
    """The source of a result's published number, or ""."""
    rows = _published(result, metric)
    return rows[0]["source"] if rows else ""


def _published(result: Result, metric: str) -> list[dict[str, str]]:
    rows = result.record.source.spec["published"]
    return [row for row in rows if row["benchmark"] == result.record.benchmark and row["metric"] == metric]


def runs_of(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of each experiment. Raises RequestError if one has several recipes, or a seed twice."""
    runs: dict[str, list[Result]] = {}
    for result in results:
        runs.setdefault(result.experiment, []).append(result)
    for name, group in runs.items():
        recipes = {recipe_of(result) for result in group}
        if len(recipes) > 1:
            raise RequestError(f"the results of '{name}' come from {len(recipes)} different specs with that name")
        seeds = [result.seed for result in group]
        if len(set(seeds)) < len(seeds):
            raise RequestError(
                f"'{name}' has two results with seed {max(seeds, key=seeds.count)}; give each result once"
            )
    return runs


def _comparison(results: list[Result], metric: str, base: str, by_study: bool) -> Comparison:
    runs = runs_of(results)
    people = {name: np.mean([r.of(metric)[0].astype(np.float64) for r in group], 0) for name, group in runs.items()}
    record = results[0].record
    return Comparison(
        study=_study(results[0], metric) if by_study else "",
        protocol=record.protocol,
        shard_sha=str(record.conditions.shard["sha"]),
        body_sha=record.conditions.body_sha,
        num_people=len(next(iter(people.values()))),
        metric=metric,
        unit=UNITS[metric],
        better=BETTER[metric],
        base=base if base in runs else "",
        rows=tuple(_row(runs[name], people[name], people.get(base), metric) for name in runs),
    )


def recipe_of(result: Result) -> str:
    """What decides the numbers of a result. Seeds of one recipe may differ in workers, speed and checkpoints."""
    spec = result.record.source.spec
    try:
        recipe = Experiment.model_validate(spec).recipe()
    except ValidationError:  # a foreign system's predictions, which have no spec
        recipe = {key: value for key, value in spec.items() if key not in ("published", "expected")}
    return recipe_text(recipe)


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """A recipe without its seed as text; 32.0 is 32, as a default may be written in code."""
    return json.dumps(_whole({**recipe, "seed": 0}), sort_keys=True)


def _whole(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _whole(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _row(
    group: list[Result], errors: Float[np.ndarray, " N"], base: Float[np.ndarray, " N"] | None, metric: str
) -> Row:
    seeds = [float(result.of(metric)[0].mean(dtype=np.float64)) for result in group]
    published = _published(group[0], metric)
    known = float(published[0]["value"]) if published else None
    away = None if base is None or base is errors else errors - base
    groups: Int[np.ndarray, " N"] | None = group[0].of(metric)[1]
    return Row(
        experiment=group[0].experiment,
        seeds=tuple(sorted(result.seed for result in group)),
        value=float(errors.mean()),
        ci95=interval95(errors, groups),
        spread=float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        difference=None if away is None else float(away.mean()),
        difference_ci95=None if away is None else interval95(away, groups),
        published=known,
        to_published=None if known is None else float(errors.mean()) - known,
        doubt=published[0]["doubt"] if published else "",
    )


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column of a table: its title, and each row's text and value to sort by ("" and None: an empty cell)."""

    title: str
    texts: tuple[str, ...]
    values: tuple[float | str | None, ...]


def columns(comparison: Comparison) -> list[TableColumn]:
    """The columns of a table that are not empty; the first has the experiments."""
    rows = comparison.rows
    names = [row.experiment.removeprefix(comparison.prefix) for row in rows]
    parts: list[tuple[str, list[str], list[Any]]] = [
        ("experiment", names, names),
        ("seeds", [str(len(row.seeds)) for row in rows], [len(row.seeds) for row in rows]),
        ("published", [_published_text(row) for row in rows], [row.published for row in rows]),
        (HEADINGS[comparison.metric], [f"{row.value:.1f}" for row in rows], [row.value for row in rows]),
        ("seeds ±", [_number(row.spread) for row in rows], [row.spread for row in rows]),
        (INTERVAL, [interval_text(row.ci95) for row in rows], [row.ci95[0] for row in rows]),
        ("less published", [_number(row.to_published, "+") for row in rows], [row.to_published for row in rows]),
        (
            f"less {comparison.base.removeprefix(comparison.prefix)}",
            [_number(row.difference, "+") for row in rows],
            [row.difference for row in rows],
        ),
        (
            INTERVAL,
            [interval_text(row.difference_ci95, "+") for row in rows],
            [row.difference_ci95[0] if row.difference_ci95 else None for row in rows],
        ),
        ("p", [_p_text(row.p) for row in rows], [row.p for row in rows]),
        ("answer", [row.answer for row in rows], [row.answer for row in rows]),
    ]
    return [TableColumn(title, tuple(texts), tuple(values)) for title, texts, values in parts if any(texts)]


def cells(comparison: Comparison) -> list[list[str]]:
    """The table as text: a header, then one line per row; empty columns are omitted."""
    found = columns(comparison)
    return [[column.title for column in found], *map(list, zip(*[column.texts for column in found], strict=True))]


def best_rows(comparison: Comparison) -> list[bool]:
    """Whether each row has the best number, to the digit that is shown; nobody wins alone."""
    shown = [round(row.value, 1) for row in comparison.rows]
    best = min(shown) if comparison.better == "lower" else max(shown)
    return [len(shown) > 1 and value == best for value in shown]


def _number(value: float | None, sign: str = "") -> str:
    return "" if value is None else f"{value:{sign}.1f}"


def _p_text(value: float | None) -> str:
    return "" if value is None else "<0.001" if value < 0.001 else f"{value:.3f}"


def _published_text(row: Row) -> str:
    return "" if row.published is None else f"{row.published:.2f}{' ?' if row.doubt else ''}"


def as_markdown(comparison: Comparison) -> str:
    """The table in Markdown, under its protocol."""
    return about(comparison) + "\n\n" + markdown_table(cells(comparison))


def ratio(number: Number) -> str:
    """The value as a multiple of the mean body's; `-` if that is 0."""
    return f"{number.value / number.mean_body:.2f}" if number.mean_body else "-"


def overview(record: Record) -> str:
    """All metrics of one record beside the mean body's, in Markdown."""
    lines = [["metric", "mean", INTERVAL, "mean body", "ratio", "people"]]
    for name, number in record.metrics.items():
        lines.append([
            HEADINGS[name], f"{number.value:.1f}", interval_text(number.ci95),
            f"{number.mean_body:.1f}", ratio(number), str(number.people),
        ])  # fmt: skip
    source = record.source
    where = f"{record.protocol}, shard {record.conditions.shard['sha']}, chosen on {source.chosen_by}"
    return f"{source.experiment}: {where}\n\n" + markdown_table(lines)


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """Cells as a table in Markdown; the first line is its head."""
    head, *rest = lines
    rows = [head, ["---"] + ["---:"] * (len(head) - 1), *rest]
    return "\n".join("| " + " | ".join(map(_escaped, line)) + " |" for line in rows) + "\n"


def _escaped(cell: str) -> str:
    """Text as text: nothing in it ends a cell or is taken for HTML."""
    text = " ".join(cell.split()).replace("\\", "\\\\").replace("|", "\\|")
    return text.replace("&", "&amp;").replace("<", "&lt;")


def as_csv(comparisons: Sequence[Comparison]) -> str:
    """All tables as one CSV in full precision, one column per field."""
    rows = [
        {k: v for k, v in asdict(table).items() if k != "rows"} | asdict(row)
        for table in comparisons
        for row in table.rows
    ]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(rows[0])
    writer.writerows(map(_no_formula, row.values()) for row in rows)
    return out.getvalue()


def _no_formula(value: object) -> object:
    """A text that a spreadsheet would compute, as text: with an apostrophe before it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def about(comparison: Comparison) -> str:
    """The heading of a table: published table, protocol, people and shard."""
    held = f"{comparison.study}: " if comparison.study else ""
    better = "" if comparison.better == "lower" else "; higher is better"
    notes = f"; {comparison.notes}" if comparison.notes else ""
    people = f"{comparison.num_people} people of shard {comparison.shard_sha}"
    return f"{held}{comparison.protocol}, {people}{better}{notes}"
