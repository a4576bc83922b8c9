"""Results: one record per checkpoint and benchmark, NAME.json, with per-person data in NAME_samples.h5.

docs/results.md describes the fields. Reading rejects a record that was modified, whose per-person data is missing, or
whose protocol this version does not have.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hmrb.errors import RequestError
from hmrb.evaluation.metric_table import BETTER, TITLES, UNITS
from hmrb.evaluation.protocols import find_benchmark
from hmrb.formats.files import instead, reason
from hmrb.formats.hdf5 import read_arrays
from hmrb.lookup import UnknownName
from hmrb.spec import Published

FORMAT = 3
MOST_BYTES = 64 << 20
PREDICTIONS = ("rotmats", "betas", "camera")


class RecordModel(BaseModel):
    """A frozen model; rejects unknown keys and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Number(RecordModel):
    """A metric's mean over people, in its unit, and the mean body's value."""

    value: float
    ci95: tuple[float, float]
    unit: str
    better: Literal["lower", "higher"]
    mean_body: float
    people: int


class SubgroupScores(RecordModel):
    """A group of people: their number, and the value and interval of each metric."""

    label: str
    num_people: int
    metrics: dict[str, tuple[float, tuple[float, float]]]


class Conditions(RecordModel):
    """The full protocol, and the hashes of the bodies, regressor and shard that were used."""

    dataset: str
    split: str
    truth: str
    joints: tuple[str, ...]
    regressor: str
    root: tuple[str, ...]
    min_labelled: float
    box_scale: float
    body_sha: str
    regressor_sha: str
    truth_bodies: dict[str, dict[str, str | int]]
    shard: dict[str, str | int | float]
    crop: str = "dataset"
    """What the network saw of a person: the dataset's square, or the crop of the method of this name."""


class Provenance(RecordModel):
    """Origin of the predictions; mostly unknown for foreign files."""

    experiment: str
    checkpoint: dict[str, str | int]
    chosen_by: str
    body: dict[str, str]
    trained_on: dict[str, str]
    siblings_trained_on: tuple[str, ...] | None
    spec: dict[str, Any]
    knobs: dict[str, Any] = {}
    mean_body: str = "the regressor's mean body"


class Machine(RecordModel):
    """Hardware, software and speed of the evaluation."""

    device: str
    processes: int
    dtype: str
    hmrb: str
    torch: str
    numpy: str
    python: str
    date: str
    seconds: float
    images_per_s: float


class Record(RecordModel):
    """Result of one checkpoint on one benchmark."""

    format: Literal[3] = 3
    benchmark: str
    protocol: str
    conditions: Conditions
    metrics: dict[str, Number]
    left_out: dict[str, str]
    intervals_over: str
    per_joint: dict[str, float]
    per_joint_unit: str
    num_people: int
    skipped: dict[str, int]
    degenerate: dict[str, int]
    labelled_joints: int
    slices: dict[str, tuple[SubgroupScores, ...]] = {}
    source: Provenance
    machine: Machine
    samples_sha: str
    sha: str = Field(default="", pattern="^([0-9a-f]{16})?$")

    def sealed(self) -> "Record":
        """The record with the hash of its other fields."""
        return self.model_copy(update={"sha": self._hash()})

    @property
    def is_as_written(self) -> bool:
        """Whether the hash matches the content."""
        return self.sha == self._hash()

    @property
    def comparable(self) -> dict[str, str]:
        """Values that must be equal for two records to be comparable."""
        truth = {gender: str(body["sha"]) for gender, body in self.conditions.truth_bodies.items()}
        return {
            "protocol": self.protocol,
            "shard": str(self.conditions.shard["sha"]),
            "body": self.conditions.body_sha,
            "regressor": self.conditions.regressor_sha,
            "bodies of the truth": " ".join(f"{gender} {sha}" for gender, sha in sorted(truth.items())) or "none",
            "people": str(self.num_people),
        }

    def _hash(self) -> str:
        content = self.model_dump(mode="json", exclude={"sha"})
        if self.conditions.crop == "dataset":  # older records lack it
            del content["conditions"]["crop"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Result:
    """A record and its people: for each metric, errors in its unit and a mask of the people that count.

    `sequences` is None if there are fewer than two. Otherwise intervals resample whole sequences, because the frames of
    a sequence are similar.
    """

    record: Record
    rows: Int[np.ndarray, " N"]
    errors: dict[str, Float[np.ndarray, " N"]]
    counted: dict[str, Bool[np.ndarray, " N"]]
    sequences: Int[np.ndarray, " N"] | None = None
    path: Path | None = None
    """The record's file."""

    @property
    def experiment(self) -> str:
        """The spec's name."""
        return self.record.source.experiment

    @property
    def seed(self) -> int:
        """The spec's seed."""
        return int(self.record.source.spec["seed"])

    def of(self, metric: str) -> tuple[Float[np.ndarray, " M"], Int[np.ndarray, " M"] | None]:
        """The errors that count for a metric, and their sequences."""
        who = self.counted[metric]
        return self.errors[metric][who], None if self.sequences is None else self.sequences[who]


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read the results at `paths`: .json files or run folders. Raises RequestError if a file is not a valid record."""
    files = []
    for path in paths:
        found = (_named(path / "eval") or _named(path)) if path.is_dir() else [path]
        if not found:
            raise RequestError(f"{path}: contains no results; hmrb eval writes them")
        files += found
    return [read_result(file) for file in files]


def _named(folder: Path) -> list[Path]:
    """The .json files of a folder, none if there is no such folder. Raises RequestError if it can't be listed."""
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == ".json")
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise RequestError(f"{folder}: {reason(error)}") from None


def read_result(path: Path) -> Result:
    """Read one result. Raises RequestError if it is invalid, was modified, or has a protocol that this hmrb lacks."""
    record = read_record(path)
    samples = path.with_name(f"{path.stem}_samples.h5")
    if not samples.exists():
        raise RequestError(f"{path}: {samples.name} is missing next to it; copy it there")
    arrays = read_arrays(samples, lambda name: name not in PREDICTIONS)
    if samples_sha(arrays) != record.samples_sha:
        raise RequestError(f"{samples}: its content does not match {path.name}; score the checkpoint again")
    if problem := next(_misfits(record, arrays), ""):
        raise RequestError(f"{samples}: {problem}; score the checkpoint again")
    errors = {name: arrays[f"error/{name}"] for name in record.metrics}
    everybody = np.ones(record.num_people, bool)
    counted = {name: arrays.get(f"counted/{name}", everybody) for name in record.metrics}
    return Result(record, arrays["row"], errors, counted, arrays.get("sequence"), path)


def read_record(path: Path) -> Record:
    """Read a record without per-person data. Raises RequestError."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise RequestError(f"{path}: not an hmrb result: larger than {MOST_BYTES:,} bytes")
        content = json.loads(data)
        given = content.get("format", content.get("schema"))
    except OSError as error:
        raise RequestError(f"{path}: not a readable hmrb result: {reason(error)}") from None
    except (ValueError, AttributeError, RecursionError):
        raise RequestError(f"{path}: not a readable hmrb result{instead(path)}") from None
    if given != FORMAT:
        raise RequestError(f"{path}: record format {given}, but this hmrb reads {FORMAT}; score the checkpoint again")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))[:200]
        raise RequestError(f"{path}: not a valid hmrb record: {where}: {first['msg']}") from None
    if not record.is_as_written:
        raise RequestError(f"{path}: was modified after it was written; score the checkpoint again")
    if problem := next(_absurd(record), ""):
        raise RequestError(f"{path}: not a valid hmrb record: {problem}; score the checkpoint again")
    try:
        known = find_benchmark(record.benchmark).protocol
    except UnknownName:
        known = "unknown"
    if known != record.protocol:
        raise RequestError(
            f"{path}: has protocol {record.protocol}, but in this hmrb {record.benchmark} is {known}; score the"
            " checkpoint again, or score its predictions with hmrb eval --from-predictions"
        )
    return record


def _absurd(record: Record) -> Iterator[str]:
    """Values that no evaluation writes: a seal is a plain hash, which whoever edits a record can compute."""
    if record.num_people < 1:
        yield f"num_people is {record.num_people}"
    if not record.metrics:
        yield "it has no metrics"
    for name, number in record.metrics.items():
        if name not in TITLES:
            yield f"unknown metric {name!r}"
        elif (number.unit, number.better) != (UNITS[name], BETTER[name]):
            yield f"{name} is in {number.unit!r}, {number.better} is better; expected {UNITS[name]!r}, {BETTER[name]}"
        if not 1 <= number.people <= record.num_people:
            yield f"{name} counts {number.people} of {record.num_people} people"
    source, conditions = record.source, record.conditions
    needed: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
        "conditions.shard": (conditions.shard, ("sha", "num_people")),
        "source.body": (source.body, ("name", "sha")),
    }
    needed |= {f"conditions.truth_bodies.{key}": (body, ("sha",)) for key, body in conditions.truth_bodies.items()}
    needed |= {"source.checkpoint": (source.checkpoint, ("sha",)), "source.spec": (source.spec, ("seed", "published"))}
    for where, (table, keys) in needed.items():
        yield from (f"{where} has no {key}" for key in keys if key not in table)
    if type(source.spec["seed"]) is not int:
        yield f"source.spec.seed is {str(source.spec['seed'])[:50]!r}, expected a whole number"
    rows = source.spec["published"]
    if not isinstance(rows, list | tuple) or not all(map(_is_published, rows)):
        yield "source.spec.published is no list of published numbers"


def _is_published(row: Any) -> bool:
    try:
        return bool(Published.model_validate(row)) and {"metric", "doubt"} <= row.keys()
    except ValidationError:
        return False


def _misfits(record: Record, arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """Arrays of people that do not belong to a record."""
    count = record.num_people
    kinds = {"row": "iu"} | {f"error/{name}": "f" for name in record.metrics}
    kinds |= {key: kind for key, kind in {"sequence": "fiu"}.items() if key in arrays}
    kinds |= {f"counted/{name}": "b" for name in record.metrics if f"counted/{name}" in arrays}
    for key, kind in kinds.items():
        if key not in arrays:
            yield f"has no {key}"
        elif arrays[key].shape != (count,) or arrays[key].dtype.kind not in kind:
            yield f"{key} has type {arrays[key].dtype} and shape {arrays[key].shape}, expected ({count},)"
    for name, number in record.metrics.items():
        who = arrays.get(f"counted/{name}", np.ones(count, bool))
        errors = arrays[f"error/{name}"][who].astype(np.float64)
        if len(errors) != number.people or not np.isfinite(errors).all():
            yield f"error/{name} has {len(errors)} values, expected {number.people} finite ones"
        elif not np.isclose(errors.mean(), number.value, rtol=1e-3, atol=1e-3):
            yield f"error/{name} has mean {errors.mean():.4g}, but the record says {number.value:.4g}"


def samples_sha(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of all arrays except the predictions."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if name not in PREDICTIONS:
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]
