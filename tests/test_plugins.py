"""Backbones, heads, losses and methods of other packages: found, checked, trained with, recorded."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import hmrb, refused
from conftest import tiny_tree, write_tiny_store
from plugged import EXAMPLE, install, install_example

from hmrb.check import name_problems, resolve
from hmrb.checkpoint import load_checkpoint
from hmrb.errors import RequestError
from hmrb.evaluation.records import read_record
from hmrb.models.hmr import build_model
from hmrb.plugins import check_packages
from hmrb.spec import Experiment, ModelSpec, SpecError, load_experiment, parse_experiment

MODULES = "hmrb_example", "hmrb_example.mixer", "hmrb_example.residual", "hmrb_example.plausible", "theirs"


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = install_example(tmp_path / "site")
    monkeypatch.syspath_prepend(str(folder))
    return folder


def example_tree(**changes: Any) -> dict[str, Any]:
    """The tiny experiment with the parts of the example."""
    tree = tiny_tree()
    tree["model"] |= {
        "backbone": "example-mixer", "backbone_args": {"patch_px": 8, "width": 8},
        "head": {"name": "example_residual", "hidden": 16, "args": {"blocks": 1}},
    }  # fmt: skip
    tree["losses"]["example_plausible"] = {"distance": "mse", "weight": 1, "args": {"free": 0}}
    tree["optim"] |= {"epochs": 1, "batch": 20}
    return tree | changes


def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, group: str = "heads", name: str = "own") -> None:
    """Installs the package `theirs` 1.2, whose module offers `make` under a name."""
    folder = install(tmp_path / "theirs", "theirs", "1.2", {f"hmrb.{group}": {name: "theirs:make"}})
    (folder / "theirs.py").write_text(code)
    monkeypatch.syspath_prepend(str(folder))


def head(**changes: Any) -> Experiment:
    tree = tiny_tree()
    tree["model"]["head"] |= {"name": "own", **changes}
    return parse_experiment(tree, "a test")


def built(experiment: Experiment) -> str:
    """The message that refuses its model."""
    with pytest.raises(RequestError) as refusal:
        build_model(experiment.model)
    return str(refusal.value)


def test_the_example_trains_and_is_scored_and_recorded(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, run = write_tiny_store(tmp_path / "home").root, tmp_path / "run"
    spec = tmp_path / "example.yaml"
    spec.write_text(yaml.safe_dump(example_tree()))
    done = hmrb("train", str(spec), "--out", str(run), "--cpu-procs", "1", home=home)
    assert done.returncode == 0, done.stderr
    experiment = load_checkpoint(run).experiment()
    assert experiment.packages == {"hmrb-example": "0.1.0"}
    assert experiment.model.backbone_args == {"patch_px": 8, "width": 8, "blocks": 2}  # its default is written out
    record = read_record(next((run / "eval").glob("*.json")))
    assert record.source.spec["packages"] == {"hmrb-example": "0.1.0"}
    assert "example_plausible" in (run / "log.jsonl").read_text()

    newer = tmp_path / "newer"
    install_example(newer, version="0.2.0")
    monkeypatch.syspath_prepend(str(newer))
    refused(
        hmrb("eval", str(run), "--bench", "synthetic", home=home),
        "needs the package hmrb-example 0.1.0, but 0.2.0 is installed: pip install hmrb-example==0.1.0",
    )
    refused(hmrb("train", str(spec), "--out", str(run), "--resume", "--cpu-procs", "1", home=home), "0.2.0 requested")


def test_its_spec_and_its_metadata_are_right(example: Path) -> None:
    experiment = load_experiment(EXAMPLE / "example.yaml")
    assert name_problems(experiment) == []
    resolved = resolve(experiment)
    assert (resolve(resolved), resolved.packages) == (resolved, {"hmrb-example": "0.1.0"})
    other = resolved.model_copy(update={"packages": {"hmrb-example": "0.0.9"}})
    assert other.sha() != resolved.sha()
    assert "needs the package hmrb-example 0.0.9, but 0.1.0 is installed" in "\n".join(name_problems(other))


@pytest.mark.heavy
def test_pip_installs_the_example(tmp_path: Path) -> None:
    source, site = tmp_path / "source", tmp_path / "site"
    shutil.copytree(EXAMPLE, source)
    words = "-m", "pip", "install", "-q", "--no-deps", "-t", str(site), str(source)
    subprocess.run([sys.executable, *words], check=True, timeout=300)
    by_pip = next(site.glob("*.dist-info")) / "entry_points.txt"
    by_hand = next(install_example(tmp_path / "hand").glob("*.dist-info")) / "entry_points.txt"
    assert set(by_pip.read_text().split()) == set(by_hand.read_text().split())


def test_arguments_are_validated_and_all_problems_named(example: Path) -> None:
    tree = example_tree()
    tree["model"]["backbone_args"] = {"patch_px": 0, "widht": 8}
    tree["losses"]["example_plausible"]["args"] = {"free": "much"}
    tree["losses"]["pose"]["args"] = {"x": 1}
    found = "\n".join(name_problems(parse_experiment(tree, "a test")))
    assert "backbone 'example_mixer': patch_px=0: Input should be greater than 0" in found
    assert "has no argument 'widht'; it takes patch_px=16, width=128, blocks=2 (package hmrb-example 0.1.0)" in found
    assert "loss 'example_plausible': free='much': Input should be a valid number" in found
    assert "loss 'pose' is of hmrb and takes no args, got x; leave them out" in found
    tree = example_tree()
    tree["model"]["backbone_args"] = {"patch_px": 5}
    message = built(parse_experiment(tree, "a test"))
    assert message.endswith("cannot be built: ValueError: image_px 32 is no multiple of patch_px 5")
    assert message.startswith("the backbone 'example_mixer' of the package hmrb-example 0.1.0")


def test_an_unknown_name_lists_what_packages_offer(example: Path) -> None:
    tree = example_tree()
    tree["model"] |= {"backbone": "example_mixr", "head": {"name": "example_residul"}}
    tree["losses"] = {"exampel_plausible": {"distance": "mse", "weight": 1}}
    found = name_problems(parse_experiment(tree, "a test"))
    assert [
        word in line
        for word, line in zip(("example_mixer", "example_residual", "example_plausible"), found, strict=False)
    ]
    assert all("Did you mean 'example_" in line for line in found)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("import nowhere", "cannot be imported from theirs:make: ModuleNotFoundError: No module named 'nowhere'"),
        ("raise SystemExit(3)", "cannot be imported from theirs:make: SystemExit: 3"),
        ("def make(:", "SyntaxError"),
        ("", "AttributeError"),
        ("make = 3", "is a int, not a function or class"),
        ("def make(num, spec, kind, *, x: 'Nothing' = 1): ...", "has arguments that cannot be read: NameError"),
        ("def make(num, spec, kind, *, x=object()): ...", "has a default that no spec can state"),
    ],
)
def test_a_broken_package_is_named(code: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, code)
    (problem,) = name_problems(head())
    assert "the head 'own' of the package theirs 1.2" in problem
    assert said in problem


HEADS = {
    "def make(num, spec, kind): return 1 / 0": "cannot be built: ZeroDivisionError: division by zero",
    "def make(num): ...": "cannot be built: TypeError",
    "def make(num, spec, kind): return 3": "it is a int, not a torch.nn.Module",
    "import torch\ndef make(num, spec, kind): return torch.nn.Linear(num, 3)": "it lacks init_pose, init_shape",
    (
        "import torch\nfrom hmrb.models.head import keep_mean\nclass make(torch.nn.Module):\n"
        "    def __init__(self, num, spec, kind):\n        super().__init__()\n        keep_mean(self, kind)\n"
        "    def forward(self, features, keys): return features\n"
    ): "it returns a Tensor, not a hmrb.batch.Prediction",
}


@pytest.mark.parametrize("code", HEADS)
def test_a_head_that_does_not_fit_is_named(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, code)
    message = built(head())
    assert message.startswith("the head 'own' of the package theirs 1.2")
    assert HEADS[code] in message


@pytest.mark.parametrize(
    ("code", "changes", "said"),
    [
        ("import torch\ndef make(px): return torch.nn.Flatten(0)", {}, "the network returns shape"),
        ("import torch\ndef make(px): return torch.nn.Flatten(0)", {"features": "study"}, "has no features study"),
        ("import torch\ndef make(px): return torch.nn.Flatten(0)", {"drop_path": 0.1}, "no stochastic depth"),
        ("def make(px): return 3", {}, "makes a int"),
    ],
)
def test_a_backbone_that_does_not_fit_is_named(
    code: str, changes: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, monkeypatch, code, "backbones")
    spec = ModelSpec.model_validate({"backbone": "own", "weights": "none", "image_px": 32, **changes})
    with pytest.raises(RequestError, match=r"theirs 1\.2.*" + said):
        build_model(spec)


def test_a_method_of_another_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from hmrb.models.hmr import HMR
class make(HMR):
    def __init__(self, spec, store, kind, *, twice: bool = False):
        super().__init__(spec, store, kind)
        self.twice = twice
"""
    offer(tmp_path, monkeypatch, code, "methods")
    tree = tiny_tree()
    tree["model"] |= {"method": "own", "args": {"twice": True}}
    experiment = parse_experiment(tree, "a test")
    assert name_problems(experiment) == []
    assert build_model(experiment.model).twice
    parts = "backbone, head, weights_used, crop_rule, kind, infer"
    lines = ("class make:", f"    {parts.replace(', ', ' = ')} = 0", "    def __init__(self, spec, store, kind): pass")
    (tmp_path / "theirs" / "theirs.py").write_text("\n".join(lines))
    monkeypatch.delitem(sys.modules, "theirs")
    further = experiment.model.model_copy(update={"args": {}, "weights": "theirs.pt", "start": "all"})
    with pytest.raises(RequestError, match="model.start: all: .* takes no checkpoint's head; use start: backbone"):
        build_model(further)
    (tmp_path / "theirs" / "theirs.py").write_text("def make(spec, store, kind, *, twice): return 3")
    monkeypatch.delitem(sys.modules, "theirs")
    assert "does not work as a method: it lacks backbone, head" in built(experiment)


@pytest.mark.parametrize(("name", "owner"), [("own", "mine 3"), ("direct", "hmrb itself")])
def test_a_name_belongs_to_one_package(name: str, owner: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "", name=name)
    if name == "own":
        monkeypatch.syspath_prepend(str(install(tmp_path / "mine", "mine", "3", {"hmrb.heads": {"own": "mine:make"}})))
    (problem,) = name_problems(head(name=name))
    assert owner in problem
    assert "theirs 1.2" in problem
    assert "have this name; uninstall" in problem


def test_a_backbone_cannot_take_the_name_of_a_timm_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(tmp_path, monkeypatch, "", "backbones", "resnet10t")
    tree = tiny_tree()
    tree["model"]["backbone"] = "resnet10t"
    (problem,) = name_problems(parse_experiment(tree, "a test"))
    assert "theirs 1.2 has the name of a model of timm" in problem


def test_a_package_is_imported_only_where_a_spec_names_it(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(tmp_path, monkeypatch, "raise SystemExit(3)")
    assert hmrb("train", "--help").returncode == 0
    assert name_problems(parse_experiment(tiny_tree(), "a test")) == []
    assert not {"theirs", "hmrb_example"} & sys.modules.keys()
    name_problems(parse_experiment(example_tree(), "a test"))
    assert "hmrb_example.mixer" in sys.modules


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(RequestError, match="the run needs the package nowhere 1, but it is not installed"):
        check_packages({"nowhere": "1"}, "the run")


@pytest.mark.parametrize("packages", [{"../x": "1"}, {"\x1b[2J": "1"}, {"x": "1\n"}, {"x": 1}, {"": "1"}])
def test_a_crafted_name_of_a_package_is_refused(packages: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="packages"):
        parse_experiment(tiny_tree() | {"packages": packages}, "a checkpoint")
