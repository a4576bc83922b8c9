"""Paths of shards, body models, weights, models and occluders."""

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hmrb.objects import (
    ADDRESS,
    cache_root,
    listed,
    mirrored,
    object_at,
    part_of,
    pointed,
    short_hash,
    write_pointer,
)
from hmrb.urls import is_url, local_path, url_of


@dataclass(frozen=True, slots=True)
class Store:
    """A folder with shards/, bodies/, weights/, models/ and occluders/. `$HMRB_HOME`, or ~/.cache/hmrb.

    For a store elsewhere, at `url`, `root` is a local folder: in its shards/, small files stand for the objects there.
    """

    root: Path
    url: str = ""

    @classmethod
    def default(cls) -> "Store":
        """The store at `$HMRB_HOME`, or at ~/.cache/hmrb."""
        return cls.at(os.environ.get("HMRB_HOME") or "~/.cache/hmrb")

    @classmethod
    def at(cls, place: str) -> "Store":
        """The store at a path or URL. Raises RequestError if it is malformed, or if the URL cannot be listed."""
        if not is_url(place):
            return cls(Path(local_path(place)).expanduser())
        url = url_of(place)
        return cls(_local(url), url)

    @property
    def place(self) -> str:
        """Its URL or path, for messages."""
        return self.url or str(self.root)

    @property
    def bodies(self) -> Path:
        """Body models: bodies/smpl/SMPL_NEUTRAL.npz, J_regressor_h36m.npy, ..."""
        if self.url:
            _bodies(self.url, self.root)
        return self.root / "bodies"

    @property
    def weights(self) -> Path:
        """Pretrained weights of backbones."""
        return self.root / "weights"

    @property
    def models(self) -> Path:
        """Complete models of other projects, under the names that they were published with."""
        return self.root / "models"

    @property
    def imported(self) -> Path:
        """The same as hmrb checkpoints, each named after the hash of the original file."""
        return self.models / "imported"

    @property
    def pascal(self) -> Path:
        """Objects cut from Pascal VOC, to paste over people."""
        folder = self.root / "occluders"
        return (mirrored(f"{self.url}/occluders", folder) if self.url else folder) / "pascal.npz"

    @property
    def speeds(self) -> Path:
        """What `hmrb doctor --speed` measured, by machine."""
        return self.root / "speed.json"

    def shard(self, dataset: str, split: str) -> Path:
        """The shard of one split of a dataset."""
        path = self.root / "shards" / f"{dataset}_{split}.h5"
        if self.url and not path.exists() and (there := object_at(f"{self.url}/shards/{path.name}")):
            write_pointer(path, there)  # of a server that does not list
        return path


@cache
def _local(url: str) -> Path:
    """The local folder of a store elsewhere, with a pointer to each of its shards as they are now.

    A whole shard in it, which could not be uploaded, stays.
    """
    root = cache_root() / "stores" / short_hash(url)
    folder, there = root / "shards", listed(f"{url}/shards")
    with part_of(root / ADDRESS, url) as part:
        part.write_text(url, encoding="utf-8")
    for name, found in there.items():
        path = folder / name
        if name.endswith(".h5") and (not path.exists() or pointed(path)):
            write_pointer(path, found)
    for path in folder.glob("*.h5"):
        if there and path.name not in there and pointed(path):
            path.unlink(missing_ok=True)
    return root


@cache
def _bodies(url: str, root: Path) -> None:
    for kind in ("smpl", "smplx", "open"):
        mirrored(f"{url}/bodies/{kind}", root / "bodies" / kind)
