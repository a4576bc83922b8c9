"""The catalogue: which datasets there are, what is known of each, and which shards it has. The rows: catalogue.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from hmrb.errors import RequestError
from hmrb.lookup import find

Role = Literal["train", "test", "auxiliary", "embedded", "extra"]
Origin = Literal["real", "synthetic", "composite"]
Place = Literal["indoor", "outdoor", "mixed", "unknown"]
Annotation = Literal["keypoints2d", "keypoints3d", "smpl", "smplx", "masks", "depth", "normals"]
Status = Literal["verified", "inferred", "unverified"]
ROLES, ORIGINS, PLACES = get_args(Role), get_args(Origin), get_args(Place)
ANNOTATIONS, STATUSES = get_args(Annotation), get_args(Status)


@dataclass(frozen=True, slots=True)
class Size:
    """How many `unit` there are, and how far to trust the number; None where no source has one."""

    count: int | None
    unit: str
    status: Status
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """One row. Specs name it by `slug`; `aliases` are what others call it.

    `role`: to train on; to test on; auxiliary to another; embedded in hmrb; or extra, which a config of the study
    names without a published number. `parent` is the dataset whose pictures these are. `skeleton` is the one that it is
    annotated in. `study_file` is the study's annotation file. `published_pa_mpjpe_mm` is on 3DPW-test, of the study's
    ResNet-50 HMR trained on this alone.
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
    study_file: str = ""
    published_pa_mpjpe_mm: float | None = None
    note: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def shards(self) -> tuple[tuple[str, str], ...]:
        """Dataset and split of each of its shards."""
        return tuple((self.home, split) for split in self.splits)

    @property
    def home(self) -> str:
        """The dataset that its shards are named by: a test set is a split of its parent, if it has one."""
        return self.parent if self.role == "test" and self.parent else self.slug


def dataset(name: str) -> Dataset:
    """The dataset called `name`, by slug or alias; `-` and `_` are the same. Raises UnknownName with the nearest."""
    return find("dataset", ALIASES.get(name.replace("-", "_"), name), DATASETS)


def train_set(name: str) -> Dataset:
    """The dataset with slug `name`, to be trained on. Raises RequestError for an alias and for a test set."""
    row = dataset(name)
    if row.slug != name:
        raise RequestError(f"dataset '{name}' is called '{row.slug}' in specs")
    if row.role == "test":
        raise RequestError(f"'{name}' is a test set, split {row.splits[0]} of '{row.home}': nothing trains on it")
    return row


def _rows() -> dict[str, Dataset]:
    path = Path(__file__).with_suffix(".yaml")
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {slug: _row(slug, role, fields) for role in ROLES for slug, fields in sections[role].items()}


def _row(slug: str, role: Role, fields: Mapping[str, Any]) -> Dataset:
    plain: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in fields.items()}
    plain["size"] = Size(**fields["size"])
    return Dataset(slug=slug, role=role, **plain)


DATASETS = _rows()
ALIASES = {alias: row.slug for row in DATASETS.values() for alias in row.aliases}
