"""Send a finished shard to the store elsewhere that its folder stands for, with checksums of its pictures."""

import hashlib
import re
import tempfile
from hashlib import blake2b
from pathlib import Path

from hmrb import objects
from hmrb.data.remote import SUM_BYTES, sums_url
from hmrb.data.shard import Shard, pictures_path
from hmrb.errors import RunError


def publish(path: Path) -> None:
    """Upload the shard at `path` and put a pointer in its place; nothing for a store that is here.

    Every object is read back and compared. The shard itself is the last: until then readers find the older one, or
    none. Raises RunError, and keeps the whole shard at `path`.
    """
    address = path.parent.parent / objects.ADDRESS
    if not address.is_file():
        return
    url = objects.shown(path)
    shard = Shard(path)
    pictures = [pictures_path(path, number) for number in range(shard.info.num_files)]
    try:
        for part in pictures:
            _send(part, f"{url.rpartition('/')[0]}/{part.name}")
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as folder:
            sums = Path(folder) / "sums"
            write_sums(shard, sums)
            _send(sums, sums_url(url, shard.info.sha))
        _send(path, url)
    except RunError as error:
        raise RunError(f"{error}. The shard is kept at {path}; the same command sends it again") from None
    there = objects.object_at(url)
    if there is None:
        raise RunError(f"{url}: is gone right after it was written. The shard is kept at {path}")
    _delete_older(url, shard.info.sha, shard.info.num_files)
    objects.write_pointer(path, there)
    for part in pictures:
        part.unlink(missing_ok=True)


def write_sums(shard: Shard, path: Path) -> None:
    """Write the checksums of a shard's pictures: SHA-256 of all, then 8 bytes of each."""
    whole = hashlib.sha256()
    with open(path, "wb") as file:
        file.write(bytes(32))
        for image in range(shard.info.num_images):
            data = shard.picture(image)
            whole.update(data)
            file.write(blake2b(data, digest_size=SUM_BYTES).digest())
        file.seek(0)
        file.write(whole.digest())


def _send(path: Path, url: str) -> None:
    """Upload a file, unless the object has its bytes, and compare. Raises RunError."""
    size, there = path.stat().st_size, objects.object_at(url)
    if there is None or there.size != size or not _is_same(path, url, size):
        objects.upload(path, url)
        if not _is_same(path, url, size):
            raise RunError(f"{url}: what was read back is not what was written, from {path}")


def _is_same(path: Path, url: str, size: int) -> bool:
    with open(path, "rb") as file:
        return all(
            file.read(objects.PIECE) == objects.read(url, at, min(at + objects.PIECE, size))
            for at in range(0, size, objects.PIECE)
        )


def _delete_older(url: str, sha: str, num_files: int) -> None:
    """Delete the checksums and files of pictures of an older shard at the same place."""
    folder, _, name = url.rpartition("/")
    stem = re.escape(name.removesuffix(".h5"))
    for other in objects.listed(folder):
        found = re.fullmatch(rf"{stem}\.(?:([0-9a-f]{{16}})\.sums|pictures-(\d+)\.h5)", other)
        if found and (found[1] != sha if found[1] else int(found[2]) >= num_files):
            objects.delete(f"{folder}/{other}")
