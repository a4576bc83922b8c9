"""Results of made-up runs, written as `hmrb eval` does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from conftest import machine, person, source, write_shard

from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import ScoredPeople, Scores
from hmrb.evaluation.protocols import BENCHMARKS, Benchmark
from hmrb.evaluation.saving import save_scores

SYNTHETIC = BENCHMARKS["synthetic"]


def write(
    folder: Path, name: str, seed: int, errors: np.ndarray, benchmark: Benchmark = SYNTHETIC,
    spec: dict[str, Any] | None = None, sequences: np.ndarray | None = None, body_sha: str = "b0",
) -> Path:  # fmt: skip
    """A run's folder with a result of one metric."""
    shard = Shard(write_shard(folder / "shard.h5", [person(0)]))
    shard.info = replace(shard.info, num_people=len(errors))
    shard.arrays = {"name": np.array([b"somebody"] * len(errors))}
    if sequences is not None:
        shard.arrays["columns/sequence"] = sequences
    everybody, count = np.ones(len(errors), bool), len(errors)
    scores = Scores(
        benchmark=benchmark,
        shard=shard,
        people=ScoredPeople(np.arange(count), np.ones((count, 14), bool), {}),
        body_sha=body_sha,
        regressor_sha="",
        truth_bodies={},
        errors={"pa_mpjpe": errors.astype(np.float32)},
        counted={"pa_mpjpe": everybody},
        baseline={"pa_mpjpe": np.full(count, 200, np.float32)},
        left_out={},
        joint_errors=np.ones((count, 14), np.float32),
        odd=np.zeros(count, int),
        rotmats=np.zeros((0, 24, 3, 3), np.float32),
        betas=np.zeros((0, 10), np.float32),
        camera=np.zeros((0, 3), np.float32),
    )
    run = folder / f"{name}-{seed}"
    about = source(name, seed, spec={"name": name, "seed": seed, "published": [], **(spec or {})})
    save_scores(scores, run / "eval", about, machine())
    return run
