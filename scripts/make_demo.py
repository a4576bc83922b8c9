"""Make the package's checkpoint from a run: hmrb/models/demo.pt.

    hmrb train specs/demo.yaml --cpu-procs 2
    python scripts/make_demo.py runs/demo --out hmrb/models/demo.pt

Steps: take the run's selected weights, leave out the state of training (optimiser, averages), give the spec inside the
numbers that `specs/demo.yaml` now expects. Prints the SHA-256 for hmrb/models/demo.py. The same run gives the same
bytes.
"""

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

from hmrb.check import resolve
from hmrb.checkpoint import load_checkpoint, save_checkpoint
from hmrb.spec import load_experiment

SPEC = Path(__file__).parents[1] / "specs" / "demo.yaml"
MOST_BYTES = 15_000_000  # what a package may carry for a demo


def make(run: Path, out: Path) -> str:
    """Write the checkpoint of `run` to `out`; returns its SHA-256. Stops if the run is of another recipe."""
    checkpoint, experiment = load_checkpoint(run), resolve(load_experiment(SPEC))
    if checkpoint.experiment().recipe() != experiment.recipe():
        sys.exit(f"{run}: a run of another recipe than {SPEC}; train that spec")
    spec = json.dumps(experiment.model_dump(mode="json"))
    save_checkpoint(replace(checkpoint, spec=spec, training={}), out)
    if out.stat().st_size > MOST_BYTES:
        sys.exit(f"{out}: {out.stat().st_size:,} bytes, but at most {MOST_BYTES:,} fit; take a smaller network")
    return hashlib.sha256(out.read_bytes()).hexdigest()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="the run's folder")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    print(make(given.run, given.out))
