"""Write files whole or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING

import h5py

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


@contextmanager
def replacing(path: Path, older: Path | None = None) -> Iterator[Path]:
    """A temporary name beside `path`: what the block writes there is flushed and replaces `path` at its end.

    If the block raises, or the file cannot be flushed or renamed, `path` is as it was and the temporary file is gone.
    With `older`, the file that was at `path` is renamed to it.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        if older and path.exists():
            os.replace(path, older)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise
    with suppress(OSError):  # the file is whole; a folder that cannot be flushed may forget a rename if power fails
        _flush_folder(path.parent)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def hdf5_file(path: Path) -> Iterator[h5py.File]:
    """A new HDF5 file to write to. Raises OSError after the block if any of it could not be written.

    HDF5 does not survive an error of its driver: it fails again when it closes the file, and may crash the process.
    So it is told that every write succeeded, and the first error is raised once the file is closed.
    """
    with _Patient(path) as raw:
        with h5py.File(raw, "w") as file:
            yield file
        if raw.failure:
            raise raw.failure


class _Patient(FileIO):
    """A file that keeps its first error of writing and pretends success from then on."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.failure: OSError | None = None

    def write(self, data: "ReadableBuffer") -> int:
        view = memoryview(data).cast("B")
        done = 0
        try:
            while done < len(view) and not self.failure:
                done += super().write(view[done:]) or 0
        except OSError as error:
            self.failure = error
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        try:
            count = super().readinto(view) or 0
        except OSError as error:
            self.failure, count = self.failure or error, 0
        view[count:] = bytes(len(view) - count)  # what was not written
        return len(view)
