"""Packed files: pictures that are missing, and shards under a name of the user's own."""

import json
from pathlib import Path

import numpy as np
import pytest
from command import hmrb, refused
from conftest import tiny_tree
from test_packed_files import converted, many, picture, write

from hmrb.check import name_problems
from hmrb.data.convert.own import is_own, own_datasets
from hmrb.data.shard import Shard
from hmrb.errors import RunError
from hmrb.spec import parse_experiment
from hmrb.store import Store


def pack_as(folder: Path, name: str, *words: str) -> tuple[str, ...]:
    """A command that packs 20 people of `own.npz`, a file of SPIN's format."""
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images/a.jpg").write_bytes(picture(64, 64))
    write(folder, **many(20)).rename(folder / "own.npz")
    files = ("--file", str(folder / "own.npz"), "--images", str(folder / "images"))
    return ("convert-data", "spin", *files, "--as", name, *words)


def test_a_missing_picture_is_left_out_as_far_as_allowed(tmp_path: Path) -> None:
    content = many(60)
    content["imgname"] = np.array([f"{number // 2:02d}.jpg" for number in range(60)])
    converted(tmp_path, content, "spin")
    (tmp_path / "images/07.jpg").write_bytes(b"")
    names = content["imgname"]
    content["imgname"] = np.where(names == "03.jpg", "gone.jpg", names)

    def again(limit: int) -> list[str]:
        from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter
        from hmrb.data.convert.from_packed import repack

        said: list[str] = []
        ticker = ProgressReporter()
        ticker.say = said.append  # type: ignore[method-assign]
        making = ConversionOptions("a test", missing_limit=limit)
        path, images = write(tmp_path, **content), tmp_path / "images"
        repack("spin", path, images, "lsp", "train", Store(tmp_path), making, ticker)
        return said

    with pytest.raises(RunError, match=r"2 images cannot be used, --allow-missing allows 1: .*gone\.jpg.*07\.jpg"):
        again(1)
    said = again(2)
    assert [line.split(": ")[-1] for line in said] == ["no such file", "it is an empty file"]
    assert len(Shard(Store(tmp_path).shard("lsp", "train"))) == 56


def test_packed_under_a_name_of_the_catalogue_is_told_from_the_dataset(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert hmrb(*pack_as(tmp_path, "coco"), home=home).returncode == 0
    shard = Shard(Store(home).shard("coco", "train"))
    assert shard.info.source.startswith("packed: own.npz, spin, sha ")
    assert shard.info.label == f"coco ({shard.info.source})"  # its name in `trained_on`
    done = hmrb("list-datasets", "coco", "--here", home=home)
    assert "train (packed)" in done.stdout
    (row,) = json.loads(hmrb("list-datasets", "coco", "--here", "--json", home=home).stdout)
    assert row["packed"] == {"train": shard.info.source}


def test_data_of_one_s_own_have_a_name_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("HMRB_HOME", str(home))
    spec = parse_experiment(tiny_tree() | {"data": {"mix": {"my-data": 1.0}, "workers": 0}}, "a test")
    assert any("no dataset named 'my_data'" in problem and "--as my_data" in problem for problem in name_problems(spec))
    done = hmrb(*pack_as(tmp_path, "my-data"), home=home)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(home).shard("my_data", "train"))
    assert (shard.info.dataset, shard.info.source[:13]) == ("my_data", "own: own.npz,")
    assert shard.info.label == f"my_data ({shard.info.source})"
    assert not any("my_data" in problem for problem in name_problems(spec))
    assert "my_data_train.h5" in hmrb("verify", "my-data_train", home=home).stdout
    assert [row.slug for row in own_datasets(Store(home))] == ["my_data"]
    done = hmrb("list-datasets", "--here", home=home)
    assert "[own]" in done.stdout
    assert "my_data" in done.stdout


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("My Data", (), "--as My Data: not a dataset of the catalogue"),
        ("../up", (), "a name of your own has the letters a-z, digits, _ and -"),
        ("coco", ("--split", "test"), "coco has no split 'test'; it has"),
        ("mine", ("--split", "../x"), "--split ../x: the name of a split has the letters"),
    ],
)
def test_a_name_that_is_not_allowed_is_refused(name: str, words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    refused(hmrb(*pack_as(tmp_path, name, *words), home=tmp_path / "home"), said)
    assert not list((tmp_path / "home").rglob("*.h5"))


def test_a_name_of_the_catalogue_is_never_one_s_own() -> None:
    known, own = ("coco", "pw3d", "eft-coco", "a/b", ""), ("coc0", "my_data", "my-data")
    assert not any(map(is_own, known))
    assert all(map(is_own, own))
