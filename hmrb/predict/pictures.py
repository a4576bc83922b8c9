"""The pictures of a request: where their bytes are, their boxes if known, and how they are opened."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hmrb.data.convert.people import MOST_PX
from hmrb.formats.exif import Exif, is_animated, read_exif
from hmrb.formats.pictures import UnreadablePicture, decoded, refused_picture, upright
from hmrb.predict.cameras import UNASKED, AskedCamera, Intrinsics, camera_of

LEAST_PX = 1.0  # of a box's sides: less shows nothing of a person, and 1e-300 is 0 in float32
NO_EXIF = Exif(1, {})
WHOLE_MARGIN = 1.0  # of a box that is the whole picture: its square is all that there is to see


@dataclass(frozen=True, slots=True, eq=False)
class GivenBox:
    """A person's box (x, y, width, height in px of the picture) and score, and the person's row if from a shard."""

    box: tuple[float, float, float, float]
    score: float = 1.0
    row: int | None = None


@dataclass(frozen=True, slots=True)
class FrameSource:
    """Which frame of which video a picture is, and its time in seconds."""

    path: Path
    number: int
    time_s: float


@dataclass(frozen=True, slots=True, eq=False)
class PictureSource:
    """A picture that is asked for: its name in results, its bytes or pixels, its people's boxes (None: to be found).

    `is_stored_as_is`: a data set's picture, whose labels ignore EXIF. `margin` is the square's in a data set (None: the
    method's). `asked` is what the user says of the camera, `camera` what the data set says. `exif` is that of pixels;
    bytes have their own.
    """

    name: str
    read: Callable[[], bytes | UInt8[np.ndarray, "H W 3"]]
    boxes: tuple[GivenBox, ...] | None = None
    is_stored_as_is: bool = False
    margin: float | None = None
    asked: AskedCamera = UNASKED
    camera: Intrinsics | None = None
    frame: FrameSource | None = None
    exif: Exif = NO_EXIF


@dataclass(frozen=True, slots=True, eq=False)
class OpenedPicture:
    """A decoded picture, upright if it is a photo, and what is worth saying about it."""

    source: PictureSource
    pixels: UInt8[np.ndarray, "H W 3"]
    exif: Exif
    notes: tuple[str, ...] = ()

    @property
    def camera(self) -> Intrinsics | None:
        """The picture's camera, if anybody knows it."""
        return camera_of(self.source.asked, self.source.camera, self.exif, *self.size_px)

    @property
    def size_px(self) -> tuple[int, int]:
        """Width and height."""
        height, width = self.pixels.shape[:2]
        return width, height


def open_picture(source: PictureSource) -> OpenedPicture:
    """Read and decode a picture. Raises UnreadablePicture, also for pixels that are not RGB of 8 bits."""
    data = source.read()
    if isinstance(data, np.ndarray):
        if problem := pixels_problem(str(data.dtype), data.shape):
            raise UnreadablePicture(f"{source.name}: {problem}")
        pixels = data if source.exif.orientation == 1 else upright(data, source.exif.orientation)
        return OpenedPicture(source, pixels, source.exif)
    if not data:
        raise UnreadablePicture(f"{source.name}: image cannot be decoded: it is an empty file")
    exif = NO_EXIF if source.is_stored_as_is else read_exif(data)
    pixels = decoded(data, source.name, orientation=exif.orientation)
    notes = (f"{source.name}: has several frames; only the first is used",) if is_animated(data) else ()
    return OpenedPicture(source, pixels, exif, notes)


def pixels_problem(kind: str, shape: tuple[int, ...]) -> str:
    """What is wrong with pixels of this type and shape, in words; empty if nothing."""
    if kind == "uint8" and len(shape) == 3 and shape[2] == 3 and 0 not in shape:
        return ""
    return (
        f"an array of type {kind} and shape {shape} is no picture; give RGB pixels, uint8 of shape (height, width, 3)"
    )


def box_problem(box: Sequence[float], width: int = 0, height: int = 0) -> str:
    """What is wrong with a box, in words; empty if nothing. Without a size, only its own numbers are judged."""
    x, y, wide, tall = box
    shown = ",".join(f"{number:g}" for number in box)
    if not all(map(math.isfinite, box)):
        return f"box {shown}: not all four are finite numbers"
    if max(map(abs, box)) > MOST_PX:
        return f"box {shown}: a number is beyond {MOST_PX:,.0f} pixels"
    if wide <= 0 or tall <= 0:
        return f"box {shown}: width and height must be positive (a box is x,y,width,height)"
    if min(wide, tall) < LEAST_PX:
        return (
            f"box {shown}: a side is below {LEAST_PX:g} pixel, which shows no person; sides are from {LEAST_PX:g} to"
            f" {MOST_PX:,.0f} pixels, not shares of the picture"
        )
    if width and (x >= width or y >= height or x + wide <= 0 or y + tall <= 0):
        return f"box {shown}: lies outside the picture of {width} x {height} px"
    return ""


def in_tar(path: Path, start: int, size: int) -> bytes:
    """The bytes of a member of a tar file. Raises UnreadablePicture."""
    try:
        with open(path, "rb") as file:
            file.seek(start)
            return file.read(size)
    except OSError as error:
        raise refused_picture(path, error) from None
