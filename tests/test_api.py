"""The Python API: instant import, stable names, typed results, docs/python_api.md runs as written."""

import inspect
import io
import json
import re
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from conftest import tiny_tree

import hmrb
from hmrb.errors import RequestError, RunError
from hmrb.predict import request
from hmrb.predict.pictures import GivenBox
from hmrb.store import Store

sys.path.insert(0, str(Path(__file__).parent / "predict"))
from photos import jpeg, noise, untrained

NOTEBOOK = Path(__file__).parents[1] / "docs" / "predict.ipynb"
DOC = (Path(__file__).parents[1] / "docs" / "python_api.md").read_text(encoding="utf-8")
SIGNATURES = {
    "load": "(checkpoint, *, device='auto', precision='fp32')",
    "evaluate": "(predictor, benchmark, *, out=None, body=None, image_px=224, name='callable')",
    "open_shard": "(name, split)",
    "train": "(spec, *, out=None, overrides=(), resume=False, device='auto')",
    "Predictor.__call__": "(self, pictures, boxes='detect', *, focal_px=None, batch=64, detector=None)",
    "People.joints": "(self, skeleton='')",
    "People.joints2d": "(self, skeleton='')",
    "People.of": "(self, picture)",
    "People.draw": "(self, picture=0, through='picture')",
    "People.save_obj": "(self, path, person=0)",
    "People.save_glb": "(self, path, person=0)",
    "People.to_npz": "(self, path)",
    "Samples.picture": "(self, which)",
}
FIELDS = [
    "pictures", "picture", "box", "score", "square", "rotmats", "betas", "camera", "focal_px", "center_px",
    "camera_from", "image_px", "crop_rule", "body_name", "body",
]  # fmt: skip
PROPERTIES = ["rotvecs", "transl", "picture_camera", "crop_camera", "faces", "vertices"]


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> hmrb.Predictor:
    return hmrb.load(untrained(tmp_path_factory.mktemp("run") / "best.pt"), device="cpu")


def test_import_is_instant_and_offers_the_names() -> None:
    script = (
        "import time, sys; start = time.perf_counter(); import hmrb; taken = time.perf_counter() - start\n"
        "heavy = {'torch', 'timm', 'numpy', 'cv2', 'h5py', 'pydantic'} & set(sys.modules)\n"
        "print(sorted(heavy), taken < 0.2, sorted(set(dir(hmrb)) & set(hmrb.__all__)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    names = ["People", "Predictor", "Samples", "evaluate", "load", "open_shard", "train"]
    assert done.stdout.strip() == f"[] True {names}"
    with pytest.raises(AttributeError, match="no attribute 'laod'; it has People"):
        hmrb.laod  # noqa: B018
    assert (Path(hmrb.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize("name", SIGNATURES)
def test_signatures_are_stable_and_documented(name: str) -> None:
    thing, _, method = name.partition(".")
    function = getattr(hmrb, thing)
    function = inspect.unwrap(getattr(function, method) if method else function)
    signature = inspect.signature(function)
    bare = signature.replace(
        parameters=[p.replace(annotation=inspect.Parameter.empty) for p in signature.parameters.values()],
        return_annotation=inspect.Signature.empty,
    )
    assert str(bare) == SIGNATURES[name]
    assert inspect.getdoc(function)
    assert f"`{'.' + method if method and method != '__call__' else thing}" in DOC or f"`hmrb.{thing}(" in DOC


def test_fields_are_stable_and_documented() -> None:
    assert [field.name for field in fields(hmrb.People)] == FIELDS
    for name in (*FIELDS, *PROPERTIES):
        assert hasattr(hmrb.People, name) or name in FIELDS
        assert f"`{name}`" in DOC, name


def test_one_picture_or_many_arrays_or_paths_give_one_result(predictor: hmrb.Predictor, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(jpeg())
    pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "a.jpg")), cv2.COLOR_BGR2RGB)
    box = np.array([[10, 5, 30, 60]])
    of_path, of_array = predictor(tmp_path / "a.jpg", box), predictor(pixels, box)
    np.testing.assert_array_equal(of_path.rotmats, of_array.rotmats)
    both = predictor([pixels, str(tmp_path / "a.jpg"), noise(200, 30)], [box, [[0, 0, 9, 9], *box.tolist()], box])
    assert both.picture.tolist() == [0, 1, 1, 2]
    np.testing.assert_allclose(both[0].rotmats, of_path.rotmats, rtol=0, atol=1e-5)
    np.testing.assert_allclose(both[2].rotmats, of_path.rotmats, rtol=0, atol=1e-5)
    assert both.pictures[1].name == "a.jpg"
    assert both.of(2).draw().shape == (96, 640, 3)
    assert len(predictor(pixels, boxes="whole")) == 1
    focal = predictor([pixels, pixels], [box, box], focal_px=[500.0, None])
    assert focal.camera_from == ("option: focal length", "rule of the method")
    assert focal.focal_px[0] == 500


def test_people_are_found_by_a_detector(predictor: hmrb.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import hmrb.api

    monkeypatch.setattr(hmrb.api, "finder_named", lambda name: lambda pixels: [GivenBox((1, 2, 3, 4), 0.5)])
    found = predictor([noise(), noise()], [None, [[0, 0, 9, 9]]])
    assert found.box.tolist() == [[1, 2, 3, 4], [0, 0, 9, 9]]
    assert found.score.tolist() == [0.5, 1]
    assert request.finder_named is not hmrb.api.finder_named


def test_what_cannot_be_used_is_one_message(predictor: hmrb.Predictor, tmp_path: Path) -> None:
    box = [[1, 2, 3, 4]]
    for call, kind, said in (
        (lambda: hmrb.load(tmp_path / "gone.pt"), RequestError, "gone.pt: no such checkpoint"),
        (lambda: predictor([]), RequestError, "no pictures"),
        (lambda: predictor(tmp_path / "gone.jpg", box), RunError, "gone.jpg: image cannot be read: no such file"),
        (lambda: predictor(noise()[..., 0], box), RequestError, r"shape \(80, 60\) is no picture"),
        (lambda: predictor(noise() / 255, box), RequestError, "type float64"),
        (lambda: predictor(noise(), [[1, 2, 3]]), RequestError, r"boxes of picture 0 have shape \(1, 3\)"),
        (lambda: predictor([noise(), noise()], [box]), RequestError, "boxes of 1 pictures for 2 pictures"),
        (lambda: predictor(noise(), [[90, 2, 3, 4]]), RunError, "outside the picture of 60 x 80 px"),
        (lambda: predictor(noise(), [[1, np.nan, 3, 4]]), RequestError, "not all four are finite"),
        (lambda: predictor(noise(), "everybody"), RequestError, "give arrays of boxes, 'detect' or 'whole'"),
        (lambda: predictor([noise()], [box], focal_px=[1, 2]), RequestError, "2 focal lengths for 1 pictures"),
        (lambda: hmrb.open_shard("nowhere", "test"), RequestError, "no shard of 'nowhere'"),
        (lambda: hmrb.evaluate(predictor, "3dpww"), RequestError, "no benchmark named '3dpww'"),
        (lambda: hmrb.train({"name": "x"}), RequestError, "body: required|data: required"),
    ):  # type: Callable[[], object], type[Exception], str
        with pytest.raises(kind, match=said):
            call()


@pytest.mark.parametrize("device", ["cuda:²", "cpu:٣", "cpu:99999999999999999999", "gpu", "cuda:-1", "cpu:1"])
def test_a_device_that_is_not_here_is_one_message(device: str) -> None:
    with pytest.raises(RequestError, match=f"--device {device}: not here; this machine has cpu"):
        hmrb.load("demo", device=device)


def test_a_predictor_and_a_function_are_scored(
    predictor: hmrb.Predictor, tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HMRB_HOME", str(tiny_store.root))
    record = hmrb.evaluate(predictor, "synthetic", out=tmp_path)
    assert (tmp_path / "eval" / "synthetic.json").exists()
    assert record.num_people == 7
    seen: list[np.ndarray] = []

    def same(crops: np.ndarray) -> dict[str, np.ndarray]:
        seen.append(crops)
        found = predictor(list(crops), "whole")
        return {"rotmats": found.rotmats, "betas": found.betas, "camera": found.camera}

    of_function = hmrb.evaluate(same, "synthetic", image_px=32, name="mine")
    assert (seen[0].shape, seen[0].dtype) == ((7, 32, 32, 3), np.uint8)
    assert of_function.source.experiment == "mine"
    assert of_function.metrics["mpjpe"].value == pytest.approx(record.metrics["mpjpe"].value, rel=1e-4)
    for wrong, said in (({}, "gave no 'rotmats'"), ({"rotmats": np.zeros((7, 3))}, r"rotmats of shape \(7, 3\)")):
        with pytest.raises(RunError, match=said):
            hmrb.evaluate(lambda crops, wrong=wrong: wrong, "synthetic")  # type: ignore[misc]


def test_a_shard_is_a_sequence(tiny_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMRB_HOME", str(tiny_store.root))
    people = hmrb.open_shard("synthetic", "test")
    assert len(people) == len(list(people)) == 7
    assert people[-1].name == people[6].name == people[4:][2].name
    assert people.picture(0).shape == (48, 48, 3)
    with pytest.raises(IndexError):
        people[7]


def test_the_page_runs_as_written(tiny_store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMRB_HOME", str(tiny_store.root))
    monkeypatch.chdir(tmp_path)
    untrained(tmp_path / "runs" / "quickstart" / "best.pt")
    (tmp_path / "photo.jpg").write_bytes(jpeg(noise(640, 480)))
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(tiny_tree() | {"optim": {"epochs": 1, "batch": 4}}))
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    assert len(blocks) >= 5
    names: dict[str, object] = {}
    with redirect_stdout(io.StringIO()):
        for block in blocks:
            exec(compile(block, "docs/python_api.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.glob("person*")) == ["person.glb", "person.npz", "person.obj"]
    assert (tmp_path / "runs" / "experiment" / "best.pt").exists()


def test_the_notebook_runs_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HMRB_HOME", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.chdir(tmp_path)
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 4
    assert not any(cell.get("outputs") for cell in cells)
    names: dict[str, object] = {}
    with redirect_stdout(io.StringIO()) as said:
        for cell in code:
            exec(compile(cell, NOTEBOOK.name, "exec"), names)
    assert said.getvalue().startswith("1 person")
    assert (tmp_path / "astronaut.obj").exists()
    assert (tmp_path / "people.npz").exists()
