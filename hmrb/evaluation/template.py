"""The people of a benchmark as a file to fill with predictions: their names, boxes and order."""

from pathlib import Path

import numpy as np

from hmrb.data.shard import Shard
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.evaluate import ScoredPeople
from hmrb.evaluation.matching import number_column
from hmrb.evaluation.protocols import Benchmark
from hmrb.formats.files import reason
from hmrb.formats.writing import replacing


def write_template(benchmark: Benchmark, shard: Shard, path: Path) -> ScoredPeople:
    """Write `row` N, `imgname` N, `bbox` N 4 (x, y, width, height in pixels of the photo) of the people to score.

    Also `person` N if the shard numbers its people. Raises RequestError if the file exists or is no .npz, RunError if
    it cannot be written.
    """
    if path.suffix != ".npz":
        raise RequestError(f"{path}: a template is an .npz file; write -o people.npz")
    if path.exists():
        raise RequestError(f"{path}: exists; choose another name, or move it away")
    people = ScoredPeople.of(benchmark, shard)
    rows = people.rows
    origin = shard.arrays["origin"][shard.arrays["image"][rows]].astype(np.float64)
    box, scale = shard.arrays["box"][rows].astype(np.float64), origin[:, 2:]
    corner = (box[:, :2] + 0.5) / scale - 0.5 + origin[:, :2]
    arrays = {
        "row": rows,
        "imgname": np.array([shard.name(row) for row in rows.tolist()]),
        "bbox": np.concatenate([corner, box[:, 2:] / scale], 1).astype(np.float32),
    }
    if column := number_column(shard):
        arrays["person"] = np.array(shard.arrays[f"columns/{column}"][rows])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part, open(part, "wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
    except OSError as error:
        raise RunError(f"{path}: could not be written ({reason(error)})") from None
    return people
