"""hmrb compare: compares two results on the same people."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.evaluation.records import Result


def compare(
    first: Annotated[
        Path | None, typer.Argument(help="A result file, or a run's folder that holds one.", show_default=False)
    ] = None,
    second: Annotated[Path | None, typer.Argument(help="The result to compare it with.", show_default=False)] = None,
    metrics: Annotated[
        list[str],
        typer.Option("--metrics", help="Only these metrics.  [default: all of the protocol]", show_default=False),
    ] = [],  # noqa: B006
    band: Annotated[
        list[Path],
        typer.Option(
            help="A rerun of one recipe with another seed; two or more say what seeds do. Alone: a run of a shipped"
            " recipe, compared with the kept runs of it.",
            show_default=False,
        ),
    ] = [],  # noqa: B006
    json_: Annotated[bool, typer.Option("--json", help="Print only the differences, as JSON.")] = False,
) -> None:
    """Compare two checkpoints person by person. Refuses results of different protocols.

    With --band, the exit code is 1 if a difference is beyond what reruns of one recipe do.
    """
    from hmrb.errors import RequestError, RunError

    if first is None or second is None:
        if first or len(band) != 1 or metrics:
            raise RequestError("name two results to compare, or one run: hmrb compare --band RUN")
        return _among_kept(band[0], json_)
    import json
    from dataclasses import asdict

    from hmrb.evaluation.intervals import interval_text
    from hmrb.evaluation.metric_table import HEADINGS
    from hmrb.evaluation.records import read_results
    from hmrb.lookup import find
    from hmrb.reports.band import rerun_band
    from hmrb.reports.tables import paired

    found = [read_results([path]) for path in (first, second)]
    for path, results in zip((first, second), found, strict=True):
        if len(results) > 1:
            benches = ", ".join(result.record.benchmark for result in results)
            raise RequestError(f"{path} has results of {benches}; name one file")
    (one,), (two,) = found
    differences = paired(one, two)
    limits = rerun_band([_of_bench(path, one.record.benchmark) for path in band], one) if band else {}
    if metrics:
        known = {row.metric: row.metric for row in differences}
        chosen = {find("metric of both results", name, known) for name in metrics}
        differences = [row for row in differences if row.metric in chosen]
    beyond = [row for row in differences if abs(row.difference) > limits.get(row.metric, abs(row.difference))]
    told = (f"{HEADINGS[row.metric]} {row.difference:+.2f}, reruns {limits[row.metric]:.2f}" for row in beyond)
    failure = f"beyond the band: {'; '.join(told)}"
    if json_:
        rows = [asdict(row) | {"is_sure": row.is_sure} for row in differences]
        rows = [row | {"band": limits.get(row["metric"])} for row in rows] if band else rows
        typer.echo(json.dumps(rows, indent=1))
        if beyond:
            raise RunError(failure)
        return
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False)
    console = Console(width=max(console.width, 110), markup=False)  # an interval on one line
    console.print(f"{one.record.protocol}, {one.record.num_people} people", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", one.experiment, two.experiment, "difference", "95 %", "p", "people better", ""):
        table.add_column(title, justify="right" if title else "left")
    for row in differences:
        cells = [f"{row.first:.1f}", f"{row.second:.1f}", f"{row.difference:+.1f}", interval_text(row.ci95, "+")]
        cells.append("-" if row.people == 1 else "<0.001" if row.p < 0.001 else f"{row.p:.3f}")
        said = "" if row.is_sure else "may be chance"
        if row.metric in limits:
            where = "within" if abs(row.difference) <= limits[row.metric] else "beyond"
            said = ", ".join([*([said] if said else []), f"{where} reruns' {limits[row.metric]:.1f}"])
        table.add_row(HEADINGS[row.metric], *cells, f"{100 * row.share_better:.0f} %", said)
    console.print(table)
    if beyond:
        raise RunError(failure)


def _among_kept(run: Path, json_: bool) -> None:
    """Whether a run of a shipped recipe is in the band of the kept ones. Raises RunError if it is not."""
    import json
    from dataclasses import asdict

    from hmrb.cli.shipped import shipped_folder
    from hmrb.errors import RunError
    from hmrb.reports.kept_bands import FILE, check_run, read_kept

    kept, checks, lacks = check_run(run, read_kept(shipped_folder() / FILE))
    if json_:
        typer.echo(json.dumps([asdict(check) | {"is_within": check.is_within} for check in checks], indent=1))
    else:
        from rich.console import Console
        from rich.table import Table

        console = Console(markup=False)
        seeds = ", ".join(map(str, kept.seeds))
        console.print(f"{kept.name}: against kept runs with seeds {seeds}", highlight=False)
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("", "this run", "band", ""):
            table.add_column(title, justify="right" if title else "left")
        for check in checks:
            band = f"{check.low:.4g} to {check.high:.4g}"
            table.add_row(check.what, f"{check.value:.4g}", band, "" if check.is_within else "outside")
        console.print(table)
        if lacks:
            console.print(f"not in this run, so not compared: {', '.join(lacks)}", highlight=False)
    if outside := [check for check in checks if not check.is_within]:
        told = (f"{row.what} {row.value:.4g}, expected {row.low:.4g} to {row.high:.4g}" for row in outside)
        raise RunError(f"outside of the band of reruns: {'; '.join(told)}")


def _of_bench(path: Path, benchmark: str) -> "Result":
    """The result of one benchmark in a run's folder or a file. Raises RequestError."""
    from hmrb.errors import RequestError
    from hmrb.evaluation.records import read_results

    found = [result for result in read_results([path]) if result.record.benchmark == benchmark]
    if len(found) != 1:
        raise RequestError(f"--band {path}: has {len(found)} results of {benchmark}; name a run or file with one")
    return found[0]
