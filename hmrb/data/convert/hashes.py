"""A shard's hash: of its content; of all its attributes too in older shards."""

import hashlib
from dataclasses import asdict
from typing import Any

from hmrb.data.shard import ShardInfo

COUNTS = ("num_people", "num_images", "num_files")
HASHED = {
    "content": ("dataset", "split", "skeleton", "body"),
    "attributes": ("dataset", "split", "skeleton", "body", "made_by", "pictures", "selection", "compat"),
}  # the attributes that count in a sha, by `sha_of`


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
