"""Pack a dataset's photos into the images of a shard: the original bytes, or the regions that training can use."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from jaxtyping import Float, Int, UInt8

from hmrb.data.convert.sizes import MOSTLY_OUTSIDE, check_size, is_mostly_outside
from hmrb.data.shard import RAW, region_of
from hmrb.formats.pictures import decoded, read_picture
from hmrb.formats.raw_pictures import raw_picture
from hmrb.records import Person, Photo, Sample

GROWN = 1.25  # scale of the largest square that augmentation uses: rotate_scale's 1 + scale
SHRUNK = 0.75  # scale of the smallest
TURNED = np.sqrt(2)  # extent of a square rotated by 45 degrees; rotations go up to 60
QUALITY = 90  # benchmarks/jpeg_quality.py
BLOCK_PX = 16  # what OpenCV's encoder stores together
TILE = 4  # blocks; a marker adds some 4 bytes to a tile's 60 (rendered people) to 400 (noise)
Form = Literal["jpeg", "tiled", "raw"]
FRAME_QUALITY = 95  # for video frames, which have no JPEG bytes; the study extracts frames with it


@dataclass(frozen=True, slots=True)
class Packing:
    """How images are stored.

    `original`: the original bytes; video frames as JPEG. `region`: the square around each person that contains every
    augmentation of the study, at the resolution that a crop of `image_px` needs, as JPEG of `quality`. People of one
    photo share an image if that is smaller. People whose square is outside the photo are left out. A `tiled` region has
    restart markers, so that only what a crop shows needs to be decoded; its pixels are the same. A `raw` region is not
    encoded at all: ten times the bytes, and nothing to decode.
    """

    kind: Literal["original", "region"] = "original"
    image_px: int = 224
    quality: int = QUALITY
    form: Form = "jpeg"

    @property
    def name(self) -> str:
        """The shard's `pictures` attribute."""
        if self.kind == "original":
            return "original"
        how = {"jpeg": f"JPEG {self.quality}", "tiled": f"JPEG {self.quality}, tiled", "raw": RAW}
        return f"region for {self.image_px} px, {how[self.form]}"

    @property
    def attributes(self) -> dict[str, Any]:
        """The shard's attributes about its images."""
        return {"pictures": self.name, **region_of(self.name)}


def pack(photo: Photo, packing: Packing, doubtful: Counter[str] | None = None) -> list[Sample]:
    """Pack a photo: one sample with image for each person.

    Raises UnreadablePicture, also for an image of another size than stated. Where no size is stated, people with most
    keypoints outside the image are kept and counted in `doubtful`.
    """
    if not photo.people:
        return []
    if photo.file is None and photo.pixels is None and not photo.data:
        return [_sample(person, b"", photo.name, np.array([0, 0, 1.0]), (0, 0)) for person in photo.people]
    data = _bytes(photo)
    if packing.kind == "original" and data and not photo.mirrored:
        size = _size(data, photo.name)
        _compare(photo, size, doubtful)
        return [_sample(person, data, photo.name, np.array([0, 0, 1.0]), size) for person in photo.people]
    pixels = photo.pixels if photo.pixels is not None else decoded(data, photo.name)
    if photo.mirrored:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    size = (pixels.shape[1], pixels.shape[0])
    _compare(photo, size, doubtful)
    if packing.kind == "original":
        is_frame = photo.pixels is not None
        data = _encode(pixels, ".jpg", FRAME_QUALITY) if is_frame else _encode(pixels, ".png")
        return [_sample(person, data, photo.name, np.array([0, 0, 1.0]), size) for person in photo.people]
    people = [person for person in photo.people if _meets(person.box, size)]
    samples = []
    for region, rows in _grouped([_region(person.box, size, packing.image_px) for person in people]):
        jpeg, origin = _cut(pixels, region, packing, b"" if photo.mirrored else data)
        samples += [_sample(people[row], jpeg, photo.name, origin, size) for row in rows]
    return samples


@dataclass(frozen=True, slots=True)
class Region:
    """A region of a photo: left, top, right, bottom in whole pixels, and the scale at which it is stored."""

    edges: Int[np.ndarray, "4"]
    scale: float

    @property
    def cost(self) -> float:
        """Number of stored pixels."""
        left, top, right, bottom = self.edges.tolist()
        return (right - left) * (bottom - top) * self.scale**2


def _meets(box: Float[np.ndarray, "4"], size: tuple[int, int]) -> bool:
    """Whether the bounding box overlaps the photo."""
    x, y, width, height = box.tolist()
    return x + width > 0 and y + height > 0 and x < size[0] and y < size[1] and max(width, height) > 0


def _region(box: Float[np.ndarray, "4"], size: tuple[int, int], image_px: int) -> Region:
    """The part of the photo that a crop of the person can show."""
    x, y, width, height = box.astype(np.float64)
    side = max(width, height, 1.0)
    center, reach = np.array([x + width / 2, y + height / 2]), side * GROWN * TURNED / 2 + 1
    low = np.floor(center - reach).clip(0, np.array(size) - 1)
    high = np.ceil(center + reach + 1).clip(low + 1, size)
    return Region(np.concatenate([low, high]).astype(np.int64), min(1.0, image_px / (SHRUNK * side)))


def _grouped(regions: Sequence[Region]) -> list[tuple[Region, list[int]]]:
    """One region per person, or one for all people if that needs fewer pixels."""
    if len(regions) < 2:
        return [(region, [0]) for region in regions]
    low = np.min([region.edges[:2] for region in regions], 0)
    high = np.max([region.edges[2:] for region in regions], 0)
    together = Region(np.concatenate([low, high]), max(region.scale for region in regions))
    if together.cost < sum(region.cost for region in regions):
        return [(together, list(range(len(regions))))]
    return [(region, [row]) for row, region in enumerate(regions)]


def _cut(pixels: UInt8[np.ndarray, "H W 3"], region: Region, packing: Packing, data: bytes) -> tuple[bytes, np.ndarray]:
    """Encode a region; returns the bytes and the origin. A JPEG that is used whole keeps its bytes, unless raw."""
    left, top, right, bottom = region.edges.tolist()
    whole = (right - left, bottom - top) == (pixels.shape[1], pixels.shape[0])
    if whole and region.scale >= 1 and data[:2] == b"\xff\xd8" and packing.form != "raw":
        return data, np.array([0, 0, 1.0])
    part = pixels[top:bottom, left:right]
    if region.scale >= 1:
        return _encode_region(part, packing), np.array([left, top, 1.0])
    # The matrix uses one scale for both axes: pixel centres move to (x + 0.5) * scale - 0.5.
    width, height = (int(np.ceil(n * region.scale)) for n in (right - left, bottom - top))
    blurred = _blur(part, region.scale)
    half = (region.scale - 1) / 2
    matrix = np.array([[region.scale, 0, half], [0, region.scale, half]])
    small = cv2.warpAffine(blurred, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return _encode_region(small, packing), np.array([left, top, region.scale])


def _blur(part: UInt8[np.ndarray, "H W 3"], scale: float) -> UInt8[np.ndarray, "H W 3"]:
    """Low-pass filter before downscaling; sigma is half a pixel of the small image (Nyquist)."""
    sigma = 0.5 * np.sqrt(max(1 / scale**2 - 1, 0))
    return np.asarray(cv2.GaussianBlur(part, (0, 0), sigma)) if sigma > 0.3 else part


def _sample(person: Person, jpeg: bytes, name: str, origin: np.ndarray, photo_px: tuple[int, int]) -> Sample:
    left, top, scale = origin.tolist()
    corner = np.array([left, top])
    box, points = person.box.astype(np.float64), person.keypoints2d.astype(np.float64)
    box[:2] = (box[:2] - corner + 0.5) * scale - 0.5
    box[2:] *= scale
    seen = points[:, 2] > 0
    points[seen, :2] = (points[seen, :2] - corner + 0.5) * scale - 0.5
    points[~seen] = 0
    return Sample(
        jpeg=jpeg, name=name, origin=origin.astype(np.float32), photo_px=photo_px,
        box=box.astype(np.float32), keypoints2d=points.astype(np.float32), keypoints3d=person.keypoints3d,
        pose=person.pose, betas=person.betas, transl=person.transl, has_body=person.has_body, gender=person.gender,
        columns=person.columns, extra=person.extra, camera=person.camera,
    )  # fmt: skip


def _compare(photo: Photo, size: tuple[int, int], doubtful: Counter[str] | None) -> None:
    if photo.stated_px is not None:
        check_size(photo.name, size, photo.stated_px)
    elif doubtful is not None and (count := sum(is_mostly_outside(one.keypoints2d, size) for one in photo.people)):
        doubtful[MOSTLY_OUTSIDE] += count


def _bytes(photo: Photo) -> bytes:
    if photo.data or photo.file is None:
        return photo.data
    return read_picture(photo.file)


def _size(data: bytes, label: str) -> tuple[int, int]:
    """Width and height; decodes the whole image so that a truncated file is found now rather than in training."""
    image = decoded(data, label)
    return image.shape[1], image.shape[0]


def _encode_region(pixels: UInt8[np.ndarray, "H W 3"], packing: Packing) -> bytes:
    if packing.form == "raw":
        return raw_picture(pixels)
    blocks = -(-pixels.shape[1] // BLOCK_PX)
    markers = [cv2.IMWRITE_JPEG_RST_INTERVAL, _blocks_per_tile(blocks)] if packing.form == "tiled" else []
    return _encode(pixels, ".jpg", packing.quality, markers)


def _encode(pixels: UInt8[np.ndarray, "H W 3"], kind: str, quality: int = 100, markers: Sequence[int] = ()) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *markers] if kind == ".jpg" else []
    return cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def _blocks_per_tile(across: int) -> int:
    """How many of the blocks of a row make a tile: a whole number of times, TILE if possible, else the whole row."""
    fits = [count for count in range(1, 2 * TILE) if across % count == 0 and count > 1]
    return min(fits, key=lambda count: abs(count - TILE), default=across)


def without_pictures(people: Sequence[Person], name: str) -> Photo:
    """People without an image, such as motion capture."""
    return Photo(name=name, people=tuple(replace(person, box=np.zeros(4, np.float32)) for person in people))
