"""Shards as benchmarks by the rules of others, names of datasets as people write them, and files to fill."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused, spec_file
from conftest import person, write_shard

from hmrb.check import name_problems
from hmrb.cli.benches import chosen
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.protocols import ROWS, RULE_ALIASES, RULES, find_benchmark, with_rules
from hmrb.evaluation.records import read_record
from hmrb.lookup import UnknownName
from hmrb.spec import load_experiment
from hmrb.store import Store


def with_own(store: Store, *splits: str) -> Path:
    """Five labelled people as `mydata`."""
    for split in splits:
        people = [replace(person(row, seed=9), has_body=True) for row in range(5)]
        write_shard(store.shard("mydata", split), people, "mydata", split)
    return store.root


def test_a_shard_is_a_benchmark_of_a_spec_and_of_a_command(tiny_store: Store, tmp_path: Path) -> None:
    home = with_own(tiny_store, "train", "test")
    mix = {"mix": {"mydata": 0.5, "synthetic": 0.5}, "workers": 0}
    evals = {"benches": ["mydata/test/mpjpe14"], "select_on": None}
    out = str(tmp_path / "run")
    done = hmrb("train", spec_file(tmp_path, data=mix, evals=evals), "--out", out, "--gpus", "0", home=home)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run/eval/mydata-test-lsp14_h36mreg_pelvis_neutral.json"
    first = read_record(path)
    assert (first.benchmark, first.num_people) == ("mydata/test/lsp14_h36mreg_pelvis_neutral", 5)
    assert first.protocol.startswith("mydata-test/lsp14-h36mreg-pelvis-neutral@1+")
    assert first.conditions.shard["sha"] == Shard(tiny_store.shard("mydata", "test")).info.sha
    assert first.source.siblings_trained_on == ("mydata",)
    (tmp_path / "own.yaml").write_text("mydata: mpjpe14\n")
    for words in ((), ("--bench", "mydata", "--protocol", "mpjpe14"),
                  ("--bench", "mydata_test", "--protocol", str(tmp_path / "own.yaml"))):  # fmt: skip
        path.unlink()
        done = hmrb("eval", out, *words, "--gpus", "0", home=home)
        assert done.returncode == 0, done.stderr
        again = read_record(path)
        assert (again.metrics, again.comparable) == (first.metrics, first.comparable)
    assert "mydata-test/lsp14-h36mreg" in hmrb("report", str(path)).stdout


def test_which_shard_and_protocol_is_meant(tiny_store: Store, tmp_path: Path) -> None:
    with_own(tiny_store, "val")
    assert chosen(["mydata"], (), tiny_store, "pck2d")[0].name == "mydata/val/coco_smpl54_marked"
    with_own(tiny_store, "test")
    assert chosen(["mydata"], (), tiny_store, "pck2d")[0].split == "test"
    assert chosen(["synthetic_train"], (), tiny_store, "mpjpe14")[0].split == "train"
    (tmp_path / "own.yaml").write_text("other: pck2d\n")
    (tmp_path / "bad.yaml").write_text("[unclosed")
    write_shard(tiny_store.shard("half", "train"), [person(0)], "half", "train")
    for name, protocol, said in (
        ("mydata", "", "mydata: a shard without a protocol; choose one: --protocol pck2d"),
        ("mydata", "pck3d", "no protocol named 'pck3d'"),
        ("mydata", str(tmp_path / "own.yaml"), "names no protocol of mydata_test or mydata"),
        ("mydata", str(tmp_path / "bad.yaml"), "invalid YAML"),
        ("mydata", str(tmp_path / "gone.yaml"), "no such file"),
        ("half", "pck2d", "has no split test or val; name the one to score: half_train"),
        ("nobody", "pck2d", "no benchmark named 'nobody'"),
        ("synthetic", "pck2d", "--protocol: synthetic has its own protocol"),
    ):
        with pytest.raises(RequestError, match=r".*") as refusal:
            chosen([name], (), tiny_store, protocol)
        assert said in str(refusal.value)


def test_the_rules_of_each_row_can_be_applied_to_a_shard() -> None:
    assert set(RULE_ALIASES.values()) <= set(RULES)
    for row in ROWS:
        own = with_rules("mydata", "test", row.rules)
        assert own.protocol.partition("/")[2].partition("@")[0] == row.protocol.partition("/")[2].partition("@")[0]
        assert find_benchmark(own.name) == find_benchmark(own.full_name) == own
        assert own.protocol != row.protocol
        assert not own.of_motion
    for name in ("a/b/c", "../x/pck2d", "A b/test/pck2d"):
        with pytest.raises(UnknownName):
            find_benchmark(name)


def test_a_spec_that_selects_on_a_shard_of_one_s_own_is_checked(tmp_path: Path) -> None:
    def problems(name: str) -> str:
        return "\n".join(name_problems(load_experiment(Path(spec_file(tmp_path, evals={"select_on": name})))))

    assert "is a test split; selecting" in problems("mydata/test/mpjpe14")
    assert "has no PA-MPJPE" in problems("mydata/val/pck2d")
    assert "mydata" not in problems("mydata/val/mpjpe14")


@pytest.mark.parametrize(
    ("name", "row"),
    [("3DPW", "3dpw"), ("Human3.6M", "h36m"), ("MPI-INF-3DHP", "mpi_inf_3dhp"), ("EFT-COCO", "eft_coco"),
     ("3DPW/SMPL24", "3dpw/smpl24_hipmid_gendered"), ("human36m", "h36m"), ("3DPW_val", "3dpw_val")],
)  # fmt: skip
def test_benchmarks_have_their_datasets_names(name: str, row: str) -> None:
    assert find_benchmark(name).name == row


def test_datasets_are_found_as_people_write_them(tiny_store: Store) -> None:
    done = hmrb("convert-data", "Human3.6M", "--explain")
    assert done.stdout.startswith("Human3.6M (h36m)")
    assert "mix9_l1.yaml" in hmrb("list-specs", "--dataset", "MPI-INF-3DHP").stdout
    refused(hmrb("eval", "--from-predictions", "x.npz", "--bench", "3DPW"), "x.npz: predictions: no such file")
    assert "synthetic_test.h5" in hmrb("verify", "Synthetic_test", "--json", home=tiny_store.root).stdout


def test_a_template_filled_with_the_truth_has_no_error(tiny_store: Store, tmp_path: Path) -> None:
    home, path = tiny_store.root, tmp_path / "people.npz"
    shard = Shard(tiny_store.shard("synthetic", "test"))
    done = hmrb("eval", "--template", "synthetic", "-o", str(path), home=home)
    assert done.returncode == 0, done.stderr
    assert f"{path}: 7 people: row, imgname, bbox" in done.stdout
    with np.load(path) as arrays:
        people = {key: arrays[key] for key in arrays.files}
    assert np.allclose(people["bbox"], shard.arrays["box"])
    order = [3, 1, 0, 2, 6, 5, 4]
    people = {key: array[order] for key, array in people.items()}
    rows = people["row"]
    np.savez(tmp_path / "done.npz", pose=shard.arrays["pose"][rows], betas=shard.arrays["betas"][rows], **people)
    words = ("--from-predictions", str(tmp_path / "done.npz"), "--bench", "synthetic", "--json")
    (record,) = json.loads(hmrb("eval", *words, home=home).stdout)
    assert record["metrics"]["mpjpe"]["value"] < 0.01
    refused(hmrb("eval", "--template", "synthetic", "-o", str(path), home=home), "people.npz: exists; choose another")
    refused(hmrb("eval", "--template", "synthetic", "-o", "a.csv", home=home), "a template is an .npz file")
    refused(hmrb("eval", "--template", "3dpw", home=home), "the template of 3dpw needs 1 thing", "shard 3dpw_test")
