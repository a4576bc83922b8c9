"""What a caller of the Python API gives: pictures, boxes, focal lengths and words, each checked before any work."""

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from hmrb.errors import RequestError
from hmrb.formats.exif import Exif, read_exif
from hmrb.formats.pictures import UnreadablePicture, read_picture
from hmrb.predict.cameras import AskedCamera, focal_problem
from hmrb.predict.pictures import NO_EXIF, GivenBox, PictureSource, box_problem, pixels_problem

KINDS = "a path, RGB pixels (an array or a tensor, uint8, H W 3) or a PIL image"
WAYS = "arrays of boxes, 'detect' or 'whole'; a box is x, y, width, height in px"


@runtime_checkable
class PillowImage(Protocol):
    """What is used of a PIL image. PIL itself is not imported."""

    info: dict[Any, Any]
    mode: str

    def convert(self, mode: str) -> Any:
        """The image in another mode."""


Picture = np.ndarray | torch.Tensor | str | Path | PillowImage
"""RGB pixels (uint8, H W 3), the path of a photo, or a PIL image."""
BoxesOfPicture = tuple[GivenBox, ...] | None


def sources_of(pictures: Any, boxes: Any, focal_px: Any) -> list[PictureSource]:
    """The pictures of a call, their boxes and cameras. Raises RequestError for the first that cannot be used."""
    is_one = isinstance(pictures, Picture)
    many = [pictures] if is_one else _listed(pictures, f"pictures={_shown(pictures)}: give {KINDS}, or a list of them")
    if not many:
        raise RequestError(f"no pictures: give {KINDS}, or a list of them")
    for number, picture in enumerate(many):
        _check_picture(picture, f"picture {number}")
    given, focals = _boxes_of(boxes, len(many), is_one), _focals_of(focal_px, len(many))
    return [
        _source(picture, number, some, AskedCamera(focal))
        for number, (picture, some, focal) in enumerate(zip(many, given, focals, strict=True))
    ]


def check_word(name: str, value: Any, example: str) -> None:
    """Raises RequestError if an argument is no text."""
    if not isinstance(value, str) or "\0" in value:
        raise RequestError(f"{name}={_shown(value)}: give a text, such as {example}")


def path_of(name: str, value: Any) -> Path:
    """The path that an argument gives. Raises RequestError if it gives none."""
    if not isinstance(value, str | os.PathLike) or "\0" in str(value):
        raise RequestError(f"{name}={_shown(value)}: give a path, as a text or a pathlib.Path")
    return Path(value)


def check_count(name: str, value: Any) -> int:
    """A number of things, at least 1. Raises RequestError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise RequestError(f"{name}={_shown(value)}: give a whole number from 1")
    return int(value)


def _listed(many: Any, said: str) -> list[Any]:
    if isinstance(many, str | bytes | Mapping) or not isinstance(many, Iterable):
        raise RequestError(said)
    try:
        return list(many)
    except TypeError:  # an array or a tensor of a single number
        raise RequestError(said) from None


def _check_picture(picture: Any, name: str) -> None:
    if isinstance(picture, str | Path):
        return
    if isinstance(picture, PillowImage):
        if picture.mode[:1] in ("I", "F"):
            raise RequestError(f"{name}: a PIL image of mode {picture.mode} has no pixels of 8 bits; convert it to RGB")
        return
    if not isinstance(picture, np.ndarray | torch.Tensor):
        raise RequestError(f"{name} is {_shown(picture)}: give {KINDS}")
    kind, shape = str(picture.dtype).removeprefix("torch."), tuple(picture.shape)
    if problem := pixels_problem(kind, shape):
        raise RequestError(f"{name}: {problem}")


def _source(picture: Picture, number: int, boxes: BoxesOfPicture, asked: AskedCamera) -> PictureSource:
    if isinstance(picture, str | Path):
        path = Path(picture)
        return PictureSource(path.name, lambda: read_picture(path), boxes, asked=asked)
    name, exif, read = f"picture {number}", NO_EXIF, _pixels_of(picture)
    if isinstance(picture, PillowImage):
        exif, read = _exif_of(picture), _converted(picture, name)
    return PictureSource(name, read, boxes, asked=asked, exif=exif)


def _pixels_of(picture: Any) -> Callable[[], UInt8[np.ndarray, "H W 3"]]:
    def read() -> UInt8[np.ndarray, "H W 3"]:
        return picture.cpu().numpy() if isinstance(picture, torch.Tensor) else picture

    return read


ONE_AT_A_TIME = Lock()  # PIL decodes an image when it is first used, and two threads must not do so with one image


def _converted(image: PillowImage, name: str) -> Callable[[], UInt8[np.ndarray, "H W 3"]]:
    def read() -> UInt8[np.ndarray, "H W 3"]:
        try:
            with ONE_AT_A_TIME:
                return np.asarray(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:  # a damaged file; a closed one; a damaged PNG
            raise UnreadablePicture(f"{name}: the PIL image cannot be decoded: {error}") from None

    return read


def _exif_of(image: PillowImage) -> Exif:
    """The EXIF of the image's file, which PIL corrects where it turns an image upright."""
    block = image.info.get("exif", b"")
    return read_exif(block.removeprefix(b"Exif\0\0")) if isinstance(block, bytes) else NO_EXIF


def _boxes_of(boxes: Any, count: int, is_one: bool) -> list[BoxesOfPicture]:
    if isinstance(boxes, str):
        if boxes not in ("detect", "whole"):
            raise RequestError(f"boxes='{boxes}': give {WAYS}")
        return [None] * count
    if boxes is None:
        return [None] * count
    said = f"boxes={_shown(boxes)}: give {WAYS}, and many pictures get a list of arrays"
    per_picture = [boxes] if is_one else _listed(boxes, said)
    if len(per_picture) != count:
        raise RequestError(f"boxes of {len(per_picture)} pictures for {count} pictures; give N 4 per picture, or None")
    return [None if some is None else _boxes_of_picture(some, number) for number, some in enumerate(per_picture)]


def _boxes_of_picture(some: Any, number: int) -> tuple[GivenBox, ...]:
    expected = "expected (people, 4): x, y, w, h"
    try:
        array = np.asarray(some.detach().cpu() if isinstance(some, torch.Tensor) else some)
    except (TypeError, ValueError):  # ragged rows
        raise RequestError(f"boxes of picture {number} are {_shown(some)}, {expected}") from None
    if array.dtype.kind not in "iuf":
        raise RequestError(f"boxes of picture {number} are {_shown(some)}, no real numbers; {expected}")
    array = array[None] if array.shape == (4,) else array
    if array.ndim != 2 or array.shape[1] != 4:
        raise RequestError(f"boxes of picture {number} have shape {array.shape}, {expected}")
    for box in array.tolist():
        if problem := box_problem(box):
            raise RequestError(f"picture {number}: {problem}")
    return tuple(GivenBox((x, y, width, height)) for x, y, width, height in array.astype(np.float64).tolist())


def _focals_of(focal_px: Any, count: int) -> list[float | None]:
    if isinstance(focal_px, np.ndarray | np.generic | torch.Tensor):
        focal_px = focal_px.tolist()
    if focal_px is None or isinstance(focal_px, Real):
        return [_focal(focal_px)] * count
    said = f"focal_px={_shown(focal_px)}: give a focal length in pixels, or one (or None) per picture"
    focals = [_focal(one) for one in _listed(focal_px, said)]
    if len(focals) != count:
        raise RequestError(f"{len(focals)} focal lengths for {count} pictures; give one, or one per picture")
    return focals


def _focal(given: Any) -> float | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Real):
        raise RequestError(f"focal_px={_shown(given)}: give a focal length in pixels, or one (or None) per picture")
    try:
        focal = float(given)
    except OverflowError:
        focal = math.inf
    if problem := focal_problem(focal):
        raise RequestError(f"focal_px={focal:g}: {problem}")
    return focal


def _shown(value: Any) -> str:
    """A value in a message: its type, and its beginning if it is small."""
    if value is None or isinstance(value, bool | int | float | complex | str):
        return repr(value)[:80]
    return f"{type(value).__name__} {' '.join(repr(value).split())[:60]}"
