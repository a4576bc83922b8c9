"""Datasets of other packages: converted, listed, trained on, recorded; broken ones are told in one message."""

import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from command import hmrb, refused
from conftest import tiny_tree, write_tiny_store
from plugged import install, install_example

from hmrb.data.convert.from_packed import PACKED
from hmrb.data.convert.offered import WORDS, code_stamps, offered_converter
from hmrb.data.convert.own import own_shards
from hmrb.data.convert.raw import Raw
from hmrb.data.shard import Shard
from hmrb.data.sources.coco_json import KIND
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.records import read_record
from hmrb.missing import shard_command
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

CODE = """
import numpy as np
from hmrb.data.convert.conversion import Converter, SplitPlan
from hmrb.records import Person, Photo

def make():
    return Converter(**{"name": "own", "title": "Own", "licence": "mine", "skeleton": "coco", "splits": ("train",),
                        "plan": plan, "tree": "a.txt"} | CHANGES)

def plan(raw):
    raw.need("a.txt")
    return [SplitPlan("train", [1, 2], read)]

def read(item):
    points = np.tile(np.float32([8, 8, 1]), (17, 1))
    pixels = np.zeros((16, 16, 3), np.uint8)
    person = Person(box=np.float32([2, 2, 12, 12]), keypoints2d=points)
    yield Photo(name=f"{item}.jpg", people=(person,), pixels=pixels)

CHANGES = {}
"""


@pytest.fixture(autouse=True)
def forget_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("hmrb_example", "hmrb_example.dots", "theirs"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.fixture
def offer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Installs the package `theirs` 1.2, whose module offers a dataset; gives a raw folder."""

    def installed(code: str = CODE, name: str = "own") -> Path:
        folder = install(tmp_path / "theirs", "theirs", "1.2", {"hmrb.datasets": {name: "theirs:make"}})
        (folder / "theirs.py").write_text(code)
        monkeypatch.syspath_prepend(str(folder))
        (tmp_path / "raw").mkdir()
        (tmp_path / "raw" / "a.txt").write_text("")
        return tmp_path / "raw"

    return installed


@pytest.fixture
def dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example's package, installed, and a raw tree of its dataset: 12 people to train on, 3 to test."""
    monkeypatch.syspath_prepend(str(install_example(tmp_path / "site")))
    joints = SKELETONS["coco"].joints
    for split, count in {"train": 12, "test": 3}.items():
        folder = tmp_path / "raw" / split
        folder.mkdir(parents=True)
        for row in range(count):
            cv2.imwrite(str(folder / f"{row}.jpg"), np.full((80, 60, 3), 9 * row, np.uint8))
            lines = [f"{joint} {20 + k} {10 + 3 * k + row}" for k, joint in enumerate(joints[1:])]
            (folder / f"{row}.txt").write_text("\n".join(lines))
    return tmp_path / "raw"


def test_the_example_s_dataset_is_converted_trained_on_and_recorded(dots: Path, tmp_path: Path) -> None:
    home, run = write_tiny_store(tmp_path / "home").root, tmp_path / "run"
    tree = tiny_tree()
    tree["data"]["mix"] = {"synthetic": 0.5, "example_dots": 0.5}
    tree["optim"] |= {"epochs": 1, "batch": 20}
    spec = tmp_path / "dots.yaml"
    spec.write_text(yaml.safe_dump(tree))
    refused(hmrb("train", str(spec), "--out", str(run), home=home), "hmrb convert-data example_dots --raw DIR")
    listed = hmrb("list-datasets", "--role", "own", home=home).stdout
    assert "package hmrb-example" in listed

    explained = hmrb("convert-data", "example-dots", "--explain", home=home).stdout
    assert "package: hmrb-example 0.1.0" in explained
    assert "lines `left_knee 81.5 120`" in explained
    done = hmrb("convert-data", "example-dots", "--raw", str(dots), "--workers", "2", home=home)
    assert done.returncode == 0, done.stderr
    shard = Shard(Store(home).shard("example_dots", "train"))
    assert (shard.info.num_people, shard.info.source) == (12, "package: hmrb-example 0.1.0")
    points = shard.arrays["keypoints2d"][0]
    assert points[0].tolist() == [0, 0, 0]  # the nose has no line
    x, y = points[1, :2] / shard.arrays["origin"][0, 2] + shard.arrays["origin"][0, :2]
    assert (x, y) == pytest.approx((20, 10), abs=0.5)
    assert Shard(Store(home).shard("example_dots", "test")).info.pictures == "original"  # it is in `benchmarks`
    assert "package hmrb-example" not in hmrb("list-datasets", "--role", "own", home=home).stdout  # a shard is here

    done = hmrb("train", str(spec), "--out", str(run), "--cpu-procs", "1", home=home)
    assert done.returncode == 0, done.stderr
    record = read_record(next((run / "eval").glob("*.json")))
    assert "example_dots (package: hmrb-example 0.1.0)" in "\n".join(record.source.trained_on)


def test_all_finds_it_in_a_folder_of_its_name(offer: Callable[..., Path], tmp_path: Path) -> None:
    offer().rename(tmp_path / "own")
    done = hmrb("convert-data", "--all", "--raw", str(tmp_path), "--workers", "1", home=tmp_path / "home")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in own_shards(Store(tmp_path / "home"))] == ["own_train.h5"]


def test_a_wrong_line_of_the_example_is_told(dots: Path, tmp_path: Path) -> None:
    (dots / "train" / "0.txt").write_text("left_knee 3 4\nleft_wing 3 4\n")
    done = hmrb("convert-data", "example_dots", "--raw", str(dots), "--workers", "1", home=tmp_path / "home")
    assert done.returncode == 1
    assert "0.txt: line 2 is no joint of nose" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"name": "own"', '"name": "other"', "its Converter has the name 'other'"),
        ('"skeleton": "coco"', '"skeleton": "cocoa"', "no skeleton named 'cocoa'. Did you mean 'coco'"),
        ('"splits": ("train",)', '"splits": ("Train 1",)', "splits ('Train 1',) has to be a tuple"),
        ("CHANGES = {}", 'CHANGES = {"body": "smpll"}', "no body named 'smpll'"),
        ("CHANGES = {}", 'CHANGES = {"makes_itself": True}', "makes_itself is for"),
        ("    return Converter", "    return str or Converter", "it returns a type, not a hmrb.data.convert"),
        ("def make():", "def make():\n    1 / 0", "cannot be built: ZeroDivisionError"),
        ("import numpy as np", "import nunpy", "cannot be imported from theirs:make: ModuleNotFoundError"),
        ('SplitPlan("train"', 'SplitPlan("tests"', "plan returns the split 'tests'; its Converter names train"),
        ('[SplitPlan("train", [1, 2], read)]', '["train"]', "plan has to return SplitPlans"),
        ("[1, 2], read", "[1], lambda item: []", "make it a function of a module"),
        ('[SplitPlan("train", [1, 2], read)]', "[]", "found nothing in "),
        ("a.txt\")", "b.txt\")", "contains no b.txt; see hmrb convert-data own --explain"),
    ],
)  # fmt: skip
def test_a_wrong_package_is_refused_in_one_message(
    old: str, new: str, said: str, offer: Callable[..., Path], tmp_path: Path
) -> None:
    assert CODE.count(old) == 1
    raw = offer(CODE.replace(old, new))
    with pytest.raises(RequestError) as refusal:
        converter = offered_converter("own")
        assert converter
        converter.plan(Raw(raw, name="own"))
    assert said in str(refusal.value)
    assert "theirs 1.2" in str(refusal.value) or "b.txt" in said


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("    points = ", "    {}['x']\n    points = ", "reading 1 failed: KeyError: 'x'"),
        ("(17, 1))", "(16, 1))", "1.jpg: keypoints2d of a person has the shape (16, 3), expected (17, 3): a row per"),
        (
            "    yield",
            "    object.__setattr__(person, 'box', [2, 2])\n    yield",
            "box of a person is a list, expected a numpy array",
        ),
        (
            "person = Person(",
            "person = Person(pose=np.zeros((5, 3)), ",
            "pose of a person has the shape (5, 3), expected",
        ),
        ("yield Photo(", "yield dict(", "read yields a dict, not a hmrb.records.Photo"),
        ('    raw.need("a.txt")', "    {}['x']", "its plan failed: KeyError: 'x'"),
    ],
)
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_reader_that_fails_is_told_in_one_line(
    old: str, new: str, said: str, workers: str, offer: Callable[..., Path], tmp_path: Path
) -> None:
    assert CODE.count(old) == 1
    raw = offer(CODE.replace(old, new))
    done = hmrb("convert-data", "own", "--raw", str(raw), "--workers", workers, home=tmp_path / "home")
    assert done.returncode == 1
    assert "dataset 'own' of the package theirs 1.2" in done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list((tmp_path / "home").rglob("own_train.h5")) == []


@pytest.mark.parametrize("name", ["3dpw", "coco_json", "bedlam"])
def test_a_name_of_hmrb_is_refused(name: str, offer: Callable[..., Path], tmp_path: Path) -> None:
    offer(name=name)
    with pytest.raises(RequestError, match=f"dataset '{name}': hmrb itself and theirs 1.2 have this name"):
        offered_converter(name)


def test_its_packages_are_told_where_a_name_is_unknown(offer: Callable[..., Path], tmp_path: Path) -> None:
    offer(name="my_birds")
    refused(hmrb("convert-data", "my-bird", home=tmp_path), "Did you mean 'my_birds'?")
    assert shard_command("my-birds") == "hmrb convert-data my-birds --raw DIR"


def test_blocks_of_other_code_of_the_package_are_not_kept(offer: Callable[..., Path], tmp_path: Path) -> None:
    assert code_stamps("coco") == {}
    offer()
    before = code_stamps("own")
    assert [Path(name).name for name in before] == ["theirs.py"]
    (tmp_path / "theirs" / "theirs.py").write_text(CODE + "\n")
    assert code_stamps("own") != before


def test_a_reader_s_own_errors_are_kept(offer: Callable[..., Path]) -> None:
    raw = offer(
        CODE.replace("    raw.need", "    from hmrb.errors import RunError\n    raise RunError('torn')\n    raw.need")
    )
    converter = offered_converter("own")
    assert converter
    with pytest.raises(RunError, match="^torn$"):
        converter.plan(Raw(raw, name="own"))


def test_words_in_place_of_a_dataset_are_known() -> None:
    assert set(WORDS) == {"body", "occluders", "pseudo", KIND, *PACKED}
