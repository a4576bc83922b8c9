"""Read shards: one split of a dataset as flat, uncompressed, memory-mapped HDF5 arrays; see docs/shards.md.

Per person: box, keypoints2d, keypoints3d, pose, betas, transl, has_body, gender, name, image, columns/*, extra/*.
Per image: jpeg/offset into the bytes of all images; origin and photo_px, its position in the original photo.
"""

import math
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from hmrb.bodykind import BODIES, BodyKind, kind_of
from hmrb.data.layout import layout, pictures_layout, wrong_values
from hmrb.data.ranges import Ranges, ranges_of
from hmrb.data.remote import located, places_path
from hmrb.errors import Need, RequestError
from hmrb.formats.hdf5 import mapped, opened
from hmrb.formats.raw_pictures import raw_pixels
from hmrb.objects import shown
from hmrb.records import GENDERS, Sample
from hmrb.skeleton import SKELETONS

LAYOUT_VERSION = 2
CAMERA = "extra/camera"
"""An optional array of each person's intrinsics: fx, fy, cx, cy in px of the photo; zeros where unknown."""
NAME_BYTES = 128
CATEGORY_BYTES = 96
LATER = ("region_px", "reach", "sha_of", "source")  # attributes that older shards lack
# The square that contains every augmentation of the study, in sides of the person's: scaled by 1.25, turned by 45
# degrees.
STUDY_REACH = 1.25 * math.sqrt(2)
RAW = "raw pixels"  # the end of `pictures` where regions are not encoded
PICTURES = ("jpeg/bytes", "jpeg/offset", "origin", "photo_px")


class ShardError(RequestError):
    """A shard that is missing, truncated, of another layout version, or not a shard."""


@dataclass(frozen=True, slots=True)
class ShardInfo:
    """A shard's attributes.

    `sha` is a hash of what `sha_of` says: `content` (dataset, split, skeleton, body and all arrays: equal labels and
    images have equal hashes), or in older shards `attributes` (also of the attributes below). `made_by` is the command
    that creates the shard. `selection` says which photos were kept ("" for all), `compat` whose mistakes were
    reproduced ("" for none). `pictures` is `original` (the dataset's bytes) or describes the stored regions: for crops
    of `region_px`, with all that a square of `reach` times the person's, about its centre, can show. Both are 0 for
    original images. `source` is the file that the shard was packed from (`packed: a.npz, spin, sha ...`; `own: ...` if
    the name is the user's) or the model that predicted its labels (`pseudo: run/best.pt, sha ...`), "" if it was made
    from the dataset's raw files.
    """

    dataset: str
    split: str
    skeleton: str
    body: str
    made_by: str
    sha: str
    num_people: int
    num_images: int
    pictures: str = "original"
    selection: str = ""
    compat: str = ""
    num_files: int = 0
    region_px: int = 0
    reach: float = 0.0
    sha_of: str = "attributes"
    source: str = ""

    @property
    def label(self) -> str:
        """The dataset's name in records: `coco`, or `coco (packed: a.npz, spin, sha ...)`."""
        return f"{self.dataset} ({self.source})" if self.source else self.dataset


def plain_name(label: str) -> str:
    """The dataset's name in a label."""
    return label.partition(" (")[0]


def region_of(pictures: str) -> dict[str, Any]:
    """`region_px` and `reach` of a shard's `pictures` text, the only statement of them in older shards."""
    found = re.match(r"region for (\d+) px", pictures)
    return {"region_px": int(found[1]), "reach": STUDY_REACH} if found else {"region_px": 0, "reach": 0.0}


def row_arrays(num_keypoints: int, kind: BodyKind) -> dict[str, tuple[tuple[int, ...], Any]]:
    """Shape and dtype of one person's entry in each array."""
    return {
        "box": ((4,), np.float32),
        "keypoints2d": ((num_keypoints, 3), np.float32),
        "keypoints3d": ((num_keypoints, 4), np.float32),
        "pose": ((kind.num_joints, 3), np.float32),
        "betas": ((kind.num_betas,), np.float32),
        "transl": ((3,), np.float32),
        "has_body": ((), np.uint8),
        "gender": ((), np.uint8),
        "name": ((), np.dtype(f"S{NAME_BYTES}")),
        "image": ((), np.int64),
    }


def pictures_path(path: Path, number: int) -> Path:
    """Path of an image file of the shard at `path`, for shards whose images are in separate files."""
    return path.with_name(f"{path.stem}.pictures-{number:03d}.h5")


class Shard:
    """A shard open for reading. Arrays are mapped on first use, so sending it to worker processes is cheap."""

    def __init__(self, path: Path) -> None:
        self.path = located(path)
        self.info = _read_info(self.path)

    def __len__(self) -> int:
        return self.info.num_people

    @property
    def kind(self) -> BodyKind:
        """The kind of body that its people are labelled with."""
        return kind_of(self.info.body)

    def __reduce__(self) -> tuple[type["Shard"], tuple[Path]]:
        return Shard, (self.path,)

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays of the shard, mapped read-only; image bytes in separate files are not included."""
        info = self.info
        rows = row_arrays(len(SKELETONS[info.skeleton].joints), self.kind)
        advice = f"; recreate it: {info.made_by}"
        found = mapped(self.path, layout(rows, info.num_people, info.num_images), ShardError, advice)
        expected = [*rows, *PICTURES[0 if not info.num_files else 1 :]]
        if missing := [key for key in expected if key not in found]:
            raise ShardError(f"{self.path}: missing arrays: {', '.join(missing)}; recreate it: {info.made_by}")
        if problem := wrong_values(found, info.num_images, info.num_files):
            raise ShardError(f"{self.path}: {problem}{advice}")
        if places_path(self.path).is_file():
            found.pop("jpeg/bytes", None)  # a hole: they are elsewhere
        return found

    @cached_property
    def ranges(self) -> Ranges | None:
        """The reader of pictures that are elsewhere; None if they are here."""
        return ranges_of(self.path, self.info.sha, self.arrays["jpeg/offset"])

    @property
    def place(self) -> str:
        """Its path, or its URL."""
        return self.ranges.url if self.ranges else str(self.path)

    @cached_property
    def _pictures(self) -> tuple[np.ndarray, list[np.ndarray]]:
        """Start of each file's bytes in the concatenation of all images, and the bytes."""
        if not self.info.num_files:
            return np.zeros(1, np.int64), [self.arrays["jpeg/bytes"]]
        parts = []
        for number in range(self.info.num_files):
            path = pictures_path(self.path, number)
            if not path.exists():
                raise ShardError(f"{path}: no such file; it must contain images of {self.path.name}")
            part = mapped(path, pictures_layout, ShardError, f"; recreate it: {self.info.made_by}")
            parts.append(part.get("jpeg/bytes", np.zeros(0, np.uint8)))
        starts = np.cumsum([0, *map(len, parts)])
        if starts[-1] != self.arrays["jpeg/offset"][-1]:
            raise ShardError(f"{self.path}: its image files do not belong to this version of the shard")
        return starts[:-1], parts

    def picture_files(self) -> list[tuple[int, np.ndarray]]:
        """Start of each file's bytes in the concatenation of all images, and the bytes."""
        starts, parts = self._pictures
        return list(zip(starts.tolist(), parts, strict=True))

    @property
    def columns(self) -> list[str]:
        """Names of the columns by which results can be grouped."""
        return sorted(key.removeprefix("columns/") for key in self.arrays if key.startswith("columns/"))

    def categories(self, column: str) -> list[str]:
        """Category names of a column's codes; empty for a numeric column."""
        names = self.arrays.get(f"categories/{column}", np.zeros(0, "S1"))
        return [bytes(name).decode() for name in names]

    def name(self, row: int) -> str:
        """The name of a person's image in its dataset."""
        name = bytes(self.arrays["name"][row])
        try:
            return name.decode()
        except UnicodeDecodeError:
            raise ShardError(
                f"{self.path}: the name of row {row}, {name!r}, is not UTF-8; recreate it: {self.info.made_by}"
            ) from None

    def jpeg(self, row: int) -> bytes:
        """The bytes of a person's image."""
        return self.picture(int(self.arrays["image"][row]))

    def picture(self, image: int) -> bytes:
        """The bytes of an image. Raises RunError if they are elsewhere and cannot be had."""
        return self.ranges.read(image) if self.ranges else self._stored(image).tobytes()

    def raw_pixels(self, row: int) -> UInt8[np.ndarray, "H W 3"] | None:
        """The pixels of a person's image where they lie, read-only; None if they are encoded or elsewhere.

        Raises UnreadablePicture.
        """
        if not self.info.pictures.endswith(RAW) or self.ranges:
            return None
        return raw_pixels(self._stored(int(self.arrays["image"][row])), f"{self.path}: {self.name(row)}")

    def _stored(self, image: int) -> UInt8[np.ndarray, " B"]:
        """The bytes of an image that is here, where they lie."""
        start, stop = self.arrays["jpeg/offset"][image : image + 2].tolist()
        starts, parts = self._pictures
        if len(parts) == 1:
            return parts[0][start:stop]
        file = int(np.searchsorted(starts, start, "right")) - 1
        return parts[file][start - starts[file] : stop - starts[file]]

    def read(self, row: int, has_picture: bool = True) -> Sample:
        """Read one person, with the bytes of their image or with none."""
        arrays = self.arrays
        image = arrays["image"][row]
        columns: dict[str, float | str] = {}
        for key in self.columns:
            value, names = float(arrays[f"columns/{key}"][row]), self.categories(key)
            columns[key] = names[int(value)] if names else value
        return Sample(
            jpeg=self.jpeg(row) if has_picture else b"",
            name=self.name(row),
            box=arrays["box"][row],
            keypoints2d=arrays["keypoints2d"][row],
            keypoints3d=arrays["keypoints3d"][row],
            pose=arrays["pose"][row],
            betas=arrays["betas"][row],
            transl=arrays["transl"][row],
            has_body=bool(arrays["has_body"][row]),
            gender=GENDERS[arrays["gender"][row]],
            origin=arrays["origin"][image],
            photo_px=tuple(arrays["photo_px"][image].tolist()),
            columns=columns,
            extra={
                key[6:]: np.asarray(arrays[key][row]) for key in arrays if key.startswith("extra/") and key != CAMERA
            },
            camera=np.asarray(arrays[CAMERA][row]) if CAMERA in arrays else None,
        )


def open_shard(path: Path, dataset: str, command: str = "") -> Shard:
    """Open the shard at `path`. Raises ShardError with the command that creates it if it is missing."""
    if not path.exists():
        command = command or f"hmrb convert-data {dataset}"
        message = f"no shard of '{dataset}' at {shown(path)}; create it: {command}"
        raise ShardError(message, [Need(f"shard {path.stem}", command)])
    return Shard(path)


def _read_info(path: Path) -> ShardInfo:
    with opened(path, ShardError, "; delete it and recreate it with hmrb convert-data") as file:
        about = {key: _plain(key, file, path) for key in file.attrs}
    if "layout" not in about or "dataset" not in about:
        raise ShardError(f"{path}: an HDF5 file, but not an hmrb shard")
    if not isinstance(about["layout"], int) or about["layout"] != LAYOUT_VERSION:
        name = about["dataset"]
        raise ShardError(
            f"{path}: has layout {about['layout']}, but this hmrb reads {LAYOUT_VERSION}; run hmrb convert-data {name}"
        )
    fields = ShardInfo.__dataclass_fields__
    if missing := [key for key in fields if key not in about and key not in LATER]:
        raise ShardError(f"{path}: missing attributes: {', '.join(missing)}; recreate it with hmrb convert-data")
    about = {"sha_of": "attributes", "source": ""} | region_of(str(about["pictures"])) | about
    for key, field in fields.items():
        kinds = {int: "whole number", float: "number", str: "text"}
        about[key] = float(about[key]) if field.type is float and isinstance(about[key], int) else about[key]
        if field.type in kinds and not isinstance(about[key], field.type):
            expected = kinds[field.type]
            raise ShardError(f"{path}: attribute {key} is {about[key]!r}, expected a {expected}; see docs/shards.md")
    info = ShardInfo(**{key: about[key] for key in fields})
    if min(info.num_people, info.num_images, info.num_files) < 0:
        raise ShardError(f"{path}: num_people, num_images and num_files must not be negative; see docs/shards.md")
    if info.skeleton not in SKELETONS:
        raise ShardError(f"{path}: unknown skeleton '{info.skeleton}'")
    if info.sha_of not in ("content", "attributes"):
        raise ShardError(f"{path}: its sha is of '{info.sha_of}'; known: content, attributes; use a newer hmrb")
    if info.body not in BODIES:
        raise ShardError(f"{path}: unknown body '{info.body}'; known: {', '.join(BODIES)}")
    return info


def _plain(key: str, file: Any, path: Path) -> Any:
    """An attribute as a Python value; other programs write texts as bytes, too."""
    try:
        value = file.attrs[key]
        value = value.item() if isinstance(value, np.generic) else value
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        raise ShardError(f"{path}: attribute {key} is not UTF-8; recreate it with hmrb convert-data") from None
