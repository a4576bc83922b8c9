"""What hmrb doctor --speed measures decides only what it is sure of, and only on this machine."""

import json
from pathlib import Path

import pytest
import torch

from hmrb.cli.doctor import doctor
from hmrb.cli.speed_table import facts, lines
from hmrb.errors import RequestError
from hmrb.facts import all_facts
from hmrb.models import half_precision, machine_speed
from hmrb.models.half_precision import precision_in_use
from hmrb.models.machine_speed import (
    BASE,
    KNOBS,
    Knob,
    MachineSpeed,
    Ratio,
    Steps,
    StepTime,
    in_turn,
    keeps_memory,
    remember,
    remembered,
    this_machine,
)
from hmrb.store import Store


def speed(**ratios: Ratio) -> MachineSpeed:
    return MachineSpeed(this_machine(), "2026-11-28", ratios)


def ratio(value: float, rounds: int = 5) -> Ratio:
    return Ratio(value, value * 0.99, value * 1.01, rounds)


def test_a_ratio_is_the_median_of_rounds_and_a_long_step_is_not_repeated() -> None:
    asked = []

    def timed(kind: machine_speed.StepKind) -> StepTime:
        asked.append(kind)
        cpu = 0.5 if kind.precision == "bf16" else 0.25 if not kind.kept else 1.0
        return StepTime(100.0 if kind.precision == "bf16" else 0.001, cpu, 0.1)

    knobs = [Knob("bf16", "", {"precision": "bf16"}, {}), Knob("keep_memory", "", {}, {"kept": False})]
    found = in_turn(knobs, timed, seconds=60, most_rounds=4)
    assert found == {"bf16": Ratio(0.5, 0.5, 0.5, 1), "keep_memory": Ratio(4.0, 4.0, 4.0, 4)}
    assert [kind.precision for kind in asked].count("bf16") == 1
    assert in_turn(knobs, timed, seconds=0, most_rounds=4)["keep_memory"].rounds == 1


def test_a_busy_machine_gets_the_least_rounds_that_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(machine_speed.time, "perf_counter", lambda: now[0])

    def timed(kind: machine_speed.StepKind) -> StepTime:
        now[0] += 1
        return StepTime(0.001, 1.0, 0.1)

    knobs = [Knob("keep_memory", "", {}, {"kept": False})]
    rounds = {
        seconds: in_turn(knobs, timed, seconds, most_rounds=9)["keep_memory"].rounds for seconds in (3, 6, 15, 99)
    }
    assert rounds == {3: 1, 6: 3, 15: 7, 99: 9}  # three steps before the first round, two in each


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (Ratio(0.8, 0.7, 0.9, 3), "faster"),
        (Ratio(1.2, 1.1, 1.3, 3), "slower"),
        (Ratio(1.2, 0.9, 1.3, 3), "no difference"),
        (Ratio(1.03, 1.01, 1.04, 9), "no difference"),
        (Ratio(1.2, 1.2, 1.2, 2), "too few rounds"),
        (Ratio(16.0, 16.0, 16.0, 1), "slower"),
    ],
)
def test_a_verdict_needs_rounds_that_agree(found: Ratio, verdict: str) -> None:
    assert found.verdict == verdict


def test_memory_is_kept_unless_that_was_slower_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "home")
    assert keeps_memory("auto", store)
    remember(speed(keep_memory=ratio(1.2)), store)
    assert not keeps_memory("auto", store)
    assert keeps_memory(True, store)
    assert not keeps_memory(False, store)
    monkeypatch.setattr(machine_speed.system, "instruction_sets", lambda: ("another",))
    assert keeps_memory("auto", store)
    remember(speed(keep_memory=ratio(0.8)), store)
    assert len(json.loads(store.speeds.read_text())) == 2


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"KEY": 3}', '{"KEY": {"date": "", "ratios": {"bf16": {"median": "x"}}}}']
)
def test_a_damaged_file_is_as_none(text: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.speeds.write_text(text.replace("KEY", machine_speed._key(this_machine())))
    assert remembered(store) is None
    remember(speed(bf16=ratio(0.5)), store)
    assert remembered(store) == speed(bf16=ratio(0.5))


def test_the_precision_goes_by_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(half_precision, "half_over_fp32", lambda precision: 0.6)
    used, why = precision_in_use("bf16", cpu, speed(bf16=ratio(1.5)))
    assert (used, "hmrb doctor --speed, 2026-11-28" in why) == ("fp32", True)
    assert precision_in_use("bf16", cpu, speed(bf16=ratio(1.5, rounds=2)))[0] == "bf16"
    assert precision_in_use("fp16", cpu, speed(bf16=ratio(1.5)))[0] == "fp16"
    monkeypatch.setattr(half_precision, "half_over_fp32", lambda precision: 16.0)
    assert precision_in_use("bf16", cpu, speed(bf16=ratio(0.5)))[0] == "bf16"


def test_the_table_says_what_to_do() -> None:
    found = speed(bf16=ratio(16.0), channels_last=ratio(1.5), fused=ratio(0.5), threads=ratio(1.2))
    text = "\n".join(lines(found))
    for words in ("computes in fp32 here", "--set speed.channels_last=false", "faster: leave it on", "not possible on"):
        assert words in text
    assert facts(found)["settings"]["fused"]["median"] == 0.5
    assert "busy" in "\n".join(lines(speed(threads=ratio(0.4))))
    assert {knob.name for knob in KNOBS} == {"bf16", "channels_last", "fused", "keep_memory", "threads"}


def test_a_spec_and_the_machine_are_two_requests() -> None:
    with pytest.raises(RequestError, match="leave out quickstart, or --speed"):
        doctor(Path("quickstart"), speed=True)


def test_doctor_says_whether_it_was_measured(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def step() -> str:
        return next(fact for fact in all_facts(store, tmp_path, is_online=False) if fact.name == "speed").step

    assert step() == "hmrb doctor --speed"
    remember(speed(bf16=ratio(0.5)), store)
    assert step() == ""


@pytest.mark.heavy
def test_measuring_covers_every_knob_and_leaves_threads_and_random_numbers_alone(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    torch.manual_seed(3)
    found = machine_speed.measure(seconds=0.1, side_px=32, most_rounds=1)
    assert set(found.ratios) <= {knob.name for knob in KNOBS}
    assert {"bf16", "channels_last", "fused"} <= set(found.ratios)
    assert all(one.median > 0 for one in found.ratios.values())
    assert torch.get_num_threads() == threads
    before = Steps(32)(BASE)
    assert before.clock > before.update >= 0
