"""The loop: pictures are opened, people found and cut, crops predicted in full batches, results given by picture."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, UInt8

from hmrb.batch import Conditioning, Prediction
from hmrb.errors import RunError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.models.crops import CropRule, Square
from hmrb.predict.cameras import Intrinsics, middle
from hmrb.predict.network import Network
from hmrb.predict.people import People, ShownPicture
from hmrb.predict.pictures import WHOLE_MARGIN, GivenBox, OpenedPicture, PictureSource, box_problem, open_picture

THREADS, AHEAD = 2, 4  # that decode, and pictures that wait decoded
HELD_BYTES = 1 << 29  # of pixels; 14 photos of 12 million pixels
BATCH = 64  # people together, as evaluation looks at them
Finder = Callable[[UInt8[np.ndarray, "H W 3"]], list[GivenBox]]
"""Finds the people of a picture whose boxes nobody gave."""


@dataclass(frozen=True, slots=True, eq=False)
class PersonCrop:
    """What the network sees of a person, and where it comes from."""

    pixels: UInt8[np.ndarray, "S S 3"]
    given: GivenBox
    square: Square
    matrix: Float[np.ndarray, "2 3"]
    camera: Intrinsics
    is_known: bool


@dataclass(frozen=True, slots=True, eq=False)
class PictureResult:
    """The people of a picture, and what went wrong: the picture itself (`people` is None) or some of its boxes.

    `may_pass`: only the disk failed, and the same request may read the picture another time.
    """

    source: PictureSource
    people: People | None
    rows: tuple[int, ...] = ()
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    may_pass: bool = False


@dataclass(slots=True, eq=False)
class _Waiting:
    """A picture whose crops are not all predicted yet; `shown` is None if it could not be opened."""

    result: PictureResult
    shown: ShownPicture | None = None
    crops: list[PersonCrop] = field(default_factory=list)
    predicted: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)


def predict_pictures(
    sources: Iterable[PictureSource],
    network: Network,
    find: Finder | None = None,
    batch: int = BATCH,
    keep_pixels: bool = True,
) -> Iterator[PictureResult]:
    """The results of pictures, in order, each as soon as its people are predicted.

    Pictures without boxes are given to `find`; without it they are one person's, as a whole. With `keep_pixels`, memory
    holds the pictures of a batch; of more than HELD_BYTES, fewer people are predicted together. Raises RunError if a
    prediction is not finite.
    """
    waiting: deque[_Waiting] = deque()
    queue: deque[tuple[_Waiting, PersonCrop]] = deque()
    for opened in _ahead(sources):
        entry = _cut_out(opened, network, find, keep_pixels)
        waiting.append(entry)
        queue.extend((entry, crop) for crop in entry.crops)
        is_much = sum(map(_held, waiting)) > HELD_BYTES
        while len(queue) >= batch or (queue and is_much):
            _predict([queue.popleft() for _ in range(min(batch, len(queue)))], network)
        yield from _done(waiting, network)
    if queue:
        _predict(list(queue), network)
    yield from _done(waiting, network)


def cut(opened: OpenedPicture, given: GivenBox, margin: float, rule: CropRule, camera: Intrinsics | None) -> PersonCrop:
    """Cut a person out of a picture by the model's rule; `camera` is the picture's, if anybody knows or sees it."""
    crop = rule.cut(opened.pixels, given.box, margin)
    size = opened.size_px
    by_rule = Intrinsics(rule.focal_of(crop.square[2], size), middle(*size), rule.focal.said)
    return PersonCrop(crop.pixels, given, crop.square, crop.matrix, camera or by_rule, camera is not None)


def camera_seen(opened: OpenedPicture, network: Network) -> Intrinsics | None:
    """The camera that is known, else what the method sees of it in the picture; None: its rule has to do."""
    if opened.camera is not None or network.see_focal is None:
        return opened.camera
    focal = network.see_focal(opened.pixels)
    if focal is None or not 0 < focal < math.inf:
        return None
    return Intrinsics(focal, middle(*opened.size_px), "seen by the method in the picture")


def conditioning_of(crops: list[PersonCrop], sizes: list[tuple[int, int]]) -> Conditioning:
    """What methods may know about crops of pictures of these sizes."""

    def matrix(camera: Intrinsics) -> list[list[float]]:
        return [[camera.focal_px, 0, camera.center_px[0]], [0, camera.focal_px, camera.center_px[1]], [0, 0, 1]]

    return Conditioning(
        square=torch.tensor([crop.square for crop in crops], dtype=torch.float32),
        picture_px=torch.tensor(sizes, dtype=torch.float32),
        crop=torch.from_numpy(np.stack([crop.matrix for crop in crops]).astype(np.float32)),
        intrinsics=torch.tensor([matrix(crop.camera) for crop in crops], dtype=torch.float32),
        has_intrinsics=torch.tensor([crop.is_known for crop in crops]),
    )


def _ahead(sources: Iterable[PictureSource]) -> Iterator[OpenedPicture | PictureResult]:
    """The opened pictures in order, read and decoded in threads while the network computes; those it cannot open."""
    pool = ThreadPoolExecutor(THREADS)
    coming: deque[Future[OpenedPicture | PictureResult]] = deque()
    try:
        for source in sources:
            coming.append(pool.submit(_try_open, source))
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _try_open(source: PictureSource) -> OpenedPicture | PictureResult:
    try:
        return open_picture(source)
    except UnreadablePicture as error:
        return PictureResult(source, None, problems=(str(error),), may_pass=error.may_pass)


def _held(entry: _Waiting) -> int:
    pixels = entry.shown.pixels if entry.shown else None
    return 0 if pixels is None else pixels.nbytes


def _cut_out(
    opened: OpenedPicture | PictureResult, network: Network, find: Finder | None, keep_pixels: bool
) -> _Waiting:
    if isinstance(opened, PictureResult):
        return _Waiting(opened)
    source, rule = opened.source, network.rule
    width, height = opened.size_px
    margin, boxes = source.margin or rule.margin, source.boxes
    if boxes is None and find is None:
        margin, boxes = WHOLE_MARGIN, (GivenBox((0.0, 0.0, float(width), float(height))),)
    elif boxes is None:
        assert find is not None
        boxes = tuple(find(opened.pixels))
    wrong = [box_problem(given.box, width, height) for given in boxes]
    problems = [f"{source.name}: {problem}" for problem in wrong if problem]
    good = [given for given, problem in zip(boxes, wrong, strict=True) if not problem]
    camera = camera_seen(opened, network) if good else None
    if good and camera is None and network.lacks_focal:
        problems, good = [*problems, f"{source.name}: {network.lacks_focal}"], []
    crops = [cut(opened, given, margin, rule, camera) for given in good]
    shown = ShownPicture(source.name, opened.size_px, opened.pixels if keep_pixels else None)
    notes = opened.notes if boxes else (*opened.notes, f"{source.name}: nobody found")
    return _Waiting(PictureResult(source, None, problems=tuple(problems), notes=notes), shown, crops)


def _predict(some: list[tuple[_Waiting, PersonCrop]], network: Network) -> None:
    crops = [crop for _, crop in some]
    sizes = [entry.shown.size_px for entry, _ in some if entry.shown]
    found: Prediction = network.regress([crop.pixels for crop in crops], conditioning_of(crops, sizes))
    finite = torch.stack([part.flatten(1).isfinite().all(1) for part in found.tensors]).all(0)
    if not finite.all():
        entry, crop = some[int((~finite).nonzero()[0])]
        raise RunError(f"{entry.result.source.name}: the prediction for box {crop.given.box} is not finite")
    for (entry, _), *parts in zip(some, *found.tensors, strict=True):
        entry.predicted.append((parts[0], parts[1], parts[2]))


def _done(waiting: "deque[_Waiting]", network: Network) -> Iterator[PictureResult]:
    while waiting and len(waiting[0].predicted) == len(waiting[0].crops):
        yield _result(waiting.popleft(), network)


def _result(entry: _Waiting, network: Network) -> PictureResult:
    if entry.shown is None:
        return entry.result
    crops, source, kind = entry.crops, entry.result.source, network.model.kind
    rotmats, betas, camera = (torch.stack(parts) for parts in zip(*entry.predicted, strict=True)) if crops else (
        torch.zeros(0, kind.num_joints, 3, 3), torch.zeros(0, kind.num_betas), torch.zeros(0, 3)
    )  # fmt: skip
    people = People(
        pictures=(entry.shown,),
        picture=np.zeros(len(crops), np.int64),
        box=np.array([crop.given.box for crop in crops], np.float32).reshape(-1, 4),
        score=np.array([crop.given.score for crop in crops], np.float32),
        square=np.array([crop.square for crop in crops], np.float32).reshape(-1, 3),
        rotmats=rotmats.numpy(),
        betas=betas.numpy(),
        camera=camera.numpy(),
        focal_px=np.array([crop.camera.focal_px for crop in crops], np.float32),
        center_px=np.array([crop.camera.center_px for crop in crops], np.float32).reshape(-1, 2),
        camera_from=tuple(crop.camera.said for crop in crops),
        image_px=network.rule.image_px,
        crop_rule=network.rule.name,
        body_name=network.body_name,
        body=network.body,
    )
    rows = tuple(crop.given.row for crop in crops if crop.given.row is not None)
    return PictureResult(source, people, rows, entry.result.problems, entry.result.notes)
