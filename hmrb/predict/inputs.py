"""Turns the words of a request into pictures: photos, folders, globs, lists, detections, shards, tar files, videos."""

import glob
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from hmrb.data.checksums import check_once
from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.formats.files import HDF5, files_in, folders_below, matching, visible, what_it_is
from hmrb.formats.pictures import read_picture
from hmrb.lookup import did_you_mean
from hmrb.objects import is_url, pointer
from hmrb.predict.cameras import AskedCamera
from hmrb.predict.datasets import shard_pictures, tar_pictures
from hmrb.predict.lists import csv_pictures, json_pictures, parquet_pictures
from hmrb.predict.pictures import GivenBox, PictureSource, box_problem
from hmrb.predict.video import video_pictures
from hmrb.store import Store

PHOTOS = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".png",
    ".webp",
    ".bmp",
    ".tif",
    ".tiff",
    ".gif",
    ".avif",
    ".jp2",
    ".ppm",
    ".pgm",
)
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """The pictures of a request, and what is worth saying about how they were read.

    `is_one_shard`: all people are rows of one shard. `is_data`: shards, tar files and videos alone.
    """

    pictures: list[PictureSource]
    notes: tuple[str, ...] = ()
    is_one_shard: bool = False
    is_data: bool = False

    @property
    def needs_boxes(self) -> bool:
        """Whether the people of a picture have to be found."""
        return any(picture.boxes is None for picture in self.pictures)

    @property
    def has_video(self) -> bool:
        """Whether pictures are frames of a video."""
        return any(picture.frame is not None for picture in self.pictures)

    def without_boxes(self) -> "Inputs":
        """The same pictures, whose people have to be found, or are taken as a whole."""
        pictures = [replace(picture, boxes=None, margin=None) for picture in self.pictures]
        return replace(self, pictures=pictures, is_one_shard=False)

    def taken_with(self, asked: AskedCamera) -> "Inputs":
        """The same pictures with what the user says of the camera."""
        return replace(self, pictures=[replace(picture, asked=asked) for picture in self.pictures])

    def margins(self, own: float) -> list[float]:
        """The widths of the squares relative to their boxes; `own` is the method's."""
        return sorted({picture.margin or own for picture in self.pictures})


def read_inputs(words: Sequence[str], store: Store, images: Path | None = None, results: Path | None = None) -> Inputs:
    """All pictures that the words name, in order. Raises RequestError with the first word that names none.

    `images` is the folder that the paths of lists are relative to, if it is not the list's own. Folders and patterns do
    not find what is in `results`, the folder of the predictions, so a request means the same when it runs again.
    """
    pictures: list[PictureSource] = []
    notes: list[str] = []
    kinds: list[str] = []
    for word in words:
        for kind, path in _files(word, store, results):
            kinds.append(kind)
            found, said = _folder(path, results) if kind == "folder" else READERS[kind](path, images)
            if kind == "shard":
                check_once(Shard(path), store)
            pictures += found
            notes += said
    if not pictures:
        raise RequestError(f"{' '.join(words)}: no pictures there")
    is_data = set(kinds) <= {"shard", "tar", "video"}
    return Inputs(_named_once(pictures), tuple(notes), kinds == ["shard"], is_data)


def with_boxes(inputs: Inputs, boxes: Sequence[str]) -> Inputs:
    """The one photo of a request with the boxes of the command line. Raises RequestError."""
    if len(inputs.pictures) != 1:
        raise RequestError(
            f"--box gives the people of one photo, but there are {len(inputs.pictures)}; give a list in CSV"
            " (path,x,y,w,h) instead"
        )
    given = tuple(GivenBox(parse_box(text)) for text in boxes)
    return replace(inputs, pictures=[replace(inputs.pictures[0], boxes=given)])


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x,y,width,height` as numbers. Raises RequestError."""
    try:
        x, y, width, height = (float(number) for number in text.split(","))
    except ValueError:
        raise RequestError(
            f"--box {text}: give four numbers, x,y,width,height in pixels: --box 120,40,200,420"
        ) from None
    if problem := box_problem((x, y, width, height)):
        raise RequestError(f"--box: {problem}")
    return x, y, width, height


def _files(word: str, store: Store, results: Path | None) -> list[tuple[str, Path]]:
    """The files that a word names, each with its kind."""
    if is_url(word):
        return [("shard", pointer(word))]
    path = Path(word)
    if path.is_dir():
        return [("folder", path)]
    if path.exists():
        return [(_kind(path), path)]
    if glob.has_magic(word):
        files = _outside(results, word, [match for match in visible(matching(word)) if not match.is_dir()])
        if not files:
            raise RequestError(f"{word}: no file matches")
        return [(_kind(match), match) for match in files]
    shards = {shard.stem: shard for shard in files_in(store.root / "shards", "*.h5")}
    name = word.replace("-", "_")
    if name in shards:
        return [("shard", shards[name])]
    hint = did_you_mean(name, shards) if os.sep not in word and not path.suffix else ""
    raise RequestError(f"{word}: no such file or folder, and no shard of that name in {store.place}/shards.{hint}")


def _kind(path: Path) -> str:
    """What a file holds, by its suffix or its first bytes."""
    return KINDS.get(path.suffix.lower(), "shard" if what_it_is(path) == HDF5 else "photo")


def _outside(results: Path | None, word: str, files: list[Path]) -> list[Path]:
    """The files that are not in the folder of the predictions. Raises RequestError if all of them are."""
    if results is None:
        return files
    own = results.resolve()
    left = [file for file in files if not file.parent.resolve().is_relative_to(own)]
    if files and not left:
        raise RequestError(f"{word}: all of its {len(files)} files are in {results}, the folder of the results (-o)")
    return left


Read = tuple[list[PictureSource], list[str]]


def _photo(path: Path, images: Path | None) -> Read:
    return [PictureSource(_name(path), partial(read_picture, path))], []


def _folder(path: Path, results: Path | None) -> Read:
    """All photos below a folder, links that lead nowhere too, and the number of everything else."""
    files, linked = [], 0
    for place, folders, names in folders_below(path):
        linked += sum(os.path.islink(os.path.join(place, name)) for name in folders)
        files += [Path(place, name) for name in names]
    files = _outside(results, str(path), visible(files))
    kinds = [_kind_in_folder(file) for file in files]
    photos = [file for file, kind in zip(files, kinds, strict=True) if not kind]
    others = Counter(kind for kind in kinds if kind) + Counter({"linked folders": linked})
    if not photos:
        count = others.total()
        raise RequestError(f"{path}: a folder without photos ({', '.join(PHOTOS)}); it has {count} other files")
    said = ", ".join(f"{count} {kind}" for kind, count in sorted(others.items()))
    notes = [f"{path}: {len(photos)} photos; other files are left out: {said}"] if others else []
    names = [(Path(path.resolve().name) / file.relative_to(path)).as_posix() for file in photos]
    return [PictureSource(n, partial(read_picture, file)) for n, file in zip(names, photos, strict=True)], notes


def _kind_in_folder(file: Path) -> str:
    """What a file is that is no photo, for a message; empty for photos."""
    if file.exists() and not file.is_file():
        return "devices or pipes"
    suffix = file.suffix.lower()
    return "" if suffix in PHOTOS else suffix or "no suffix"


def _name(path: Path) -> str:
    """A picture's name in results: its path as given, without what leads out of a folder."""
    parts = [part for part in path.parts if part not in (path.anchor, "..", ".")]
    return "/".join(parts) if not path.is_absolute() else path.name


def _named_once(pictures: list[PictureSource]) -> list[PictureSource]:
    """Each name once: other pictures of one name get a number that makes a name nobody has. A shard's names stay."""
    out, given = [], {picture.name for picture in pictures}
    taken = {picture.name for picture in pictures if picture.is_stored_as_is}
    last = Counter[str]()
    for picture in pictures:
        name = picture.name
        if name in taken and not picture.is_stored_as_is:
            stem, dot, suffix = name.rpartition(".")
            while name in given or name in taken:
                last[picture.name] += 1
                name = f"{stem}~{last[picture.name]}{dot}{suffix}"
            picture = replace(picture, name=name)
        taken.add(name)
        out.append(picture)
    return out


KINDS = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".json": "json", ".h5": "shard", ".tar": "tar"}
KINDS |= dict.fromkeys(VIDEOS, "video")
READERS: dict[str, Callable[[Path, Path | None], Read]] = {
    "photo": _photo,
    "csv": csv_pictures,
    "parquet": parquet_pictures,
    "json": json_pictures,
    "shard": shard_pictures,
    "tar": tar_pictures,
    "video": video_pictures,
}
