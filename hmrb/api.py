"""The Python API, offered lazily by `import hmrb`. See docs/python_api.md."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, overload

import numpy as np
import torch
from jaxtyping import UInt8

from hmrb.batch import Prediction
from hmrb.bodykind import CAMERA, BodyKind
from hmrb.check import name_problems, resolve
from hmrb.checkpoint import UNKNOWN_BODY, hold, open_run
from hmrb.data.checksums import check_once, is_verified
from hmrb.data.loader import bench_loader
from hmrb.data.seen import Looking
from hmrb.data.shard import Shard
from hmrb.data.shard import open_shard as open_shard_file
from hmrb.detect import DEFAULT_DETECTOR, check_detector
from hmrb.errors import RequestError, RunError
from hmrb.evaluation.evaluate import Feed, Scores, evaluate_model, open_benchmark
from hmrb.evaluation.evaluate import evaluate as evaluate_predictor
from hmrb.evaluation.protocols import Benchmark, find_benchmark
from hmrb.evaluation.records import Provenance, Record
from hmrb.evaluation.saving import save_scores
from hmrb.evaluation.scoring import Bodies
from hmrb.formats.files import reason
from hmrb.formats.pictures import decoded
from hmrb.parallel.world import World
from hmrb.predict.engine import BATCH, predict_pictures
from hmrb.predict.given import Picture, check_count, check_word, path_of, sources_of
from hmrb.predict.network import Network, device_named, load_network
from hmrb.predict.people import People as People
from hmrb.predict.people import joined
from hmrb.predict.request import finder_named
from hmrb.preflight import require_files
from hmrb.records import Sample
from hmrb.run import machine, provenance_of, run_experiment
from hmrb.spec import load_experiment, parse_experiment
from hmrb.store import Store

Boxes = np.ndarray | Sequence[Sequence[float]]
"""The people of a picture (N 4): x, y, width, height in its pixels."""
CropsToBodies = Callable[[UInt8[np.ndarray, "N S S 3"]], Mapping[str, Any]]
"""From RGB crops to `rotmats` (N 24 3 3), `betas` (N 10) and `camera` (N 3: scale, x, y of the crop)."""


class Predictor:
    """A network that takes pictures and gives people. `load` makes it."""

    def __init__(self, network: Network) -> None:
        self.network = network

    def __call__(
        self,
        pictures: Picture | Sequence[Picture],
        boxes: Boxes | Sequence[Boxes | None] | str | None = "detect",
        *,
        focal_px: float | Sequence[float | None] | np.ndarray | None = None,
        batch: int = BATCH,
        detector: str | None = None,
    ) -> People:
        """The people of one or many pictures of any size, in one result.

        A picture is a path, RGB pixels (an array or tensor, uint8, H W 3), or a PIL image. `boxes` are x, y, width,
        height in pixels of the picture: N 4 for one picture, a list of such arrays for many (None: find them); `detect`
        finds the people, `whole` takes each picture for one person. `focal_px` is the focal length in pixels, for all
        or per picture; without it, EXIF's or the method's rule. Raises RequestError or RunError for the first picture
        or box that cannot be used.
        """
        batch = check_count("batch", batch)
        if detector is not None:
            check_word("detector", detector, f"'{DEFAULT_DETECTOR}'")
        check_detector(detector)
        sources = sources_of(pictures, boxes, focal_px)
        to_find = not isinstance(boxes, str) or boxes == "detect"
        find = finder_named(detector) if to_find and any(source.boxes is None for source in sources) else None
        parts = []
        for result in predict_pictures(sources, self.network, find, batch):
            if result.problems or result.people is None:
                raise RunError("\n".join(result.problems))
            parts.append(result.people)
        return joined(parts)


def load(checkpoint: str | Path, *, device: str = "auto", precision: str = "fp32") -> Predictor:
    """The model of a run's folder, a checkpoint, another project's file, or a name of `hmrb list-models`.

    A name without a file is a run in `runs` first. `device` is auto, cpu, cuda or cuda:1; `precision` fp32, bf16 or
    fp16. Raises RequestError.
    """
    path = path_of("checkpoint", checkpoint)
    check_word("device", device, "'auto', 'cpu' or 'cuda'")
    check_word("precision", precision, "'fp32'")
    try:
        if not path.exists() and (Path("runs") / path).is_dir():
            path = Path("runs") / path
    except OSError as error:  # a name that is too long, or a folder that may not be entered
        raise RequestError(f"{path}: no checkpoint can be read: {reason(error)}") from None
    return Predictor(load_network(path, device, precision))


def evaluate(
    predictor: Predictor | CropsToBodies,
    benchmark: str,
    *,
    out: str | Path | None = None,
    body: str | None = None,
    image_px: int = 224,
    name: str = "callable",
) -> Record:
    """Score a predictor, or a function of crops, on a benchmark; returns the record that `hmrb eval` writes.

    With `out`, the record and the people's errors are written to `out`/eval. `body`, `image_px` and `name` are those of
    a function: the body of its poses (default: the benchmark's), the width of its crops, its name in the record.
    Raises RequestError if a file is missing, RunError if a prediction is not finite.
    """
    _check_scoring(predictor, benchmark, body, image_px, name)
    folder = None if out is None else path_of("out", out)
    row, store, start = find_benchmark(benchmark), Store.default(), time.perf_counter()
    if isinstance(predictor, Predictor):
        network = predictor.network
        world = World(0, 1, network.device)
        row, shard = open_benchmark(row, network.body_name, store)
        check_once(shard, store)
        bodies = Bodies.load(network.body_name, row, store, world.device)
        if network.checkpoint.body["sha"] not in (bodies.predicted.sha, UNKNOWN_BODY):
            raise RequestError(f"{benchmark}: the predictor's body is not the body here")
        feed = Feed(row, shard, network.rule.image_px, world.device, needs_place=network.model.needs_place)
        scores = evaluate_model(network.model, feed, bodies, world, network.precision)
        source, precision = provenance_of(network.checkpoint, network.path, row), network.precision
    else:
        world, precision = World(0, 1, torch.device("cpu")), "fp32"
        shard = open_shard_file(store.shard(row.dataset, row.split), row.dataset)
        row, shard = open_benchmark(row, body or shard.info.body, store)
        check_once(shard, store)
        scores = _scores_of_function(predictor, shard, body or shard.info.body, row, image_px, store, world)
        source = _unknown(name, body or shard.info.body)
    made = machine(world, len(scores.people.rows), time.perf_counter() - start, precision)
    with TemporaryDirectory() as nowhere:
        return save_scores(scores, (folder or Path(nowhere)) / "eval", source, made, verified=is_verified(shard, store))


class Samples(Sequence[Sample]):
    """The people of a shard as a sequence of samples: labels, and the encoded image; each is read when it is used."""

    def __init__(self, shard: Shard) -> None:
        self.shard = shard

    def __len__(self) -> int:
        return len(self.shard)

    @overload
    def __getitem__(self, which: int) -> Sample: ...
    @overload
    def __getitem__(self, which: slice) -> "list[Sample]": ...
    def __getitem__(self, which: int | slice) -> "Sample | list[Sample]":
        """Person `which`; a slice gives a list."""
        if isinstance(which, slice):
            return [self.shard.read(row) for row in range(len(self))[which]]
        return self.shard.read(range(len(self))[which])

    def __iter__(self) -> Iterator[Sample]:
        return (self.shard.read(row) for row in range(len(self)))

    def picture(self, which: int) -> UInt8[np.ndarray, "H W 3"]:
        """The RGB pixels of a person's image. Raises UnreadablePicture."""
        row = range(len(self))[which]
        return decoded(self.shard.jpeg(row), f"{self.shard.path}: {self.shard.name(row)}")


def open_shard(name: str, split: str) -> Samples:
    """One split of a dataset in the store: `open_shard("3dpw", "test")`. Raises RequestError if it is missing."""
    check_word("name", name, "'3dpw'")
    check_word("split", split, "'test'")
    return Samples(open_shard_file(Store.default().shard(name.replace("-", "_"), split), name))


def train(
    spec: str | Path | Mapping[str, Any],
    *,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    device: str = "auto",
) -> Path:
    """Train the model of a spec (a YAML file, or its content) in this process, evaluate it, and write its report.

    Returns the run's folder, `runs/NAME` unless `out` names another; `overrides` are those of `hmrb train --set`.
    Several processes or machines: `hmrb train`. Raises RequestError with every problem before anything is written.
    """
    check_word("device", device, "'auto', 'cpu' or 'cuda'")
    if isinstance(overrides, str) or not isinstance(overrides, Sequence):
        raise RequestError(f"overrides={overrides!r}: give a list of texts, such as ['seed=1']")
    for override in overrides:
        check_word("overrides", override, "'seed=1'")
    world = World(0, 1, device_named(device))
    chosen = None if out is None else path_of("out", out)
    if isinstance(spec, Mapping):
        if overrides:
            raise RequestError("overrides are for a spec's file; change the content of the mapping instead")
        experiment, label = parse_experiment(dict(spec), "the spec"), "the spec"
    else:
        experiment, label = load_experiment(path_of("spec", spec), tuple(overrides)), str(spec)
    if problems := [f"{label}: {problem}" for problem in name_problems(experiment, 1)]:
        raise RequestError("\n".join(problems))
    experiment, store = resolve(experiment), Store.default()
    require_files([experiment], store)
    folder = chosen or Path("runs") / experiment.name
    run = open_run(folder, experiment, resume)
    with hold(folder):
        run_experiment(experiment, run, store, world)
    return folder


def _check_scoring(predictor: Any, benchmark: Any, body: Any, image_px: Any, name: Any) -> None:
    """Raises RequestError for the first argument of `evaluate` that is of another kind."""
    if not callable(predictor):
        kind = type(predictor).__name__
        raise RequestError(f"predictor is of type {kind}: give a Predictor of hmrb.load, or a function of crops")
    check_word("benchmark", benchmark, "'3dpw'")
    check_word("name", name, "'callable'")
    check_count("image_px", image_px)
    if body is not None:
        check_word("body", body, "'smpl'")


def _scores_of_function(
    function: CropsToBodies, shard: Shard, body: str, benchmark: Benchmark, image_px: int, store: Store, world: World
) -> Scores:
    bodies = Bodies.load(body, benchmark, store, world.device)
    kind = bodies.predicted.kind
    facing = torch.eye(3).repeat(1, kind.num_joints, 1, 1)
    facing[:, 0] = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # upright before a camera whose y points down
    still = Prediction(facing, torch.zeros(1, kind.num_betas), torch.tensor([[1.0, 0.0, 0.0]]))

    def predictor(blocks: Sequence[np.ndarray]) -> Iterator[Prediction]:
        looking = Looking(benchmark.decode, benchmark.antialias)
        for batch in bench_loader(shard, blocks, image_px, 0, benchmark.box_scale, looking=looking):
            crops = np.ascontiguousarray(batch.image.permute(0, 2, 3, 1).numpy())
            yield _prediction(function(crops), len(crops), kind)

    return evaluate_predictor(predictor, still, benchmark, shard, bodies, world, image_px)


def _prediction(found: Mapping[str, Any], count: int, kind: BodyKind) -> Prediction:
    """What a function gave. Raises RunError if something is missing or of another shape."""
    shapes = {"rotmats": (count, kind.num_joints, 3, 3), "betas": (count, kind.num_betas), "camera": (count, CAMERA)}
    parts = []
    if not isinstance(found, Mapping):
        raise RunError(f"the function gave a {type(found).__name__}, expected a dict with {', '.join(shapes)}")
    for name, shape in shapes.items():
        if name not in found:
            raise RunError(f"the function gave no '{name}', only {', '.join(map(str, found)) or 'nothing'}")
        try:
            part = torch.as_tensor(found[name]).detach().cpu().float()
        except (TypeError, ValueError) as error:  # ragged, or no numbers
            raise RunError(f"the function gave {name} that is no array of numbers: {error}") from None
        if tuple(part.shape) != shape:
            raise RunError(f"the function gave {name} of shape {tuple(part.shape)}, expected {shape}")
        parts.append(part)
    rotmats, betas, camera = parts
    return Prediction(rotmats, betas, camera)


def _unknown(name: str, body: str) -> Provenance:
    return Provenance(
        experiment=name,
        checkpoint={"path": name, "sha": "unknown", "step": 0},
        chosen_by="unknown: a function of crops",
        body={"name": body, "sha": "unknown"},
        trained_on={},
        siblings_trained_on=None,
        spec={"name": name, "seed": 0, "published": []},
        mean_body="the mean shape in the rest pose",
    )
