"""People marked in single pictures: what the converters of 2D datasets share."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from hmrb.data.convert.conversion import Raw
from hmrb.data.convert.pack import inside
from hmrb.errors import RequestError
from hmrb.records import Person, Photo

Columns = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """A picture, by its path inside the dataset, and the P people marked in it.

    `boxes` are x, y, width, height; `points` rows of the dataset's skeleton with confidence; pixels count from 0.
    """

    name: str
    boxes: Float[np.ndarray, "P 4"]
    points: Float[np.ndarray, "P K 3"]
    columns: tuple[Columns, ...]


def gather(
    people: Iterable[tuple[str, Shaped[np.ndarray, "4"], Shaped[np.ndarray, "K 3"], Columns]],
) -> list[AnnotatedPicture]:
    """People by the pictures that they are in, pictures in the order in which they come first."""
    pictures: dict[str, list[tuple[np.ndarray, np.ndarray, Columns]]] = {}
    for name, box, points, columns in people:
        row = np.asarray(box, np.float32), np.asarray(points, np.float32), columns
        pictures.setdefault(name, []).append(row)
    return [_annotated(name, pictures.pop(name)) for name in list(pictures)]  # popped, or all would be there twice


def _annotated(name: str, rows: list[tuple[np.ndarray, np.ndarray, Columns]]) -> AnnotatedPicture:
    boxes, points, columns = zip(*rows, strict=True)
    return AnnotatedPicture(name, np.stack(boxes), np.stack(points), columns)


def photo(root: Path, marked: AnnotatedPicture) -> Iterator[Photo]:
    """The picture below `root`, and its people as records."""
    rows = zip(marked.boxes, marked.points, marked.columns, strict=True)
    people = tuple(Person(box=box, keypoints2d=points, columns=columns) for box, points, columns in rows)
    yield Photo(name=marked.name, people=people, file=inside(root, marked.name))


def hidden_share(labelled: Shaped[np.ndarray, " K"], hidden: Shaped[np.ndarray, " K"]) -> dict[str, float]:
    """The column `occlusion`: which share of the labelled points is said to be hidden."""
    return {"occlusion": float(hidden.sum() / max(labelled.sum(), 1))}


def present(raw: Raw, files: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """For each split its file, the first of several names; splits without one are left out.

    Raises RequestError where there is none at all.
    """
    there = {
        split: path
        for split, names in files.items()
        if (path := next((raw.root / name for name in names if (raw.root / name).exists()), None))
    }
    return there or {next(iter(files)): raw.need(*(name for names in files.values() for name in names))}


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises RequestError."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise RequestError(f"{path}: can't be read ({error.strerror or error})") from None
    except ValueError as error:
        raise RequestError(f"{path}: no JSON, or cut short ({error}); get it again") from None


def entry(table: Any, key: str | int, source: object) -> Any:
    """`table[key]`. Raises RequestError that names the file and the key."""
    try:
        return table[key]
    except (KeyError, IndexError, TypeError):
        raise RequestError(f"{source}: no '{key}' where it has to be; is it the dataset's own file?") from None


def numbers(table: Any, key: str, shape: tuple[int, ...], source: object) -> Float[np.ndarray, "..."]:
    """`table[key]` as numbers of a shape. Raises RequestError that names the file, the key and the shape."""
    value = entry(table, key, source)
    try:
        return np.array(value, np.float32).reshape(shape)
    except (ValueError, TypeError):
        raise RequestError(f"{source}: '{key}' is not {' x '.join(map(str, shape))} numbers") from None
