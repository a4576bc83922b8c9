"""The report's table and page: correct numbers, no network access, and a mesh that overlays its person."""

import json
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import machine, person, source, write_shard

from hmrb.body import SMPL, load_body
from hmrb.data.shard import open_shard
from hmrb.errors import RunError
from hmrb.evaluation.evaluate import ScoredPeople, Scores
from hmrb.evaluation.metric_table import TITLES
from hmrb.evaluation.protocols import BENCHMARKS
from hmrb.evaluation.records import Record
from hmrb.evaluation.saving import save_scores
from hmrb.geometry import project
from hmrb.reports.gallery import overlay, write_worst
from hmrb.reports.run_page import Scale, curves, print_table, write_report
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


class Page(HTMLParser):
    """Parses a page: its text, unclosed tags, loaded resources and all tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href", "srcset", "data")]
        if tag not in ("meta", "img", "path", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag != "path":
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


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


def test_the_page_is_well_formed_and_loads_nothing(made: Made) -> None:
    assert made.page.open == []
    assert len(made.page.loaded) == NUM_PEOPLE
    assert all(source.startswith("data:image/jpeg;base64,") for source in made.page.loaded)
    assert not any(word in made.html for word in ("http:", "https:", "url(", "@import"))


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
    assert "script" not in made.page.tags
    assert made.page.text.count(HOSTILE) == 3  # the person, the training dataset, the spec


def test_the_gallery_is_ordered_by_error(made: Made) -> None:
    errors = np.sort(made.scores.errors["pa_mpjpe"])
    shown = [made.page.text.index(f"PA-MPJPE {error:.1f} mm ·") for error in errors]
    assert shown[0] < shown[1] < shown[2] < shown[3] < shown[5] < shown[4]  # the worst comes before the second worst


def test_pictures_and_meshes_lie_beside_the_page(made: Made) -> None:
    names = {f"synthetic_{group}_{k}" for group in ("best", "median", "worst") for k in (1, 2)}
    files = {path.name for path in (made.folder / "overlays").iterdir()}
    assert files == {f"{name}.{kind}" for name in names for kind in ("png", "obj")}
    picture = cv2.imread(str(made.folder / "overlays" / "synthetic_best_1.png"))
    assert picture is not None
    assert picture.shape == (256, 768, 3)
    assert not list(made.folder.rglob("*.part"))


def test_the_written_mesh_stands_upright(made: Made, body: SMPL) -> None:
    lines = (made.folder / "overlays" / "synthetic_best_1.obj").read_text().splitlines()
    vertices = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
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
    assert charts["PA-MPJPE on synthetic_val, mm"].note == "last 77.2, best 77.2 at step 40"
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
        row = next(line for line in lines if f"  {TITLES[name]} {metric.unit} " in line)
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
    shared = "'synthetic' and the test set share people, places or photos (see docs/results.md)"
    assert kin == f"synthetic: note: training data {shared}"


def test_the_worst_people_are_drawn_worst_first(made: Made, body: SMPL, tmp_path: Path) -> None:
    write_worst(tmp_path / "worst.jpg", body, made.scores, IMAGE_PX, 5)
    sheet = cv2.imread(str(tmp_path / "worst.jpg"))
    assert sheet is not None
    assert sheet.shape == (2 * 280, 4 * 512, 3)  # photo and overlay, four pairs a row, the name below
    assert (sheet[280:, 600:] > 250).all()  # the fifth is alone in its row
    assert not (sheet[280:, :500] > 250).all()
    write_worst(tmp_path / "all.jpg", body, made.scores, IMAGE_PX, 100)
    everybody = cv2.imread(str(tmp_path / "all.jpg"))
    assert everybody is not None
    assert everybody.shape == sheet.shape


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (1e-6, 1.0), (3.0, 3.0), (0.0, 0.0), (47.0, 52.0), (2.0, 4e4)])
def test_an_axis_has_a_few_ticks_inside(low: float, high: float) -> None:
    scale = Scale.upright(np.array([low, high]))
    pixels = [at for at, _ in scale.ticks()]
    assert 2 <= len(pixels) <= 9
    assert all(min(scale.start, scale.stop) - 1e-6 <= at <= max(scale.start, scale.stop) + 1e-6 for at in pixels)
    assert len({text for _, text in scale.ticks()}) == len(pixels)
