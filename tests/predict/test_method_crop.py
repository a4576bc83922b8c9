"""hmrb eval --crop method sees what hmrb predict sees; reports draw predictions with their own camera."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import hmrb, refused
from conftest import person, write_shard
from photos import untrained

from hmrb.batch import Conditioning
from hmrb.checkpoint import load_checkpoint
from hmrb.data.loader import read_view
from hmrb.data.places import conditioning, cut_by, place_of
from hmrb.data.warp import crop_matrix, warp
from hmrb.evaluation.evaluate import Crop, Scores, evaluate_checkpoint
from hmrb.evaluation.protocols import BENCHMARKS, find_benchmark
from hmrb.evaluation.records import Record, read_record
from hmrb.evaluation.scoring import Bodies
from hmrb.geometry import rotvec_to_rotmat
from hmrb.models.cameras import project_to_crop
from hmrb.parallel.world import World
from hmrb.reports.gallery import draw_people
from hmrb.reports.own_camera import crop_camera, own_camera
from hmrb.store import Store

PX, TILE = 64, 256
ALONE = World(0, 1, torch.device("cpu"))
DECODER = {"name": "decoder", "layers": 1, "width": 16, "heads": 2, "head_width": 8, "hidden": 16}
MODELS: dict[str, dict[str, Any]] = {
    "cliff": {"head": {"name": "iterative", "hidden": 16, "box": "cliff"}, "camera": "full_frame", "crop": "tall"},
    "hmr2": {"head": DECODER, "backbone": "mini_s16", "features": "map", "crop": "tall"},
}


def checkpoint_of(method: str, folder: Path) -> Path:
    model = {"method": method, "backbone": "mini", "weights": "none", "image_px": PX, "mean": "labels"}
    return untrained(folder / "best.pt", model=model | MODELS[method])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "home")
    people = [replace(person(i), has_body=True) for i in range(70)]  # two batches
    write_shard(store.shard("synthetic", "test"), people, split="test")
    return store


def values(record: Record) -> dict[str, float]:
    return {name: number.value for name, number in record.metrics.items()}


@pytest.mark.parametrize("method", MODELS)
def test_eval_of_a_method_s_predictions_is_eval_with_its_crop(method: str, store: Store, tmp_path: Path) -> None:
    run = tmp_path / "run"
    checkpoint_of(method, run)
    predictions = tmp_path / "out" / "predictions.npz"
    for words in (
        ("predict", run, "synthetic_test", "-o", tmp_path / "out", "--device", "cpu"),
        ("eval", "--from-predictions", predictions, "--bench", "synthetic"),
        ("eval", run, "--bench", "synthetic", "-o", tmp_path / "plain"),
        ("eval", run, "--bench", "synthetic", "--crop", "method", "-o", tmp_path / "own"),
    ):
        done = hmrb(*map(str, words), home=store.root)
        assert done.returncode == 0, done.stderr
    theirs = read_record(tmp_path / "out" / "predictions" / "eval" / "synthetic.json")
    own, plain = (read_record(tmp_path / name / "eval" / "synthetic.json") for name in ("own", "plain"))
    assert values(own) == values(theirs)
    assert values(own) != values(plain)
    assert (own.conditions.crop, plain.conditions.crop) == (method, "dataset")
    assert own.num_people == 70


def test_crops_that_cannot_be_are_refused(store: Store, tmp_path: Path) -> None:
    path = checkpoint_of("hmr2", tmp_path / "run")
    for words, said in (
        (("eval", path, "--bench", "synthetic", "--crop", "mine"), "no crop named 'mine'"),
        (
            ("eval", "--from-predictions", tmp_path / "a.npz", "--bench", "synthetic", "--crop", "method"),
            "predictions of a file are made already",
        ),
    ):
        refused(hmrb(*map(str, words), home=store.root), said)
    by_rule = find_benchmark("synthetic_seen_area")
    with pytest.raises(Exception, match="has a rule of its own for pixels"):
        evaluate_checkpoint(load_checkpoint(path), by_rule, store, ALONE, crop="method")
    flat = replace(BENCHMARKS["coco_val"], dataset="synthetic", split="test")
    with pytest.raises(Exception, match="scores joints in the dataset's square"):
        evaluate_checkpoint(load_checkpoint(path), flat, store, ALONE, crop="method")


def test_records_without_a_crop_keep_their_seal(store: Store, tmp_path: Path) -> None:
    checkpoint_of("hmr2", tmp_path / "run")
    assert hmrb("eval", str(tmp_path / "run"), "--bench", "synthetic", home=store.root).returncode == 0
    path = tmp_path / "run" / "eval" / "synthetic.json"
    older = path.read_text().replace(',\n  "crop": "dataset"', "")
    assert '"crop": "dataset"' not in older
    path.write_text(older)
    assert read_record(path).conditions.crop == "dataset"
    path.write_text(older.replace('"min_labelled"', '"crop": "cliff",\n  "min_labelled"'))
    refused(hmrb("report", str(path)), "was modified")


def scored(method: str, crop: Crop, store: Store, folder: Path) -> Scores:
    found = evaluate_checkpoint(
        load_checkpoint(checkpoint_of(method, folder)), BENCHMARKS["synthetic"], store, ALONE, crop=crop
    )
    near = np.tile(np.array([0.9, 0.1, -0.05], np.float32), (len(found.camera), 1))  # not at the camera
    pose = np.tile(np.array([np.pi, 0, 0], np.float32), (len(found.camera), 1))
    rotmats = found.rotmats.copy()
    rotmats[:, 0] = rotvec_to_rotmat(torch.from_numpy(pose)).numpy()
    return replace(found, camera=near, rotmats=rotmats)


@pytest.mark.parametrize("method", MODELS)
@pytest.mark.parametrize("crop", ["dataset", "method"])
@pytest.mark.parametrize("is_part", [False, True])
def test_a_body_is_drawn_where_its_camera_puts_it(method: str, crop: Crop, is_part: bool, tmp_path: Path) -> None:
    """Also in the picture of a shard that is a reduced part of the photo."""
    store = Store(tmp_path / "home")
    people = [replace(person(i), has_body=True) for i in range(3)]
    if is_part:
        people = [replace(one, photo_px=(200, 150), origin=np.array([30, 20, 0.5], np.float32)) for one in people]
    write_shard(store.shard("synthetic", "test"), people, split="test")
    scores = scored(method, crop, store, tmp_path)
    body = Bodies.load("open", scores.benchmark, store, ALONE.device).neutral
    row, view = 1, read_view(scores.shard, 1)
    scale = scores.benchmark.box_scale
    matrix = crop_matrix(replace(view, side=scale * view.side), TILE)
    camera = own_camera(scores, row, view, matrix, PX, TILE)

    mesh = body(torch.from_numpy(scores.rotmats[[row]]), torch.from_numpy(scores.betas[[row]]))
    joints = mesh.chain[0].numpy() + camera.transl
    drawn = camera.focal * joints[:, :2] / joints[:, 2:] + camera.center

    cut = cut_by(scores.crop, view, scale, PX) if scores.crop else warp(replace(view, side=scale * view.side), PX)
    place = conditioning([place_of(scores.shard, 1, cut)])
    assert isinstance(place, Conditioning)
    weak = torch.from_numpy(scores.camera[[row]])
    seen = project_to_crop(mesh.chain, weak, PX, scores.projection, place)[0].numpy() + (PX - 1) / 2
    assert cut.cut is not None
    in_picture = cut.cut.center + (seen - PX / 2) * cut.cut.side / PX
    expected = in_picture @ matrix[:, :2].T + matrix[:, 2]
    half_pixel = 0.5 * TILE / PX if (scores.projection, scores.crop) == ("crop_weak", None) else 0.0  # as ever
    np.testing.assert_allclose(drawn - half_pixel, expected, atol=0.1)
    straight = crop_camera(scores.camera[row], PX, TILE)
    is_straight = (scores.projection, scores.crop) == ("crop_weak", None)
    assert (abs(straight.focal - camera.focal) < 1e-6) == is_straight


def test_a_report_of_a_method_that_looks_through_the_picture_is_drawn(store: Store, tmp_path: Path) -> None:
    scores = scored("cliff", "dataset", store, tmp_path)
    bodies = Bodies.load("open", scores.benchmark, store, ALONE.device)
    found = draw_people(tmp_path / "own", bodies, scores, PX)
    before = draw_people(tmp_path / "straight", bodies, replace(scores, projection="crop_weak"), PX)
    assert [one.name for one in found["best"]] == [one.name for one in before["best"]]
    assert found["best"][0].picture != before["best"][0].picture
