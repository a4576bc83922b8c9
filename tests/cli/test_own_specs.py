"""Specs by name, copied, and of one's own, in any folder; and hmrb as it is installed from its wheel."""

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest
from command import hmrb, refused

from hmrb.cli import app
from hmrb.cli.shipped import find_spec, shipped_specs
from hmrb.spec import load_experiment

ROOT = Path(__file__).parents[2]
OWN = {"name", "published", "expected"}


@pytest.mark.parametrize("name", ["quickstart", "backbones/hrnet_w32", "backbones/hrnet-w32", "specs/quickstart.yaml"])
def test_a_spec_of_hmrb_is_found_by_name_in_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = hmrb("train", name, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert re.search("^name: (quickstart|backbones_hrnet_w32)$", done.stdout, re.M)


def test_a_path_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_spec(Path("quickstart")) == shipped_specs()["quickstart"]
    Path("quickstart").write_text("name: mine\ndata: {mix: {synthetic: 1}}\n")
    assert "name: mine" in hmrb("train", "quickstart", "--dry-run").stdout


def test_a_miss_names_the_nearest_files_and_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("quickstar.yaml").write_text("")
    said = "quickstat: not a readable spec: no such file, and no spec of hmrb has this name"
    refused(hmrb("train", "quickstat"), f"{said}; nearest files: quickstar.yaml; nearest names: quickstart")
    refused(hmrb("flops", "hrnet_w32"), "nearest names: backbones/hrnet_w32")
    refused(hmrb("show-augment", "zzz"), "this name; hmrb list-specs lists them")
    refused(hmrb("flops", "."), ".: not a readable spec: a folder, not a file")
    refused(hmrb("train", "."), "quickstar.yaml: a spec must be a table of fields, got an empty file")


def test_specs_are_listed_and_copied_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert f"{len(shipped_specs())} specs" in hmrb("list-specs").stdout
    assert hmrb("list-specs", "--study", "init", "--copy", "mine").stdout == "mine: 9 specs\n"
    assert Path("mine/init/hrnet_w32_coco.yaml").read_bytes() == (ROOT / "specs/init/hrnet_w32_coco.yaml").read_bytes()
    assert hmrb("list-specs", "mine").stdout.count("init/") == 9
    Path("mine/init/hrnet_w32_coco.yaml").write_text("mine")
    refused(hmrb("list-specs", "--copy", "mine"), "1 other files of these names, the first mine/init/hrnet_w32_coco")
    assert len(list(Path("mine").rglob("*.yaml"))) == 9
    Path("file").write_text("")
    refused(hmrb("list-specs", "--copy", "file"), "file: the specs could not be copied", code=1)


@pytest.mark.parametrize("name", ["quickstart", "mix9_l1", "mix5_mse", "datasets/3doh50k", "augment/h36m_self_mix"])
def test_a_new_spec_is_the_one_that_it_is_made_from(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with every comment of a field made a field."""
    monkeypatch.chdir(tmp_path)
    done = hmrb("new", "mine/my_experiment", "--from", name)
    assert done.returncode == 0, done.stderr
    path = Path("mine/my_experiment.yaml")
    base = load_experiment(shipped_specs()[name]).model_dump(exclude=OWN)
    made = load_experiment(path)
    assert (made.model_dump(exclude=OWN), made.name) == (base, "my_experiment")
    text = path.read_text()
    assert "# Learning rate of the regressor; by default `lr`." in text
    fields = text[text.index("\nname:") :]
    path.write_text(re.sub(r"^# ( *(- )?[a-z0-9_]+:| +#)", r"\1", fields, flags=re.M))
    everything = load_experiment(path)
    assert everything.model_dump(exclude=OWN) == base
    assert {"seed", "model", "optim", "speed", "losses"} <= everything.model_fields_set
    assert {"epochs", "ema"} <= everything.optim.model_fields_set


def test_a_new_spec_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text("kept")
    refused(hmrb("new", "mine"), "mine.yaml: exists; choose another name")
    assert Path("mine.yaml").read_text() == "kept"
    refused(hmrb("new", "my experiment"), "my experiment.yaml: name: String should match pattern")
    refused(hmrb("new", "other", "--from", "quikstart"), "nearest names: quickstart")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]


def test_every_verb_has_a_short_help() -> None:
    said = hmrb("-h").stdout.partition("Begin:")[2].partition("Begin with:")[0]
    verbs = re.findall(r"^  ([a-z-]+)  ", said, re.M)
    assert len(verbs) == len([command for command in app.registered_commands if not command.hidden]) >= 17
    for verb in verbs:
        assert hmrb(verb, "-h").stdout == hmrb(verb, "--help").stdout != ""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_wheel_works_outside_the_repository(tmp_path: Path) -> None:
    """In an environment of its own, which shares only the packages that hmrb depends on."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True)
    (wheel,) = tmp_path.glob("hmrb-*.whl")
    packed = ZipFile(wheel).namelist()
    for terms in ("LICENSE", "NOTICE", *(path.relative_to(ROOT) for path in ROOT.glob("hmrb/**/LICENSE.md"))):
        assert any(name.endswith(f".dist-info/licenses/{terms}") for name in packed), terms
    panoramas = {path.name for path in (ROOT / "hmrb" / "synthetic" / "panoramas").glob("*.jpg")}
    assert panoramas == {name.rpartition("/")[2] for name in packed if "/panoramas/" in name and name.endswith(".jpg")}
    home = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / "bin/python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    (packages,) = home.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib"))  # its own .pth files are not read
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment |= {"HMRB_HOME": str(tmp_path / "store")}

    def run(*words: str) -> str:
        done = subprocess.run(
            [home / "bin/hmrb", *words], cwd=elsewhere, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert f"{len(shipped_specs())} specs" in run("list-specs")
    assert "name: quickstart" in run("train", "quickstart", "--dry-run")
    assert str(packages) in run("new", "mine", "--from", "backbones/hrnet_w32")
    assert "3dpw" in run("list-datasets", "3dpw")
    run("convert-data", "synthetic", "--people", "4", "--split", "train", "--workers", "1")
    assert "4 people" in run("verify", "synthetic_train")
