"""The commands that faults strike, what each needs, and what it must leave behind."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
import yaml
from conftest import tiny_tree, write_tiny_store
from machine import Machine
from predict.photos import jpeg, noise, untrained
from raw import leeds

from hmrb.models.hmr import build_model
from hmrb.spec import HeadSpec, ModelSpec

UNSTABLE = ("images_per_s", "data_wait", "limit", "seconds", "date", "hmrb", "code_version")
TEMPORARY = (".part", ".blocks", ".lock")


@dataclass(frozen=True)
class Scenario:
    """A command in a folder that `prepare` fills. `again` is what a user runs after a failure."""

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...]
    prepare: Callable[[Path, Machine], None]
    may_lack: tuple[str, ...] = ()
    """Names, from the folder's top, of files that a run may end well without, or that differ after a resumed run."""
    spared: str = "\0"
    """The start of the names of files that are not struck."""


def left_by(folder: Path, scenario: Scenario) -> dict[str, Any]:
    """What is in a folder and must not depend on faults: contents by name, without times and notes of times."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "verified.json"]
    named = {str(path.relative_to(folder)): path for path in files}
    return {name: content(path) for name, path in named.items() if not name.startswith(scenario.may_lack)}


def is_temporary(name: str) -> bool:
    return any(word in name for word in TEMPORARY)


def content(path: Path) -> Any:
    """What must be the same in a file; its bytes if it is half-written."""
    data = path.read_bytes()
    try:
        if path.name == ".lock":
            return None
        if path.suffix == ".json":
            # A record's sha is of its date, too; a prediction's plan gets its account at the end.
            return _steady(json.loads(data) | {"sha": "", "account": None})
        if path.suffix == ".jsonl":
            lines = [json.loads(line) for line in data.decode().splitlines()]
            return [_steady(line) for line in lines if not {"knobs", "limit"} & line.keys()]  # of each start, measured
        if path.suffix == ".pt":
            return _weights(torch.load(path, weights_only=True))
    except (ValueError, RuntimeError):
        return data
    if path.name == "report.html":
        return data.endswith(b"</html>\n") or data[-20:]
    return sha256(data).hexdigest()


def _weights(value: Any) -> Any:
    """A checkpoint's content, with hashes in place of tensors."""
    if isinstance(value, torch.Tensor):
        return sha256(value.numpy().tobytes()).hexdigest()
    if isinstance(value, dict):
        return {key: _weights(part) for key, part in value.items() if key not in UNSTABLE}
    return [_weights(part) for part in value] if isinstance(value, list | tuple) else value


def _steady(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _steady(part) for key, part in value.items() if key not in UNSTABLE}
    return [_steady(part) for part in value] if isinstance(value, list) else value


def _raw(folder: Path, machine: Machine) -> None:
    leeds.TREES["lsp"](folder / "raw", people=8)


def _spec(folder: Path, machine: Machine) -> None:
    """Two epochs of two steps, without the discriminator: checkpoints of 20 MB."""
    write_tiny_store(folder / "home")
    tree = tiny_tree()
    tree["model"]["head"]["hidden"] = 8
    tree["data"]["epoch_len"] = 8
    tree["optim"]["epochs"] = 2
    tree["adversary"] = {"weight": 0}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tree))


def _trained(folder: Path, machine: Machine) -> None:
    _spec(folder, machine)
    done = machine.hmrb(("train", "tiny.yaml", "--out", "run"), folder)
    assert done.code == 0, done.err
    for path in [path for path in (folder / "run").iterdir() if path.name != "best.pt"]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _scored(folder: Path, machine: Machine) -> None:
    _trained(folder, machine)
    done = machine.hmrb(SCENARIOS["eval"].words, folder)
    assert done.code == 0, done.err


def _theirs(folder: Path, machine: Machine) -> None:
    model = build_model(ModelSpec(backbone="mini", weights="none", head=HeadSpec(hidden=8)))
    state = {key.replace("backbone.network.", "backbone."): value for key, value in model.state_dict().items()}
    torch.save({"state_dict": state}, folder / "theirs.pth")


def _photos(folder: Path, machine: Machine) -> None:
    """A checkpoint and two photos."""
    write_tiny_store(folder / "home")
    untrained(folder / "model.pt", **SMALL)
    (folder / "photos").mkdir()
    for number in range(2):
        (folder / "photos" / f"{number}.jpg").write_bytes(jpeg(noise(40 + number, 60, seed=number)))


def _models(folder: Path, machine: Machine) -> None:
    """A store with a file that no published model has the name of: it is told by its hash."""
    (folder / "home" / "models").mkdir(parents=True)
    (folder / "home" / "models" / "a.pth").write_bytes(bytes(1000))


CONVERT = ("convert-data", "lsp", "--raw", "raw", "--workers", "1")
TRAIN = ("train", "tiny.yaml", "--out", "run")
EVAL = ("eval", "run/best.pt", "--bench", "synthetic", "--out", "out")
IMPORT = ("import-checkpoint", "theirs.pth", "-o", "ours.pt")
REPORT = ("report", "out", "--overview")
PREDICT = ("predict", "model.pt", "photos", "-o", "out", "--whole", "--device", "cpu", "--mesh", "glb")
EXPORT = ("export", "model.pt", "ours.pt2")
MODELS = ("list-models", "--json")
SMALL = {"model": tiny_tree()["model"] | {"head": {"name": "direct", "steps": 1, "hidden": 8, "dropout": 0}}}
ROWS = (
    Scenario("convert", CONVERT, CONVERT, _raw),
    # last.1.pt is of an earlier step when a checkpoint could not be written.
    Scenario("train", TRAIN, (*TRAIN, "--resume"), _spec, ("run/tensorboard", "run/last.1.pt")),
    Scenario("eval", EVAL, EVAL, _trained),
    Scenario("import", IMPORT, IMPORT, _theirs),
    Scenario("report", REPORT, REPORT, _scored),
    # A photo that cannot be read is left out and told, and the others are done: the next run has nothing to do.
    # What is left of the parts of a prediction harms nothing.
    Scenario("predict", PREDICT, PREDICT, _photos, ("out/parts",), spared="photos/"),
    Scenario("export", EXPORT, EXPORT, _photos, ("ours.pt2",)),  # a zip with times
    Scenario("models", MODELS, MODELS, _models),
)
SCENARIOS = {row.name: row for row in ROWS}
