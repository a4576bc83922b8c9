"""Rendered people of the synthetic domains: nine with exact labels, three with fewer or worse ones."""

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np

from hmrb.data.convert.catalogue import DATASETS
from hmrb.data.convert.conversion import Converter, SplitPlan
from hmrb.data.sources.synthetic import SPLITS, open_body
from hmrb.records import Sample

TRAIN_PEOPLE, VAL_PEOPLE, TEST_PEOPLE = 2_000, 250, 500
FITTED_PHOTOS = 200  # fitted together, always as many, so that nobody's fit depends on how many people are wanted
DOMAINS = {  # people in each photo
    "studio": 1, "street": 1, "crowd": 4, "seated": 1, "sport": 1, "closeup": 1, "lowlight": 1, "wide": 1,
    "lifelike": 1,
}  # fmt: skip
Labels = Literal["exact", "2d", "3d", "fits"]
PARTIAL: tuple[tuple[str, Labels], ...] = (("street", "2d"), ("studio", "3d"), ("street", "fits"))


def plan(domain: str, labels: Labels, people: int = TRAIN_PEOPLE, seed: int = 0) -> list[SplitPlan]:
    """Plan at least this many people for train; of exact labels, VAL_PEOPLE and TEST_PEOPLE for val and test.

    Splits share no person, pair of key poses, texture or place.
    """
    counts = {"train": people, "val": VAL_PEOPLE, "test": TEST_PEOPLE}
    photos = {split: math.ceil(count / DOMAINS[domain]) for split, count in counts.items() if split in splits(labels)}
    if labels == "fits":
        starts = range(0, photos["train"], FITTED_PHOTOS)
        fits = partial(render_fits, domain, seed, photos["train"])
        return [SplitPlan("train", starts, fits, photos_each=FITTED_PHOTOS)]
    return [
        SplitPlan(split, range(count), partial(render, domain, labels, split, seed)) for split, count in photos.items()
    ]


def splits(labels: Labels) -> tuple[str, ...]:
    """The splits with these labels: nothing is chosen or tested by labels that are not exact."""
    return SPLITS if labels == "exact" else ("train",)


def render(domain: str, labels: Labels, split: str, seed: int, index: int) -> list[Sample]:
    """The people of photo `index` of a split; the bytes do not depend on the process."""
    from hmrb.synthetic.photos import render_photo

    people = render_photo(open_body(), domain, split, seed, index)
    return people if labels == "exact" else [without_body(one, labels) for one in people]


def render_fits(domain: str, seed: int, count: int, start: int) -> Iterator[Sample]:
    """The people of FITTED_PHOTOS photos of train from `start` on, up to photo `count`, with fitted bodies."""
    from hmrb.synthetic.fits import with_fits
    from hmrb.synthetic.photos import render_photo

    photos = range(start, start + FITTED_PHOTOS)
    people = [(index, one) for index in photos for one in render_photo(open_body(), domain, "train", seed, index)]
    fitted = with_fits(open_body(), [one for _, one in people], seed)
    return (one for (index, _), one in zip(people, fitted, strict=True) if index < count)


def without_body(sample: Sample, labels: Labels) -> Sample:
    """A person with 2D and 3D joints only, or without the 3D joints too; intrinsics are those of exact labels."""
    fewer = replace(
        sample, has_body=False, pose=np.zeros_like(sample.pose), betas=np.zeros_like(sample.betas),
        transl=np.zeros_like(sample.transl),
    )  # fmt: skip
    return replace(fewer, keypoints3d=np.zeros_like(sample.keypoints3d)) if labels == "2d" else fewer


def _source(domain: str, labels: Labels) -> Converter:
    name = f"synthetic_{domain}" if labels == "exact" else f"synthetic_{domain}_{labels}"
    return Converter(
        name=name,
        title=DATASETS[name].name,
        licence=DATASETS[name].licence,
        skeleton="smpl54",
        body="open",
        splits=splits(labels),
        plan=partial(plan, domain, labels),
        makes_itself=True,
    )


CONVERTERS = (*(_source(domain, "exact") for domain in DOMAINS), *(_source(*row) for row in PARTIAL))
