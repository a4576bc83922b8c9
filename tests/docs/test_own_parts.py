"""docs/own-parts.md names what a part of another package receives, and results.md's example of predictions works."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
from command import hmrb

from hmrb.data.convert.conversion import Converter
from hmrb.evaluation.records import read_record
from hmrb.plugins import GROUPS
from hmrb.training.loss_terms import LossPair

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "own-parts.md").read_text(encoding="utf-8")
FOR_HMRB = {"study", "study_fails", "known", "makes_itself", "source"}  # of its own converters


def section(page: str, title: str) -> str:
    return page.partition(f"## {title}\n")[2].partition("\n## ")[0]


def test_the_page_has_every_group() -> None:
    assert [group for group in GROUPS.values() if f"| `{group}` |" not in PAGE] == []


def test_the_page_has_all_that_a_loss_receives() -> None:
    text = section(PAGE, "Loss")
    assert [field.name for field in fields(LossPair) if f"`{field.name}`" not in text] == []


def test_the_page_has_all_that_a_converter_states() -> None:
    named = set(re.findall(r"`(\w+)`", section(PAGE, "Dataset")))
    assert {field.name for field in fields(Converter)} - FOR_HMRB <= named


def test_the_page_s_list_of_skeletons_can_be_printed() -> None:
    (line,) = re.findall(r'^python -c "(.*)"$', PAGE, re.M)
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, check=True)
    assert "\ncoco nose left_eye" in done.stdout


def test_predictions_written_as_results_md_says_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hmrb.data.sources.synthetic.TEST_PEOPLE", 4)
    monkeypatch.setattr("hmrb.parallel.cores.usable_cores", lambda: 1)
    text = section((DOCS / "results.md").read_text(encoding="utf-8"), "Predictions of other systems")
    (block,) = re.findall(r"```bash\n(.*?)```", text, re.S)
    template, fill, score = block.splitlines()
    for words in (template, score):
        assert words.startswith("hmrb eval ")
    done = hmrb(*template.split()[1:], home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    exec(re.fullmatch(r'python -c "(.*)"', fill)[1], {})  # type: ignore[index]
    done = hmrb(*score.split()[1:], home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    record = read_record(tmp_path / "still" / "eval" / "synthetic.json")
    assert record.num_people == 4
    metric = record.metrics["pa_mpjpe"]
    assert record.source.mean_body == "the mean of the predictions"
    assert metric.mean_body == pytest.approx(metric.value, abs=0.01)
