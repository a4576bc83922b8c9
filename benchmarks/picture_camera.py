"""How far bodies move between the crop's camera and the picture's: the table of docs/predict.md.

`python benchmarks/picture_camera.py`: 100 rendered people's poses in the middle of crops of 224 px, whose square lies
aside of the picture's middle; distances of all vertices in pixels of the crop. With the path of a predictions.npz: of
its people, in pixels of their pictures, by the method's rule.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from record import Figure, arguments, finish

from hmrb.body import load_body
from hmrb.formats.exif import FULL_FRAME_MM
from hmrb.geometry import rotvec_to_rotmat
from hmrb.predict.people import People, ShownPicture
from hmrb.records import Sample
from hmrb.synthetic.people import render_person

COUNT, IMAGE_PX, SCALE = 100, 224, 0.9
WIDTH, HEIGHT = 4000, 3000
CASES = ((1500, 0), (1500, 600), (1500, 1200), (600, 0), (600, 850), (600, 1700))  # side of the square, px aside
PHONE_MM = 26  # of a phone's main camera, as 35 mm film


@cache
def posed() -> list[Sample]:
    """The rendered people."""
    return [render_person(load_body("open"), "easy", "test", 0, index) for index in range(COUNT)]


def placed(side: float, aside: float) -> People:
    """The people in squares of this side, `aside` px to the right of the picture's middle."""
    body = load_body("open")
    truth = posed()
    center = np.array([(WIDTH - 1) / 2, (HEIGHT - 1) / 2])
    square = np.array([center[0] + aside, center[1], side], np.float32)
    return People(
        pictures=(ShownPicture("made up", (WIDTH, HEIGHT)),),
        picture=np.zeros(COUNT, np.int64),
        box=np.zeros((COUNT, 4), np.float32),
        score=np.ones(COUNT, np.float32),
        square=np.tile(square, (COUNT, 1)),
        rotmats=rotvec_to_rotmat(torch.from_numpy(np.stack([one.pose for one in truth]))).numpy(),
        betas=np.stack([one.betas for one in truth]),
        camera=np.tile(np.array([SCALE, 0, 0], np.float32), (COUNT, 1)),
        focal_px=np.full(COUNT, 5000 * side / IMAGE_PX, np.float32),
        center_px=np.tile(center.astype(np.float32), (COUNT, 1)),
        camera_from=("rule of the method",) * COUNT,
        image_px=IMAGE_PX,
        crop_rule="hmr",
        body_name="open",
        body=body,
    )


def moved_px(people: People) -> tuple[float, float]:
    """Mean and largest distance of vertices between the two cameras, in pixels of the crop."""
    own, picture = (camera.project(people.vertices) for camera in (people.crop_camera, people.picture_camera))
    away = np.linalg.norm(picture - own, axis=2) * IMAGE_PX / people.square[:, 2:]
    return float(away.mean()), float(away.max())


def predicted(table: Mapping[str, np.ndarray]) -> People:
    """The people of a predictions.npz, with the camera of the method's rule. The body is the open one."""
    size, count, px = table["picture_px"], len(table["box"]), int(table["image_px"][0])
    parts = {name: table[name] for name in ("box", "score", "square", "rotmats", "betas", "camera")}
    return People(
        pictures=tuple(ShownPicture("", (width, height)) for width, height in size.tolist()),
        picture=np.arange(count),
        focal_px=5000 * table["square"][:, 2] / px,
        center_px=((size - 1) / 2).astype(np.float32),
        camera_from=("rule of the method",) * count,
        image_px=px,
        crop_rule="hmr",
        body_name="open",
        body=load_body("open"),
        **parts,
    )


def main() -> None:
    """Prints the table, or the largest distance of given people."""
    parser = arguments(__doc__)
    parser.add_argument("predictions", type=Path, nargs="?", help="a predictions.npz")
    asked = parser.parse_args()
    if asked.predictions:
        with np.load(asked.predictions, allow_pickle=False) as arrays:
            people = predicted(dict(arrays))
        ways = [camera.project(people.vertices) for camera in (people.crop_camera, people.picture_camera)]
        largest = float(np.linalg.norm(ways[0] - ways[1], axis=2).max())
        print(f"{len(people)} people, largest: {largest:.3f} px of the picture")
        finish(asked, "picture_camera", [Figure("given people, largest", [largest], "px")])
        return
    phone = np.full(COUNT, PHONE_MM / FULL_FRAME_MM * math.hypot(WIDTH, HEIGHT), np.float32)
    print("| square, px | aside, px | rule: mean | rule: largest | phone: mean | phone: largest |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    figures = []
    for side, aside in CASES:
        by_rule = placed(side, aside)
        numbers = (*moved_px(by_rule), *moved_px(replace(by_rule, focal_px=phone)))
        print(f"| {side} | {aside} | " + " | ".join(f"{number:.2f}" for number in numbers) + " |")
        names = ("rule, mean", "rule, largest", "phone, mean", "phone, largest")
        figures += [
            Figure(f"square {side}, aside {aside}: {name}", [number], "px")
            for name, number in zip(names, numbers, strict=True)
        ]
    finish(asked, "picture_camera", figures)


if __name__ == "__main__":
    main()
