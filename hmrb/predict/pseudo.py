"""A training shard of predictions: their pictures with the predicted people as labels, marked as pseudo."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.bodykind import BODIES, kind_of
from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, packing_of, refuse_regions
from hmrb.data.convert.own import is_own, shard_name
from hmrb.data.convert.people import Tally, check_missing, check_share, packed
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import ShardInfo
from hmrb.errors import RequestError
from hmrb.formats.hdf5 import read_arrays
from hmrb.formats.npz import Npz
from hmrb.formats.pictures import UnreadablePicture
from hmrb.models.crops import CROPS
from hmrb.predict.inputs import read_inputs
from hmrb.predict.people import People, ShownPicture
from hmrb.predict.pictures import PictureSource, open_picture
from hmrb.predict.plan import PLAN, Plan, origin_of, read_plan
from hmrb.predict.tables import people_of
from hmrb.predict.wanted import FORMATS
from hmrb.records import Person, Photo
from hmrb.store import Store

BEHIND = "predicted with a camera of scale 0 or less"
READ = ("npz", "h5")
SHAPES: dict[str, tuple[int | None, ...]] = {
    "name": (), "body": (), "camera_from": (), "box": (4,), "picture_px": (2,), "score": (), "square": (3,),
    "rotmats": (None, 3, 3), "betas": (None,), "camera": (3,), "focal_px": (), "center_px": (2,), "image_px": (),
    "crop_rule": (), "joints_m": (None, 3),
}  # fmt: skip


def pseudo_shard(
    folder: Path,
    images: Path | None,
    name: str,
    split: str,
    store: Store,
    making: ConversionOptions,
    ticker: ProgressReporter,
) -> ShardInfo:
    """Write the shard of a finished prediction, under a name of the user's own; `images` is its lists' folder.

    The box is the square that the network saw, keypoints lie where its own camera puts them in the picture, and in 3D
    where the picture's camera does. Raises RequestError for invalid options, RunError if too few pictures can be used.
    """
    slug, _ = shard_name(name, split)
    if not is_own(name):
        raise RequestError(f"--as {name}: a dataset of the catalogue; pseudo labels need a name of their own")
    plan, file = _finished(folder)
    people, joints = read_people(file)
    shown = plan.places.get("images")
    inputs = read_inputs(plan.places["inputs"], store, images or (Path(shown) if shown else None), folder)
    sources = _by_name(inputs.pictures)
    told = re.sub(r"[^ -~]", "?", str(plan.facts["checkpoint"]))
    missing: list[str] = []
    tally, kept = Tally(), 0
    if split != "train":
        refuse_regions(split, making)
    packing = packing_of(split, making, split != "train")
    path = store.shard(slug, split)
    ticker.part(path, len({picture.name for picture in people.pictures}))
    with ShardWriter(
        path, dataset=slug, split=split, skeleton=kind_of(people.body_name).keypoints, body=people.body_name,
        made_by=making.made_by, pictures=packing.name, selection=making.selection.name, source=f"pseudo: {told}",
    ) as writer, raw_file(file):  # fmt: skip
        for number, (shown_picture, some) in enumerate(_by_picture(people, joints, tally)):
            ticker.done(number)
            if not making.selection.keeps(shown_picture.name, number):
                continue
            try:
                photo = _photo(sources.get(shown_picture.name), shown_picture, some)
                for sample in packed(photo, packing, tally):
                    writer.add(sample)
                    kept += 1
            except UnreadablePicture as error:
                missing.append(str(error))
                check_missing(str(path), missing, making.missing_limit)
        check_share(str(path), tally, kept, making.missing_limit)
        if not kept:
            raise RequestError(f"{folder}: nobody in {len(people)} people can be used; nothing was written")
    ticker.account(tally, missing)
    return writer.info


def _by_name(pictures: list[PictureSource]) -> dict[str, PictureSource]:
    """The pictures by the names of their predictions. Raises RequestError if pictures of two shards have one name."""
    sources: dict[str, PictureSource] = {}
    for picture in pictures:
        before = sources.setdefault(picture.name, picture)
        if before is not picture and origin_of(before) != origin_of(picture):
            raise RequestError(
                f"{picture.name}: two of the shards that were predicted have a picture of this name, so nobody can tell"
                " whose the labels are; predict each shard alone"
            )
    return sources


def _finished(folder: Path) -> tuple[Plan, Path]:
    """The plan of a finished prediction, and everybody's file."""
    plan = read_plan(folder)
    if plan is None:
        raise RequestError(f"--predictions {folder}: no folder of hmrb predict ({PLAN} is not there)")
    if plan.account is None:
        raise RequestError(f"--predictions {folder}: not finished; run its hmrb predict again, which goes on")
    kind = str(plan.facts.get("format"))
    if kind not in READ:
        raise RequestError(
            f"--predictions {folder}: written with --format {kind}; pseudo labels are read from npz or h5"
        )
    return plan, folder / FORMATS[kind]


def read_people(file: Path) -> tuple[People, np.ndarray]:
    """Everybody in a file of predictions, without the body, and their joints (N J 3, or N 0 3) in the camera's frame.

    Raises RequestError if arrays are missing, of other shapes, or not finite.
    """
    if file.suffix == ".h5":
        table = read_arrays(file, SHAPES.__contains__)
    else:
        with Npz(file) as arrays:
            table = {key: np.asarray(arrays.read(key)) for key in SHAPES if key in arrays}
    for key in ("name", "body", "camera_from", "crop_rule"):
        if key in table and table[key].dtype.kind == "S":
            table[key] = np.char.decode(table[key], "utf-8", "replace")
    count = len(table["name"]) if "name" in table and table["name"].ndim == 1 else -1
    table.setdefault("joints_m", np.zeros((max(count, 0), 0, 3), np.float32))
    table.setdefault("crop_rule", np.full(max(count, 0), "hmr"))  # the only rule of files that do not name it
    if wrong := [key for key, shape in SHAPES.items() if not _fits(table.get(key), count, shape)]:
        raise RequestError(
            f"{file}: {', '.join(wrong)} missing, not finite or of another shape than hmrb predict writes"
        )
    bodies = set(table["body"].tolist())
    crops = set(zip(table["crop_rule"].tolist(), table["image_px"].tolist(), strict=True))
    known = bodies <= BODIES.keys() and {rule for rule, _ in crops} <= CROPS.keys()
    if not count or not known or len(bodies) > 1 or len(crops) > 1:
        raise RequestError(
            f"{file}: {count} people of {len(bodies)} bodies and {len(crops)} kinds of crop; expected people of one"
            f" body, predicted alike, with crops by one of these rules: {', '.join(CROPS)}"
        )
    table["name"] = np.array([name.encode("utf-8", "replace").decode() for name in table["name"].tolist()])
    people = people_of(table, None)
    kind = kind_of(people.body_name)
    parts = (people.rotmats.shape[1], people.betas.shape[1], table["joints_m"].shape[1])
    if parts[:2] != (kind.num_joints, kind.num_betas) or parts[2] not in (0, kind.num_keypoints):
        raise RequestError(f"{file}: {parts} rotations, betas and joints are not those of body '{people.body_name}'")
    return people, table["joints_m"].astype(np.float32)


def _fits(array: Any, count: int, shape: tuple[int | None, ...]) -> bool:
    if array is None or array.dtype.kind not in "fiubU" or array.ndim != 1 + len(shape) or len(array) != count:
        return False
    same = all(want in (None, have) for want, have in zip(shape, array.shape[1:], strict=True))
    return same and (array.dtype.kind == "U" or bool(np.isfinite(array).all()))


def _by_picture(people: People, joints: np.ndarray, tally: Tally) -> Iterator[tuple[ShownPicture, tuple[Person, ...]]]:
    """The pictures in their order, with the labels of their people; people behind the camera are counted."""
    camera = people.crop_camera
    pixels = camera.project(joints - people.transl[:, None])
    side = people.square[:, 2:]
    box = np.concatenate([people.square[:, :2] - side / 2, side, side], 1)
    ones = np.ones((*joints.shape[:2], 1), np.float32)
    points2d = np.concatenate([pixels, ones], 2).astype(np.float32)
    points3d = np.concatenate([joints, ones], 2)
    for _, group in groupby(range(len(people)), key=lambda row: people.pictures[row].name):
        rows = list(group)
        usable = [row for row in rows if people.camera[row, 0] > 0]
        tally.left_out.update([BEHIND] * (len(rows) - len(usable)))
        yield people.pictures[rows[0]], tuple(
            Person(
                box=box[row], keypoints2d=points2d[row], keypoints3d=points3d[row], pose=people.rotvecs[row],
                betas=people.betas[row], transl=people.transl[row], has_body=True,
                columns={"pseudo": 1.0, "score": float(people.score[row])},
            )
            for row in usable
        )  # fmt: skip


def _photo(source: PictureSource | None, shown: ShownPicture, people: tuple[Person, ...]) -> Photo:
    """A picture as it was predicted; one that was turned upright is stored so. Raises UnreadablePicture."""
    if source is None:
        raise UnreadablePicture(f"{shown.name}: is not among the pictures of the prediction any more")
    data = source.read()
    opened = open_picture(replace(source, read=lambda: data))
    if opened.size_px != shown.size_px:
        raise UnreadablePicture(f"{shown.name}: has {opened.size_px} pixels, had {shown.size_px} when it was predicted")
    kept = data if isinstance(data, bytes) and opened.exif.orientation == 1 else b""
    return Photo(name=shown.name, people=people, data=kept, pixels=opened.pixels)
