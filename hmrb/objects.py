"""Objects of a store elsewhere, by URL: whatever fsspec reads (`s3://`, `gs://`, `https://`, `file://`).

fsspec is imported on first use. Credentials and endpoints come from the library's own files and variables. Each request
has a time-out and is repeated after a failure that may pass. See docs/remote.md.
"""

import json
import os
import random
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

from hmrb.errors import RequestError, RunError
from hmrb.urls import EXAMPLES, local_path, url_of, with_login, without_login
from hmrb.urls import is_url as is_url

T = TypeVar("T")
INSTALL = "pip install 'hmrb[remote]'"
ATTEMPTS = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0  # before attempts 2, 3, ...: doubled each time, times 0.5 to 1.5
PIECE = 8 << 20  # bytes of a request when a file is copied whole
POINTER = b"hmrb-object 1\n"
MOST_POINTER = 1 << 16
ADDRESS = "address.txt"  # of a folder that stands for a store elsewhere


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is there. `version` changes with its content: its ETag or time of change; "" if unknown."""

    url: str
    size: int
    version: str

    @property
    def key(self) -> str:
        """A name for this version of the object that a file can have."""
        return short_hash(self.url, str(self.size), self.version)


def short_hash(*words: str) -> str:
    """16 hex digits of a hash of words."""
    return blake2b(json.dumps(words).encode(), digest_size=8).hexdigest()


def number_of(variable: str, default: float, least: float) -> float:
    """A number from the environment. Raises RequestError if it is none, or less than `least`."""
    text = os.environ.get(variable, "")
    try:
        value = float(text or default)
    except ValueError:
        value = least - 1
    if not least <= value < 1e12:
        raise RequestError(f"{variable}={text}: expected a number of at least {least:g}; without it, {default:g}")
    return value


def cache_root() -> Path:
    """The folder with copies of what is elsewhere: `$HMRB_CACHE`, or ~/.cache/hmrb-objects.

    Raises RequestError if it is a URL.
    """
    try:
        return Path(local_path(os.environ.get("HMRB_CACHE") or "~/.cache/hmrb-objects")).expanduser()
    except RequestError as error:
        told = str(error).partition(": not a URL")[0]
        raise RequestError(f"HMRB_CACHE={told}: a cache is a folder on this machine; set it to a path") from None


def readers() -> int:
    """Requests at a time of each process: `$HMRB_READERS`, or 32."""
    return int(number_of("HMRB_READERS", 32, 1))


def timeout_s() -> float:
    """Seconds after which a request has failed: `$HMRB_TIMEOUT_S`, or 30."""
    return number_of("HMRB_TIMEOUT_S", 30, 0.01)


def object_at(url: str) -> StoredObject | None:
    """An object, or None if it is not there. Raises RequestError if that cannot be found out."""
    try:
        info = _asked(url, "", lambda files, path, limit: files.info(path, **limit))
    except FileNotFoundError:
        return None
    if info.get("type") == "directory" or info.get("size") is None:
        return None
    return StoredObject(url, int(info["size"]), _version(info))


def listed(url: str) -> dict[str, StoredObject]:
    """The objects in a folder by name; none if there is no such folder, or if its server does not list.

    Raises RequestError if the bucket does not exist or may not be read.
    """
    try:
        rows = _asked(url, "", lambda files, path, limit: files.ls(path, detail=True, **limit))
    except FileNotFoundError as error:
        if "bucket" in str(error).lower():
            raise RequestError(f"{url}: no such bucket ({said(error)}); check the name and the endpoint") from None
        return {}
    names = {str(row["name"]).rstrip("/").rpartition("/")[2]: row for row in rows if row.get("type") == "file"}
    return {
        name: StoredObject(f"{url}/{name}", int(row["size"]), _version(row))
        for name, row in names.items()
        if row.get("size") is not None
    }


def read(url: str, start: int, stop: int) -> bytes:
    """Bytes `start` to `stop` of an object. Raises RunError, which names both."""
    if start >= stop:
        return b""

    def once(files: Any, path: str, limit: dict[str, float]) -> bytes:
        data = files.cat_file(path, start=start, end=stop, **limit)
        if len(data) != stop - start:
            raise OSError(f"{len(data):,} bytes came instead of {stop - start:,}")
        return bytes(data)

    try:
        return _asked(url, f", bytes {start:,} to {stop:,}", once, RunError)
    except FileNotFoundError:
        raise RunError(f"{url}, bytes {start:,} to {stop:,}: the object is no longer there") from None


def upload(path: Path, url: str) -> None:
    """Copy a file to an object, whole or not at all. Raises RunError."""

    def once(files: Any, there: str, limit: dict[str, float]) -> None:  # many requests: no time-out of one fits
        if url.startswith("file://"):  # the only one that a reader could see half written
            with part_of(Path(there), url) as part:
                shutil.copyfile(path, part)
        else:
            files.put_file(str(path), there)

    _asked(url, f", from {path}", once, RunError)


def delete(url: str) -> None:
    """Delete an object that may not be there."""
    with suppress(FileNotFoundError):
        _asked(url, "", lambda files, path, limit: files.rm_file(path), RunError)


def mirrored(url: str, folder: Path) -> Path:
    """Copy each object in a folder elsewhere that a local folder does not have in this size, and return the folder."""
    for name, there in listed(url).items():
        path = folder / plain(name, url)
        if not path.is_file() or path.stat().st_size != there.size:
            with part_of(path, url) as part, open(part, "wb") as file:
                for start in range(0, there.size, PIECE):
                    file.write(read(there.url, start, min(start + PIECE, there.size)))
    return folder


def plain(name: str, url: str) -> str:
    """The name, if it stays in its folder. Raises RequestError."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.\- ]*", name):
        raise RequestError(f"{url}: has an object named {name!r}; allowed are letters, digits, _ . - and blanks")
    return name


@contextmanager
def part_of(path: Path, what: str, need_bytes: int = 0) -> Iterator[Path]:
    """A name to write to; becomes `path` at the end of the block. Raises RunError if the disk is full or refuses.

    `what` is the URL that is copied.
    """
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if need_bytes > (free := shutil.disk_usage(path.parent).free):
            raise OSError(f"{need_bytes / 1e9:,.1f} GB are needed, {free / 1e9:,.1f} GB are free")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".part-")
        os.close(handle)
        part = Path(name)
        yield part
        os.replace(part, path)
    except OSError as error:
        raise RunError(
            f"{what}: its copy {path} could not be written ({error.strerror or error}); free space there, or set"
            " HMRB_CACHE to another disk"
        ) from None
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def write_pointer(path: Path, there: StoredObject) -> None:
    """Write a small file that stands for an object, unless it does already."""
    text = POINTER + json.dumps({"url": there.url, "size": there.size, "version": there.version}).encode()
    if not path.is_file() or path.stat().st_size != len(text) or path.read_bytes() != text:
        with part_of(path, there.url) as part:
            part.write_bytes(text)


def pointed(path: Path) -> StoredObject | None:
    """The object that a file stands for; None for any other file, or none. Raises RequestError if it is damaged."""
    try:
        with open(path, "rb") as file:
            if file.read(len(POINTER)) != POINTER:
                return None
            text = file.read(MOST_POINTER)
    except OSError:
        return None
    try:
        about = json.loads(text)
        url, size, version = str(about["url"]), int(about["size"]), str(about["version"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise RequestError(f"{path}: stands for an object elsewhere, but is damaged; delete it") from None
    return StoredObject(url, size, version)


def pointer(url: str) -> Path:
    """A small local file that stands for an object, named like it. Raises RequestError if there is no such object."""
    url = url_of(url)
    there = object_at(url)
    if there is None:
        raise RequestError(f"{url}: no such object")
    name = plain(url.rpartition("/")[2], url)
    path = cache_root() / "single" / short_hash(url) / name
    write_pointer(path, there)
    return path


def size_bytes(path: Path) -> int:
    """The size of a file, or of the object that it stands for."""
    there = pointed(path)
    return there.size if there else path.stat().st_size


def shown(path: Path) -> str:
    """A shard's path for messages, or its URL if it is of a store elsewhere."""
    address = path.parent.parent / ADDRESS
    if there := pointed(path):
        return there.url
    return f"{address.read_text(encoding='utf-8')}/shards/{path.name}" if address.is_file() else str(path)


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    return without_login(" ".join(str(error).split()))[:200] or type(error).__name__


def _asked(
    url: str, what: str, ask: Callable[[Any, str, dict[str, float]], T], kind: type[Exception] = RequestError
) -> T:
    """Ask a library, again and again. Raises `kind` with one message, FileNotFoundError for no such object."""
    limit_s, begun, pause_s = timeout_s(), time.monotonic(), FIRST_PAUSE_S
    files, path = _files(url)
    limit = {"timeout": limit_s} if files.async_impl else {}
    for attempt in range(1, ATTEMPTS + 1):
        try:
            if attempt > 1 or not what:
                files.invalidate_cache()
            return ask(files, path, limit)
        except FileNotFoundError:
            raise
        except (NotImplementedError, PermissionError) as error:
            raise _refused(url, error) from None
        except ValueError as error:
            if not isinstance(error, OSError):  # no answer of a server: the library cannot send this
                raise _malformed(url, error) from None
            raise _refused(url, error) from None  # of a certificate
        except _failures() as error:
            if _lacks_credentials(error):
                raise _refused(url, error) from None
            if attempt == ATTEMPTS:
                seconds = time.monotonic() - begun
                shown = f"no answer within {limit_s:g} s" if isinstance(error, TimeoutError) else said(error)
                raise kind(
                    f"{url}{what}: {shown} ({ATTEMPTS} attempts in {seconds:.0f} s); try again when its server answers,"
                    " or set HMRB_TIMEOUT_S"
                ) from None
        time.sleep(pause_s * random.uniform(0.5, 1.5))
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    raise AssertionError("the last attempt returns or raises")


def _refused(url: str, error: BaseException) -> RequestError:
    return RequestError(
        f"{url}: no access ({said(error)}); credentials are read where its library looks: see docs/remote.md"
    )


def _malformed(url: str, error: BaseException) -> RequestError:
    return RequestError(f"{url}: not a URL that can be read ({said(error)}); write {EXAMPLES}")


def _files(url: str) -> tuple[Any, str]:
    """The file system of a URL, one for each process, and the path in it. Raises RequestError."""
    try:
        import fsspec
    except ImportError:
        raise RequestError(f"{url}: fsspec is required to read a URL but is not installed; run: {INSTALL}") from None
    protocol = url.partition("://")[0]
    options: dict[str, Any] = {}
    if protocol in ("s3", "s3a"):  # its pool of 10 connections would make readers wait
        told = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
        options["config_kwargs"] = {"max_pool_connections": readers()} | told
    try:
        return fsspec.core.url_to_fs(with_login(url), **options)
    except ImportError as error:
        raise RequestError(
            f"{url}: {said(error)}; s3:// needs pip install s3fs, gs:// pip install gcsfs, https:// pip install aiohttp"
        ) from None
    except ValueError as error:
        raise RequestError(f"{url}: {said(error)}; use s3://, gs://, https:// or file://") from None


def _failures() -> tuple[type[BaseException], ...]:
    """What the libraries that are loaded raise when a request fails."""
    named = (
        ("botocore.exceptions", "BotoCoreError"),
        ("aiohttp", "ClientError"),
        ("google.auth.exceptions", "GoogleAuthError"),
        ("gcsfs.retry", "HttpError"),
    )
    kinds = (getattr(sys.modules.get(module), name, None) for module, name in named)
    return (OSError, *(kind for kind in kinds if isinstance(kind, type)))


def _lacks_credentials(error: BaseException) -> bool:
    return type(error).__name__ in (
        "NoCredentialsError",
        "PartialCredentialsError",
        "DefaultCredentialsError",
        "ProfileNotFound",
    )


def _version(info: dict[str, Any]) -> str:
    keys = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "Last-Modified", "created")
    return next((str(info[key]) for key in keys if info.get(key)), "")
