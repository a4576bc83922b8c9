"""`hmrb train --seeds --sweep`: which runs it makes, how they are named, what it refuses."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from command import hmrb, refused, spec_file
from conftest import tiny_tree

from hmrb.cli.many import Command
from hmrb.cli.sweep import split_values
from hmrb.store import Store

SWEEP = ("--seeds", "2", "--sweep", "optim.lr=1e-4,3e-4")
NAMES = [f"tiny.optim.lr_{lr}.seed_{seed}" for lr in ("1e-4", "3e-4") for seed in (0, 1)]


def names(stdout: str) -> list[str]:
    return [line.split()[0] for line in stdout.splitlines()[:-1]]


def test_a_dry_run_lists_the_runs_and_their_number(tiny_store: Store, tmp_path: Path) -> None:
    done = hmrb("train", spec_file(tmp_path), *SWEEP, "--dry-run", "--out", "there", home=tiny_store.root)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(done.stdout) == NAMES
    assert done.stdout.splitlines()[1] == f"{NAMES[1]}  seed=1  optim.lr=1e-4  there/{NAMES[1]}"
    assert done.stdout.splitlines()[-1] == "4 runs"


def test_several_sweeps_are_their_product(tiny_store: Store, tmp_path: Path) -> None:
    words = (
        "--sweep",
        "optim.lr=1e-4,3e-4",
        "--sweep",
        "evals.benches=[synthetic],[synthetic, synthetic-val]",
        "--dry-run",
    )
    done = hmrb("train", spec_file(tmp_path), *words, home=tiny_store.root)
    assert names(done.stdout) == [
        f"tiny.optim.lr_{lr}.evals.benches_{benches}"
        for lr in ("1e-4", "3e-4")
        for benches in ("synthetic", "synthetic-synthetic-val")
    ]


def test_seeds_count_from_the_spec_s_own_and_can_be_listed(tiny_store: Store, tmp_path: Path) -> None:
    spec = spec_file(tmp_path)
    counted = hmrb("train", spec, "--seeds", "2", "--set", "seed=5", "--dry-run", home=tiny_store.root)
    assert names(counted.stdout) == ["tiny.seed_5", "tiny.seed_6"]
    listed = hmrb("train", spec, "--sweep", "seed=3,7", "--dry-run", home=tiny_store.root)
    assert names(listed.stdout) == ["tiny.seed_3", "tiny.seed_7"]


def test_commas_in_brackets_and_quotes_part_no_values() -> None:
    assert split_values("1e-4, 3e-4") == ["1e-4", "3e-4"]
    assert split_values("[1, 2],[3]") == ["[1, 2]", "[3]"]
    assert split_values("{a: [1, 2], b: 'x,y'},\"z,{\"") == ["{a: [1, 2], b: 'x,y'}", '"z,{"']
    assert split_values("1,") == ["1", ""]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--sweep", "optim.lrr=1,2"], "optim.lrr: no such field; did you mean 'lr'?"),
        (["--sweep", "optim.lr=1e-4,fast"], "optim.lr: should be a valid number"),
        (["--sweep", "optim.lr.x=1,2"], "--sweep optim.lr.x=1: 'lr' is not a table"),
        (["--sweep", "optim.lr"], "--sweep optim.lr: write it as field.field=value,value"),
        (["--sweep", "optim.lr=1e-4,"], "write it as field.field=value,value"),
        (["--sweep", "optim.lr=1,1"], "1 is there twice"),
        (["--sweep", "optim.lr=1e-4,0.0001"], "are the same run; give each value once"),
        (["--sweep", "optim.lr=1", "--sweep", "optim.lr=2"], "--sweep optim.lr: given twice; put all its values"),
        (["--sweep", "name=a,b"], "runs are named by what is swept"),
        (["--seeds", "2", "--sweep", "seed=1,2"], "--seeds 2 chooses the seeds already"),
        (["--seeds", "2", "--set", "seed=2147483647"], "the last seed is 2147483647"),
        (["--seeds", "1001"], "make 1001 runs, at most 1000 are allowed"),
        (["--sweep", "body=open,open?"], "no body named 'open?'"),
        (["--sweep", "evals.select_on=synthetic-val,synthetic_val"], "are the same run"),
        (["--sweep", f"optim.lr=0.{'0' * 200}1"], "has 217 letters, at most 200 fit"),
        (["--seeds", "2", "--find-batch", "--gpus", "0"], "--find-batch: takes one run"),
    ],
)
def test_a_wrong_sweep_is_refused_before_anything_starts(
    tiny_store: Store, tmp_path: Path, words: list[str], said: str
) -> None:
    done = hmrb("train", spec_file(tmp_path), *words, "--out", str(tmp_path / "runs"), home=tiny_store.root)
    refused(done, said)
    assert len(done.stderr.splitlines()) <= 2
    assert not (tmp_path / "runs").exists()


def test_swept_runs_train_resume_and_are_rows_of_a_report(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []

    def run_commands(commands: Sequence[Command], slots: Sequence[str]) -> None:
        """In this process, one after the other."""
        for command in commands:
            done = hmrb(*command.words, home=tiny_store.root)
            assert done.returncode == 0, done.stderr
            ran.append(command.name)

    monkeypatch.setattr("hmrb.cli.many.run_commands", run_commands)
    monkeypatch.setattr("hmrb.run.write_report", lambda folder, *rest: folder)  # pictures take seconds
    tree = tiny_tree()
    spec = spec_file(tmp_path, optim=tree["optim"] | {"epochs": 1}, evals={"benches": ["synthetic"], "select_on": None})
    words = ("train", spec, *SWEEP, "--gpus", "0", "--out", str(tmp_path / "runs"))
    done = hmrb(*words, home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    assert ran == NAMES
    folders = [tmp_path / "runs" / name for name in NAMES]
    specs = [yaml.safe_load((folder / "spec.yaml").read_text()) for folder in folders]
    assert [(one["name"], one["seed"], one["optim"]["lr"]) for one in specs] == [
        (f"tiny.optim.lr_{lr:.0e}".replace("e-0", "e-"), seed, lr) for lr in (1e-4, 3e-4) for seed in (0, 1)
    ]
    refused(hmrb(*words, home=tiny_store.root), *(f"{folder} already holds a run" for folder in folders))
    monkeypatch.setattr("hmrb.cli.many.run_commands", lambda commands, slots: ran.extend(c.name for c in commands))
    assert hmrb(*words, "--resume", "--parallel", "2", home=tiny_store.root).returncode == 0
    assert ran == [*NAMES, *NAMES]
    table = json.loads(hmrb("report", *map(str, folders), "--json").stdout)
    rows = [(row["experiment"], row["seeds"]) for row in table[0]["rows"]]
    assert rows == [("tiny.optim.lr_1e-4", [0, 1]), ("tiny.optim.lr_3e-4", [0, 1])]


def test_a_sweep_under_slurm_is_an_array(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[list[str], dict[str, object]]] = []
    monkeypatch.setattr("hmrb.cli.slurm.check_slurm", lambda: None)
    monkeypatch.setattr(
        "hmrb.cli.slurm.submit",
        lambda commands, asked, papers, follow: sent.append(([c.name for c in commands], asked)),
    )
    words = ("--slurm", "--gpus", "0", "--parallel", "2", "--out", str(tmp_path / "runs"))
    done = hmrb("train", spec_file(tmp_path), *SWEEP, *words, home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    ((found, asked),) = sent
    assert (found, asked["array_parallelism"]) == (NAMES, 2)
