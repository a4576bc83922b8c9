"""Names of datasets that are not in the catalogue: the shards that users pack from files of their own."""

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hmrb.data.convert.catalogue import DATASETS, Dataset, Size, dataset, spoken, train_set
from hmrb.errors import RequestError
from hmrb.formats.files import files_in
from hmrb.lookup import UnknownName, did_you_mean
from hmrb.objects import is_url, pointer
from hmrb.plugins import offered
from hmrb.store import Store
from hmrb.urls import local_path

if TYPE_CHECKING:
    from hmrb.data.shard import Shard, ShardInfo

OWN_NAME = re.compile(r"[a-z0-9_-]+")


def is_own(name: str) -> bool:
    """Whether a name can be a user's: not in the catalogue, and of a-z, 0-9, _ and -."""
    return bool(OWN_NAME.fullmatch(name)) and not spoken(name)


def shard_name(name: str, split: str) -> tuple[str, bool]:
    """The dataset that a shard of packed data is named after, and whether it is the user's own; `-` becomes `_`.

    Raises RequestError if a name or the split is not allowed.
    """
    if is_own(name):
        if not OWN_NAME.fullmatch(split):
            raise RequestError(f"--split {split}: the name of a split has the letters a-z, digits, _ and -")
        return name.replace("-", "_"), True
    if not spoken(name):
        raise RequestError(
            f"--as {name}: not a dataset of the catalogue{did_you_mean(name, DATASETS)}; a name of your own has the"
            " letters a-z, digits, _ and -"
        )
    slug = dataset(name).slug
    known = {row_split for row in DATASETS.values() for owner, row_split in row.shards if owner == slug}
    if split not in known:
        raise RequestError(f"{slug} has no split '{split}'; it has {', '.join(sorted(known))}")
    return slug, False


def trainable(name: str, store: Store) -> None:
    """Raises RequestError if `name` is neither a training set of the catalogue nor a shard in the store."""
    if is_own(name):
        if store.shard(name.replace("-", "_"), "train").is_file():
            return
        if is_offered(name):
            raise RequestError(f"no shard of '{name}' is here; make it: {offered_command(name)}")
        near = did_you_mean(name, [*DATASETS, *offered("dataset")])
        raise UnknownName(
            f"no dataset named '{name}'.{near} hmrb list-datasets lists the catalogue; data of your own:"
            f" hmrb convert-data coco-json --file FILE --images DIR --as {name}"
        )
    train_set(name)


def is_offered(name: str) -> bool:
    """Whether an installed package has a converter of this name."""
    return name.replace("-", "_") in offered("dataset")


def offered_command(name: str) -> str:
    """The command that makes the shards of a dataset of another package."""
    return f"hmrb convert-data {name} --raw DIR"


def own_shards(store: Store) -> list[Path]:
    """The shards in the store whose file names are not of the catalogue."""
    known = {store.shard(owner, split) for row in DATASETS.values() for owner, split in row.shards}
    return [path for path in files_in(store.root / "shards", "[!.]*.h5") if path not in known and _is_main(path)]


def find_shard(name: str, store: Store) -> "Shard":
    """Open a shard by path, or by NAME_SPLIT in the store. Raises RequestError if it does not exist."""
    from hmrb.data.shard import Shard  # HDF5 only if there is something to read

    if is_url(name):
        return Shard(pointer(name))
    family, _, split = name.rpartition("_")
    key, slug = name.replace("-", "_"), spoken(family)
    keys = [key, *([f"{slug}_{split.lower()}"] if slug else [])]
    for path in (Path(name), *(store.root / "shards" / f"{key}.h5" for key in keys)):
        if path.is_file():
            return Shard(path)
    there = ", ".join(path.stem for path in files_in(store.root / "shards", "*.h5")) or "none"
    raise RequestError(f"no shard {local_path(name)}: not a file, and not in {store.place}/shards, which has: {there}")


def own_datasets(store: Store) -> list[Dataset]:
    """The user's datasets with shards in the store, as rows like the catalogue's."""
    if not (paths := own_shards(store)):
        return []
    from hmrb.data.shard import Shard  # HDF5 only if there is something to read

    splits: dict[str, list[ShardInfo]] = {}
    for path in paths:
        with suppress(RequestError):  # hmrb verify says what is wrong with it
            info = Shard(path).info
            if path == store.shard(info.dataset, info.split):
                splits.setdefault(info.dataset, []).append(info)
    return [_row(name, infos) for name, infos in splits.items()]


def offered_rows() -> list[Dataset]:
    """The datasets that installed packages offer, as rows like the catalogue's; imports no package."""
    return [
        Dataset(
            slug=name, name=name, role="own", year=None, venue="", source="real", place="unknown", annotations=(),
            size=Size(None, "people", "unverified"), licence="unknown", homepage="",
            access=f"package {plugins[0].package}", skeleton="", splits=(),
        )
        for name, plugins in sorted(offered("dataset").items())
    ]  # fmt: skip


def _row(name: str, infos: "list[ShardInfo]") -> Dataset:
    return Dataset(
        slug=name, name=name, role="own", year=None, venue="", source="real", place="unknown", annotations=(),
        size=Size(sum(info.num_people for info in infos), "people", "verified"), licence="unknown",
        homepage="", access="own", skeleton=infos[0].skeleton,
        splits=tuple(info.split for info in infos), note="; ".join(info.source for info in infos),
    )  # fmt: skip


def _is_main(path: Path) -> bool:
    """Whether a file is a shard, not the images of one."""
    return not re.search(r"\.pictures-\d+$", path.stem)
