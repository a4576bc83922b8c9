"""Checks the files that an experiment needs, before a run: bodies, shards, weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from hmrb.body import load_body
from hmrb.bodykind import kind_of
from hmrb.check import benches_of, known_benches, messages
from hmrb.data.augment import AUGMENTS
from hmrb.data.checksums import check_once
from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.convert.own import is_own
from hmrb.data.convert.pack import SHRUNK
from hmrb.data.labelled_bodies import bodiless
from hmrb.data.occluders import read_pascal
from hmrb.data.shard import Shard, open_shard
from hmrb.data.sources import CONVERTERS
from hmrb.errors import RequestError
from hmrb.lookup import bind, find
from hmrb.models.hmr import build_model
from hmrb.spec import Experiment
from hmrb.store import Store

STUDY_CROP = 0.6  # the side that the study's random_crop leaves


def file_problems(experiment: Experiment, store: Store) -> list[str]:
    """Problems with files: missing or unreadable bodies, shards and weights, or a model that can't be built."""
    checks: list[Callable[[], object]] = [partial(load_body, experiment.body, store=store)]
    checks += [partial(_train_on, experiment, store, name) for name in sorted(experiment.data.mix)]
    poses = experiment.adversary.poses if experiment.adversary.weight else "labels"
    if poses != "labels":
        checks.append(partial(_imitate, experiment, store, poses))
    needed = {(row.dataset, row.split) for row in known_benches(benches_of(experiment))}
    checks += [partial(_map, store, name, split) for name, split in sorted(needed)]
    checks.append(partial(build_model, experiment.model, store, kind_of(experiment.body)))
    if any(op.args.get("occluders") == "pascal" for op in experiment.data.augment):
        checks.append(partial(read_pascal, store.pascal))
    return list(dict.fromkeys(messages(checks)))


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
    if name not in bodiless(experiment.data):
        _check_body(experiment, shard, "data.mix", f"leave its bodies out with data.without: {{{name}: [body]}}")


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
            f" {_command(name)}{size}{' (or --pictures original)' if 'px' in size else ''}"
        )


@dataclass(frozen=True, slots=True)
class NeededRegion:
    """What a spec shows of a photo: crops of `image_px`, within a square of `reach` times the person's."""

    image_px: int
    reach: float


def needed_region(experiment: Experiment, name: str) -> NeededRegion:
    """What the augmentations of a dataset need. Shrinking as far as the study's needs no more pixels than a region has.

    A region for n px holds crops of n px of a square shrunk by 0.75, the least of the study's `rotate_scale`. Its
    `random_crop` shrinks it further, by 0.6; as in the study, those crops are enlarged.
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
    shard = open_shard(store.shard(name, split), name, _command(name))
    check_once(shard, store)
    return shard


def _command(name: str) -> str:
    command, row = f"hmrb convert-data {name}", DATASETS.get(name)
    if is_own(name):
        return f"hmrb convert-data coco-json --file FILE --images DIR --as {name}, or another kind of file"
    return f"{command} --raw DIR (its files: {row.homepage}, {row.access})" if row and row.homepage else command
