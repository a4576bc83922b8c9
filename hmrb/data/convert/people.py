"""People whose labels cannot be used: they are left out of a shard and counted."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.reasons import BY_DESIGN, NO_BODY, NO_SIZE, OUTSIDE
from hmrb.errors import RunError
from hmrb.records import Person, Photo, Sample

MOST_PX = 1e6  # of a box's numbers; boxes of people cut by the edge of a photo exceed it a few times
LIMIT = 0.05  # share of people with such labels above which a conversion fails
FEW = 1  # people; that many are no share


@dataclass(slots=True)
class Tally:
    """Numbers of people by reason: those who are left out, and those who are kept with doubtful labels."""

    left_out: Counter[str] = field(default_factory=Counter)
    doubtful: Counter[str] = field(default_factory=Counter)


def fault_of(person: Person, has_picture: bool = True) -> str:
    """Why a person cannot be written, or an empty string."""
    if not np.isfinite(person.box).all():
        return "the box is not finite"
    if (np.abs(person.box) > MOST_PX).any():
        return f"the box exceeds {MOST_PX:,.0f} pixels"
    if has_picture and not (person.box[2:] > 0).all():
        return NO_SIZE
    for key in ("keypoints2d", "keypoints3d"):
        points = getattr(person, key)
        if len(points) and not np.isfinite(points[points[:, -1] != 0]).all():
            return f"{key} are not finite"
    if person.camera is not None and not np.isfinite(person.camera).all():
        return "the intrinsics are not finite"
    if person.has_body and not all(np.isfinite(part).all() for part in (person.pose, person.betas, person.transl)):
        return NO_BODY
    return ""


def packed(made: Photo | Sample, packing: Packing, tally: Tally) -> list[Sample]:
    """The people of a photo, or a finished one, that can be used; the others are counted."""
    left_out = tally.left_out
    if isinstance(made, Sample):
        return [one for one in (made,) if _is_usable(one, bool(made.jpeg), left_out)]
    left_out.update(made.left_out)
    has_picture = bool(made.data or made.file or made.pixels is not None)
    usable = tuple(person for person in made.people if _is_usable(person, has_picture, left_out))
    samples = pack(replace(made, people=usable), packing, tally.doubtful)
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


def check_share(label: str, tally: Tally, kept: int, allowed: int) -> None:
    """Raises RunError if more people cannot be used, or are doubtful, than `allowed` and than LIMIT of them all.

    Reasons of BY_DESIGN do not count: a dataset's own rule leaves out what it leaves out.
    """
    count = tally.left_out.total() - sum(tally.left_out[reason] for reason in BY_DESIGN)
    people = kept + count
    if count > max(allowed, FEW, LIMIT * people):
        raise RunError(
            f"{label}: {count} of {people} people cannot be used, more than {LIMIT:.0%}:"
            f" {'; '.join(summary('left out', tally.left_out))}. Correct the labels, or set --allow-missing {count}"
        )
    doubts = tally.doubtful.total()
    if doubts > max(allowed, FEW, LIMIT * people):
        raise RunError(
            f"{label}: {'; '.join(summary('doubtful', tally.doubtful))}, more than {LIMIT:.0%} of {people}. Are the"
            " images resized, or from another release than the labels? Use the images that the labels were made for,"
            f" or set --allow-missing {doubts} to keep these people"
        )


def check_missing(label: str, problems: Sequence[str], allowed: int, advice: str = "") -> None:
    """Raises RunError if more images cannot be used than `allowed`."""
    if len(problems) > allowed:
        raise RunError(
            f"{label}: {len(problems)} images cannot be used, --allow-missing allows {allowed}:"
            f" {'; '.join(problems[:3])}{advice}"
        )


def counted(name: str, left_out: Mapping[str, int]) -> Iterator[Photo]:
    """The people that a reader leaves out of an item, as a photo of nobody; nothing if it leaves out none.

    It comes after the item's other photos, whose numbers decide which of them are selected.
    """
    if left_out:
        yield Photo(name=name, people=(), left_out=left_out)


def summary(word: str, counts: Mapping[str, int]) -> list[str]:
    """The counts in words, most first."""
    return [f"{word}: {count} people: {reason}" for reason, count in Counter(counts).most_common()]
