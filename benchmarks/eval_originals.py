"""Measures which share of an evaluation's time the network takes, on originals of 1920x1080: a person's crop is small.

ResNet-50 HMR in bf16 and channels_last on all cores, as `hmrb eval --precision bf16` runs it, on 3DPW's protocol with
random bodies of SMPL's size; per person the same work as a test set of 35,515. For each way of looking at pictures
(benchmarks 3dpw, 3dpw_area, 3dpw_seen, 3dpw_seen_area): people per second, the network's share of the wall time, and
the time of decoding and warping alone. The ways take turns. Run `python benchmarks/eval_originals.py`, or with
--people 256, --workers 0.
"""

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from eval_rate import made_up_body, made_up_members
from record import Figure, arguments, finish
from shard_rate import ABOUT, made_up

import hmrb.evaluation.evaluate
from hmrb.batch import Batch, Prediction
from hmrb.data.convert.pack import Packing, pack
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.loader import RowDataset
from hmrb.data.seen import Looking
from hmrb.data.shard import Shard
from hmrb.evaluation.evaluate import Feed, evaluate, network_predictor
from hmrb.evaluation.protocols import find_benchmark
from hmrb.evaluation.scoring import Bodies
from hmrb.models.head import mean_prediction
from hmrb.models.hmr import build_model, computing_in
from hmrb.parallel.cores import cores_per_process
from hmrb.parallel.world import World
from hmrb.spec import ModelSpec, auto_workers
from hmrb.system import keep_memory

WAYS = ("3dpw", "3dpw_area", "3dpw_seen", "3dpw_seen_area")
ALONE, PHOTOS, CROP_PX = World(0, 1, torch.device("cpu")), 16, 224


def main() -> None:
    """Runs the measurement and prints one line per way."""
    parser = arguments(__doc__)
    parser.add_argument("--people", type=int, default=256)
    parser.add_argument("--turns", type=int, default=3)
    workers = auto_workers(cores_per_process(), on_gpu=False)  # as many as a whole test set starts
    parser.add_argument("--workers", type=int, default=workers)
    parser.add_argument("--quality", type=int, default=92, help="of the photos' JPEG")
    asked = parser.parse_args()
    hmrb.evaluation.evaluate.BATCH = 16  # so that waiting for the first batch counts little, as among 35,515 people
    keep_memory()
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        shard = originals(Path(name), asked.people, asked.quality, rng)
        print(f"{len(shard)} people, {shard.path.stat().st_size / 1e3 / PHOTOS:.0f} kB a photo")
        members = {gender: made_up_members(rng) for gender in ("neutral", "male", "female")}
        bodies = Bodies({gender: made_up_body(gender, one) for gender, one in members.items()})
        spec = ModelSpec(backbone="resnet50", weights="none")
        model = build_model(spec, kind=bodies.predicted.kind).eval().to(memory_format=torch.channels_last)
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(asked.turns):
            for way in WAYS:
                found[way].append(evaluated(way, shard, bodies, model, asked.workers))
        figures = []
        for way, runs in found.items():
            loading = loading_ms(way, shard)
            figures += [
                Figure(f"{way}: people/s", [asked.people / seconds for seconds, _ in runs], "people/s", "higher"),
                Figure(f"{way}: share of the time in the network", [share for _, share in runs], "of 1", "higher"),
                Figure(f"{way}: decoding and warping a person", [loading], "ms"),
            ]
            seconds, share = (statistics.median(column) for column in zip(*runs, strict=True))
            print(
                f"{way:16} {asked.people / seconds:6.1f} people/s, {share:.1%} of the time in the network;"
                f" {loading:.2f} ms to decode and warp"
            )
    finish(asked, "eval_originals", figures)


def evaluated(way: str, shard: Shard, bodies: Bodies, model: torch.nn.Module, workers: int) -> tuple[float, float]:
    """Seconds of an evaluation after the workers have started, and the network's share of them."""
    row, spent = find_benchmark(way).only(("mpjpe", "pa_mpjpe", "pve")), [0.0]
    feed = Feed(row, shard, CROP_PX, ALONE.device, workers)

    def predict(batch: Batch) -> Prediction:
        begun = time.perf_counter()
        with computing_in("bf16", ALONE.device):
            out: Prediction = model(batch.image)
        spent[0] += time.perf_counter() - begun
        return out

    with torch.no_grad():
        mean = mean_prediction(model.head, 1)  # type: ignore[arg-type]
    predictor = network_predictor(predict, feed)
    evaluate(predictor, mean, row, shard, bodies, ALONE, CROP_PX)
    spent[0], begun = 0.0, time.perf_counter()
    evaluate(predictor, mean, row, shard, bodies, ALONE, CROP_PX)
    seconds = time.perf_counter() - begun
    return seconds, spent[0] / seconds


def loading_ms(way: str, shard: Shard) -> float:
    """CPU time of a person's crop in one process."""
    row = find_benchmark(way)
    people = RowDataset(shard, CROP_PX, row.box_scale, looking=Looking(row.decode, row.antialias))
    times = []
    for i in range(min(2 * PHOTOS, len(shard))):
        begun = time.process_time()
        people[i]
        times.append(time.process_time() - begun)
    return 1000 * statistics.median(times)


def originals(folder: Path, people: int, quality: int, rng: np.random.Generator) -> Shard:
    """A shard of people in photos of 1920x1080, half of them less than half as large in the crop."""
    photos = [made_up(folder, number) for number in range(PHOTOS)]
    for photo in photos:
        assert photo.file is not None
        pixels = cv2.imread(str(photo.file))
        assert pixels is not None
        cv2.imwrite(str(photo.file), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    file = folder / "3dpw_test.h5"
    with ShardWriter(file, **ABOUT | {"dataset": "3dpw", "split": "test", "body": "smpl"}) as out:
        for number in range(people):
            photo = photos[number * PHOTOS // people]  # people of one photo in a row share it
            one = replace(photo.people[0], pose=rng.normal(0, 0.3, (24, 3)).astype(np.float32), gender="male")
            for sample in pack(replace(photo, people=(one,)), Packing()):
                out.add(sample)
    return Shard(file)


if __name__ == "__main__":
    main()
