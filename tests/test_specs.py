"""Every experiment in specs/ loads, uses known names, builds, and keeps its hash."""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from conftest import body_arrays, body_from
from typer.testing import CliRunner

from hmrb.bodykind import kind_of
from hmrb.check import name_problems, resolve
from hmrb.cli import app
from hmrb.models.cameras import BOX_NUMBERS
from hmrb.models.hmr import HMR, build_model
from hmrb.spec import STUDY_LOSSES, Experiment, ModelSpec, SpecError, load_experiment, parse_experiment
from hmrb.training.losses import Losses

SPECS = Path(__file__).parent.parent / "specs"
PATHS = sorted(SPECS.rglob("*.yaml"))
every_spec = pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(SPECS)))
L1 = dict.fromkeys(("keypoints3d", "keypoints2d", "vertices", "pose", "betas"), "l1")


@cache
def load(path: Path) -> Experiment:
    return load_experiment(path)


@cache
def built_from(text: str, body: str) -> HMR:
    with torch.device("meta"):
        return build_model(ModelSpec.model_validate_json(text), kind=kind_of(body)).eval()


def without_weights(experiment: Experiment) -> tuple[str, str]:
    """The model of a spec as text and its body: equal for the many specs of one network."""
    return experiment.model.model_copy(update={"weights": "none"}).model_dump_json(), experiment.body


@cache
def rotations_of(text: str, body: str) -> torch.Size:
    """Shape of what the network predicts for two pictures."""
    model, size = built_from(text, body), ModelSpec.model_validate_json(text).image_px
    told = [torch.zeros(2, BOX_NUMBERS, device="meta")] if model.box != "none" else []
    pictures = torch.zeros(2, 3, size, size, device="meta")[..., model.columns]
    with torch.device("meta"):
        return model.head(model.backbone(pictures), None, *told).rotmats.shape


@every_spec
def test_a_spec_names_what_exists_and_builds(path: Path) -> None:
    experiment = load(path)
    assert name_problems(experiment) == []
    assert rotations_of(*without_weights(experiment)) == (2, kind_of(experiment.body).num_joints, 3, 3)
    assert Losses(experiment.losses, body_from(body_arrays()))


@every_spec
def test_a_spec_opens_with_what_where_from_and_how_to_run(path: Path) -> None:
    text = path.read_text()
    comment = [line for line in text.splitlines() if line.startswith("#")]
    name = path.relative_to(SPECS).with_suffix("")
    assert len(comment) >= 3
    assert f"# hmrb train specs/{name}.yaml" in text
    assert re.search(r"(Study|Source): ", text)
    assert load(path).name == str(name).replace("/", "_")
    assert len(text.splitlines()) <= 40


@every_spec
def test_a_typo_in_a_spec_is_found(path: Path) -> None:
    """Adds a letter to every name that is looked up in a table or a type."""
    tree = yaml.safe_load(path.read_text())

    def problems(changed: dict) -> list[str]:
        try:
            return name_problems(parse_experiment(changed, "typo"))
        except SpecError as error:
            return [str(error)]

    for key in tree:
        assert problems({f"{k}x" if k == key else k: v for k, v in tree.items()}), key
    for op in tree["data"].get("augment", []):
        name = op if isinstance(op, str) else next(iter(op))
        assert problems(tree | {"data": tree["data"] | {"augment": [f"{name}x"]}}), name
        for argument in [] if isinstance(op, str) else op[name]:
            args = {f"{argument}x": op[name][argument]}
            assert problems(tree | {"data": tree["data"] | {"augment": [{name: args}]}}), argument
    mix = {f"{name}x": share for name, share in tree["data"]["mix"].items()}
    assert problems(tree | {"data": tree["data"] | {"mix": mix}})
    backbone = tree.get("model", {}).get("backbone", "resnet50")
    assert problems(tree | {"model": {"backbone": f"{backbone}x"}})


def test_no_recipe_moves_unseen() -> None:
    """If this fails, a resolved spec changed: check the difference, then run `hmrb list-specs --hashes`."""
    kept = dict(reversed(line.split()) for line in (SPECS / "hashes.txt").read_text().splitlines())
    now = {str(path.relative_to(SPECS)): resolve(load(path)).sha() for path in PATHS}
    assert now == kept


def test_the_study_is_here() -> None:
    here = {str(path.relative_to(SPECS).with_suffix("")) for path in PATHS}
    assert {f"mix{i}" for i in range(1, 12)} <= here
    assert {f"mix{i}_l1" for i in (1, 2, 5, 6, 7, 8, 9, 11)} <= here
    counts = {folder: sum(1 for name in here if re.fullmatch(rf"{folder}/\w+", name)) for folder in
              ("datasets", "backbones", "init", "augment", "combine", "algorithms")}  # fmt: skip
    assert counts == {"datasets": 31, "backbones": 10, "init": 9, "augment": 20, "combine": 21, "algorithms": 5}
    published = [load(path).published for path in (SPECS / "combine").glob("*.yaml")]
    assert sum(1 for rows in published if rows) == 9


def test_published_numbers_that_cannot_be_trusted_are_marked_and_no_target() -> None:
    doubted = {str(p.relative_to(SPECS).with_suffix("")) for p in PATHS if any(r.doubt for r in load(p).published)}
    named = {f"augment/{p.stem}" for p in (SPECS / "augment").glob("*.yaml")}
    named |= {"backbones/efficientnet_b5", "backbones/swin_t", "backbones/vit_b16"}
    named |= {"mix7", "mix11", "mix7_l1", "mix11_l1"}
    assert len(named) == 27
    assert named <= doubted
    for path in PATHS:
        doubts = {(r.benchmark, r.metric, r.value) for r in load(path).published if r.doubt}
        assert not doubts & {(r.benchmark, r.metric, r.value) for r in load(path).expected}


@pytest.mark.parametrize("path", [SPECS / f"mix{i}_l1.yaml" for i in (1, 2, 5, 6, 7, 8, 9, 11)], ids=lambda p: p.stem)
def test_an_l1_mix_is_its_mix_with_other_distances(path: Path) -> None:
    l1, plain = load(path), load(path.with_name(path.name.replace("_l1", "")))
    assert {name: term.distance for name, term in l1.losses.items()} == L1
    assert {name: term.weight for name, term in l1.losses.items()} == {n: t.weight for n, t in plain.losses.items()}
    assert l1.model_copy(update={"losses": plain.losses, "name": plain.name}).recipe() == plain.recipe()


def test_mix1_is_the_recorded_training_step() -> None:
    """The study's step in tests/training/test_train_step.py was recorded with this spec."""
    mix1 = load(SPECS / "mix1.yaml")
    assert (mix1.losses, mix1.model, mix1.adversary.weight) == (STUDY_LOSSES, ModelSpec(), 1.0)
    assert (mix1.optim.optimiser, mix1.optim.lr, mix1.optim.head_lr, mix1.adversary.lr) == ("adam", 2.5e-4, None, 1e-4)


def test_the_list_is_filtered_by_study_backbone_and_dataset() -> None:
    def listed(*options: str) -> list[str]:
        done = CliRunner().invoke(app, ["list-specs", str(SPECS), *options])
        assert done.exit_code == 0
        return [line.split()[0] for line in done.stdout.splitlines()[1:-1] if line[:1].strip()]

    assert len(listed()) == len(PATHS)
    assert listed("--study", "init", "--backbone", "hrnet-w32") == [
        f"init/hrnet_w32_{weights}.yaml" for weights in ("coco", "imagenet", "mpii")
    ]
    assert "mix7.yaml" in listed("--dataset", "prox")
    wrong = CliRunner().invoke(app, ["list-specs", str(SPECS), "--dataset", "prxo"])
    assert "no dataset named 'prxo'. Did you mean 'prox'" in str(wrong.exception)
