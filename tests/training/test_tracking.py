"""Trackers of a run: what they get, that they go on with a resumed run, and that none can hurt one."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import hmrb, refused, spec_file
from conftest import tiny_tree

from hmrb.checkpoint import Run, open_run
from hmrb.cli.train import TrackerName
from hmrb.evaluation.records import read_results
from hmrb.parallel.world import World
from hmrb.run import run_experiment
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store
from hmrb.training import tracking
from hmrb.training.trackers import TRACKERS, TrackedRun, check_trackers, flat, without_folders
from hmrb.training.tracking import MAX_WAITING, tracked

ALONE = World(0, 1, torch.device("cpu"))


@dataclass
class Fake:
    """A tracker that notes its calls; `raises` and `blocks` name the calls that fail or wait for ever."""

    raises: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def __call__(self) -> "Fake":
        return self

    def begin(self, run: TrackedRun, known: str) -> str:
        self._note("begin", run, known)
        return known or "id-1"

    def where(self) -> str:
        return "a place"

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        self._note("numbers", step, dict(numbers))

    def results(self, step: int, scores: Mapping[str, float], provenance: Mapping[str, str]) -> None:
        self._note("results", step, dict(scores), dict(provenance))

    def end(self, is_done: bool) -> None:
        self._note("end", is_done)

    def of(self, name: str) -> list[tuple[Any, ...]]:
        return [call[1:] for call in self.calls if call[0] == name]

    def _note(self, name: str, *arguments: Any) -> None:
        self.calls.append((name, *arguments))
        if name in self.blocks:
            threading.Event().wait()
        if name in self.raises:
            raise ConnectionError("no route to the server\nand more lines")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setitem(TRACKERS, "fake", made)
    return made


def test_a_run_and_its_resumption_are_one_tracked_run(
    tiny_store: Store, tmp_path: Path, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hmrb.run.write_report", lambda folder, *rest: folder)  # pictures take seconds
    secret = str(tmp_path / "secret")
    folder = tmp_path / "a-run"
    tree = tiny_tree() | {
        "expected": [{"benchmark": "synthetic", "metric": "mpjpe", "value": 1, "tolerance": 1, "source": secret}]
    }
    tree["optim"] |= {"epochs": 2, "batch": 2}
    experiment = parse_experiment(tree, "tiny")
    run_experiment(experiment, open_run(folder, experiment, False), tiny_store, ALONE, ("fake",))
    assert json.loads((folder / "tracked.json").read_text()) == {"fake": "id-1"}
    run_experiment(experiment, open_run(folder, experiment, True), tiny_store, ALONE, ("fake",))

    (first, known), (_, again) = fake.of("begin")
    assert (first.name, first.recipe, known, again) == ("a-run", "tiny", "", "id-1")
    assert first.spec["optim"]["lr"] == 1e-3
    assert first.spec["expected"][0]["source"] == "secret"
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    losses = [line for line in log if "total" in line]
    sent = [(step, numbers) for step, numbers in fake.of("numbers") if "train/total" in numbers]
    assert sent == [
        (line["step"], {f"train/{name}": value for name, value in line.items() if name != "step"}) for line in losses
    ]
    assert sent
    assert "train/lr" in sent[0][1]
    (chosen_on,) = {line["protocol"] for line in log if "benchmark" in line}
    assert [step for step, numbers in fake.of("numbers") if f"{chosen_on}/pa_mpjpe" in numbers] == [10, 20]
    (result,) = read_results([folder])
    step, scores, provenance = fake.of("results")[0]
    protocol = result.record.protocol
    assert scores[f"{protocol}/mpjpe"] == result.record.metrics["mpjpe"].value
    assert step == result.record.source.checkpoint["step"]
    assert provenance[f"{protocol}/shard"] == result.record.conditions.shard["sha"]
    assert provenance[f"{protocol}/checkpoint.sha"] == result.record.source.checkpoint["sha"]
    assert fake.of("end") == [(True,), (True,)]
    assert str(tmp_path) not in repr([replace(first, folder=Path()), *fake.calls[1:-4], scores, provenance])


def test_what_fails_is_said_once_and_stops_nothing(
    tmp_path: Path, tiny_experiment: Experiment, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.raises = ("numbers", "results")
    with tracked(("fake",), tiny_experiment, tmp_path) as tracking_:
        for step in range(5):
            tracking_.numbers(step, "train", {"total": 1.0})
    said = capsys.readouterr().err
    assert said.count("--track fake: ConnectionError: no route to the server; the run goes on without it") == 1
    assert "5 of its messages were lost" in said
    assert "more lines" not in said
    assert len(fake.of("numbers")) == 5  # a server that is back gets the next ones
    assert fake.of("end") == [(True,)]


def test_a_tracker_that_does_not_begin_is_left_out(
    tmp_path: Path, tiny_experiment: Experiment, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.raises = ("begin",)
    with tracked(("fake", "fake"), tiny_experiment, tmp_path) as tracking_:
        tracking_.numbers(1, "train", {"total": 1.0})
    assert {call[0] for call in fake.calls} == {"begin"}
    assert not (tmp_path / "tracked.json").exists()
    assert "the run goes on without it" in capsys.readouterr().err


def test_a_tracker_that_hangs_delays_no_step_and_the_end_by_a_limit(
    tmp_path: Path, tiny_experiment: Experiment, fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.blocks = ("begin",)
    with tracked(("fake",), tiny_experiment, tmp_path, wait_s=0.1) as tracking_:
        start = time.monotonic()
        tracking_.numbers(0, "train", {"total": 1.0})
        assert time.monotonic() - start < 0.1
        for step in range(1, MAX_WAITING + 10):
            tracking_.numbers(step, "train", {"total": 1.0})
        ending = time.monotonic()
    assert time.monotonic() - ending < 1
    assert "--track fake: it does not answer; 10011 of its messages were lost" in capsys.readouterr().err


def test_a_run_that_fails_ends_its_tracked_run_as_failed(
    tmp_path: Path, tiny_experiment: Experiment, fake: Fake
) -> None:
    with pytest.raises(ZeroDivisionError), tracked(("fake",), tiny_experiment, tmp_path):
        raise ZeroDivisionError
    assert fake.of("end") == [(False,)]


@pytest.mark.parametrize("content", ["[]", "{", '{"fake": 3}', '{"fake": "../x"}', "[" * 100_000])
def test_ids_that_hmrb_did_not_write_are_not_used(
    tmp_path: Path, tiny_experiment: Experiment, fake: Fake, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tracked.json").write_text(content)
    with tracked(("fake",), tiny_experiment, tmp_path):
        pass
    assert fake.of("begin")[0][1] == ""
    assert "tracked as a new one" in capsys.readouterr().err
    assert json.loads((tmp_path / "tracked.json").read_text()) == {"fake": "id-1"}


def test_a_broken_package_stops_nothing(
    tmp_path: Path, tiny_experiment: Experiment, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> Fake:
        raise AttributeError("half an installation")

    monkeypatch.setitem(TRACKERS, "fake", broken)
    with tracked(("fake",), tiny_experiment, tmp_path) as tracking_:
        tracking_.numbers(0, "train", {"total": 1.0})
    assert "--track fake: AttributeError: half an installation" in capsys.readouterr().err


def test_without_trackers_there_is_no_thread_and_no_file(tmp_path: Path, tiny_experiment: Experiment) -> None:
    before = threading.active_count()
    with tracked((), tiny_experiment, tmp_path) as tracking_:
        assert threading.active_count() == before
    assert tracking_ is tracking.UNTRACKED
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hmrb.training.trackers.find_spec", lambda name: None)
    done = hmrb("train", spec_file(tmp_path), "--track", "wandb", "--track", "mlflow", "--out", str(tmp_path / "run"))
    refused(done, "--track wandb needs wandb: pip install 'hmrb[wandb]'", "pip install 'hmrb[mlflow]'")
    assert not (tmp_path / "run").exists()


def test_a_folder_with_a_package_s_name_is_no_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "no_such_tracker").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Exception, match="--track no_such_tracker needs"):
        check_trackers(["no_such_tracker"])


def test_the_command_line_knows_the_trackers() -> None:
    assert [name.value for name in TrackerName] == list(TRACKERS)


def test_no_folder_of_a_machine_is_sent() -> None:
    tree = {"a": "/home/me/x.pt", "b": ["~/y.npz", "C:\\data\\z.h5"], "c": {"d": "relative/w.pt", "e": 1, "f": None}}
    assert without_folders(tree) == {
        "a": "x.pt", "b": ["y.npz", "z.h5"], "c": {"d": "relative/w.pt", "e": 1, "f": None},
    }  # fmt: skip


def test_nested_values_by_dotted_names() -> None:
    assert flat({"a": {"b": 1e-4, "c": {}}, "d": [1, "x"], "e": "text", "f": None}) == {
        "a.b": "0.0001", "a.c": "{}", "d": '[1, "x"]', "e": "text", "f": "null",
    }  # fmt: skip


def test_a_training_passes_its_trackers_on(tmp_path: Path, tiny_experiment: Experiment) -> None:
    from hmrb.cli.launch import Processes
    from hmrb.cli.train import Training

    made = Training(tiny_experiment, tmp_path, Store(tmp_path), False, 0, track=("wandb", "mlflow"))
    assert made.command(Processes(1, False)).words[-4:] == ("--track", "wandb", "--track", "mlflow")
    assert Run(tmp_path).folder == made.folder
