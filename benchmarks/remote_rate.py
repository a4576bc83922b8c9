"""Measures training input from S3 against the model of docs/scale.md: readers / (latency + time of a request).

The server is moto's, on loopback, behind a proxy that adds latency and 1 % of failures; the pictures are textured
photos of 1920x1080 packed for crops of 224 px, each fetched once. Needs s3fs and moto[server]. For each latency the
model says how many readers give `--rate` images/s; the loader then runs with that many, in this process, and decodes
and augments all of them. Nothing is kept on disk.
"""

import itertools
import math
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
from record import Figure, arguments, finish
from shard_rate import ABOUT, CROP_PX, made_up

import hmrb.data.convert.writer
from hmrb.data import ranges
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.loader import DrawDataset, StepDraws, train_loader
from hmrb.data.shard import Shard
from hmrb.records import Sample
from hmrb.spec import DataSpec
from hmrb.store import Store

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from own_s3 import ACCESS, BUCKET, Trouble, s3  # type: ignore[import-not-found]

PHOTOS, PICTURES, BATCH = 8, 640, 32
FILE_BYTES = 1 << 20  # moto copies a whole object for each range: files of pictures as small as this answer quickly
LATENCIES_S = (0.02, 0.15)  # of a near store; published for Amazon S3, 100 to 200 ms
ALONE = 100  # requests, one after the other, for the time of one without latency


def main() -> None:
    """Prints a row for each latency and rate."""
    parser = arguments(__doc__)
    parser.add_argument("--rate", type=float, nargs="+", default=[50.0, 100.0], help="images/s to plan readers for")
    parser.add_argument("--seconds", type=float, default=10.0, help="measuring time for each row")
    parser.add_argument("--failures", type=float, default=0.01)
    asked = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as name, s3(Path(name) / "log") as proxy:
        os.environ.update(
            ACCESS, AWS_ENDPOINT_URL=f"http://127.0.0.1:{proxy.port}", HMRB_CACHE=f"{name}/cache", HMRB_CACHE_GB="0"
        )
        shard = stored(Path(name))
        request_s = alone(shard)
        count, size = shard.info.num_images, shard.arrays["jpeg/offset"][-1] / shard.info.num_images
        print(f"{count} pictures of {size / 1e3:.0f} kB; a request without latency: {1e3 * request_s:.1f} ms\n")
        figures = []
        print("| latency, ms | failures | readers | predicted, images/s | measured | measured / predicted |")
        print("| ---: " * 6 + "|", flush=True)
        for latency_s, rate in itertools.product(LATENCIES_S, asked.rate):
            readers = max(round(rate * (latency_s + request_s)), 1)
            said = readers / (latency_s + request_s)
            proxy.trouble = Trouble(latency_s=latency_s, failures=asked.failures)
            got = measured(shard, readers, asked.seconds)
            cells = f"{1e3 * latency_s:.0f} | {100 * asked.failures:g} % | {readers} | {said:.0f} | {got:.0f}"
            print(f"| {cells} | {got / said:.2f} |", flush=True)
            name = f"{1e3 * latency_s:.0f} ms of latency, readers for {rate:g} images/s"
            figures += [
                Figure(f"{name}: images/s", [got], "images/s", "higher"),
                Figure(f"{name}: measured / predicted", [got / said], "times", "higher"),
            ]
    finish(asked, "remote_rate", figures)


def stored(folder: Path) -> Shard:
    """The shard in the bucket, written as hmrb convert-data writes it."""
    import s3fs

    s3fs.S3FileSystem().mkdir(BUCKET)
    hmrb.data.convert.writer.PICTURES_BYTES = hmrb.data.convert.writer.BLOCK_BYTES = FILE_BYTES
    path = Store.at(f"s3://{BUCKET}/home").shard("made_up", "train")
    with ShardWriter(path, **ABOUT) as out:
        for sample in people(folder):
            out.add(sample)
    return Shard(path)


def people(folder: Path) -> Iterator[Sample]:
    """PICTURES people; their pictures repeat, but for a number behind the end of each."""
    few = [sample for at in range(PHOTOS) for sample in pack(made_up(folder, at), Packing("region", CROP_PX))]
    for number, sample in zip(range(PICTURES), itertools.cycle(few), strict=False):
        yield replace(sample, jpeg=sample.jpeg + number.to_bytes(8, "big"))


def alone(shard: Shard) -> float:
    """Median seconds of a request for a picture, one at a time."""
    assert shard.ranges
    took = []
    for image in range(0, 2 * ALONE, 2):
        begun = time.perf_counter()
        shard.ranges._fetched([image])
        took.append(time.perf_counter() - begun)
    return sorted(took)[ALONE // 2]


def measured(shard: Shard, readers: int, seconds: float) -> float:
    """Images/s of the training loader after its first batches."""
    os.environ["HMRB_READERS"] = str(readers)
    ranges._pool.cache_clear()
    fresh = Shard(shard.path)
    dataset = DrawDataset({"made_up": fresh}, DataSpec(mix={"made_up": 1.0}), CROP_PX, 0)
    batches = iter(train_loader(dataset, StepDraws(BATCH, 0, math.ceil(1e6), 0, 1), workers=0))
    for _ in range(3):
        next(batches)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < seconds:
        next(batches)
        count += BATCH
    seconds = time.perf_counter() - begun
    ranges._pool(os.getpid()).shutdown(cancel_futures=True)  # what nobody comes for would be asked for at the end
    return count / seconds


if __name__ == "__main__":
    main()
