"""Figures for papers: their numbers and names as text, one file for one record, and what is refused."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from command import hmrb, refused
from results import SYNTHETIC, write

from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import SubgroupScores, read_results
from hmrb.reports import plots
from hmrb.reports.tables import compare

pytest.importorskip("matplotlib", reason="pip install 'hmrb[plot]'")
NAME = r"_$\frac{1}{0}$ <script>"  # a formula that cannot be set, a hidden label, markup


def words(path: Path) -> list[str]:
    """The texts of an SVG file."""
    tree = ElementTree.fromstring(path.read_text(encoding="utf-8"))
    return ["".join(node.itertext()).strip() for node in tree.iter("{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    people = np.random.default_rng(0).uniform(20, 120, 50)
    return [write(tmp_path, name, 0, people + change) for name, change in (("a", 0.0), ("b", -9.0))]


def test_bars_have_names_and_numbers_as_text(runs: list[Path], tmp_path: Path) -> None:
    done = hmrb("plot", "bars", *map(str, runs), "-o", str(tmp_path / "bars"))
    assert done.stdout.split() == [str(tmp_path / f"bars.{kind}") for kind in ("svg", "pdf")]
    (table,) = compare(read_results(runs), "pa_mpjpe", None)
    said = words(tmp_path / "bars.svg")
    assert {"a", "b", "PA-MPJPE mm ↓", *(f"{row.value:.1f}" for row in table.rows)} <= set(said)
    assert (tmp_path / "bars.pdf").read_bytes().startswith(b"%PDF")
    assert not list(tmp_path.glob(".*.part"))


def test_the_same_records_give_the_same_files(runs: list[Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        hmrb("plot", "bars", *map(str, runs), "-o", str(tmp_path / name))
    for kind in ("svg", "pdf"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


def test_a_name_is_no_formula_and_is_not_left_out(tmp_path: Path) -> None:
    people = np.random.default_rng(0).uniform(20, 120, 50)
    runs = [write(tmp_path, name, 0, people, spec={"name": name}) for name in ("x", "y")]
    results = read_results(runs)
    record = results[0].record
    hostile = record.model_copy(update={"source": record.source.model_copy(update={"experiment": NAME})})
    part = SubgroupScores(label="$a_b", num_people=3, metrics={"pa_mpjpe": (50.0, (40.0, 60.0))})
    from dataclasses import replace

    results = [replace(r, record=c.model_copy(update={"slices": {"side": (part,)}}))
               for r, c in zip(results, (hostile, results[1].record), strict=True)]  # fmt: skip
    with plots.styled():
        for figure in (plots.draw_column(results, "pa_mpjpe", "side", 85),
                       plots.draw_bars(compare(results, "pa_mpjpe", None)[0], 85)):  # fmt: skip
            plots.save_figure(figure, tmp_path / "names.svg")
            assert NAME in words(tmp_path / "names.svg")
            assert "<script" not in (tmp_path / "names.svg").read_text()
        assert plots.save_figure(figure, tmp_path / "names.pdf") == [tmp_path / "names.pdf"]


def test_a_column_is_drawn_by_its_groups_or_by_people(runs: list[Path], tmp_path: Path) -> None:
    done = hmrb("plot", "column", *map(str, runs), "--by", "pa-mpjpe", "-o", str(tmp_path / "c.svg"))
    assert done.returncode == 0, done.stderr
    assert words(tmp_path / "c.svg").count("PA-MPJPE mm ↓") == 2
    refused(
        hmrb("plot", "column", str(runs[0]), "--by", "side", "-o", str(tmp_path / "d.svg")),
        "a has no column side; it has pa_mpjpe. hmrb eval CHECKPOINT --by side",
    )
    assert not (tmp_path / "d.svg").exists()


def test_curves_are_those_of_the_log(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    lines = [{"step": 20, "total": 9.0}, {"step": 40, "total": 5.0}]
    lines += [{"step": step, "benchmark": "synthetic_val", "mpjpe": 120.0 - step} for step in (20, 40)]
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for metric, title in (("mpjpe", "MPJPE mm ↓"), ("total", "loss: total")):
        assert hmrb("plot", "curves", str(run), "--metric", metric, "-o", str(tmp_path / "c.svg")).returncode == 0
        assert {title, "step"} <= set(words(tmp_path / "c.svg"))
    with plots.styled():
        (axes,) = plots.draw_curves([run], "mpjpe", 85).axes
        np.testing.assert_array_equal(axes.lines[0].get_xydata(), [[20, 100], [40, 80]])
    refused(hmrb("plot", "curves", str(run)), "no log has 'pa_mpjpe'; they have mpjpe, total")
    refused(hmrb("plot", "curves", str(tmp_path)), "has no log.jsonl")


def test_what_cannot_be_drawn_is_refused(runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = write(tmp_path, "c", 0, np.arange(50.0), BENCHMARKS["synthetic_val"])
    refused(hmrb("plot", "bars", str(runs[0]), str(other)), "a figure has results of one protocol", SYNTHETIC.protocol)
    refused(hmrb("plot", "bars", str(runs[0]), "-o", str(tmp_path / "x.png")), "a figure is .svg or .pdf")
    refused(hmrb("plot", "bars", str(runs[0]), "--by", "side"), "--by belongs to hmrb plot column")
    (tmp_path / "folder.svg").mkdir()
    refused(hmrb("plot", "bars", str(runs[0]), "-o", str(tmp_path / "folder.svg")), "could not write", code=1)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    refused(hmrb("plot", "bars", str(runs[0])), "matplotlib is required to draw figures", "pip install 'hmrb[plot]'")
    assert not re.findall("bars", " ".join(path.name for path in Path().glob("*.svg")))


def study_runs(folder: Path, question: str, names: tuple[str, ...], benches: tuple[str, ...]) -> list[str]:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 50)
    made = []
    for i, name in enumerate(names):
        fraction = {"synthetic": int(name[5:]) / 100} if name.startswith("part") else {}
        spec = {"data": {"mix": {"synthetic": 1.0}, "fraction": fraction}}
        for seed in range(2):
            for j, bench in enumerate(benches):
                errors = people + 9 * i + 5 * j + rng.normal(0, 1, 50) + rng.normal(0, 0.3)
                run = write(folder, f"small_study_{question}_{name}", seed, errors, BENCHMARKS[bench], spec=spec)
            made.append(str(run))
    return made


def test_answers_are_drawn_as_differences_to_the_base(tmp_path: Path) -> None:
    made = study_runs(tmp_path, "loss", ("default", "l1", "tals"), ("synthetic", "synthetic_full"))
    done = hmrb("plot", "answers", *made, "-o", str(tmp_path / "a.svg"))
    assert done.returncode == 0, done.stderr
    said = words(tmp_path / "a.svg")
    assert {"l1", "tals", "synthetic", "full", "PA-MPJPE mm ↓: difference to default"} <= set(said)
    assert sum(word.startswith("default: ") for word in said) == 2
    assert (tmp_path / "a.svg").stat().st_size < 60_000
    refused(
        hmrb("plot", "answers", *made[2:], "-o", str(tmp_path / "b.svg")),
        "answers draws differences to the question's base",
    )


def test_hiding_is_drawn_against_the_same_people(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmrb.reports import answer_plots

    benches = ("synthetic", "synthetic_full", "synthetic_crowd")
    made = [Path(run) for run in study_runs(tmp_path, "augment", ("none", "occlude"), benches)]
    monkeypatch.setattr(answer_plots, "SAME_PEOPLE", {"synthetic_full": "synthetic"})
    with plots.styled():
        figure = answer_plots.draw_hidden(read_results(made), "pa_mpjpe", 85)
        plots.save_figure(figure, tmp_path / "h.svg")
    said = words(tmp_path / "h.svg")
    assert {"synthetic_full, the same people", "synthetic_crowd", "none", "occlude"} <= set(said)
    axes = figure.axes[0]
    ends = [abs(np.diff(bar.get_segments()[0][:, 0])[0]) for bar in axes.collections]
    assert ends[0] < 3 < 10 < ends[1]  # the same people are paired, others are not


def test_a_share_of_the_people_is_an_axis(tmp_path: Path) -> None:
    made = study_runs(tmp_path, "amount", ("part_010", "part_100"), ("synthetic",))
    done = hmrb("plot", "share", *made, "-o", str(tmp_path / "s.svg"))
    assert done.returncode == 0, done.stderr
    assert {"10", "100", "% of the people"} <= set(words(tmp_path / "s.svg"))
    refused(hmrb("plot", "share", *made[:2], "-o", str(tmp_path / "t.svg")), "two or more shares of the people")
    refused(hmrb("plot", "hidden", *made, "-o", str(tmp_path / "t.svg")), "hidden needs results of")
