"""A model of SMPL-X: trained, resumed, scored on its own kind and on SMPL, used for photos, counted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from command import Done, hmrb, refused, spec_file
from conftest import person, write_shard
from expressive import own_store, smpl_members

from hmrb.body import load_body
from hmrb.body.expressive import load_to_smpl
from hmrb.checkpoint import load_checkpoint, save_checkpoint
from hmrb.data.shard import Shard
from hmrb.evaluation.protocols import BENCHMARKS, find_benchmark, through_smpl
from hmrb.evaluation.records import Record, read_record
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import GENDERS, Sample
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

MODEL = {
    "method": "bedlam_cliff", "backbone": "mini", "weights": "none", "features": "mean", "image_px": 32,
    "mean": "labels",
    "head": {"name": "iterative", "steps": 2, "hidden": 16, "dropout": 0.2, "box": "over_f"}, "camera": "intrinsics",
}  # fmt: skip
LOSSES = {
    "keypoints2d": {"distance": "mse", "weight": 5, "space": "picture"},
    "keypoints3d": {"distance": "mse", "weight": 5, "origin": "none"},
    "body_pose": {"distance": "mse", "weight": 1},
    "betas": {"distance": "mse", "weight": 0.001},
    "vertices": {"distance": "l1", "weight": 1},
    "camera_prior": {"distance": "mse", "weight": 1},
}
SPEC = {
    "body": "smplx", "model": MODEL, "losses": LOSSES, "adversary": {"weight": 0},
    "data": {"mix": {"synthetic": 1.0}, "workers": 0, "augment": ["flip", "rotate_scale"]},
    "optim": {"epochs": 2, "batch": 4, "lr": 1e-3},
    "evals": {"benches": ["synthetic", "3dpw"], "select_on": "3dpw_val"},
}  # fmt: skip


def expressive_person(index: int, seed: int) -> Sample:
    """A person labelled with SMPL-X; every second one with the focal length of the camera."""
    rng = np.random.default_rng([seed, index, 5])
    camera = np.array([60, 60, 24, 24], np.float32) if index % 2 else np.zeros(4, np.float32)
    return replace(
        person(index, seed=seed), has_body=True, pose=rng.normal(0, 0.3, (22, 3)).astype(np.float32),
        betas=rng.normal(0, 1, 11).astype(np.float32), extra={"camera": camera},
    )  # fmt: skip


@pytest.fixture(scope="module")
def store(smplx_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Bodies, shards of SMPL-X, and two of SMPL."""
    store = own_store(smplx_store, tmp_path_factory.mktemp("home"))
    for seed, (split, count) in enumerate({"train": 20, "test": 6}.items()):
        people = [expressive_person(index, seed) for index in range(count)]
        write_shard(store.shard("synthetic", split), people, split=split, body="smplx")
    for split in ("test", "val"):
        people = [replace(person(index), has_body=True, gender=GENDERS[index % 3]) for index in range(6)]
        write_shard(store.shard("3dpw", split), people, dataset="3dpw", split=split, body="smpl")
    return store


@pytest.fixture(scope="module")
def run(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    folder = tmp_path_factory.mktemp("runs")
    done = hmrb("train", spec_file(folder, **SPEC), "--out", str(folder / "run"), home=store.root)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def scored(store: Store, *words: object) -> Done:
    return hmrb("eval", *map(str, words), home=store.root)


def record_of(run: Path, name: str) -> Record:
    return read_record(run / "eval" / f"{name}.json")


@pytest.mark.heavy  # by default: the small kind of test_bodykind.py and the specs of methods
def test_a_run_resumes_bit_for_bit(run: Path, store: Store, tmp_path: Path) -> None:
    again = tmp_path / "run"
    shutil.copytree(run, again)
    (again / "last.1.pt").replace(again / "last.pt")
    assert load_checkpoint(again / "last.pt").step < load_checkpoint(run / "last.pt").step
    done = hmrb("train", spec_file(tmp_path, **SPEC), "--out", str(again), "--resume", home=store.root)
    assert done.returncode == 0, done.stderr
    first, second = (load_checkpoint(folder / "last.pt").model for folder in (run, again))
    assert first["head.init_pose"].shape == (1, 6 * 22)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_its_own_kind_is_scored_as_it_is(run: Path, store: Store) -> None:
    record = record_of(run, "synthetic")
    assert record.protocol == BENCHMARKS["synthetic"].protocol
    assert record.conditions.body_sha == load_body("smplx", store=store).sha
    assert {"mpjpe", "pve", "mpjae"} <= set(record.metrics)
    assert not record.left_out


def test_smpl_is_scored_through_the_mapped_vertices(run: Path, store: Store) -> None:
    """MPJPE and PVE of every person, computed again from the saved parameters."""
    record = record_of(run, "3dpw_smplx2smpl")
    assert record.protocol.startswith("3dpw-test/lsp14-h36mreg-pelvis-gendered-smplx2smpl@1+")
    assert "needs joints and rotmats; the predictions have only joints and vertices of SMPL" in record.left_out["mpjae"]
    assert set(record.conditions.truth_bodies) == set(GENDERS)
    assert record.conditions.body_sha == load_body("smplx", store=store).sha
    with h5py.File(run / "eval" / "3dpw_smplx2smpl_samples.h5") as samples:
        rotmats, betas, rows = (samples[key][:] for key in ("rotmats", "betas", "row"))
        errors = {name: samples[f"error/{name}"][:] for name in ("mpjpe", "pve")}
    assert rotmats.shape[1:] == (22, 3, 3)
    regressor = smpl_members()["J_regressor_h36m"]
    index = SKELETONS["h36m17"].index
    kept = [index(name) for name in BENCHMARKS["3dpw"].joint_names]
    shard = Shard(store.shard("3dpw", "test"))
    for row, rotmat, beta, mpjpe, pve in zip(rows, rotmats, betas, errors["mpjpe"], errors["pve"], strict=True):
        with torch.no_grad():
            mesh = load_body("smplx", store=store)(torch.from_numpy(rotmat)[None], torch.from_numpy(beta)[None])
            ours = load_to_smpl(store)(mesh.vertices)[0].numpy()
            body = load_body("smpl", GENDERS[shard.arrays["gender"][row]], store)
            label = rotvec_to_rotmat(torch.tensor(shard.arrays["pose"][[row]]))
            theirs = body(label, torch.tensor(shard.arrays["betas"][[row]])).vertices[0].numpy()
        one, other = (regressor @ vertices for vertices in (ours, theirs))
        root = index("pelvis_extra")
        apart = np.linalg.norm((one - one[root]) - (other - other[root]), axis=1)[kept]
        assert 1000 * apart.mean() == pytest.approx(mpjpe, rel=1e-4)
        apart = np.linalg.norm((ours - one[root]) - (theirs - other[root]), axis=1)
        assert 1000 * apart.mean() == pytest.approx(pve, rel=1e-4)


def test_a_checkpoint_is_chosen_on_smpl(run: Path) -> None:
    assert "-smplx2smpl@1" in load_checkpoint(run / "best.pt").chosen_by


def test_saved_predictions_are_scored_again_under_the_name_that_says_so(
    run: Path, store: Store, tmp_path: Path
) -> None:
    file = run / "eval" / "3dpw_smplx2smpl_samples.h5"
    done = scored(store, "--from-predictions", file, "--bench", "3dpw_smplx2smpl", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    again, before = record_of(tmp_path, "3dpw_smplx2smpl"), record_of(run, "3dpw_smplx2smpl")
    assert again.metrics["pve"].value == pytest.approx(before.metrics["pve"].value, rel=1e-5)
    assert again.source.body["name"] == "smplx"
    refused(
        scored(store, "--from-predictions", file, "--bench", "3dpw", "--out", tmp_path),
        "poses have 198 values, expected 72 for SMPL",
    )


def test_several_checkpoints_and_the_worst_people(run: Path, store: Store, tmp_path: Path) -> None:
    first, second = load_checkpoint(run / "last.pt"), tmp_path / "other" / "last.pt"
    second.parent.mkdir()
    save_checkpoint(replace(first, spec=first.experiment().model_copy(update={"seed": 1}).model_dump_json()), second)
    done = scored(store, run / "last.pt", second, "--bench", "3dpw", "--worst", "2")
    assert done.returncode == 0, done.stderr
    assert (run / "eval" / "3dpw_smplx2smpl_worst.jpg").exists()
    assert (run / "report.html").exists()


@pytest.mark.parametrize("name", ["3dpw", "3dpw/study", "coco_val", "3dpw/smpl24", "mydata/test/mpjpe14", "h36m"])
def test_a_protocol_of_mapped_vertices_is_found_by_each_of_its_names(name: str) -> None:
    plain = find_benchmark(name)
    row = through_smpl(plain)
    assert row.is_mapped
    assert not plain.is_mapped
    assert through_smpl(row) == row
    assert row.protocol != plain.protocol
    assert find_benchmark(row.name) == row
    assert find_benchmark(row.full_name).protocol == row.protocol
    assert "mapped to SMPL's" in row.explained()["prediction"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--bench", "3dpw", "--metrics", "mpjae"), "mpjae needs joints and rotmats; the predictions have only joints"),
        (("--bench", "3dpw/smpl24"), "needs SMPL's joints smpl24, and body 'smplx' has other ones"),
        (("--bench", "synthetic_smplx2smpl"), "labelled with body 'smplx', but the checkpoint has body 'smplx'"),
    ],
)
def test_what_cannot_be_compared_is_refused(run: Path, store: Store, words: tuple[str, ...], said: str) -> None:
    refused(scored(store, run / "last.pt", *words), said)


def test_a_spec_that_mixes_the_kinds_is_refused_before_it_trains(store: Store, tmp_path: Path) -> None:
    write_shard(store.shard("lsp", "train"), [person(0)], dataset="lsp", body="smpl")
    mixed = SPEC | {"data": {"mix": {"synthetic": 0.5, "lsp": 0.5}, "workers": 0}}
    done = hmrb("train", spec_file(tmp_path, **mixed), "--out", str(tmp_path / "run"), home=store.root)
    refused(done, "1 people with poses and betas of body 'smpl', but the spec has body: smplx")
    other = SPEC | {"evals": {"benches": ["3dpw/smpl24"], "select_on": None}}
    done = hmrb("train", spec_file(tmp_path, **other), "--out", str(tmp_path / "run"), home=store.root)
    refused(done, "needs SMPL's joints smpl24")
    assert not (tmp_path / "run").exists()


def test_what_the_store_lacks_is_a_table(store: Store, tmp_path: Path) -> None:
    bare = Store(tmp_path / "bare")
    shutil.copytree(store.root / "shards", bare.root / "shards")
    done = hmrb("train", spec_file(tmp_path, **SPEC), "--out", str(tmp_path / "run"), home=bare.root)
    refused(done, "SMPL-X neutral", "smplx2smpl.pkl", "SMPL male", "J_regressor_h36m.npy")


def test_a_photo_gives_meshes_with_the_body_and_parameters_without(run: Path, store: Store, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(person(0).jpeg)
    words = ("predict", str(run / "last.pt"), str(tmp_path / "photo.jpg"), "--whole", "-o")
    done = hmrb(*words, str(tmp_path / "out"), "--mesh", "obj", home=store.root)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "out" / "predictions.npz") as found:
        assert found["rotmats"].shape == (1, 22, 3, 3)
        assert found["betas"].shape == (1, 11)
    mesh = next((tmp_path / "out").rglob("*.obj")).read_text()
    assert mesh.count("\nv ") + mesh.startswith("v ") == 10_000
    done = hmrb(*words, str(tmp_path / "bare"), home=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert "SMPLX_NEUTRAL.npz: no such file" in done.stdout
    assert "without this body: parameters only, no meshes" in done.stdout
    with np.load(tmp_path / "bare" / "predictions.npz") as found:
        assert found["rotmats"].shape == (1, 22, 3, 3)


def test_the_cost_is_that_of_its_sizes(tmp_path: Path) -> None:
    done = hmrb("flops", spec_file(tmp_path, **SPEC), "--latency", "2", "--json")
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    blend, skin = 10_475 * 3 * (11 + 189), 10_475 * (22 * 12 + 9)
    assert record["parts"]["body"]["multiply_adds"] == pytest.approx(blend + skin, rel=0.01)
    assert record["latency"]["images_per_s"]["2"] > 0


def test_a_shard_of_smplx_is_verified(store: Store) -> None:
    done = hmrb("verify", str(store.shard("synthetic", "train")), home=store.root)
    assert "Traceback" not in done.stderr
    assert "body_joints" in done.stdout
