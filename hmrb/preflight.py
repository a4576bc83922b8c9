"""Checks the files that an experiment needs, before a run: bodies, shards, weights."""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from hmrb.body import load_body
from hmrb.bodykind import kind_of
from hmrb.check import benches_of, known_benches
from hmrb.data.augment import AUGMENTS
from hmrb.data.checksums import check_once
from hmrb.data.convert.pack import SHRUNK
from hmrb.data.labelled_bodies import bodiless, mean_body
from hmrb.data.occluders import read_pascal
from hmrb.data.places import check_places
from hmrb.data.shard import Shard, open_shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError, joined
from hmrb.evaluation.evaluate import open_benchmark
from hmrb.evaluation.protocols import Benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.lookup import bind, find
from hmrb.missing import experiments_needs, refuse_missing, shard_command, subject_of
from hmrb.models.hmr import build_model
from hmrb.spec import Experiment
from hmrb.store import Store

STUDY_CROP = 0.6  # the side that the study's random_crop leaves


def require_files(experiments: Sequence[Experiment], store: Store, about: str = "") -> None:
    """Raises RequestError with every missing file; if all are there, with all that are unreadable or do not fit.

    `about` is the argument of `hmrb doctor` for these experiments. What several of them share is checked once.
    """
    subject = subject_of(experiments)
    refuse_missing(experiments_needs(experiments, store), subject, about)
    checks: dict[Hashable, Callable[[], object]] = {}
    for experiment in experiments:
        checks |= _checks(experiment, store)
    errors = []
    for check in checks.values():
        try:
            check()
        except RequestError as error:
            errors.append(error)
    if errors:
        raise joined(errors, subject, about)


def _checks(experiment: Experiment, store: Store) -> dict[Hashable, Callable[[], object]]:
    """The checks of an experiment's files, by what they depend on; a model that can't be built is found too."""
    body, sha = experiment.body, experiment.sha()
    checks: dict[Hashable, Callable[[], object]] = {("body", body): partial(load_body, body, store=store)}
    for name in sorted(experiment.data.mix):
        checks["mix", sha, name] = partial(_train_on, experiment, store, name)
    if experiment.model.mean == "labels" and experiment.model.start == "backbone":
        checks["mean", sha] = partial(_start_from, experiment, store)
    poses = experiment.adversary.poses if experiment.adversary.weight else "labels"
    if poses != "labels":
        checks["poses", body, poses] = partial(_imitate, experiment, store, poses)
    for row in known_benches(benches_of(experiment)):
        checks["bench", row.dataset, row.split] = partial(_map, store, row.dataset, row.split)
        checks["scored", body, row.name] = partial(_score_on, row, body, store)
    model = experiment.model
    checks["model", body, model.model_dump_json()] = partial(build_model, model, store, kind_of(body))
    if any(op.args.get("occluders") == "pascal" for op in experiment.data.augment):
        checks["pascal"] = partial(read_pascal, store.pascal)
    return checks


def missing_synthetic(experiment: Experiment, store: Store) -> dict[str, list[str]]:
    """The splits that the store lacks of each synthetic dataset that the experiment needs."""
    names = {*experiment.data.mix, *(row.dataset for row in known_benches(benches_of(experiment)))}
    sources = [CONVERTERS[name] for name in sorted(names) if name in CONVERTERS and CONVERTERS[name].makes_itself]
    lacks = {s.name: [split for split in s.splits if not store.shard(s.name, split).exists()] for s in sources}
    return {name: splits for name, splits in lacks.items() if splits}


def _train_on(experiment: Experiment, store: Store, name: str) -> None:
    """Raises RequestError if the shard of a dataset in the mix is missing or is not for this experiment."""
    shard = _map(store, name, "train")
    _check_pictures(experiment, shard, name)
    if experiment.model.needs_place:
        check_places(shard)
    if name not in bodiless(experiment.data):
        _check_body(experiment, shard, "data.mix", f"leave its bodies out with data.without: {{{name}: [body]}}")


def _start_from(experiment: Experiment, store: Store) -> None:
    """Raises RequestError if nobody in the mix has the body that the regressor is to start from."""
    paths = {name: store.shard(name, "train") for name in experiment.data.mix}
    if all(path.exists() for path in paths.values()):  # another check says so
        shards = {name: _map(store, name, "train") for name in paths}
        if len({shard.kind for shard in shards.values()}) == 1:  # another check says that kinds are mixed
            mean_body(shards, experiment.data)


def _score_on(row: Benchmark, body: str, store: Store) -> None:
    """Raises RequestError if a benchmark cannot score this body, or a body lacks that it is scored with."""
    if not store.shard(row.dataset, row.split).exists():  # another check says so
        return
    benchmark, _ = open_benchmark(row, body, store)
    if benchmark.is_mapped:
        Bodies.load(body, benchmark, store, torch.device("cpu"))


def _imitate(experiment: Experiment, store: Store, name: str) -> None:
    """Raises RequestError if the shard of the adversary's real poses is missing or has poses of another body."""
    _check_body(experiment, _map(store, name, "train"), "adversary.poses", "set adversary.poses: labels")


def _check_body(experiment: Experiment, shard: Shard, field: str, remedy: str) -> None:
    there, wanted = shard.info.body, experiment.body
    count = int((shard.arrays["has_body"] > 0).sum()) if there != wanted else 0
    if count:
        raise RequestError(
            f"{field}: {shard.path} has {count} people with poses and betas of body '{there}', but the spec has"
            f" body: {wanted}; a pose of one body is not a pose of another. Set body: {there}, or {remedy}"
        )


def _check_pictures(experiment: Experiment, shard: Shard, name: str) -> None:
    """Raises RequestError if a crop can need pixels that the shard does not hold."""
    if not shard.info.region_px:
        return
    held, wanted = shard.info, needed_region(experiment, name)
    problems = []
    if wanted.image_px > held.region_px:
        problems.append(f"crops of {held.region_px} px, but the spec needs crops of {wanted.image_px} px")
    if wanted.reach > held.reach + 1e-3:
        problems.append(
            f"squares of {held.reach:.2f} times the person's, but the spec's augmentations reach {wanted.reach:.2f}"
        )
    if problems:
        size = f" --image-px {wanted.image_px}" if wanted.reach <= held.reach + 1e-3 else " --pictures original"
        raise RequestError(
            f"data.mix: {shard.path} holds regions of photos for {'; and for '.join(problems)}. Convert it again:"
            f" {shard_command(name)}{size}{' (or --pictures original)' if 'px' in size else ''}"
        )


@dataclass(frozen=True, slots=True)
class NeededRegion:
    """What a spec shows of a photo: crops of `image_px`, within a square of `reach` times the person's."""

    image_px: int
    reach: float


def needed_region(experiment: Experiment, name: str) -> NeededRegion:
    """What the augmentations of a dataset need. Shrinking as far as the study's needs no more pixels than a region has.

    A region for n px holds crops of n px of a square shrunk by 0.75, the least of the study's `rotate_scale`. Its
    `random_crop` shrinks it further, by 0.6; as in the study, those crops are enlarged. So are those of `extreme_crop`,
    whose squares are inside the person's: it needs nothing more.
    """
    grown, shrunk, cropped, turned = 1.0, 1.0, 1.0, 0.0
    for op in experiment.data.augment:
        args = bind("augmentation", find("augmentation", op.name, AUGMENTS), op.args)
        if op.only and name not in op.only:
            continue
        if op.name == "rotate_scale":
            grown, shrunk = grown * (1 + args["scale"]), shrunk * (1 - args["scale"])
            turned += 2 * args["rotation_deg"] if args["p"] else 0
        if op.name == "random_crop" and args["p"]:
            cropped *= 1 - args["factor"]
    angle = math.radians(min(turned, 45))
    finer = max(SHRUNK / shrunk, 1) * max(STUDY_CROP / cropped, 1)
    px = math.ceil(experiment.model.image_px * finer - 1e-6)
    return NeededRegion(px, grown * (math.cos(angle) + math.sin(angle)))


def _map(store: Store, name: str, split: str) -> Shard:
    """A shard with its arrays mapped, compared with its checksum."""
    shard = open_shard(store.shard(name, split), name, shard_command(name))
    check_once(shard, store)
    return shard
