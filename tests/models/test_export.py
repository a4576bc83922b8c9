"""`hmrb export`: ONNX and torch.export files that predict as torch does, and say how to use them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from command import hmrb, refused
from conftest import body_arrays, tiny_tree

import hmrb.export as exporting
from hmrb.body import load_body
from hmrb.checkpoint import Checkpoint, save_checkpoint
from hmrb.data.loader import normalised
from hmrb.models.hmr import HMR, build_model
from hmrb.spec import parse_experiment

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of the exporters


def saved(path: Path, body: str = "open", sha: str = "") -> HMR:
    """A model whose last layers are not almost 0, as a checkpoint at the path."""
    tree = tiny_tree() | {"body": body}
    tree["model"]["head"] = {"name": "iterative", "hidden": 16}
    experiment = parse_experiment(tree, "tiny")
    torch.manual_seed(0)
    model = build_model(experiment.model).eval()
    for layer in (model.head.decpose, model.head.decshape, model.head.deccam):
        torch.nn.init.normal_(layer.weight, std=0.1)
    checkpoint = Checkpoint(
        spec=experiment.model_dump_json(), model=model.state_dict(), training={}, step=3,
        body={"name": body, "sha": sha or load_body("open").sha}, shards={}, chosen_by="a test", score=None,
        code_version="0", torch_version="2",
    )  # fmt: skip
    save_checkpoint(checkpoint, path)
    return model


def pictures(count: int) -> torch.Tensor:
    rng = np.random.default_rng(7)
    return normalised(torch.from_numpy(rng.integers(0, 256, (count, 3, 32, 32), np.uint8)))


def test_an_onnx_file_predicts_as_torch_does_for_any_number_of_people(tmp_path: Path) -> None:
    import onnxruntime

    model = saved(tmp_path / "c.pt")
    done = hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "m.onnx"), "--body")
    assert done.returncode == 0, done.stderr
    for said in ("ONNX opset 18, fp32", "Bx3x32x32", "vertices", "allowed: 0.0001 of"):
        assert said in done.stdout
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape[1:]) == ("image", "tensor(float)", [3, 32, 32])
    names = [output.name for output in session.get_outputs()]
    assert names == ["rotmats", "betas", "camera", "vertices", "joints"]
    for count in (1, 5):
        with torch.no_grad():
            want = model(pictures(count))
            mesh = load_body("open")(want.rotmats, want.betas)
        wanted = (want.rotmats, want.betas, want.camera, mesh.vertices, mesh.chain)
        for name, theirs, ours in zip(
            names, session.run(None, {"image": pictures(count).numpy()}), wanted, strict=True
        ):
            np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4, err_msg=name)
    said = session.get_modelmeta().custom_metadata_map
    assert json.loads(said["mean"]) == [0.485, 0.456, 0.406]
    assert json.loads(said["std"]) == [0.229, 0.224, 0.225]
    assert said["spec_hash"]
    assert said["body_licence"] == "CC0, part of hmrb"
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt", "m.onnx"}


def test_a_program_of_torch_export_needs_no_extra_and_keeps_the_metadata(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, module, None)  # not installed
    model = saved(tmp_path / "c.pt")
    refused(hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "m.onnx")), "onnx is required to export")
    assert not (tmp_path / "m.onnx").exists()
    done = hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "m.pt2"), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["path"], told["bytes"]) == (str(tmp_path / "m.pt2"), (tmp_path / "m.pt2").stat().st_size)
    assert told["differences"].keys() == {"rotmats", "betas", "camera"}
    extra = {"hmrb.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    with torch.no_grad():
        rotmats, betas, camera = program(pictures(4))
        want = model(pictures(4))
    assert torch.allclose(rotmats, want.rotmats, atol=1e-5)
    assert torch.allclose(betas, want.betas, atol=1e-5)
    assert torch.allclose(camera, want.camera, atol=1e-5)
    assert json.loads(extra["hmrb.json"])["outputs"] == "rotmats, betas, camera"


def test_an_export_that_differs_from_torch_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "c.pt")
    (tmp_path / "m.pt2").write_bytes(b"of before")
    exact = exporting._as_program

    def wrong(*arguments: object) -> exporting.Predict:
        run = exact(*arguments)  # type: ignore[arg-type]
        return lambda image: tuple(output + 0.01 for output in run(image))

    monkeypatch.setattr(exporting, "_as_program", wrong)
    done = hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "m.pt2"))
    assert done.returncode == 1
    assert "not written: rotmats differs from torch by 1.0e-02, allowed are 1.0e-04" in done.stderr
    assert (tmp_path / "m.pt2").read_bytes() == b"of before"
    assert {path.name for path in tmp_path.iterdir()} == {"c.pt", "m.pt2"}


def test_what_cannot_be_exported_is_refused(write_smpl, tmp_path: Path) -> None:
    saved(tmp_path / "c.pt")
    refused(hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "m.tflite")), "must end in .onnx or .pt2")
    refused(hmrb("export", str(tmp_path / "c.pt"), str(tmp_path / "no" / "m.pt2")), "no such folder")
    refused(hmrb("export", "spinn", str(tmp_path / "m.pt2")), "no model 'spinn'")
    store = write_smpl(**body_arrays(6890))
    saved(tmp_path / "s.pt", "smpl", "0123456789abcdef")
    done = hmrb("export", str(tmp_path / "s.pt"), str(tmp_path / "m.pt2"), "--body", home=store.root)
    refused(done, "was trained with body 'smpl' 0123456789abcdef, the one here is")
    assert not (tmp_path / "m.pt2").exists()
