"""What the commands do before they use a GPU, on a machine without one."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command import hmrb, refused, spec_file

from hmrb.cli.eval import Scoring
from hmrb.cli.launch import Processes
from hmrb.models import numerics
from hmrb.run import EvalOptions
from hmrb.store import Store


def test_a_batch_is_sought_on_a_gpu_and_for_one_spec(tmp_path: Path) -> None:
    spec = spec_file(tmp_path)
    refused(hmrb("train", spec, "--find-batch", CUDA_VISIBLE_DEVICES=""), "--find-batch: needs a GPU")
    done = hmrb("train", spec, "--find-batch", "--slurm", "--gpus", "1")
    refused(done, "--find-batch: takes one run, on this machine")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("value", "calls"), [("true", 1), ("false", 0)])
def test_a_workspace_is_reserved_before_a_gpu_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, calls: int
) -> None:
    called: list[str] = []
    monkeypatch.setattr(numerics, "reserve_workspace", lambda: called.append("reserved"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: called.append("counted") or 0)
    words = ("train", spec_file(tmp_path), "--set", f"speed.deterministic={value}", "--gpus", "4")
    refused(hmrb(*words), "this machine has none")
    assert called == ["reserved"] * calls + ["counted"]


def test_an_evaluation_elsewhere_has_the_same_workers(tmp_path: Path) -> None:
    scoring = Scoring(("best.pt",), (tmp_path / "best.pt",), (), EvalOptions(workers=3), None, Store(tmp_path), False)
    assert "--workers=3" in scoring.command(Processes(1, False)).words
    scoring = replace(scoring, options=EvalOptions())
    assert not [word for word in scoring.command(Processes(1, False)).words if "workers" in word]
