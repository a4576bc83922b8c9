"""Several specs in one command."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from command import Done, hmrb, refused
from conftest import person, tiny_tree, write_shard

from hmrb.checkpoint import load_checkpoint
from hmrb.cli.launch import Processes
from hmrb.cli.many import Command, live_table, progress, share_gpus
from hmrb.cli.shipped import spec_files
from hmrb.errors import RequestError
from hmrb.store import Store


@pytest.fixture
def specs(tiny_store: Store, tmp_path: Path) -> list[str]:
    """Three specs; the second has an unreadable picture."""
    broken = [replace(person(0), jpeg=b"\xff\xd8\xff no picture")] + [person(i) for i in range(1, 20)]
    for split in ("train", "val", "test"):
        write_shard(tiny_store.shard("synthetic_full", split), broken, "synthetic_full", split)
    paths = []
    for name, mix in (("first", "synthetic"), ("broken", "synthetic_full"), ("last", "synthetic")):
        tree = tiny_tree() | {"name": name, "data": {"mix": {mix: 1.0}, "workers": 0}}
        tree["optim"]["epochs"] = 1
        paths.append(tmp_path / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(tree))
    return [str(path) for path in paths]


def train(specs: list[str], store: Store, out: Path, *options: str) -> Done:
    return hmrb("train", *specs, "--out", str(out), *options, home=store.root)


def test_a_failed_run_does_not_stop_the_rest(specs: list[str], tiny_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    specs = specs[1:]
    done = train(specs, tiny_store, out, "--parallel", "2")
    refused(
        done,
        "hmrb: 1 of 2 runs did not finish:",
        "  broken: failed: 1 unreadable images, data.unreadable_limit",
        code=1,
    )
    assert f"({out / 'broken' / 'output.log'})" in done.stderr
    first, *lines = done.stdout.splitlines()
    assert re.fullmatch(r"2 runs, about \d+ s with 2 at a time", first)
    ends = [line.split()[:2] for line in lines if "running" not in line]
    assert sorted(ends) == [["broken", "failed"], ["last", "done"]]
    assert load_checkpoint(out / "last" / "last.pt").step == 5
    assert "report: " in (out / "last" / "output.log").read_text()
    assert (out / "last" / "report.html").exists()
    resumed = train(specs, tiny_store, out, "--resume")
    assert resumed.stdout.startswith("1 run (1 of 2 are done already), about ")
    assert "last" not in resumed.stdout
    shutil.copy(out / "last" / "last.pt", out / "broken")
    again = train(specs, tiny_store, out)
    refused(again, f"{out / 'broken'} already holds a run", f"{out / 'last'} already holds a run")


def test_a_wrong_spec_among_many_is_refused_before_any_starts(
    specs: list[str], tiny_store: Store, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(yaml.safe_dump(tiny_tree() | {"name": "last", "losses": {"keypoint3d": {"distance": "l1"}}}))
    misnamed = tmp_path / "misnamed.yaml"
    misnamed.write_text(yaml.safe_dump(tiny_tree() | {"name": "last", "data": {"mix": {"sintetic": 1.0}}}))
    done = train([*specs, str(wrong), str(misnamed)], tiny_store, tmp_path / "runs")
    refused(
        done,
        f"{wrong}: losses.keypoint3d.weight: required",
        f"{misnamed}: no dataset named 'sintetic'",
        "name: 2 of the specs are named 'last' and would share one folder",
    )
    assert not (tmp_path / "runs").exists()


def test_files_that_are_missing_for_several_come_at_once(specs: list[str], tiny_store: Store, tmp_path: Path) -> None:
    for spec, dataset in zip(specs[:2], ("3dpw", "coco"), strict=True):
        tree = yaml.safe_load(Path(spec).read_text()) | {"data": {"mix": {dataset: 1.0}}}
        Path(spec).write_text(yaml.safe_dump(tree))
    done = train(specs, tiny_store, tmp_path / "runs")
    refused(done, "specs need 2 things that are not here", "shard 3dpw_train", "shard coco_train")
    assert not (tmp_path / "runs").exists()


@pytest.mark.heavy  # by default: one run, test_train.py
def test_a_signal_stops_all_runs_each_with_its_checkpoint(specs: list[str], tiny_store: Store, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "hmrb",
        "train",
        specs[0],
        specs[2],
        "--parallel",
        "2",
        "--set",
        "optim.epochs=900",
    ]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "runs")], env={**os.environ, "HMRB_HOME": str(tiny_store.root)},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    lasts = [tmp_path / "runs" / name / "last.pt" for name in ("first", "last")]
    deadline = time.time() + 120
    while not all(last.exists() for last in lasts) and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 143
    assert out.count("stopped") == 2
    for last in lasts:
        step = load_checkpoint(last).step
        assert f"hmrb: stopped at step {step} by SIGTERM" in (last.parent / "output.log").read_text()


def test_the_table_shows_state_step_and_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command("a", (), tmp_path / "output.log", epochs=4)
    assert progress(command) == ("", "")
    (tmp_path / "log.jsonl").write_text(
        '{"step": 20, "epoch": 2.0, "total": 1.0}\n{"step": 20, "pa_mpjpe": 71.26}\n{"step": 30, "pa_mpjpe": 80}\n{"st'
    )
    assert progress(command) == ("20 of 40", "71.3 mm")
    states = {"a": "waiting"}
    with live_table([command], states) as redraw:
        redraw()
        states["a"] = "running"
        redraw()
        redraw()
    assert capsys.readouterr().out == f"a  running  20 of 40  71.3 mm  {tmp_path}\n"


def test_runs_at_a_time_share_the_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 8)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert share_gpus(Processes(8, True), 3, None) == (Processes(2, True), ["0,1", "2,3", "4,5"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "8,9,10,11,12,13,14,15")
    assert share_gpus(Processes(4, True), 2, 4) == (Processes(4, True), ["8,9,10,11", "12,13,14,15"])
    assert share_gpus(Processes(2, False), 2, 0) == (Processes(2, False), ["", ""])
    with pytest.raises(RequestError, match="--parallel 3: each run uses 4 GPUs at a time, but this machine has 8"):
        share_gpus(Processes(4, True), 3, 4)
    with pytest.raises(RequestError, match="--nodes 2: several specs need --slurm to run on several machines"):
        share_gpus(Processes(4, True, nodes=2), 3, 4)


def test_a_folder_stands_for_the_specs_in_it(specs: list[str], tiny_store: Store, tmp_path: Path) -> None:
    """In order of their paths, hidden files apart; a run's folder, which holds its own spec, stands for itself."""
    folder = tmp_path / "question"
    (folder / "inner").mkdir(parents=True)
    for path, name in zip(specs, ("b.yaml", "a.yaml", "inner/c.yaml"), strict=True):
        (folder / name).write_bytes(Path(path).read_bytes())
    (folder / "._a.yaml").write_bytes(b"\0")
    assert spec_files(folder) == [folder / "a.yaml", folder / "b.yaml", folder / "inner" / "c.yaml"]
    assert len(spec_files(Path("specs/small-study/mix"))) == len(spec_files(Path("small_study/mix"))) == 6
    assert spec_files(Path("quickstart")) == [Path("quickstart")]
    listed = train([str(folder)], tiny_store, tmp_path / "runs", "--seeds", "2", "--dry-run").stdout
    assert [line.split()[0] for line in listed.splitlines()] == [
        *(f"{name}.seed_{seed}" for name in ("broken", "first", "last") for seed in (0, 1)), "6",
    ]  # fmt: skip
    (folder / "spec.yaml").write_bytes(b"")
    assert spec_files(folder) == [folder]
    (tmp_path / "none").mkdir()
    refused(train([str(tmp_path / "none")], tiny_store, tmp_path / "runs"), "none: a folder without a spec")
