"""Writes the scores of a benchmark as a record, NAME.json, with its people, NAME_samples.h5."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.errors import RunError
from hmrb.evaluation.evaluate import Scores, odd_people
from hmrb.evaluation.intervals import interval95
from hmrb.evaluation.metric_table import BETTER, DEGENERATE, UNITS
from hmrb.evaluation.records import (
    PREDICTIONS,
    Conditions,
    Machine,
    Number,
    Provenance,
    Record,
    SubgroupScores,
    samples_sha,
)
from hmrb.formats.writing import hdf5_file, replacing

GZIP = {"compression": "gzip", "shuffle": True}
SMALL_BYTES = 8192  # a compressed array takes HDF5 1.4 kB more than it saves there


def save_scores(
    scores: Scores, folder: Path, source: Provenance, machine: Machine, slices: Mapping[str, Sequence[Any]] = {},
    lean: bool = False, verified: bool = False,
) -> Record:  # fmt: skip
    """Write NAME.json and NAME_samples.h5 to `folder`, each atomically; returns the record. Raises RunError.

    `lean` omits the predictions, which are needed to render people or score them again. `verified`: the shard's files
    were compared with its hash.
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
            shard=asdict(scores.shard.info) | {"verified": "yes" if verified else "no"},
            crop=scores.crop.name if scores.crop else "dataset",
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
        samples_sha=samples_sha(arrays),
    ).sealed()
    if not lean:
        arrays |= {name: getattr(scores, name) for name in PREDICTIONS if len(getattr(scores, name))}
    write_record(folder, benchmark.file_stem, record, arrays)
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


def write_record(folder: Path, stem: str, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a record and the arrays of its people to `folder`, each file atomically. Raises RunError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / f"{stem}_samples.h5") as part, hdf5_file(part) as file:
            file.attrs["protocol"] = record.protocol
            for name, array in arrays.items():
                file.create_dataset(name, data=array, **(GZIP if array.nbytes > SMALL_BYTES else {}))
        with replacing(folder / f"{stem}.json") as part:
            part.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{folder}: results could not be written ({error.strerror or error})") from None
