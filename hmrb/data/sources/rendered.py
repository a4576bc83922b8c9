"""What the datasets that hmrb renders have in common: how many people they have, and the command that makes them."""

from hmrb.data.convert.conversion import Converter
from hmrb.data.sources import domains, synthetic


def train_people(source: Converter) -> int:
    """The number of people in train by default."""
    return domains.TRAIN_PEOPLE if source in domains.CONVERTERS else synthetic.TRAIN_PEOPLE


def recipe(source: Converter, people: int, seed: int = 0) -> str:
    """The command that recreates these people; every shard stores it."""
    if source in synthetic.CONVERTERS:
        return synthetic.recipe(synthetic.preset_of(source), people, seed)
    return f"hmrb convert-data {source.name} --people {people} --seed {seed}"
