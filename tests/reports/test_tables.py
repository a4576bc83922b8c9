"""Tables from result records: seeds, intervals, differences, and what is refused."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import tiny_tree
from results import SYNTHETIC, write
from typer.testing import CliRunner

from hmrb.cli import app
from hmrb.errors import RequestError
from hmrb.evaluation.intervals import interval_text
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import (
    FORMAT,
    Conditions,
    Machine,
    Number,
    Provenance,
    Record,
    SubgroupScores,
    read_result,
    read_results,
)
from hmrb.reports.printed import print_slices, print_table
from hmrb.reports.runs_page import as_html
from hmrb.reports.tables import as_csv, as_markdown, compare, overview, paired
from hmrb.spec import parse_experiment


def test_seeds_make_one_row_and_a_difference_is_paired(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 400)
    runs = [write(tmp_path, "plain", seed, people + shift) for seed, shift in enumerate((-1.0, 0.0, 1.0))]
    runs += [write(tmp_path, "better", seed, people - 3 + rng.normal(0, 1, 400)) for seed in range(3)]
    (table,) = compare(read_results(runs), "pa_mpjpe", "plain")
    plain, better = table.rows
    assert (plain.seeds, plain.spread) == ((0, 1, 2), pytest.approx(1.0))
    assert plain.value == pytest.approx(people.mean())
    assert plain.difference is None
    assert better.difference == pytest.approx(-3, abs=0.2)
    low, high = better.difference_ci95
    assert low < -2.8 < high + 0.2
    assert high - low < 0.3 < better.ci95[1] - better.ci95[0]  # people differ by 100 mm, the two models by 3


def test_different_protocols_never_share_a_table(tmp_path: Path) -> None:
    rows = [SYNTHETIC, BENCHMARKS["synthetic_val"]]
    (run,) = {write(tmp_path, "one", 0, np.arange(5.0), row) for row in rows}
    assert [table.protocol for table in compare(read_results([run]), "pa_mpjpe", None)] == [r.protocol for r in rows]


def test_published_numbers_come_from_the_record_and_keep_their_doubt(tmp_path: Path) -> None:
    row = {"benchmark": "synthetic", "metric": "pa_mpjpe", "value": 55.0, "source": "x/README.md", "doubt": "copied"}
    one = write(tmp_path, "one", 0, np.arange(5.0), spec={"published": [row]})
    two = write(tmp_path, "two", 0, np.arange(5.0))
    (table,) = compare(read_results([one, two]), "pa_mpjpe", "two")
    lines = as_markdown(table).splitlines()
    title = "| experiment | seeds | published | PA-MPJPE mm ↓ | 95 % | less published | less two | 95 % |"
    assert lines[2] == title
    assert lines[4].startswith("| one | 1 | 55.00 ? | 2.0 | ")
    assert "| -53.0 |" in lines[4]
    first = next(csv.DictReader(as_csv([table]).splitlines()))
    assert (float(first["value"]), float(first["to_published"])) == (2.0, -53.0)
    held, plain = compare(read_results([one, two]), "pa_mpjpe", None, by_study=True)[::-1]
    assert (held.study, [r.experiment for r in held.rows]) == ("x/README.md", ["one"])
    assert (plain.study, [r.experiment for r in plain.rows]) == ("", ["two"])
    page = as_html([held, plain])
    assert all(text in page for text in ("x/README.md", "55.00 ?", "-53.0", SYNTHETIC.protocol))


def test_seeds_of_one_recipe_may_differ_in_what_decides_no_number(tmp_path: Path) -> None:
    """Workers, speed, checkpoints, and fields that older records do not have."""
    spec = parse_experiment(tiny_tree(), "tiny").model_dump(mode="json") | {"name": "one"}
    faster = spec | {"speed": spec["speed"] | {"fused": False}, "checkpoints": {"minutes": 1}}
    faster["data"] = spec["data"] | {"workers": 8}
    older = {key: value for key, value in spec.items() if key != "speed"}
    runs = [
        write(tmp_path / str(seed), "one", seed, np.arange(5.0) + seed, spec=tree | {"seed": seed})
        for seed, tree in enumerate((spec, faster, older))
    ]
    (table,) = compare(read_results(runs), "pa_mpjpe", None)
    assert [row.seeds for row in table.rows] == [(0, 1, 2)]


def test_what_cannot_be_put_together_is_refused(tmp_path: Path) -> None:
    one = write(tmp_path, "one", 0, np.arange(5.0))
    same = write(tmp_path / "again", "one", 0, np.arange(5.0))
    other = write(tmp_path / "other", "one", 1, np.arange(5.0), spec={"lr": 2})
    with pytest.raises(RequestError, match="'one' has two results with seed 0"):
        compare(read_results([one, same]), "pa_mpjpe", None)
    with pytest.raises(RequestError, match="results of 'one' come from 2 different specs"):
        compare(read_results([one, other]), "pa_mpjpe", None)
    with pytest.raises(RequestError, match="no record has pve; they have pa_mpjpe"):
        compare(read_results([one]), "pve", None)
    with pytest.raises(RequestError, match="no experiment named 'two'"):
        compare(read_results([one]), "pa_mpjpe", "two")
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(RequestError, match=r"broken\.json: not a readable hmrb result"):
        read_results([tmp_path / "broken.json"])
    with pytest.raises(RequestError, match="contains no results"):
        read_results([tmp_path / "again"])


def test_a_record_that_is_not_as_it_was_written_is_refused(tmp_path: Path) -> None:
    run = write(tmp_path, "one", 0, np.arange(5.0))
    path, samples = run / "eval" / "synthetic.json", run / "eval" / "synthetic_samples.h5"
    as_written = path.read_text()
    for old, new, said in (
        ('"value": 2.0', '"value": 1.0', "was modified after it was written; score the checkpoint again"),
        ('"experiment": "one"', '"experiment": "two"', "was modified after it was written"),
        (f'"format": {FORMAT}', '"format": 2', f"record format 2, but this hmrb reads {FORMAT}"),
        ('"intervals_over"', '"intervals"', "not a valid hmrb record: intervals_over: Field required"),
        (
            '"value": 2.0',
            '"value": NaN',
            "not a valid hmrb record: metrics.pa_mpjpe.value: Input should be a finite number",
        ),
    ):
        assert old in as_written
        path.write_text(as_written.replace(old, new))
        with pytest.raises(RequestError, match=said):
            read_result(path)
    path.write_text(as_written)
    assert read_result(path).record.metrics["pa_mpjpe"].value == 2.0
    with h5py.File(samples, "r+") as file:
        file["error/pa_mpjpe"][0] = 7.0
    with pytest.raises(RequestError, match=r"its content does not match synthetic\.json"):
        read_result(path)
    samples.unlink()
    with pytest.raises(RequestError, match=r"synthetic_samples\.h5 is missing next to it"):
        read_result(path)


def test_a_record_of_another_version_of_its_protocol_is_refused(tmp_path: Path) -> None:
    later = replace(SYNTHETIC, version=2)
    run = write(tmp_path, "one", 0, np.arange(5.0), later)
    said = rf"has protocol {re.escape(later.protocol)}, but in this hmrb synthetic is {re.escape(SYNTHETIC.protocol)}"
    with pytest.raises(RequestError, match=said):
        read_results([run])
    unknown = write(tmp_path, "two", 0, np.arange(5.0), replace(SYNTHETIC, name="nowhere"))
    with pytest.raises(RequestError, match="in this hmrb nowhere is unknown"):
        read_results([unknown])


def test_the_page_about_records_names_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    for model in (Record, Conditions, Provenance, Machine, Number, SubgroupScores):
        for name in model.model_fields:
            assert f"`{name}`" in page, f"{model.__name__}.{name}"


def test_two_results_are_told_apart_person_by_person(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    people = rng.uniform(20, 120, 300)
    one, same, better = (
        write(tmp_path, name, 0, people + change)
        for name, change in (("one", 0.0), ("same", rng.normal(0, 2, 300)), ("better", rng.normal(-2, 2, 300)))
    )
    read = {path.name: read_results([path])[0] for path in (one, same, better)}
    (chance,), (sure,) = paired(read["one-0"], read["same-0"]), paired(read["one-0"], read["better-0"])
    assert (chance.is_sure, sure.is_sure) == (False, True)
    assert sure.p < 0.01 < chance.p
    assert sure.difference == pytest.approx(-2, abs=0.4)
    assert sure.share_better > 0.75
    shown = CliRunner().invoke(app, ["compare", str(one), str(better)])
    assert shown.exit_code == 0
    assert "PA-MPJPE" in shown.stdout
    assert "may be chance" not in shown.stdout


def test_an_interval_of_a_single_person_is_a_dash_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = (write(tmp_path, name, 0, np.array([value])) for name, value in (("one", 357.0), ("two", 350.0)))
    (table,) = compare(read_results([one, two]), "pa_mpjpe", "one")
    assert "| one | 1 | 357.0 | - |" in as_markdown(table)
    assert table.rows[0].ci95 == (357.0, 357.0)
    record = read_results([one])[0].record
    assert "| PA-MPJPE mm ↓ | 357.0 | - |" in overview(record)
    assert (record.metrics["pa_mpjpe"].ci95, record.metrics["pa_mpjpe"].people) == ((357.0, 357.0), 1)
    part = SubgroupScores(label="back", num_people=1, metrics={"pa_mpjpe": (356.8, (356.8, 356.8))})
    whole = SubgroupScores(label="front", num_people=9, metrics={"pa_mpjpe": (100.0, (90.04, 110.0))})
    print_table([record])
    print_slices([record.model_copy(update={"slices": {"viewpoint": (part, whole)}})])
    shown = capsys.readouterr().out
    assert re.search(r"PA-MPJPE mm ↓ +357.0 +- +200.0", shown), shown
    assert "356.8 -" in shown
    assert "100.0 [90.0, 110.0]" in shown
    (found,) = paired(*read_results([one, two]))
    assert (found.people, found.is_sure) == (1, False)
    assert re.search(
        r"-7.0 +- +- +100 % +may be chance", CliRunner().invoke(app, ["compare", str(one), str(two)]).stdout
    )


def test_an_interval_stays_on_one_line_beside_long_names(tmp_path: Path) -> None:
    people = np.random.default_rng(0).uniform(120, 920, 50)
    names = ("backbones_of_the_study", "augmentations_of_it")
    runs = [write(tmp_path, name, 0, people * (1 + i)) for i, name in enumerate(names)]
    (row,) = paired(*read_results(runs))
    done = CliRunner().invoke(app, ["compare", *map(str, runs)], env={"COLUMNS": "80"})
    assert interval_text(row.ci95, "+") in done.stdout


def test_an_interval_has_brackets_and_a_comma() -> None:
    assert interval_text((73.06, 76.94)) == "[73.1, 76.9]"
    assert interval_text((-7.0, 3.0), "+") == "[-7.0, +3.0]"
    assert (interval_text((357.0, 357.0)), interval_text(None)) == ("-", "")


def test_unlike_numbers_are_not_compared(tmp_path: Path) -> None:
    val = BENCHMARKS["synthetic_val"]
    one, two = write(tmp_path, "one", 0, np.arange(5.0)), write(tmp_path, "two", 0, np.arange(5.0), val, body_sha="b1")
    done = CliRunner().invoke(app, ["compare", str(one), str(two)])
    said = f"can't be compared: protocol: {SYNTHETIC.protocol} and {val.protocol}; body: b0 and b1"
    assert said in str(done.exception)


def test_frames_of_a_sequence_are_drawn_together(tmp_path: Path) -> None:
    """Forty frames in ten sequences with equal frames have ten independent numbers, not forty."""
    rng = np.random.default_rng(0)
    errors = np.repeat(rng.uniform(20, 120, 10), 4)
    alone = write(tmp_path, "alone", 0, errors)
    grouped = write(tmp_path, "grouped", 0, errors, sequences=np.repeat(np.arange(10.0), 4))
    tables = [compare(read_results([run]), "pa_mpjpe", None)[0] for run in (alone, grouped)]
    widths = [table.rows[0].ci95[1] - table.rows[0].ci95[0] for table in tables]
    assert widths[1] > 1.6 * widths[0]  # twice, up to bootstrap noise


def test_names_are_no_cells_markup_or_formulas(tmp_path: Path) -> None:
    run = write(tmp_path, "x", 0, np.full(10, 50.0), spec={"name": "x"})
    (result,) = read_results([run])
    for name in ("=1+1", "+1", "-1", "@a", "a|b", "<script>alert(1)</script>", "[red]x[/]"):
        record = result.record.model_copy(
            update={"source": result.record.source.model_copy(update={"experiment": name})}
        )
        (table,) = compare([replace(result, record=record)], "pa_mpjpe", None)
        first = next(csv.DictReader(as_csv([table]).splitlines()))["experiment"]
        assert first == (f"'{name}" if name[0] in "=+-@" else name)
        lines = as_markdown(table).splitlines()
        assert len({len(re.split(r"(?<!\\)\|", line)) for line in lines[2:]}) == 1
        assert "<script" not in as_markdown(table)
        page = as_html([table])
        assert page.count("<script") == 1  # ours
        assert "<script>alert" not in page


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Changes a record and seals it again, as anybody can: the seal is a plain hash."""

    def step(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        sealed = content | {"sha": ""}
        try:
            sealed = Record.model_validate(sealed).sealed().model_dump(mode="json")
        except ValueError:  # read_record says so, too
            sealed["sha"] = "0" * 16
        path.write_text(json.dumps(sealed))

    return step


ABSURD: dict[str, tuple[Callable[[Path], None], str]] = {
    "unknown metric": (edited(lambda r: r["metrics"].update(wow=r["metrics"]["pa_mpjpe"])), "unknown metric 'wow'"),
    "no metric": (edited(lambda r: r["metrics"].clear()), "it has no metrics"),
    "nan": (edited(lambda r: r["metrics"]["pa_mpjpe"].update(value=float("nan"))), "metrics.pa_mpjpe.value"),
    "another mean": (
        edited(lambda r: r["metrics"]["pa_mpjpe"].update(value=1.0)),
        "has mean 50, but the record says 1",
    ),
    "another unit": (edited(lambda r: r["metrics"]["pa_mpjpe"].update(unit="m")), "pa_mpjpe is in 'm'"),
    "nobody": (edited(lambda r: r.update(num_people=0)), "num_people is 0"),
    "other people": (
        edited(lambda r: r.update(num_people=11)),
        r"row has type int64 and shape \(10,\), expected \(11,\)",
    ),
    "more people": (edited(lambda r: r["metrics"]["pa_mpjpe"].update(people=11)), "pa_mpjpe counts 11 of 10 people"),
    "no seed": (edited(lambda r: r["source"]["spec"].pop("seed")), "source.spec has no seed"),
    "odd seed": (edited(lambda r: r["source"]["spec"].update(seed="x")), "source.spec.seed is 'x'"),
    "odd numbers": (edited(lambda r: r["source"]["spec"].update(published=[3])), "is no list of published numbers"),
    "no sha": (edited(lambda r: r["conditions"]["shard"].pop("sha")), "conditions.shard has no sha"),
    "braces": (lambda path: path.write_text("[" * 100_000), "not a readable hmrb result"),
    "html": (lambda path: path.write_text("<!DOCTYPE html><html>"), "not a readable hmrb result; it is an HTML page"),
}


@pytest.mark.parametrize("kind", ABSURD)
def test_a_record_sealed_again_with_absurd_values_is_one_message(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path, "x", 0, np.full(10, 50.0)) / "eval" / "synthetic.json"
    change, message = ABSURD[kind]
    change(path)
    with pytest.raises(RequestError, match=message):
        read_result(path)
