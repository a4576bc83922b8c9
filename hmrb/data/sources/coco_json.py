"""People of one's own: a file in COCO's key point format and a folder of photos.

COCO 2014 and 2017 and the exports of labelling tools: the names of the key points are those of the file's categories.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from hmrb.data.convert.annotated import (
    AnnotatedPicture,
    Columns,
    entry,
    gather,
    hidden_share,
    image_of,
    images_of,
    numbers,
    photo,
    read_json,
)
from hmrb.data.convert.boxes import box_around
from hmrb.data.convert.conversion import Converter, SplitPlan
from hmrb.data.convert.from_packed import source_of
from hmrb.data.convert.joint_names import JOINTS, check_renamed, columns_of
from hmrb.data.convert.own import shard_name
from hmrb.data.convert.reasons import CROWD, NO_POINTS, OTHER_THING
from hmrb.data.convert.sizes import stated_size
from hmrb.errors import RequestError, RunError
from hmrb.skeleton import TRAINING_SKELETON

KIND = "coco_json"
NO_KNOWN_POINTS = "none of the labelled key points has a known name"
MARGIN = 1.2  # of a box that is made from key points, as in box_around
Row = tuple[str, Float[np.ndarray, "4"], Float[np.ndarray, "K 3"], Columns]


@dataclass(frozen=True, slots=True)
class OwnPeople:
    """What a file becomes: a converter with its only plan, and lines about what was not taken as it is."""

    source: Converter
    notes: tuple[str, ...]


def plan_coco_json(file: Path, images: Path, name: str, split: str, rename: Mapping[str, str]) -> OwnPeople:
    """Plan the people of a file, as a split of the dataset `name`. Raises RequestError, RunError for a damaged file.

    `rename` has the joints of key points by the names that the file gives these.
    """
    slug, own = shard_name(name, split)
    reading = _Reading(file, images, rename)
    items: list[AnnotatedPicture] = gather(reading.people(), reading.sizes())
    plan = SplitPlan(split, items, partial(photo, images), left_out=reading.left_out)
    if not items:
        why = "; ".join(f"{count} annotations: {reason}" for reason, count in reading.left_out.items())
        raise RunError(f"{file}: nobody in it can be used ({why or 'it has no annotations'})")
    source = Converter(
        name=slug, title=slug, licence="", skeleton=TRAINING_SKELETON, splits=(split,), plan=lambda: [plan],
        benchmarks=() if split == "train" else (split,), source=source_of(KIND, file, own),
    )  # fmt: skip
    return OwnPeople(source, reading.notes())


class _Reading:
    """A pass over a file, and what it counts."""

    def __init__(self, file: Path, images: Path, rename: Mapping[str, str]) -> None:
        self._file, self._root = file, images
        self._table = read_json(file)
        if any(isinstance(picture.get("id"), dict | list) for picture in _list(self._table, "images", file)):
            raise RunError(f"{file}: the id of an image is a list or a table, expected a number or a text")
        self._images = images_of(self._table, file)
        self._names = _key_points(self._table, file)
        check_renamed(rename, (name for names in self._names.values() for name in names))
        self._rows = {number: columns_of(names, rename) for number, names in self._names.items()}
        if not any(self._rows.values()):
            names = ", ".join(dict.fromkeys(name for names in self._names.values() for name in names))
            raise RequestError(f"{file}: no key point has a known name; name them: --rename nose=... It has {names}")
        self._paths = self._found()
        self._unknown: Counter[str] = Counter()
        self._without_box = 0
        self.left_out: Counter[str] = Counter()

    def people(self) -> Iterator[Row]:
        """Picture, box, points and columns of each person that can be used."""
        file = self._file
        for one in _list(self._table, "annotations", file):
            number = entry(one, "category_id", file)
            if not isinstance(number, int) or number not in self._names:
                self.left_out[OTHER_THING] += 1
                continue
            if one.get("iscrowd"):
                self.left_out[CROWD] += 1
                continue
            names, rows = self._names[number], self._rows[number]
            marked = numbers(one, "keypoints", (len(names), 3), file) if one.get("keypoints") else np.zeros((0, 3))
            if not (marked[:, 2:] > 0).any():
                self.left_out[NO_POINTS] += 1
                continue
            if not (picture := image_of(self._images, one, file, self.left_out)):
                continue
            self._unknown.update(names[k] for k in np.flatnonzero(marked[:, 2] > 0) if k not in rows)
            points = np.zeros((len(JOINTS), 3), np.float32)
            points[list(rows.values())] = marked[list(rows)]
            seen = points[:, 2] > 0
            if not seen.any():
                self.left_out[NO_KNOWN_POINTS] += 1
                continue
            columns: Columns = hidden_share(seen, points[:, 2] == 1)
            points[:, 2] = seen
            points[~seen] = 0
            yield self._paths[str(picture["file_name"])], self._box(one, points, seen), points, columns

    def sizes(self) -> dict[str, tuple[int, int] | None]:
        """The stated sizes of the pictures."""
        return {self._paths[str(picture["file_name"])]: stated_size(picture) for picture in self._images.values()}

    def notes(self) -> tuple[str, ...]:
        """Lines about key points without a known name, and boxes that were made."""
        lines = [
            f"left out: key point '{name}' of {count} people, which has no known name; --rename OURS={name}"
            for name, count in self._unknown.most_common()
        ]
        if self._without_box:
            lines.append(f"changed: {self._without_box} people without a box got {MARGIN:g} times that of their points")
        return tuple(lines)

    def _box(self, one: Any, points: Float[np.ndarray, "K 3"], seen: np.ndarray) -> Float[np.ndarray, "4"]:
        box = numbers(one, "bbox", (4,), self._file) if one.get("bbox") else np.zeros(4, np.float32)
        if (box[2:] != 0).any():
            return box
        self._without_box += 1
        return box_around(points, MARGIN, seen)

    def _found(self) -> dict[str, str]:
        """Where below the folder each picture is: at its name, or without the first folders of another machine."""
        out: dict[str, str] = {}
        owner: dict[str, str] = {}
        for picture in self._images.values():
            name = str(entry(picture, "file_name", self._file))
            words = [word for word in name.replace("\\", "/").split("/") if word not in ("", ".", "..")]
            ends = ["/".join(words[start:]) for start in range(len(words))]
            path = next((end for end in ends if (self._root / end).is_file()), ends[-1] if ends else name)
            if owner.setdefault(path, name) != name:
                raise RequestError(
                    f"{self._root}: '{owner[path]}' and '{name}' of {self._file.name} would both be {path};"
                    " --images DIR must be the folder that these names are relative to"
                )
            out[name] = path
        return out


def _key_points(table: Any, file: Path) -> dict[int, list[str]]:
    """The names of the key points of each category that has some. Raises RequestError if none has."""
    out: dict[int, list[str]] = {}
    for category in _list(table, "categories", file):
        names = category.get("keypoints")
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            if len(set(names)) < len(names):
                raise RunError(f"{file}: a category has several key points of one name: {', '.join(names)}")
            number = entry(category, "id", file)
            if not isinstance(number, int):
                raise RunError(f"{file}: the id of a category is {number!r}, expected a whole number")
            out[number] = names
    if not out:
        raise RequestError(
            f"{file}: no category names its key points; 'categories' needs one with 'keypoints': ['nose', ...]"
        )
    return out


def _list(table: Any, key: str, file: Path) -> list[dict[str, Any]]:
    """The tables that a file lists under `key`. Raises RunError."""
    found = entry(table, key, file)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise RunError(f"{file}: '{key}' is not a list of tables; is it a file in COCO's format?")
    return found
