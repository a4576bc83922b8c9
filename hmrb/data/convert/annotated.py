"""Shared code of the converters of 2D datasets: people annotated in single images."""

import json
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped

from hmrb.data.convert.conversion import Raw
from hmrb.data.convert.raw import unreadable
from hmrb.data.convert.reasons import STRAY
from hmrb.errors import RunError
from hmrb.formats.inside import inside
from hmrb.records import Person, Photo

Columns = Mapping[str, float | str]


@dataclass(frozen=True, slots=True)
class AnnotatedPicture:
    """An image, named by its path inside the dataset, and the P people annotated in it.

    `boxes` are x, y, width, height; `points` are the dataset's keypoints with confidence. Pixels count from 0.
    `stated_px` is the image's width and height, if the annotations state them.
    """

    name: str
    boxes: Float[np.ndarray, "P 4"]
    points: Float[np.ndarray, "P K 3"]
    columns: tuple[Columns, ...]
    stated_px: tuple[int, int] | None = None


def gather(
    people: Iterable[tuple[str, Shaped[np.ndarray, "4"], Shaped[np.ndarray, "K 3"], Columns]],
    sizes: Mapping[str, tuple[int, int] | None] = MappingProxyType({}),
) -> list[AnnotatedPicture]:
    """Group people by image, in the order in which the images first appear. `sizes` are stated sizes by image."""
    pictures: dict[str, list[tuple[np.ndarray, np.ndarray, Columns]]] = {}
    for name, box, points, columns in people:
        row = np.asarray(box, np.float32), np.asarray(points, np.float32), columns
        pictures.setdefault(name, []).append(row)
    return [_annotated(name, pictures.pop(name), sizes.get(name)) for name in list(pictures)]  # pop to free memory


def _annotated(
    name: str, rows: list[tuple[np.ndarray, np.ndarray, Columns]], stated_px: tuple[int, int] | None
) -> AnnotatedPicture:
    boxes, points, columns = zip(*rows, strict=True)
    return AnnotatedPicture(name, np.stack(boxes), np.stack(points), columns, stated_px)


def photo(root: Path, marked: AnnotatedPicture) -> Iterator[Photo]:
    """Yield the image below `root` with its people as a Photo."""
    rows = zip(marked.boxes, marked.points, marked.columns, strict=True)
    people = tuple(Person(box=box, keypoints2d=points, columns=columns) for box, points, columns in rows)
    yield Photo(name=marked.name, people=people, file=inside(root, marked.name), stated_px=marked.stated_px)


def images_of(table: Any, source: object) -> dict[Any, Mapping[str, Any]]:
    """The images that a file in COCO's format lists, by id."""
    return {entry(picture, "id", source): picture for picture in entry(table, "images", source)}


def image_of(
    images: Mapping[Any, Mapping[str, Any]], person: Any, source: object, left_out: Counter[str]
) -> Mapping[str, Any] | None:
    """The image of a person; None, and a count in `left_out`, if the file does not list it."""
    number = entry(person, "image_id", source)
    found = images.get(number) if isinstance(number, Hashable) else None
    if found is None:
        left_out[STRAY] += 1
    return found


def hidden_share(labelled: Shaped[np.ndarray, " K"], hidden: Shaped[np.ndarray, " K"]) -> dict[str, float]:
    """The column `occlusion`: the fraction of the labelled points that is annotated as hidden."""
    return {"occlusion": float(hidden.sum() / max(labelled.sum(), 1))}


def present(raw: Raw, files: Mapping[str, Sequence[str]]) -> dict[str, Path]:
    """Map each wanted split to the first of its file names that exists; splits without a file are left out.

    Raises RequestError if no split has a file.
    """
    wanted = {split: names for split, names in files.items() if raw.wants(split)}
    there = {
        split: path
        for split, names in wanted.items()
        if (path := next((raw.root / name for name in names if (raw.root / name).exists()), None))
    }
    return there or {next(iter(wanted)): raw.need(*(name for names in wanted.values() for name in names))}


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises RunError if it cannot be parsed, RequestError if it is missing."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise unreadable(path, error, "not a JSON file, or truncated") from None


def entry(table: Any, key: str | int, source: object) -> Any:
    """Return `table[key]`. Raises RunError with the file and the key if it is missing."""
    try:
        return table[key]
    except (KeyError, IndexError, TypeError):
        raise RunError(f"{source}: missing '{key}'; is this the dataset's original file?") from None


def numbers(table: Any, key: str, shape: tuple[int, ...], source: object) -> Float[np.ndarray, "..."]:
    """Return `table[key]` as an array of `shape`. Raises RunError with the file, the key and the shape."""
    value = entry(table, key, source)
    try:
        return np.array(value, np.float32).reshape(shape)
    except (ValueError, TypeError, OverflowError):
        raise RunError(f"{source}: '{key}' is not an array of {' x '.join(map(str, shape))} numbers") from None
