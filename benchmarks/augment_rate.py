"""Measures augmentations: ms per picture on one core, for each alone (p = 1) and for the complete baseline.

Run `python benchmarks/augment_rate.py`, or with --source 1000, --crop 256, --json. The baseline includes decoding,
colour noise, flip, scale, rotation and warp, as in training. The time of a single augmentation excludes these.
"""

import inspect
import json
import time
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.random import default_rng
from record import Figure, arguments, finish

from hmrb.data.augment import AFTER_WARP, AUGMENTS, augmenter
from hmrb.data.warp import exposed, warp
from hmrb.formats.pictures import decoded
from hmrb.records import View
from hmrb.spec import DataSpec

SIDE_SHARE = 0.75  # person's square as a share of the picture's side, as in a shard's region


def main() -> None:
    """Times every augmentation and prints a table or JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--source", type=int, default=400, help="side of the picture, px")
    parser.add_argument("--crop", type=int, default=224, help="side of the network's input, px")
    parser.add_argument("--repeats", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="print only JSON")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    start = made_up(asked.source)
    cropped = warp(start, asked.crop)
    jpeg = cv2.imencode(".jpg", start.image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
    baseline = augmenter(DataSpec(mix={"any": 1.0}).augment, "any")

    def alone(name: str) -> Callable[[int], object]:
        op = AUGMENTS[name]
        forced = {"p": 1.0} if "p" in inspect.signature(op).parameters else {}
        view = cropped if op in AFTER_WARP else start
        return lambda seed: op(view, default_rng(seed), **forced)

    def whole(seed: int) -> object:
        view = baseline(replace(start, image=decoded(jpeg, "made up")), default_rng(seed), asked.crop)
        return exposed(view).image

    took = {name: milliseconds(alone(name), asked.repeats) for name in AUGMENTS}
    steps = {
        "decode": milliseconds(lambda _: decoded(jpeg, "made up"), asked.repeats),
        "warp": milliseconds(lambda _: warp(start, asked.crop), asked.repeats),
        "colour noise": milliseconds(lambda _: exposed(cropped), asked.repeats),
        "baseline, all of it": milliseconds(whole, asked.repeats),
    }
    figures = [Figure(name, [ms], "ms") for name, ms in (took | steps).items()]
    if asked.json:
        about = {"source_px": asked.source, "crop_px": asked.crop, "opencv": cv2.__version__, "numpy": np.__version__}
        print(json.dumps(about | {"augmentations_ms": took, "steps_ms": steps}, indent=1))
        finish(asked, "augment_rate", figures)
        return
    print(f"{asked.source} px picture, {asked.crop} px crop, one thread; ms per picture")
    for name, ms in (took | steps).items():
        print(f"{name:<24} {ms:7.3f}")
    finish(asked, "augment_rate", figures)


def made_up(side: int) -> View:
    """A smooth random picture with the labels of a person in its centre, and colour noise."""
    rng = default_rng(0)
    noise = rng.integers(0, 255, (side // 8, side // 8, 3)).astype(np.uint8)
    square = side * SIDE_SHARE
    return View(
        image=np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)),
        box=np.array([side * 0.25, side * 0.125, side * 0.5, square]),
        center=np.array([side / 2, side / 2]),
        side=square,
        rotation=0.0,
        flipped=False,
        gain=np.array([0.9, 1.1, 1.2]),
        keypoints2d=np.concatenate([rng.uniform(0.2, 0.8, (54, 2)) * side, np.ones((54, 1))], 1).astype(np.float32),
        keypoints3d=rng.normal(0, 0.4, (54, 4)).astype(np.float32),
        pose=rng.normal(0, 0.3, (24, 3)).astype(np.float32),
    )


def milliseconds(work: Callable[[int], object], repeats: int) -> float:
    """Mean CPU time in ms of this process per call, over calls with seeds 0, 1, ..."""
    work(0)  # warm-up: builds tables
    begun = time.process_time()
    for seed in range(repeats):
        work(seed)
    return (time.process_time() - begun) / repeats * 1e3


if __name__ == "__main__":
    main()
