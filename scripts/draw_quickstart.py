"""Draw README's picture from the report of the quickstart: the best, two median people and the worst.

    hmrb train specs/quickstart.yaml --cpu-procs 2
    python scripts/draw_quickstart.py runs/quickstart

Each person has the six views of the report: the labelled body is beside the prediction.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from hmrb.evaluation.metric_table import TITLES, UNITS
from hmrb.evaluation.records import read_results
from hmrb.formats.pictures import decoded
from hmrb.reports.gallery import PEOPLE, as_tall, foot, sheet_of

WIDTH_PX = 480  # of a person; two go side by side
GAP_PX = 8
JPEG_QUALITY = 88
METRIC = "pa_mpjpe"  # by which the report ranks people
Picture = UInt8[np.ndarray, "_ _ 3"]


def draw(run: Path) -> Picture:
    """The people of a run's first benchmark. Raises RequestError if it has no results."""
    result = read_results([run])[0]
    errors = np.sort(result.errors[METRIC])
    count = min(PEOPLE, max(len(errors) // 3, 1))  # as the report counts
    middle = (len(errors) - count) // 2
    shown = {"best_1": 0, "median_1": middle, "median_2": middle + 1, "worst_1": -1}
    stem = run / "overlays" / result.record.benchmark.replace("/", "-")
    tiles = []
    for name, rank in shown.items():
        file = Path(f"{stem}_{name}.png")
        views = decoded(file.read_bytes(), str(file))
        size = WIDTH_PX, round(WIDTH_PX * views.shape[0] / views.shape[1])
        group = name.partition("_")[0]
        words = f"{group} of {len(errors)}: {TITLES[METRIC]} {errors[rank]:.1f} {UNITS[METRIC]}"
        small = np.asarray(cv2.resize(views, size, interpolation=cv2.INTER_AREA))
        tile = np.concatenate([small, foot(words, WIDTH_PX)], 0)
        tiles.append(cv2.copyMakeBorder(tile, 0, GAP_PX, 0, GAP_PX, cv2.BORDER_CONSTANT, value=(255, 255, 255)))
    tall = max(map(len, tiles))  # a person without a labelled body has one row of views
    return sheet_of([as_tall(tile, tall) for tile in tiles], 2)[:-GAP_PX, :-GAP_PX]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the run, with its report")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "quickstart.jpg")
    given = parser.parse_args()
    cv2.imwrite(str(given.out), draw(given.run)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    print(f"{given.out}: {given.out.stat().st_size / 1e3:.0f} kB")
