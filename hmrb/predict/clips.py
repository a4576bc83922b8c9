"""Videos after their frames are predicted: everybody's track, and a video of the bodies over the frames."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8

from hmrb.body import SMPL
from hmrb.formats.pictures import UnreadablePicture
from hmrb.predict.drawing import enlarged, overlay
from hmrb.predict.outputs import stems_of
from hmrb.predict.parts import SHARED, Table, read_part
from hmrb.predict.people import ShownPicture, save
from hmrb.predict.pictures import PictureSource
from hmrb.predict.tables import people_of
from hmrb.predict.video import rate_of, tracks, write_video

NONE = -1  # frame and track of people in photos
USED = ("name", "frame", "time_s", "box")


def tracks_of(paths: Sequence[Path]) -> dict[Path, Int[np.ndarray, " N"]]:
    """The track of everybody in each part; tracks are counted from 0 in each video."""
    parts = [{key: table[key] for key in USED} for table in map(read_part, paths)]
    names = [clip_of(name) for part in parts for name in part["name"].tolist()]
    frame, time_s, box = (np.concatenate([part[key] for part in parts]) for key in USED[1:])
    out = np.full(len(frame), NONE, np.int64)
    for _, group in groupby(np.flatnonzero(frame >= 0).tolist(), key=lambda row: names[row]):
        frames = [list(rows) for _, rows in groupby(group, key=lambda row: int(frame[row]))]
        found = tracks((float(time_s[rows[0]]), box[rows]) for rows in frames)
        for rows, some in zip(frames, found, strict=True):
            out[rows] = some
    ends = np.cumsum([len(part["frame"]) for part in parts])[:-1]
    return dict(zip(paths, np.split(out, ends), strict=True))


def write_clips(folder: Path, pictures: Sequence[PictureSource], tables: Sequence[Table], body: SMPL) -> Iterator[Path]:
    """Write NAME_overlay.mp4 of each video, through everybody's own camera; colours and numbers are those of tracks.

    Of dance.mp4 and dance.mkv the second is dance.mkv_overlay.mp4. Frames that cannot be read are left out. Raises
    RunError.
    """
    rows: dict[str, tuple[Table, list[int]]] = {}
    for table in tables:
        for row, name in enumerate(table["name"].tolist()):
            rows.setdefault(name, (table, []))[1].append(row)
    framed = [picture for picture in pictures if picture.frame is not None]
    clips = [(clip, list(group)) for clip, group in groupby(framed, key=lambda picture: clip_of(picture.name))]
    for stem, (_, sources) in zip(stems_of([clip for clip, _ in clips], reserved=()), clips, strict=True):
        assert sources[0].frame is not None
        path, rate = folder / f"{stem}_overlay.mp4", rate_of(sources[0].frame.path)

        drawn = (_drawn(source.name, pixels, rows.get(source.name), body) for source, pixels in readable(sources))
        save(path, partial(write_video, frames=drawn, rate=rate))
        yield path


def _drawn(
    name: str, pixels: UInt8[np.ndarray, "H W 3"], found: tuple[Table, list[int]] | None, body: SMPL
) -> UInt8[np.ndarray, "Y X 3"]:
    if found is None:
        return enlarged(pixels)
    table, some = found
    people = people_of({key: array[some] for key, array in table.items() if key != SHARED}, body)
    shown = ShownPicture(name, (pixels.shape[1], pixels.shape[0]), pixels)
    people = replace(people, pictures=(shown,), picture=np.zeros(len(some), np.int64))
    return overlay(people, people.crop_camera, (table["track"][some] + 1).tolist())


def readable(sources: Sequence[PictureSource]) -> Iterator[tuple[PictureSource, UInt8[np.ndarray, "H W 3"]]]:
    """The frames that can be read, with their pixels."""
    for source in sources:
        try:
            pixels = source.read()
        except UnreadablePicture:
            continue
        assert isinstance(pixels, np.ndarray)
        yield source, pixels


def clip_of(name: str) -> str:
    """The name of a frame's video."""
    return name.rpartition("/")[0]
