"""Finished blocks of a conversion, kept next to the shard until it is complete. One conversion at a time owns them."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import cache
from io import FileIO
from pathlib import Path
from typing import Any

from hmrb import system
from hmrb.data.convert.people import Tally
from hmrb.data.convert.writer import guard
from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import short_sha
from hmrb.formats.writing import replacing

CODE = ("data", "formats", "synthetic", "records.py", "skeleton.py", "bodykind.py")  # what a block depends on


@dataclass(frozen=True, slots=True)
class BlockReport:
    """What a block holds, written after it, even after an empty one.

    `sha` is of its file, "" if nobody is in it. `missing` are its unreadable images; `left_out` and `doubtful` count
    people by reason.
    """

    people: int
    sha: str
    missing: list[str] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    doubtful: dict[str, int] = field(default_factory=dict)


@contextmanager
def open_blocks(path: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """The folder of the finished blocks of the shard at `path`; blocks of another plan are deleted.

    Raises RequestError if another conversion has it.
    """
    folder = folder_of(path)
    with _locked(folder, path):
        guard(path, lambda: _keep_only(folder, json.dumps(plan, sort_keys=True)))
        yield folder


def folder_of(path: Path) -> Path:
    """Folder of a shard's finished blocks until the shard is complete."""
    return path.parent / f".{path.stem}.blocks"


def block_file(folder: Path, number: int) -> Path:
    """The file of a block that is not empty."""
    return folder / f"{number:06d}.h5"


def read_report(folder: Path, number: int) -> BlockReport | None:
    """The report of a block that can be joined as it is, or None. Blocks with missing images are tried again."""
    try:
        report = BlockReport(**json.loads((folder / f"{number:06d}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    whole = not report.people or block_file(folder, number).exists()
    return report if whole and not report.missing else None


def write_report(folder: Path, number: int, report: BlockReport) -> None:
    """Mark a block as done."""
    with replacing(folder / f"{number:06d}.json") as part:
        part.write_text(json.dumps(asdict(report)), encoding="utf-8")


def whole_blocks(path: Path, folder: Path, reports: dict[int, BlockReport]) -> list[Path]:
    """The files of all blocks that are not empty, in order.

    Raises RunError if one of them is not what was written.
    """
    files = []
    for number, report in sorted(reports.items()):
        if not report.people:
            continue
        file = block_file(folder, number)
        if not file.exists() or short_sha(file) != report.sha or Shard(file).info.num_people != report.people:
            (folder / f"{number:06d}.json").unlink(missing_ok=True)
            raise RunError(
                f"{file}: this block of {report.people} people is gone or damaged; run the command again, which writes"
                " it anew. Nothing was joined"
            )
        files.append(file)
    return files


def digest(*values: object) -> str:
    """A hash of what a plan reads: equal for equal plans; another one costs only the finished blocks."""
    try:
        content = pickle.dumps(values)
    except (pickle.PicklingError, AttributeError, TypeError):  # a function inside a function
        content = repr(values).encode()
    return hashlib.sha256(content).hexdigest()[:16]


@cache
def code_sha() -> str:
    """A hash of the code that makes blocks, and of its pictures: blocks that others made are not kept."""
    home, whole = Path(__file__).parents[2], hashlib.sha256()
    for name in CODE:
        files = (
            [*(home / name).rglob("*.py"), *(home / name).rglob("*.jpg")] if (home / name).is_dir() else [home / name]
        )
        for path in sorted(files):
            whole.update(path.relative_to(home).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()[:16]


def tally_of(reports: Iterable[BlockReport]) -> Tally:
    """How many people were left out or are doubtful, by reason."""
    tally = Tally()
    for report in reports:
        tally.left_out.update(report.left_out)
        tally.doubtful.update(report.doubtful)
    return tally


def _keep_only(folder: Path, said: str) -> None:
    """Delete the blocks of other plans than `said`."""
    note = folder / "plan.json"
    if not note.exists() or note.read_text() != said:
        for old in folder.iterdir():
            if old.name != ".lock":
                shutil.rmtree(old) if old.is_dir() else old.unlink()
        with replacing(note) as part:
            part.write_text(said, encoding="utf-8")


@contextmanager
def _locked(folder: Path, path: Path) -> Iterator[None]:
    """Hold a folder until the process ends, however it ends."""
    lock = guard(path, lambda: _lock(folder, path))
    with lock:
        yield


def _lock(folder: Path, path: Path) -> FileIO:
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = open(folder / ".lock", "ab+", buffering=0)  # noqa: SIM115  held until the end
        except FileNotFoundError:
            continue  # its last owner has just removed the folder
        try:
            system.lock(lock)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().decode(errors="replace").strip() or "another process"
            lock.close()
            raise RequestError(
                f"{path}: another conversion is writing it ({holder}); wait for it, or write elsewhere with --out"
            ) from None
        except OSError:  # a file system without locks
            return lock
        with suppress(FileNotFoundError):
            if os.fstat(lock.fileno()).st_ino == os.stat(folder / ".lock").st_ino:
                with suppress(OSError):  # who holds it is told if it can be: a full disk has its own message
                    lock.truncate(0)
                    lock.write(f"process {os.getpid()}".encode())
                return lock
        lock.close()
