"""scripts/gpu_check.py runs on a CPU in its tiny form, survives what fails or is late, and fills the tables."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))

import gpu_check
import gpu_speed
from gpu_check import SECTIONS, TOTAL_S, Outcome, faults, in_own_process
from gpu_setup import Figure, Findings, Setup, make_tiny_store, read_figures
from gpu_table import MISSING, PAGE, TABLE, filled

SCRIPTS = Path(gpu_check.__file__).parent
EXPECTED = {
    "curve": ("loss of 4 steps, largest relative difference", "a resumed run has the same weights, bit for bit"),
    "waits": ("waits in ten steps, a CPU has no sync-debug mode",),
    "precisions": ("vertices in fp32, largest distance", "vertices in bf16, mean distance"),
    "evaluation": ("evaluation of ResNet-50, fp32", "evaluation, people"),
    "training": (
        *(gpu_speed.rate_name("ResNet-10", 4, way) for way in gpu_speed.WAYS),
        "ResNet-10, 2 pictures, fused: False",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    made = Setup(torch.device("cpu"), tmp_path_factory.mktemp("gpu_check"), tiny=True)
    make_tiny_store(made)
    return made


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.heavy if name == "training" else ()) for name in EXPECTED]
)
def test_a_section_runs_small_on_a_cpu(setup: Setup, name: str) -> None:
    found = Findings(setup.folder / f"{name}.jsonl")
    SECTIONS[name].run(setup, found)
    assert {figure.what for figure in found.figures} >= set(EXPECTED[name])
    assert faults({name: Outcome("done", 1.0, found.figures)}) == []
    assert read_figures(setup.folder / f"{name}.jsonl") == found.figures


@pytest.mark.heavy
def test_the_command_writes_a_record_without_faults(tmp_path: Path) -> None:
    out = tmp_path / "record.json"
    words = [sys.executable, str(SCRIPTS / "gpu_check.py"), "--tiny", "--only", "quickstart", "failures", "--out", out]
    done = subprocess.run(words, capture_output=True, text=True, timeout=500, cwd=tmp_path, env=os.environ.copy())
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith(f"record: {out}; no faults\n")
    machine, figures = gpu_check.read_record(out)
    assert machine["card"] == "none: a CPU" or torch.cuda.is_available()
    assert {figure.what: figure for figure in figures["quickstart"]}["quickstart, PA-MPJPE"].value > 0
    assert figures["failures"][-1].value == "exit code 0, last step 8 of 8"


def test_a_section_that_is_late_keeps_its_figures(tmp_path: Path) -> None:
    line = json.dumps({"what": "first", "value": 1.0, "unit": "s", "good": None})
    (tmp_path / "waits.jsonl").write_text(f"{line}\n{line[:20]}")
    outcome = in_own_process("waits", tmp_path, True, gpu_check.ENDING_S + 0.2)
    assert outcome.status == "late: ended after 0 s"
    assert outcome.figures == [Figure("first", 1.0, "s")]


def test_a_section_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "people.h5").write_text("no shard")
    outcome = in_own_process("waits", tmp_path, True, 300)
    assert outcome.status.startswith("failed: ")
    assert "people.h5" in outcome.status
    assert faults({"waits": outcome}) == [f"waits: {outcome.status}"]


@pytest.mark.heavy  # by default: a section that fails
def test_one_measurement_that_fails_leaves_the_others(
    setup: Setup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel for this")

    monkeypatch.setattr(gpu_speed, "_step", broken)
    monkeypatch.setattr(gpu_speed, "rate", lambda *_: 7.0)
    found = Findings(tmp_path / "training.jsonl")
    gpu_speed.training(setup, found)
    failed = [figure for figure in found.figures if figure.good is False]
    assert len(failed) == 2 * 2 + 2  # two ways at two sizes, two knobs
    assert failed[0].value == "RuntimeError: no kernel for this"
    assert sum(figure.value == 7.0 for figure in found.figures) == 2 * 2


def test_sections_fit_into_eight_minutes() -> None:
    limited = sum(section.seconds for section in SECTIONS.values())
    assert limited + 120 < TOTAL_S < 480  # two minutes and more for the section without a limit
    assert [name for name, section in SECTIONS.items() if not section.seconds] == [list(SECTIONS)[-1]]


def test_a_machine_without_a_card_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu_check.py"])
    with pytest.raises(SystemExit) as refused:
        gpu_check.main()
    assert refused.value.code == 2
    assert "torch sees no GPU here; --tiny runs on the CPU" in capsys.readouterr().err


def test_the_tables_of_the_page_are_those_of_the_records() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [match[2] for match in TABLE.finditer(text)] == ["training", "rest"]
    assert filled(text) == text, "stale: python scripts/fill_tables.py"


def test_every_figure_names_its_card_and_what_is_missing_is_not_measured(tmp_path: Path) -> None:
    name = gpu_speed.rate_name("ViT-B", 64, gpu_speed.MEMORY)
    figures = [vars(SimpleNamespace(what=name, value=1234.5, unit="images/s", good=None))]
    record = {"machine": {"card": "A Card"}, "sections": {"training": {"figures": figures}}}
    (tmp_path / "card.json").write_text(json.dumps(record))
    lines = filled("<!-- gpu_check training -->\nold\n<!-- /table -->", tmp_path).splitlines()
    rows = [line.split(" | ") for line in lines if line.startswith("| A Card")]
    assert len(rows) == 6
    assert [row[4] for row in rows] == [MISSING] * 4 + ["1,234", MISSING]
    assert "old" not in "".join(lines)
    assert filled("<!-- gpu_check rest -->\n<!-- /table -->", tmp_path / "none").count(MISSING) > 10
