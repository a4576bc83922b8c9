"""Helpers for tests of sources: photos, people and shards of a raw tree."""

from collections.abc import Sequence
from pathlib import Path

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, SplitPlan, convert, pick_parts
from hmrb.data.shard import ShardInfo
from hmrb.data.sources import CONVERTERS
from hmrb.records import Person, Photo
from hmrb.store import Store


def photos_of(parts: Sequence[SplitPlan], split: str) -> list[Photo]:
    """All photos of a split that have people."""
    photos = []
    for part in pick_parts(parts, split):
        for item in part.items:
            for photo in part.read(item):
                assert isinstance(photo, Photo)
                photos += [photo] if photo.people else []
    return photos


def people_of(parts: Sequence[SplitPlan], split: str) -> list[Person]:
    """All people of a split."""
    return [person for photo in photos_of(parts, split) for person in photo.people]


def made(name: str, folder: Path, *, compat: bool = False) -> ShardInfo:
    """The first shard converted from the tree in `folder`/raw, in a store next to it."""
    store = Store(folder / "home")
    source = CONVERTERS[name]
    parts = source.plan(Raw(folder / "raw", compat, store, name=name))
    return convert(source, parts, store, ConversionOptions(made_by="a test", compat=compat), ProgressReporter())[0]
