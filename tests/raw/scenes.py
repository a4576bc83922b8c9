"""Images with one or two people, for the label format of any 2D dataset."""

from functools import cache
from pathlib import Path

import numpy as np

from raw.people import Someone, draw, save, someone

SIZE, FOCAL = (320, 240), 300.0


@cache
def scene(seed: int) -> tuple[Someone, ...]:
    """A person, and in every other image a second one; all inside the image except some of the first people."""
    first = someone(2 * seed, SIZE, FOCAL)
    return (first,) if seed % 2 else (first, someone(2 * seed + 1, SIZE, FOCAL, at=(0.7, 0.5)))


def shoot(path: Path, seed: int) -> tuple[Someone, ...]:
    """Draw a scene and write it to a file; returns its people."""
    people = scene(seed)
    save(path, draw(list(people), SIZE, seed))
    return people


def whole(points: np.ndarray) -> np.ndarray:
    """Points with zeros for those that the body does not have."""
    return np.nan_to_num(points)
