"""Toys: a body of a few vertices, a shard of small pictures, an experiment that trains in seconds."""

import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import array_checks  # noqa: F401  # before hmrb
import cv2
import numpy as np
import pytest
import torch

from hmrb.body import SMPL, BodyFile
from hmrb.data.convert.writer import ShardWriter
from hmrb.evaluation.records import Machine, Provenance
from hmrb.records import Sample, View
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store

GOLDENS = Path(__file__).parent / "goldens"
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21)
MEMORY = Path("/dev/shm")
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > 4 << 30:  # as a rule half of memory; a whole run leaves 1 GB
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # a disk takes longer for all the small files
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # of the commands that tests start, the first alone compiles hmrb
os.fsync = lambda descriptor: None  # tests do not wait for the disk, but for those in processes of their own
torch.set_num_threads(1)
cv2.setNumThreads(1)


def golden(name: str) -> dict[str, np.ndarray]:
    """Every array of a recorded file."""
    with np.load(GOLDENS / f"{name}.npz", allow_pickle=False) as arrays:
        return {key: arrays[key] for key in arrays.files}


def body_arrays(num_vertices: int = 100, seed: int = 0) -> dict[str, np.ndarray]:
    """A random body under SMPL's official names."""
    rng = np.random.default_rng(seed)

    def rows(count: int, width: int) -> np.ndarray:
        values = rng.random((count, width)) * (rng.random((count, width)) < 0.3) + 1e-6
        return (values / values.sum(1, keepdims=True)).astype(np.float32)

    return {
        "v_template": rng.normal(0, 0.5, (num_vertices, 3)).astype(np.float32),
        "shapedirs": rng.normal(0, 0.03, (num_vertices, 3, 10)).astype(np.float32),
        "posedirs": rng.normal(0, 0.003, (num_vertices, 3, 207)).astype(np.float32),
        "J_regressor": rows(24, num_vertices),
        "weights": rows(num_vertices, 24),
        "kintree_table": np.array([PARENTS, range(24)]).astype(np.uint32),
        "f": rng.integers(0, num_vertices, (150, 3)).astype(np.uint32),
        "J_regressor_h36m": rows(17, num_vertices),
        "J_regressor_extra": rows(9, num_vertices),
        "vertex_ids": rng.integers(0, num_vertices, 21),
        "SMPL_to_J19": rows(19, num_vertices),
    }


def body_from(members: dict[str, np.ndarray], name: str = "smpl", gender: str = "neutral") -> SMPL:
    """The body that a file with these members holds."""
    from hmrb.body import body_file

    file: BodyFile = body_file(name, gender, Path("made-up.npz"), members)
    return SMPL(file)


@pytest.fixture
def tiny_smpl() -> SMPL:
    return body_from(body_arrays())


@pytest.fixture
def write_smpl(tmp_path: Path) -> Callable[..., Store]:
    """Puts a made-up licensed body into a store, as a user would."""

    def write(**changes: Any) -> Store:
        store = Store(tmp_path / "home")
        folder = store.bodies / "smpl"
        folder.mkdir(parents=True, exist_ok=True)
        members = body_arrays() | changes
        for key in ("J_regressor_h36m", "J_regressor_extra"):
            np.save(folder / f"{key}.npy", members.pop(key))
        del members["vertex_ids"], members["SMPL_to_J19"]
        np.savez(folder / "SMPL_NEUTRAL.npz", **{k: v for k, v in members.items() if v is not None})
        return store

    return write


def person(index: int, side: int = 48, seed: int = 0) -> Sample:
    """A made-up person: a noisy picture, labels with a few missing joints."""
    rng = np.random.default_rng([seed, index])
    picture = cv2.GaussianBlur(rng.integers(0, 255, (side, side, 3)).astype(np.uint8), (5, 5), 0)
    keypoints2d = np.concatenate([rng.uniform(5, side - 5, (54, 2)), rng.random((54, 1)) < 0.9], 1)
    keypoints3d = np.concatenate([rng.normal(0, 0.4, (54, 3)), rng.random((54, 1)) < 0.9], 1)
    pose = rng.normal(0, 0.3, (24, 3))
    pose[0] += (np.pi, 0, 0)
    return Sample(
        jpeg=cv2.imencode(".jpg", picture)[1].tobytes(),
        name=f"person/{index:03d}",
        photo_px=(side, side),
        box=np.array([4, 2, side - 8, side - 4], np.float32),
        keypoints2d=keypoints2d.astype(np.float32),
        keypoints3d=keypoints3d.astype(np.float32),
        pose=pose.astype(np.float32),
        betas=rng.normal(0, 1, 10).astype(np.float32),
        transl=np.array([0, 0, 4], np.float32),
        has_body=bool(index % 5 != 3),
        columns={"occlusion": float(rng.random())},
    )


def write_shard(
    path: Path,
    people: list[Sample],
    dataset: str = "synthetic",
    split: str = "train",
    body: str = "open",
    **more: Any,
) -> Path:
    """A shard of these people, with more attributes."""
    about = {"dataset": dataset, "split": split, "skeleton": "smpl54", "body": body, "made_by": "a test", **more}
    with ShardWriter(path, **about) as writer:
        for sample in people:
            writer.add(sample)
    return path


@pytest.fixture
def tiny_store(tmp_path: Path) -> Store:
    return write_tiny_store(tmp_path / "home")


def write_tiny_store(root: Path) -> Store:
    """A store with a synthetic dataset of 20 people to train on, 6 to choose by and 7 to test on."""
    store = Store(root)
    for seed, (split, count) in enumerate({"train": 20, "val": 6, "test": 7}.items()):
        people = [person(i, seed=seed) for i in range(count)]
        if split != "train":
            people = [_labelled(sample) for sample in people]
        write_shard(store.shard("synthetic", split), people, split=split)
    return store


def _labelled(sample: Sample) -> Sample:
    return replace(sample, has_body=True)


def source(name: str = "tiny", seed: int = 0, **changes: Any) -> Provenance:
    """Where a made-up result comes from."""
    facts = {
        "experiment": name, "checkpoint": {"path": "best.pt", "sha": "c0ffee00c0ffee00", "step": 1234},
        "chosen_by": "synthetic_val", "body": {"name": "open", "sha": "b0d1e5b0d1e5b0d1"},
        "trained_on": {"synthetic": "a0"}, "siblings_trained_on": ("synthetic",),
        "spec": {"name": name, "seed": seed, "published": []},
    }  # fmt: skip
    return Provenance(**facts | changes)


def machine() -> Machine:
    """Where a made-up result was made."""
    return Machine(
        device="a CPU", processes=1, dtype="float32", hmrb="0.1.0", torch="2", numpy="2", python="3.11",
        date="2026-01-02T03:04:05Z", seconds=1.5, images_per_s=4.0,
    )  # fmt: skip


def tiny_tree() -> dict[str, Any]:
    """A spec of some 15 steps, dropout, adversary and averaging on."""
    return {
        "name": "tiny",
        "body": "open",
        "model": {
            "backbone": "mini",
            "weights": "none",
            "features": "mean",
            "head": {"name": "direct", "steps": 1, "hidden": 16, "dropout": 0.2},
            "image_px": 32,
            "mean": "labels",
        },
        "data": {"mix": {"synthetic": 1.0}, "workers": 0},
        "losses": {
            "keypoints3d": {"distance": "l1", "weight": 1},
            "keypoints2d": {"distance": "l1", "weight": 1},
            "pose": {"distance": "mse", "weight": 1},
            "betas": {"distance": "mse", "weight": 0.1},
        },
        "adversary": {"weight": 0.1, "poses": "labels"},
        "optim": {"epochs": 3, "batch": 4, "lr": 1e-3, "schedule": "cosine", "ema": 0.9},
        "evals": {"benches": ["synthetic"], "select_on": "synthetic_val"},
    }


@pytest.fixture
def tiny_experiment() -> Experiment:
    return parse_experiment(tiny_tree(), "tiny")


def view(image: np.ndarray, **changes: Any) -> View:
    """A person in the middle of a picture, with random labels."""
    rng = np.random.default_rng(0)
    height, width = image.shape[:2]
    points = np.concatenate([rng.uniform(10, 60, (54, 2)), np.ones((54, 1))], 1)
    base = View(
        image=image,
        box=np.array([width / 2 - 25, height / 2 - 30, 50, 60]),
        center=np.array([width / 2, height / 2]),
        side=60.0,
        rotation=0.0,
        flipped=False,
        gain=np.ones(3),
        keypoints2d=points.astype(np.float32),
        keypoints3d=rng.normal(0, 1, (54, 4)).astype(np.float32),
        pose=rng.normal(0, 0.5, (24, 3)).astype(np.float32),
    )
    return replace(base, **changes)


@pytest.fixture(scope="session")
def smplx_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a made-up SMPL-X and the three bodies of SMPL. Only to be read; see `own_store` of expressive.py."""
    from expressive import write_smplx

    return write_smplx(Store(tmp_path_factory.mktemp("smplx")), "neutral", "male", "female")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """A folder of Pascal VOC 2012 with two pictures."""
    from raw.voc import write_voc

    return write_voc(tmp_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--keep-screens", action="store_true", help="keep the pictures of tests/reports/screens anew")


def pytest_collection_finish() -> None:
    """Everything imported so far stays: Python need not look through it again for garbage, 0.3 s each time."""
    gc.collect()
    gc.freeze()
