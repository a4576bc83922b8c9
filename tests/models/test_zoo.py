"""The model zoo: rows that hold together, and files that are found by name or hash, imported once, and checked."""

import hashlib
import json
import re
from pathlib import Path

import pytest
import torch
from command import hmrb, refused
from conftest import body_arrays, person, write_shard
from models.test_import_checkpoint import study_names, trained
from pydantic import ValidationError

import hmrb.models.zoo as zoo
from hmrb.checkpoint import load_checkpoint
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.protocols import find_benchmark
from hmrb.finding import find_model, results_folder
from hmrb.models.weights import STUDY_POSE
from hmrb.spec import load_experiment
from hmrb.store import Store

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "specs"


@pytest.mark.parametrize("row", zoo.ZOO.values(), ids=zoo.ZOO.keys())
def test_a_row_names_protocols_sources_and_specs_that_exist(row: zoo.ZooModel) -> None:
    for number in row.published:
        assert number.metric in find_benchmark(number.benchmark).metrics
        assert re.match(r"https://(github\.com/\S+/blob/[0-9a-f]{40}/|arxiv\.org/abs/)", number.source)
        assert number.doubt or row.family.repository in number.source
    assert len({(number.benchmark, number.metric) for number in row.published}) == len(row.published)
    assert row.sha256 in row.file
    assert (f"-{row.sha256}_" in row.file) == bool(row.sha256)
    if row.spec:
        ours = load_experiment(SPECS / row.spec).published
        assert [number.value for number in ours] == [number.value for number in row.published]
        assert [bool(number.doubt) for number in ours] == [bool(number.doubt) for number in row.published]
    if row.saved_as:
        assert row.saved_as.rpartition("_")[0] in STUDY_POSE


def test_files_of_two_models_are_told_apart() -> None:
    names = [name for row in zoo.ZOO.values() for name in row.names]
    assert len(names) == len(set(names))
    study = [row.obtained for row in zoo.ZOO.values() if row.family.repository == "smplbody/hmr-benchmarks"]
    assert len(study) == len(set(study)) == 18


def test_a_field_that_the_table_does_not_have_is_an_error() -> None:
    family = {"title": "T", "repository": "a/b", "commit": "0" * 40, "page": "README.md"}
    fields = {"family": "f", "title": "t", "obtained": "https://a"}
    assert zoo.read_zoo({"families": {"f": family}, "models": {"m": fields}})["m"].access == "open"
    for wrong in ({"licence": "MIT"}, {"file": "../m.pt"}, {"sha256": "no"}):
        with pytest.raises(ValidationError):
            zoo.read_zoo({"families": {"f": family}, "models": {"m": fields | wrong}})


@pytest.fixture
def store(write_smpl) -> Store:
    """A store with a body, a shard to score on, and a file of the study's format under SPIN's published name."""
    store: Store = write_smpl(**body_arrays(6890))
    write_shard(store.shard("synthetic", "test"), [person(0), person(1)], split="test", body="smpl")
    store.models.mkdir()
    torch.save({"state_dict": study_names(trained())}, store.models / "model_checkpoint.pt")
    return store


def with_row(monkeypatch: pytest.MonkeyPatch, name: str = "spin", **changes: object) -> None:
    monkeypatch.setitem(zoo.ZOO, name, zoo.ZOO[name].model_copy(update=changes))


def test_a_name_is_imported_once_and_scored(store: Store) -> None:
    done = hmrb("eval", "spin", "synthetic", "--json", home=store.root)
    assert done.returncode == 0, done.stderr
    assert "imported as" in done.stderr
    (record,) = json.loads(done.stdout)
    assert record["source"]["chosen_by"].startswith("unknown: imported from model_checkpoint.pt, sha ")
    (ours,) = store.imported.glob("*.pt")
    before = ours.stat().st_mtime_ns
    again = hmrb("eval", "spin", "synthetic", home=store.root)
    assert again.returncode == 0, again.stderr
    assert "imported as" not in again.stderr
    assert ours.stat().st_mtime_ns == before
    assert results_folder(ours, store) == store.imported / ours.stem
    assert (store.imported / ours.stem / "eval" / "synthetic.json").exists()
    ours.write_bytes(ours.read_bytes()[:1000])  # a copy that was cut off
    assert load_checkpoint(find_model("spin", store)).step == 0


def test_check_compares_with_the_published_numbers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    done = hmrb("eval", "spin", "synthetic", "--json", home=store.root)
    value = json.loads(done.stdout)[0]["metrics"]["pa_mpjpe"]["value"]
    number = zoo.ZOO["spin"].published[0].model_copy(update={"benchmark": "synthetic", "value": value + 0.4})
    with_row(monkeypatch, published=(number,))
    done = hmrb("eval", "spin", "--check", home=store.root)
    assert done.returncode == 0, done.stderr
    assert f"as expected: synthetic PA-MPJPE {value + 0.4:g} ± 0.5" in done.stdout
    with_row(monkeypatch, published=(number.model_copy(update={"value": value + 0.6}),))
    done = hmrb("eval", "spin", "--check", home=store.root)
    said = f"synthetic PA-MPJPE {value + 0.6:g} ± 0.5", "doubtful: third-party list of results"
    refused(done, "results differ from the expected numbers", *said, code=1)
    with_row(monkeypatch, published=())
    refused(hmrb("eval", "spin", "--check", home=store.root), "no number of spin is published")


def test_a_file_is_found_by_its_hash_under_another_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.models / "model_checkpoint.pt"
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path = path.rename(store.models / "mine.bin")
    assert zoo.ZOO["spin"].here(store) is None
    with_row(monkeypatch, sha256=digest[:8])
    assert zoo.ZOO["spin"].here(store) == path
    path = path.rename(store.models / "spin.pth")
    assert zoo.ZOO["spin"].file_in(store) == path
    with_row(monkeypatch, sha256="0" * 8)
    with pytest.raises(RequestError, match="begins with .*, not with 00000000; another file than"):
        find_model("spin", store)


def test_what_is_not_here_says_where_it_is_obtained(tmp_path: Path) -> None:
    home = tmp_path / "home"
    said = "hmr2b was never downloaded here: get epoch=35-step=1000000.ckpt from https://people.eecs.berkeley.edu/"
    refused(hmrb("eval", "hmr2b", home=home), said, "licence: code MIT; weights not stated")
    refused(hmrb("eval", "bedlam-cliff-x", home=home), "bedlam_cliff_x.ckpt", "--from-predictions")
    done = hmrb("eval", "study-resnet50-mix5-coco-l1", home=home)
    refused(done, f"put it at {home}/models/study_resnet50_mix5_coco_l1.pt")
    refused(
        hmrb("eval", "study-resnet50-mix5-coco-11", "3dpw", home=home), "Did you mean 'study_resnet50_mix5_coco_l1'"
    )
    refused(hmrb("eval", "gone.pt", "3dpw", home=home), "gone.pt: no such checkpoint")
    refused(hmrb("list-models", "--here", home=home), "none of 59 models was ever downloaded here")
    assert not home.exists()


def test_what_hmrb_cannot_run_is_refused_with_an_alternative(store: Store) -> None:
    (store.models / "bedlam_hmr.ckpt").write_bytes(b"anything")
    refused(hmrb("eval", "bedlam_hmr", home=store.root), "hmrb cannot run BEDLAM", "hmrb eval --from-predictions FILE")
    store.weights.mkdir()
    (store.weights / "resnet50_coco.pth").write_bytes(b"anything")
    done = hmrb("eval", "study_resnet50_coco_pose", home=store.root)
    refused(done, "no body model; to train from it, set model.weights: ")
    done = hmrb("list-models", "--here", "--json", home=store.root)
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows.keys() == {"spin", "bedlam_hmr", "study_resnet50_coco_pose"}
    assert rows["spin"]["here"] == str(store.models / "model_checkpoint.pt")
    assert rows["spin"]["published"][0]["doubt"]


def test_a_path_comes_before_a_name(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": study_names(trained())}, "hmr2a")
    assert find_model("hmr2a", store).parent == store.imported
    Path("hmr2b").write_bytes(b"PK\3\4 not a checkpoint")
    with pytest.raises(RequestError, match="hmr2b: refused: not an .*; nor can hmrb import-checkpoint"):
        find_model("hmr2b", store)


def test_a_store_that_cannot_be_written_is_one_message(store: Store, tmp_path: Path) -> None:
    store.imported.write_bytes(b"a file where the folder goes")
    with pytest.raises(RunError, match="imported: .*; imported checkpoints go there"):
        find_model("spin", store)


def test_the_list_says_what_is_here(store: Store) -> None:
    done = hmrb("list-models", "spin", home=store.root)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.lstrip().startswith("spin ")]
    assert line.rstrip().endswith("yes")
    assert "3dpw: PA-MPJPE 59.2 ?; h36m: PA-MPJPE 41.1 ?" in line
    assert done.stdout.count("never downloaded") > 3
    refused(hmrb("list-models", "spim", home=store.root), "no published model has 'spim'", "Did you mean 'spin'?")
