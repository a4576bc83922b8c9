"""A shard's hash: of its content; of all its attributes too in older shards. Each shard is checked against it once."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.data.shard import Shard, ShardError, ShardInfo, pictures_path
from hmrb.store import Store

COUNTS = ("num_people", "num_images", "num_files")
HASHED = {
    "content": ("dataset", "split", "skeleton", "body"),
    "attributes": ("dataset", "split", "skeleton", "body", "made_by", "pictures", "selection", "compat"),
}  # the attributes that count in a sha, by `sha_of`

PIECE = 1 << 24  # bytes hashed at a time
AUTOMATIC_BYTES = 8 << 30  # larger shards are hashed by hmrb verify alone: that takes minutes
SILENT_BYTES = 1 << 29  # smaller shards take a second or two
NOT_VERIFIED = " (not verified)"
_seen: dict[str, Any] = {}  # what this process has verified, for stores that cannot be written


def whole_sha(
    about: dict[str, Any], digests: dict[str, Any], categories: dict[str, dict[bytes, int]], sha_of: str = "content"
) -> str:
    """16 hex digits of a hash over every array's SHA-256 and the attributes that say what the arrays mean.

    How a shard was made (its command, selection, packing) does not count. It counted in older shards
    (`sha_of="attributes"`), which keep their hashes.
    """
    hashed = sorted((key, about[key]) for key in HASHED[sha_of])
    whole = hashlib.sha256(repr(hashed).encode() + repr(sorted(categories.items())).encode())
    for key in sorted(digests):
        whole.update(key.encode() + digests[key].digest())
    return whole.hexdigest()[:16]


def about_of(info: ShardInfo) -> dict[str, Any]:
    """The attributes of a shard that its writer was given."""
    return {key: value for key, value in asdict(info).items() if key not in ("sha", "sha_of", *COUNTS)}


def computed_sha(shard: Shard) -> str:
    """The hash of what the shard's files hold now."""
    arrays = shard.arrays
    digests = {key: hashlib.sha256(np.ascontiguousarray(array).data) for key, array in arrays.items()}
    digests["jpeg/bytes"] = hashlib.sha256()
    for _, part in shard.picture_files():
        for start in range(0, len(part), PIECE):
            digests["jpeg/bytes"].update(part[start : start + PIECE].data)
    categories = {
        key.removeprefix("categories/"): {bytes(name): code for code, name in enumerate(names)}
        for key, names in arrays.items()
        if key.startswith("categories/")
    }
    digests = {key: digest for key, digest in digests.items() if not key.startswith("categories/")}
    return whole_sha(about_of(shard.info), digests, categories, shard.info.sha_of)


def check_once(shard: Shard, store: Store) -> bool:
    """Compares a shard with its hash, unless its files have the size and time of an earlier comparison.

    Returns False if it is too large to be compared without being asked. Raises ShardError if it is damaged.
    """
    if is_verified(shard, store):
        return True
    size = sum(size for size, _ in _stamp(shard))
    if size > AUTOMATIC_BYTES:
        print(
            f"hmrb: {shard.path} is not verified: a flipped bit would not be noticed; hmrb verify {shard.path} checks"
            " it once",
            file=sys.stderr,
        )
        return False
    if size > SILENT_BYTES:
        print(f"hmrb: {shard.path}: comparing {size / 1e9:.1f} GB with their hash, once", file=sys.stderr, flush=True)
    if (sha := computed_sha(shard)) != shard.info.sha:
        raise ShardError(
            f"{shard.path}: computed sha {sha}, stored sha {shard.info.sha}: the shard is damaged or was modified;"
            f" recreate it: {shard.info.made_by}"
        )
    remember(shard, store)
    return True


def is_verified(shard: Shard, store: Store) -> bool:
    """Whether the shard's files have the sizes and times with which they once had the shard's hash."""
    now, name = [shard.info.sha, *map(list, _stamp(shard))], str(shard.path.absolute())
    return now in (_known(store).get(name), _seen.get(name))


def remember(shard: Shard, store: Store) -> None:
    """Notes that a shard has its hash. A store that cannot be written is left alone."""
    entry = {str(shard.path.absolute()): [shard.info.sha, *map(list, _stamp(shard))]}
    _seen.update(entry)
    path = _notes(store)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(_known(store) | entry, indent=1), encoding="utf-8")
        os.replace(part, path)
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def marked_sha(shard: Shard, store: Store) -> str:
    """The shard's hash for a record, with NOT_VERIFIED behind it if nobody has compared it with the files."""
    return shard.info.sha + ("" if is_verified(shard, store) else NOT_VERIFIED)


def _notes(store: Store) -> Path:
    return store.root / "shards" / "verified.json"


def _known(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(_notes(store).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _stamp(shard: Shard) -> list[tuple[int, int]]:
    """Size in bytes and time of change in nanoseconds of each of the shard's files."""
    paths = [shard.path, *(pictures_path(shard.path, number) for number in range(shard.info.num_files))]
    return [(found.st_size, found.st_mtime_ns) for found in map(Path.stat, paths)]
