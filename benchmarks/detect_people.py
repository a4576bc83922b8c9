"""Measures a detector: people found, false alarms, and ms per picture on one core: the table of docs/detector.md.

Run `pip install 'hmrb[dev]' && python benchmarks/detect_people.py`, or with --detector torchvision. The pictures are
scikit-image's (public domain or CC0), cut-outs of the two people in them laid on others, and hmrb's synthetic people.
A person is found if a box overlaps theirs by half (intersection over union); every other box is a false alarm.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from itertools import islice
from pathlib import Path
from statistics import median

import cv2
import numpy as np
import torch
from record import Figure, arguments, finish

from hmrb.body import load_body
from hmrb.detect import DEFAULT_DETECTOR, DETECTORS, Detector, load_detector
from hmrb.detect.boxes import SAME_PERSON, overlaps
from hmrb.formats.pictures import decoded, read_pixels
from hmrb.synthetic.people import BOX_MARGIN, render_person

NUM_SYNTHETIC, SYNTHETIC_PX = 40, 256
EMPTY = (
    "brick cell chelsea clock_motion coffee coins color grass gravel horse hubble_deep_field.jpg ihc logo"
    " microaneurysms moon motorcycle_left page retina.jpg rocket.jpg text"
)
"""Pictures of scikit-image without people: a cat, a cup, a rocket, drawings, textures, microscopes' and telescopes'."""


@dataclass(frozen=True, slots=True)
class Scene:
    """A picture, and the box of each person in it: x, y, width, height in px."""

    picture: np.ndarray
    boxes: np.ndarray


@dataclass(frozen=True, slots=True)
class Person:
    """A person in a photo of scikit-image: an outline drawn by hand, in px."""

    photo: str
    outline: tuple[tuple[int, int], ...]


ASTRONAUT = Person(
    "astronaut",
    ((225, 15), (180, 30), (155, 70), (170, 115), (180, 140), (130, 160), (110, 190), (120, 235), (70, 255), (40, 300),
     (15, 420), (20, 511), (490, 511), (495, 440), (470, 380), (420, 350), (360, 345), (350, 300), (330, 260),
     (300, 245), (305, 200), (270, 160), (265, 140), (295, 110), (298, 60), (270, 25)),
)  # fmt: skip
CAMERAMAN = Person(
    "camera",
    ((215, 65), (170, 90), (160, 120), (90, 140), (40, 200), (10, 260), (15, 340), (45, 370), (55, 420), (60, 511),
     (140, 511), (150, 385), (200, 310), (260, 330), (300, 300), (310, 220), (330, 205), (330, 170), (300, 140),
     (270, 120), (260, 80)),
)  # fmt: skip
# Background, its width and height; each person's left edge, upper edge and height, and whether they are mirrored.
GROUPS: tuple[tuple[str, int, int, tuple[tuple[Person, int, int, int, bool], ...]], ...] = (
    ("coffee", 640, 400, ((ASTRONAUT, 20, 100, 300, False), (CAMERAMAN, 330, 80, 320, True))),
    ("rocket.jpg", 720, 400, (
        (ASTRONAUT, 10, 150, 250, True), (CAMERAMAN, 250, 130, 270, False), (ASTRONAUT, 440, 170, 230, False))),
    ("grass", 800, 400, (
        (ASTRONAUT, 0, 200, 200, False), (CAMERAMAN, 200, 180, 220, False), (ASTRONAUT, 350, 200, 200, True),
        (CAMERAMAN, 560, 180, 220, True))),
    ("brick", 700, 600, ((ASTRONAUT, 40, 260, 340, False), (CAMERAMAN, 420, 320, 280, False))),
    ("gravel", 520, 600, (
        (ASTRONAUT, 30, 60, 240, False), (CAMERAMAN, 300, 60, 240, True), (ASTRONAUT, 30, 360, 240, True),
        (CAMERAMAN, 300, 360, 240, False))),
    ("coffee", 1600, 600, (
        (CAMERAMAN, 100, 300, 300, False), (ASTRONAUT, 700, 250, 350, True), (ASTRONAUT, 1200, 350, 250, False))),
)  # fmt: skip


def photo(name: str) -> np.ndarray:
    """A picture of scikit-image; `.png` is added to a name without an ending."""
    return read_pixels(Path(str(files("skimage") / "data" / (name if "." in name else f"{name}.png"))))


def photos() -> Iterator[Scene]:
    """The two photos of a person, as they are."""
    for person in (ASTRONAUT, CAMERAMAN):
        visible = (15, 15, 350, 497) if person is ASTRONAUT else (5, 60, 325, 452)  # without helmet and tripod
        yield Scene(photo(person.photo), np.array([visible], float))


def groups() -> Iterator[Scene]:
    """Two to four cut-outs in one picture."""
    for background, width, height, people in GROUPS:
        picture, boxes = cv2.resize(photo(background), (width, height)), []
        for person, left, top, tall, is_mirrored in people:
            outline = np.array(person.outline)
            x, y, w, h = cv2.boundingRect(outline)
            mask = cv2.fillPoly(np.zeros((512, 512), np.uint8), [outline], 255)[y : y + h, x : x + w]
            cut = np.dstack([photo(person.photo)[y : y + h, x : x + w], mask])
            cut = cv2.resize(
                cut[:, ::-1] if is_mirrored else cut, (round(tall * w / h), tall), interpolation=cv2.INTER_AREA
            )
            under = picture[top : top + tall, left : left + cut.shape[1]]
            cut = cut[: under.shape[0], : under.shape[1]]
            share = cut[..., 3:] / 255
            under[:] = share * cut[..., :3] + (1 - share) * under
            boxes.append((left, top, cut.shape[1], cut.shape[0]))
        yield Scene(picture, np.array(boxes, float))


def synthetic(preset: str) -> Iterator[Scene]:
    """Rendered people, one in a picture, of the test split."""
    body = load_body("open", "neutral")
    for index in range(NUM_SYNTHETIC):
        sample = render_person(body, preset, "test", 0, index, SYNTHETIC_PX)
        center, size = sample.box[:2] + sample.box[2:] / 2, sample.box[2:] / BOX_MARGIN
        low, high = (np.clip(center + sign * size / 2, 0, SYNTHETIC_PX) for sign in (-1, 1))
        yield Scene(decoded(sample.jpeg, sample.name), np.concatenate([low, high - low]).astype(float)[None])


def empty() -> Iterator[Scene]:
    """Pictures without people."""
    for name in EMPTY.split():
        yield Scene(photo(name), np.zeros((0, 4)))


def count_hits(found: np.ndarray, people: np.ndarray) -> int:
    """How many people have a box of their own, best boxes first."""
    is_free = np.ones(len(people), bool)
    for box in found:
        fits = np.where(is_free, overlaps(box, people), 0.0)
        if fits.max(initial=0.0) >= SAME_PERSON:
            is_free[fits.argmax()] = False
    return int((~is_free).sum())


def measure(detector: Detector, title: str, most: int | None = None) -> tuple[str, list[float]]:
    """One row of the table, of at most `most` pictures, and the CPU seconds that each picture took."""
    pictures = people = hits = alarms = 0
    seconds = []
    for scene in islice(SCENES[title](), most):
        start = time.process_time()
        found = detector(scene.picture)
        seconds.append(time.process_time() - start)
        hit = count_hits(found.boxes, scene.boxes)
        pictures, people, hits, alarms = pictures + 1, people + len(scene.boxes), hits + hit, alarms + len(found) - hit
    return f"| {title} | {pictures} | {people} | {hits} | {alarms} |", seconds


def main() -> None:
    """Prints the table and the time per picture."""
    parser = arguments(__doc__)
    parser.add_argument("--detector", choices=sorted(DETECTORS), default=DEFAULT_DETECTOR)
    parser.add_argument("--most", type=int, help="pictures of each kind; by default all")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector, spent = load_detector(asked.detector), []
    print("| pictures of | pictures | people | found | false alarms |\n| --- | ---: | ---: | ---: | ---: |")
    for title in SCENES:
        row, seconds = measure(detector, title, asked.most)
        print(row)
        spent += seconds
    print(f"\n{1e3 * median(spent):.0f} ms of CPU time per picture on one core (median)")
    finish(asked, "detect_people", [Figure("a picture", [1e3 * median(spent)], "ms")])


SCENES: dict[str, Callable[[], Iterator[Scene]]] = {
    "one person, a photo": photos,
    "two to four people, cut-outs in one picture": groups,
    "one synthetic person, preset easy": partial(synthetic, "easy"),
    "one synthetic person, preset full (odd poses, hidden parts)": partial(synthetic, "full"),
    "no people": empty,
}

if __name__ == "__main__":
    main()
