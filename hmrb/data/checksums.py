"""A shard's hash: of its content; of all its attributes too in older shards. Each shard is checked against it once."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.data.ranges import pictures_sha
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
_seen: dict[str, Any] = {}  # what this process has verified, or told of


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


@dataclass(frozen=True, slots=True)
class Digest:
    """A digest that is known."""

    value: bytes

    def digest(self) -> bytes:
        """As of hashlib."""
        return self.value


def computed_sha(shard: Shard, pictures: bytes = b"") -> str:
    """The hash of what the shard's files hold now; `pictures` is the digest of its pictures, if that is known."""
    arrays = shard.arrays
    digests: dict[str, Any] = {
        key: hashlib.sha256(np.ascontiguousarray(array).data) for key, array in arrays.items() if key != "jpeg/bytes"
    }
    digests["jpeg/bytes"] = Digest(pictures or pictures_digest(shard))
    categories = {
        key.removeprefix("categories/"): {bytes(name): code for code, name in enumerate(names)}
        for key, names in arrays.items()
        if key.startswith("categories/")
    }
    digests = {key: digest for key, digest in digests.items() if not key.startswith("categories/")}
    return whole_sha(about_of(shard.info), digests, categories, shard.info.sha_of)


def pictures_digest(shard: Shard) -> bytes:
    """The SHA-256 of all pictures, wherever they are."""
    digest = hashlib.sha256()
    if shard.ranges:
        for piece in shard.ranges.pieces(PIECE):
            digest.update(piece)
        return digest.digest()
    for _, part in shard.picture_files():
        for start in range(0, len(part), PIECE):
            digest.update(part[start : start + PIECE].data)
    return digest.digest()


def check_once(shard: Shard, store: Store) -> bool:
    """Compares a shard with its hash, unless its files have the size and time of an earlier comparison.

    Returns False if it is too large to be compared without being asked. Raises ShardError if it is damaged.
    """
    if is_verified(shard, store):
        return True
    if shard.ranges:
        return _check_labels(shard, store)
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


def _check_labels(shard: Shard, store: Store) -> bool:
    """Compares the labels of a shard elsewhere, if it has checksums of its pictures; those are compared when read."""
    if not (pictures := pictures_sha(shard.path)):
        if shard.place not in _seen:
            print(
                f"hmrb: {shard.place} has no checksums of its pictures: a flipped bit would not be noticed; hmrb verify"
                f" {shard.place} reads all of it once",
                file=sys.stderr,
            )
        _seen.setdefault(shard.place, "told")
        return False
    if (sha := computed_sha(shard, pictures)) != shard.info.sha:
        raise ShardError(
            f"{shard.place}: computed sha {sha}, stored sha {shard.info.sha}: its labels are damaged; copy it there"
            f" again, and delete {shard.path.parent}"
        )
    remember(shard, store)
    return True


def is_verified(shard: Shard, store: Store) -> bool:
    """Whether the shard's files have the sizes and times with which they once had the shard's hash."""
    now, name = [shard.info.sha, *map(list, _stamp(shard))], str(shard.path.absolute())
    if now == _known(store).get(name):
        _seen[name] = now  # also where the note cannot be read another time
    return now == _seen.get(name)


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
