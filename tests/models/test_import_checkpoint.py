import json
import os
import pickle
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import hmrb, refused
from conftest import body_arrays, person, write_shard

from hmrb.body import load_body
from hmrb.checkpoint import load_checkpoint, load_weights_into
from hmrb.errors import RequestError
from hmrb.evaluation.evaluate import evaluate_checkpoint
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.models.hmr import HMR, build_model
from hmrb.models.importing import import_model
from hmrb.models.weight_files import read_weights
from hmrb.parallel.world import World
from hmrb.spec import HeadSpec, ModelSpec

State = dict[str, torch.Tensor]


def trained() -> HMR:
    """A small foreign model whose regressor does not have the default width."""
    return build_model(ModelSpec(backbone="mini", weights="none", head=HeadSpec(hidden=32)))


def study_names(model: HMR) -> State:
    return {key.replace("backbone.network.", "backbone."): value for key, value in model.state_dict().items()}


def spin_names(model: HMR) -> State:
    state = study_names(model)
    return {key.removeprefix("backbone.").removeprefix("head."): value for key, value in state.items()}


def test_a_checkpoint_of_the_study_becomes_one_of_ours(tmp_path: Path) -> None:
    model = trained()
    extra = {
        "disc.pose_discriminator.fc_layer.0.weight": torch.ones(1),
        "body_model_train.v_template": torch.ones(4, 3),
        "ema_backbone_conv1_0_weight": torch.zeros(12, 3, 3, 3),
    }
    hooks = {"best_score": np.float64(55.9), "rates": np.arange(3.0)}  # as in mmcv's meta
    torch.save({"meta": {"hook_msgs": hooks}, "state_dict": study_names(model) | extra}, tmp_path / "study.pth")
    done = hmrb("import-checkpoint", str(tmp_path / "study.pth"), "-o", str(tmp_path / "ours.pt"))
    assert done.returncode == 0, done.stderr
    assert "HMR of the study or mmhuman3d (their files look alike), backbone mini, features mean" in done.stdout
    lines = [line.split()[:3] for line in done.stdout.splitlines()]
    count = str(len(model.backbone.state_dict()))
    assert ["used", count, "backbone"] in lines
    assert ["used", "13", "head"] in lines
    for group in ("disc:", "body_model_train:", "ema_*:"):
        assert ["dropped", "1", group] in lines
    assert ["not", "read", "meta"] in lines
    checkpoint = load_checkpoint(tmp_path / "ours.pt")
    assert checkpoint.experiment().model.head.hidden == 32
    copy = build_model(checkpoint.experiment().model)
    load_weights_into(copy, checkpoint, "ours.pt")
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        mine, theirs = copy.eval()(image), model.eval()(image)
    assert torch.equal(mine.rotmats, theirs.rotmats)
    assert torch.equal(mine.camera, theirs.camera)
    again = hmrb("import-checkpoint", str(tmp_path / "study.pth"), "-o", str(tmp_path / "ours.pt"))
    refused(again, "ours.pt already exists; choose another name with --out")


@pytest.mark.parametrize("zipped", [True, False])
def test_spin_s_flat_names_and_old_file_format_are_read(zipped: bool, tmp_path: Path) -> None:
    model = trained()
    content = {"model": spin_names(model), "epoch": 3, "dataset_perm": np.arange(5), "loss": np.float32(1)}
    torch.save(content, tmp_path / "spin.pt", _use_new_zipfile_serialization=zipped)
    imported = import_model(tmp_path / "spin.pt", "spin", "mini")
    assert imported.made_by == "SPIN"
    for key, value in model.state_dict().items():
        assert torch.equal(imported.arrays[key], value), key


class Bomb:
    def __reduce__(self) -> tuple:
        return os.system, ("touch exploded",)


def write(kind: str, path: Path) -> None:
    """Write a file of this kind."""
    model = trained()
    state = study_names(model)
    backbone = {key: value for key, value in state.items() if key.startswith("backbone.")}
    if kind in ("bomb", "old bomb"):
        content = {"state_dict": state, "meta": Bomb()}
        torch.save(content, path, _use_new_zipfile_serialization=kind == "bomb")
    elif kind == "bare bomb":
        path.write_bytes(pickle.dumps({"state_dict": Bomb()}, protocol=2))
    elif kind == "path":
        torch.save({"state_dict": state, "meta": {"work_dir": path}}, path)
    elif kind in ("cut", "old cut"):
        torch.save({"state_dict": state}, path, _use_new_zipfile_serialization=kind == "cut")
        path.write_bytes(path.read_bytes()[:-500])
    elif kind in ("text", "empty"):
        path.write_text("hello\n" * 20 if kind == "text" else "")
    elif kind == "swelling":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("archive/data.pkl", b"\0" * 10_000_000)
    elif kind == "list":
        torch.save([torch.ones(3)], path)
    elif kind == "numbers":
        torch.save({"epoch": 3, "loss": 0.5}, path)
    elif kind == "pose network":
        torch.save({"state_dict": backbone | {"keypoint_head.final_layer.weight": torch.ones(17, 256)}}, path)
    elif kind == "backbone":
        torch.save(model.backbone.network.state_dict(), path)
    elif kind == "something":
        torch.save({"generator.weight": torch.ones(3), "mapping.weight": torch.ones(3)}, path)
    elif kind == "neck":
        torch.save({"state_dict": state | {"neck.gru.weight": torch.ones(3)}}, path)
    elif kind == "other backbone":
        torch.save({"state_dict": {key: value[:6] if value.ndim == 4 else value for key, value in state.items()}}, path)
    elif kind == "other regressor":
        state["head.fc1.weight"] = torch.ones(32, 99)
        torch.save({"state_dict": state}, path)
    elif kind == "claims":
        state["head.decpose.weight"] = torch.ones(1).expand(144, 10**9)
        torch.save({"state_dict": state}, path)
    elif kind == "no mean":
        del state["head.init_pose"]
        torch.save({"state_dict": state}, path)
    elif kind == "more":
        torch.save({"state_dict": state | {"backbone.layer5.weight": torch.ones(3), "head.extra": torch.ones(1)}}, path)
    elif kind == "less":
        del state["backbone.layer2.0.conv1.weight"]
        torch.save({"state_dict": state}, path)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("bomb", r"rejected: it wants to call '(posix|nt).system', which tensors do not need"),
        ("old bomb", r"rejected: it wants to call '(posix|nt).system'"),
        ("bare bomb", r"rejected: it wants to call '(posix|nt).system'"),
        ("path", r"rejected: it wants to call 'pathlib\.[\w.]+',(.|\n)*'state_dict': c.get\('state_dict'"),
        ("cut", "not a weights file written by torch, or truncated"),
        ("old cut", "not a weights file written by torch, or truncated"),
        ("text", "not a weights file written by torch, or truncated"),
        ("empty", "not a weights file written by torch, or truncated"),
        ("gone", "no such file"),
        ("swelling", ".*it is compressed, which torch never writes"),
        ("list", "contains a list, expected a dict of tensors"),
        ("numbers", "no tensors found under 'state_dict', .*; it contains epoch, loss"),
        (
            "pose network",
            "contains no body regressor, only a pose network.*model.backbone: mini and model.weights: PATH in a spec",
        ),
        ("backbone", "contains no body regressor, .*model.backbone: mini and model.weights: PATH in a spec"),
        ("something", "not a checkpoint of the study, mmhuman3d or SPIN .*; it contains generator, mapping"),
        ("neck", r"another method's checkpoint; an HMR model does not have these parts: neck \(1 tensors\)"),
        ("other backbone", r"unknown backbone \(judging by tensor shapes\); known: resnet50, .*mini"),
        ("other regressor", r"does not fit: 1 with a wrong shape \(fc1.weight \(32, 99\), expected \(32, 413\)\)"),
        ("claims", r"rejected: head.decpose.weight has shape \(144, 1000000000\), more than the file's values"),
        ("no mean", r"does not fit: 1 missing in the file \(init_pose\)"),
        ("more", r"does not fit: 1 not in the model \(network.layer5.weight\)"),
        ("less", r"does not fit: 1 missing in the file \(network.layer2.0.conv1.weight\)"),
    ],
)
def test_what_can_t_be_imported_is_refused_and_not_run(
    kind: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(kind, tmp_path / "theirs.pth")
    with pytest.raises(RequestError, match=rf"theirs\.pth: {message}"):
        import_model(tmp_path / "theirs.pth")
    done = hmrb("import-checkpoint", "theirs.pth", "-o", "ours.pt")
    refused(done, "hmrb: theirs.pth: ")
    assert {path.name for path in tmp_path.iterdir()} <= {"theirs.pth"}  # no code ran, no file was written


def test_a_file_has_to_be_what_it_is_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "study.pth"
    torch.save({"state_dict": study_names(trained())}, path)
    for kind in ("study", "mmhuman3d"):
        assert import_model(path, kind).spec.backbone == "mini"
    with pytest.raises(RequestError, match="looks like a checkpoint of the study or mmhuman3d .*, not of spin"):
        import_model(path, "spin")
    with pytest.raises(RequestError, match="no kind of checkpoint named 'spyn'. Did you mean 'spin'?"):
        import_model(path, "spyn")
    with pytest.raises(RequestError, match=r"its backbone is 'mini' \(judging by tensor shapes\), not 'vit_b'"):
        import_model(path, backbone="vit_b")
    done = hmrb("import-checkpoint", str(path), "-o", str(tmp_path / "nowhere" / "ours.pt"))
    refused(done, "no such folder")


def test_an_imported_checkpoint_is_scored_with_the_body_here_and_says_so(write_smpl, tmp_path: Path) -> None:
    store = write_smpl(**body_arrays(6890))
    write_shard(store.shard("synthetic", "test"), [person(0), person(1)], split="test", body="smpl")
    torch.save({"state_dict": study_names(trained())}, tmp_path / "study.pth")
    done = hmrb("import-checkpoint", str(tmp_path / "study.pth"), "-o", str(tmp_path / "ours.pt"), "--json")
    made = json.loads(done.stdout)
    assert (made["file"], made["backbone"], made["body"]) == (str(tmp_path / "ours.pt"), "mini", "smpl")
    assert made["report"][0].startswith(f"{tmp_path / 'study.pth'}: HMR of the study")
    done = hmrb("eval", str(tmp_path / "ours.pt"), "--bench", "synthetic", "--json", home=store.root)
    assert done.returncode == 0, done.stderr
    (record,) = json.loads(done.stdout)
    assert record["source"]["body"] == {"name": "smpl", "sha": "unknown"}
    assert record["conditions"]["body_sha"] == load_body("smpl", store=store).sha
    assert record["source"]["chosen_by"].startswith("unknown: imported from study.pth, sha ")
    assert record["source"]["trained_on"] == {}
    assert record["metrics"]["mpjpe"]["value"] > 0
    trained_elsewhere = replace(load_checkpoint(tmp_path / "ours.pt"), body={"name": "smpl", "sha": "0123"})
    with pytest.raises(RequestError, match="was trained with body 'smpl' 0123"):
        evaluate_checkpoint(trained_elsewhere, BENCHMARKS["synthetic"], store, World(0, 1, torch.device("cpu")))
    write_shard(store.shard("synthetic", "test"), [person(0)], split="test")
    said = "synthetic: its people are labelled with body 'open', but the checkpoint has body 'smpl'"
    refused(hmrb("eval", str(tmp_path / "ours.pt"), "--bench", "synthetic", home=store.root), said)
    again = hmrb("import-checkpoint", str(tmp_path / "ours.pt"), "-o", str(tmp_path / "again.pt"))
    refused(again, "already an hmrb checkpoint; pass it to hmrb eval directly")


def test_settings_beside_the_weights_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning's files hold the trainer's settings, in classes of packages that nobody needs to have."""
    import types

    module = types.ModuleType("yacs.config")
    node = type("CfgNode", (dict,), {"__module__": "yacs.config"})
    module.CfgNode = node  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    settings = node(LR=1e-5, MODEL=node(NAME="a"))
    settings.__dict__["__immutable__"] = False
    content = {"state_dict": {"a.weight": torch.ones(2)}, "hyper_parameters": {"cfg": settings}}
    torch.save(content, tmp_path / "a.ckpt")
    monkeypatch.undo()
    found = read_weights(tmp_path / "a.ckpt")
    assert torch.equal(found["state_dict"]["a.weight"], torch.ones(2))
    assert type(found["hyper_parameters"]["cfg"]).__name__ == "OrderedDict"
