"""The files of a prediction: per picture overlay, views, meshes and parameters; one predictions.npz for all."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.predict.drawing import camera_to_draw, overlay, views
from hmrb.predict.people import People, joined, save, save_arrays
from hmrb.predict.tables import table_of, tree_of
from hmrb.predict.wanted import ALL, Wanted

JPEG_QUALITY = 92
NAMED = 12  # files that are named one by one; more are counted by kind


@dataclass(slots=True)
class OutputFolder:
    """Writes results as they come, each file atomically, and remembers what it wrote. Raises RunError."""

    folder: Path
    wanted: Wanted
    written: list[Path] = field(default_factory=list)
    _stems: Counter[str] = field(default_factory=Counter)
    _everybody: list[People] = field(default_factory=list)
    _rows: list[int] = field(default_factory=list)

    def add(self, people: People, rows: Sequence[int]) -> str:
        """Write the files of one picture: NAME_overlay.jpg, NAME_views.jpg, NAME.json, NAME.npz, NAME_1.obj, ...

        Returns what is worth saying about them.
        """
        note = ""
        self._everybody.append(replace(people, pictures=tuple(replace(one, pixels=None) for one in people.pictures)))
        self._rows += rows
        stem = self.folder / self._stem(people.pictures[0].name)
        has_body = people.body is not None and len(people) > 0
        if self.wanted.overlay and has_body:
            camera, note = camera_to_draw(people)
            self._jpeg(_beside(stem, "_overlay.jpg"), overlay(people, camera))
            self._jpeg(_beside(stem, "_views.jpg"), views(people))
        if self.wanted.parameters:
            text = json.dumps(tree_of(people), allow_nan=False) + "\n"
            self._save(_beside(stem, ".json"), lambda part: part.write_text(text, encoding="utf-8"))
            self._arrays(_beside(stem, ".npz"), table_of(people))
        for number in range(len(people)) if has_body else ():
            for kind in self.wanted.meshes:
                path = _beside(stem, f"_{number + 1}.{kind}")
                (people.save_obj if kind == "obj" else people.save_glb)(path, number)
                self.written.append(path)
        return note

    def finish(self, with_rows: bool) -> None:
        """Write predictions.npz with everybody, for `hmrb eval --from-predictions`."""
        if self._everybody:
            self._arrays(self.folder / ALL, table_of(joined(self._everybody), self._rows if with_rows else None))

    @property
    def num_people(self) -> int:
        """The people of all results."""
        return sum(map(len, self._everybody))

    def summary(self) -> list[str]:
        """A line per written file, or per kind of file if there are many."""
        if len(self.written) <= NAMED:
            return [str(path) for path in self.written]
        kinds = Counter(f"{path.parent}/*{_kind(path.name)}" for path in self.written if path.name != ALL)
        lines = [f"{kind}: {count} files" for kind, count in kinds.items()]
        return lines + [str(path) for path in self.written if path.name == ALL]

    def _stem(self, name: str) -> str:
        """A path below the folder for a picture's files; no two pictures get the same."""
        parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part not in ("/", "..", ".")]
        whole = "/".join(parts) or "picture"
        stem = whole.rpartition(".")[0] or whole
        if f"{stem}.npz" == ALL or self._stems[stem]:
            stem = whole
        self._stems[stem] += 1
        again = self._stems[stem]
        return stem if again == 1 else f"{stem}~{again}"

    def _jpeg(self, path: Path, pixels: UInt8[np.ndarray, "H W 3"]) -> None:
        done, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        assert done
        self._save(path, lambda part: part.write_bytes(data.tobytes()))

    def _arrays(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        save_arrays(path, arrays)
        self.written.append(path)

    def _save(self, path: Path, write: Callable[[Path], object]) -> None:
        save(path, write)
        self.written.append(path)


def _beside(stem: Path, end: str) -> Path:
    return stem.with_name(stem.name + end)


def _kind(name: str) -> str:
    for end in ("_overlay.jpg", "_views.jpg"):
        if name.endswith(end):
            return end
    return f".{name.rpartition('.')[2]}"
