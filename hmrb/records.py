"""Frozen records that pass between modules. Metres, radians, pixels; camera frame x right, y down, z forward.

A person passes through six records on the way from a dataset to a training step:

    record   made by                    content
    ------   ------------------------   ------------------------------------------------------------------------
    Person   data/sources/              one person's labels as the dataset has them: box 4, keypoints2d K 3,
      |                                 keypoints3d K3 4, pose R 3, betas S, transl 3
    Photo    data/sources/              one image (file, bytes or H W 3) and all people labelled in it
      |
    Sample   data/convert/pack.py       one person and the encoded image (bytes), as stored in a shard; the
      |                                 shapes of Person
    View     data/loader.py             one person under augmentation: decoded image H W 3, square (center 2, side),
      |      (view_of; augment, warp)   keypoints2d J 3, keypoints3d J 4, pose R 3
    Item     data/loader.py             one row: crop of the network's size H W 3, keypoints2d J 3, keypoints3d J 4,
      |                                 pose R 3, betas S
    Batch    data/loader.py (collate)   tensors of one rank's share of a step: image B 3 H W, keypoints2d B J 3,
                                        keypoints3d B J 4, pose B R 3, betas B S

K and K3 count the dataset's own keypoints in 2D and 3D, J the training skeleton's, R joint rotations, S betas.
A missing label has confidence 0 or `has_body` false. It is never NaN and never a missing key.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8

from hmrb.bodykind import SMPL_KIND, BodyKind

GENDERS = ("neutral", "male", "female")


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """One person's labels in image pixels (the first pixel's centre is 0), in the dataset's own skeleton.

    `box` (x, y, width, height) surrounds the person with the margin of the dataset's rule; the crop is the square
    around it. The root rotation in `pose` and the translation `transl` are in the camera frame. Arrays of keypoints
    without rows mean that the dataset has no such labels. `columns` are named values by which results can be grouped
    (sequence, activity, occlusion). `extra` holds labels for other body models under their own names (`smplx/betas`).
    `camera` holds the photo's intrinsics fx, fy, cx, cy in the pixels of the labels, zeros where this person's are
    unknown; None for a dataset without any. A shard stores it as `extra/camera`.
    """

    box: Float[np.ndarray, "4"]
    keypoints2d: Float[np.ndarray, "K 3"] = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    keypoints3d: Float[np.ndarray, "K3 4"] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    pose: Float[np.ndarray, "R 3"] = field(default_factory=lambda: np.zeros((SMPL_KIND.num_joints, 3), np.float32))
    betas: Float[np.ndarray, " S"] = field(default_factory=lambda: np.zeros(SMPL_KIND.num_betas, np.float32))
    transl: Float[np.ndarray, "3"] = field(default_factory=lambda: np.zeros((3,), np.float32))
    has_body: bool = False
    gender: str = "neutral"
    columns: Mapping[str, float | str] = field(default_factory=dict)
    extra: Mapping[str, np.ndarray] = field(default_factory=dict)
    camera: Float[np.ndarray, "4"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Person):
    """One person as stored in a shard, with the encoded image.

    The image is a part of a photo of size `photo_px` (width, height). Pixel x of the image is the photo's pixel
    (x + 0.5) / origin[2] - 0.5 + origin[0]; y likewise, with origin[1]. `camera` stays in pixels of the photo.
    """

    jpeg: bytes
    name: str
    origin: Float[np.ndarray, "3"] = field(default_factory=lambda: np.array([0, 0, 1], np.float32))
    photo_px: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Photo:
    """One image of a dataset and the people labelled in it, in its pixels.

    The image is a `file`, the bytes of a file (`data`) or RGB `pixels` (a video frame). All three are empty if there is
    no image (mocap). If `mirrored`, the labels, cameras included, describe the mirrored image, and packing mirrors the
    pixels.
    `stated_px` is the image's size (width, height) as the annotations state it, if they do: another image is refused.
    `left_out` counts people that the reader leaves out, by reason.
    """

    name: str
    people: tuple[Person, ...]
    file: Path | None = None
    data: bytes = b""
    pixels: UInt8[np.ndarray, "H W 3"] | None = None
    mirrored: bool = False
    stated_px: tuple[int, int] | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)


def without_unlabelled(points: Float[np.ndarray, "*N K C"]) -> Float[np.ndarray, "*N K C"]:
    """A copy of keypoints with zeros as the coordinates of those with confidence 0."""
    out = np.array(points)
    out[..., :-1][~(out[..., -1] > 0)] = 0
    return out


@dataclass(frozen=True, slots=True)
class Cut:
    """The square that a crop was cut out of, in pixels of a dataset's image, mirrored if `flipped`; see View."""

    center: Float[np.ndarray, "2"]
    side: float
    rotation: float
    flipped: bool
    width: int
    """Of the image."""


@dataclass(frozen=True, slots=True)
class View:
    """One person under augmentation: labels and the square around the person in pixels of `image`.

    Before the warp, `image` is the dataset's image; after it, the upright crop of the square. `box` is the dataset's
    box (x, y, width, height). `center` and `side` define the square; augmentations change them.
    `rotation` (radians) turns the square clockwise, so the person in the crop turns counterclockwise by the same angle.
    If `flipped`, the labels, box and square describe the mirrored image, and the warp mirrors the pixels.
    `gain` multiplies the colour channels after the warp. `cut` is the square that was warped; None before.
    """

    image: UInt8[np.ndarray, "H W 3"]
    box: Float[np.ndarray, "4"]
    center: Float[np.ndarray, "2"]
    side: float
    rotation: float
    flipped: bool
    gain: Float[np.ndarray, "3"]
    keypoints2d: Float[np.ndarray, "J 3"]
    keypoints3d: Float[np.ndarray, "J 4"]
    pose: Float[np.ndarray, "R 3"]
    kind: BodyKind = SMPL_KIND
    cut: Cut | None = None
