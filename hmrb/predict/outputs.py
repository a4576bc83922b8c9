"""The files of a prediction: per picture overlay, views, meshes and parameters."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.predict.account import Account
from hmrb.predict.drawing import camera_to_draw, overlay, views
from hmrb.predict.people import People, save, save_arrays
from hmrb.predict.pictures import PictureSource, in_tar
from hmrb.predict.plan import PLAN
from hmrb.predict.tables import table_of, tree_of
from hmrb.predict.wanted import FORMATS, Wanted

JPEG_QUALITY = 92
RESERVED = {
    name.rpartition(".")[0] for name in (*FORMATS.values(), PLAN)
}  # stems of the files that are not a picture's
MOST_NAME = 220  # bytes: with "~9999999", "_overlay.jpg" and the dots of a temporary name below file systems' 255
MOST_PATH = 1000  # bytes of a stem with its folders; systems allow 4096, or 1024, for the whole path


@dataclass(slots=True)
class OutputFolder:
    """Writes the files of pictures as they come, each atomically, and counts them. Raises RunError."""

    folder: Path
    wanted: Wanted
    account: Account = field(default_factory=Account)
    people: list[People] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, people: People, rows: Sequence[int], stem: str, is_data: bool = False) -> str:
        """Write the files of one picture: STEM_overlay.jpg, STEM_views.jpg, STEM.json, STEM.npz, STEM_1.obj, ...

        `is_data`: a frame of a video or a picture of a data set. Returns what is worth saying about the files.
        """
        note, wanted = "", self.wanted.of_picture(is_data)
        self.people.append(replace(people, pictures=tuple(replace(one, pixels=None) for one in people.pictures)))
        self.rows += rows
        base = self.folder / stem
        has_body = people.body is not None and len(people) > 0
        if wanted.overlay and has_body:
            camera, note = camera_to_draw(people)
            self._jpeg(base, "_overlay.jpg", overlay(people, camera))
            self._jpeg(base, "_views.jpg", views(people))
        if wanted.parameters:
            text = json.dumps(tree_of(people), allow_nan=False) + "\n"
            self._save(base, ".json", lambda part: part.write_text(text, encoding="utf-8"))
            save_arrays(_beside(base, ".npz"), table_of(people))
            self.account.wrote(_beside(base, ".npz"), ".npz")
        for number in range(len(people)) if has_body else ():
            for kind in wanted.meshes:
                path = _beside(base, f"_{number + 1}.{kind}")
                (people.save_obj if kind == "obj" else people.save_glb)(path, number)
                self.account.wrote(path, f".{kind}")
        return note

    def _jpeg(self, base: Path, end: str, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        self._save(base, end, lambda part: part.write_bytes(data.tobytes()))

    def _save(self, base: Path, end: str, write: Callable[[Path], object]) -> None:
        save(_beside(base, end), write)
        self.account.wrote(_beside(base, end), end)


def is_of_data(picture: PictureSource) -> bool:
    """Whether a picture is a frame of a video, or of a shard or tar file: it gets files only if they are asked for."""
    is_in_tar = isinstance(picture.read, partial) and picture.read.func is in_tar
    return picture.frame is not None or picture.is_stored_as_is or is_in_tar


def stems_of(names: Sequence[str], reserved: Collection[str] = frozenset(RESERVED)) -> list[str]:
    """A path below the folder for the files of each picture; no two pictures get the same, and none is too long."""
    count, taken = Counter[str](), {*reserved}
    out = []
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        *folders, last = parts or ["picture"]
        stem = _fitting([*folders, last.rpartition(".")[0] or last])
        whole = stem = _fitting([*folders, last]) if stem in taken else stem
        while stem in taken:
            count[whole] += 1
            stem = f"{whole}~{count[whole] + 1}"
        taken.add(stem)
        out.append(stem)
    return out


def _fitting(parts: Sequence[str]) -> str:
    """The path of these parts; what is too long for a file system is cut, and ends in a hash of what it was."""
    path = "/".join(map(_short, parts))
    return path if len(_bytes(path)) <= MOST_PATH else _short("_".join(parts))


def _short(name: str) -> str:
    data = _bytes(name)
    if len(data) <= MOST_NAME:
        return name
    end = "~" + hashlib.sha256(data).hexdigest()[:12]
    return data[: MOST_NAME - len(end)].decode("utf-8", "ignore") + end


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogatepass")


def _beside(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)
