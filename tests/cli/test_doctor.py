"""hmrb doctor: what works, what is missing, what is broken, and the next step for each."""

import errno
import json
import os
import re
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import hmrb, refused, spec_file
from conftest import body_arrays

from hmrb.body.official import find_body
from hmrb.cli.shipped import shipped_specs
from hmrb.errors import RequestError
from hmrb.evaluation.protocols import ROWS
from hmrb.facts import EXTRAS, Fact, all_facts, shard_facts, weight_facts
from hmrb.store import Store


@pytest.fixture(autouse=True)
def _no_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slurm's commands may be here without a cluster, which is broken."""
    monkeypatch.setattr("hmrb.facts._slurm", lambda: iter([Fact("slurm", "sbatch", "not here", "missing")]))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("empty")


def test_an_empty_store_is_not_broken_and_every_experiment_has_a_next_step(empty: Path) -> None:
    done = hmrb("doctor", "--offline", home=empty)
    assert done.returncode == 0, done.stderr
    lines = {" ".join(line.split()[:5]): line for line in done.stdout.splitlines()}
    for start in ("quickstart 1 of 1", "small 12 of 12", "synthetic 1 of 1"):
        assert start in lines, done.stdout
    assert "hmrb convert-data body --file FILE" in lines["- backbones 0 of 10"]
    assert "hmrb convert-data 3dpw --raw DIR" in lines["- 3dpw 0 of 6"]
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_all_of_it_as_json(empty: Path) -> None:
    done = hmrb("doctor", "--offline", "--json", home=empty)
    told = json.loads(done.stdout)
    assert set(told["experiments"]) == set(shipped_specs())
    assert set(told["benchmarks"]) == {row.name for row in ROWS}
    groups = {fact["group"] for fact in told["facts"]}
    assert groups == {"software", "machine", "network", "slurm", "extras", "bodies", "shards", "weights"}
    assert all(fact["step"] for fact in told["facts"] if fact["group"] == "bodies" and fact["state"] == "missing")


def test_extras_are_those_of_the_package_with_their_versions_or_how_to_install_them(
    empty: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(Path(__file__).parents[2] / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]

    def version(package: str) -> str:
        if package in ("cdflib", "wandb"):
            raise metadata.PackageNotFoundError(package)
        return "1.2.3"

    monkeypatch.setattr("hmrb.facts.metadata.version", version)
    monkeypatch.setattr("hmrb.facts.importlib.import_module", lambda name: None)
    found = {
        fact.name: fact for fact in all_facts(Store(empty), Path("runs"), is_online=False) if fact.group == "extras"
    }
    assert list(found) == [name for name in extras if name not in ("dev", "docs", "build-body", "build-detector")]
    for name, (packages, _) in EXTRAS.items():
        assert list(packages) == [re.split(r"[<>=]", words)[0] for words in extras[name]]
    assert found["export"].found.startswith("onnx 1.2.3, onnxscript 1.2.3, onnxruntime 1.2.3 (")
    assert (found["convert"].found.split(" (")[0], found["convert"].state) == ("without cdflib", "missing")
    assert found["wandb"].step == "pip install 'hmrb[wandb]'"


def test_one_spec(tiny_store: Store, tmp_path: Path) -> None:
    spec = spec_file(tmp_path)
    done = hmrb("doctor", spec, home=tiny_store.root)
    assert done.stdout == f"tiny: every file is here. Next: hmrb train {spec}\n"
    done = hmrb("doctor", "mix9_l1", home=tmp_path / "empty")
    assert done.returncode == 0
    for words in ("mix9_l1 needs 16 things", "hmrb convert-data h36m", "https://", "Then: hmrb train mix9_l1"):
        assert words in done.stdout
    told = json.loads(hmrb("doctor", "mix9_l1", "--json", home=tmp_path / "empty").stdout)
    assert {"what", "command", "page", "is_automatic"} == set(told["needs"][0])
    refused(hmrb("doctor", "mix9_l2"), "nearest names: mix9_l1")


def test_a_damaged_shard_is_broken(tiny_store: Store, tmp_path: Path) -> None:
    path = tiny_store.shard("synthetic", "train")
    path.write_bytes(path.read_bytes()[:-500])
    for words in (("doctor", "--offline"), ("doctor", spec_file(tmp_path))):
        refused(hmrb(*words, home=tiny_store.root), "1 broken", "synthetic_train", "hmrb verify", code=1)


def facts(store: Store, name: str) -> Fact:
    return next(fact for fact in all_facts(store, Path("runs"), is_online=False) if fact.name == name)


def test_a_body_is_loaded_and_a_damaged_one_is_broken(write_smpl: Callable[..., Store]) -> None:
    store = write_smpl(**body_arrays(6890))
    assert facts(store, "SMPL neutral").state == "ok"
    assert facts(store, "SMPL male").step.startswith("hmrb convert-data body --file FILE https://")
    assert len(facts(store, "J_regressor_h36m.npy").found.split()[0]) == 16
    np.save(store.bodies / "smpl" / "J_regressor_extra.npy", np.ones((9, 7), np.float32))
    assert facts(store, "SMPL neutral").state == "broken"


def test_shards_say_their_people_and_whether_they_were_verified(tiny_store: Store) -> None:
    from hmrb.data.checksums import check_once
    from hmrb.data.shard import Shard

    shard = Shard(tiny_store.shard("synthetic", "val"))
    fact = facts(tiny_store, "synthetic_val")
    assert "6 people, 6 pictures" in fact.found
    assert f"sha {shard.info.sha}, not yet verified" in fact.found
    assert fact.step == "hmrb verify synthetic_val"
    check_once(shard, tiny_store)
    assert facts(tiny_store, "synthetic_val").found.endswith(", verified")


def test_a_torch_that_cannot_be_imported_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    fact = facts(Store(tmp_path), "torch")
    assert (fact.state, fact.step) == ("broken", "pip install --force-reinstall torch")


def test_folders_of_a_store_that_cannot_be_listed_are_broken_and_not_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, scandir = Store(tmp_path), os.scandir
    for folder in ("shards", "weights", "bodies/smpl", "models"):
        (tmp_path / folder).mkdir(parents=True)

    def listed(path: Any = ".") -> Any:
        if str(path).startswith(str(tmp_path)):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)
    for found in (shard_facts(store), weight_facts(store)):
        fact = next(iter(found))
        assert (fact.state, "not readable by this user" in fact.found) == ("broken", True)
    for words in (["doctor"], ["list-datasets"], ["verify", "mine_train"], ["list-models"], ["eval", "demo", "mine"]):
        refused(hmrb(*words, home=tmp_path), "not readable by this user")
    with pytest.raises(RequestError, match="smpl: not readable by this user"):
        find_body(store.bodies / "smpl", "neutral")
