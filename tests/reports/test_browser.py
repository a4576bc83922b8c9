"""The pages in a browser: a silent console, the records' numbers, bodies that turn, sorting, phones, dark pages.

`pytest -m heavy tests/reports/test_browser.py`, with Chromium on the path. With $HMRB_AXE, the axe.min.js of npm's
axe-core, accessibility is checked as well.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
from browser import AXE, BROWSER, asked, complaints, photographed
from command import hmrb
from results import write

from hmrb.evaluation.records import Record, read_record, read_results
from hmrb.reports.tables import compare

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(not BROWSER, reason="needs chromium")]
PHONE_PX = 390
PIXELS = """const gl = document.querySelector("canvas").getContext("webgl");
const seen = () => {
  const pixels = new Uint8Array(4 * gl.drawingBufferWidth * gl.drawingBufferHeight);
  gl.readPixels(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
  const hues = { none: 0, blue: 0, orange: 0 };
  for (let i = 0; i < pixels.length; i += 4)
    hues[!pixels[i + 3] ? "none" : pixels[i + 2] > pixels[i] ? "blue" : "orange"] += 1;
  return { ...hues, all: pixels.length / 4, sum: pixels.reduce((a, b, i) => (a + b * (i % 9973)) % 1e9, 0) };
};
const wait = () => new Promise((done) => setTimeout(done, 200));
const tile = document.querySelector("a.tile[data-body]"); tile.focus(); tile.click(); await wait();
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model that ships, scored on nine rendered people."""
    folder = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hmrb.data.sources.synthetic.TEST_PEOPLE", 9)
        done = hmrb("eval", "demo", "--bench", "synthetic", "-o", str(folder), "--workers", "0", home=folder / "home")
    assert done.returncode == 0, done.stderr
    return folder / "report.html"


@pytest.fixture(scope="module")
def record(report: Path) -> Record:
    return read_record(report.parent / "eval" / "synthetic.json")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A page of four runs, one of which has a hostile name, and their folders."""
    folder = tmp_path_factory.mktemp("runs")
    people = np.random.default_rng(0).uniform(20, 120, 50)
    made = {"b9": 5.0, "b10": 40.0, "a": -5.0, '"onload="alert(1)<script>alert(1)<': 0.0}
    found = [write(folder / str(i), name, 0, people + change) for i, (name, change) in enumerate(made.items())]
    done = hmrb("report", *map(str, found), "--against", "a", "--format", "html", "-o", str(folder))
    assert done.returncode == 0, done.stderr
    return folder / "index.html", found


def test_the_console_is_silent(report: Path, runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    for page in (report, runs[0]):
        assert complaints(page, tmp_path) == []


def test_a_page_s_numbers_are_the_record_s(report: Path, record: Record, tmp_path: Path) -> None:
    rows = "[...document.querySelectorAll('tbody tr')].map((row) => [...row.cells].map((cell) => cell.innerText))"
    seen = asked(report, tmp_path, f"return {rows}")
    assert seen.faults == []
    for row, number in zip(seen.value, record.metrics.values(), strict=True):
        low, high = number.ci95
        assert row[2:5] == [f"{number.value:.1f}", f"[{low:.1f}, {high:.1f}]", f"{number.mean_body:.1f}"]


def test_a_tile_opens_large_and_its_bodies_turn(report: Path, tmp_path: Path) -> None:
    script = (
        PIXELS
        + """
    const dialog = document.querySelector("dialog"), canvas = dialog.querySelector("canvas");
    const first = seen(), name = dialog.querySelector("h2").textContent;
    const size = dialog.querySelector("img").naturalWidth;
    for (let i = 0; i < 5; i++) canvas.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    const turned = seen();
    const drag = (kind, x) => canvas.dispatchEvent(
      new PointerEvent(kind, { pointerId: 1, clientX: x, clientY: 50, buttons: 1, bubbles: true }));
    canvas.setPointerCapture = () => {};
    drag("pointerdown", 50); drag("pointermove", 120);
    const dragged = seen();
    dialog.querySelector("[name=labelled]").click();
    const alone = seen();
    dialog.querySelector(".next").click(); await wait();
    const next = dialog.querySelector("h2").textContent;
    dialog.querySelector(".close").click();
    const isBack = () => document.activeElement === document.querySelectorAll("a.tile")[1];
    for (let i = 0; i < 50 && !isBack(); i++) await wait();
    return { first, turned, dragged, alone, name, next, size, open: dialog.open, error: gl.getError(),
      focused: isBack() };
    """
    )
    seen = asked(report, tmp_path, script)
    assert seen.faults == []
    first, turned, dragged, alone = (seen.value[key] for key in ("first", "turned", "dragged", "alone"))
    assert first["blue"] > 0.01 * first["all"]
    assert first["orange"] > 0.01 * first["all"]
    assert first["none"] > 0.3 * first["all"]
    assert len({first["sum"], turned["sum"], dragged["sum"]}) == 3
    assert (alone["orange"], alone["blue"] >= dragged["blue"]) == (0, True)
    assert seen.value["name"] != seen.value["next"]
    assert (seen.value["size"], seen.value["open"], seen.value["error"], seen.value["focused"]) == (768, False, 0, True)


def test_the_meaning_of_a_metric_is_reached_by_keyboard(report: Path, tmp_path: Path) -> None:
    script = """const term = document.querySelector("td button.term"); term.focus(); term.click();
    const about = document.getElementById(term.getAttribute("popovertarget"));
    return [document.activeElement === term, about.matches(":popover-open"), about.innerText, term.title]"""
    focused, is_open, words, title = asked(report, tmp_path, script).value
    assert (focused, is_open) == (True, True)
    assert "lower is better: mean distance of the joints" in words
    assert title in words


def test_no_line_crosses_the_numbers_of_the_joints(report: Path, tmp_path: Path) -> None:
    script = """const line = document.querySelector("path.mean[d*=V]").getBoundingClientRect();
    return [...document.querySelectorAll("text.value")].every(
      (text) => text.getBoundingClientRect().left > line.right + 1)"""
    assert asked(report, tmp_path, script).value is True


def test_columns_sort_by_number_and_by_name(runs: tuple[Path, list[Path]], tmp_path: Path) -> None:
    script = """const column = (i) => [...document.querySelectorAll("tbody tr")].map((row) => row.cells[i].innerText);
    const press = (i) => document.querySelectorAll("button.sort")[i].click();
    const out = {}; press(2); out.up = column(2); press(2); out.down = column(2);
    out.said = document.querySelectorAll("th")[2].getAttribute("aria-sort");
    press(0); out.names = column(0); press(4); out.differences = column(5);
    return out"""
    seen = asked(runs[0], tmp_path, script)
    assert seen.faults == []
    (table,) = compare(read_results(runs[1]), "pa_mpjpe", "a")
    values = sorted(row.value for row in table.rows)
    assert seen.value["up"] == [f"{value:.1f}" for value in values]
    assert seen.value["down"] == seen.value["up"][::-1]
    assert seen.value["said"] == "descending"
    assert seen.value["names"][1:] == ["a", "b9", "b10"]  # by number inside of names
    assert seen.value["differences"][-1] == ""  # the baseline has none


@pytest.mark.parametrize("dark", [False, True])
def test_pages_fit_a_phone_and_follow_dark_mode(
    report: Path, runs: tuple[Path, list[Path]], tmp_path: Path, dark: bool
) -> None:
    script = """return [document.scrollingElement.scrollWidth, getComputedStyle(document.body).backgroundColor,
      getComputedStyle(document.body).color]"""
    for page in (report, runs[0]):
        width, paper, ink = asked(page, tmp_path, script, width=PHONE_PX, height=844, dark=dark).value
        assert width == PHONE_PX
        assert (paper, ink) == (
            ("rgb(20, 23, 28)", "rgb(232, 235, 239)") if dark else ("rgb(255, 255, 255)", "rgb(27, 31, 38)")
        )
    opened = (
        PIXELS + "const box = document.querySelector('dialog').getBoundingClientRect(); return [box.left, box.right]"
    )
    left, right = asked(report, tmp_path, opened, width=PHONE_PX, height=844, dark=dark).value
    assert 0 <= left < right <= PHONE_PX


def test_a_screenshot_has_the_colours_of_both_bodies(report: Path, tmp_path: Path) -> None:
    picture = cv2.imread(str(photographed(report, tmp_path, "page.png", 1200, 3500)))
    assert picture is not None
    hue, saturation, _ = np.moveaxis(cv2.cvtColor(picture, cv2.COLOR_BGR2HSV).astype(int), 2, 0)
    for low, high in ((105, 118), (12, 20)):  # blue, orange, in OpenCV's half degrees
        assert ((hue >= low) & (hue <= high) & (saturation > 70)).mean() > 0.01


@pytest.mark.skipif(not AXE.exists(), reason="needs $HMRB_AXE, the axe.min.js of axe-core")
@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious(report: Path, runs: tuple[Path, list[Path]], tmp_path: Path, dark: bool) -> None:
    script = f"""{AXE.read_text(encoding="utf-8") if AXE.exists() else ""}
    const tile = document.querySelector("a.tile");
    const found = (await axe.run()).violations;
    if (tile) {{ tile.click(); found.push(...(await axe.run()).violations); }}
    return found.map((one) => [one.impact, one.id, one.nodes.map((node) => node.html.slice(0, 200))])"""
    for page in (report, runs[0]):
        seen = asked(page, tmp_path, script, dark=dark)
        assert seen.faults == []
        assert [one for one in seen.value if one[0] in ("serious", "critical")] == []
