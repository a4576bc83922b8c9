"""Results: one record per checkpoint and benchmark, NAME.json, with per-person data in NAME_samples.h5.

docs/results.md describes the fields. Reading rejects a record that was modified, whose per-person data is missing, or
whose protocol this version does not have.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from hmrb.errors import RequestError, RunError
from hmrb.evaluation.evaluate import Scores, odd_people
from hmrb.evaluation.metrics import BETTER, DEGENERATE, UNITS, interval95
from hmrb.evaluation.protocols import find_benchmark
from hmrb.lookup import UnknownName

FORMAT = 3
PREDICTIONS = ("rotmats", "betas", "camera")
GZIP = {"compression": "gzip", "shuffle": True}


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
    shard: dict[str, str | int]


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


def save_scores(
    scores: Scores, folder: Path, source: Provenance, machine: Machine, slices: Mapping[str, Sequence[Any]] = {},
    lean: bool = False,
) -> Record:  # fmt: skip
    """Write NAME.json and NAME_samples.h5 to `folder`, each atomically; returns the record. Raises RunError.

    `lean` omits the predictions, which are needed to render people or score them again.
    """
    benchmark, people, sequences = scores.benchmark, scores.people, scores.sequences
    arrays = _arrays(scores)
    counts = people.seen.sum(0)
    joints = zip(benchmark.joint_names, scores.joint_errors.sum(0, dtype=np.float64), counts, strict=True)
    record = Record(
        benchmark=benchmark.name,
        protocol=benchmark.protocol,
        conditions=Conditions(
            dataset=benchmark.dataset,
            split=benchmark.split,
            truth=benchmark.truth,
            joints=benchmark.joint_names,
            regressor=benchmark.regressor,
            root=benchmark.root,
            min_labelled=benchmark.min_labelled,
            box_scale=benchmark.box_scale,
            body_sha=scores.body_sha,
            regressor_sha=scores.regressor_sha,
            truth_bodies=scores.truth_bodies,
            shard=asdict(scores.shard.info),
        ),
        metrics={name: _number(scores, name) for name in scores.errors},
        left_out=scores.left_out,
        intervals_over="people" if sequences is None else f"{len(np.unique(sequences))} sequences",
        per_joint={name: float(total / count) for name, total, count in joints if count},
        per_joint_unit="% at 0.1 of the box" if benchmark.truth == "marked" else "mm",
        num_people=len(people.rows),
        skipped=people.skipped,
        degenerate=odd_people(scores),
        labelled_joints=int(counts.sum()),
        slices={column: tuple(SubgroupScores(**asdict(part)) for part in parts) for column, parts in slices.items()},
        source=source,
        machine=machine,
        samples_sha=_samples_sha(arrays),
    ).sealed()
    if not lean:
        arrays |= {name: getattr(scores, name) for name in PREDICTIONS if len(getattr(scores, name))}
    _write(folder, benchmark.file_stem, record, arrays)
    return record


def read_results(paths: Sequence[Path]) -> list[Result]:
    """Read the results at `paths`: .json files or run folders. Raises RequestError if a file is not a valid record."""
    files = []
    for path in paths:
        found = sorted(path.glob("eval/*.json")) or sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise RequestError(f"{path}: contains no results; hmrb eval writes them")
        files += found
    return [read_result(file) for file in files]


def read_result(path: Path) -> Result:
    """Read one result. Raises RequestError if it is invalid, was modified, or has a protocol that this hmrb lacks."""
    record = read_record(path)
    samples = path.with_name(f"{path.stem}_samples.h5")
    try:
        with h5py.File(samples, "r") as file:
            arrays = {name: file[name][:] for name in _names(file)}
    except (OSError, KeyError, TypeError):
        raise RequestError(f"{path}: {samples.name} is missing next to it, or is not an hmrb file") from None
    if _samples_sha(arrays) != record.samples_sha:
        raise RequestError(f"{samples}: its content does not match {path.name}; score the checkpoint again")
    errors = {name: arrays[f"error/{name}"] for name in record.metrics}
    everybody = np.ones(record.num_people, bool)
    counted = {name: arrays.get(f"counted/{name}", everybody) for name in record.metrics}
    return Result(record, arrays["row"], errors, counted, arrays.get("sequence"))


def read_record(path: Path) -> Record:
    """Read a record without per-person data. Raises RequestError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        given = content.get("format", content.get("schema"))
    except (OSError, ValueError, AttributeError):
        raise RequestError(f"{path}: not a readable hmrb result") from None
    if given != FORMAT:
        raise RequestError(f"{path}: record format {given}, but this hmrb reads {FORMAT}; score the checkpoint again")
    try:
        record = Record.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RequestError(f"{path}: not a valid hmrb record: {where}: {first['msg']}") from None
    if not record.is_as_written:
        raise RequestError(f"{path}: was modified after it was written; score the checkpoint again")
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


def _number(scores: Scores, name: str) -> Number:
    who, sequences = scores.counted[name], scores.sequences
    errors = scores.errors[name][who].astype(np.float64)
    return Number(
        value=scores.mean(name),
        ci95=interval95(errors, None if sequences is None else sequences[who]),
        unit=UNITS[name],
        better=BETTER[name],
        mean_body=float(scores.baseline[name][who].mean(dtype=np.float64)),
        people=int(who.sum()),
    )


def _arrays(scores: Scores) -> dict[str, np.ndarray]:
    """The per-person arrays of a record."""
    people = scores.people
    arrays = {"name": scores.shard.arrays["name"][people.rows], "row": people.rows}
    for name, errors in scores.errors.items():
        arrays[f"error/{name}"] = errors.astype(np.float32)
        arrays[f"mean_body_error/{name}"] = scores.baseline[name].astype(np.float32)
        if not scores.counted[name].all():
            arrays[f"counted/{name}"] = scores.counted[name]
    arrays |= {"joint_error": scores.joint_errors.astype(np.float32), "joint_seen": people.seen}
    if scores.odd.any():
        arrays["degenerate"] = np.array([reason.encode() for reason in DEGENERATE])[scores.odd]
    return arrays if scores.sequences is None else arrays | {"sequence": scores.sequences}


def _samples_sha(arrays: Mapping[str, np.ndarray]) -> str:
    """Hash of all arrays except the predictions."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        if name not in PREDICTIONS:
            digest.update(name.encode() + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]


def _names(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return [name for name in found if name not in PREDICTIONS]


def _write(folder: Path, stem: str, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
    written = {folder / f"{stem}_samples.h5": _samples_writer(record, arrays), folder / f"{stem}.json": None}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, write in written.items():
            part = path.with_suffix(".part")
            if write is None:
                part.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
            else:
                write(part)
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        for path in written:
            path.with_suffix(".part").unlink(missing_ok=True)
        raise RunError(f"{folder}: results could not be written ({error.strerror or error})") from None


def _samples_writer(record: Record, arrays: Mapping[str, np.ndarray]) -> Any:
    def write(path: Path) -> None:
        with h5py.File(path, "w") as file:
            file.attrs["protocol"] = record.protocol
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **(GZIP if array.size > 1 else {}))

    return write
