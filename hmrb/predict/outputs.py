"""The files of a prediction: per picture overlay, views, meshes and parameters."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.predict.account import Account
from hmrb.predict.drawing import camera_to_draw, overlay, views
from hmrb.predict.people import People, save, save_arrays
from hmrb.predict.plan import PLAN
from hmrb.predict.tables import table_of, tree_of
from hmrb.predict.wanted import FORMATS, Wanted

JPEG_QUALITY = 92
RESERVED = {
    name.rpartition(".")[0] for name in (*FORMATS.values(), PLAN)
}  # stems of the files that are not a picture's


@dataclass(slots=True)
class OutputFolder:
    """Writes the files of pictures as they come, each atomically, and counts them. Raises RunError."""

    folder: Path
    wanted: Wanted
    account: Account = field(default_factory=Account)
    people: list[People] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)

    def add(self, people: People, rows: Sequence[int], stem: str) -> str:
        """Write the files of one picture: STEM_overlay.jpg, STEM_views.jpg, STEM.json, STEM.npz, STEM_1.obj, ...

        Returns what is worth saying about them.
        """
        note = ""
        self.people.append(replace(people, pictures=tuple(replace(one, pixels=None) for one in people.pictures)))
        self.rows += rows
        base = self.folder / stem
        has_body = people.body is not None and len(people) > 0
        if self.wanted.overlay and has_body:
            camera, note = camera_to_draw(people)
            self._jpeg(base, "_overlay.jpg", overlay(people, camera))
            self._jpeg(base, "_views.jpg", views(people))
        if self.wanted.parameters:
            text = json.dumps(tree_of(people), allow_nan=False) + "\n"
            self._save(base, ".json", lambda part: part.write_text(text, encoding="utf-8"))
            save_arrays(_beside(base, ".npz"), table_of(people))
            self.account.wrote(_beside(base, ".npz"), ".npz")
        for number in range(len(people)) if has_body else ():
            for kind in self.wanted.meshes:
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


def stems_of(names: Sequence[str]) -> list[str]:
    """A path below the folder for the files of each picture; no two pictures get the same."""
    taken = Counter[str]()
    out = []
    for name in names:
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        whole = "/".join(parts) or "picture"
        stem = whole.rpartition(".")[0] or whole
        if stem in RESERVED or taken[stem]:
            stem = whole
        taken[stem] += 1
        out.append(stem if taken[stem] == 1 else f"{stem}~{taken[stem]}")
    return out


def _beside(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)
