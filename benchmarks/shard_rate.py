"""Measures the throughput of training input from shards against alternatives, in one run on one core.

(a) the complete pipeline (read, decode, baseline augmentation, warp, normalise) from a training shard of 1920x1080
    photos, decoded whole, from tiled regions in the part that is seen, and from raw regions; against reading the
    photos directly with the same augmentation (imread, float noise on the whole picture, warp), against the limit of
    a whole decode (only decoding the same bytes plus one warp), and against other loaders over the same regions,
    `shard_rivals.py` (pip install webdataset mosaicml-streaming; what is absent is named). All take turns; a rate is
    the median of turns.
(b) opening a shard of 300,000 people: time and private memory.
(c) a draw from a mix of 10 million people.
Run `taskset -c 1 python benchmarks/shard_rate.py`, or with --photos 40, --json.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from record import Better, Figure, arguments, finish
from shard_rivals import rivals

from hmrb.data.convert.pack import Form, Packing, pack
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD, DrawDataset
from hmrb.data.mixture import MixtureSampler
from hmrb.data.shard import Shard
from hmrb.formats.pictures import decoded
from hmrb.records import Person, Photo
from hmrb.spec import DataSpec

SIZE, CROP_PX, MANY = (1920, 1080), 224, 300_000
ABOUT = {"dataset": "made_up", "split": "train", "skeleton": "smpl_54", "body": "open", "made_by": "a benchmark"}
TURNS = 6
SHARD, SEEN, PLAIN = "shard, decoded whole", "tiled shard, decoded where seen", "photos the plain way"
RAW = "raw shard"
LIMIT = "whole decode and warp alone"


def main() -> None:
    """Runs all measurements and prints a table or JSON."""
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=3.0, help="measuring time per alternative, all turns")
    parser.add_argument("--many", type=int, default=MANY, help="people of (b)")
    parser.add_argument("--json", action="store_true", help="print only JSON")
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rates = pipeline(folder, asked.photos, asked.seconds) | opening(folder, asked.many) | drawing()
    found: dict[str, float | str] = {
        **rates,
        "opencv": cv2.__version__,
        "photos": asked.photos,
    }
    if asked.json:
        print(json.dumps(found, indent=1))
    else:
        for key, value in found.items():
            print(f"{key:44} {value:.3g}" if isinstance(value, float) else f"{key:44} {value}")
    figures = [figure(key, value) for key, value in rates.items() if isinstance(value, float)]
    finish(asked, "shard_rate", figures)


def figure(key: str, value: float) -> Figure:
    """A figure; its unit is in its name."""
    units: dict[str, tuple[str, Better]] = {
        "images/s": ("images/s", "higher"),
        "kB": ("kB", "lower"),
        "ms": ("ms", "lower"),
    }
    units |= {"MB": ("MB", "lower"), "us": ("us", "lower")}
    unit, better = units.get(key.replace(",", "").split()[0], ("times", "higher"))
    return Figure(key, [value], unit, better)


def pipeline(folder: Path, count: int, seconds: float) -> dict[str, float | str]:
    """Images/s on one core, for each alternative on the same people."""
    photos = [made_up(folder, number) for number in range(count)]
    forms: tuple[Form, ...] = ("jpeg", "tiled", "raw")
    shard, tiled, raw = (packed(folder / form, photos, form) for form in forms)
    spec = DataSpec(mix={"made_up": 1.0})
    whole = DrawDataset({"made_up": shard}, spec, CROP_PX, 0)
    seen = DrawDataset({"made_up": tiled}, spec.model_copy(update={"decode": "seen"}), CROP_PX, 0)
    unpacked = DrawDataset({"made_up": raw}, spec, CROP_PX, 0)
    jpegs = [shard.picture(i) for i in range(shard.info.num_images)]
    matrix = np.array([[0.8, 0.1, 3.0], [-0.1, 0.8, 9.0]])

    def bare(i: int) -> object:
        image = decoded(jpegs[i % len(jpegs)], "")
        return cv2.warpAffine(image, matrix, (CROP_PX, CROP_PX), flags=cv2.INTER_LINEAR)

    others, absent = rivals(folder, shard, CROP_PX)
    steps = {
        SHARD: lambda i: whole[i],
        SEEN: lambda i: seen[i],
        RAW: lambda i: unpacked[i],
        LIMIT: bare,
        PLAIN: lambda i: plainly(photos[i % count], i),
        **others,
    }
    found = rates(steps, seconds)
    out: dict[str, float | str] = {f"images/s, {name}": value for name, value in found.items()}
    for ours in (SEEN, RAW):
        out |= {f"{ours} / {name}": found[ours] / value for name, value in found.items() if name != ours}
    for form, one in zip(("", "tiled ", "raw "), (shard, tiled, raw), strict=True):
        out |= {f"kB a person in the {form}shard": one.path.stat().st_size / 1e3 / len(one)}
    return out | {"kB a photo": sum(p.file.stat().st_size for p in photos if p.file) / 1e3 / count} | absent


def packed(path: Path, photos: list[Photo], form: Form) -> Shard:
    """A training shard of regions."""
    file = path.with_suffix(".h5")
    with ShardWriter(file, **ABOUT) as out:
        for photo in photos:
            for sample in pack(photo, Packing("region", CROP_PX, form=form)):
                out.add(sample)
    return Shard(file)


def plainly(photo: Photo, seed: int) -> np.ndarray:
    """The usual implementation: the whole photo, noise on all of it in floats, one warp, normalisation."""
    rng = np.random.default_rng(seed)
    person = photo.people[0]
    photographed = cv2.imread(str(photo.file))
    assert photographed is not None
    image: np.ndarray = cv2.cvtColor(photographed, cv2.COLOR_BGR2RGB).astype(np.float32)
    image = np.minimum(255.0, np.maximum(0.0, image * rng.uniform(0.6, 1.4, 3)))
    if rng.random() < 0.5:
        image = image[:, ::-1]
    x, y, width, height = person.box.tolist()
    zoom = CROP_PX / (max(width, height) * np.clip(rng.normal(1, 0.25), 0.75, 1.25))
    angle = np.clip(rng.normal(0, np.pi / 6), -np.pi / 3, np.pi / 3) if rng.random() < 0.6 else 0.0
    turn = zoom * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shift = CROP_PX / 2 - turn @ [x + width / 2, y + height / 2]
    crop = cv2.warpAffine(np.ascontiguousarray(image), np.concatenate([turn, shift[:, None]], 1), (CROP_PX, CROP_PX))
    return ((crop - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1).astype(np.float32)


def made_up(folder: Path, number: int) -> Photo:
    """A photo with texture at every scale, and one person."""
    rng = np.random.default_rng(number)
    image = np.zeros((SIZE[1], SIZE[0], 3), np.float32)
    for level in range(8):
        grain = rng.normal(0, 12, (max(SIZE[1] >> level, 2), max(SIZE[0] >> level, 2), 3)).astype(np.float32)
        image += cv2.resize(grain * (0.3 + level / 4), SIZE, interpolation=cv2.INTER_CUBIC)
    file = folder / f"{number:04d}.jpg"
    cv2.imwrite(str(file), (image + 128).clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])
    side = rng.uniform(350, 700)
    x, y = rng.uniform(0, SIZE[0] - side), rng.uniform(0, SIZE[1] - side)
    points = np.concatenate([rng.uniform([x, y], [x + side, y + side], (54, 2)), np.ones((54, 1))], 1)
    person = Person(box=np.array([x, y, side, side], np.float32), keypoints2d=points.astype(np.float32), has_body=True)
    return Photo(name=file.name, people=(person,), file=file)


def opening(folder: Path, many: int) -> dict[str, float]:
    """Opens and maps a shard of many people in a fresh process and reads one person."""
    path = folder / "many_train.h5"
    jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    person = Person(box=np.array([0, 0, 8, 8], np.float32), keypoints2d=np.ones((54, 3), np.float32))
    with ShardWriter(path, **ABOUT) as out:
        (sample,) = pack(Photo(name="a", people=(person,), data=jpeg), Packing())
        for _ in range(many):
            out.add(sample)
    script = (
        "import sys, time; from pathlib import Path; from hmrb.data.shard import Shard\n"
        "def private():\n"
        "    return sum(int(l.split()[1]) for l in open('/proc/self/smaps_rollup') if l.startswith('Private'))\n"
        "before = private(); start = time.perf_counter()\n"
        "shard = Shard(Path(sys.argv[1])); shard.arrays; shard.jpeg(len(shard) // 3)\n"
        "shard.arrays['pose'][len(shard) // 2].sum()\n"
        "print(1000 * (time.perf_counter() - start), (private() - before) / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    milliseconds, megabytes = map(float, done.stdout.split())
    return {f"ms to open {many:,} people": milliseconds, "MB of its own, a process": megabytes}


def drawing() -> dict[str, float]:
    """Time of a draw from a mix of ten datasets with ten million people."""
    names = [f"set{i}" for i in range(10)]
    sampler = MixtureSampler(dict.fromkeys(names, 0.1), dict.fromkeys(names, 1_000_000), 0)
    return {"us a draw from 10 million": 1e6 / rate(lambda i: sampler.draw(i, 0), 1.0)}


def rates(steps: Mapping[str, Callable[[int], object]], seconds: float) -> dict[str, float]:
    """Calls per second of each, which take turns; the median of TURNS."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(TURNS):
        for name, step in steps.items():
            found[name].append(rate(step, seconds / TURNS))
    return {name: statistics.median(values) for name, values in found.items()}


def rate(step: Callable[[int], object], seconds: float) -> float:
    """Calls per second, after a few warm-up calls."""
    for i in range(5):
        step(i)
    start, steps = time.process_time(), 0
    while time.process_time() - start < seconds:
        step(steps)
        steps += 1
    return steps / (time.process_time() - start)


if __name__ == "__main__":
    main()
