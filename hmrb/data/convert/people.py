"""People whose labels cannot be used: they are left out of a shard and counted."""

from collections import Counter
from dataclasses import replace

import numpy as np

from hmrb.data.convert.pack import Packing, pack
from hmrb.errors import RunError
from hmrb.records import Person, Photo, Sample

OUTSIDE = "the box is outside the image"
MOST_PX = 1e6  # of a box's numbers; boxes of people cut by the edge of a photo exceed it a few times
LIMIT = 0.05  # share of people with such labels above which a conversion fails


def fault_of(person: Person, has_picture: bool = True) -> str:
    """Why a person cannot be written, or an empty string."""
    if not np.isfinite(person.box).all():
        return "the box is not finite"
    if (np.abs(person.box) > MOST_PX).any():
        return f"the box exceeds {MOST_PX:,.0f} pixels"
    if has_picture and not (person.box[2:] > 0).all():
        return "the box has no size or a negative size"
    for key in ("keypoints2d", "keypoints3d"):
        points = getattr(person, key)
        if len(points) and not np.isfinite(points[points[:, -1] != 0]).all():
            return f"{key} are not finite"
    if person.has_body and not all(np.isfinite(part).all() for part in (person.pose, person.betas, person.transl)):
        return "the body is not finite"
    return ""


def packed(made: Photo | Sample, packing: Packing, left_out: Counter[str]) -> list[Sample]:
    """The people of a photo, or a finished one, that can be used; the others are counted in `left_out`."""
    if isinstance(made, Sample):
        return [one for one in (made,) if _is_usable(one, bool(made.jpeg), left_out)]
    has_picture = bool(made.data or made.file or made.pixels is not None)
    usable = tuple(person for person in made.people if _is_usable(person, has_picture, left_out))
    samples = pack(replace(made, people=usable), packing)
    if len(samples) < len(usable):
        left_out[OUTSIDE] += len(usable) - len(samples)
    return samples


def _is_usable(person: Person, has_picture: bool, left_out: Counter[str]) -> bool:
    fault = fault_of(person, has_picture)
    left_out.update([fault] if fault else [])
    return not fault


def is_labelled(person: Person) -> bool:
    """Whether a person has any label: a keypoint or a body."""
    return person.has_body or any((points[:, -1] > 0).any() for points in (person.keypoints2d, person.keypoints3d))


def check_share(label: str, left_out: Counter[str], kept: int, allowed: int) -> None:
    """Raises RunError if more people cannot be used than `allowed` and than LIMIT of them all.

    People outside their image do not count: small regions and cut images leave them out by design.
    """
    count = left_out.total() - left_out[OUTSIDE]
    people = kept + count
    if count > max(allowed, LIMIT * people):
        raise RunError(
            f"{label}: {count} of {people} people cannot be used, more than {LIMIT:.0%}:"
            f" {'; '.join(summary('left out', left_out))}. Correct the labels, or set --allow-missing {count}"
        )


def summary(word: str, counts: Counter[str]) -> list[str]:
    """The counts in words, most first."""
    return [f"{word}: {count} people: {reason}" for reason, count in counts.most_common()]
