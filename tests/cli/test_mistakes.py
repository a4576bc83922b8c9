"""The mistakes of newcomers: the exit code and the key word of each message, and what each cost."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from mistakes import MISTAKES, PAGE, ROOT, TIMM, Mistake, words_of

QUICK_S = 1.0  # of CPU: paths and names are checked within it
LOADED = 2  # times as much on a machine that does other things too


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """All mistakes in one process of its own, which has not imported torch yet."""
    script = str(ROOT / "scripts" / "mistakes.py")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mistake", [one for one in MISTAKES if one.torch != TIMM], ids=lambda one: one.words)
def test_a_mistake_is_answered_at_once_and_with_the_remedy(mistake: Mistake, told: dict[str, Any]) -> None:
    code, text, seconds, has_torch = next(found for words, *found in told["answers"] if words == mistake.words)
    assert code == mistake.code, text
    assert mistake.said in text
    assert "Traceback" not in text
    assert mistake.torch or not has_torch
    assert mistake.torch or seconds < LOADED * QUICK_S


def test_nothing_is_left_behind(told: dict[str, Any]) -> None:
    assert told["left"] == ["notes.txt"]


def test_the_page_has_each_mistake(told: dict[str, Any]) -> None:
    rows = PAGE.read_text(encoding="utf-8").splitlines()
    for mistake in MISTAKES:
        command = " ".join(["hmrb", *(f"'{word}'" if " " in word else word for word in words_of(mistake))])
        row = next((row for row in rows if row.startswith(f"| `{command}` | {mistake.code} |")), "")
        assert row, f"{command}: not in {PAGE}; python scripts/mistakes.py"
        seconds = float(row.split(" | ")[-2])
        assert mistake.torch or seconds < QUICK_S, row
