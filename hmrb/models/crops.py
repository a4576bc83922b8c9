"""The rules by which methods cut their crops out of a picture and see its camera; printed with their results.

A rule is a part of the model: its weights have seen such crops only. All rules map a square to `image_px` pixels, its
centre to image_px / 2; they differ in the square's side, in how pixels are made, and in the focal length that they
suppose. Sources: the demos of the methods' own repositories.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hmrb.geometry import FOCAL_PX, crop_center
from hmrb.lookup import find

BOX_MARGIN = 1.2  # of a square around a tight box: SPIN's, the study's and hmrb's converters' rule
TALL = 4 / 3  # height to width of what HMR2.0's and CLIFF's networks look at: 256 x 192
BLURRED_FROM = 1.1  # HMR2.0: of half the reduction; less is not blurred
TRUNCATE = 4.0  # scikit-image's and SciPy's: where a Gaussian ends, in standard deviations

Box = tuple[float, float, float, float]
Square = tuple[float, float, float]
Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, slots=True)
class FocalRule:
    """The focal length in px of a picture whose camera nobody knows: a function of square's side, crop and picture px.

    `through_picture`: the network was taught to project through the picture's camera, and sees the focal length in its
    box descriptor; so a true one is better than a supposed one. Else it only places bodies, and the network's own
    projection is that of FOCAL_PX in its crop.
    """

    said: str
    of: Callable[[float, int, tuple[int, int]], float]
    through_picture: bool = False


def of_the_crop(side: float, image_px: int, size_px: tuple[int, int]) -> float:
    """SPIN's: FOCAL_PX in pixels of the crop, so that each person has a focal length of their own."""
    return FOCAL_PX * side / image_px


def of_the_longer_side(side: float, image_px: int, size_px: tuple[int, int]) -> float:
    """HMR2.0's: as if the whole picture were a crop."""
    return FOCAL_PX / image_px * max(size_px)


def of_the_diagonal(side: float, image_px: int, size_px: tuple[int, int]) -> float:
    """CLIFF's: an angle of view of 53 degrees across the picture's diagonal."""
    return math.hypot(*size_px)


CROP_FOCAL = FocalRule("rule of the method", of_the_crop)
LONGER_SIDE = FocalRule("rule of the method: 5000/256 of the longer side", of_the_longer_side)
DIAGONAL = FocalRule("rule of the method: the picture's diagonal", of_the_diagonal, through_picture=True)


@dataclass(frozen=True, slots=True, eq=False)
class MethodCrop:
    """What a network sees of a person (RGB), the square's centre x, y and side in px, and the map from the picture."""

    pixels: UInt8[np.ndarray, "S S 3"]
    square: Square
    matrix: Float[np.ndarray, "2 3"]


@dataclass(frozen=True, slots=True)
class CropRule:
    """The square around a box's centre, `margin` times its longer side wide, warped bilinearly; black outside.

    The defaults are HMR's. PARE and CameraHMR differ in the numbers alone. CameraHMR's demo turns the channels twice,
    so its network gets BGR there; hmrb gives it RGB, as in its training.
    """

    image_px: int
    name: str = "hmr"
    margin: float = BOX_MARGIN
    tall: float = 1.0
    """What a box's width counts, where the network looks at the middle columns alone: TALL."""
    focal: FocalRule = CROP_FOCAL
    counts_from_edge: bool = True
    """Whether the method's coordinates are 0 at the first pixel's edge, as W / 2 for the middle says."""

    def square(self, box: Box, margin: float) -> Square:
        """Centre x, y and side in px of the square of a box (x, y, width, height): what the method calls box size."""
        x, y, width, height = box
        return x + width / 2, y + height / 2, margin * max(self.tall * width, height)

    def matrix(self, square: Square) -> Float[np.ndarray, "2 3"]:
        """The affine map from a picture to the crop of a square."""
        x, y, side = square
        zoom = self.image_px / side
        return np.array([[zoom, 0.0, self.image_px / 2 - zoom * x], [0.0, zoom, self.image_px / 2 - zoom * y]])

    def cut(self, picture: Picture, box: Box, margin: float) -> MethodCrop:
        """Cut a person out of a picture, the box enlarged by `margin` (the method's own for tight boxes: `margin`)."""
        square = self.square(box, margin)
        return MethodCrop(self.pixels_of(picture, square), square, self.matrix(square))

    def pixels_of(self, picture: Picture, square: Square) -> UInt8[np.ndarray, "S S 3"]:
        """The pixels of a square."""
        return _warped(picture, self.matrix(square), self.image_px)

    def focal_of(self, side: float, size_px: tuple[int, int]) -> float:
        """Focal length in px of a picture (width, height) that nobody knows; `side` px is the person's square wide."""
        return self.focal.of(side, self.image_px, size_px)

    def origin_px(self, square: Float[Tensor, "B 3"]) -> Float[Tensor, "B 2"]:
        """Where a predicted body without translation lies in the picture; the first pixel's centre is 0."""
        return square[:, :2] - 0.5 if self.counts_from_edge else crop_center(square, self.image_px)

    def said(self, margin: float) -> str:
        """The rule in words."""
        longer = "box's longer side" if self.tall == 1 else "longer of the box's height and 4/3 of its width"
        return f"a square of {margin:g} times the {longer}, scaled to {self.image_px} px"


@dataclass(frozen=True, slots=True)
class BlurredCrop(CropRule):
    """HMR2.0's and TokenHMR's: pictures that are reduced by more than 2.2 are blurred before. (In training, none is.)

    The network drops the 32 columns at either side itself.
    """

    def pixels_of(self, picture: Picture, square: Square) -> UInt8[np.ndarray, "S S 3"]:
        """The pixels of a square."""
        x, y, side = square
        half = side / self.image_px / 2
        if half <= BLURRED_FROM:
            return _warped(picture, self.matrix(square), self.image_px)
        sigma = (half - 1) / 2
        reach = int(TRUNCATE * sigma + 0.5)
        height, width = picture.shape[:2]
        left, right = (int(np.clip(x + way * (side / 2 + reach + 2), 0, width)) for way in (-1, 1))
        top, bottom = (int(np.clip(y + way * (side / 2 + reach + 2), 0, height)) for way in (-1, 1))
        seen, matrix = picture[top:bottom, left:right].astype(np.float32), self.matrix(square)
        blurred = cv2.GaussianBlur(seen, (2 * reach + 1,) * 2, sigma, borderType=cv2.BORDER_REPLICATE)
        matrix[:, 2] += matrix[:, :2] @ (left, top)
        return _warped(np.asarray(blurred), matrix, self.image_px)

    def said(self, margin: float) -> str:
        """The rule in words."""
        return f"{CropRule.said(self, margin)}, blurred before if reduced by more than {2 * BLURRED_FROM:g}"


@dataclass(frozen=True, slots=True)
class WholePixelCrop(CropRule):
    """CLIFF's and BEDLAM's: a rectangle of whole pixels is cut, black outside the picture, and scaled bilinearly.

    So the pixels are up to one pixel of the picture off `matrix`, the method's own map. CLIFF rounds the corners of
    3/4 of the square's columns; the other columns are warped, and the network drops them.
    """

    to_whole: Callable[[float], int] = int
    """A corner's coordinate as a whole pixel; `round` halves to even, `int` towards zero."""
    number: Callable[[float], Any] = float
    """What the method computes corners with; its last digits decide those that lie on a half or a whole pixel."""
    is_smoothed: bool = False
    """A Gaussian before a reduction and mirrored edges (scikit-image's resize); else neither (OpenCV's)."""

    def pixels_of(self, picture: Picture, square: Square) -> UInt8[np.ndarray, "S S 3"]:
        """The pixels of a square."""
        px, columns = self.image_px, round(self.image_px / self.tall)
        left, top, right, bottom = self.corners(square)
        height, width = picture.shape[:2]
        rows = _weights(top, bottom, height, px, self.is_smoothed)
        across = _weights(left, right, width, columns, self.is_smoothed)
        seen = picture[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].astype(np.float32)
        scaled = np.einsum("ah,hwc,bw->abc", rows, seen, across, optimize=True)
        inner = np.rint(scaled).clip(0, 255).astype(np.uint8)
        if columns == px:
            return inner
        whole = _warped(picture, self.matrix(square), px)
        whole[:, (px - columns) // 2 :][:, :columns] = inner
        return whole

    def corners(self, square: Square) -> tuple[int, int, int, int]:
        """The first column and row of the cut, and those behind its last."""
        (x, y, _), side = square, self.number(square[2])
        px, columns = self.image_px, round(self.image_px / self.tall)
        width = side * (columns / px)
        matrix = np.diag([float(columns / width), float(px / side), 1.0])
        matrix[:2, 2] = float(columns * (-x / width + 0.5)), float(px * (-y / side + 0.5))
        back = np.linalg.inv(matrix)
        left, top = map(self.to_whole, (back @ (0.0, 0.0, 1.0))[:2].tolist())
        right, bottom = map(self.to_whole, (back @ (columns, px, 1.0))[:2].tolist())
        return left, top, max(right, left + 1), max(bottom, top + 1)

    def said(self, margin: float) -> str:
        """The rule in words."""
        return f"{CropRule.said(self, margin)}, cut at whole pixels"


def _warped(picture: np.ndarray, matrix: Float[np.ndarray, "2 3"], px: int) -> UInt8[np.ndarray, "S S 3"]:
    if not picture.size:
        return np.zeros((px, px, 3), np.uint8)
    warped = np.asarray(cv2.warpAffine(picture, matrix, (px, px), flags=cv2.INTER_LINEAR))
    return warped if warped.dtype == np.uint8 else np.rint(warped).astype(np.uint8)


def _weights(first: int, behind: int, length: int, px: int, is_smoothed: bool) -> Float[np.ndarray, "P N"]:
    """What the picture's pixels in [first, behind) contribute to `px` pixels along an axis `length` pixels long."""
    count = behind - first
    reduction = count / px
    at = (np.arange(px) + 0.5) * reduction - 0.5
    last = count - 1
    at = np.abs(at) if is_smoothed else at.clip(0)
    at = np.where(at > last, max(2 * last, 0) - at if is_smoothed else last, at).clip(0, last)
    low = np.floor(at)
    share = (at - low)[:, None]
    here = np.arange(max(first, 0), max(min(behind, length), 0)) - first
    weigh = _gaussian((reduction - 1) / 2, last) if is_smoothed and reduction > 1 else np.equal
    near, far = (weigh(here[None], edge[:, None]) for edge in (low, np.minimum(low + 1, last)))
    return ((1 - share) * near + share * far).astype(np.float32)


def _gaussian(sigma: float, last: int) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """The share of pixels in others' smoothed values, on an axis that is mirrored about its pixels 0 and `last`."""
    reach = int(TRUNCATE * sigma + 0.5)
    total = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2).sum()

    def bell(away: np.ndarray) -> np.ndarray:
        return np.where(np.abs(away) <= reach, np.exp(-0.5 * (away / sigma) ** 2) / total, 0.0)

    def share(pixel: np.ndarray, center: np.ndarray) -> np.ndarray:
        before = np.where(pixel > 0, bell(-pixel - center), 0.0)
        behind = np.where(pixel < last, bell(2 * last - pixel - center), 0.0)
        return np.asarray(bell(pixel - center) + before + behind)

    return share


def rule_named(name: str, image_px: int) -> CropRule:
    """The rule of a method for crops of `image_px` pixels. Raises UnknownName."""
    return replace(find("crop rule", name, CROPS), image_px=image_px)


# Margins: of PARE's, HMR2.0's and CameraHMR's demos, whose detectors' boxes are used as they are; of CLIFF's demo; of
# BEDLAM's labels.
CROPS: dict[str, CropRule] = {
    rule.name: rule
    for rule in (
        CropRule(224, counts_from_edge=False),
        CropRule(224, "pare", 1.0),
        BlurredCrop(256, "hmr2", 1.0, TALL, LONGER_SIDE),
        BlurredCrop(256, "tokenhmr", 1.0, TALL, LONGER_SIDE),
        WholePixelCrop(256, "cliff", 1.1, TALL, DIAGONAL, to_whole=round, number=torch.tensor),
        WholePixelCrop(224, "bedlam", BOX_MARGIN, focal=DIAGONAL, is_smoothed=True),
        CropRule(256, "camerahmr", 1.0, focal=DIAGONAL),
    )
}
