"""Copies the results of runs into the repository, small: of each person three metrics and no predictions.

Run `python scripts/keep_records.py RUNS -o docs/results/small_study/QUESTION`. RUNS is a folder of runs. Each record
becomes NAME-SEED-BENCHMARK.json, with its people beside it. A record loses the metrics that are left out, so it and its
people are sealed again; everything else stays as `hmrb train` wrote it. A run without results is refused.
"""

import argparse
from pathlib import Path

from hmrb.errors import RequestError
from hmrb.evaluation.records import read_result, samples_sha
from hmrb.evaluation.saving import write_record
from hmrb.formats.hdf5 import read_arrays
from hmrb.reports.kept_bands import METRICS


def keep(source: Path, folder: Path) -> Path:
    """Copies the record at `source`; returns the copy's place. Raises RequestError for a record that is not valid."""
    record = read_result(source).record
    kept = {"name", "row", "sequence", *(f"{part}/{name}" for part in ("error", "counted") for name in METRICS)}
    arrays = read_arrays(source.with_name(f"{source.stem}_samples.h5"), kept.__contains__)
    record = record.model_copy(
        update={
            "metrics": {name: record.metrics[name] for name in METRICS},
            "samples_sha": samples_sha(arrays),
        }
    ).sealed()
    stem = f"{record.source.experiment}-{record.source.spec['seed']}-{record.benchmark}"
    write_record(folder, stem, record, arrays)
    place = folder / f"{stem}.json"
    read_result(place)
    return place


def main() -> None:
    """Copies every record of every run."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("runs", type=Path)
    words.add_argument("-o", "--out", type=Path, required=True)
    given = words.parse_args()
    for run in sorted(path.parent for path in given.runs.glob("*/spec.yaml")):
        records = sorted((run / "eval").glob("*.json"))
        if not records:
            raise RequestError(f"{run}: has no results; finish it with hmrb train --resume")
        for record in records:
            keep(record, given.out)


if __name__ == "__main__":
    main()
