import os
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hmrb.checkpoint import (
    Checkpoint,
    CheckpointError,
    Run,
    hold,
    load_checkpoint,
    load_weights_into,
    open_run,
    save_checkpoint,
)
from hmrb.errors import RequestError, RunError
from hmrb.models.hmr import build_model
from hmrb.spec import Experiment, HeadSpec


@pytest.fixture
def checkpoint(tiny_experiment: Experiment) -> Checkpoint:
    return Checkpoint(
        spec=tiny_experiment.model_dump_json(),
        model=build_model(tiny_experiment.model).state_dict(),
        training={},
        step=7,
        body={"name": "open", "sha": "0"},
        shards={"synthetic": "1"},
        chosen_by="synthetic-val",
        score=80.0,
        code_version="0",
        torch_version="0",
    )


def test_a_checkpoint_comes_back_with_its_spec(
    checkpoint: Checkpoint, tiny_experiment: Experiment, tmp_path: Path
) -> None:
    save_checkpoint(checkpoint, tmp_path / "last.pt")
    again = load_checkpoint(tmp_path / "last.pt")
    assert again.experiment() == tiny_experiment
    assert (again.step, again.chosen_by, again.score) == (7, "synthetic-val", 80.0)
    assert all(torch.equal(again.model[key], value) for key, value in checkpoint.model.items())


def test_a_run_s_folder_stands_for_its_best_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    save_checkpoint(checkpoint, tmp_path / "last.pt")
    assert load_checkpoint(tmp_path).step == 7
    save_checkpoint(replace(checkpoint, step=5), tmp_path / "best.pt")
    assert load_checkpoint(tmp_path).step == 5


def test_a_full_disk_keeps_the_checkpoint_before(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(checkpoint, tmp_path / "last.pt")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"could not be written \(No space left on device\); the one before is kept"):
        save_checkpoint(replace(checkpoint, step=8), tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt").step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch exploded",)


@pytest.mark.parametrize(
    "kind", ["bomb", "torch bomb", "cut", "empty", "text", "weights", "other fields", "other format"]
)
def test_what_is_no_checkpoint_is_refused_and_not_run(
    kind: str, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    save_checkpoint(checkpoint, path)
    if kind == "bomb":
        path.write_bytes(pickle.dumps({"format": 1, "model": Bomb()}))
    elif kind == "torch bomb":
        torch.save({"format": 1, "model": Bomb()}, path)
    elif kind == "cut":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "weights":
        torch.save(checkpoint.model, path)
    elif kind == "other fields":
        torch.save({"format": 1, "weights": {}}, path)
    elif kind == "other format":
        save_checkpoint(replace(checkpoint, format=99), path)
    else:
        path.write_text("" if kind == "empty" else "hello")
    with pytest.raises(CheckpointError, match="no checkpoint of hmrb|checkpoint format"):
        load_checkpoint(path)
    assert not (tmp_path / "exploded").exists()


def test_a_checkpoint_of_another_architecture_says_what_differs(
    checkpoint: Checkpoint, tiny_experiment: Experiment
) -> None:
    spec = tiny_experiment.model.model_copy(update={"head": HeadSpec(name="direct", steps=1, hidden=32)})
    with pytest.raises(
        CheckpointError, match=r"best\.pt: a checkpoint of another architecture: head\.layers.* has shape"
    ):
        load_weights_into(build_model(spec), checkpoint, "best.pt")
    spec = tiny_experiment.model.model_copy(update={"head": HeadSpec(hidden=16)})
    with pytest.raises(CheckpointError, match=r"head\.fc1\.weight is missing; .* more"):
        load_weights_into(build_model(spec), checkpoint, "best.pt")


def test_a_folder_with_a_run_is_not_overwritten(
    checkpoint: Checkpoint, tiny_experiment: Experiment, tmp_path: Path
) -> None:
    open_run(tmp_path / "run", tiny_experiment, resume=False)
    save_checkpoint(checkpoint, Run(tmp_path / "run").last)
    with pytest.raises(RequestError, match="holds a run already: go on with --resume, or choose another folder"):
        open_run(tmp_path / "run", tiny_experiment, resume=False)
    assert open_run(tmp_path / "run", tiny_experiment, resume=True).last.exists()
    other = tiny_experiment.model_copy(update={"seed": 5})
    with pytest.raises(RequestError, match="holds a run of another spec:\n  seed: 0 there, 5 asked"):
        open_run(tmp_path / "run", other, resume=True)


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        with (
            pytest.raises(RequestError, match=rf"is in use by another run \(process {os.getpid()}\)"),
            hold(tmp_path / "run"),
        ):
            pass
    with hold(tmp_path / "run"):
        pass
