"""Measures what `hmrb predict` takes beside the network, in ms per person on one core.

Run `python benchmarks/predict_rate.py`. Photos of one and of two people (rendered, on noise, JPEG of quality 90) with
given boxes are read, cut, posed and written: the CPU time of the whole process, less that of the thread that runs the
network; then the same by the clock, with the disk. The network is of random weights, which changes nothing here.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from record import Figure, arguments, finish

from hmrb.body import load_body
from hmrb.checkpoint import Checkpoint, save_checkpoint
from hmrb.data.convert.conversion import ProgressReporter
from hmrb.formats.pictures import decoded
from hmrb.models.hmr import build_model
from hmrb.parallel.world import World
from hmrb.predict.inputs import Inputs, read_inputs
from hmrb.predict.network import Network, load_network
from hmrb.predict.request import PredictRequest, plan_of, predict_into, prepare_folder
from hmrb.predict.wanted import Wanted
from hmrb.spec import parse_experiment
from hmrb.store import Store
from hmrb.synthetic.people import render_person

KINDS = {
    "--no-overlay --mesh none": Wanted(overlay=False, meshes=()),
    "--format h5": Wanted(overlay=False, meshes=(), parameters=False, format="h5"),
    "all files": Wanted(),
}
SIZES = ((640, 480, 1), (640, 480, 2), (1920, 1080, 2))
ROWS = [*((size, kind) for size in SIZES for kind in list(KINDS)[:2]), (SIZES[0], "all files")]


def main() -> None:
    """Prints a row per size of photo and kind of output."""
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=int, default=100)
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    figures = []
    print(
        "| photo | people each | output | ms of CPU per person | ms by the clock |\n| --- | ---: | --- | ---: | ---: |"
    )
    with tempfile.TemporaryDirectory() as name:
        network = untrained(Path(name) / "best.pt")
        for number, ((width, height, each), kind) in enumerate(ROWS):
            folder = Path(name) / str(number)
            folder.mkdir()
            inputs = photos(folder, width, height, each, args.photos)
            measure(Inputs(inputs.pictures[:8]), network, KINDS[kind], folder / "warm_up")
            cpu, clock = measure(inputs, network, KINDS[kind], folder / "out")
            ms = 1000 / (args.photos * each)
            print(f"| {width} x {height} | {each} | {kind} | {cpu * ms:.1f} | {clock * ms:.1f} |", flush=True)
            figures.append(Figure(f"{width} x {height}, {each} a photo, {kind}: a person", [cpu * ms], "ms"))
    finish(args, "predict_rate", figures)


def measure(inputs: Inputs, network: Network, wanted: Wanted, out: Path) -> tuple[float, float]:
    """Seconds of CPU, and of the clock, that a prediction takes beside the network."""
    regress = Network.regress
    spent = np.zeros(2)

    def measured(*given: Any) -> Any:
        start = np.array([time.thread_time(), time.perf_counter()])
        found = regress(*given)
        spent[:] += np.array([time.thread_time(), time.perf_counter()]) - start
        return found

    prepare_folder(out, plan_of(inputs, network, wanted, "given", {}))
    request = PredictRequest(inputs, network, wanted)
    start = np.array([time.process_time(), time.perf_counter()])
    with mock.patch.object(Network, "regress", measured):
        account = predict_into(out, request, World(0, 1, torch.device("cpu")), ProgressReporter())
    assert account is not None
    assert account.people
    cpu, clock = (np.array([time.process_time(), time.perf_counter()]) - start - spent).tolist()
    return cpu, clock


def photos(folder: Path, width: int, height: int, each: int, count: int) -> Inputs:
    """A list of photos of people who stand side by side, four different ones again and again, and their boxes."""
    body, rng = load_body("open"), np.random.default_rng(0)
    side = min(height, width // each)
    lines = ["path,x,y,w,h"]
    for number in range(4):
        photo = cv2.GaussianBlur(rng.integers(0, 255, (height, width, 3), np.uint8), (9, 9), 0)
        people = [render_person(body, "full", "train", 0, number * each + one) for one in range(each)]
        for one, person in enumerate(people):
            pixels = decoded(person.jpeg, person.name)[..., ::-1]
            photo[:side, one * side : (one + 1) * side] = cv2.resize(pixels, (side, side))
        data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
        for copy in range(number, count, 4):
            (folder / f"{copy:04d}.jpg").write_bytes(data)
            for one, person in enumerate(people):
                x, y, w, h = (person.box * side / person.photo_px[0]).tolist()
                lines.append(f"{copy:04d}.jpg,{x + one * side},{y},{w},{h}")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    return read_inputs([str(folder / "list.csv")], Store(folder))


def untrained(path: Path) -> Network:
    """A small network for crops of 224 px, with its initial weights."""
    tree = {
        "name": "rate",
        "body": "open",
        "model": {"backbone": "mini", "weights": "none", "features": "mean", "image_px": 224},
        "data": {"mix": {"synthetic": 1.0}},
        "evals": {"benches": [], "select_on": None},
    }
    experiment = parse_experiment(tree, "rate")
    save_checkpoint(
        Checkpoint(
            spec=experiment.model_dump_json(), model=build_model(experiment.model).state_dict(), training={}, step=1,
            body={"name": "open", "sha": load_body("open").sha}, shards={}, chosen_by="a benchmark", score=None,
            code_version="", torch_version="",
        ),
        path,
    )  # fmt: skip
    return load_network(path, "cpu")


if __name__ == "__main__":
    main()
