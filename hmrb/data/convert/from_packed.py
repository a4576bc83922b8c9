"""Convert packed annotation files of other projects to shards."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from hmrb.data.convert.catalogue import DATASETS, dataset
from hmrb.data.convert.conversion import ORIGINAL, ConversionOptions, ProgressReporter
from hmrb.data.convert.pack import pack
from hmrb.data.convert.packed_files import pictures_in, read_4dhumans, read_bedlam, read_human_data, read_spin
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import ShardInfo
from hmrb.errors import RequestError
from hmrb.lookup import find
from hmrb.records import Person, Photo, Sample
from hmrb.skeleton import TRAINING_SKELETON
from hmrb.store import Store

PERSON = tuple(Person.__dataclass_fields__)


def repack(
    kind: str,
    file: Path,
    images: Path | None,
    name: str,
    split: str,
    store: Store,
    making: ConversionOptions,
    ticker: ProgressReporter,
) -> ShardInfo:
    """Write the shard of a dataset's split from a packed file. Raises RequestError for invalid options."""
    slug = dataset(name).slug
    known = {row_split for row in DATASETS.values() for owner, row_split in row.shards if owner == slug}
    if split not in known:
        raise RequestError(f"{slug} has no split '{split}'; it has {', '.join(sorted(known))}")
    if making.compat or making.missing_limit:
        raise RequestError(f"{kind}: --compat and --allow-missing apply to raw files only and have no effect here")
    read = reader(kind, file, images)
    packing = making.packing if split == "train" else ORIGINAL
    path = store.shard(slug, split)
    ticker.part(path, 0)
    with ShardWriter(
        path, dataset=slug, split=split, skeleton=TRAINING_SKELETON, body="smpl", made_by=making.made_by,
        pictures=packing.name, selection=making.selection.name,
    ) as writer:  # fmt: skip
        for number, row in enumerate(read()):
            ticker.done(row)
            if making.selection.keeps(row.name, number):
                for sample in pack(_photo(row), packing):
                    writer.add(sample)
    return writer.info


def reader(kind: str, file: Path, images: Path | None) -> Callable[[], Iterator[Sample]]:
    """Return the reader of a packed file's rows. Raises RequestError if the image folder is required but missing."""
    read = find("kind of packed file", kind, PACKED)
    if kind.replace("-", "_") == "4dhumans":
        return partial(read, file)
    if images is None or not images.is_dir():
        raise RequestError(f"{kind}: --images DIR must be the folder that the file's image names are relative to")
    return partial(read, file, pictures_in(images))


def _photo(sample: Sample) -> Photo:
    person = Person(**{key: getattr(sample, key) for key in PERSON})
    return Photo(name=sample.name, people=(person,), data=sample.jpeg)


PACKED: dict[str, Callable[..., Iterator[Sample]]] = {
    "humandata": read_human_data,
    "spin": read_spin,
    "bedlam": read_bedlam,
    "4dhumans": read_4dhumans,
}
