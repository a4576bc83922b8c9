"""Which pixels of a picture a crop is made of: all are decoded, or only the part and the scale that are seen.

What is seen is the same to the eye of the network. Without a prefilter, every pixel of the crop is the same. With
`area`, below half the scale, the decoder averages instead of `shrunk`: the crops differ by less than one level of 255
in the mean.
"""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import UInt8

from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.data.shard import Shard
from hmrb.data.warp import CUTTERS, Crop, Cutter, Matrix, Pixels, of_shrunk, reduction, shrunk
from hmrb.formats.picture_headers import header_size
from hmrb.formats.pictures import JPEG, REDUCED, decoded, decoded_shrunk, decoded_where
from hmrb.names import Antialias, Decode
from hmrb.records import Sample, View
from hmrb.skeleton import remap


@dataclass(frozen=True, slots=True)
class Looking:
    """How pictures become crops: what is decoded, and the filter against aliasing."""

    decode: Decode = "full"
    antialias: Antialias = "none"

    def at(self, data: bytes, label: str, whole: bool = False) -> tuple[UInt8[np.ndarray, "H W 3"], Cutter]:
        """A picture's pixels and what cuts crops out of it. Raises UnreadablePicture, as the cutter does.

        Where only what is seen is decoded, the pixels are zeros that take no memory, and the cutter looks at the data.
        `whole`: someone else looks at the pixels, so all are decoded.
        """
        width, height = header_size(data)
        if self.decode == "full" or whole or data[:2] != JPEG or not width * height:
            return decoded(data, label), CUTTERS[self.antialias]
        blank = np.broadcast_to(np.uint8(0), (height, width, 3))
        return blank, partial(_cut_seen, data, label, self.antialias)


WHOLE = Looking()


def look(shard: Shard, row: int, looking: Looking = WHOLE, whole: bool = False) -> tuple[View, Cutter]:
    """Read one person of a shard in the training skeleton, and what cuts their crop; see `Looking.at`.

    Raw pixels are cut from where they lie.
    """
    raw = None if whole else shard.raw_pixels(row)
    if raw is not None:
        sample = shard.read(row, has_picture=False)
        return _view(sample, shard.info.skeleton, shard.kind, raw), CUTTERS[looking.antialias]
    return looked_at(shard.read(row), shard.info.skeleton, str(shard.path), shard.kind, looking, whole)


def looked_at(
    sample: Sample,
    skeleton: str,
    source: str,
    kind: BodyKind = SMPL_KIND,
    looking: Looking = WHOLE,
    whole: bool = False,
) -> tuple[View, Cutter]:
    """A sample in the training skeleton, and what cuts its crop; see `Looking.at`. `source` starts messages."""
    image, cut = looking.at(sample.jpeg, f"{source}: {sample.name}", whole)
    return _view(sample, skeleton, kind, image), cut


def _view(sample: Sample, skeleton: str, kind: BodyKind, image: UInt8[np.ndarray, "H W 3"]) -> View:
    x, y, width, height = sample.box.astype(np.float64)
    return View(
        image=image,
        box=np.array([x, y, width, height]),
        center=np.array([x + width / 2, y + height / 2]),
        side=float(max(width, height)),
        rotation=0.0,
        flipped=False,
        gain=np.ones(3),
        keypoints2d=remap(sample.keypoints2d, skeleton, kind.keypoints),
        keypoints3d=remap(sample.keypoints3d, skeleton, kind.keypoints),
        pose=np.array(sample.pose),
        kind=kind,
    )


def _cut_seen(data: bytes, label: str, antialias: Antialias, _: Pixels, matrix: Matrix, size: int) -> Crop:
    times = reduction(matrix) if antialias == "area" else 1
    if times == 1:
        return CUTTERS["none"](decoded_where(data, label, matrix, size), matrix, size)
    by_decoder = min(times, max(REDUCED))
    small = shrunk(decoded_shrunk(data, label, by_decoder), times // by_decoder)
    return CUTTERS["none"](small, of_shrunk(matrix, times), size)
