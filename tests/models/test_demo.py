import json
from importlib.resources import files
from pathlib import Path

import pytest
import torch
from command import hmrb, refused
from conftest import write_shard

from hmrb.body import load_body
from hmrb.check import resolve
from hmrb.checkpoint import load_checkpoint, load_weights_into
from hmrb.cli.eval import _sort_arguments
from hmrb.data.loader import normalised, view_of
from hmrb.data.warp import warp
from hmrb.errors import RequestError
from hmrb.evaluation.evaluate import evaluate_checkpoint
from hmrb.evaluation.protocols import find_benchmark
from hmrb.evaluation.records import read_record
from hmrb.models import demo
from hmrb.models.demo import demo_path, named_checkpoint
from hmrb.models.hmr import build_model
from hmrb.parallel.world import World
from hmrb.spec import load_experiment
from hmrb.store import Store
from hmrb.synthetic.people import render_people, render_person

ROOT = Path(__file__).parents[2]
RECORDS = {name: ROOT / "docs" / "results" / "demo" / f"{name}.json" for name in ("synthetic", "synthetic_full")}
PEOPLE = 40
WORLD = World(0, 1, torch.device("cpu"))


def test_the_package_s_checkpoint_is_small_and_holds_nothing_but_the_model() -> None:
    path = demo_path()
    assert path == Path(str(files("hmrb") / "models" / "demo.pt"))  # what a wheel packs
    assert path.stat().st_size < 15_000_000
    found = load_checkpoint(path)
    assert not found.training
    assert sum(value.numel() * value.element_size() for value in found.model.values()) > 0.9 * path.stat().st_size


def test_its_recipe_and_expected_numbers_are_those_of_the_spec() -> None:
    inside, spec = load_checkpoint(demo_path()).experiment(), resolve(load_experiment(ROOT / "specs" / "demo.yaml"))
    assert inside.recipe() == spec.recipe()
    assert inside.expected == spec.expected
    for row in spec.expected:
        assert read_record(RECORDS[row.benchmark]).metrics[row.metric].value == pytest.approx(row.value, abs=0.05)


def test_another_file_in_its_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged = tmp_path / "demo.pt"
    damaged.write_bytes(demo_path().read_bytes()[:-1] + b"x")
    monkeypatch.setattr(demo, "DEMO", damaged)
    with pytest.raises(RequestError, match="its SHA-256 begins with .*; install hmrb again"):
        demo_path()
    damaged.unlink()
    with pytest.raises(RequestError, match="no such file; install hmrb again"):
        demo_path()


def test_it_predicts_a_body_from_a_picture() -> None:
    checkpoint = load_checkpoint(demo_path())
    spec = checkpoint.experiment().model
    body = load_body("open")
    model = build_model(spec, kind=body.kind)
    load_weights_into(model, checkpoint, "demo")
    crop = warp(view_of(render_person(body, "easy", "test", 0, 3), "smpl54", "synthetic"), spec.image_px).image
    with torch.inference_mode():
        found = model.eval()(normalised(torch.from_numpy(crop).permute(2, 0, 1)[None]))
        heights = body(found.rotmats, found.betas).vertices[0, :, 1]
    assert 0.5 < float(heights.max() - heights.min()) < 2.3  # metres: a person
    assert 0.4 < float(found.camera[0, 0]) < 1.6  # of the crop's half: a person who fills it


@pytest.mark.slow
@pytest.mark.parametrize("name", RECORDS)
def test_it_beats_the_mean_body_as_much_as_its_record_says(name: str, tmp_path: Path) -> None:
    """A few people stand for the record's 500: their mean ratio is within four of its standard errors."""
    store, preset = Store(tmp_path), {"synthetic": "easy", "synthetic_full": "full"}[name]
    people = render_people(load_body("open"), preset, "test", 0, range(PEOPLE))
    write_shard(store.shard(name, "test"), people, name, "test")
    scores = evaluate_checkpoint(load_checkpoint(demo_path()), find_benchmark(name), store, WORLD)
    metric = read_record(RECORDS[name]).metrics["pa_mpjpe"]
    assert metric.mean_body is not None
    ratios = scores.errors["pa_mpjpe"] / scores.baseline["pa_mpjpe"].mean()
    spread = 4 * float(ratios.std()) / PEOPLE**0.5
    assert float(ratios.mean()) == pytest.approx(metric.value / metric.mean_body, abs=spread)
    assert float(ratios.mean()) < 1


def test_eval_knows_it_by_name_renders_the_test_people_and_writes_outside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hmrb.data.sources import synthetic

    monkeypatch.setattr(synthetic, "TEST_PEOPLE", 5)
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "empty")
    done = hmrb("eval", "demo", "--bench", "synthetic", "--json", home=store.root)
    assert done.returncode == 0, done.stderr
    assert "synthetic test is missing: creating it (hmrb convert-data synthetic --split test)" in done.stderr
    assert [record["num_people"] for record in json.loads(done.stdout)] == [5]
    assert read_record(tmp_path / "runs" / "demo" / "eval" / "synthetic.json").num_people == 5
    assert not store.shard("synthetic", "train").exists()
    assert not (demo_path().parent / "eval").exists()
    again = hmrb("eval", "demo", "synthetic", home=store.root)
    assert again.returncode == 0, again.stderr
    assert "missing" not in again.stdout + again.stderr
    assert _sort_arguments(["demo", "synthetic"], False) == ([Path("demo")], ["synthetic"], [])


def test_a_run_in_a_folder_of_its_name_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "spec.yaml").write_text("")
    refused(hmrb("eval", "demo", "--bench", "synthetic"), "demo/last.pt: no such checkpoint")


def test_a_folder_of_results_of_its_name_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`hmrb eval --from-predictions demo.npz` writes to such a folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo" / "eval").mkdir(parents=True)
    assert named_checkpoint(Path("demo")) == demo_path()
    (tmp_path / "demo" / "last.pt").write_bytes(b"")
    assert named_checkpoint(Path("demo")) == Path("demo")
