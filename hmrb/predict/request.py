"""A whole request: every picture predicted, its files written, and an account of everybody."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from hmrb.errors import RunError
from hmrb.predict.engine import BATCH, Finder, predict_pictures
from hmrb.predict.inputs import Inputs
from hmrb.predict.network import Network
from hmrb.predict.outputs import OutputFolder
from hmrb.predict.pictures import WHOLE_MARGIN, GivenBox
from hmrb.predict.wanted import Wanted

SHOWN = 20  # problems that the last message lists


@dataclass(frozen=True, slots=True, eq=False)
class PredictRequest:
    """Pictures, the network that looks at them, what to write; `find` finds people (None: they are given, or whole)."""

    inputs: Inputs
    network: Network
    wanted: Wanted
    find: Finder | None = None
    batch: int = BATCH

    def said(self) -> list[str]:
        """What the request does, in lines."""
        network, is_whole = self.network, self.find is None and self.inputs.needs_boxes
        margins = [WHOLE_MARGIN] if is_whole else self.inputs.margins(network.rule.margin)
        crops = "; or ".join(network.rule.said(margin) for margin in margins)
        return [*network.notes, f"{network.name} on {network.device}, {network.precision}; crop: {crops}"]


@dataclass(frozen=True, slots=True)
class Account:
    """What became of a request: counts, the files, what could not be done, and what is worth knowing."""

    pictures: int
    people: int
    empty: int
    files: tuple[str, ...]
    cameras: dict[str, int]
    problems: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self) -> list[str]:
        """The account in lines."""
        nobody = f", {self.empty} of them without people" if self.empty else ""
        cameras = [f"camera of {count} people: {said}" for said, count in sorted(self.cameras.items())]
        return [f"{self.people} people in {self.pictures} pictures{nobody}", *cameras, *self.files]

    def json(self) -> str:
        """The account as JSON."""
        return json.dumps({name: getattr(self, name) for name in self.__dataclass_fields__}, indent=1)

    def check(self) -> None:
        """Raises RunError with what could not be done."""
        if self.problems:
            more = f"\nand {len(self.problems) - SHOWN} more" if len(self.problems) > SHOWN else ""
            listed = "\n".join(self.problems[:SHOWN])
            raise RunError(f"{len(self.problems)} pictures or boxes were left out:\n{listed}{more}")


def predict_into(
    folder: Path,
    request: PredictRequest,
    done: Callable[[object], None] = lambda picture: None,
    say: Callable[[str], None] = lambda line: None,
) -> Account:
    """Predict all pictures and write the results to `folder`. Calls `done` per picture, `say` with notes.

    Raises RunError if a file cannot be written; the files of pictures before it are whole.
    """
    out = OutputFolder(folder, request.wanted)
    problems: list[str] = []
    notes: list[str] = []
    cameras: dict[str, int] = {}
    seen = empty = 0
    keep = request.wanted.overlay
    pictures, network = request.inputs.pictures, request.network
    for result in predict_pictures(pictures, network, request.find, request.batch, keep):
        problems += result.problems
        said = list(result.notes)
        if result.people is not None:
            seen, empty = seen + 1, empty + (not len(result.people))
            for source in result.people.camera_from:
                cameras[source] = cameras.get(source, 0) + 1
            if lost := int((result.people.camera[:, 0] <= 0).sum()):
                said.append(f"{result.source.name}: {lost} people with a camera of scale 0 or less, in no overlay")
            said += filter(None, [out.add(result.people, result.rows)])
        for note in said:
            say(note)
        notes += said
        done(result.source)
    if seen:
        out.finish(request.inputs.is_one_shard)
    return Account(seen, out.num_people, empty, tuple(out.summary()), cameras, tuple(problems), tuple(notes))


def finder_named(name: str | None) -> Finder:
    """The detector of this name, or the default one. Raises RequestError."""
    from hmrb.detect import DEFAULT_DETECTOR, load_detector

    detector = load_detector(name or DEFAULT_DETECTOR)

    def find(picture: UInt8[np.ndarray, "H W 3"]) -> list[GivenBox]:
        found = detector(picture)
        boxes, scores = found.boxes.tolist(), found.scores.tolist()
        return [GivenBox((box[0], box[1], box[2], box[3]), score) for box, score in zip(boxes, scores, strict=True)]

    return find
