"""hmrb show: a sheet of people, of a shard or rendered, and what they are like in numbers."""

from pathlib import Path

import cv2
import pytest
from conftest import person, write_shard
from typer.testing import CliRunner

from hmrb.cli import app
from hmrb.cli.show import facts
from hmrb.errors import RequestError
from hmrb.store import Store


def show(*words: str) -> tuple[str, BaseException | None]:
    done = CliRunner().invoke(app, ["show", *words])
    return done.stdout, done.exception


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("HMRB_HOME", str(tmp_path / "home"))
    return Store(tmp_path / "home")


def test_a_domain_without_a_shard_is_rendered_and_not_kept(store: Store, tmp_path: Path) -> None:
    said, error = show("synthetic-crowd", "--people", "10", "--out", str(tmp_path / "a" / "crowd.png"))
    assert error is None
    assert "synthetic_crowd train: 10 people, rendered now, not kept" in said
    assert "labels: 10 with 2D joints, 10 with 3D joints, 10 with a body, 10 with intrinsics" in said
    assert cv2.imread(str(tmp_path / "a" / "crowd.png")).shape == (2 * 192, 8 * 192, 3)
    assert not store.shard("synthetic_crowd", "train").exists()


def test_people_of_a_shard_are_shown_where_one_is(store: Store, tmp_path: Path) -> None:
    for name in ("synthetic_crowd", "mine"):
        write_shard(store.shard(name, "test"), [person(index) for index in range(3)], dataset=name, split="test")
        said, error = show(name, "--split", "test", "--out", str(tmp_path / "sheet.png"))
        assert error is None
        assert f"{name} test: 3 people, of 3 in " in said
        assert "occlusion: " in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["synthetic_crwd"], "no dataset named 'synthetic_crwd'. Did you mean 'synthetic_crowd'"),
        (["synthetic_crowd", "--split", "tset"], "no split 'tset'; available: train, val, test"),
        (["synthetic_street_2d", "--split", "test"], "no split 'test'; available: train"),
        (["3dpw"], "hmrb convert-data 3dpw --raw DIR"),
        (["synthetic_crowd", "--out", "a/b.jpg"], "--out a/b.jpg: PNG is the only format; name the file a/b.png"),
    ],
)
def test_what_cannot_be_shown_is_refused(words: list[str], message: str, store: Store) -> None:
    _, error = show(*words)
    assert isinstance(error, RequestError)
    assert message in str(error)


def test_facts_count_labels_and_measure_columns() -> None:
    lines = facts([person(index) for index in range(10)])
    assert lines[0] == "labels: 10 with 2D joints, 10 with 3D joints, 8 with a body, 0 with intrinsics"
    assert lines[1].startswith("occlusion: 0.")
