from pathlib import Path

import cv2
import numpy as np
import pytest
from command import hmrb, refused, spec_file

from hmrb.data.augment import AUGMENTS
from hmrb.data.occluders import load_occluders
from hmrb.reports.augment_sheet import GAP_PX, TILE_PX, TITLE_PX, Column, draw_sheet, each_alone
from hmrb.spec import Op
from hmrb.store import Store

STEP = TILE_PX + GAP_PX


def tile(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = GAP_PX + TITLE_PX + row * STEP, GAP_PX + column * STEP
    return sheet[top : top + TILE_PX, left : left + TILE_PX]


def test_each_column_shows_its_augmentation_and_the_first_none() -> None:
    from conftest import view

    person = view(np.full((80, 80, 3), 128, np.uint8), keypoints2d=np.zeros((54, 3), np.float32))
    erase = Op(name="hard_erase", args={"p": 0.0, "area": [0.3, 0.4]}, only=("h36m",))
    columns = [*each_alone([erase]), Column("all", "as drawn", (erase,))]
    sheet = draw_sheet([("h36m", person), ("3dpw", person)], columns, 48, seed=0)
    assert sheet.shape == (GAP_PX + TITLE_PX + 2 * STEP, GAP_PX + 3 * STEP, 3)
    assert columns[1].note == "on the picture, only h36m"
    for row in range(2):
        assert (tile(sheet, row, 0) == 128).all()
        assert (tile(sheet, row, 1) != 128).any()  # always applied, for any p and dataset
        assert (tile(sheet, row, 2) == 128).all()  # never applied, as in the spec
    for column in range(3):  # titled
        title = sheet[GAP_PX : GAP_PX + TITLE_PX, GAP_PX + column * STEP : GAP_PX + (column + 1) * STEP]
        assert (title < 100).any()


def test_joints_move_with_the_person() -> None:
    from conftest import view

    points = np.zeros((54, 3), np.float32)
    points[0] = 20, 40, 1  # the pelvis is its own mirror image
    person = view(np.zeros((80, 80, 3), np.uint8), keypoints2d=points, side=80.0)
    sheet = draw_sheet([("any", person)], each_alone([Op(name="flip")]), 80, seed=0)
    for column, x in ((0, 20), (1, 60)):  # mirrored to 59, and the square's centre from 40 to 39
        bright = tile(sheet, 0, column).sum(-1).astype(float)
        found = (np.indices(bright.shape) * bright).sum((1, 2)) / bright.sum()
        np.testing.assert_allclose(found, np.array([40.5, x + 0.5]) * TILE_PX / 80 - 0.5, rtol=0, atol=1.0)


def test_a_spec_is_drawn_on_the_people_of_its_mix(tiny_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "sheet.png"
    done = hmrb("show-augment", spec_file(tmp_path), "--out", str(out), "--people", "3", home=tiny_store.root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: 3 people, 5 columns, ")
    assert "stand in" not in done.stdout
    assert cv2.imread(str(out)).shape == (GAP_PX + TITLE_PX + 3 * STEP, GAP_PX + 5 * STEP, 3)
    again = hmrb("show-augment", spec_file(tmp_path), "--out", f"{out}2.png", "--people", "3", home=tiny_store.root)
    assert again.returncode == 0
    assert out.read_bytes() == Path(f"{out}2.png").read_bytes()
    assert sorted(path.name for path in out.parent.iterdir()) == ["sheet.png", "sheet.png2.png"]


def test_without_shards_synthetic_people_stand_in(tmp_path: Path) -> None:
    out = tmp_path / "sheet.png"
    arguments = ("show-augment", spec_file(tmp_path), "--all", "--people", "1", "--out", str(out))
    done = hmrb(*arguments, home=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    assert f"no shard of synthetic in {tmp_path}/empty: using synthetic people instead" in done.stdout
    columns = len(each_alone([Op(name=name) for name in AUGMENTS]))
    assert columns > len(AUGMENTS) + 1  # one for each kind of what draws one of several
    assert f"1 people, {columns} columns" in done.stdout
    assert not (tmp_path / "empty").exists()


def test_show_augment_says_what_is_wrong(tiny_store: Store, tmp_path: Path) -> None:
    spec = spec_file(tmp_path, data={"mix": {"synthetic": 1.0}, "augment": ["flipp"]})
    refused(hmrb("show-augment", spec, home=tiny_store.root), "no augmentation named 'flipp'. Did you mean 'flip'?")
    (tmp_path / "file").write_text("")
    out = str(tmp_path / "file" / "sheet.png")
    done = hmrb("show-augment", spec_file(tmp_path), "--people", "1", "--out", out, home=tiny_store.root)
    refused(done, "could not be written", code=1)
    load_occluders.cache_clear()
    pascal = {"occlude": {"occluders": "pascal"}}
    spec = spec_file(tmp_path, data={"mix": {"synthetic": 1.0}, "augment": [pascal]})
    out = str(tmp_path / "sheet.png")
    refused(hmrb("show-augment", spec, "--out", out, home=tiny_store.root), "hmrb convert-data occluders --raw DIR")
    assert not Path(out).exists()


def test_occluders_are_prepared_by_the_command(voc: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = hmrb("convert-data", "occluders", "--raw", str(voc), home=home)
    assert done.returncode == 0, done.stderr
    assert f"{home}/occluders/pascal.npz: 1 objects" in done.stdout
    refused(
        hmrb("convert-data", "occluders", home=home),
        "occluders: set --raw DIR, the folder with the unpacked Pascal VOC",
    )
    refused(hmrb("convert-data", "occluders", "--raw", str(home), home=home), "not a VOC 2012 folder")


@pytest.fixture(autouse=True)
def _no_cached_set() -> None:
    load_occluders.cache_clear()


def test_another_format_than_png_is_refused(tmp_path: Path) -> None:
    refused(hmrb("show-augment", "quickstart", "-o", str(tmp_path / "a.jpg"), home=tmp_path), "PNG is the only format")
    assert not list(tmp_path.glob("a.*"))
