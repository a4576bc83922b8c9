"""The command line as a user sees it: start-up time, messages, exit codes."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import h5py
import pytest
import yaml
from command import hmrb, refused, spec_file
from conftest import person, tiny_tree, write_shard
from forked import Forked, start_server

from hmrb.cli import app
from hmrb.cli.eval import _sort_arguments
from hmrb.evaluation.records import read_record
from hmrb.store import Store

start_server()


SPEC = str(Path(__file__).parents[2] / "specs" / "quickstart.yaml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("train", "nothere.yaml"), "nothere.yaml: not a readable spec"),
        (("train", SPEC, "--set", "model.backbone=resnet50", "--set", "evals.benches=[3dpww]"), "Did you mean '3dpw'"),
        (("train", SPEC, "--dry-run"), "name: quickstart"),
        (("report", "nothere"), "nothere: not a readable hmrb result"),
        (("compare", "nothere", "nothere"), "nothere: not a readable hmrb result"),
        (("report", str(Path(SPEC).parents[1] / "docs" / "results" / "quickstart"), "--overview"), "| MPJPE mm ↓ |"),
    ],
)
def test_paths_and_names_are_checked_before_torch_is_imported(words: tuple[str, ...], said: str) -> None:
    script = (
        "import sys; sys.argv = ['hmrb', *sys.argv[1:]]\n"
        "from hmrb.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'timm', 'smplx'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=True)
    assert said in done.stdout + done.stderr
    assert "heavy: []" in done.stdout


def test_help_imports_neither_torch_nor_timm() -> None:
    script = (
        "import sys; sys.argv = ['hmrb', *sys.argv[1:]]\n"
        "from hmrb.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('heavy:', sorted({'torch', 'timm', 'numpy', 'cv2', 'h5py'} & set(sys.modules)))"
    )
    for arguments in (["--help"], ["train", "--help"], ["show-augment", "--help"], ["--version"]):
        done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert "heavy: []" in done.stdout, arguments
    heavy = script.replace("try: main()", "import numpy\ntry: main()")
    done = subprocess.run([sys.executable, "-c", heavy, "--help"], capture_output=True, text=True, check=True)
    assert "heavy: ['numpy']" in done.stdout  # proves that the check above can fail


def test_version_and_module() -> None:
    done = hmrb("--version")
    assert done.returncode == 0
    assert done.stdout.startswith("hmrb 0.")
    module = subprocess.run([sys.executable, "-m", "hmrb", "--version"], capture_output=True, text=True, check=True)
    assert module.stdout == done.stdout


def test_dry_run_prints_the_resolved_spec(tmp_path: Path) -> None:
    done = hmrb("train", spec_file(tmp_path), "--dry-run", "--set", "optim.lr=5e-4")
    assert done.returncode == 0, done.stderr
    resolved = yaml.safe_load(done.stdout)
    assert (resolved["optim"]["lr"], resolved["model"]["image_px"]) == (5e-4, 32)


def test_a_misspelt_key(tmp_path: Path) -> None:
    tree = tiny_tree()
    tree["optim"]["epoch"] = 3
    done = hmrb("train", spec_file(tmp_path, optim=tree["optim"]))
    refused(done, f"hmrb: {tmp_path}/tiny.yaml: optim.epoch: no such field; did you mean 'epochs' or 'step_epochs'?")


def test_an_unknown_dataset(tmp_path: Path) -> None:
    done = hmrb("train", spec_file(tmp_path, data={"mix": {"sintetic": 1.0}}))
    refused(done, "no dataset named 'sintetic'. Did you mean 'synthetic'")


def test_shares_of_110_percent(tmp_path: Path) -> None:
    done = hmrb("train", spec_file(tmp_path, data={"mix": {"synthetic": 0.6, "synthetic_full": 0.5}}))
    refused(done, "data.mix: shares sum to 1.1, but must sum to 1")


def test_a_spec_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("name: [unclosed")
    refused(hmrb("train", str(tmp_path / "bad.yaml")), "bad.yaml: not a readable spec: invalid YAML")
    refused(hmrb("train", str(tmp_path / "gone.yaml")), "not a readable spec: no such file")


def test_eight_gpus_on_a_machine_without(tmp_path: Path) -> None:
    done = hmrb("train", spec_file(tmp_path), "--set", "optim.batch=8", "--gpus", "8", CUDA_VISIBLE_DEVICES="")
    refused(done, "hmrb: --gpus 8: this machine has none (CUDA_VISIBLE_DEVICES=); use fewer, or --cpu-procs N to train")
    assert len(done.stderr.splitlines()) == 1


def test_a_missing_body_and_a_missing_shard_come_in_one_message(tmp_path: Path) -> None:
    tree = {"body": "smpl", "evals": {"benches": ["3dpw"], "select_on": "3dpw_val"}}
    store = Store(tmp_path)
    for split in ("train", "val", "test"):
        write_shard(store.shard("synthetic", split), [person(0)], split=split)
    done = hmrb("train", spec_file(tmp_path, **tree), home=tmp_path)
    refused(done, "hmrb: tiny needs 7 things that are not here:", "hmrb convert-data body")
    refused(done, "shards 3dpw_test, 3dpw_val ", "https://virtualhumans.mpi-inf.mpg.de/3DPW/")
    assert done.stderr.endswith(f"\nMore: hmrb doctor {tmp_path}/tiny.yaml\n")


def test_a_truncated_shard(tiny_store: Store, tmp_path: Path) -> None:
    path = tiny_store.shard("synthetic", "train")
    path.write_bytes(path.read_bytes()[:-500])
    refused(
        hmrb("train", spec_file(tmp_path), home=tiny_store.root),
        f"{path}: file is truncated; delete it and recreate it",
    )


def test_a_corrupt_picture(tiny_store: Store, tmp_path: Path) -> None:
    people = [person(i) for i in range(20)]
    people[4] = replace(people[4], jpeg=b"\xff\xd8\xff no picture")
    write_shard(tiny_store.shard("synthetic", "train"), people)
    spec = spec_file(tmp_path)
    out = str(tmp_path / "run")
    done = hmrb("train", spec, "--out", out, home=tiny_store.root)
    refused(done, "1 unreadable images, data.unreadable_limit allows 0", "person/004: image cannot be decoded", code=1)
    done = hmrb("train", spec, "--set", "data.unreadable_limit=1", "--out", f"{out}2", home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    assert "person/004: image cannot be decoded; replaced by another draw" in done.stdout


def test_a_folder_in_use(tiny_store: Store, tmp_path: Path) -> None:
    from hmrb.checkpoint import hold

    with hold(tmp_path / "run"):
        done = hmrb("train", spec_file(tmp_path), "--out", str(tmp_path / "run"), home=tiny_store.root)
    refused(done, "is in use by another run")


def test_a_folder_that_can_t_be_made(tiny_store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = hmrb("train", spec_file(tmp_path), "--out", str(tmp_path / "file" / "run"), home=tiny_store.root)
    refused(done, "Not a directory")


def test_eval_says_what_is_wrong(tiny_store: Store, tmp_path: Path) -> None:
    refused(hmrb("eval", str(tmp_path / "gone.pt"), "--bench", "synthetic"), "gone.pt: no such checkpoint")
    refused(
        hmrb("eval", str(tmp_path), "--bench", "sintetic"), "no benchmark named 'sintetic'. Did you mean 'synthetic'"
    )
    (tmp_path / "x.pt").write_text("hello")
    refused(hmrb("eval", str(tmp_path / "x.pt"), "--bench", "synthetic"), "x.pt: refused: not an hmrb checkpoint")
    done = hmrb("eval", "--from-predictions", str(tmp_path / "x.pt"), "synthetic", str(tmp_path))
    refused(done, "--from-predictions scores one file and no checkpoint; leave out ")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("runs/b", "runs/b: no such checkpoint or run; hmrb list-benches"),
        ("./b", "./b: no such checkpoint or run"),
        ("b.pt", "b.pt: no such checkpoint or run"),
        ("3dpw/smpl42", "no benchmark named '3dpw/smpl42'"),
        ("sintetic", "no benchmark named 'sintetic'. Did you mean"),
    ],
)
def test_a_word_that_looks_like_a_path_is_one(word: str, said: str) -> None:
    refused(hmrb("eval", "runs/a", word, "--bench", "synthetic"), said)


def test_benchmarks_are_told_from_files_of_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "x.txt").write_text("hello")
    words = ["x.txt", "synthetic", "./synthetic", "3dpw/smpl24", "study", "pa-mpjpe"]
    paths, names = [Path("x.txt"), Path("synthetic")], ["synthetic", "3dpw/smpl24", "study"]
    assert _sort_arguments(words, True) == (paths, names, ["pa-mpjpe"])


def test_convert_data_makes_the_same_bytes_in_any_number_of_processes(tmp_path: Path) -> None:
    for workers in ("1", "3"):
        done = hmrb(
            "convert-data", "synthetic", "--people", "12", "--split", "train", "--workers", workers,
            "--out", str(tmp_path / workers),
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "synthetic_train.h5: 12 people" in done.stdout
    one, three = (Store(tmp_path / workers).shard("synthetic", "train") for workers in ("1", "3"))
    assert one.read_bytes() == three.read_bytes()
    assert cv2.imread(str(one.with_suffix(".png"))) is not None


def test_convert_data_says_what_is_wrong(tmp_path: Path) -> None:
    refused(hmrb("convert-data", "sinthetic"), "no dataset named 'sinthetic'. Did you mean 'synthetic'")
    refused(hmrb("convert-data", "synthetic", "--preset", "hard"), "no preset named 'hard'", "Known: easy, full")
    refused(hmrb("convert-data", "synthetic", "--split", "tset"), "no split 'tset'; available: train, val, test")
    refused(hmrb("convert-data", "synthetic", "--people", "0"), "'--people'")


@pytest.mark.parametrize(
    "verb", sorted(command.name or command.callback.__name__ for command in app.registered_commands)
)
def test_every_verb_has_help(verb: str) -> None:
    done = hmrb(verb, "--help")
    assert done.returncode == 0
    assert f"hmrb {verb}" in done.stdout


def test_a_dataset_that_makes_itself_is_made_when_it_is_missing(
    tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmrb.data.sources import synthetic

    monkeypatch.setattr(synthetic, "TRAIN_PEOPLE", 6)
    monkeypatch.setattr(synthetic, "TEST_PEOPLE", 5)
    spec = spec_file(tmp_path)
    done = hmrb("train", spec, "--out", str(tmp_path / "run"), home=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert "dataset 'synthetic' is missing: creating it (hmrb convert-data synthetic)" in done.stdout
    assert Store(tmp_path / "empty").shard("synthetic", "test").exists()
    assert "PA-MPJPE" in done.stdout
    again = hmrb("train", spec, "--out", str(tmp_path / "run2"), home=tmp_path / "empty")
    assert "creating it" not in again.stdout


def test_only_missing_splits_are_made_and_a_user_s_smaller_shard_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmrb.data.sources import synthetic

    monkeypatch.setattr(synthetic, "TEST_PEOPLE", 5)
    store = Store(tmp_path / "home")
    made = hmrb("convert-data", "synthetic", "--people", "4", "--seed", "3", "--split", "train", home=store.root)
    assert made.returncode == 0, made.stderr
    before = store.shard("synthetic", "train").read_bytes()
    done = hmrb("train", spec_file(tmp_path), "--out", str(tmp_path / "run"), home=store.root)
    assert done.returncode == 0, done.stderr
    assert store.shard("synthetic", "train").read_bytes() == before
    for split in ("val", "test"):
        assert f"synthetic {split} is missing: creating it (hmrb convert-data synthetic --split {split})" in done.stdout
    store.shard("synthetic", "train").write_bytes(b"no shard")
    store.shard("synthetic", "val").unlink()
    refused(hmrb("train", spec_file(tmp_path), "--out", str(tmp_path / "run2"), home=store.root), "synthetic_train.h5")
    assert store.shard("synthetic", "train").read_bytes() == b"no shard"


def untrained(path: Path, tree: dict[str, Any]) -> str:
    """A checkpoint with the initial weights of a spec's model."""
    import torch

    from hmrb.body import load_body
    from hmrb.checkpoint import Checkpoint, save_checkpoint
    from hmrb.models.hmr import build_model
    from hmrb.spec import parse_experiment

    experiment = parse_experiment(tree, "tiny")
    torch.manual_seed(experiment.seed)
    content = Checkpoint(
        spec=experiment.model_dump_json(), model=build_model(experiment.model).state_dict(), training={}, step=1,
        body={"name": "open", "sha": load_body("open").sha}, shards={}, chosen_by="a test", score=None, code_version="",
        torch_version="",
    )  # fmt: skip
    save_checkpoint(content, path)
    return str(path)


@pytest.mark.heavy  # by default: test_processes_share_the_people_and_give_the_same_digits
def test_processes_give_one_record_to_the_last_digit(tmp_path: Path) -> None:
    """150 people make three blocks; the last is not full."""
    people = [replace(person(i), has_body=True) for i in range(150)]
    write_shard(Store(tmp_path / "home").shard("synthetic", "test"), people, split="test")
    ours = untrained(tmp_path / "ours.pt", tiny_tree())
    shas = set()
    for count in ("1", "2", "3"):
        words = ("eval", ours, "--bench", "synthetic", "--cpu-procs", count, "--out", str(tmp_path / count))
        environment = {**os.environ, "HMRB_HOME": str(tmp_path / "home"), "FORK": "1"}
        assert Forked(Path(__file__).parents[1] / "driver.py", words, environment).communicate()[1] == ""
        record = read_record(tmp_path / count / "eval" / "synthetic.json")
        assert (record.machine.processes, record.num_people) == (int(count), 150)
        shas.add((record.samples_sha, record.metrics["mpjpe"].value))
    assert len(shas) == 1


def test_several_checkpoints_make_a_mean_and_a_spread_and_words_are_told_apart(
    tiny_store: Store, tmp_path: Path
) -> None:
    paths = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        paths.append(untrained(tmp_path / str(seed) / "best.pt", tiny_tree() | {"seed": seed}))
    words = ("eval", *paths, "--bench", "synthetic", "synthetic-val", "--metrics", "pa-mpjpe", "mpjpe", "--worst", "3")
    done = hmrb(*words, "--lean", home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    for fact in ("PA-MPJPE mm ↓  seeds ±", "synthetic-val/lsp14", "report: "):
        assert fact in done.stdout, done.stdout
    for seed in ("0", "1"):
        folder = tmp_path / seed / "eval"
        assert list(read_record(folder / "synthetic_val.json").metrics) == ["pa_mpjpe", "mpjpe"]
        assert (folder / "synthetic_worst.jpg").stat().st_size > 5000
        with h5py.File(folder / "synthetic_samples.h5") as file:
            assert "rotmats" not in file
    refused(hmrb("eval", *paths, "synthetic", "--out", "x", home=tiny_store.root), "--out takes one checkpoint")
    same = "would write their results to one folder"
    refused(hmrb("eval", paths[0], paths[0], "synthetic", home=tiny_store.root), same, "evaluate one at a time")
    refused(hmrb("eval", paths[0], "--bench", "synthetic", "--check", home=tiny_store.root), "expects no number")
    shard = tiny_store.shard("synthetic", "val")
    refused(hmrb("eval", paths[0], "--bench", str(shard), home=tiny_store.root), "goes by its name, synthetic_val")
    unknown = hmrb("eval", paths[0], "synthetic", "--metrics", "pa-mpje", home=tiny_store.root)
    refused(unknown, "no metric named 'pa-mpje'. Did you mean 'pa_mpjpe'")
    refused(
        hmrb("eval", paths[0], "synthetic", "--precision", "int8", home=tiny_store.root), "no precision named 'int8'"
    )
    kept = tmp_path / "0" / "eval" / "synthetic.json"
    before = kept.read_bytes()
    for less, what in (
        (("--metrics", "mpjpe"), "has PA-MPJPE, and would be replaced"),
        (("--metrics", "pa-mpjpe", "mpjpe", "--precision", "bf16"), "is in float32, and would be replaced"),
        (("--metrics", "mpjpe", "--crop", "method"), "has PA-MPJPE and is of the dataset's crops"),
    ):
        refused(hmrb("eval", paths[0], "--bench", "synthetic", *less, home=tiny_store.root), str(kept), what, "-o DIR")
        assert kept.read_bytes() == before
    other = hmrb("eval", paths[0], "--bench", "synthetic", "--metrics", "mpjpe", "-o", str(tmp_path / "x"),
                 home=tiny_store.root)  # fmt: skip
    assert other.returncode == 0, other.stderr
    again = hmrb("eval", paths[0], "--bench", "synthetic", home=tiny_store.root)  # more than before
    assert again.returncode == 0, again.stderr


def test_a_checkpoint_is_held_against_what_its_spec_expects(tiny_store: Store, tmp_path: Path) -> None:

    def saved(value: float) -> str:
        row = {"benchmark": "synthetic", "value": value, "tolerance": 1.0, "source": "a test"}
        return untrained(tmp_path / "ours.pt", tiny_tree() | {"expected": [row]})

    refused(
        hmrb("eval", saved(1.0), "--check", home=tiny_store.root),
        "results differ from the expected numbers",
        code=1,
    )
    done = hmrb("eval", str(tmp_path / "ours.pt"), "--bench", "synthetic", "--json", home=tiny_store.root)
    value = json.loads(done.stdout)[0]["metrics"]["pa_mpjpe"]["value"]
    from hmrb.evaluation.records import Record
    from hmrb.run import unmet
    from hmrb.spec import Expected

    def row(number: float) -> Expected:
        return Expected(benchmark="synthetic", value=number, tolerance=1.0, source="a test")

    records = [Record.model_validate(one) for one in json.loads(done.stdout)]
    assert unmet([row(value + 0.9)], records) == []
    assert unmet([row(value + 1.1)], records) == [f"synthetic PA-MPJPE {value + 1.1:g} ± 1 (a test): {value:.2f}"]
    assert unmet([row(1.0)], [])[0].endswith("not measured")
