"""The page and the LaTeX of a table of runs: numbers, the best one, links, and names that would be code."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused
from html_page import Page
from results import write

from hmrb.evaluation.intervals import interval_text
from hmrb.evaluation.metric_table import MEANINGS
from hmrb.evaluation.records import Result, read_results
from hmrb.reports.latex import as_latex, escaped
from hmrb.reports.runs_page import as_html, run_pages
from hmrb.reports.tables import Comparison, best_rows, compare

HOSTILE = (
    "<script>alert(1)</script>",
    '"onload="alert(1)',
    "=cmd()",
    "{{ 7 * 7 }}",
    "[2pt]",
    "\\input{x} $x$ %",
    "--a",
)


def named(results: list[Result], names: tuple[str, ...]) -> list[Result]:
    """The results under other names."""
    records = [result.record for result in results]
    sources = [r.source.model_copy(update={"experiment": n}) for r, n in zip(records, names, strict=True)]
    renamed = [r.model_copy(update={"source": source}) for r, source in zip(records, sources, strict=True)]
    return [replace(result, record=record) for result, record in zip(results, renamed, strict=True)]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 200)
    return [
        write(tmp_path, name, seed, people + change) for name, seed, change in (("a", 0, 0), ("a", 1, 2), ("b", 0, -9))
    ]


@pytest.fixture
def table(runs: list[Path]) -> Comparison:
    return compare(read_results(runs), "pa_mpjpe", "a")[0]


def test_the_page_has_the_numbers_of_the_table(table: Comparison) -> None:
    html = as_html([table])
    page = Page(html)
    assert page.open == []
    for row in table.rows:
        for text in (f"{row.value:.1f}", interval_text(row.ci95), interval_text(row.difference_ci95, "+")):
            assert text in page.text
    assert re.findall(r"<b>([\d.]+)</b>", html) == [f"{table.rows[1].value:.1f}"]  # b is better by 9 mm
    assert MEANINGS["pa_mpjpe"] in page.titles
    assert page.tags.count("svg") == 2
    assert page.scripts == 1


def test_bars_are_as_long_as_their_numbers(table: Comparison) -> None:
    bars = [float(end) for end in re.findall(r'class="bar" d="M0 3H([\d.]+)V', as_html([table]))]
    values = [row.value for row in table.rows]
    assert bars[0] / bars[1] == pytest.approx(values[0] / values[1], rel=1e-2)


def test_the_best_is_the_highest_of_a_score_and_nobody_wins_alone(table: Comparison) -> None:
    assert best_rows(table) == [False, True]
    assert best_rows(replace(table, better="higher")) == [True, False]
    assert best_rows(replace(table, rows=table.rows[:1])) == [False]
    close = replace(table.rows[0], value=table.rows[1].value + 0.001)
    assert best_rows(replace(table, rows=(close, table.rows[1]))) == [True, True]  # as the numbers that are shown


def test_the_page_links_to_the_runs_that_have_one(runs: list[Path], tmp_path: Path) -> None:
    (runs[0] / "report.html").write_text("a page")
    done = hmrb("report", *map(str, runs), "--format", "html", "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "out" / "index.html")
    page = Page((tmp_path / "out" / "index.html").read_text())
    assert page.loaded == [f"../{runs[0].name}/report.html"]
    assert "seed 0" in page.text
    assert str(tmp_path) not in page.text
    assert run_pages(read_results(runs[:1]), Path("/elsewhere")) == {}  # the way there would name folders


def test_a_folder_is_for_html_alone(runs: list[Path], tmp_path: Path) -> None:
    hmrb("report", str(runs[0]), "--format", "md", "-o", str(tmp_path / "out"))
    assert (tmp_path / "out").is_file()
    refused(hmrb("report", str(runs[0]), "-o", str(tmp_path / "folder")), "no format has this suffix")
    assert not (tmp_path / "folder").exists()


def test_names_stay_text_in_a_page(runs: list[Path]) -> None:
    for name in HOSTILE:
        tables = compare(named(read_results(runs[:1]), (name,)), "pa_mpjpe", None)
        page = Page(as_html(tables))
        assert page.open == []
        assert page.scripts == 1
        assert name in page.text


def test_latex_has_the_table_with_its_protocol(table: Comparison) -> None:
    lines = as_latex([table]).splitlines()
    assert r"experiment & seeds & PA-MPJPE mm $\downarrow$ & seeds $\pm$ & 95 \% & less a & 95 \% \\" in lines
    low, high = table.rows[1].ci95
    assert any(
        rf"b & 1 & \textbf{{{table.rows[1].value:.1f}}} &  & {{[}}{low:.1f}, {high:.1f}]" in line for line in lines
    )
    assert any(line.startswith(r"\caption{PA-MPJPE: ") and table.protocol in line for line in lines)
    assert "$-$10.0" in as_latex([table])
    assert hmrb("report", "nowhere", "--format", "tex").returncode == 2


def test_names_are_no_commands_of_latex() -> None:
    assert escaped("a_b & 5 % {x} $y$ #1 ^ ~ \\input{/etc/passwd}") == (
        r"a\_b \& 5 \% \{x\} \$y\$ \#1 \textasciicircum{} \textasciitilde{} \textbackslash{}input\{/etc/passwd\}"
    )
    assert escaped("[2pt]") == "{[}2pt]"  # else the length that ends the line before
    assert escaped("---\nx") == "-{}-{}- x"


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdflatex with booktabs")
def test_latex_is_typeset(runs: list[Path], tmp_path: Path) -> None:
    tables = [compare(named(read_results(runs[:1]), (name,)), "pa_mpjpe", None)[0] for name in HOSTILE]
    head = "\\documentclass{article}\\usepackage{booktabs}\\usepackage[T1]{fontenc}\\begin{document}\n"
    (tmp_path / "x.tex").write_text(f"{head}{as_latex(tables)}\\end{{document}}\n")
    subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "x.tex"], cwd=tmp_path, check=True,
        capture_output=True,
    )  # fmt: skip
