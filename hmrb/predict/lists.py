"""Lists of pictures and boxes: CSV and Parquet (path,x,y,w,h), detections and annotations in COCO's format."""

import csv
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from hmrb.errors import RequestError, RunError
from hmrb.formats.files import instead, reason
from hmrb.formats.inside import inside
from hmrb.formats.optional import parquet_reader
from hmrb.formats.pictures import read_picture
from hmrb.predict.pictures import GivenBox, PictureSource, box_problem

COLUMNS = ("path", "x", "y", "w", "h")
READ = (*COLUMNS, "score")
PERSON = 1  # COCO's category
GREATEST_SCORE = 1e6  # results keep scores in single precision
MOST_BYTES = 2 << 30  # of a list; COCO's detections are 50 MB
MOST_ROWS = 50_000_000  # of a Parquet list; one of some kilobytes can state any number
Read = tuple[list[PictureSource], list[str]]


def csv_pictures(path: Path, images: Path | None) -> Read:
    """The pictures of a CSV with the columns path,x,y,w,h and, if it has one, score. Raises RequestError."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            _check_columns(path, reader.fieldnames or [])
            return _rows(path, images, enumerate(reader, 2)), []
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestError(f"{path}: not a readable CSV file ({error}){instead(path)}") from None


def parquet_pictures(path: Path, images: Path | None) -> Read:
    """The pictures of a Parquet table with the same columns. Raises RequestError, also if no reader is installed."""
    parquet = parquet_reader("save the list as CSV")
    try:
        with parquet.ParquetFile(path, read_dictionary=[COLUMNS[0]]) as file:
            names = file.schema_arrow.names
            _check_columns(path, names)
            if file.metadata.num_rows > MOST_ROWS:
                raise RequestError(f"{path}: {file.metadata.num_rows:,} rows, more than {MOST_ROWS:,}; split it")
            batches = file.iter_batches(columns=[name for name in READ if name in names])
            return _rows(path, images, enumerate((row for batch in batches for row in batch.to_pylist()), 1)), []
    except (OSError, ValueError, TypeError, LookupError, NotImplementedError, MemoryError) as error:
        said = " ".join(str(error).split())[:200]
        raise RequestError(f"{path}: not a readable Parquet file ({said}){instead(path)}") from None


def json_pictures(path: Path, images: Path | None) -> Read:
    """The pictures of detections (a list) or of a COCO file (images and annotations). Raises RequestError."""
    content = read_json(path)
    names: dict[Any, str] = {}
    persons = {PERSON}
    if isinstance(content, dict) and isinstance(content.get("images"), list) and "annotations" in content:
        names = _named_images(path, content["images"])
        persons = _persons(path, content.get("categories"))
        content = content["annotations"]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise RequestError(
            f"{path}: expected a list of detections (file_name or image_id, bbox, score, category_id), or an object"
            " with images and annotations"
        )
    people: list[tuple[str, GivenBox]] = []
    left = Counter[str]()
    for number, row in enumerate(content):
        if not _is_person(row, persons):
            left[f"of other categories than {_numbers(persons)}, person"] += 1
        elif row.get("iscrowd"):
            left["of crowds"] += 1
        else:
            people.append((_file_of(path, number, row, names), _box_of(path, f"entry {number}", row.get("bbox"), row)))
    if not people:
        raise RequestError(
            f"{path}: no people in its {len(content)} entries; people have category_id {_numbers(persons)}"
        )
    notes = [f"{path}: {count} boxes {why} are left out" for why, count in left.items()]
    return _pictures(path, images, people), notes


def _named_images(path: Path, images: list[Any]) -> dict[Any, str]:
    """The file of each image of a COCO file. Raises RequestError where two of them have one id."""
    names: dict[Any, str] = {}
    for image in images:
        if not isinstance(image, dict) or not isinstance(image.get("file_name"), str):
            continue
        key, name = image.get("id"), image["file_name"]
        if isinstance(key, int | str) and names.setdefault(key, name) != name:
            raise RequestError(f"{path}: images {names[key]} and {name} both have id {key!r}; give each its own")
    return names


def _persons(path: Path, categories: Any) -> set[Any]:
    """The ids of the categories that are called person; COCO's where none is named."""
    rows = categories if isinstance(categories, list) else []
    told = {
        row["id"]: row.get("name") for row in rows if isinstance(row, dict) and isinstance(row.get("id"), int | str)
    }
    found = {key for key, name in told.items() if str(name).strip().lower() == "person"}
    if told and not found:
        if len(told) == 1:
            return set(told)
        shown = ", ".join(str(name) for name in [*told.values()][:10])
        raise RequestError(f"{path}: none of its categories is called person: {shown}; rename the one that is")
    return found or {PERSON}


def _is_person(row: Mapping[str, Any], persons: set[Any]) -> bool:
    key = row.get("category_id")
    return key is None or (isinstance(key, int | float | str) and key in persons)


def _numbers(persons: set[Any]) -> str:
    return " and ".join(str(key) for key in sorted(persons, key=str))


def read_json(path: Path) -> Any:
    """The content of a JSON file; NaN and infinities are refused. Raises RequestError."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise RequestError(f"{path}: larger than {MOST_BYTES:,} bytes; split it")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}") from None


def parse_json(data: bytes, label: str) -> Any:
    """JSON of unknown origin as plain values. Raises RequestError."""

    def refuse(name: str) -> None:
        raise ValueError(f"contains {name}, which is no number")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{label}: not a readable JSON file ({str(error)[:200]})") from None


def boxes_in(path: Path, label: str, tree: Mapping[str, Any]) -> tuple[GivenBox, ...] | None:
    """The people of a picture's own JSON: `bbox`, one box or a list of boxes; None if it says nothing."""
    found = tree.get("bbox", tree.get("bboxes"))
    if found is None:
        return None
    several = isinstance(found, list) and bool(found) and isinstance(found[0], list)
    return tuple(_box_of(path, label, box, tree) for box in (found if several else [found]))


def _check_columns(path: Path, have: Iterable[str]) -> None:
    names = list(have)
    if missing := [name for name in COLUMNS if name not in names]:
        raise RequestError(
            f"{path}: missing columns: {', '.join(missing)}; a list has the columns {','.join(COLUMNS)} (score is"
            f" optional), this one has {', '.join(names[:10]) or 'none'}{instead(path)}"
        )
    if twice := [name for name in READ if names.count(name) > 1]:
        raise RequestError(f"{path}: several columns are called {twice[0]}")


def _rows(path: Path, images: Path | None, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[PictureSource]:
    people = []
    for number, row in rows:
        name = row["path"]
        if not isinstance(name, str) or not name:
            raise RequestError(f"{path}: line {number} has no path")
        people.append((name, _box_of(path, f"line {number}", [row[key] for key in COLUMNS[1:]], row)))
    if not people:
        raise RequestError(f"{path}: a list without rows")
    return _pictures(path, images, people)


def _box_of(path: Path, where: str, box: Any, row: Mapping[str, Any]) -> GivenBox:
    """A box with its score. Raises RequestError if it is no box."""
    try:
        if not isinstance(box, list):
            raise TypeError
        x, y, width, height = (float(number) for number in box)
    except (TypeError, ValueError, OverflowError):
        shown = str(box)[:80]
        raise RequestError(f"{path}: {where}: {shown} is no box; expected four numbers x, y, width, height") from None
    if problem := box_problem((x, y, width, height)):
        raise RequestError(f"{path}: {where}: {problem}")
    return GivenBox((x, y, width, height), _score_of(path, where, row.get("score")))


def _score_of(path: Path, where: str, given: Any) -> float:
    """A score; 1 where none is given, or NaN. Raises RequestError if it is no number."""
    try:
        score = 1.0 if given in (None, "") else float(given)
    except (TypeError, ValueError, OverflowError):
        score = math.inf
    if abs(score) > GREATEST_SCORE:
        raise RequestError(f"{path}: {where}: score {str(given)[:80]} is no number up to {GREATEST_SCORE:g}")
    return score if score == score else 1.0


def _file_of(path: Path, number: int, row: Mapping[str, Any], names: Mapping[Any, str]) -> str:
    """The file of a detection's picture."""
    given = row.get("file_name")
    if isinstance(given, str):
        return given
    key = row.get("image_id")
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, int | str) and key in names:
        return names[key]
    if names:
        raise RequestError(f"{path}: entry {number} is for image_id {key!r}, which is not in its images")
    if isinstance(key, str):
        return key
    if isinstance(key, int):
        return f"{key:012d}.jpg"  # COCO's names since 2017
    raise RequestError(f"{path}: entry {number} has neither file_name nor image_id")


def _pictures(path: Path, images: Path | None, people: Iterable[tuple[str, GivenBox]]) -> list[PictureSource]:
    """One picture per file, in the order of the list. Raises RequestError if none of the files is there."""
    root = images or path.parent
    boxes: dict[str, list[GivenBox]] = {}
    for name, box in people:
        boxes.setdefault(name, []).append(box)
    files = {name: _place(path, root, name) for name in boxes}
    missing = [name for name, file in files.items() if not os.path.exists(file)]  # Path.exists raises for long names
    if len(missing) == len(files):
        raise RequestError(
            f"{path}: none of its {len(files)} pictures is in {root}, the first: {missing[0]}; name their folder with"
            " --images DIR"
        )
    return [
        PictureSource(name.lstrip("/"), partial(read_picture, files[name]), tuple(found))
        for name, found in boxes.items()
    ]


def _place(path: Path, root: Path, name: str) -> Path:
    """The file of a name. The user's own list may hold absolute paths; a relative one stays in its folder."""
    if Path(name).is_absolute() and path.suffix.lower() != ".json":
        return Path(name)
    try:
        return inside(root, name)
    except RunError as error:
        raise RequestError(str(error)) from None
