"""The numbers of an evaluation on the terminal."""

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hmrb.evaluation.intervals import interval_text
from hmrb.evaluation.metric_table import HEADINGS, TITLES
from hmrb.evaluation.records import Record
from hmrb.reports.tables import SLICED, ratio


def print_table(records: Sequence[Record]) -> None:
    """Prints one row per benchmark and metric, then the provenance of each benchmark's results."""
    console = Console(markup=False)
    table = Table("benchmark", "metric", box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))  # fits 80 columns
    for title in ("mean", "95 % interval", "mean body", "ratio", "people"):
        table.add_column(title, justify="right", no_wrap=True)
    for record in records:
        for name, metric in record.metrics.items():
            numbers = [f"{metric.value:.1f}", interval_text(metric.ci95), f"{metric.mean_body:.1f}", ratio(metric)]
            cells = [record.benchmark, HEADINGS[name], *numbers, str(metric.people)]
            table.add_row(*map(Text, cells))
    if records:
        console.print(table)
    for record in records:
        source, shard = record.source, record.conditions.shard
        lines = [  # short ones: a terminal breaks a line anywhere, also in a hash
            f"{record.benchmark}: {record.protocol}",
            f"  shard {shard['sha']}  body {source.body['name']} {source.body['sha']}",
            f"  checkpoint {source.checkpoint['sha']}",
        ]
        lines += [
            f"{record.benchmark}: skipped {n} of {shard['num_people']} people: {why}"
            for why, n in record.skipped.items()
        ]
        lines += [
            f"{record.benchmark}: {n} degenerate people, included in the means: {why}"
            for why, n in record.degenerate.items()
        ]
        lines += [f"{record.benchmark}: no {TITLES[name]}: {why}" for name, why in record.left_out.items()]
        if source.siblings_trained_on:
            lines.append(
                f"{record.benchmark}: note: training data {', '.join(map(repr, source.siblings_trained_on))} and the"
                " test set are of one dataset, or share people, places or photos (see docs/results.md)"
            )
        for line in lines:
            console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_slices(records: Sequence[Record]) -> None:
    """Prints one table per benchmark and column of `--by`."""
    console = Console(markup=False)
    for record in records:
        for column, parts in record.slices.items():
            table = Table(column, box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
            table.add_column("people", justify="right")
            shown = [name for name in SLICED if name in record.metrics] or list(record.metrics)[:3]
            for name in shown:
                table.add_column(f"{HEADINGS[name]}, 95 %", justify="right", no_wrap=True)
            for part in parts:
                means = [part.metrics.get(name) for name in shown]
                numbers = [f"{mean[0]:.1f} {interval_text(mean[1])}" if mean else "" for mean in means]
                table.add_row(*map(Text, [part.label, str(part.num_people), *numbers]))
            console.print(f"{record.benchmark} by {column}", highlight=False)
            console.print(table)
