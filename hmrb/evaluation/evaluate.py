"""Evaluates a method on a benchmark: every metric of every person, for the method and for the mean body."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.data import DataLoader

from hmrb.batch import Batch, CameraKind, Prediction
from hmrb.bodykind import CAMERA
from hmrb.checkpoint import UNKNOWN_BODY, Checkpoint, load_weights_into
from hmrb.data.loader import bench_loader, on_device
from hmrb.data.places import check_places
from hmrb.data.seen import Looking
from hmrb.data.shard import Shard, open_shard
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.metric_table import DEGENERATE
from hmrb.evaluation.motion import Frames
from hmrb.evaluation.posing import regressor_sha
from hmrb.evaluation.protocols import MAPPED, Benchmark, through_smpl
from hmrb.evaluation.scoring import IMAGE_PX, Bodies, BodyOrPoints, Points, Scorer, possible, stored_rows
from hmrb.evaluation.truths import Truths
from hmrb.models.crops import CropRule
from hmrb.models.head import mean_prediction
from hmrb.models.hmr import HMR, build_model, computing_in
from hmrb.models.numerics import products_in
from hmrb.parallel.cores import cores_per_process
from hmrb.parallel.world import World
from hmrb.plugins import check_packages
from hmrb.records import GENDERS
from hmrb.spec import EvalPrecision, auto_workers
from hmrb.store import Store

BLOCKS_PER_WORKER = 4  # starting a loading process takes as long as loading some 300 pictures
BATCH = 64  # people that are looked at together, whoever looks: their numbers do not depend on how many processes share
MAPPED_PARTS = ("joints", "vertices")  # of SMPL, that a prediction of SMPL-X has
Crop = Literal["dataset", "method"]
"""Which crop of a person a network sees: the dataset's square, or what its own code would cut out."""
Predictor = Callable[[Sequence[np.ndarray]], Iterator[BodyOrPoints]]
"""Returns the predictions for blocks of rows of a shard, in order."""


@dataclass(frozen=True, slots=True)
class ScoredPeople:
    """The rows of a shard that are scored, and how many are not, by reason. `seen`: joints with ground truth."""

    rows: Int[np.ndarray, " N"]
    seen: Bool[np.ndarray, "N J"]
    skipped: dict[str, int]

    @classmethod
    def of(cls, benchmark: Benchmark, shard: Shard) -> "ScoredPeople":
        """Raises ShardError if the shard lacks joints of the protocol, RunError if nobody can be scored."""
        num_joints = len(benchmark.joint_names)
        few = f"less than {benchmark.min_labelled:.0%} of the joints labelled"
        if benchmark.truth == "stored":
            confidence = shard.arrays["keypoints3d"][:, stored_rows(benchmark, shard), 3] > 0
            seen, root = confidence[:, :num_joints], confidence[:, num_joints:]
            lacks = {"no labelled root": ~root.all(1), few: seen.mean(1) < benchmark.min_labelled}
        elif benchmark.truth == "marked":
            seen = shard.arrays["keypoints2d"][:, stored_rows(benchmark, shard), 2] > 0
            lacks = {few: seen.mean(1) < benchmark.min_labelled}
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
    """Scores of the people of a benchmark, in the order of its shard.

    `errors` has each metric in its unit; a metric of motion counts only the people in `counted`. `joint_errors` are in
    mm, or in 2D in per cent at 0.1 of the box; 0 for joints without ground truth. `odd` is an index into DEGENERATE.
    `rotmats`, `betas` and `camera` are the predictions, for rendering or scoring again; they are empty if the
    predictions were points, `camera` also if they had none. `truth_bodies` has the hash and the number of people of
    each body that posed ground truth.
    `left_out` has the metrics of the benchmark that could not be computed, with the reason.
    """

    benchmark: Benchmark
    shard: Shard
    people: ScoredPeople
    body_sha: str
    regressor_sha: str
    truth_bodies: dict[str, dict[str, str | int]]
    errors: dict[str, Float[np.ndarray, " N"]]
    counted: dict[str, Bool[np.ndarray, " N"]]
    baseline: dict[str, Float[np.ndarray, " N"]]
    left_out: dict[str, str]
    joint_errors: Float[np.ndarray, "N J"]
    odd: Int[np.ndarray, " N"]
    rotmats: Float[np.ndarray, "P R 3 3"]
    betas: Float[np.ndarray, "P S"]
    camera: Float[np.ndarray, "C 3"]
    projection: CameraKind = "crop_weak"
    """What `camera` means."""
    crop: CropRule | None = None
    """The method's own crop that the network saw; None for the dataset's square."""

    def mean(self, metric: str) -> float:
        """The benchmark's number."""
        return float(self.errors[metric][self.counted[metric]].mean(dtype=np.float64))

    @property
    def sequences(self) -> Int[np.ndarray, " N"] | None:
        """The sequence of each person, because frames of a sequence are similar; None if there are fewer than two."""
        if "sequence" not in self.shard.columns:
            return None
        codes = self.shard.arrays["columns/sequence"][self.people.rows].astype(np.int64)
        return codes if len(np.unique(codes)) > 1 else None


@torch.no_grad()
def evaluate(
    predictor: Predictor,
    mean: BodyOrPoints,
    benchmark: Benchmark,
    shard: Shard,
    bodies: Bodies,
    world: World,
    image_px: int = IMAGE_PX,
    truths: Truths | None = None,
) -> Scores:
    """Scores predictions; every rank returns the same scores, bit for bit, for any number of ranks.

    `mean` is one body, the baseline. `image_px` is the crop size that cameras refer to. Memory grows by a few hundred
    numbers per person, and by what `truths` keeps for the next evaluation. Raises RunError if a prediction is not
    finite, RequestError if the benchmark needs more than the predictions contain.
    """
    people = ScoredPeople.of(benchmark, shard)
    left_out: dict[str, str] = {}
    if isinstance(mean, Points):
        benchmark, left_out = possible(benchmark, mean.has)
    elif bodies.to_smpl:
        benchmark, left_out = possible(benchmark, MAPPED_PARTS)
    scorer = Scorer(benchmark, shard, bodies, mean, world.device, image_px, truths)
    order = people.rows
    if benchmark.truth == "gendered":  # a block is posed with one body, but where men end and women begin
        order = order[shard.arrays["gender"][order].argsort(kind="stable")]
    blocks = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    mine = blocks[world.rank :: world.size]
    places: list[np.ndarray] = [np.zeros(0, np.int64)]
    scored: list[dict[str, Tensor]] = []
    for rows, prediction in zip(mine, predictor(mine), strict=True):
        place = np.searchsorted(people.rows, rows)
        seen = torch.from_numpy(people.seen[place]).to(world.device)
        places.append(place)
        scored.append({name: column.cpu() for name, column in scorer.score(rows, prediction, seen).items()})
    all_places = torch.from_numpy(np.concatenate(places))
    columns = {name: torch.cat([block[name] for block in scored]) for name in scored[0]} if scored else {}
    gathered = world.gather_rows(all_places, columns, len(people.rows))
    return _scores(scorer, {name: column.numpy() for name, column in gathered.items()}, people, left_out)


@dataclass(slots=True)
class Feed:
    """Loads the pictures of a benchmark's blocks and moves them to a device.

    `workers`: loading processes; None chooses by cores and blocks. They are kept for the next pass over these blocks.
    """

    benchmark: Benchmark
    shard: Shard
    image_px: int
    device: torch.device
    workers: int | None = None
    needs_place: bool = False
    """Whether the model or its camera looks at more than the crop."""
    crop: CropRule | None = None
    """The method's own crop; None for the dataset's square."""
    _loader: DataLoader[Batch] | None = None

    def __call__(self, blocks: Sequence[np.ndarray]) -> Iterator[Batch]:
        """The batches, in order. Every call must ask for the same blocks."""
        on_gpu = self.device.type == "cuda"
        if self._loader is None:
            few = len(blocks) // BLOCKS_PER_WORKER
            workers = min(auto_workers(cores_per_process(), on_gpu), few) if self.workers is None else self.workers
            row = self.benchmark
            self._loader = bench_loader(
                self.shard,
                blocks,
                self.image_px,
                workers,
                row.box_scale,
                on_gpu,
                self.needs_place,
                Looking(row.decode, row.antialias),
                self.crop,
            )
        return on_device(self._loader, self.device, prefetch=True)


def network_predictor(predict: Callable[[Batch], Prediction], feed: Feed) -> Predictor:
    """Predicts from pictures: `predict` maps a batch to bodies."""

    def predictor(blocks: Sequence[np.ndarray]) -> Iterator[BodyOrPoints]:
        yield from map(predict, feed(blocks))

    return predictor


def evaluate_model(
    model: HMR,
    feed: Feed,
    bodies: Bodies,
    world: World,
    precision: EvalPrecision = "fp32",
    truths: Truths | None = None,
) -> Scores:
    """`evaluate` for a network; keeps its training mode. Poses the body, and measures, in full fp32."""
    was_training = model.training
    model.eval()
    with torch.no_grad():
        mean = mean_prediction(model.head, 1)

    def predict(batch: Batch) -> Prediction:
        with products_in(tf32=precision == "tf32"), computing_in(precision, world.device):
            return model(batch.image, None, batch.place)

    with products_in(tf32=False):
        scores = evaluate(
            network_predictor(predict, feed), mean, feed.benchmark, feed.shard, bodies, world, feed.image_px, truths
        )
    model.train(was_training)
    return replace(scores, projection=getattr(model, "camera", "crop_weak"), crop=feed.crop)


def open_benchmark(benchmark: Benchmark, body: str, store: Store) -> tuple[Benchmark, Shard]:
    """The benchmark as it scores predictions of a body, and its shard.

    SMPL-X is scored as SMPL but where people are labelled with SMPL-X. Raises RequestError if the ground truth has
    poses of another body than the predictions.
    """
    shard = open_shard(store.shard(benchmark.dataset, benchmark.split), benchmark.dataset)
    there = shard.info.body
    if benchmark.is_mapped and body != "smplx":
        raise RequestError(
            f"{benchmark.name} scores predictions of body 'smplx', but these are of body '{body}'; use"
            f" {benchmark.name.removesuffix(f'_{MAPPED}')}"
        )
    if body == "smplx" and not (benchmark.has_bodies and there == body):
        benchmark = through_smpl(benchmark)
    if benchmark.has_bodies and there != ("smpl" if benchmark.is_mapped else body):
        raise RequestError(
            f"{benchmark.name}: its people are labelled with body '{there}', but the checkpoint has body"
            f" '{body}'; their poses cannot be compared"
        )
    if benchmark.is_mapped and benchmark.has_bodies:
        possible(benchmark, MAPPED_PARTS)
    return benchmark, shard


def evaluate_checkpoint(
    checkpoint: Checkpoint,
    benchmark: Benchmark,
    store: Store,
    world: World,
    precision: EvalPrecision = "fp32",
    workers: int | None = None,
    truths: Truths | None = None,
    crop: Crop = "dataset",
) -> Scores:
    """Scores a checkpoint on a benchmark, with the body that it was trained with.

    The body of an imported checkpoint is unknown: the store's body is used, and the record says `unknown`. With `crop:
    method`, the network sees what its own code would cut out, as in `hmrb predict`; RequestError for a benchmark in 2D.
    """
    experiment = checkpoint.experiment()
    check_packages(experiment.packages, "the checkpoint")
    if crop == "method" and benchmark.truth == "marked":
        raise RequestError(
            f"{benchmark.name} scores joints in the dataset's square, and --crop method shows the network another;"
            " leave out --crop"
        )
    if crop == "method" and (benchmark.decode, benchmark.antialias) != ("full", "none"):
        raise RequestError(
            f"{benchmark.name} has a rule of its own for pixels, and --crop method takes that of the method's code;"
            " leave out --crop, or name the benchmark without _seen and _area"
        )
    benchmark, shard = open_benchmark(benchmark, experiment.body, store)
    bodies = Bodies.load(experiment.body, benchmark, store, world.device)
    if checkpoint.body["sha"] not in (bodies.predicted.sha, UNKNOWN_BODY):
        raise RequestError(
            f"the checkpoint was trained with body '{checkpoint.body['name']}' {checkpoint.body['sha']},"
            f" but the body here is {bodies.predicted.sha}; its errors would belong to another body"
        )
    spec = experiment.model.model_copy(update={"weights": "none"})
    model = build_model(spec, kind=bodies.predicted.kind).to(world.device)
    if precision != "fp32":  # half precision and TF32 are fast in this layout alone
        model = model.to(memory_format=torch.channels_last)
    load_weights_into(model, checkpoint, "the checkpoint")
    if model.needs_place:
        check_places(shard)
    rule = model.crop_rule if crop == "method" else None
    feed = Feed(benchmark, shard, experiment.model.image_px, world.device, workers, model.needs_place, rule)
    return evaluate_model(model, feed, bodies, world, precision, truths)


def odd_people(scores: Scores) -> dict[str, int]:
    """The number of degenerate people, by kind."""
    counts = np.bincount(scores.odd, minlength=len(DEGENERATE))
    return {reason: int(count) for reason, count in zip(DEGENERATE, counts, strict=True) if reason and count}


def _scores(scorer: Scorer, columns: dict[str, np.ndarray], people: ScoredPeople, left_out: dict[str, str]) -> Scores:
    """Collects the scored columns of all ranks."""
    benchmark, shard, neutral = scorer.benchmark, scorer.shard, scorer.bodies.neutral
    names, everybody = benchmark.of_people, np.ones(len(people.rows), bool)
    errors = {name: columns["errors"][:, i] for i, name in enumerate(names)}
    baseline = {name: columns["baseline"][:, i] for i, name in enumerate(names)}
    counted = dict.fromkeys(names, everybody)
    if benchmark.of_motion:
        in_a_row = Frames.of(shard, people.rows)
        pred, truth = columns["pred_joints"], columns["true_joints"]
        for name in benchmark.of_motion:
            taken, who = in_a_row.motion(name, pred, truth, benchmark.fps)
            if who.any():
                errors[name], counted[name] = taken, who
                baseline[name] = in_a_row.motion(name, np.zeros_like(truth), truth, benchmark.fps)[0]
            else:
                left_out = left_out | {name: "the shard has no frames of one sequence in a row"}
    kind = scorer.bodies.predicted.kind
    return Scores(
        benchmark=benchmark,
        shard=shard,
        people=people,
        body_sha=scorer.bodies.predicted.sha,
        regressor_sha=regressor_sha(neutral, benchmark.regressor),
        truth_bodies=_truth_bodies(benchmark, shard, people, scorer.bodies),
        errors=errors,
        counted=counted,
        baseline=baseline,
        left_out=left_out,
        joint_errors=columns["joint_errors"],
        odd=columns["degenerate"],
        rotmats=columns.get("rotmats", np.zeros((0, kind.num_joints, 3, 3), np.float32)),
        betas=columns.get("betas", np.zeros((0, kind.num_betas), np.float32)),
        camera=columns.get("camera", np.zeros((0, CAMERA), np.float32)),
    )


def _truth_bodies(
    benchmark: Benchmark, shard: Shard, people: ScoredPeople, bodies: Bodies
) -> dict[str, dict[str, str | int]]:
    if not benchmark.has_bodies:
        return {}
    genders = shard.arrays["gender"][people.rows] if benchmark.truth == "gendered" else np.zeros(len(people.rows), int)
    counts = np.bincount(genders, minlength=len(GENDERS)).tolist()
    return {
        gender: {"sha": bodies.by_gender[gender].sha, "people": count}
        for gender, count in zip(GENDERS, counts, strict=True)
        if count
    }
