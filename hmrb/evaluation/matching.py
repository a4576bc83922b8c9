"""Finds the person of a shard that each prediction is for: by picture, then by number, box or order in the picture."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from hmrb.data.shard import Shard
from hmrb.errors import RequestError
from hmrb.evaluation.prediction_files import BOXES, NAMES, PERSONS, first_fitting, numbers, texts

COLUMNS = ("person", "track")  # of a shard that number the people of a picture
NEAR = 0.25  # of the box's longer side: centres of one person's boxes; margins and detectors move them less
Rows = dict[str, list[int]]


def places(path: Path, table: Mapping[str, Any], shard: Shard, count: int) -> Int[np.ndarray, " P"]:
    """For each person of the shard, the index of its prediction; -1 if there is none. Raises RequestError."""
    place = np.full(len(shard), -1, np.int64)
    key = next((key for key in NAMES if key in table), None)
    given = None if key is None else texts(path, key, table[key])
    if given is not None and len(given) != count:
        raise RequestError(f"{path}: {len(given)} names for {count} predictions")
    if "row" in table:
        rows = _rows(path, table, shard, given, count)
        place[rows] = np.arange(count)
    elif given is not None:
        for mine, other in _pairs(path, table, shard, given):
            place[mine] = other
    elif count == len(shard):
        place[:] = np.arange(count)
    else:
        raise RequestError(
            f"{path}: {count} predictions for the {len(shard)} people of {shard.path.name}; provide one per person in"
            f" its order, or names of pictures ({', '.join(NAMES)})"
        )
    return place


def _rows(
    path: Path, table: Mapping[str, Any], shard: Shard, given: list[str] | None, count: int
) -> Int[np.ndarray, " N"]:
    """The rows of the shard that the file names itself, as an hmrb result does."""
    told = numbers(path, "row", table["row"])
    rows = told.astype(np.int64)
    fits = rows.shape == (count,) and (rows == told).all() and rows.min() >= 0 and rows.max() < len(shard)
    if not fits or (
        given is not None and any(shard.name(row) != name for row, name in zip(rows.tolist(), given, strict=True))
    ):
        raise RequestError(f"{path}: its rows do not match {shard.path.name}; the predictions are for another shard")
    _refuse_doubles(path, rows.tolist())
    return rows


def _pairs(path: Path, table: Mapping[str, Any], shard: Shard, given: Sequence[str]) -> list[tuple[int, int]]:
    """(row of the shard, index of its prediction)."""
    ours: Rows = defaultdict(list)
    for row in range(len(shard)):
        ours[shard.name(row)].append(row)
    same = same_pictures(path, list(dict.fromkeys(given)), ours, shard.path.name)
    theirs: Rows = defaultdict(list)
    for index, name in enumerate(given):
        theirs[same[name]].append(index)
    for name, found in theirs.items():
        if len(found) > len(ours[name]):
            if len(ours[name]) == 1:
                raise RequestError(f"{path}: more than one prediction for '{name}'; provide one per person")
            raise RequestError(f"{path}: {len(found)} predictions for the {len(ours[name])} people of '{name}'")
    if all(len(ours[name]) == 1 for name in theirs):
        return [(ours[name][0], found[0]) for name, found in theirs.items()]
    by_number = _by_number(path, table, shard, ours, theirs)
    if by_number is not None:
        return by_number
    centres = _centres(path, table, len(given))
    if centres is not None:
        return _by_box(path, shard, ours, theirs, centres)
    return _by_order(path, table, shard, ours, theirs)


def same_pictures(path: Path, given: Sequence[str], known: Mapping[str, Any], shard: str) -> dict[str, str]:
    """For each given name, the shard's name of the picture: the same, or the same from its end on.

    One side may have longer paths. Raises RequestError if a name fits no picture, or several.
    """
    ends: dict[str, set[str]] = defaultdict(set)
    for name in known:
        for end in _ends(name):
            ends[end].add(name)
    same: dict[str, str] = {}
    for name in given:
        whole = _ends(name)
        found = {name} if name in known else ends.get(whole[0], set()) | {end for end in whole if end in known}
        if not found:
            taken = set(same.values())
            left = next((one for one in known if one not in taken), next(iter(known)))
            raise RequestError(
                f"{path}: {shard} has no picture '{name}'; its first picture without a prediction is '{left}'. Names"
                " must be equal, or equal from the end on if one side has longer paths; leave out other pictures"
            )
        if len(found) > 1:
            raise RequestError(
                f"{path}: '{name}' can be {' or '.join(map(repr, sorted(found)[:2]))} of {shard}; give longer paths"
            )
        same[name] = found.pop()
    double = next((one for one, times in Counter(same.values()).items() if times > 1), None)
    if double is not None:
        both = [name for name, one in same.items() if one == double]
        raise RequestError(f"{path}: '{both[0]}' and '{both[1]}' both match picture '{double}' of {shard}")
    return same


def _ends(name: str) -> list[str]:
    """A path without its first folders, from none to all of them."""
    words = [word for word in name.replace("\\", "/").split("/") if word not in ("", ".")]
    return ["/".join(words[start:]) for start in range(len(words))] or [name]


def _person_numbers(table: Mapping[str, Any], count: int) -> Float[np.ndarray, " N"] | None:
    found = first_fitting(table, PERSONS, ((count,), (count, 1)))
    return None if found is None else found.reshape(count)


def number_column(shard: Shard) -> str | None:
    """The shard's column that numbers people; None if it has none."""
    return next((key for key in COLUMNS if key in shard.columns and not shard.categories(key)), None)


def _by_number(
    path: Path, table: Mapping[str, Any], shard: Shard, ours: Rows, theirs: Rows
) -> list[tuple[int, int]] | None:
    """Pairs by the number of a person in its picture; None where the shard or the file has none or they differ."""
    column, told = number_column(shard), _person_numbers(table, sum(map(len, theirs.values())))
    if column is None or told is None:
        return None
    mine = shard.arrays[f"columns/{column}"]
    out: list[tuple[int, int]] = []
    for name, found in theirs.items():
        where = {float(mine[row]): row for row in ours[name]}
        if len(where) < len(ours[name]) or any(told[index] not in where for index in found):
            return None
        _refuse_doubles(path, [f"person {told[index]:g} of {name}" for index in found])
        out += [(where[told[index]], index) for index in found]
    return out


def _centres(path: Path, table: Mapping[str, Any], count: int) -> Float[np.ndarray, "N 2"] | None:
    """Middles of boxes (x, y, width, height) in pixels of the photo, or `center`; None if the file has neither."""
    box = first_fitting(table, BOXES, ((count, 4),))
    return first_fitting(table, ("center",), ((count, 2),)) if box is None else box[:, :2] + box[:, 2:] / 2


def _by_box(
    path: Path, shard: Shard, ours: Rows, theirs: Rows, centres: Float[np.ndarray, "N 2"]
) -> list[tuple[int, int]]:
    """Pairs of the nearest middles of boxes. Raises RequestError unless each is far nearer than the next."""
    box, origin = shard.arrays["box"].astype(np.float64), shard.arrays["origin"][shard.arrays["image"]]
    scale, corner = origin[:, 2:].astype(np.float64), origin[:, :2]
    middle = (box[:, :2] + box[:, 2:] / 2 + 0.5) / scale - 0.5 + corner  # in the photo
    side = box[:, 2:].max(1) / scale[:, 0]
    out: list[tuple[int, int]] = []
    for name, found in theirs.items():
        rows = ours[name]
        away = np.linalg.norm(centres[found][:, None] - middle[rows], axis=2) / side[rows]
        best = away.argmin(1)
        ranked = np.sort(away, axis=1)
        is_clear = len(rows) == 1 or bool((2 * ranked[:, 0] < ranked[:, 1]).all())
        if len(set(best.tolist())) < len(found) or not is_clear or not (ranked[:, 0] < NEAR).all():
            raise RequestError(
                f"{path}: its boxes do not tell the people of '{name}' apart; boxes are x, y, width, height in pixels"
                f" of the photo, as in {shard.path.name}, or add numbers of people ({', '.join(PERSONS[:2])})"
            )
        out += [(rows[nearest], index) for nearest, index in zip(best.tolist(), found, strict=True)]
    return out


def _by_order(path: Path, table: Mapping[str, Any], shard: Shard, ours: Rows, theirs: Rows) -> list[tuple[int, int]]:
    """Pairs the k-th prediction of a picture with its k-th person in the shard."""
    for name, found in theirs.items():
        if len(found) < len(ours[name]):
            raise RequestError(
                f"{path}: {len(found)} predictions for the {len(ours[name])} people of '{name}'; add their boxes"
                f" ({', '.join(BOXES[:2])}: x, y, width, height) or numbers ({', '.join(PERSONS[:2])}, as in"
                f" {shard.path.name})"
            )
    out = [pair for name, found in theirs.items() for pair in zip(ours[name], found, strict=True)]
    told, column = _person_numbers(table, len(out)), number_column(shard)
    if told is not None and column is not None:
        _refuse_changing_people(path, shard, column, told, out)
    return out


def _refuse_changing_people(
    path: Path, shard: Shard, column: str, told: Float[np.ndarray, " N"], pairs: Sequence[tuple[int, int]]
) -> None:
    """Raises RequestError if one number of the file is, by order, of different people of a sequence."""
    sequence = shard.arrays["columns/sequence"] if "sequence" in shard.columns else np.zeros(len(shard))
    mine = shard.arrays[f"columns/{column}"]
    known: dict[tuple[float, float], float] = {}
    for row, index in pairs:
        person = known.setdefault((float(sequence[row]), float(told[index])), float(mine[row]))
        if person != mine[row]:
            raise RequestError(
                f"{path}: person {told[index]:g} of '{shard.name(row)}' is person {mine[row]:g} of"
                f" {shard.path.name} there and person {person:g} in another picture; number people as the shard's"
                f" column {column} does, or add boxes"
            )


def _refuse_doubles(path: Path, given: Sequence[object]) -> None:
    double = next((one for one, count in Counter(given).items() if count > 1), None)
    if double is not None:
        raise RequestError(f"{path}: more than one prediction for '{double}'; provide one per person")
