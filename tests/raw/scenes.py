"""Pictures with one or two people in them, to be labelled in the manner of any 2D dataset."""

from functools import cache
from pathlib import Path

import numpy as np

from raw.people import Someone, draw, save, someone

SIZE = (320, 240)


@cache
def scene(seed: int) -> tuple[Someone, ...]:
    """A person, and in every other picture a second one, whole in the picture but for some of the first."""
    first = someone(2 * seed, SIZE)
    return (first,) if seed % 2 else (first, someone(2 * seed + 1, SIZE, at=(0.7, 0.5)))


def shoot(path: Path, seed: int) -> tuple[Someone, ...]:
    """Draws a scene, writes it as a file, and says who is in it."""
    people = scene(seed)
    save(path, draw(list(people), SIZE, seed))
    return people


def whole(points: np.ndarray) -> np.ndarray:
    """Points with zeros in place of those that the body has no place for."""
    return np.nan_to_num(points)
