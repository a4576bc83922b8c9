"""Measures the JPEG quality of a training shard: bytes and decoding time against the error of the crop.

People are rendered at 640 px, packed as `hmrb convert-data` packs a photo, and cropped as in training. The error is the
RMS difference of the crop's pixels (of 255) from the crop of the photo itself; `size alone` is the error of resizing
without compression. Run `python benchmarks/jpeg_quality.py`, or with --people 40, --json.
"""

import json
import time

import cv2
import numpy as np
from record import Figure, arguments, finish

from hmrb.body import load_body
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.loader import view_of
from hmrb.data.warp import warp
from hmrb.formats.pictures import decoded
from hmrb.records import Person, Photo, Sample
from hmrb.synthetic.people import render_people

PHOTO_PX, CROP_PX = 640, 224
QUALITIES = (70, 80, 85, 90, 93, 95, 97)


def main() -> None:
    """Measures every quality on the same people."""
    parser = arguments(__doc__)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--json", action="store_true", help="print only JSON")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    photos = [
        photo(sample) for sample in render_people(load_body("open"), "full", "train", 3, range(asked.people), PHOTO_PX)
    ]
    rows = [measured(photos, quality) for quality in QUALITIES]
    figures = [
        Figure(f"quality {row['quality']:.0f}: {name}", [row[key]], unit)
        for row in rows
        for name, key, unit in (("size", "kB", "kB"), ("decoding", "decode_ms", "ms"), ("error", "error", "of 255"))
    ]
    if asked.json:
        print(json.dumps(rows, indent=1))
        finish(asked, "jpeg_quality", figures)
        return
    line = "{quality:7} {kB:6.1f} {decode_ms:11.2f} {error:7.2f} {size_alone:12.2f}"
    print("quality     kB   decode ms   error   size alone")
    for row in rows:
        print(line.format(**row))
    finish(asked, "jpeg_quality", figures)


def photo(sample: Sample) -> Photo:
    """A rendered person as a photo, without further compression."""
    person = Person(box=sample.box, keypoints2d=sample.keypoints2d, keypoints3d=sample.keypoints3d)
    return Photo(name=sample.name, people=(person,), pixels=decoded(sample.jpeg, sample.name))


def measured(photos: list[Photo], quality: int) -> dict[str, float]:
    """Means over all people."""
    sizes, errors, alone, times = [], [], [], []
    for whole in photos:
        (small,) = pack(whole, Packing("region", CROP_PX, quality))
        (exact,) = pack(whole, Packing("original"))
        sizes.append(len(small.jpeg))
        start = time.process_time()
        for _ in range(10):
            decoded(small.jpeg, "")
        times.append((time.process_time() - start) / 10)
        truth = crop(exact)
        errors.append(rms(crop(small), truth))
        (lossless,) = pack(whole, Packing("region", CROP_PX, 100))
        alone.append(rms(crop(lossless), truth))
    return {
        "quality": quality,
        "kB": float(np.mean(sizes)) / 1e3,
        "decode_ms": 1e3 * float(np.mean(times)),
        "error": float(np.mean(errors)),
        "size_alone": float(np.mean(alone)),
    }


def crop(sample: Sample) -> np.ndarray:
    """The square around the person: the network's input before normalisation."""
    return warp(view_of(sample, "smpl54", ""), CROP_PX).image.astype(np.float64)


def rms(one: np.ndarray, two: np.ndarray) -> float:
    """Root of the mean square difference."""
    return float(np.sqrt(((one - two) ** 2).mean()))


if __name__ == "__main__":
    main()
