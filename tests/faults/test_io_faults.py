"""The k-th open, read, write, flush, rename or map fails: one message, nothing half-written, and the next run is whole.

HMRB_FAULT_SEED=N: another sample. `pytest -m heavy tests/faults`: every case.
"""

import os
from collections.abc import Callable, Iterator
from functools import cache

import pytest
from cases import Trial, sample
from machine import Machine
from scenarios import SCENARIOS

SEED = int(os.environ.get("HMRB_FAULT_SEED", "0"))
COUNTS = {"convert": 3, "train": 2, "eval": 2, "import": 2, "report": 2}
"""Of each scenario by default; the others behind heavy alone."""


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Trial]]:
    top = tmp_path_factory.mktemp("faults")
    machine = Machine(top)
    yield cache(lambda name: Trial(SCENARIOS[name], machine, top))
    machine.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", COUNTS)
def test_a_sample_of_faults_ends_with_one_message_and_nothing_lost(trial: Callable[[str], Trial], name: str) -> None:
    asked = trial(name)
    problems = [asked.problem(fault) for fault in sample(list(asked.faults()), COUNTS[name], SEED)]
    assert "\n\n".join(filter(None, problems)) == ""


@pytest.mark.heavy
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_fault_ends_with_one_message_and_nothing_lost(trial: Callable[[str], Trial], name: str) -> None:
    asked = trial(name)
    faults = list(asked.faults())
    problems = [asked.problem(fault) for fault in faults]
    print(f"{name}: {len(asked.whole.log)} operations, {len(faults)} cases")
    assert "\n\n".join(filter(None, problems)) == ""


@pytest.mark.heavy
def test_without_a_compiler_python_strikes(tmp_path_factory: pytest.TempPathFactory) -> None:
    top = tmp_path_factory.mktemp("by_python")
    machine = Machine(top, by_python=True)
    try:
        asked = Trial(SCENARIOS["import"], machine, top)
        faults = list(asked.faults())
        assert {"open", "read", "write", "sync", "rename"} <= {fault.kind for fault in faults}
        problems = [asked.problem(fault) for fault in sample(faults, 2, SEED)]
        assert "\n\n".join(filter(None, problems)) == ""
    finally:
        machine.close()
