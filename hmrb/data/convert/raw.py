"""The folder of a downloaded dataset, and the state of its label files.

A file or folder that is missing is a RequestError, one that is damaged or cannot be read a RunError.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrb.errors import RequestError, RunError
from hmrb.formats.files import folders_below, reason, visible
from hmrb.formats.inside import inside
from hmrb.store import Store

# Endings of label files; pictures and videos are many, and a change of theirs is not looked for. UP-3D's boxes are
# computed from its renderings.
LABELS = (
    ".json", ".pkl", ".npz", ".npy", ".mat", ".h5", ".txt", ".csv", ".xml", ".cdf", ".tfrecord", ".zip", ".tar",
    ".calibration", "_render_light.png",
)  # fmt: skip


class Reads(set[Path]):
    """Paths that were looked up. Worker processes get none of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Reads, ()


@dataclass(frozen=True, slots=True)
class Raw:
    """A downloaded dataset: its folder, and whether to reproduce the study's mistakes (`compat`).

    `reads` are the files and folders that the plan used. `name` is the dataset's, for messages. `split` is the only
    split that is wanted: files of others are not needed then.
    """

    root: Path
    compat: bool = False
    store: Store = field(default_factory=Store.default)
    reads: Reads = field(default_factory=Reads, compare=False)
    name: str = ""
    split: str | None = None

    def need(self, *names: str) -> Path:
        """Return the first of these files or folders that exists. Raises RequestError with the names if none does."""
        for name in names:
            if (found := self.root / name).exists():
                self.reads.add(found)
                return found
        raise RequestError(f"{self.root}: contains no {' or '.join(names)}{self.advice}")

    def some(self, pattern: str) -> list[Path]:
        """Return the matching files, sorted by name. Raises RequestError if there are none."""
        found = visible(self.root.glob(pattern))
        if not found:
            raise RequestError(f"{self.root}: contains no {pattern}{self.advice}")
        return found

    def file(self, name: str) -> Path:
        """Path of a file that an annotation names. Raises RunError if it is outside the folder."""
        return inside(self.root, name)

    def wants(self, split: str) -> bool:
        """Whether a split is to be converted."""
        return self.split in (None, split)

    @property
    def advice(self) -> str:
        """The end of a message about a missing file: where to see what should be there."""
        return f"; see hmrb convert-data {self.name} --explain" if self.name else ""

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of all label files below the folder, of those used elsewhere, and of the bodies."""
        out = {}
        with raw_file(self.root):
            paths = {path for place in (self.root, *self.reads, self.store.bodies) for path in _labels(place)}
        for path in paths:
            facts = os.stat(path)
            out[os.path.relpath(path, self.root)] = (facts.st_size, facts.st_mtime_ns)
        return dict(sorted(out.items()))


def _labels(path: Path) -> Iterator[Path]:
    """A label file, or those below a folder; links are followed, but no folder is visited twice.

    Raises RequestError if a folder cannot be listed: the people whose files are in it would be missing without a word.
    """
    if not path.is_dir():
        yield from (one for one in (path,) if one.name.endswith(LABELS) and one.is_file())
        return
    seen: set[tuple[int, int]] = set()
    for folder, inner, names in folders_below(path, follow_links=True):
        facts = os.stat(folder)
        if (facts.st_dev, facts.st_ino) in seen:
            inner.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        found = (Path(folder, name) for name in names if name.endswith(LABELS))
        yield from (one for one in found if one.is_file())


@contextmanager
def raw_file(path: Path) -> Iterator[None]:
    """A reader's RequestError about a raw file that exists becomes a RunError: the file is damaged."""
    try:
        yield
    except RequestError as error:
        if not path.exists():
            raise
        raise RunError(str(error)) from None


def unreadable(path: Path, error: Exception, what: str) -> RequestError | RunError:
    """The error to raise for a raw file that cannot be read: `what` says why it is damaged, if it is."""
    if isinstance(error, FileNotFoundError):
        return RequestError(f"{path}: no such file")
    if isinstance(error, OSError):
        return RunError(f"{path}: cannot be read ({reason(error)})")
    return RunError(f"{path}: {what} ({error}); download it again")
