"""Every spec of a method takes steps with all its losses, goes on as if it had not stopped, and is one stream."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import body_arrays, body_from, write_tiny_store

from hmrb.batch import Batch
from hmrb.check import name_problems, resolve
from hmrb.data.loader import StepDraws, collate, on_device
from hmrb.data.places import check_places
from hmrb.data.shard import open_shard
from hmrb.errors import RequestError
from hmrb.models.cameras import project_to_crop
from hmrb.parallel.world import World
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store
from hmrb.training.adversary import draw_dataset
from hmrb.training.learner import Learner, build_learner
from hmrb.training.losses import Losses
from hmrb.training.step import train_step

SPECS = Path(__file__).parents[2] / "specs" / "methods"
ALONE = World(0, 1, torch.device("cpu"))
BATCH, PX = 4, 64
SMALL = {"layers": 1, "width": 32, "heads": 2, "head_width": 16, "hidden": 32}
HEAD_FIELDS = {"decoder": SMALL, "iterative": {"hidden": 32}, "part_attention": {"width": 16, "shape_width": 8}}


def tree_of(path: Path) -> dict[str, Any]:
    """A spec's method, losses and optimiser with a small network, on the toy people."""
    tree = yaml.safe_load(path.read_text())
    model = tree["model"]
    tree["body"] = "open"
    model |= {"weights": "none", "mean": "labels", "image_px": PX, "drop_path": 0.0}
    model["backbone"] = "mini_s16" if model.get("features") in ("map", "upsampled") else "mini"
    model["features"] = "map" if model["backbone"] == "mini_s16" else "mean"
    model["head"] |= HEAD_FIELDS[model["head"]["name"]]
    tree["data"] |= {"mix": {"synthetic": 1.0}, "workers": 0}
    for op in tree["data"].get("augment", []):
        if isinstance(op, dict) and "occluders" in op.get("occlude", {}):
            op["occlude"]["occluders"] = "procedural"
    if "trusted" in tree["data"]:
        tree["data"]["trusted"] = ["synthetic"]
    if tree.get("adversary", {}).get("weight", 1):
        tree["adversary"] = {"weight": 0.01, "poses": "labels"}
    tree.setdefault("optim", {})
    tree["optim"] |= {"batch": BATCH, "precision": "fp32"}
    tree["evals"] = {"benches": ["synthetic"], "select_on": None}
    return {key: value for key, value in tree.items() if key != "published"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return write_tiny_store(tmp_path_factory.mktemp("methods"))


def batches(experiment: Experiment, store: Store, count: int) -> Iterator[Batch]:
    shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
    dataset = draw_dataset(experiment, shards, store)
    for draws in StepDraws(BATCH, 0, count, 0, 1):
        yield from on_device([collate([dataset[draw] for draw in draws])], ALONE.device)


def learner_of(experiment: Experiment, store: Store) -> Learner:
    torch.manual_seed(0)
    return build_learner(
        experiment, {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}, store, ALONE
    )


@pytest.mark.parametrize("path", sorted(SPECS.glob("**/*.yaml")), ids=lambda path: str(path.relative_to(SPECS)))
def test_a_method_takes_steps_and_goes_on_bit_for_bit(path: Path, store: Store) -> None:
    experiment = resolve(parse_experiment(tree_of(path), path.name))
    assert name_problems(experiment) == []
    losses = Losses(experiment.losses, body_from(body_arrays(), "open"))
    whole, first = learner_of(experiment, store), learner_of(experiment, store)
    there = list(batches(experiment, store, 3))
    for step, batch in enumerate(there):
        terms = train_step(whole, losses, batch, step, experiment.optim, ALONE)
    assert set(experiment.losses) <= set(terms)
    assert all(term.isfinite() for term in terms.values())
    unmoved = [name for name, weight in whole.model.named_parameters() if weight.grad is None and weight.requires_grad]
    assert unmoved == []
    train_step(first, losses, there[0], 0, experiment.optim, ALONE)
    again = learner_of(experiment, store)
    again.load(first.state())
    for step, batch in enumerate(there[1:], 1):
        train_step(again, losses, batch, step, experiment.optim, ALONE)
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), again.model.parameters(), strict=True))


def test_the_places_of_two_processes_are_those_of_one(store: Store) -> None:
    experiment = resolve(parse_experiment(tree_of(SPECS / "small" / "cliff.yaml"), "cliff"))
    shards = {"synthetic": open_shard(store.shard("synthetic", "train"), "synthetic")}
    dataset = draw_dataset(experiment, shards, store)
    whole = collate([dataset[draw] for draw in next(iter(StepDraws(BATCH, 0, 1, 0, 1)))]).place
    assert whole is not None
    for rank in range(2):
        part = collate([dataset[draw] for draw in next(iter(StepDraws(BATCH, 0, 1, rank, 2)))]).place
        assert part is not None
        for name in ("square", "picture_px", "crop", "intrinsics", "has_intrinsics"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[rank::2])


def test_a_shard_without_photo_sizes_is_refused(store: Store, tmp_path: Path) -> None:
    from dataclasses import replace

    from conftest import person, write_shard

    people = [replace(person(i), photo_px=(0, 0)) for i in range(3)]
    write_shard(tmp_path / "a.h5", people)
    with pytest.raises(
        RequestError, match="3 of 3 images have no photo size, and this model looks at the crop's place"
    ):
        check_places(open_shard(tmp_path / "a.h5", "synthetic"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"head": {"name": "iterative", "box": "cliff"}}, "takes none, got cliff; cliff is of method cliff"),
        ({"camera": "full_frame"}, "model.camera: method hmr takes crop_weak, got full_frame"),
        ({"head": {"name": "decoder"}, "features": "map"}, "method hmr takes iterative or direct, got decoder"),
        ({"method": "hmr2", "head": {"name": "decoder"}}, "model.features: head decoder reads a map: set map"),
        ({"features": "map"}, "model.features: head iterative reads a vector"),
    ],
)  # fmt: skip
def test_choices_that_contradict_the_method_are_named(changes: dict[str, Any], said: str) -> None:
    tree = {"name": "a", "body": "open", "data": {"mix": {"synthetic": 1.0}}, "model": changes}
    problems = name_problems(parse_experiment(tree, "a.yaml"))
    assert any(said in problem for problem in problems), problems


def test_fields_of_a_head_are_its_own() -> None:
    tree = {"name": "a", "data": {"mix": {"synthetic": 1.0}}, "model": {"head": {"name": "decoder", "stepps": 3}}}
    with pytest.raises(RequestError, match=r"model.head.stepps: no such field; known: name, layers, width"):
        parse_experiment(tree, "a.yaml")
    tree["model"] = {"head": {"name": "decoder", "box": "over_f"}}
    with pytest.raises(RequestError, match="model.head: box: over_f would have no effect: the query is a zero"):
        parse_experiment(tree, "a.yaml")
    tree["model"] = {}
    tree["losses"] = {"pose": {"distance": "mse", "weight": 1, "reduction": "sum"}}
    with pytest.raises(RequestError, match="reduction sum and of_batch belong together"):
        parse_experiment(tree, "a.yaml")


def test_a_camera_of_the_picture_projects_where_the_crop_s_does_for_a_point_at_the_root(store: Store) -> None:
    """And the mirrored and turned crops' places keep the labels' axes: a point before the camera stays in its place."""
    experiment = resolve(parse_experiment(tree_of(SPECS / "small" / "cliff.yaml"), "cliff"))
    (batch,) = batches(experiment, store, 1)
    weak = torch.tensor([[0.9, 0.1, -0.2]]).repeat(BATCH, 1)
    root = torch.zeros(BATCH, 1, 3)
    by_crop = project_to_crop(root, weak, PX)
    by_picture = project_to_crop(root, weak, PX, "full_frame", batch.place)
    zoom = PX / batch.place.square[:, 2]  # the methods count half a pixel of the picture aside
    aside = (0.5 - 0.5 * zoom)[:, None, None]
    torch.testing.assert_close(by_picture, by_crop + aside, rtol=1e-4, atol=1e-3)


def test_a_turned_person_s_place_projects_true_points_to_their_labels(tmp_path: Path) -> None:
    """A made-up camera, a point in space, its pixel: after rotation, scaling and mirroring, both still agree."""
    from dataclasses import replace

    from conftest import person, write_shard
    from numpy.random import default_rng

    from hmrb.data.augment import mirror
    from hmrb.data.loader import read_view
    from hmrb.data.places import conditioning, place_of
    from hmrb.data.warp import warp

    one = person(0)
    side = one.photo_px[0]
    focal, middle = 70.0, np.array([side / 2 - 3.0, side / 2 + 2.0])
    points = default_rng(0).uniform(-0.4, 0.4, (54, 3)) + (0.1, -0.1, 3.0)
    pixels = focal * points[:, :2] / points[:, 2:] + middle
    flat = np.concatenate([pixels, np.ones((54, 1))], 1).astype(np.float32)
    deep = np.concatenate([points, np.ones((54, 1))], 1).astype(np.float32)
    camera = np.array([focal, focal, *middle], np.float32)
    sample = replace(one, keypoints2d=flat, keypoints3d=deep, camera=camera)
    shard = open_shard(write_shard(tmp_path / "a.h5", [sample]), "synthetic")
    for flipped in (False, True):
        view = read_view(shard, 0)
        view = mirror(view) if flipped else view
        cut = warp(replace(view, rotation=0.4, side=1.3 * view.side), PX)
        place = conditioning([place_of(shard, 0, cut)])
        assert place is not None
        in_space = torch.from_numpy(cut.keypoints3d[:, :3])
        seen = place.intrinsics[0].double() @ in_space.double().T
        seen = (seen[:2] / seen[2:]).T
        in_crop = seen @ place.crop[0, :, :2].double().T + place.crop[0, :, 2].double()
        np.testing.assert_allclose(in_crop.numpy(), cut.keypoints2d[:, :2], atol=0.02)
