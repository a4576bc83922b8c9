"""Training that starts from all of a checkpoint: backbone, head and mean body."""

from pathlib import Path

import pytest
import torch
import yaml
from command import hmrb, refused
from conftest import tiny_tree

from hmrb.checkpoint import load_checkpoint, save_checkpoint
from hmrb.models.hmr import build_model
from hmrb.spec import parse_experiment
from hmrb.store import Store


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Path]:
    """A store, and a finished run in it."""
    from conftest import write_tiny_store

    store = write_tiny_store(tmp_path_factory.mktemp("fine") / "home")
    return store, train(store, "first", {})


def train(store: Store, name: str, model: dict, code: int = 0) -> Path:
    tree = tiny_tree() | {"name": name}
    tree["model"] |= model
    spec, out = store.root.parent / f"{name}.yaml", store.root.parent / name
    spec.write_text(yaml.safe_dump(tree))
    done = hmrb("train", str(spec), "--out", str(out), home=store.root)
    assert done.returncode == code, done.stderr
    return out


def test_a_model_starts_with_all_of_a_checkpoint(first: tuple[Store, Path]) -> None:
    store, run = first
    theirs = load_checkpoint(run / "last.pt")
    spec = theirs.experiment().model.model_copy(update={"weights": str(run / "last.pt"), "start": "all"})
    model = build_model(spec, store)
    mine = model.state_dict()
    assert mine.keys() == theirs.model.keys()
    assert all(torch.equal(mine[key], value) for key, value in theirs.model.items())
    assert model.weights_used.startswith(f"weights: {run / 'last.pt'}: all of the model: ")
    by_backbone = build_model(spec.model_copy(update={"start": "backbone"}), store)
    assert not torch.equal(by_backbone.state_dict()["head.deccam.weight"], theirs.model["head.deccam.weight"])


def test_a_run_trains_further_with_the_mean_body_of_its_start(first: tuple[Store, Path]) -> None:
    store, run = first
    path = store.root.parent / "moved.pt"
    moved = load_checkpoint(run / "last.pt")
    moved.model["head.init_shape"] += 3
    save_checkpoint(moved, path)
    second = train(store, "second", {"weights": str(path), "start": "all", "mean": "file"})  # there is no file
    assert torch.equal(load_checkpoint(second / "last.pt").model["head.init_shape"], moved.model["head.init_shape"])
    assert load_checkpoint(second / "last.pt").experiment().sha() != moved.experiment().sha()
    done = hmrb("eval", str(second / "last.pt"), "--bench", "synthetic", home=store.root)
    assert done.returncode == 0, done.stderr


def test_older_hashes_do_not_change() -> None:
    tree = tiny_tree()
    tree["model"] |= {"start": "backbone"}
    assert parse_experiment(tree, "a").sha() == parse_experiment(tiny_tree(), "b").sha()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"weights": "none"}, "start: all needs the path of a checkpoint in weights, not none"),
        ({"weights": "nothere.pt"}, "nothere.pt"),
        ({"weights": "FOREIGN"}, "needs a checkpoint of hmrb; hmrb import-checkpoint makes one"),
        ({"weights": "RUN", "head": {"hidden": 24, "steps": 1}}, "the head: does not fit"),
        ({"weights": "RUN", "backbone": "test_resnet"}, "the backbone: does not fit"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(changes: dict, said: str, first: tuple[Store, Path], tmp_path: Path) -> None:
    store, run = first
    foreign = tmp_path / "foreign.pth"
    torch.save({"layer.weight": torch.zeros(2, 2)}, foreign)
    tree = tiny_tree()
    tree["model"] |= {"start": "all", **changes}
    names = {"FOREIGN": str(foreign), "RUN": str(run / "last.pt")}
    tree["model"]["weights"] = names.get(tree["model"]["weights"], tree["model"]["weights"])
    spec = tmp_path / "spec.yaml"
    spec.write_text(yaml.safe_dump(tree))
    refused(hmrb("train", str(spec), "--out", str(tmp_path / "out"), home=store.root), said)
    assert not (tmp_path / "out").exists()
