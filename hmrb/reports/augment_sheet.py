"""Draws the effect of augmentations: one row per person, one column per augmentation, with key points."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float, UInt8
from numpy.random import default_rng

from hmrb.data.augment import AFTER_WARP, AUGMENTS, augmenter
from hmrb.data.warp import exposed
from hmrb.lookup import bind, find
from hmrb.records import View
from hmrb.skeleton import SKELETONS, TRAINING_SKELETON
from hmrb.spec import Op
from hmrb.synthetic.people import BONES

Picture = UInt8[np.ndarray, "H W 3"]

TILE_PX, GAP_PX, TITLE_PX = 200, 8, 44
FONT, TITLE_SIZE, NOTE_SIZE = cv2.FONT_HERSHEY_DUPLEX, 0.45, 0.36
PAPER, INK, FAINT = (255, 255, 255), (25, 25, 25), (120, 120, 120)
LEFT, RIGHT, MIDDLE = (255, 150, 60), (70, 150, 255), (90, 255, 120)  # the person's left is orange, the right blue
RIGHT_JOINTS = SKELETONS[TRAINING_SKELETON].of_side("right")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its title, the line below it, and its augmentations."""

    title: str
    note: str
    ops: tuple[Op, ...] = ()


def each_alone(ops: Sequence[Op]) -> list[Column]:
    """The plain crop, then each augmentation with probability 1, applied to all datasets; each of its kinds alone."""
    columns = [Column("plain", "no augmentation")]
    for op in ops:
        kinds = _kinds(op)
        columns += [Column(f"{op.name}: {kind}", _note(op), (_forced(op, kinds={kind: 1}),)) for kind in kinds]
        columns += [] if kinds else [Column(op.name, _note(op), (_forced(op),))]
    return columns


def draw_sheet(people: Sequence[tuple[str, View]], columns: Sequence[Column], crop_px: int, seed: int) -> Picture:
    """Draws the sheet in RGB; `people` are (dataset, person) pairs. Seed, person and column determine the draws."""
    rows = [np.concatenate([_title(column) for column in columns], 1)]
    for number, (dataset, person) in enumerate(people):
        tiles = []
        for place, column in enumerate(columns):
            augment = augmenter(column.ops, dataset)
            tiles.append(_tile(augment(person, default_rng([seed, number, place]), crop_px)))
        rows.append(np.concatenate(tiles, 1))
    sheet = np.concatenate(rows, 0)
    return np.asarray(cv2.copyMakeBorder(sheet, GAP_PX, 0, GAP_PX, 0, cv2.BORDER_CONSTANT, value=PAPER))


def _kinds(op: Op) -> list[str]:
    """What the augmentation draws one of, as the spec has it; empty if it does one thing."""
    kinds = bind("augmentation", find("augmentation", op.name, AUGMENTS), op.args).get("kinds", {})
    return [kind for kind, weight in kinds.items() if weight]


def _forced(op: Op, **args: object) -> Op:
    """The augmentation with probability 1, for all datasets, and with these arguments."""
    takes_p = "p" in inspect.signature(find("augmentation", op.name, AUGMENTS)).parameters
    return op.model_copy(update={"args": op.args | ({"p": 1.0} if takes_p else {}) | args, "only": ()})


def _note(op: Op) -> str:
    stage = "on the crop" if find("augmentation", op.name, AUGMENTS) in AFTER_WARP else "on the picture"
    return f"{stage}, only {', '.join(op.only)}" if op.only else stage


def _title(column: Column) -> Picture:
    box = np.full((TITLE_PX, TILE_PX + GAP_PX, 3), PAPER, np.uint8)
    cv2.putText(box, column.title.replace("_", " "), (0, 16), FONT, TITLE_SIZE, INK, 1, cv2.LINE_AA)
    cv2.putText(box, column.note, (0, 34), FONT, NOTE_SIZE, FAINT, 1, cv2.LINE_AA)
    return box


def _tile(view: View) -> Picture:
    """The network's input scaled to a tile, with bones and joints; a margin at its right and below."""
    seen = exposed(view).image
    zoom = TILE_PX / len(seen)
    how = cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_AREA
    crop = cv2.resize(seen, (TILE_PX, TILE_PX), interpolation=how)
    _draw_joints(crop, (view.keypoints2d[:, :2] + 0.5) * zoom - 0.5, view.keypoints2d[:, 2] > 0)
    tile = cv2.copyMakeBorder(crop, 0, GAP_PX, 0, GAP_PX, cv2.BORDER_CONSTANT, value=PAPER)
    return np.asarray(tile)


def _draw_joints(tile: Picture, places: Float[np.ndarray, "J 2"], is_labelled: np.ndarray) -> None:
    spots = np.rint(np.clip(places, -4 * TILE_PX, 4 * TILE_PX)).astype(int).tolist()
    for a, b in BONES:
        if is_labelled[a] and is_labelled[b]:
            colour = RIGHT if b in RIGHT_JOINTS else LEFT
            cv2.line(tile, spots[a], spots[b], colour, 1, cv2.LINE_AA)
    for spot, labelled in zip(spots, is_labelled, strict=True):
        if labelled:
            cv2.circle(tile, spot, 1, MIDDLE, -1, cv2.LINE_AA)
