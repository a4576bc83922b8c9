"""The dataset catalogue: what is known about each dataset, and its shards. The rows are in catalogue.yaml."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from hmrb.errors import RequestError
from hmrb.lookup import find

Role = Literal["train", "test", "auxiliary", "embedded", "extra", "own"]
Origin = Literal["real", "synthetic", "composite"]
Place = Literal["indoor", "outdoor", "mixed", "unknown"]
Annotation = Literal["keypoints2d", "keypoints3d", "smpl", "smplx", "masks", "depth", "normals"]
Status = Literal["verified", "inferred", "unverified"]
ROLES, ORIGINS, PLACES = get_args(Role), get_args(Origin), get_args(Place)
ANNOTATIONS, STATUSES = get_args(Annotation), get_args(Status)


@dataclass(frozen=True, slots=True)
class Size:
    """The number of `unit`s and how reliable it is; `count` is None if no source states a number."""

    count: int | None
    unit: str
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One catalogue row. Specs refer to it by `slug`; `aliases` are other common names.

    `role`: training set, test set, auxiliary to another dataset, embedded in hmrb, extra (a config of the study or
    another method names it, without a number of the study), or own: of a user's shard, no row of the catalogue.
    `packed` is the kind of packed file that its shards are made from, "" where hmrb reads raw files. `parent` is
    the dataset that the images come from. `skeleton` is the skeleton of its annotations. `study_file` is the
    study's annotation file. `published_pa_mpjpe_mm` is the error on 3DPW-test of the study's ResNet-50 HMR trained
    on this dataset alone.
    """

    slug: str
    name: str
    role: Role
    year: int | None
    venue: str
    source: Origin
    place: Place
    annotations: tuple[Annotation, ...]
    size: Size
    licence: str
    homepage: str
    access: str
    skeleton: str
    splits: tuple[str, ...] = ("train",)
    parent: str = ""
    packed: str = ""
    study_file: str = ""
    published_pa_mpjpe_mm: float | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[tuple[str, str], ...]:
        """The (dataset, split) pairs of its shards."""
        return tuple((self.home, split) for split in self.splits)

    @property
    def packed_command(self) -> str:
        """The command that makes its shard from packed files; "" where hmrb reads raw files."""
        images = "" if self.packed == "4dhumans" else " --images DIR"  # 4D-Humans' tars have the images in them
        return f"hmrb convert-data {self.packed} --file DIR{images} --as {self.slug}" if self.packed else ""

    @property
    def home(self) -> str:
        """The dataset that its shards are named after: a test set with a parent is a split of the parent."""
        return self.parent if self.role == "test" and self.parent else self.slug


def dataset(name: str) -> Dataset:
    """Find a dataset by slug, name or alias in any case. Raises UnknownName with the closest names."""
    return find("dataset", spoken(name) or name, DATASETS)


def spoken(name: str) -> str:
    """The slug of the dataset that people call `name`: MPI-INF-3DHP, Human3.6M, COCO 2014; "" if there is none."""
    return SPOKEN.get(_letters(name), "") if re.fullmatch("[A-Za-z0-9][A-Za-z0-9 ._,()-]*", name) else ""


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")


def train_set(name: str) -> Dataset:
    """Find the training set with slug `name`. Raises RequestError for an alias or a test set."""
    row = dataset(name)
    if row.slug != name:
        raise RequestError(f"dataset '{name}' is an alias; use '{row.slug}' in specs")
    if row.role == "test":
        raise RequestError(f"'{name}' is a test set (split {row.splits[0]} of '{row.home}') and cannot be trained on")
    return row


def _rows() -> dict[str, Dataset]:
    path = Path(__file__).with_suffix(".yaml")
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {
        slug: _row(slug, role, fields) for role in ROLES if role in sections for slug, fields in sections[role].items()
    }


def _row(slug: str, role: Role, fields: Mapping[str, Any]) -> Dataset:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    plain["size"] = Size(**fields["size"])
    return Dataset(slug=slug, role=role, **plain)


DATASETS = _rows()
ALIASES = {alias: row.slug for row in DATASETS.values() for alias in row.aliases}
# A slug wins over an alias, and an alias over a full name.
SPOKEN = {_letters(row.name): row.slug for row in DATASETS.values()}
SPOKEN |= {_letters(alias): slug for alias, slug in ALIASES.items()} | {_letters(slug): slug for slug in DATASETS}
