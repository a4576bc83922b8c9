"""Measures how many synthetic people one core renders per second: CPU time of this process, one thread.

Run `python benchmarks/synthetic_rate.py`, or with --preset full, --people 500, --side 224.
"""

import time

import cv2
import torch
from record import Figure, arguments, finish

from hmrb.body import load_body
from hmrb.synthetic.people import PRESETS, render_people

WARM_UP = 5  # people rendered before timing


def main() -> None:
    """Renders people and prints images per second and core, and the machine."""
    parser = arguments(__doc__)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="easy")
    parser.add_argument("--people", type=int, default=200)
    parser.add_argument("--side", type=int, default=128, help="side of the picture, px")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    body = load_body("open", "neutral")
    render_people(body, asked.preset, "train", 1, range(WARM_UP), asked.side)
    wall, cpu = time.perf_counter(), time.process_time()
    samples = render_people(body, asked.preset, "train", 0, range(asked.people), asked.side)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    size = sum(len(sample.jpeg) for sample in samples) / len(samples)
    print(f"preset          {asked.preset}, {asked.people} people, {asked.side} px")
    print(f"images/s/core   {asked.people / cpu:.1f}   (CPU time; wall clock: {asked.people / wall:.1f})")
    print(f"JPEG            {size / 1000:.1f} kB on average")
    finish(
        asked,
        "synthetic_rate",
        [Figure(f"{asked.preset}, {asked.side} px", [asked.people / cpu], "people/s", "higher")],
    )


if __name__ == "__main__":
    main()
