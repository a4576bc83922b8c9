"""Contact sheets of shards, to check by eye that labels match the pixels."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.data.convert.label_checks import with_hips
from hmrb.data.shard import Shard
from hmrb.errors import RunError
from hmrb.formats.pictures import decoded
from hmrb.formats.writing import replacing
from hmrb.records import Sample
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON, remap
from hmrb.synthetic.people import BONES

PEOPLE, COLUMNS, TILE_PX = 48, 8, 192
LEFT, RIGHT, MIDDLE, BOX = (255, 150, 60), (70, 150, 255), (90, 255, 120), (255, 255, 255)
RIGHT_JOINTS = SKELETONS[TRAINING_SKELETON].of_side("right")
Picture = UInt8[np.ndarray, "H W 3"]


def contact_sheet(path: Path) -> Path:
    """Write a PNG of evenly spaced people next to the shard and return its path. Raises RunError if writing fails."""
    shard, out = Shard(path), path.with_suffix(".png")
    try:
        write_sheet(spread(shard, PEOPLE), shard.info.skeleton, out, shard.place)
    except OSError as error:
        raise RunError(
            f"{out}: the contact sheet could not be written ({error.strerror}); the shard is complete"
        ) from None
    return out


def spread(shard: Shard, count: int) -> list[Sample]:
    """At most `count` people of a shard, evenly spaced."""
    rows = np.linspace(0, len(shard) - 1, min(len(shard), count)).astype(int)
    return [shard.read(row) for row in rows.tolist()]


def write_sheet(people: Sequence[Sample], skeleton: str, out: Path, source: str = "") -> None:
    """Write a PNG of people, COLUMNS a line. Raises OSError, and UnreadablePicture that names the `source`."""
    tiles = [tile(one, skeleton, source) for one in people]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % COLUMNS)
    lines = [np.concatenate(tiles[i : i + COLUMNS], 1) for i in range(0, len(tiles), COLUMNS)]
    png = cv2.imencode(".png", cv2.cvtColor(np.concatenate(lines, 0), cv2.COLOR_RGB2BGR))[1]
    with replacing(out) as part:
        part.write_bytes(png.tobytes())


def tile(sample: Sample, skeleton: str, source: str = "") -> Picture:
    """The square crop of a person with bounding box, joints and bones: left side in warm colours, right in cold."""
    picture = decoded(sample.jpeg, f"{source}: {sample.name}" if source else sample.name)
    x, y, width, height = sample.box.astype(float)
    side = 1.2 * max(width, height, 1.0)
    zoom, corner = TILE_PX / side, np.array([x + width / 2, y + height / 2]) - side / 2
    matrix = np.array([[zoom, 0, -zoom * corner[0]], [0, zoom, -zoom * corner[1]]])
    out: Picture = np.asarray(cv2.warpAffine(picture, matrix, (TILE_PX, TILE_PX), flags=cv2.INTER_LINEAR))

    def spot(point: np.ndarray) -> tuple[int, int]:
        across, down = (zoom * (point[:2] - corner)).clip(-1e4, 1e4)
        return round(float(across)), round(float(down))

    cv2.rectangle(out, spot(np.array([x, y])), spot(np.array([x + width, y + height])), BOX, 1)
    points = with_hips(remap(sample.keypoints2d, skeleton, TRAINING_SKELETON)[None])[0]
    for a, b in BONES:
        if points[a, 2] > 0 and points[b, 2] > 0:
            cv2.line(out, spot(points[a]), spot(points[b]), RIGHT if b in RIGHT_JOINTS else LEFT, 1, cv2.LINE_AA)
    for point in points[points[:, 2] > 0]:
        cv2.circle(out, spot(point), 1, MIDDLE, -1, cv2.LINE_AA)
    return out
