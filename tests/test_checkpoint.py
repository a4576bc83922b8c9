import errno
import fcntl
import io
import os
import pickle
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hmrb.checkpoint import (
    Checkpoint,
    CheckpointError,
    DamagedCheckpoint,
    Run,
    asdict_shallow,
    code_version,
    forget_exit_code,
    hold,
    load_checkpoint,
    load_weights_into,
    newest_checkpoint,
    open_run,
    record_exit_code,
    recorded_exit_code,
    save_checkpoint,
)
from hmrb.errors import RequestError, RunError
from hmrb.models.hmr import build_model
from hmrb.spec import CheckpointSpec, Experiment, HeadSpec


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
    with pytest.raises(
        RunError, match=r"could not write the checkpoint \(No space left on device\); the previous one is kept"
    ):
        save_checkpoint(replace(checkpoint, step=8), tmp_path / "last.pt")
    assert load_checkpoint(tmp_path / "last.pt").step == 7
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_the_checkpoint_before_stands_in_for_a_damaged_last(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert newest_checkpoint(run) is None
    save_checkpoint(replace(checkpoint, step=6), run.last, older=run.before)
    save_checkpoint(checkpoint, run.last, older=run.before)
    found = newest_checkpoint(run)
    assert found
    assert (found.checkpoint.step, found.damage) == (7, "")
    content = bytearray(run.last.read_bytes())
    content[len(content) // 2] ^= 1
    run.last.write_bytes(content)
    found = newest_checkpoint(run)
    assert found
    assert found.checkpoint.step == 6
    assert "last.pt: refused: not an hmrb checkpoint, truncated" in found.damage
    assert found.damage.endswith("the run continues from last.1.pt, step 6")
    run.last.unlink()  # the state after a process dies between two renames
    found = newest_checkpoint(run)
    assert found
    assert (found.checkpoint.step, found.damage) == (6, "")
    run.before.rename(run.last)
    run.last.write_bytes(b"")
    with pytest.raises(CheckpointError, match="last.pt: refused: not an hmrb checkpoint"):
        newest_checkpoint(run)


def test_a_checkpoint_of_another_format_is_no_damage(checkpoint: Checkpoint, tmp_path: Path) -> None:
    run = Run(tmp_path)
    save_checkpoint(checkpoint, run.last, older=run.before)
    save_checkpoint(replace(checkpoint, format=99), run.last, older=run.before)
    with pytest.raises(CheckpointError, match=r"last\.pt: checkpoint format 99; this hmrb reads format 1"):
        newest_checkpoint(run)


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
    with pytest.raises(CheckpointError, match="not an hmrb checkpoint|checkpoint format"):
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
    with pytest.raises(RequestError, match="already holds a run: continue with --resume, or choose another folder"):
        open_run(tmp_path / "run", tiny_experiment, resume=False)
    assert open_run(tmp_path / "run", tiny_experiment, resume=True).last.exists()
    other = tiny_experiment.model_copy(update={"seed": 5})
    with pytest.raises(RequestError, match="holds a run of another spec:\n  seed: 0 in the folder, 5 requested"):
        open_run(tmp_path / "run", other, resume=True)


def test_a_spec_that_keeps_other_checkpoints_is_the_same_run(
    checkpoint: Checkpoint, tiny_experiment: Experiment, tmp_path: Path
) -> None:
    save_checkpoint(checkpoint, Run(open_run(tmp_path / "run", tiny_experiment, resume=False).folder).last)
    other = tiny_experiment.model_copy(update={"checkpoints": CheckpointSpec(minutes=1, every_epochs=2)})
    assert open_run(tmp_path / "run", other, resume=True).last.exists()


def test_epochs_are_in_order_when_their_numbers_grow_longer(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for epoch in (10000, 2, 9999):
        run.of_epoch(epoch).touch()
    assert run.of_epochs == [run.of_epoch(epoch) for epoch in (2, 9999, 10000)]


def test_a_recorded_exit_code_is_the_first_one(tmp_path: Path) -> None:
    assert recorded_exit_code(tmp_path) is None
    record_exit_code(tmp_path, 2)
    record_exit_code(tmp_path, 1)
    assert recorded_exit_code(tmp_path) == 2
    forget_exit_code(tmp_path)
    forget_exit_code(tmp_path)
    assert recorded_exit_code(tmp_path) is None
    (tmp_path / ".exit-code").touch()  # written to a full disk
    assert recorded_exit_code(tmp_path) == 1


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    with hold(tmp_path / "run"):
        with (
            pytest.raises(RequestError, match=rf"is in use by another run \(process {os.getpid()}\)"),
            hold(tmp_path / "run"),
        ):
            pass
    with hold(tmp_path / "run"):
        pass


def test_the_code_version_tells_a_changed_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worktree, whose .git is a file; packed refs; then a changed file."""

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path / "main"), "-c", "user.name=a", "-c", "user.email=a@b", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "main" / "hmrb").mkdir(parents=True)
    (tmp_path / "main" / "hmrb" / "checkpoint.py").write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    git("pack-refs", "--all")
    git("worktree", "add", "-q", str(tmp_path / "tree"))
    file = tmp_path / "tree" / "hmrb" / "checkpoint.py"
    monkeypatch.setattr("hmrb.checkpoint.__file__", str(file))
    code_version.cache_clear()
    assert code_version().endswith(f"+{git('rev-parse', 'HEAD')[:10]}")
    file.write_text("two")
    code_version.cache_clear()
    assert code_version().endswith("-dirty")
    code_version.cache_clear()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_not_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with hold(tmp_path / "run"):
        assert "run cannot be locked" in capsys.readouterr().err


def encrypted(content: bytes) -> bytes:
    """A zip whose members are marked as encrypted."""
    out = bytearray(content)
    at = out.find(b"PK\1\2")
    while at >= 0:
        out[at + 8] |= 1
        at = out.find(b"PK\1\2", at + 4)
    return bytes(out)


def bomb(content: bytes) -> bytes:
    """A checkpoint with one more member, which unpacks to 300 MB."""
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a", zipfile.ZIP_DEFLATED) as parts, parts.open("archive/data/99", "w") as member:
        for _ in range(30):
            member.write(bytes(10_000_000))
    return file.getvalue()


def flipped(content: bytes) -> bytes:
    out = bytearray(content)
    out[content.rindex(b"PK\1\2") + 50] ^= 0x80  # a letter of a member's name
    return bytes(out)


DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "encrypted": (encrypted, "it is encrypted"),
    "a bomb": (bomb, "it is compressed, which torch never writes"),
    "a flipped bit of a name": (flipped, ""),
    "html": (lambda content: b"<!DOCTYPE html><html>", "it is an HTML page"),
    "git lfs": (
        lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        "it is a Git LFS pointer",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_checkpoint_before_stands_in_for_every_damage(checkpoint: Checkpoint, tmp_path: Path, kind: str) -> None:
    run = Run(tmp_path)
    save_checkpoint(replace(checkpoint, step=6), run.last, older=run.before)
    save_checkpoint(checkpoint, run.last, older=run.before)
    damage, words = DAMAGE[kind]
    run.last.write_bytes(damage(run.last.read_bytes()))
    found = newest_checkpoint(run)
    assert found
    assert found.checkpoint.step == 6
    assert "last.pt: refused: not an hmrb checkpoint" in found.damage
    assert words in found.damage


WRONG_FIELDS = {
    "spec": "x", "body": None, "model": {"a": "x"}, "step": "7", "score": "low", "shards": [], "training": 3,
}  # fmt: skip


@pytest.mark.parametrize("field", WRONG_FIELDS)
def test_fields_of_another_type_are_one_message(checkpoint: Checkpoint, tmp_path: Path, field: str) -> None:
    torch.save({**asdict_shallow(checkpoint), field: WRONG_FIELDS[field]}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=f"a.pt: refused: .*: {field} of another type than hmrb writes"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_checkpoint_that_cannot_be_read_is_no_damage(
    checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_checkpoint(checkpoint, tmp_path / "a.pt")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(zipfile, "ZipFile", refuse)
    with pytest.raises(CheckpointError, match="a.pt: not readable by this user") as error:
        load_checkpoint(tmp_path / "a.pt")
    assert not isinstance(error.value, DamagedCheckpoint)


@pytest.mark.parametrize(
    ("turn", "said"),
    [
        (torch.Tensor.to_sparse, "model of another type than hmrb writes"),
        (lambda value: torch.zeros(1).expand(value.shape), "model of another type than hmrb writes"),
        (lambda value: value.to(torch.complex64), "has numbers of type torch.complex64, the model has torch.float32"),
        (torch.Tensor.long, "has numbers of type torch.int64, the model has torch.float32"),
    ],
    ids=["sparse", "one number for all", "complex", "integers"],
)
def test_tensors_that_hmrb_does_not_write_are_one_message(
    turn: Callable[[torch.Tensor], torch.Tensor],
    said: str,
    checkpoint: Checkpoint,
    tiny_experiment: Experiment,
    tmp_path: Path,
) -> None:
    name = next(key for key, value in checkpoint.model.items() if value.is_floating_point() and value.numel() > 1)
    model = {**checkpoint.model, name: turn(checkpoint.model[name])}
    save_checkpoint(replace(checkpoint, model=model), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=said):
        load_weights_into(build_model(tiny_experiment.model), load_checkpoint(tmp_path / "a.pt"), "a")


def test_an_empty_table_is_no_text(checkpoint: Checkpoint, tmp_path: Path) -> None:
    torch.save({**asdict_shallow(checkpoint), "chosen_by": {}}, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match="chosen_by of another type than hmrb writes"):
        load_checkpoint(tmp_path / "a.pt")


def test_a_giant_head_in_a_checkpoint_s_spec_is_refused_before_it_is_built(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    spec = checkpoint.spec.replace('"hidden":16', '"hidden":1000000')
    save_checkpoint(replace(checkpoint, spec=spec), tmp_path / "a.pt")
    with pytest.raises(RequestError, match=r"the spec inside the checkpoint: model.head.hidden: .*16384, got 1000000"):
        load_checkpoint(tmp_path / "a.pt").experiment()
