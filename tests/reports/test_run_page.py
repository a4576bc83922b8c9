"""The report's table and page: correct numbers, no network access, and a mesh that overlays its person."""

import base64
import hashlib
import json
import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import machine, person, source, write_shard
from html_page import Page

from hmrb.body import SMPL, load_body
from hmrb.data.loader import view_of
from hmrb.data.shard import open_shard
from hmrb.errors import RunError
from hmrb.evaluation.evaluate import ScoredPeople, Scores
from hmrb.evaluation.metric_table import ARROWS, BETTER, HEADINGS, MEANINGS, TITLES, UNITS
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import Record
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import Bodies
from hmrb.geometry import camera_translation, project, rotvec_to_rotmat
from hmrb.reports.charts import Scale, curves
from hmrb.reports.gallery import draw_people, overlay, write_worst
from hmrb.reports.labelled import labelled_mesh, place_in_crop
from hmrb.reports.page import command
from hmrb.reports.printed import print_table
from hmrb.reports.run_page import duration, training_seconds, write_report
from hmrb.reports.view3d import within
from hmrb.skeleton import plain_names
from hmrb.spec import Experiment, parse_experiment
from hmrb.store import Store

NUM_PEOPLE = 6
IMAGE_PX = 224
HOSTILE = "<script>alert('name')</script>"
CAMERA = np.array([0.8, 0.02, 0.25])  # a standing person, whole in the picture
STANDING = np.tile(np.eye(3), (24, 1, 1))
STANDING[0] = np.diag([1.0, -1.0, -1.0])  # bodies are y up, cameras y down
ABOUT = source("tiny", trained_on={HOSTILE: "5a4d5a4d5a4d5a4d"})
LOG = [
    {"step": 20, "total": 9.0, "pose": float("nan"), "images_per_s": 50.0, "data_wait": 0.1, "lr": 1e-4, "epoch": 0.5},
    {"step": 40, "total": 0.5, "pose": 2.0, "images_per_s": 60.0, "data_wait": 0.2, "lr": 1e-4, "epoch": 1.0},
    {"step": 40, "benchmark": "synthetic_val", "protocol": "p", "mpjpe": 99.0, "pa_mpjpe": 77.25, "pve": 111.0},
]


@dataclass(frozen=True)
class Made:
    """A report and its inputs."""

    folder: Path
    record: Record
    scores: Scores
    html: str
    page: Page


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    tree = {"name": "tiny", "body": "open", "model": {"image_px": IMAGE_PX}, "data": {"mix": {HOSTILE: 1.0}}}
    return parse_experiment(tree, "tiny")


@pytest.fixture(scope="module")
def body() -> SMPL:
    return load_body("open")


@pytest.fixture(scope="module")
def bodies(body: SMPL) -> Bodies:
    return Bodies({"neutral": body})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, experiment: Experiment) -> Made:
    """Six people, the first with a hostile name, a truncated log, and the report."""
    folder = tmp_path_factory.mktemp("run")
    people = [replace(person(i), name=HOSTILE if i == 0 else f"person/{i}") for i in range(NUM_PEOPLE)]
    shard = open_shard(write_shard(folder / "shard.h5", people), "synthetic")
    benchmark = BENCHMARKS["synthetic"]
    rng = np.random.default_rng(0)
    scores = Scores(
        benchmark=benchmark,
        shard=shard,
        people=ScoredPeople(np.arange(NUM_PEOPLE), np.ones((NUM_PEOPLE, len(benchmark.joint_names)), bool), {}),
        body_sha="b0d1e5b0d1e5b0d1",
        regressor_sha="0e90e550e90e550e",
        truth_bodies={},
        errors={name: rng.uniform(30, 60, NUM_PEOPLE).astype(np.float32) for name in benchmark.metrics},
        counted={name: np.ones(NUM_PEOPLE, bool) for name in benchmark.metrics},
        left_out={"jitter": "there are no frames"},
        joint_errors=rng.uniform(20, 90, (NUM_PEOPLE, len(benchmark.joint_names))),
        baseline={name: rng.uniform(100, 200, NUM_PEOPLE).astype(np.float32) for name in benchmark.metrics},
        odd=np.array([0, 0, 2, 0, 0, 0]),
        rotmats=np.tile(STANDING, (NUM_PEOPLE, 1, 1, 1)),
        betas=np.zeros((NUM_PEOPLE, 10)),
        camera=np.tile(CAMERA, (NUM_PEOPLE, 1)),
    )
    record = save_scores(scores, folder / "eval", ABOUT, machine())
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LOG) + '{"step": 60, "tot')
    path = write_report(folder, experiment, [(record, scores)], Store(folder))
    html = path.read_text(encoding="utf-8")
    return Made(folder, record, scores, html, Page(html))


def drawn_at(image: np.ndarray, body: SMPL) -> tuple[np.ndarray, np.ndarray]:
    """The picture with the standing body over it, and a mask of the changed pixels."""
    drawn = overlay(body, image, STANDING, np.zeros(10), CAMERA, IMAGE_PX)
    return drawn, (drawn != image).any(2)


def mesh_px(body: SMPL, size: int) -> np.ndarray:
    """Pixel positions of the standing body's vertices in a picture of `size` px."""
    mesh = body(torch.tensor(STANDING)[None].float(), torch.zeros(1, 10))
    points = project(mesh.vertices, torch.tensor(CAMERA)[None].float(), IMAGE_PX)[0].numpy()
    return points * size / IMAGE_PX + size / 2


def vertices_of(path: Path) -> np.ndarray:
    """The vertices of an .obj file, metres."""
    return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("v ")], float)


def test_the_page_is_well_formed_and_loads_nothing(made: Made) -> None:
    assert made.page.open == []
    pictures = [source for source in made.page.loaded if source.startswith("data:image/jpeg;base64,")]
    assert len(pictures) == NUM_PEOPLE
    links = sorted(set(made.page.loaded) - set(pictures))
    assert links == sorted(f"overlays/{path.name}" for path in (made.folder / "overlays").iterdir())
    assert not any(word in made.html for word in ("http:", "https:", "url(", "@import"))
    assert len(set(made.page.ids)) == len(made.page.ids)


def test_the_page_shows_the_numbers_it_was_given(made: Made) -> None:
    for metric in made.record.metrics.values():
        for number in (metric.value, *metric.ci95, metric.mean_body):
            assert f"{number:.1f}" in made.page.text
        assert f"{metric.value / metric.mean_body:.2f}" in made.page.text
    for error in made.record.per_joint.values():
        assert f"{error:.1f}" in made.page.text
    shas = [made.record.conditions.shard["sha"], "c0ffee00c0ffee00", "b0d1e5b0d1e5b0d1"]
    facts = [made.record.protocol, machine().date, machine().device, "step 1234", "backbone: resnet50"]
    for fact in shas + facts:
        assert fact in made.page.text


def test_names_from_files_stay_text(made: Made) -> None:
    assert made.page.scripts == 1  # ours, and the data block
    assert made.page.tags.count("script") == 2
    assert made.page.text.count(HOSTILE) == 3  # the person, the training dataset, the spec


def test_the_page_allows_its_own_script_and_no_other(made: Made) -> None:
    text = re.search(r"<script>(.*?)</script>", made.html, re.S)[1]
    sha256 = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{sha256}';" in made.html


def test_metrics_have_arrows_and_are_explained(made: Made) -> None:
    for name in made.record.metrics:
        assert f"{TITLES[name]} {UNITS[name]} {ARROWS[BETTER[name]]}" in made.page.text
        assert MEANINGS[name] in made.page.titles
        assert f"{BETTER[name]} is better: {MEANINGS[name]}." in made.page.text
        assert f"about-{name}" in made.page.ids


def test_joints_have_plain_names(made: Made) -> None:
    assert set(made.record.per_joint) >= {"right_hip_extra", "headtop"}
    for word in ("right hip", "neck", "top of the head"):
        assert word in made.page.text
    assert "extra" not in made.page.text
    assert "_ankle" not in made.page.text
    assert list(plain_names(["left_hip", "left_hip_extra", "spine_1", "left_bigtoe_openpose"]).values()) == [
        "left hip", "left hip (extra)", "lower spine", "left big toe",
    ]  # fmt: skip


def test_the_3d_view_has_the_bodies_of_the_meshes(made: Made, body: SMPL) -> None:
    """To half a step of the box, and placed with the root of prediction and label at one point."""
    data = json.loads(re.search(r'id="bodies">(.*?)</script>', made.html, re.S)[1])
    faces = np.frombuffer(base64.b64decode(data["faces"]["open"]), "<u2").reshape(-1, 3)
    np.testing.assert_array_equal(faces, body.faces)
    assert len(data["people"]) == NUM_PEOPLE
    best = data["people"][1]  # the worst is the first, and has no labelled body
    for part, file in (("predicted", "synthetic_best_1"), ("labelled", "synthetic_best_1_labelled")):
        steps = np.frombuffer(base64.b64decode(best[part]), "<u2").reshape(-1, 3)
        written = vertices_of(made.folder / "overlays" / f"{file}.obj")
        np.testing.assert_allclose(best["low"] + steps / 65535 * best["span"], written, atol=5e-5)
    assert [sorted(one) for one in data["people"] if "labelled" not in one] == [["kind", "low", "predicted", "span"]]


def test_the_3d_view_leaves_out_whom_the_page_has_no_room_for(
    made: Made, experiment: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = len(made.html) - 300_000
    monkeypatch.setattr("hmrb.reports.run_page.PAGE_BYTES", limit)
    html = write_report(tmp_path, experiment, [(made.record, made.scores)], Store(tmp_path)).read_text()
    assert 1 <= html.count("data-body=") <= NUM_PEOPLE - 3
    assert len(html) <= limit
    bodies = [{"predicted": "x" * size} for size in (5, 90, 10)]
    assert within(bodies, 20) == [True, False, True]
    assert within(bodies, -1) == [False, False, False]


def test_the_page_says_how_it_was_made_and_names_no_folder(made: Made) -> None:
    assert "synthetic 1.5 s" in made.page.text
    words = [
        "/home/me/bin/hmrb",
        "train",
        "/home/me/a.yaml",
        "--out=/data/run 1/",
        "--rdzv",
        "node1:29500",
        "--gpus",
        "8",
    ]
    assert command([*words, "--sbatch=account=x"]) == ("hmrb train a.yaml '--out=run 1' --rdzv … --gpus 8 --sbatch=…")
    assert command(["/usr/bin/pytest", "x"]) == ""
    assert command(["/lib/pytest/__main__.py", "x"]) == ""
    assert command(["/lib/hmrb/__main__.py", "x"]) == "hmrb x"
    assert "secret" not in command(["/usr/bin/hmrb", "verify", "https://me:secret@server", "s3://a:secret@b/c"])
    lines = [{"step": 20, "images_per_s": 40.0}, {"step": 40, "benchmark": "b"}, {"step": 50, "images_per_s": 3.0}]
    assert training_seconds(lines, batch=4) == 2 + 40
    assert [duration(seconds) for seconds in (0, 12.4, 327, 7300)] == ["", "12 s", "5 min", "2 h 2 min"]


def test_the_gallery_is_ordered_by_error(made: Made) -> None:
    errors = np.sort(made.scores.errors["pa_mpjpe"])
    shown = [made.page.text.index(f"PA-MPJPE {error:.1f} mm ·") for error in errors]
    assert shown[0] < shown[1] < shown[2] < shown[3] < shown[5] < shown[4]  # the worst comes before the second worst


def test_pictures_and_meshes_lie_beside_the_page(made: Made) -> None:
    names = {f"synthetic_{group}_{k}" for group in ("best", "median", "worst") for k in (1, 2)}
    files = {path.name for path in (made.folder / "overlays").iterdir()}
    labelled = {name for name in files if name.endswith("_labelled.obj")}
    assert files - labelled == {f"{name}.{kind}" for name in names for kind in ("png", "obj")}
    assert len(labelled) == NUM_PEOPLE - 1  # one person has no labelled body
    picture = cv2.imread(str(made.folder / "overlays" / "synthetic_best_1.png"))
    assert picture is not None
    assert picture.shape in ((256, 768, 3), (512, 768, 3))  # without and with a labelled body
    assert not list(made.folder.rglob("*.part"))


def test_the_written_mesh_stands_upright(made: Made, body: SMPL) -> None:
    vertices = vertices_of(made.folder / "overlays" / "synthetic_best_1.obj")
    rest = body(torch.eye(3).expand(1, 24, 3, 3), torch.zeros(1, 10)).vertices[0].numpy()
    np.testing.assert_allclose(vertices - vertices.mean(0), rest - rest.mean(0), atol=1e-4)


@pytest.mark.parametrize("size", [128, 256])
def test_an_overlay_changes_the_pixels_of_the_mesh_and_no_others(body: SMPL, size: int) -> None:
    image = np.full((size, size, 3), 30, np.uint8)
    before = image.copy()
    _, changed = drawn_at(image, body)
    points = mesh_px(body, size)
    on_mesh = np.zeros((size, size), np.uint8)
    for face in points[body.faces]:
        cv2.fillConvexPoly(on_mesh, np.rint(face).astype(np.int32), 1)
    near, inside = cv2.dilate(on_mesh, np.ones((3, 3))), cv2.erode(on_mesh, np.ones((3, 3)))
    assert changed.any()
    assert not changed[near == 0].any()
    assert changed[inside > 0].all()
    assert (image == before).all()


def test_an_overlay_shades_the_photo_and_does_not_hide_it(body: SMPL) -> None:
    dark, changed = drawn_at(np.zeros((64, 64, 3), np.uint8), body)
    bright, _ = drawn_at(np.full((64, 64, 3), 255, np.uint8), body)
    assert (bright[changed] > dark[changed]).all()


def test_curves_are_drawn_from_what_is_whole_and_finite_in_the_log(made: Made) -> None:
    charts = {chart.title: chart for chart in curves(LOG)}
    assert {"loss: total", "loss: pose", "images per second", "learning rate"} <= set(charts)
    assert charts["PA-MPJPE mm ↓ on synthetic_val"].note == "last 77.2, best 77.2 at step 40"
    assert charts["loss: pose"].note == "last 2, mean 2"
    for title in charts:
        assert title in made.page.text
    assert "nan" not in " ".join(shape.path for chart in charts.values() for shape in chart.shapes)


def test_a_report_without_log_and_benchmarks_says_so(tmp_path: Path, experiment: Experiment) -> None:
    page = Page(write_report(tmp_path, experiment, [], Store(tmp_path)).read_text())
    assert "No training log" in page.text
    assert "No benchmark was run" in page.text


def test_a_folder_that_cannot_be_written_gives_one_message(tmp_path: Path, experiment: Experiment, made: Made) -> None:
    (tmp_path / "overlays").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"overlays.*could not write the report"):
        write_report(tmp_path, experiment, [(made.record, made.scores)], Store(tmp_path))
    assert not (tmp_path / "report.html").exists()


def test_a_page_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path, experiment: Experiment) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(RunError, match=r"report\.html.*could not write the report"):
        write_report(tmp_path, experiment, [], Store(tmp_path))
    assert not list(tmp_path.glob(".*"))


def test_the_table_has_each_number_and_its_protocol(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    print_table([made.record])
    lines = capsys.readouterr().out.splitlines()
    for name, metric in made.record.metrics.items():
        row = next(line for line in lines if f"  {HEADINGS[name]} " in line)
        assert f" {metric.value:.1f} " in row
        assert f" {metric.mean_body:.1f} " in row
        assert row.split()[-1] == str(NUM_PEOPLE)
    *table, where, shard, checkpoint, odd, left_out, kin = lines
    assert max(map(len, (where, shard, checkpoint))) <= 80  # a terminal would break a longer line in a hash
    assert max(map(len, table)) <= 80
    for fact in (
        made.record.protocol,
        made.record.conditions.shard["sha"],
        "open b0d1e5b0d1e5b0d1",
        "c0ffee00c0ffee00",
    ):
        assert str(fact) in where + shard + checkpoint
    assert odd == "synthetic: 1 degenerate people, included in the means: the prediction's joints lie at one point"
    assert left_out == "synthetic: no jitter: there are no frames"
    shared = "'synthetic' and the test set are of one dataset, or share people, places or photos (see docs/results.md)"
    assert kin == f"synthetic: note: training data {shared}"


def test_the_worst_people_are_drawn_worst_first(made: Made, bodies: Bodies, tmp_path: Path) -> None:
    write_worst(tmp_path / "worst.jpg", bodies, made.scores, IMAGE_PX, 5)
    sheet = cv2.imread(str(tmp_path / "worst.jpg"))
    assert sheet is not None
    assert sheet.shape == (3 * 536, 2 * 768, 3)  # six views of each, two people a row, the name below
    assert (sheet[2 * 536 :, 800:] > 250).all()  # the fifth is alone in its row
    assert not (sheet[2 * 536 :, :700] > 250).all()
    write_worst(tmp_path / "all.jpg", bodies, made.scores, IMAGE_PX, 100)
    everybody = cv2.imread(str(tmp_path / "all.jpg"))
    assert everybody is not None
    assert everybody.shape == sheet.shape


def test_the_picture_of_readme_has_the_views_of_the_report(made: Made) -> None:
    sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
    from draw_quickstart import draw

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("draw_quickstart.WIDTH_PX", 768)  # as large as the views, so that nothing is resampled
        sheet = draw(made.folder)
    best = cv2.imread(str(made.folder / "overlays" / "synthetic_best_1.png"))
    np.testing.assert_array_equal(sheet[:512, :768], best[..., ::-1])
    assert sheet.shape[1] == 2 * 768 + 8


def test_the_labelled_body_stands_where_its_key_points_are(bodies: Bodies, made: Made, tmp_path: Path) -> None:
    """A body posed and projected by a camera of its own is drawn in its place; the prediction moves nothing."""
    sample = person(0)
    pose, betas = sample.pose[None], sample.betas[None]
    mesh = bodies.neutral(rotvec_to_rotmat(torch.from_numpy(pose)), torch.from_numpy(betas))
    points = project(bodies.neutral.joints(mesh, "smpl54"), torch.tensor(CAMERA)[None].float(), IMAGE_PX)[0].numpy()
    corner = sample.box[:2] + sample.box[2:] / 2
    zoom = max(sample.box[2:]) / IMAGE_PX
    marked = np.concatenate([points * zoom + corner, np.ones((54, 1))], 1).astype(np.float32)
    view = view_of(replace(sample, keypoints2d=marked), "smpl54", "a test")
    away = np.array([9.0, 9.0, 9.0])
    found = place_in_crop(bodies, mesh, view, view.side, IMAGE_PX, away)
    wanted = camera_translation(torch.tensor(CAMERA)[None], IMAGE_PX)[0].numpy()
    np.testing.assert_allclose(found[:2], wanted[:2], atol=0.01)
    np.testing.assert_allclose(found[2], wanted[2], rtol=0.01)
    few = replace(view, keypoints2d=view.keypoints2d * ([1, 1, 0]))
    assert (place_in_crop(bodies, mesh, few, view.side, IMAGE_PX, away) == away).all()


def test_equal_bodies_have_one_outline_in_two_colours(made: Made, bodies: Bodies, tmp_path: Path) -> None:
    arrays = made.scores.shard.arrays
    right = replace(
        made.scores,
        rotmats=rotvec_to_rotmat(torch.from_numpy(np.array(arrays["pose"]))).numpy(),
        betas=np.array(arrays["betas"]),
    )
    groups = draw_people(tmp_path, bodies, right, IMAGE_PX)
    drawn = next(one for people in groups.values() for one in people if one.posing.labelled is not None)
    np.testing.assert_array_equal(drawn.posing.predicted, drawn.posing.labelled)
    picture = cv2.imread(str(tmp_path / Path(drawn.files["picture"]).name)).astype(int)
    above, below = picture[:230, 512:], picture[256:486, 512:]  # from the side, without the words
    shown = [(tile != tile[0, 0]).any(2) for tile in (above, below)]
    np.testing.assert_array_equal(*shown)
    assert 0.02 < shown[0].mean() < 0.5
    blue, _, red = (above - below)[shown[0]].mean(0)
    assert blue > 30 > -30 > red  # BGR: blue above, orange below


def test_a_person_without_a_labelled_body_has_the_prediction_alone(bodies: Bodies, made: Made) -> None:
    assert labelled_mesh(bodies, made.scores, 3) is None  # person 3 has no body
    assert labelled_mesh(bodies, made.scores, 2) is not None
    points_only = replace(made.scores, benchmark=replace(made.scores.benchmark, truth="stored"))
    assert labelled_mesh(bodies, points_only, 2) is None


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1e-6, 1.0), (3.0, 3.0), (0.0, 0.0), (47.0, 52.0), (2.0, 4e4)])
def test_an_axis_has_a_few_ticks_inside(low: float, high: float) -> None:
    scale = Scale.upright(np.array([low, high]))
    pixels = [at for at, _ in scale.ticks()]
    assert 2 <= len(pixels) <= 9
    assert all(min(scale.start, scale.stop) - 1e-6 <= at <= max(scale.start, scale.stop) + 1e-6 for at in pixels)
    assert len({text for _, text in scale.ticks()}) == len(pixels)
