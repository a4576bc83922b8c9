"""The camera of a picture: what is known of it, from whom, and how it projects. Pixels; metres, x right, y down."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from hmrb.errors import RequestError
from hmrb.formats.exif import Exif

# Beyond these numbers float32 metres mean nothing: at a million pixels a person who is 100 px wide is 20 km away, where
# float32 has steps of 2 mm; below one pixel any picture shows half the world. 0.1 degrees are a lens of 20 m on film.
LEAST_FOCAL_PX, MOST_FOCAL_PX = 1.0, 1e6
LEAST_FOV_DEG, MOST_FOV_DEG = 0.1, 179.0
NEAREST_M = 1e-3  # depth that a point at or behind the camera gets, so that its pixel is a finite number


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Focal length and principal point of a picture in px (the first pixel's centre is 0), and where they come from."""

    focal_px: float
    center_px: tuple[float, float]
    said: str


@dataclass(frozen=True, slots=True)
class AskedCamera:
    """What the user says of the camera: a focal length in px, or the angle of view across the width in degrees."""

    focal_px: float | None = None
    fov_deg: float | None = None

    def __post_init__(self) -> None:
        if self.focal_px is not None and self.fov_deg is not None:
            raise RequestError("--focal and --fov both say how the camera sees; give one of them")
        if self.focal_px is not None and (problem := focal_problem(self.focal_px)):
            raise RequestError(f"--focal {self.focal_px:g}: {problem}")
        if self.fov_deg is not None and not LEAST_FOV_DEG <= self.fov_deg <= MOST_FOV_DEG:
            raise RequestError(
                f"--fov {self.fov_deg:g}: an angle of view is from {LEAST_FOV_DEG:g} to {MOST_FOV_DEG:g} degrees; give"
                " the one across the picture's width"
            )

    def of(self, width: int, height: int) -> Intrinsics | None:
        """The camera of a picture of this size; None if the user says nothing."""
        if self.focal_px is not None:
            return Intrinsics(self.focal_px, middle(width, height), "option: focal length")
        if self.fov_deg is not None:
            focal = width / 2 / math.tan(math.radians(self.fov_deg) / 2)
            return Intrinsics(focal, middle(width, height), "option: angle of view")
        return None


UNASKED = AskedCamera()


def focal_problem(focal_px: float) -> str:
    """What is wrong with a focal length, in words; empty if nothing."""
    if LEAST_FOCAL_PX <= focal_px <= MOST_FOCAL_PX:
        return ""
    return (
        f"a focal length is a positive number of pixels, from {LEAST_FOCAL_PX:g} to {MOST_FOCAL_PX:,.0f}; one in mm is"
        " multiplied by the picture's width in px and divided by the sensor's in mm"
    )


def middle(width: int, height: int) -> tuple[float, float]:
    """The middle of a picture's pixels: the principal point where nobody knows better."""
    return (width - 1) / 2, (height - 1) / 2


def camera_of(asked: AskedCamera, stored: Intrinsics | None, exif: Exif, width: int, height: int) -> Intrinsics | None:
    """The camera of a picture: the user's, else its data set's, else its EXIF's; None: nobody knows it."""
    if found := asked.of(width, height) or stored:
        return found
    noted = exif.focal_px(width, height)
    if noted is not None and not focal_problem(noted[0]):  # broken EXIF counts as none
        return Intrinsics(noted[0], middle(width, height), noted[1])
    return None


@dataclass(frozen=True, slots=True)
class Pinholes:
    """A perspective camera per person, and the person's translation before it in metres."""

    focal_px: Float[np.ndarray, " N"]
    center_px: Float[np.ndarray, "N 2"]
    transl: Float[np.ndarray, "N 3"]

    def project(self, points: Float[np.ndarray, "N K 3"]) -> Float[np.ndarray, "N K 2"]:
        """Pixels of points that are relative to the person's translation; metres, camera axes."""
        placed = points.astype(np.float64) + self.transl[:, None]
        depth = np.maximum(placed[..., 2:], NEAREST_M)
        pixels: np.ndarray = placed[..., :2] / depth * self.focal_px[:, None, None] + self.center_px[:, None]
        return pixels
