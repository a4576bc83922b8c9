"""scripts/make_pretrained.py: which labels each backbone learns from, and that the study's specs take its files."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import person, write_shard
from safetensors.torch import save_file
from torch import Tensor

from hmrb.data.shard import open_shard
from hmrb.errors import RequestError
from hmrb.models.hmr import build_model
from hmrb.needs import PRETRAINED
from hmrb.records import Sample
from hmrb.spec import load_experiment
from hmrb.store import Store

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import make_pretrained  # noqa: E402

Change = Callable[[Sample], Sample]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_pretrained, "BATCH", 8)


def learnt(task: str, folder: Path, change: Change = lambda sample: sample) -> dict[str, Tensor]:
    """The backbone after 32 crops of ten people."""
    path = folder / "people.h5"
    write_shard(path, [change(person(i, seed=0)) for i in range(10)])
    return make_pretrained.pretrained(task, open_shard(path, make_pretrained.DATASET), crops=32)


def other_bodies(sample: Sample) -> Sample:
    return replace(sample, pose=sample.pose + 0.3, betas=sample.betas + 1, keypoints3d=sample.keypoints3d + 0.1)


def other_joints(sample: Sample) -> Sample:
    return replace(other_bodies(sample), keypoints2d=sample.keypoints2d + np.array([3, -5, 0], np.float32))


@pytest.mark.parametrize(("task", "unseen"), [("pose2d", other_bodies), ("selfsup", other_joints)])
def test_a_backbone_learns_from_no_label_but_its_own(task: str, unseen: Change, tmp_path: Path) -> None:
    first = learnt(task, tmp_path)
    assert all(torch.equal(first[key], value) for key, value in learnt(task, tmp_path, unseen).items())


def test_2d_joints_are_learnt_from(tmp_path: Path) -> None:
    first, other = learnt("pose2d", tmp_path), learnt("pose2d", tmp_path, other_joints)
    assert not torch.equal(first["conv1.0.weight"], other["conv1.0.weight"])


def test_embeddings_must_agree_vary_and_differ() -> None:
    one = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    best = make_pretrained.vicreg(one, one)
    assert best < 2
    assert make_pretrained.vicreg(one, one.flip(0)) > best + 20
    assert make_pretrained.vicreg(one * 0, one * 0) > best + 20
    assert make_pretrained.vicreg(one[:, :1].expand(-1, 8), one[:, :1].expand(-1, 8)) > best + 5


def test_the_specs_of_the_study_start_from_these_files(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    store.weights.mkdir(parents=True)
    for task in make_pretrained.TASKS:
        model = load_experiment(ROOT / "specs" / "small_study" / "init" / f"{task}.yaml").model
        assert model.weights in PRETRAINED
        with pytest.raises(RequestError, match="no file") as refused:
            build_model(model, store)
        assert "make_pretrained.py" in refused.value.needs[0].command
        tensors = learnt(task, tmp_path)
        save_file(tensors, make_pretrained.file_of(task, store.weights))
        built = build_model(model, store)
        assert built.weights_used.endswith(f"{len(tensors)} tensors used")
        assert torch.equal(built.backbone.network.conv1[0].weight, tensors["conv1.0.weight"])
