"""docs/own-data.md works as it is written, from top to bottom."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from command import hmrb

from hmrb.evaluation.prediction_files import KNOWN
from hmrb.evaluation.protocols import RULE_ALIASES
from hmrb.evaluation.records import read_record

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_page_works_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HMRB_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("hmrb.data.sources.synthetic.TEST_PEOPLE", 4)  # not looked at here
    monkeypatch.setattr("hmrb.parallel.cores.usable_cores", lambda: 1)
    said = {}
    for language, text in re.findall(r"```(bash|python)\n(.*?)```", (DOCS / "own-data.md").read_text(), re.S):
        if language == "python":
            exec(compile(text, "own-data.md", "exec"), {})
            continue
        for line in text.splitlines():
            _, *words = shlex.split(line)
            done = hmrb(*words, home=tmp_path / "home")
            assert done.returncode == 0, f"{line}: {done.stderr}"
            said[" ".join(words[:3])] = done.stdout
    assert "[own]" in said["list-datasets --here"]
    record = read_record(tmp_path / "runs/mine/eval/mydata-test-coco_smpl54_marked.json")
    assert (record.num_people, record.conditions.dataset, record.conditions.split) == (10, "mydata", "test")
    assert record.source.trained_on.keys() >= {"synthetic"}
    assert len(np.load("people.npz")["imgname"]) == 10


def test_the_page_names_all_rules() -> None:
    text = (DOCS / "own-data.md").read_text()
    assert [name for name in RULE_ALIASES if f"`{name.replace('_', '-')}`" not in text] == []


def test_the_page_of_results_names_every_key_that_is_read() -> None:
    text = (DOCS / "results.md").read_text().partition("## Predictions of other systems")[2]
    assert [key for key in KNOWN if f"`{key}`" not in text] == []
