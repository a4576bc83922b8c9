"""A model on a benchmark: errors per person, their means with intervals, and the mean body beside them."""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from hmrb.benchmarks import Benchmark, by_gender, regressor_sha
from hmrb.body import SMPL, load_body
from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, load_weights_into
from hmrb.data.loader import bench_loader, on_device
from hmrb.data.shard import Shard, ShardError, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.geometry import rotvec_to_rotmat
from hmrb.metrics import Posed, interval95, joint_distances_mm, measure
from hmrb.models.head import mean_prediction
from hmrb.models.hmr import HMR, build_model, computing_in
from hmrb.records import GENDERS, Batch, Prediction
from hmrb.skeleton import SKELETONS
from hmrb.spec import Precision
from hmrb.store import Store
from hmrb.world import World

BATCH = 64
SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class People:
    """Who of a shard is scored, by row, and how many are not, by reason. `seen`: which of their joints have a truth."""

    rows: Int[np.ndarray, " N"]
    seen: Bool[np.ndarray, "N J"]
    skipped: dict[str, int]

    @classmethod
    def of(cls, benchmark: Benchmark, shard: Shard) -> "People":
        """Raises ShardError where the shard lacks joints of the protocol, RunError where nobody can be scored."""
        num_joints = len(benchmark.joint_names)
        if benchmark.truth == "stored":
            confidence = shard.arrays["keypoints3d"][:, _stored_rows(benchmark, shard), 3] > 0
            seen, root = confidence[:, :num_joints], confidence[:, num_joints:]
            few = f"less than {benchmark.min_labelled:.0%} of the joints labelled"
            lacks = {"no labelled root": ~root.all(1), few: seen.mean(1) < benchmark.min_labelled}
        else:
            has_body = shard.arrays["has_body"] > 0
            seen, lacks = np.repeat(has_body[:, None], num_joints, 1), {"no labelled body": ~has_body}
        left, skipped = np.ones(len(shard), bool), {}
        for reason, is_so in lacks.items():
            if count := int((left & is_so).sum()):
                skipped[reason] = count
            left &= ~is_so
        if not left.any():
            reasons = ", ".join(f"{count} have {reason}" for reason, count in skipped.items())
            raise RunError(
                f"{benchmark.name}: none of the {len(shard)} people of {shard.path} can be scored: {reasons}"
            )
        return cls(left.nonzero()[0], seen[left], skipped)


@dataclass(frozen=True, slots=True)
class Scores:
    """Errors in mm of the scored people of a benchmark, in the order of its shard, and what they are.

    `rotmats`, `betas`, `camera` are the predictions, so that they can be drawn or scored again. Errors of joints
    without a truth are 0. `truth_bodies` are hash and people of each body that truth was posed with.
    """

    benchmark: Benchmark
    shard: Shard
    people: People
    body_sha: str
    regressor_sha: str
    truth_bodies: dict[str, dict[str, str | int]]
    errors: dict[str, Float[np.ndarray, " N"]]
    joint_errors: Float[np.ndarray, "N J"]
    baseline: dict[str, Float[np.ndarray, " N"]]
    rotmats: Float[np.ndarray, "N 24 3 3"]
    betas: Float[np.ndarray, "N 10"]
    camera: Float[np.ndarray, "N 3"]

    def mean(self, metric: str) -> float:
        """The benchmark's number."""
        return float(self.errors[metric].mean())

    @property
    def sequences(self) -> Int[np.ndarray, " N"] | None:
        """The sequence of each person, whose frames are alike; None where there are not two to draw from."""
        if "sequence" not in self.shard.columns:
            return None
        codes = self.shard.arrays["columns/sequence"][self.people.rows].astype(np.int64)
        return codes if len(np.unique(codes)) > 1 else None


@dataclass(frozen=True, slots=True)
class Bodies:
    """The bodies that a benchmark poses: the neutral one, and those of both genders where its truth asks for them."""

    by_gender: dict[str, SMPL]

    @classmethod
    def load(cls, name: str, benchmark: Benchmark, store: Store, device: torch.device) -> "Bodies":
        """Reads the files. Raises BodyError where one is missing."""
        genders = GENDERS if benchmark.truth == "gendered" else GENDERS[:1]
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
    people = People.of(benchmark, shard)
    neutral = bodies.by_gender["neutral"]
    mean_body = _predicted(mean(1), benchmark, neutral)
    places, values = [], []
    loader = bench_loader(shard, people.rows.tolist(), image_px, BATCH, world.rank, world.size, workers)
    for batch in on_device(loader, world.device):
        prediction = predict(batch)
        numbers = torch.cat([prediction.rotmats.flatten(1), prediction.betas, prediction.camera], 1)
        if not numbers.isfinite().all():
            bad = batch.row[~numbers.isfinite().all(1)].tolist()
            raise RunError(f"{benchmark.name}: the prediction for {shard.name(bad[0])} (row {bad[0]}) is not finite")
        rows = batch.row.cpu().numpy()
        place = np.searchsorted(people.rows, rows)
        truth = true_posed(benchmark, shard, bodies, rows, world.device)
        seen = torch.from_numpy(people.seen[place]).to(world.device)
        pred = _predicted(prediction, benchmark, neutral)
        mean_vertices = None if mean_body.vertices is None else mean_body.vertices.expand(len(rows), -1, -1)
        baseline = Posed(mean_body.joints.expand(len(rows), -1, -1), mean_vertices)
        distances = joint_distances_mm(pred.joints, truth.joints) * seen
        places.append(torch.from_numpy(place))
        errors = [metric_errors(side, truth, seen, benchmark.metrics) for side in (pred, baseline)]
        values.append(torch.cat([*errors, distances, numbers], 1))
    width = 2 * len(benchmark.metrics) + len(benchmark.joint_names) + 24 * 9 + 13
    mine = torch.cat(values) if values else torch.zeros(0, width)
    mine_at = torch.cat(places) if places else torch.zeros(0).long()
    table = world.gather_rows(mine_at, mine, len(people.rows)).double().numpy()
    return _scores(table, benchmark, shard, people, bodies)


def evaluate_model(
    model: HMR,
    benchmark: Benchmark,
    shard: Shard,
    bodies: Bodies,
    world: World,
    image_px: int,
    workers: int = 0,
    precision: Precision = "fp32",
) -> Scores:
    """`evaluate` for a network, which is left in the mode that it was in. The body is posed in fp32."""
    was_training = model.training
    model.eval()

    def predict(batch: Batch) -> Prediction:
        with computing_in(precision, world.device):
            return model(batch.image)

    scores = evaluate(
        predict,
        lambda count: mean_prediction(model.head, count),
        benchmark, shard, bodies, world, image_px, workers,
    )  # fmt: skip
    model.train(was_training)
    return scores


def evaluate_checkpoint(
    checkpoint: Checkpoint, benchmark: Benchmark, store: Store, world: World, precision: Precision = "fp32"
) -> Scores:
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
    return evaluate_model(model, benchmark, shard, bodies, world, experiment.model.image_px, precision=precision)


def save_scores(scores: Scores, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """Writes NAME.json and NAME_samples.h5 into `folder`, each complete or not at all; gives the JSON's content."""
    folder.mkdir(parents=True, exist_ok=True)
    benchmark, people = scores.benchmark, scores.people
    metrics, sequences = {}, scores.sequences
    for name in benchmark.metrics:
        low, high = interval95(scores.errors[name], sequences)
        metrics[name] = {
            "mm": scores.mean(name),
            "ci95": [low, high],
            "mean_body_mm": float(scores.baseline[name].mean()),
        }
    counts = people.seen.sum(0)
    joints = zip(benchmark.joint_names, scores.joint_errors.sum(0), counts, strict=True)
    record = {
        "schema": SCHEMA_VERSION,
        "benchmark": benchmark.name,
        "protocol": benchmark.protocol,
        "metrics": metrics,
        "intervals_over": "people" if sequences is None else f"{len(np.unique(sequences))} sequences",
        "per_joint_mpjpe_mm": {name: float(total / count) for name, total, count in joints if count},
        "num_people": len(people.rows),
        "skipped": people.skipped,
        "labelled_joints": int(counts.sum()),
        "truth_bodies": scores.truth_bodies,
        "shard": asdict(scores.shard.info),
        "body_sha": scores.body_sha,
        "regressor_sha": scores.regressor_sha,
        **about,
    }
    samples = folder / f"{benchmark.file_stem}_samples.h5"
    part = samples.with_suffix(".part")
    try:
        with h5py.File(part, "w") as file:
            file.attrs["protocol"] = benchmark.protocol
            file["name"] = scores.shard.arrays["name"][people.rows]
            file["row"] = people.rows
            if sequences is not None:
                file["sequence"] = sequences
            for name in benchmark.metrics:
                file[f"error_mm/{name}"] = scores.errors[name]
                file[f"mean_body_error_mm/{name}"] = scores.baseline[name]
            file["joint_error_mm"] = scores.joint_errors
            file["joint_seen"] = people.seen
            for name in ("rotmats", "betas", "camera"):
                file[name] = getattr(scores, name).astype(np.float32)
        os.replace(part, samples)
        written = folder / f"{benchmark.file_stem}.json"
        written.with_suffix(".part").write_text(json.dumps(record, indent=1) + "\n")
        os.replace(written.with_suffix(".part"), written)
    except OSError as error:
        raise RunError(f"{folder}: results could not be written ({error.strerror or error})") from None
    return record


def true_posed(
    benchmark: Benchmark, shard: Shard, bodies: Bodies, rows: Int[np.ndarray, " B"], device: torch.device
) -> Posed:
    """The ground truth of people of a shard."""
    if benchmark.truth == "stored":
        points = torch.from_numpy(shard.arrays["keypoints3d"][rows][..., :3]).to(device)
        joints, _ = benchmark.rooted(points, shard.info.skeleton)
        return Posed(joints)
    rotmats = rotvec_to_rotmat(torch.from_numpy(shard.arrays["pose"][rows]).to(device))
    betas = torch.from_numpy(shard.arrays["betas"][rows]).to(device)
    gender = [GENDERS[g] if benchmark.truth == "gendered" else "neutral" for g in shard.arrays["gender"][rows]]
    mesh = by_gender(bodies.by_gender, gender, rotmats, betas, benchmark.part)
    return benchmark.posed(bodies.by_gender["neutral"], mesh)


def metric_errors(
    pred: Posed, truth: Posed, seen: Bool[torch.Tensor, "B J"], metrics: Sequence[str]
) -> Float[torch.Tensor, "B M"]:
    """Each metric of each person over the joints that have a truth: people with the same ones are taken together."""
    out = truth.joints.new_zeros(len(seen), len(metrics))
    for joints in seen.unique(dim=0):
        same = (seen == joints).all(1)
        sides = [_some(side, same, joints) for side in (pred, truth)]
        out[same] = torch.stack(list(measure(metrics, *sides).values()), 1)
    return out


def _some(posed: Posed, people: Bool[torch.Tensor, " B"], joints: Bool[torch.Tensor, " J"]) -> Posed:
    vertices = None if posed.vertices is None else posed.vertices[people]
    return Posed(posed.joints[people][:, joints], vertices)


def _predicted(prediction: Prediction, benchmark: Benchmark, neutral: SMPL) -> Posed:
    return benchmark.posed(neutral, neutral(prediction.rotmats, prediction.betas, benchmark.part))


def _stored_rows(benchmark: Benchmark, shard: Shard) -> list[int]:
    """The rows of the protocol's joints, then of its root, among the shard's key points."""
    have = SKELETONS[shard.info.skeleton].joints
    needed = (*benchmark.joint_names, *benchmark.root)
    if missing := [joint for joint in dict.fromkeys(needed) if joint not in have]:
        raise ShardError(
            f"{benchmark.name}: {shard.path} is in skeleton '{shard.info.skeleton}', which has no {', '.join(missing)};"
            f" the benchmark needs the shard of hmrb convert-data {benchmark.dataset}"
        )
    return [have.index(joint) for joint in needed]


def _scores(
    table: Float[np.ndarray, "N C"], benchmark: Benchmark, shard: Shard, people: People, bodies: Bodies
) -> Scores:
    neutral = bodies.by_gender["neutral"]
    names, num_joints = benchmark.metrics, len(benchmark.joint_names)
    numbers = table[:, 2 * len(names) + num_joints :]
    return Scores(
        benchmark=benchmark,
        shard=shard,
        people=people,
        body_sha=neutral.sha,
        regressor_sha=regressor_sha(neutral, benchmark.regressor),
        truth_bodies=_truth_bodies(benchmark, shard, people, bodies),
        errors={name: table[:, i] for i, name in enumerate(names)},
        joint_errors=table[:, 2 * len(names) :][:, :num_joints],
        baseline={name: table[:, len(names) + i] for i, name in enumerate(names)},
        rotmats=numbers[:, :216].reshape(-1, 24, 3, 3),
        betas=numbers[:, 216:226],
        camera=numbers[:, 226:],
    )


def _truth_bodies(
    benchmark: Benchmark, shard: Shard, people: People, bodies: Bodies
) -> dict[str, dict[str, str | int]]:
    if benchmark.truth == "stored":
        return {}
    genders = shard.arrays["gender"][people.rows] if benchmark.truth == "gendered" else np.zeros(len(people.rows), int)
    counts = np.bincount(genders, minlength=len(GENDERS)).tolist()
    return {
        gender: {"sha": bodies.by_gender[gender].sha, "people": count}
        for gender, count in zip(GENDERS, counts, strict=True)
        if count
    }
