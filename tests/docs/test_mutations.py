"""scripts/mutate.py and its table in docs/testing.md: the faults can be put in, and the page knows them all."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import mutate
from mutate import FAULTS, ROOT, TABLE, Fault, Outcome, problem, table, tried

PAGE = (ROOT / "docs" / "testing.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_s_place_is_there_once(fault: Fault) -> None:
    assert problem(fault, ROOT) == ""
    assert fault.old != fault.new
    assert fault.added in ("", *fault.tests)


def test_no_two_faults_have_one_name() -> None:
    assert Counter(fault.name for fault in FAULTS).most_common(1)[0][1] == 1


def test_the_page_has_a_row_for_every_fault_in_order() -> None:
    """Stale otherwise: python scripts/mutate.py --write docs/testing.md."""
    match = TABLE.search(PAGE)
    assert match
    rows = [line.split(" | ") for line in match[0].splitlines() if line.startswith("| ") and "`" in line]
    assert [(row[0].removeprefix("| "), row[1].strip("`")) for row in rows] == [(f.name, f.file) for f in FAULTS]


def test_nine_of_ten_faults_are_caught() -> None:
    match = TABLE.search(PAGE)
    assert match
    assert match[0].count("**missed**") <= len(FAULTS) / 10


@pytest.fixture
def toy(tmp_path: Path) -> Fault:
    (tmp_path / "code.py").write_text("limit = 5\nother = 5\n")
    (tmp_path / "test_code.py").write_text("")
    return Fault("a larger limit", "code.py", "limit = 5", "limit = 6", ("test_code.py",))


@pytest.mark.parametrize(
    ("old", "said"),
    [("= 5", "'= 5' is 2 times in code.py, it has to be there once"), ("= 7", "'= 7' is 0 times in code.py")],
)
def test_a_place_that_is_not_there_once_is_told(old: str, said: str, toy: Fault, tmp_path: Path) -> None:
    assert said in problem(Fault("wrong", toy.file, old, "", toy.tests), tmp_path)
    assert problem(toy, tmp_path) == ""


@pytest.mark.parametrize(("code", "caught"), [(0, ""), (1, "test_code.py::test_limit"), (2, "test_code.py")])
def test_a_fault_is_there_while_tests_run_and_gone_after(
    code: int, caught: str, toy: Fault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def run(root: Path, tests: tuple[str, ...]) -> tuple[int, str]:
        seen.append((root / "code.py").read_text())
        return code, caught

    monkeypatch.setattr(mutate, "run_tests", run)
    assert tried(toy, tmp_path).caught_by == caught
    assert seen == ["limit = 6\nother = 5\n"]
    assert (tmp_path / "code.py").read_text() == "limit = 5\nother = 5\n"


def test_the_table_tells_first_tries_from_later_ones(toy: Fault) -> None:
    added = Fault("another", "code.py", "a", "b", toy.tests, "test_code.py")
    lines = table([Outcome(toy, "", 1.0), Outcome(added, "test_code.py::test_it[3]", 1.0)]).splitlines()
    assert lines[0] == "1 of 2 faults are caught, 0 of them before tests were added."
    assert lines[-2] == "| a larger limit | `code.py` | **missed** | missed |"
    assert lines[-1] == "| another | `code.py` | `test_it` | missed at first, test added in `test_code.py` |"
