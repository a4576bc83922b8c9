"""The folder of a downloaded dataset, and the state of the label files that were read from it."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrb.errors import RequestError
from hmrb.formats.files import visible
from hmrb.formats.inside import inside
from hmrb.store import Store

# Endings of label files; pictures and videos are many, and a change of theirs is not looked for.
LABELS = (".json", ".pkl", ".npz", ".npy", ".mat", ".h5", ".txt", ".csv", ".xml", ".cdf", ".tfrecord", ".zip", ".tar")


class Reads(set[Path]):
    """Paths that were looked up. Worker processes get none of them."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Reads, ()


@dataclass(frozen=True, slots=True)
class Raw:
    """A downloaded dataset: its folder, and whether to reproduce the study's mistakes (`compat`)."""

    root: Path
    compat: bool = False
    store: Store = field(default_factory=Store.default)
    reads: Reads = field(default_factory=Reads, compare=False)

    def need(self, *names: str) -> Path:
        """Return the first of these files or folders that exists. Raises RequestError with the names if none does."""
        for name in names:
            if (found := self.root / name).exists():
                self.reads.add(found)
                return found
        raise RequestError(f"{self.root}: contains no {' or '.join(names)}; see hmrb convert-data NAME --explain")

    def some(self, pattern: str) -> list[Path]:
        """Return the matching files, sorted by name. Raises RequestError if there are none."""
        found = visible(self.root.glob(pattern))
        if not found:
            raise RequestError(f"{self.root}: contains no {pattern}; see hmrb convert-data NAME --explain")
        self.reads.update(path for path in found if path.suffix in LABELS)
        return found

    def file(self, name: str) -> Path:
        """Path of a file that an annotation names. Raises RunError if it is outside the folder."""
        path = inside(self.root, name)
        if path.suffix in LABELS:
            self.reads.add(path)
        return path

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of the label files: those read so far, and those in the folders that were used."""
        files = {path for folder in (self.root, *self.reads) for path in _labels(folder)}
        out = {}
        for path in sorted(files):
            facts = os.stat(path)
            out[os.path.relpath(path, self.root)] = (facts.st_size, facts.st_mtime_ns)
        return out


def _labels(path: Path) -> Iterator[Path]:
    """A label file, or those in a folder and in its folders."""
    if path.is_dir():
        for ending in LABELS:
            yield from (found for found in path.glob(f"*{ending}") if found.is_file())
        for folder in (one for one in path.iterdir() if one.is_dir()):
            with os.scandir(folder) as entries:
                yield from (Path(one.path) for one in entries if Path(one.name).suffix in LABELS and one.is_file())
    elif path.suffix in LABELS and path.exists():
        yield path
