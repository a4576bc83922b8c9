"""Pictures of data sets: hmrb's shards, with the crop of their evaluation, and webdataset tar files."""

import tarfile
from functools import partial
from itertools import groupby
from pathlib import Path

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.protocols import ROWS
from hmrb.formats.files import instead, reason
from hmrb.predict.cameras import Intrinsics
from hmrb.predict.lists import boxes_in, parse_json
from hmrb.predict.pictures import GivenBox, PictureSource, in_tar

TAR_PHOTOS = (".jpg", ".jpeg", ".png", ".webp")
MOST_JSON = 1 << 20  # bytes of a picture's own JSON
Read = tuple[list[PictureSource], list[str]]


def shard_pictures(path: Path, images: Path | None) -> Read:
    """All people of a shard, in its order, in the square that its benchmark uses. Raises ShardError."""
    shard = Shard(path)
    margin = next(
        (row.box_scale for row in ROWS if (row.dataset, row.split) == (shard.info.dataset, shard.info.split)), 1
    )
    image_of, box = shard.arrays["image"].tolist(), shard.arrays["box"].tolist()
    pictures = []
    for image, rows in groupby(range(len(shard)), key=lambda row: image_of[row]):
        people = list(rows)
        given = tuple(GivenBox(tuple(box[row]), row=row) for row in people)
        pictures.append(
            PictureSource(
                shard.name(people[0]),
                partial(shard.picture, image),
                given,
                is_stored_as_is=True,
                margin=float(margin),
                camera=_camera(shard, people[0], image),
            )
        )
    return pictures, []


def _camera(shard: Shard, row: int, image: int) -> Intrinsics | None:
    """The picture's camera, if the shard has a column `focal`: pixels of the photo that the picture is part of."""
    if "focal" not in shard.columns:
        return None
    left, top, scale = shard.arrays["origin"][image].tolist()
    width, height = shard.arrays["photo_px"][image].tolist()
    center = ((width / 2 - left) * scale - 0.5, (height / 2 - top) * scale - 0.5)
    return Intrinsics(float(shard.arrays["columns/focal"][row]) * scale, center, "the shard's column focal")


def tar_pictures(path: Path, images: Path | None) -> Read:
    """The pictures of a webdataset: KEY.jpg with KEY.json, whose `bbox` is a box or a list of them.

    Raises RequestError.
    """
    photos: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                stem, dot, suffix = member.name.rpartition(".")
                if not member.isreg():
                    continue
                if dot + suffix.lower() in TAR_PHOTOS:
                    photos[stem] = member
                elif suffix.lower() == "json" and member.size <= MOST_JSON and (file := tar.extractfile(member)):
                    texts[stem] = file.read(MOST_JSON)
    except (tarfile.TarError, EOFError) as error:
        raise RequestError(f"{path}: not a readable tar file ({error}){instead(path)}") from None
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}") from None
    if not photos:
        raise RequestError(f"{path}: a tar file without {', '.join(TAR_PHOTOS)}")
    pictures, notes = [], []
    for stem, member in photos.items():
        label = f"{stem}.json"
        tree = parse_json(texts[stem], f"{path}: {label}") if stem in texts else {}
        boxes = boxes_in(path, label, tree) if isinstance(tree, dict) else None
        name = "/".join(part for part in member.name.split("/") if part not in ("", ".", ".."))
        read = partial(in_tar, path, member.offset_data, member.size)
        pictures.append(PictureSource(name, read, boxes))
    if without := sum(picture.boxes is None for picture in pictures):
        notes.append(f"{path}: {without} of {len(pictures)} pictures have no bbox in a .json")
    return pictures, notes
