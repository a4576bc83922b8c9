"""Rendered people with exact labels, generated without downloads.

Presets: `easy` (synthetic), `full`, and `hidden`: the test people of `easy`, each behind something.
"""

from functools import cache, partial
from typing import TYPE_CHECKING

from hmrb.data.convert.conversion import Converter, SplitPlan
from hmrb.lookup import find
from hmrb.records import Sample

if TYPE_CHECKING:
    from hmrb.body import SMPL

TRAIN_PEOPLE = 10_000
TEST_PEOPLE = 500  # in val and test each
PRESETS = ("easy", "full", "hidden")
SPLITS = ("train", "val", "test")


def plan(preset: str, people: int = TRAIN_PEOPLE, seed: int = 0) -> list[SplitPlan]:
    """Plan `people` for train and TEST_PEOPLE each for val and test; splits share no pose, shape or texture."""
    counts = {"train": people, "val": TEST_PEOPLE, "test": TEST_PEOPLE}
    return [
        SplitPlan(split, range(count), partial(render, preset, split, seed))
        for split, count in counts.items()
        if split in splits(preset)
    ]


def splits(preset: str) -> tuple[str, ...]:
    """The splits of a preset."""
    return ("test",) if preset == "hidden" else SPLITS


def recipe(preset: str, people: int = TRAIN_PEOPLE, seed: int = 0) -> str:
    """The command that recreates these people; every shard stores it."""
    return f"hmrb convert-data synthetic --preset {preset} --people {people} --seed {seed}"


def render(preset: str, split: str, seed: int, index: int) -> list[Sample]:
    """Render person `index` of a split; the bytes do not depend on the process."""
    from hmrb.synthetic.people import render_person

    is_hidden = preset == "hidden"
    return [render_person(open_body(), "easy" if is_hidden else preset, split, seed, index, is_hidden=is_hidden)]


@cache
def open_body() -> "SMPL":
    """The open body, for one process per core."""
    import torch

    from hmrb.body import load_body

    torch.set_num_threads(1)  # one process per core
    return load_body("open")


def by_preset(preset: str) -> Converter:
    """The converter of a preset. Raises RequestError with the available presets if it does not exist."""
    return find("preset", preset, dict(zip(PRESETS, CONVERTERS, strict=True)))


def preset_of(source: Converter) -> str:
    """The preset of a converter in this file."""
    return PRESETS[CONVERTERS.index(source)]


def _source(name: str, preset: str, title: str) -> Converter:
    return Converter(
        name=name,
        title=title,
        licence="CC0 body, generated locally",
        skeleton="smpl54",
        body="open",
        splits=splits(preset),
        plan=partial(plan, preset),
        makes_itself=True,
    )


CONVERTERS = (
    _source("synthetic", PRESETS[0], "Synthetic people, easy preset"),
    _source("synthetic_full", PRESETS[1], "Synthetic people, full preset"),
    _source("synthetic_hidden", PRESETS[2], "Synthetic people, easy preset, behind things"),
)
