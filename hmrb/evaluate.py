"""A model on a benchmark: errors per person, their means with intervals, and the mean body beside them."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Float

from hmrb.benchmarks import Benchmark, by_gender
from hmrb.body import SMPL, load_body
from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, load_weights_into
from hmrb.data.loader import bench_loader
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.metrics import METRICS, interval95, joint_distances_mm
from hmrb.models.head import mean_prediction
from hmrb.models.hmr import HMR, build_model
from hmrb.records import GENDERS, Batch, Prediction
from hmrb.store import Store
from hmrb.world import World

BATCH = 64
SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors in mm of every person of a benchmark, in the order of its shard, and what they are.

    `pose`, `betas`, `camera` are the predictions, so that they can be drawn or scored again.
    """

    benchmark: Benchmark
    shard: Shard
    body_sha: str
    errors: dict[str, Float[np.ndarray, " N"]]
    joint_errors: Float[np.ndarray, "N J"]
    baseline: dict[str, Float[np.ndarray, " N"]]
    rotmats: Float[np.ndarray, "N 24 3 3"]
    betas: Float[np.ndarray, "N 10"]
    camera: Float[np.ndarray, "N 3"]

    def mean(self, metric: str) -> float:
        """The benchmark's number."""
        return float(self.errors[metric].mean())


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bodies that a benchmark poses: the neutral one, and those of both genders where its truth asks for them."""

    by_gender: dict[str, SMPL]

    @classmethod
    def load(cls, name: str, benchmark: Benchmark, store: Store, device: torch.device) -> "Bodies":
        """Reads the files. Raises BodyError where one is missing."""
        genders = GENDERS if benchmark.gendered else GENDERS[:1]
        return cls({gender: load_body(name, gender, store).to(device) for gender in genders})


@torch.no_grad()
def evaluate(
    predict: Callable[[Batch], Prediction],
    mean: Callable[[int], Prediction],
    benchmark: Benchmark,
    shard: Shard,
    bodies: Bodies,
    world: World,
    image_px: int,
    workers: int = 0,
) -> Scores:
    """Scores on every process, the same. `predict` maps a batch to bodies, `mean` gives the baseline's bodies."""
    rows, values = [], []
    for batch in bench_loader(shard, image_px, BATCH, world.rank, world.size, workers):
        batch = batch.to(world.device)
        prediction = predict(batch)
        numbers = torch.cat([prediction.rotmats.flatten(1), prediction.betas, prediction.camera], 1)
        if not numbers.isfinite().all():
            bad = batch.row[~numbers.isfinite().all(1)].tolist()
            raise RunError(f"{benchmark.name}: the prediction for {shard.name(bad[0])} (row {bad[0]}) is not finite")
        errors = _errors(prediction, batch.row, benchmark, shard, bodies)
        baseline = _errors(mean(len(batch.row)), batch.row, benchmark, shard, bodies)
        rows.append(batch.row)
        values.append(torch.cat([errors, baseline, numbers], 1))
    width = 2 * (len(benchmark.metrics) + len(benchmark.joint_names)) + 24 * 9 + 13
    mine = torch.cat(values) if values else torch.zeros(0, width)
    table = world.gather_rows(torch.cat(rows) if rows else torch.zeros(0).long(), mine, len(shard)).double().numpy()
    return _scores(table, benchmark, shard, bodies)


def evaluate_model(
    model: HMR, benchmark: Benchmark, shard: Shard, bodies: Bodies, world: World, image_px: int, workers: int = 0
) -> Scores:
    """`evaluate` for a network, which is left in the mode that it was in."""
    was_training = model.training
    model.eval()
    scores = evaluate(
        lambda batch: model(batch.image),
        lambda count: mean_prediction(model.head, count),
        benchmark, shard, bodies, world, image_px, workers,
    )  # fmt: skip
    model.train(was_training)
    return scores


def evaluate_checkpoint(checkpoint: Checkpoint, benchmark: Benchmark, store: Store, world: World) -> Scores:
    """A checkpoint's weights on a benchmark, with the body that it was trained with.

    An imported checkpoint's body is not known: the body here stands for it, and the record says `unknown`.
    """
    experiment = checkpoint.experiment()
    shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
    bodies = Bodies.load(experiment.body, benchmark, store, world.device)
    have = bodies.by_gender["neutral"].sha
    if checkpoint.body["sha"] not in (have, UNKNOWN_BODY):
        raise RequestError(
            f"the checkpoint was trained with body '{checkpoint.body['name']}' {checkpoint.body['sha']},"
            f" the one here is {have}; its errors would be of another body"
        )
    model = build_model(experiment.model.model_copy(update={"weights": "none"})).to(world.device)
    load_weights_into(model, checkpoint, "the checkpoint")
    return evaluate_model(model, benchmark, shard, bodies, world, experiment.model.image_px)


def save_scores(scores: Scores, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Writes NAME.json and NAME_samples.h5 into `folder`, each complete or not at all; gives the JSON's content."""
    folder.mkdir(parents=True, exist_ok=True)
    benchmark, info = scores.benchmark, scores.shard.info
    metrics = {}
    for name in benchmark.metrics:
        low, high = interval95(scores.errors[name])
        metrics[name] = {
            "mm": scores.mean(name),
            "ci95": [low, high],
            "mean_body_mm": float(scores.baseline[name].mean()),
        }
    joints = dict(zip(benchmark.joint_names, scores.joint_errors.mean(0).tolist(), strict=True))
    record = {
        "schema": SCHEMA_VERSION,
        "benchmark": benchmark.name,
        "protocol": benchmark.protocol,
        "metrics": metrics,
        "per_joint_mpjpe_mm": joints,
        "num_people": len(scores.shard),
        "shard": asdict(info),
        "body_sha": scores.body_sha,
        **about,
    }
    samples = folder / f"{benchmark.name}_samples.h5"
    part = samples.with_suffix(".part")
    try:
        with h5py.File(part, "w") as file:
            file.attrs["protocol"] = benchmark.protocol
            file["name"] = scores.shard.arrays["name"][:]
            for name in benchmark.metrics:
                file[f"error_mm/{name}"] = scores.errors[name]
                file[f"mean_body_error_mm/{name}"] = scores.baseline[name]
            file["joint_error_mm"] = scores.joint_errors
            for name in ("rotmats", "betas", "camera"):
                file[name] = getattr(scores, name).astype(np.float32)
        os.replace(part, samples)
        written = folder / f"{benchmark.name}.json"
        written.with_suffix(".part").write_text(json.dumps(record, indent=1) + "\n")
        os.replace(written.with_suffix(".part"), written)
    except OSError as error:
        raise RunError(f"{folder}: results could not be written ({error.strerror or error})") from None
    return record


def _errors(
    prediction: Prediction, row: torch.Tensor, benchmark: Benchmark, shard: Shard, bodies: Bodies
) -> Float[torch.Tensor, "B E"]:
    """One line a person: the protocol's metrics, then the distance of each joint."""
    rows = row.cpu().numpy()
    neutral = bodies.by_gender["neutral"]
    device = prediction.betas.device
    rotmats = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][rows]).to(device))
    betas = torch.from_numpy(shard.arrays["betas"][rows]).to(device)
    gender = [GENDERS[g] if benchmark.gendered else "neutral" for g in shard.arrays["gender"][rows]]
    truth = benchmark.posed(neutral, by_gender(bodies.by_gender, gender, rotmats, betas))
    pred = benchmark.posed(neutral, neutral(prediction.rotmats, prediction.betas))
    metrics = [METRICS[name](pred, truth) for name in benchmark.metrics]
    return torch.cat([torch.stack(metrics, 1), joint_distances_mm(pred.joints, truth.joints)], 1)


def _scores(table: Float[np.ndarray, "N C"], benchmark: Benchmark, shard: Shard, bodies: Bodies) -> Scores:
    names, num_joints = benchmark.metrics, len(benchmark.joint_names)
    half = len(names) + num_joints
    numbers = table[:, 2 * half :]
    return Scores(
        benchmark=benchmark,
        shard=shard,
        body_sha=bodies.by_gender["neutral"].sha,
        errors={name: table[:, i] for i, name in enumerate(names)},
        joint_errors=table[:, len(names) : half],
        baseline={name: table[:, half + i] for i, name in enumerate(names)},
        rotmats=numbers[:, :216].reshape(-1, 24, 3, 3),
        betas=numbers[:, 216:226],
        camera=numbers[:, 226:],
    )
