"""What a file is, by its first bytes, and why it cannot be opened: the words of every reader's message."""

import errno
import glob
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from hmrb.errors import RequestError, RunError

LOOKED_BYTES = 1024
HDF5, ZIP, PICKLE = "an HDF5 file", "a zip archive", "a pickle"
# First bytes of files that are often found under another file's name.
SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer: the file itself was not fetched; run git lfs pull",
    ),
    (b"/annex/objects/", "a git-annex pointer: the file itself was not fetched; run git annex get"),
    (b"\x89HDF\r\n\x1a\n", HDF5),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\0", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!\x1a\x07", "a RAR archive: unpack it first"),
    (b"%PDF-", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array (.npy)"),
    (b"MATLAB ", "a MATLAB file"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (b"GIF8", "a GIF picture"),
    (b"\x80\x02", PICKLE),
    (b"\x80\x03", PICKLE),
    (b"\x80\x04", PICKLE),
    (b"\x80\x05", PICKLE),
)
HTML = (b"<!doctype html", b"<html", b"<head")
_HELD = "held open for writing by another program; wait until it has ended"
REASONS = {
    errno.ENOENT: "no such file",
    errno.EACCES: "not readable by this user",
    errno.EPERM: "not readable by this user",
    errno.EAGAIN: _HELD,
    errno.EWOULDBLOCK: _HELD,
    errno.ENOLCK: "on a file system without locks",
    errno.ENOSYS: "on a file system without locks",
    errno.EIO: "the disk or its network reports an error (input/output error); try again, then check the disk",
    errno.ESTALE: "the network file system lost the file; try again",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "on a read-only file system",
    errno.EISDIR: "a folder, not a file",
    errno.ENOTDIR: "its folder is a file",
    errno.ELOOP: "a symbolic link that leads to itself",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EMFILE: "this process has too many open files; raise the limit (ulimit -n)",
    errno.ENFILE: "this machine has too many open files",
}
# How HDF5 and Rust quote the system's error in their own. EINVAL is left out: it also follows from absurd offsets.
QUOTED = re.compile(r"(?:errno = |os error )(\d+)")


def reason(error: BaseException) -> str:
    """Why the system refused a file, in words that tell apart what to do."""
    if found := system_error(error):
        return REASONS.get(found.errno or 0, found.strerror or str(found))
    return str(error)


def system_error(error: BaseException) -> OSError | None:
    """The system's error in an exception, also where a library has wrapped it; None if there is none."""
    if isinstance(error, OSError) and error.errno:
        return error
    if (quoted := QUOTED.search(str(error))) and int(quoted[1]) != errno.EINVAL:
        return OSError(int(quoted[1]), os.strerror(int(quoted[1])))
    inner = error.__cause__ or error.__context__
    while inner:
        if isinstance(inner, OSError) and inner.errno not in (None, errno.EINVAL):
            return inner
        inner = inner.__cause__ or inner.__context__
    return None


def refusal(error: OSError) -> str:
    """`FILE: reason`, for the end of a command; without the file if the system did not name it."""
    return f"{os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else 'a file'}: {reason(error)}"


def is_about_the_file(error: BaseException) -> bool:
    """Whether an error tells about the file's content, and not about access to it."""
    return system_error(error) is None


def visible(paths: Iterable[Path]) -> list[Path]:
    """These files, sorted, without those that macOS puts beside them: `._name` with a file's icon, `.DS_Store`."""
    return sorted(path for path in paths if not path.name.startswith("._") and path.name != ".DS_Store")


def folders_below(folder: Path, follow_links: bool = False) -> Iterator[tuple[str, list[str], list[str]]]:
    """What `os.walk` yields. Raises RequestError if a folder cannot be listed: `os.walk` and globs pass over it."""

    def refuse(error: OSError) -> None:
        if os.path.basename(str(error.filename)) != "lost+found":  # the system's, at the top of a disk
            raise RequestError(refusal(error)) from None

    yield from os.walk(folder, onerror=refuse, followlinks=follow_links)


def files_in(folder: Path, *patterns: str) -> list[Path]:
    """What is in a folder under names of these patterns, sorted; nothing without a folder.

    Raises RequestError if it cannot be listed: `Path.glob` passes over it.
    """
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RequestError(refusal(error)) from None
    return sorted(folder / name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def matching(pattern: str) -> list[Path]:
    """What `glob.glob` finds. Raises RequestError if a folder in which it looks cannot be listed."""
    parts = Path(pattern).parts
    for depth, part in enumerate(parts):
        if not glob.has_magic(part):
            continue
        before = glob.glob(str(Path(*parts[:depth])), recursive=True) if depth else ["."]
        for folder in (Path(name) for name in before if os.path.isdir(name)):
            below = folders_below(folder)
            for _ in below if part == "**" else islice(below, 1):
                pass
        if part == "**":  # the rest is below
            break
    return [Path(name) for name in glob.glob(pattern, recursive=True)]


def files_below(folder: Path) -> Iterator[Path]:
    """Every file in a folder and in those in it. Raises RequestError if one of them cannot be listed."""
    paths = (Path(place, name) for place, _, names in folders_below(folder) for name in names)
    yield from (path for path in paths if path.is_file())


def what_it_is(path: Path) -> str:
    """What the first bytes of a file show: `an HTML page`, `a PDF document`; empty if they show nothing known."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return "a folder" if stat.S_ISDIR(status.st_mode) else "a device or a pipe, not a file"
        with open(path, "rb") as file:
            return what_bytes_are(file.read(LOOKED_BYTES))
    except (OSError, ValueError):
        return ""


def what_bytes_are(head: bytes) -> str:
    """What the first bytes of a file show; empty if they show nothing known."""
    if not head:
        return "an empty file"
    for signature, name in SIGNATURES:
        if head.startswith(signature):
            return name
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith(HTML) or (text.startswith(b"<?xml") and b"<html" in text):
        return "an HTML page: the download failed or needs a login"
    return "" if head.strip(b"\0") else "a file of zero bytes only: its download or copy was cut off"


def instead(path: Path, *expected: str) -> str:
    """`; it is an HTML page`, for the end of a message; empty if the first bytes show nothing else than `expected`."""
    found = what_it_is(path)
    return f"; it is {found}" if found and found not in expected else ""


def sha256_of(path: Path) -> str:
    """A file's SHA-256, hexadecimal. Raises OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_sha256(path: Path, start: str, advice: str) -> None:
    """Raises RequestError unless the file's SHA-256 begins with `start` (hexadecimal); `advice` ends its message."""
    try:
        found = sha256_of(path)
    except OSError as error:
        raise RequestError(f"{path}: {reason(error)}; {advice}") from None
    if not found.startswith(start):
        raise RequestError(f"{path}: its SHA-256 begins with {found[: len(start)]}, not with {start}; {advice}")


def short_sha(path: Path) -> str:
    """16 hex digits of a file's SHA-256. Raises RunError if it can't be read."""
    try:
        return sha256_of(path)[:16]
    except OSError as error:
        raise RunError(f"{path}: {reason(error)}") from None
