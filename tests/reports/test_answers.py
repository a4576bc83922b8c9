"""Answers of the study in small: baselines, what is an answer and what is none, order against published tables."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused
from results import write

from hmrb.errors import RequestError
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import read_results
from hmrb.reports import questions
from hmrb.reports.agreement import agreements, as_markdown
from hmrb.reports.answers import answers
from hmrb.reports.tables import about, cells
from hmrb.spec import Published, load_experiment

SPECS = Path(__file__).parents[2] / "specs"
CLEAN, HARD = BENCHMARKS["synthetic"], BENCHMARKS["synthetic_full"]
PEOPLE = np.random.default_rng(0).normal(100, 20, 300)


def runs_of(
    folder: Path, question: str, effects: dict[str, float], seeds: int = 3, hiding: float | None = None
) -> list[Path]:
    """Runs of a question: errors of PEOPLE and an effect, in mm; with `hiding`, of the same people hidden, too."""
    rng, made = np.random.default_rng(1), []
    for name, effect in effects.items():
        for seed in range(seeds):
            errors = PEOPLE + effect + rng.normal(0, 0.8) + rng.normal(0, 4, len(PEOPLE))
            made.append(write(folder, f"small_study_{question}_{name}", seed, errors, CLEAN))
            if hiding is not None:
                harder = errors + hiding * (0.5 if name == "occlude" else 1) + rng.normal(0, 2, len(PEOPLE))
                write(folder, f"small_study_{question}_{name}", seed, harder, HARD)
    return made


def test_a_table_says_what_is_better_worse_and_not_shown(tmp_path: Path) -> None:
    effects = {"crowd": -9.0, "street": 0.0, "sport": 9.0, "wide": 0.1}
    (table,) = answers(read_results(runs_of(tmp_path, "dataset", effects)), "pa_mpjpe")
    assert (table.study, table.base) == ("dataset (which dataset alone)", "small_study_dataset_street")
    head, *lines = cells(table)
    assert head == ["experiment", "seeds", "PA-MPJPE mm ↓", "seeds ±", "95 %", "less street", "95 %", "p", "answer"]
    assert {line[0]: line[-1] for line in lines} == {
        "street": "", "crowd": "better", "sport": "worse", "wide": "no difference shown",
    }  # fmt: skip
    assert lines[0][0] == "street"
    crowd, base = (next(row for row in table.rows if row.experiment.endswith(name)) for name in ("crowd", "street"))
    assert crowd.difference == pytest.approx(-9, abs=2)
    assert base.difference is base.p is None
    assert crowd.ci95[1] - crowd.ci95[0] > 2 * 1.96 * PEOPLE.std() / np.sqrt(len(PEOPLE))  # than people alone
    assert about(table).endswith("intervals over seeds and people; p corrected for 3 comparisons (Holm)")


def test_a_difference_as_large_as_that_of_seeds_is_no_answer(tmp_path: Path) -> None:
    """Person by person it is certain, as `--against` finds; another seed would have found the opposite."""
    made = [
        write(tmp_path, f"small_study_combined_{name}", seed, PEOPLE + shift)
        for name, shifts in {"baseline": (0, 4, -4), "recipe": (3, -2, 5)}.items()
        for seed, shift in enumerate(shifts)
    ]
    (table,) = answers(read_results(made), "pa_mpjpe")
    _, row = table.rows
    assert row.difference == pytest.approx(2)
    assert row.difference_ci95[0] < 0 < row.difference_ci95[1]
    assert row.answer == questions.IS_OPEN
    (old,) = json.loads(hmrb("report", *map(str, made), "--against", "small_study_combined_baseline", "--json").stdout)
    assert old["rows"][1]["difference_ci95"] == pytest.approx([2, 2])


def test_one_seed_answers_nothing(tmp_path: Path) -> None:
    (table,) = answers(read_results(runs_of(tmp_path, "loss", {"default": 0, "l1": 9}, seeds=1)), "pa_mpjpe")
    assert [(row.answer, row.p) for row in table.rows] == [("", None), ("", None)]
    assert "one seed: intervals over people alone" in table.notes


def test_seeds_that_not_all_have_are_left_out_of_differences_and_named(tmp_path: Path) -> None:
    made = runs_of(tmp_path, "loss", {"default": 0, "l1": 9})
    (table,) = answers(read_results(made[:-1]), "pa_mpjpe")
    assert [row.seeds for row in table.rows] == [(0, 1, 2), (0, 1)]
    assert table.notes.endswith("differences over the shared seeds: 0, 1")
    (table,) = answers(read_results(made[:-2]), "pa_mpjpe")
    assert table.notes.endswith("differences over the shared seeds: 0, so over people alone")
    assert [row.p for row in table.rows] == [None, None]
    with pytest.raises(RequestError, match="has two results with seed 0"):
        answers(read_results([*made, made[0]]), "pa_mpjpe")


def test_without_the_base_there_are_no_differences(tmp_path: Path) -> None:
    results = read_results(runs_of(tmp_path, "loss", {"tals": 0, "l1": 9}))
    (table,) = answers(results, "pa_mpjpe")
    assert (table.base, [row.difference for row in table.rows]) == ("", [None, None])
    (table,) = answers(results, "pa_mpjpe", "small_study_loss_tals")
    assert table.rows[1].answer == "worse"


def test_what_hiding_costs_is_a_table_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(questions, "SAME_PEOPLE", {HARD.name: CLEAN.name})
    made = runs_of(tmp_path, "augment", {"none": 0, "occlude": 5, "self_mix": 0}, hiding=12.0)
    *_, table = answers(read_results(made), "pa_mpjpe")
    assert " less synthetic-test" in table.protocol
    none, occlude, mixed = table.rows
    assert none.value == pytest.approx(12, abs=0.5)
    assert none.ci95[1] - none.ci95[0] < 2  # paired by person: clean errors differ by 20 mm
    assert (occlude.answer, mixed.answer) == ("better", questions.IS_OPEN)


def test_report_answers_questions_and_keeps_others_apart(tmp_path: Path) -> None:
    made = [*runs_of(tmp_path, "loss", {"default": 0, "l1": 9}), write(tmp_path, "else", 0, PEOPLE)]
    done = hmrb("report", *map(str, made), "--studies", "--format", "md", "--bench", "synthetic")
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("| ")] == [
        "experiment", "---", "default", "l1", "experiment", "---", "else",
    ]  # fmt: skip
    for base, less in (("small_study_loss_l1", ["less l1"]), ("else", ["less default"])):
        done = hmrb("report", *map(str, made), "--studies", "--format", "md", "--against", base)
        assert re.findall("less [a-z_0-9]+", done.stdout) == less
    refused(hmrb("report", *map(str, made), "--studies", "--against", "els"), "no experiment named 'els'")
    refused(hmrb("report", *map(str, made), "--bench", "3dpw"), "--bench 3dpw: no result of it; there are results of")
    refused(hmrb("report", str(made[0]), "--studies", "--metric", "pve"), "no record of a question has pve")


def test_every_question_has_its_specs_and_base() -> None:
    folders = {path.name for path in (SPECS / "small_study").iterdir() if path.is_dir()}
    assert set(questions.QUESTIONS) <= folders
    for name, question in questions.QUESTIONS.items():
        specs = {load_experiment(path).name: path for path in (SPECS / "small_study" / name).glob("*.yaml")}
        assert f"{questions.prefix_of(name)}{question.base}" in specs
        assert {f"{questions.prefix_of(name)}{item}" for item in question.published} <= set(specs)
        assert all(questions.question_of(experiment) == name for experiment in specs)
        assert all((SPECS / f"{theirs}.yaml").is_file() for theirs in question.published.values())
    assert questions.question_of("small_baseline") == questions.question_of("small_study_") == ""


def published(value: float, doubt: str = "") -> tuple[Published, ...]:
    return (Published(benchmark="3dpw", value=value, source="a table", doubt=doubt),)


def test_agreement_leaves_out_what_is_doubtful(tmp_path: Path) -> None:
    effects = {"none": 0.0, "occlude": 8.0, "self_mix": 16.0, "hard_erase": -20.0}
    results = read_results(runs_of(tmp_path, "augment", effects))
    table = {f"augment/eft_coco_{name}": published(50 + value) for name, value in effects.items()}
    rest = dict.fromkeys(questions.QUESTIONS["augment"].published.values(), ())
    doubted = {"augment/eft_coco_hard_erase": published(99, "copied")}
    (row,) = agreements(results, "pa_mpjpe", rest | table | doubted)
    assert (row.items, row.doubtful) == (("none", "occlude", "self_mix"), ("hard_erase",))
    assert row.tau == 1.0
    assert row.ci95[0] > 0.3
    (other,) = agreements(results, "pa_mpjpe", rest | table | {"augment/eft_coco_hard_erase": published(99)})
    assert other.tau == 0.0  # three pairs in order, three against
    (few,) = agreements(results, "pa_mpjpe", rest | doubted)
    assert few.tau is few.ci95 is None
    assert "| none | 1 | fewer than 2 |" in as_markdown([few])


def test_two_rows_are_in_one_order_or_the_other(tmp_path: Path) -> None:
    table = {"algorithms/hmr": published(60), "algorithms/hmr_l1": published(55)}
    table = (
        dict.fromkeys((name for question in questions.QUESTIONS.values() for name in question.published.values()), ())
        | table
    )
    (same,) = agreements(read_results(runs_of(tmp_path / "a", "loss", {"default": 0.0, "l1": -9.0})), "pa_mpjpe", table)
    assert (same.tau, same.ci95) == (1.0, (1.0, 1.0))
    (other,) = agreements(read_results(runs_of(tmp_path / "b", "loss", {"default": 0.0, "l1": 9.0})), "pa_mpjpe", table)
    assert (other.tau, other.ci95) == (-1.0, (-1.0, -1.0))
    (open_,) = agreements(read_results(runs_of(tmp_path / "c", "loss", {"default": 0.0, "l1": 0.1})), "pa_mpjpe", table)
    assert open_.ci95 == (-1.0, 1.0)


def test_agreement_of_rows_that_seeds_could_swap_is_wide(tmp_path: Path) -> None:
    effects = {"none": 0.0, "occlude": 0.1, "self_mix": 0.2}
    results = read_results(runs_of(tmp_path, "augment", effects))
    table = dict.fromkeys(questions.QUESTIONS["augment"].published.values(), ())
    table |= {f"augment/eft_coco_{name}": published(50 + value) for name, value in effects.items()}
    (row,) = agreements(results, "pa_mpjpe", table)
    assert row.ci95 == (-1.0, 1.0)


def test_the_study_s_own_table_of_augmentations_is_in_doubt(tmp_path: Path) -> None:
    made = runs_of(tmp_path, "augment", {"none": 0.0, "occlude": 0.1, "self_mix": 0.2})
    done = hmrb("report", *map(str, made), "--agreement")
    assert "| augment | all | PA-MPJPE | none | 3 | fewer than 2 |" in done.stdout
