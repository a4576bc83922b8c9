"""A made-up dataset of 20 items, in blocks of 3, that can be told to die: `python making.py HOME WORKERS`.

FAULT=exit:N ends the process that reads item N, kill:N kills it, slow waits a moment at each item. Run by
test_convert.py.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np

import hmrb.data.convert.conversion
from hmrb.data.convert.conversion import ConversionOptions, Converter, PhotoFilter, ProgressReporter, SplitPlan, convert
from hmrb.data.convert.pack import Packing
from hmrb.errors import RunError
from hmrb.records import Person, Photo
from hmrb.store import Store

ITEMS = 20
MISSING = (4, 13)  # items whose picture is not there, of the split that has such
BLOCK = 3


def read(lacking: tuple[int, ...], item: int) -> Iterator[Photo]:
    """Two photos, of one and of two people; of item 7 nobody."""
    kind, _, number = os.environ.get("FAULT", "").partition(":")
    if kind == "slow":
        time.sleep(0.15)
    if kind == "exit" and item == int(number):
        os._exit(9)
    if kind == "kill" and item == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    for photo in range(0 if item == 7 else 2):
        rng = np.random.default_rng([item, photo])
        people = tuple(_person(rng, item) for _ in range(photo + 1))
        name = f"{'indoors' if item % 2 else 'outdoors'}/{item:02d}_{photo}.jpg"
        if item in lacking and photo:
            yield Photo(name=name, people=people, file=Path("nowhere") / name)
            continue
        pixels = cv2.resize(rng.integers(0, 255, (24, 32, 3)).astype(np.uint8), (160, 120))
        yield Photo(name=name, people=people, data=cv2.imencode(".jpg", pixels)[1].tobytes())


def _person(rng: np.random.Generator, item: int) -> Person:
    points = np.column_stack([rng.uniform(20, 100, (14, 2)), np.ones(14)]).astype(np.float32)
    return Person(
        box=np.array([*rng.uniform(10, 40, 2), 60, 80], np.float32),
        keypoints2d=points,
        columns={"sequence": f"item {item}", "number": float(item)},
        extra={"smplx/betas": rng.normal(0, 1, 10)},
    )


def source(lacking: tuple[int, ...] = ()) -> Converter:
    return Converter(
        name="lsp", title="Made up", licence="", skeleton="lsp", splits=("train",),
        plan=lambda raw: [SplitPlan("train", range(ITEMS), partial(read, lacking))],
    )  # fmt: skip


def make(
    home: Path | str,
    workers: int = 1,
    selection: PhotoFilter | None = None,
    lacking: tuple[int, ...] = (),
    limit: int = 0,
) -> list[str]:
    """Converts; what the ticker was told."""
    said: list[str] = []

    class Listening(ProgressReporter):
        def say(self, line: str) -> None:
            said.append(line)

    made = source(lacking)
    making = ConversionOptions(
        "a test", workers, selection or PhotoFilter(), Packing("region", 64), missing_limit=limit
    )
    convert(made, made.plan(None), Store.at(str(home)), making, Listening())
    return said


if __name__ == "__main__":
    hmrb.data.convert.conversion.BLOCK_PHOTOS = BLOCK
    try:
        make(sys.argv[1], int(sys.argv[2]))
    except RunError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
