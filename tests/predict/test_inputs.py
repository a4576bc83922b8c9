"""What the words of a request name, and one message for each that names nothing."""

import errno
import io
import json
import os
import random
import sys
import tarfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import person, write_shard
from photos import jpeg

from hmrb.errors import RequestError
from hmrb.predict.inputs import Inputs, parse_box, read_inputs, with_boxes
from hmrb.predict.pictures import GivenBox, box_problem
from hmrb.store import Store


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with two photos, one deeper, and two other files."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(jpeg())
    (folder / "deep" / "b.JPG").write_bytes(jpeg())
    (folder / "notes.txt").write_text("hello")
    (folder / "._a.jpg").write_bytes(b"an icon")
    return folder


def found(*words: object, store: Path = Path("/nowhere"), images: Path | None = None) -> Inputs:
    return read_inputs([str(word) for word in words], Store(store), images)


def boxes_of(inputs: Inputs) -> list[list[tuple[float, ...]] | None]:
    return [None if p.boxes is None else [given.box for given in p.boxes] for p in inputs.pictures]


def test_photos_folders_and_globs(photos: Path) -> None:
    whole = found(photos)
    assert [picture.name for picture in whole.pictures] == ["photos/a.jpg", "photos/deep/b.JPG"]
    assert whole.pictures[0].read() == jpeg()
    assert whole.notes == (f"{photos}: 2 photos; other files are left out: 1 .txt",)
    assert whole.needs_boxes
    assert not whole.is_data
    assert [p.name for p in found(photos / "a.jpg", photos / "**" / "*.JPG").pictures] == ["a.jpg", "b.JPG"]
    again = found(photos / "a.jpg", photos / "a.jpg")
    assert [picture.name for picture in again.pictures] == ["a.jpg", "a~1.jpg"]


def test_words_that_name_nothing(photos: Path, tmp_path: Path) -> None:
    for word, said in (
        ("gone.jpg", "no such file or folder, and no shard of that name"),
        (photos / "*.png", "no file matches"),
    ):
        with pytest.raises(RequestError, match=said):
            found(word)
    (tmp_path / "empty").mkdir()
    with pytest.raises(RequestError, match="a folder without photos"):
        found(tmp_path / "empty")
    write_shard(Store(tmp_path).shard("synthetic", "test"), [person(0)], split="test")
    with pytest.raises(RequestError, match="Did you mean 'synthetic_test'"):
        found("sinthetic_test", store=tmp_path)


def test_a_list_in_csv(photos: Path) -> None:
    path = photos / "list.csv"
    path.write_text("path,x,y,w,h,score\na.jpg,1,2,30,40,0.5\ndeep/b.JPG,0,0,9,9,\na.jpg,5,6,7,8,1\n")
    inputs = found(path)
    assert [picture.name for picture in inputs.pictures] == ["a.jpg", "deep/b.JPG"]
    assert boxes_of(inputs) == [[(1, 2, 30, 40), (5, 6, 7, 8)], [(0, 0, 9, 9)]]
    assert inputs.pictures[0].boxes is not None
    assert inputs.pictures[0].boxes[0].score == 0.5
    elsewhere = path.rename(photos.parent / "list.csv")
    assert len(found(elsewhere, images=photos).pictures) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("path,x,y\na.jpg,1,2\n", "missing columns: w, h; a list has the columns path,x,y,w,h"),
        ("", "missing columns: path, x, y, w, h"),
        ("path,x,y,w,h\n", "a list without rows"),
        ("path,x,y,w,h\na.jpg,1,2,nan,4\n", "line 2: box 1,2,nan,4: not all four are finite"),
        ("path,x,y,w,h\na.jpg,1,2,-3,4\n", "line 2: box 1,2,-3,4: width and height must be positive"),
        ("path,x,y,w,h\na.jpg,1,2,three,4\n", "line 2: .* is no box"),
        ("path,x,y,w,h\na.jpg,1,2\n", "line 2: .* is no box"),
        ("path,x,y,w,h\n,1,2,3,4\n", "line 2 has no path"),
        ("path,x,y,w,h\ngone.jpg,1,2,3,4\n", "none of its 1 pictures is in .*, the first: gone.jpg; name their folder"),
        ("path,x,y,w,h\n../../a.jpg,1,2,3,4\n", "outside this folder"),
        ("path,x,y,w,h,x\na.jpg,1,2,3,4,5\n", "several columns are called x"),
        ("path,x,y,w,h,score\na.jpg,1,2,3,4,inf\n", "line 2: score inf is no number up to 1e\\+06"),
        ("path,x,y,w,h,score\na.jpg,1,2,3,4,high\n", "line 2: score high is no number"),
    ],
)
def test_lists_that_are_none(photos: Path, text: str, said: str) -> None:
    (photos / "list.csv").write_text(text)
    with pytest.raises(RequestError, match=said):
        found(photos / "list.csv")


def test_a_list_that_is_no_text(photos: Path) -> None:
    (photos / "list.csv").write_bytes(jpeg())
    with pytest.raises(RequestError, match="list.csv: .*it is a JPEG picture"):
        found(photos / "list.csv")


def test_parquet_needs_a_reader_that_runs_no_code(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "list.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RequestError, match="pyarrow is required .*'hmrb.parquet.', or save the list as CSV"):
        found(photos / "list.parquet")
    old = ModuleType("pyarrow")
    old.__version__ = "14.0.0"
    monkeypatch.setitem(sys.modules, "pyarrow", old)
    with pytest.raises(RequestError, match="pyarrow 14.0.0 can run code of the files .*pip install -U 'hmrb.parquet.'"):
        found(photos / "list.parquet")


def parquet(photos: Path, **columns: list[Any]) -> Path:
    """A list of two people, with these columns in place of its own."""
    arrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    own = {"path": ["a.jpg", "a.jpg"], "x": [1, 2], "y": [3.5, 4], "w": [5, 6], "h": [7, 8]}
    written.write_table(arrow.table(own | columns), photos / "list.parquet")
    return photos / "list.parquet"


def test_parquet_is_read_as_csv_is(photos: Path) -> None:
    (picture,) = found(parquet(photos, score=[0.5, None], more=[[1], [2]])).pictures
    assert picture.boxes is not None
    assert [box.box for box in picture.boxes] == [(1, 3.5, 5, 7), (2, 4, 6, 8)]
    assert [box.score for box in picture.boxes] == [0.5, 1]
    assert boxes_of(found(parquet(photos, x=["1", "2"]))) == [[(1, 3.5, 5, 7), (2, 4, 6, 8)]]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"path": ["a.jpg", None]}, "line 2 has no path"),
        ({"path": [b"a.jpg", b"a.jpg"]}, "line 1 has no path"),
        ({"path": [], "x": [], "y": [], "w": [], "h": []}, "a list without rows"),
        ({"x": [1.0, float("nan")]}, "line 2: box nan,4,6,8: not all four are finite"),
        ({"w": [{"a": 1}, {"a": 2}]}, "line 1: .* is no box"),
        ({"path": ["../a.jpg", "a.jpg"]}, "outside this folder"),
        ({"path": ["gone.jpg", "x" * 5000]}, "none of its 2 pictures is in .*, the first: .*gone.jpg"),
    ],
)
def test_parquet_lists_that_are_none(photos: Path, columns: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said):
        found(parquet(photos, **columns))


def test_parquet_files_with_columns_that_fit_no_list_are_refused(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrow, written = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = photos / "list.parquet"
    written.write_table(arrow.table({"path": ["a.jpg"]}), path)
    with pytest.raises(RequestError, match="missing columns: x, y, w, h"):
        found(path)
    names = ["path", "x", "y", "w", "h", "x"]
    written.write_table(arrow.Table.from_arrays([arrow.array(["a.jpg"]), *[arrow.array([1])] * 5], names=names), path)
    with pytest.raises(RequestError, match="several columns are called x"):
        found(path)
    monkeypatch.setattr("hmrb.predict.lists.MOST_ROWS", 1)
    with pytest.raises(RequestError, match="2 rows, more than 1; split it"):
        found(parquet(photos))


def test_damaged_parquet_is_refused_with_one_message(photos: Path) -> None:
    """Cut short, or with bytes of chance at places of chance: pyarrow raises seven kinds of errors."""
    whole = parquet(photos).read_bytes()
    rng, said = random.Random(0), list[str]()
    for data in (b"", b"PAR1", whole[:-9], *(damaged(whole, rng) for _ in range(300))):
        (photos / "list.parquet").write_bytes(data)
        try:
            found(photos / "list.parquet")
        except RequestError as error:
            said.append(str(error))
    assert len(said) > 200
    assert not any("\n" in message for message in said)


def damaged(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 2, 5, 20))):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def write_json(photos: Path, content: object) -> Path:
    path = photos / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_detections_and_annotations_of_coco(photos: Path) -> None:
    (photos / "000000000007.jpg").write_bytes(jpeg())
    detections = [
        {"image_id": 7, "bbox": [1, 2, 3, 4], "score": 0.9, "category_id": 1},
        {"file_name": "a.jpg", "bbox": [5, 6, 7, 8], "score": 0.8},
        {"image_id": 7, "bbox": [1, 1, 1, 1], "score": 0.7, "category_id": 3},
    ]
    inputs = found(write_json(photos, detections))
    assert [picture.name for picture in inputs.pictures] == ["000000000007.jpg", "a.jpg"]
    assert boxes_of(inputs) == [[(1, 2, 3, 4)], [(5, 6, 7, 8)]]
    assert inputs.notes == (f"{photos}/boxes.json: 1 boxes of other categories than 1, person are left out",)
    annotations = {
        "images": [{"id": 3, "file_name": "deep/b.JPG"}],
        "annotations": [
            {"image_id": 3, "bbox": [1, 2, 3, 4], "category_id": 1, "iscrowd": 0},
            {"image_id": 3, "bbox": [1, 2, 3, 4], "category_id": 1, "iscrowd": 1},
        ],
    }
    inputs = found(write_json(photos, annotations))
    assert [picture.name for picture in inputs.pictures] == ["deep/b.JPG"]
    assert boxes_of(inputs) == [[(1, 2, 3, 4)]]
    assert inputs.notes == (f"{photos}/boxes.json: 1 boxes of crowds are left out",)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"image_id": 7, "bbox": [1, 2, 3, 4]}], "none of its 1 pictures is in .*, the first: 000000000007.jpg"),
        ([{"file_name": "/etc/passwd", "bbox": [1, 2, 3, 4]}], "outside this folder"),
        ([{"bbox": [1, 2, 3, 4]}], "entry 0 has neither file_name nor image_id"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3]}], r"entry 0: \[1, 2, 3\] is no box"),
        ([{"file_name": "a.jpg"}], "entry 0: None is no box"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 0, 3]}], "width and height must be positive"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3, float("nan")]}], "contains NaN, which is no number"),
        ({"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}, "is in .*|none of its 1 pictures"),
        ({"images": [{"id": 2, "file_name": "a.jpg"}], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]},
         "entry 0 is for image_id 1, which is not in its images"),
        ([], "no people in its 0 entries"),
        ({"a": 1}, "expected a list of detections"),
        ([{"file_name": "a.jpg", "bbox": [10**400, 1, 2, 3]}], "entry 0: .* is no box"),
        ([{"file_name": "a.jpg", "bbox": [1, 2, 3, 4], "score": 10**400}], "entry 0: score 10*.* is no number"),
        ([{"file_name": "a.jpg", "bbox": "1234"}], "entry 0: 1234 is no box"),
        ([{"file_name": "a.jpg", "bbox": {"1": 1, "2": 2, "3": 3, "4": 4}}], "is no box"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}], "annotations": []},
         "images a.jpg and b.jpg both have id 1"),
        ({"images": [], "annotations": [], "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]},
         "none of its categories is called person: dog, cat"),
        (7, "expected a list of detections"),
    ],
)  # fmt: skip
def test_detections_that_are_none(photos: Path, content: object, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        found(write_json(photos, content))


def test_people_are_of_the_category_that_is_called_so(photos: Path) -> None:
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "Person"}, {"id": [], "name": "x"}]
    rows = [{"image_id": 3.0, "bbox": [number] * 4, "category_id": number} for number in (1, 2)]
    images = [{"id": 3, "file_name": "a.jpg"}]
    inputs = found(write_json(photos, {"images": images, "annotations": rows, "categories": categories}))
    assert boxes_of(inputs) == [[(2, 2, 2, 2)]]
    assert inputs.notes == (f"{photos}/boxes.json: 1 boxes of other categories than 2, person are left out",)
    of_one_kind = {"images": images, "annotations": rows[:1], "categories": [{"id": 1, "name": "pedestrian"}]}
    assert boxes_of(found(write_json(photos, of_one_kind))) == [[(1, 1, 1, 1)]]


def test_every_picture_has_a_name_of_its_own(photos: Path) -> None:
    (photos / "a~1.jpg").write_bytes(jpeg())
    same, deep = photos / "a.jpg", photos / "deep" / "a.jpg"
    deep.write_bytes(jpeg())
    names = [picture.name for picture in found(same, deep, photos / "a~1.jpg", same, photos / "a~1.jpg").pictures]
    assert names == ["a.jpg", "a~2.jpg", "a~1.jpg", "a~3.jpg", "a~1~1.jpg"]


def test_everything_in_a_folder_is_counted(photos: Path, tmp_path: Path) -> None:
    (photos / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    os.mkfifo(photos / "pipe.jpg")
    (tmp_path / "elsewhere").mkdir()
    (photos / "linked").symlink_to(tmp_path / "elsewhere")
    inputs = found(photos)
    assert [picture.name for picture in inputs.pictures] == ["photos/a.jpg", "photos/deep/b.JPG", "photos/gone.jpg"]
    said = "other files are left out: 1 .txt, 1 devices or pipes, 1 linked folders"
    assert inputs.notes == (f"{photos}: 3 photos; {said}",)
    assert [p.name for p in found(photos / "g*.jpg").pictures] == ["gone.jpg"]


def test_results_are_not_the_pictures_of_the_next_run(photos: Path, tmp_path: Path) -> None:
    out = photos / "out"
    out.mkdir()
    (out / "a_overlay.jpg").write_bytes(jpeg())
    for word in (photos, photos / "**" / "*.jpg"):
        inputs = read_inputs([str(word)], Store(tmp_path), results=out)
        assert not [picture.name for picture in inputs.pictures if "overlay" in picture.name]
    for word in (out, photos, photos / "*.jpg"):
        with pytest.raises(RequestError, match=r"all of its \d files are in .*, the folder of the results \(-o\)"):
            read_inputs([str(word)], Store(tmp_path), results=out if word == out else photos)


def test_a_pattern_finds_videos_and_lists_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos / "one.csv").write_text("path,x,y,w,h\na.jpg,1,2,3,4\n")
    assert boxes_of(found(photos / "o*.csv")) == [[(1, 2, 3, 4)]]
    (photos / "one.mp4").write_bytes(b"no video")
    with pytest.raises(RequestError, match="video"):
        found(photos / "o*.mp4")


def test_json_that_is_none(photos: Path) -> None:
    (photos / "boxes.json").write_text("[" * 100_000)
    with pytest.raises(RequestError, match="not a readable JSON file"):
        found(photos / "boxes.json")


def write_tar(path: Path, members: dict[str, Any]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


def test_a_webdataset(tmp_path: Path) -> None:
    members = {
        "0/a.jpg": jpeg(), "0/a.json": {"bbox": [1, 2, 3, 4]},
        "../b.jpg": jpeg(), "../b.json": {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]]},
        "c.jpg": jpeg(), "c.cls": b"7",
    }  # fmt: skip
    inputs = found(write_tar(tmp_path / "set.tar", members))
    assert inputs.is_data
    assert [picture.name for picture in inputs.pictures] == ["0/a.jpg", "b.jpg", "c.jpg"]
    assert boxes_of(inputs) == [[(1, 2, 3, 4)], [(1, 2, 3, 4), (5, 6, 7, 8)], None]
    assert all(picture.read() == jpeg() for picture in inputs.pictures)
    assert inputs.notes == (f"{tmp_path}/set.tar: 1 of 3 pictures have no bbox in a .json",)


def test_tar_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "set.tar").write_bytes(jpeg())
    with pytest.raises(RequestError, match="not a readable tar file .*it is a JPEG picture"):
        found(tmp_path / "set.tar")
    with pytest.raises(RequestError, match="a tar file without .jpg"):
        found(write_tar(tmp_path / "set.tar", {"a.json": {}}))
    with pytest.raises(RequestError, match="a.json: .*is no box"):
        found(write_tar(tmp_path / "set.tar", {"a.jpg": jpeg(), "a.json": {"bbox": 3}}))


def test_a_shard_by_path_and_by_name(tiny_store: Store) -> None:
    path = tiny_store.shard("synthetic", "test")
    for word in (path, "synthetic_test", "synthetic-test"):
        inputs = found(word, store=tiny_store.root)
        assert inputs.is_one_shard
        assert [[given.row for given in picture.boxes or ()] for picture in inputs.pictures] == [[i] for i in range(7)]
        assert inputs.margins(1.2) == [1.0]  # the shard's boxes have their margin
        assert all(picture.is_stored_as_is for picture in inputs.pictures)
    both = found(path, "synthetic_val", store=tiny_store.root)
    assert not both.is_one_shard
    assert both.is_data


def test_a_damaged_shard_is_refused(tiny_store: Store) -> None:
    path = tiny_store.shard("synthetic", "test")
    data = bytearray(path.read_bytes())
    at = data.index(np.float32(44).tobytes())  # the height of a box
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(RequestError, match="damaged or was modified"):
        found("synthetic_test", store=tiny_store.root)


def test_boxes_of_the_command_line(photos: Path) -> None:
    one = with_boxes(found(photos / "a.jpg"), ["1,2,3,4", "0.5,0,7,8"])
    assert boxes_of(one) == [[(1, 2, 3, 4), (0.5, 0, 7, 8)]]
    assert not one.needs_boxes
    assert one.without_boxes().needs_boxes
    with pytest.raises(RequestError, match="--box gives the people of one photo, but there are 2"):
        with_boxes(found(photos), ["1,2,3,4"])
    for text, said in (("1,2,3", "give four numbers"), ("1,2,x,4", "give four numbers"), ("1,2,nan,4", "finite"),
                       ("1,2,3,-4", "positive"), ("1,2,inf,4", "finite"),
                       ("1,2,3,1e7", "box 1,2,3,1e.07: a number is beyond 1,000,000 pixels")):  # fmt: skip
        with pytest.raises(RequestError, match=said):
            parse_box(text)


def test_a_box_must_reach_into_its_picture() -> None:
    for box in ((100, 0, 5, 5), (0, 50, 5, 5), (-9, 0, 9, 5), (0, -9, 5, 9)):
        assert "outside the picture of 100 x 50 px" in box_problem(box, 100, 50)
    assert box_problem((-9, -9, 10, 10), 100, 50) == ""
    assert "beyond 1,000,000 pixels" in box_problem((5, 5, 1e308, 10))
    assert GivenBox((0, 0, 1, 1)).score == 1


def close(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may list a folder; root may, so its rights do not say it."""
    folder.mkdir(parents=True)
    scandir = os.scandir

    def listed(path: Any = ".") -> Any:
        if Path(path) == folder:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", listed)


@pytest.mark.parametrize("word", ["", "closed/*.jpg", "*/*.jpg", "**", "**/*.jpg", "clos*/**/*.jpg"])
def test_a_folder_that_cannot_be_listed_is_refused_wherever_it_is(
    word: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(photos / "closed", monkeypatch)
    with pytest.raises(RequestError, match="closed: not readable by this user"):
        found(photos / word)


def test_a_pattern_does_not_look_where_it_cannot_match(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close(photos / "closed", monkeypatch)
    for word in ("*.jpg", "dee*/*", "[d]eep/b.JPG", "deep/**"):
        assert len(found(photos / word).pictures) == 1


def test_a_store_that_cannot_be_listed_is_not_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    close(tmp_path / "shards", monkeypatch)
    with pytest.raises(RequestError, match="shards: not readable by this user"):
        found("synthetic_test", store=tmp_path)
