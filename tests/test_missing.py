"""What is missing is known from names alone, and is what hmrb then looks for."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import tiny_tree

from hmrb.data.sources import CONVERTERS
from hmrb.errors import Need, RequestError, joined
from hmrb.evaluation.protocols import find_benchmark
from hmrb.missing import (
    GENDERED,
    MAKE_THEMSELVES,
    bench_needs,
    experiment_needs,
    has_body,
    is_blocking,
    refuse_missing,
    shard_command,
)
from hmrb.models.backbones import BACKBONES
from hmrb.names import IMAGENET
from hmrb.needs import is_cached, timm_name, weights_need, weights_path
from hmrb.records import GENDERS
from hmrb.spec import load_experiment, parse_experiment
from hmrb.store import Store


def test_the_names_known_without_torch_are_those_of_the_tables() -> None:
    assert {name: row.timm_name for name, row in BACKBONES.items() if row.pretrained} == IMAGENET
    assert {name for name, source in CONVERTERS.items() if source.makes_itself} == set(MAKE_THEMSELVES)
    assert set(GENDERED) == set(GENDERS)
    assert timm_name("swin-tiny") == timm_name("swin_tiny_patch4_window7_224") == IMAGENET["swin_t"]


def test_nothing_is_missing_where_everything_is(tiny_store: Store) -> None:
    assert experiment_needs(parse_experiment(tiny_tree(), "tiny"), tiny_store) == []


def test_synthetic_people_are_made_and_do_not_stop_a_run(tmp_path: Path) -> None:
    needs = experiment_needs(parse_experiment(tiny_tree(), "tiny"), Store(tmp_path))
    assert [need.what for need in needs] == [f"shard synthetic_{split}" for split in ("train", "test", "val")]
    refuse_missing(needs, "tiny")


def test_a_study_s_spec_names_all_that_it_wants(tmp_path: Path) -> None:
    """Each file, put there, is no longer missing."""
    store, spec = Store(tmp_path), load_experiment(Path(__file__).parents[1] / "specs" / "init" / "hrnet_w32_mpii.yaml")
    before = experiment_needs(spec, store)
    for path in (
        store.bodies / "smpl" / "smpl_mean_params.npz", store.weights / "hrnet_w32_mpii.pth",
        *(store.shard(name, "train") for name in spec.data.mix),
    ):  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    gone = {need.what for need in before} - {need.what for need in experiment_needs(spec, store)}
    shards = {f"shard {name}_train" for name in spec.data.mix}
    assert gone == {"smpl_mean_params.npz", "hrnet_w32 trained on MPII", *shards}
    with pytest.raises(RequestError) as refusal:
        refuse_missing(before, spec.name)
    assert set(refusal.value.needs) == {need for need in before if not need.is_automatic}


@pytest.mark.parametrize(
    ("name", "gender"),
    [
        ("SMPL_NEUTRAL.npz", "neutral"), ("basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "male"),
        ("SMPL_FEMALE.pkl", "female"), ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "female"),
        ("basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl", "neutral"),
    ],
)  # fmt: skip
def test_a_body_is_found_under_its_official_names(name: str, gender: str, tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.bodies / "smpl").mkdir(parents=True)
    (store.bodies / "smpl" / name).write_bytes(b"")
    assert [known for known in GENDERED if has_body(known, store)] == [gender]


def test_gendered_truth_wants_three_bodies_and_j19_its_regressor(write_smpl: Callable[..., Store]) -> None:
    store = write_smpl()
    plain, gendered = (find_benchmark(name) for name in ("h36m", "3dpw/hmr14_j19_pelvis_gendered"))
    assert [need.what for need in bench_needs([plain], "smpl", store)] == ["shard h36m_test_p2"]
    said = [need.what for need in bench_needs([gendered], "smpl", store)]
    assert said == ["shard 3dpw_test", "SMPL male", "SMPL female", "SMPL_to_J19.pkl"]


def test_imagenet_weights_are_in_the_store_in_the_hub_s_cache_or_to_be_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, name = Store(tmp_path), IMAGENET["resnet50"]
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    need = weights_need("resnet50", "imagenet", store)
    assert not is_blocking(need)
    assert is_blocking(need, is_online=False)
    assert not is_cached(name)
    kept = tmp_path / "hub" / f"models--timm--{name}" / "snapshots" / "c0ffee" / "model.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"")
    assert is_cached(name)
    assert weights_path("resnet50", "imagenet", store) is None
    store.weights.mkdir()
    (store.weights / f"{name}.pth").write_bytes(b"")
    assert weights_path("resnet50", "imagenet", store) == store.weights / f"{name}.pth"


def test_each_shard_s_command_is_of_its_kind() -> None:
    assert shard_command("synthetic") == "hmrb convert-data synthetic"
    assert shard_command("3dpw") == "hmrb convert-data 3dpw --raw DIR"
    assert shard_command("mine").endswith("--as mine")


def test_errors_are_joined_without_repeating() -> None:
    need = Need("a", "b")
    error = joined([RequestError("one", [need]), RequestError("two"), RequestError("one", [need])], "x", "y")
    assert (str(error), error.needs, error.problems) == ("one\ntwo", (need,), ("two",))


def test_missing_is_found_without_torch() -> None:
    modules = "hmrb.missing, hmrb.facts, hmrb.models.hub, hmrb.data.sources"
    script = f"import sys, {modules}; print({{'torch', 'timm'}} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"
