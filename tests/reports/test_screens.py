"""The pages look as the pictures in `screens`, which somebody has looked at. Faults that a reader sees do not pass.

`pytest -m heavy tests/reports/test_screens.py`, with Chromium on the path; `--keep-screens` makes the pictures anew.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER
from made_pages import PAGES, report_page
from screens import KEPT, SCREENS, difference, keep, kept, seen

from hmrb.reports import gallery

pytestmark = [pytest.mark.heavy, pytest.mark.skipif(not BROWSER, reason="needs chromium")]
ALIKE = 10  # WebP alone makes 6, letters without hinting or parts of pixels 7, the smallest fault below 13
FAULTS = {
    "a chart is hidden": ("report", ".chart:nth-child(2) svg { visibility: hidden }"),
    "a chart is gone": ("report", ".chart:nth-child(2) { display: none }"),
    "curves are not drawn": ("report", ".line { visibility: hidden }"),
    "sections overlap": ("report", "h2 { position: relative; top: -4rem }"),
    "sections are too close": ("report", "h2 { margin-top: -2rem }"),
    "tiles run out of a narrow page": ("report_narrow", ".people { grid-template-columns: 420px }"),
    "a dark page is light": ("report_dark", ":root { --page: #fff !important; --ink: #1b1f26 !important }"),
    "no bodies in 3D": ("person", "canvas { visibility: hidden }"),
    "a dialog as narrow as a phone": ("person_dark", "dialog { width: 500px }"),
    "no bars": ("runs", ".bars .bar { visibility: hidden }"),
    "numbers at the left": ("runs_dark", "table.sorts td { text-align: left !important }"),
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: make(tmp_path_factory.mktemp(name)) for name, make in PAGES.items()}


@pytest.mark.parametrize("name", SCREENS)
def test_a_page_looks_as_it_was_kept(
    name: str, pages: dict[str, Path], tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    screen = SCREENS[name]
    picture = seen(screen, pages[screen.page], tmp_path)
    if pytestconfig.getoption("keep_screens"):
        keep(name, picture)
    levels, place = difference(kept(name), picture)
    assert levels < ALIKE, f"{tmp_path}/screen.png differs from {KEPT}/{name}.webp about {place} of the latter"


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_seen(fault: str, pages: dict[str, Path], tmp_path: Path) -> None:
    name, css = FAULTS[fault]
    screen = SCREENS[name]
    picture = seen(screen, pages[screen.page], tmp_path, f"<style>{css}</style>")
    assert difference(kept(name), picture)[0] > ALIKE


def test_a_page_without_style_is_seen(pages: dict[str, Path], tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(pages["runs"].read_text(encoding="utf-8").replace("<style>", '<style media="none">'))
    assert difference(kept("runs"), seen(SCREENS["runs"], page, tmp_path))[0] > ALIKE


def test_bodies_beside_their_people_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a thirtieth of the tile, as if a margin of the crop had been forgotten."""
    drawn = gallery._over

    def beside(body: Any, image: Any, placed: Any, colour: Any) -> Any:
        camera = placed.camera
        center = (camera.center[0] + gallery.TILE_PX / 30, camera.center[1])
        return drawn(body, image, replace(placed, camera=replace(camera, center=center)), colour)

    monkeypatch.setattr(gallery, "_over", beside)
    assert difference(kept("report"), seen(SCREENS["report"], report_page(tmp_path), tmp_path))[0] > ALIKE


def test_kept_pictures_are_those_of_the_table_and_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in KEPT.glob("*.webp")}
    assert sizes.keys() == SCREENS.keys()
    assert max(sizes.values()) < 150_000
    assert sum(sizes.values()) < 400_000
