"""Load training batches from shards. A draw's number determines its person and augmentation in any worker."""

import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from numpy.random import Generator, default_rng
from torch.profiler import record_function
from torch.utils.data import DataLoader, Dataset

from hmrb.batch import Batch, BodyParams
from hmrb.bodykind import SMPL_KIND, BodyKind
from hmrb.data.ahead import Ahead
from hmrb.data.augment import augmenter
from hmrb.data.labelled_bodies import REPLACEMENTS, RealBodies, known_people
from hmrb.data.mixture import MixtureSampler, mix64
from hmrb.data.places import MethodRule, Place, conditioning, cut_by, place_of
from hmrb.data.seen import WHOLE, Looking, look, looked_at
from hmrb.data.shard import Shard
from hmrb.data.warp import exposed, warp
from hmrb.errors import RequestError, RunError
from hmrb.formats.pictures import UnreadablePicture
from hmrb.geometry import rotvec_to_rotmat
from hmrb.records import Sample, View, without_unlabelled
from hmrb.spec import DataSpec, LabelKind
from hmrb.spec.data import MOST_WORKERS
from hmrb.system import worker_context

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)
cv2.setNumThreads(1)  # images are decoded one at a time, and worker processes share the cores


@dataclass(frozen=True, slots=True)
class Item:
    """One row of a Batch as numpy arrays."""

    image: UInt8[np.ndarray, "H W 3"]
    keypoints2d: Float[np.ndarray, "J 3"]
    keypoints3d: Float[np.ndarray, "J 4"]
    pose: Float[np.ndarray, "R 3"]
    betas: Float[np.ndarray, " S"]
    has_body: bool
    row: int
    skipped: tuple[str, ...] = ()
    key: int = 0
    real: tuple[Float[np.ndarray, "R 3"], Float[np.ndarray, " S"]] | None = None
    """Pose and betas of another, real body."""
    place: Place | None = None
    is_trusted: bool | None = None


class DrawDataset(Dataset[Any]):
    """Training dataset: item i is draw i of the run. Raises RunError if REPLACEMENTS images in a row are unreadable."""

    def __init__(
        self,
        shards: Mapping[str, Shard],
        spec: DataSpec,
        image_px: int,
        seed: int,
        real: RealBodies | None = None,
        needs_place: bool = False,
    ) -> None:
        self._real, self._needs_place = real, needs_place
        self._shards, self._image_px, self._seed = shards, image_px, seed
        self._key = stream_seed(seed, "key")
        self._augmenters = {name: augmenter(spec.augment, name) for name in shards}
        self._without, self._trusted = spec.without, spec.trusted
        self._looking = Looking(spec.decode, spec.antialias)
        self.sampler = mixture(shards, spec, seed)

    def __getitem__(self, draw: int) -> Item:
        skipped: list[str] = []
        for attempt in range(REPLACEMENTS):
            name, row = self.sampler.draw(draw, attempt)
            rng = default_rng([self._seed, draw, attempt])
            try:
                item, key = self._item(name, row, rng), mix64(self._key, draw) >> 1
                return replace(item, skipped=tuple(skipped), key=key, real=self._real(draw) if self._real else None)
            except UnreadablePicture as error:
                skipped.append(str(error))
        raise RunError(f"draw {draw}: {REPLACEMENTS} images in a row cannot be decoded, the last: {skipped[-1]}")

    def ahead(self, draws: "StepDraws") -> Any:
        """The dataset, which begins early to fetch pictures that are elsewhere."""
        if not any(shard.ranges for shard in self._shards.values()):
            return self
        return Ahead(self, self._shards, draws, draws.number, self.sampler.draw)

    def _item(self, name: str, row: int, rng: Generator) -> Item:
        shard, augment = self._shards[name], self._augmenters[name]
        view, cut = look(shard, row, self._looking, augment.paints)
        view = augment(view, rng, self._image_px, cut)
        item = _without(_finish(shard, row, view, self._needs_place), self._without.get(name, ()))
        return replace(item, is_trusted=name in self._trusted) if self._trusted else item


class RowDataset(Dataset[Any]):
    """Evaluation dataset: item i is row i of a shard without augmentation; the crop is `box_scale` box sides wide.

    It is read as `looking` says; with `rule`, the crop is a method's own.
    """

    def __init__(
        self,
        shard: Shard,
        image_px: int,
        box_scale: float = 1.0,
        needs_place: bool = False,
        looking: Looking = WHOLE,
        rule: MethodRule | None = None,
    ) -> None:
        self._shard, self._image_px, self._box_scale, self._needs_place = shard, image_px, box_scale, needs_place
        self._looking, self._rule = looking, rule

    def __len__(self) -> int:
        return len(self._shard)

    def __getitem__(self, row: int) -> Item:
        view, cut = look(self._shard, row, self._looking)
        if self._rule:
            crop = cut_by(self._rule, view, self._box_scale, self._image_px)
        else:
            crop = warp(replace(view, side=self._box_scale * view.side), self._image_px, cut)
        return _finish(self._shard, row, crop, self._needs_place)


@dataclass(frozen=True, slots=True)
class StepDraws:
    """The draws of one rank, one list per step: every `size`-th draw of each global batch."""

    batch: int
    start: int
    stop: int
    rank: int
    size: int

    def __iter__(self) -> Iterator[list[int]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: int) -> list[int]:
        step = self.start + number
        return list(range(step * self.batch + self.rank, (step + 1) * self.batch, self.size))

    def number(self, draw: int) -> int:
        """The number of the list with this draw."""
        return draw // self.batch - self.start

    def __len__(self) -> int:
        return self.stop - self.start


def mixture(shards: Mapping[str, Shard], spec: DataSpec, seed: int) -> MixtureSampler:
    """The sampler that maps draws to dataset rows."""
    return MixtureSampler(spec.mix, known_people(shards, spec), seed)


def _workers(count: int) -> dict[str, Any]:
    """The DataLoader's arguments for worker processes: forked from a process that has imported this module once."""
    if not count:
        return {"num_workers": 0}
    if count > MOST_WORKERS:
        raise RequestError(
            f"{count} loading processes: at most {MOST_WORKERS}, and rarely more than cores; ask for fewer"
        )
    context = worker_context([__name__])
    return {"num_workers": count, "worker_init_fn": _one_thread, "multiprocessing_context": context}


class _Loader(DataLoader[Batch]):
    """A DataLoader that does not warn of more workers than cores: they may wait for disk or network, not compute."""

    def check_worker_number_rationality(self) -> None:
        pass


def train_loader(dataset: DrawDataset, draws: StepDraws, workers: int, pin_memory: bool = False) -> DataLoader[Batch]:
    """A loader of the batches in `draws`; their content does not depend on the number of workers.

    One pass over it is a whole run, so the workers start only once.
    """
    return _Loader(
        dataset.ahead(draws),
        batch_sampler=draws,
        collate_fn=collate,
        pin_memory=pin_memory,
        **_workers(workers),
    )


def bench_loader(
    shard: Shard,
    blocks: Sequence[np.ndarray],
    image_px: int,
    workers: int,
    box_scale: float = 1.0,
    pin_memory: bool = False,
    needs_place: bool = False,
    looking: Looking = WHOLE,
    rule: MethodRule | None = None,
) -> DataLoader[Batch]:
    """A loader of one batch per block of shard rows, in order. Its workers live as long as it does, for many passes."""
    batches = [block.tolist() for block in blocks]
    dataset: Any = RowDataset(shard, image_px, box_scale, needs_place, looking, rule)
    if shard.ranges:
        numbers = {batch[0]: number for number, batch in enumerate(batches)}
        dataset = Ahead(dataset, {"": shard}, batches, numbers.__getitem__, _of_one)
    return _Loader(
        dataset,
        batch_sampler=batches,
        collate_fn=collate,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        **_workers(workers),
    )


def _of_one(row: int) -> tuple[str, int]:
    """The shard and row of an index of a RowDataset."""
    return "", row


def on_device(
    batches: Iterable[Batch], device: torch.device, channels_last: bool = True, prefetch: bool = False
) -> Iterator[Batch]:
    """Move batches to a device and normalise their images there.

    With `prefetch`, a GPU copies and normalises the next batch on a separate stream while it computes on the current
    one.
    """
    if not prefetch or device.type != "cuda":
        for batch in batches:
            yield _on(batch, device, channels_last)
        return
    copying = torch.cuda.Stream(device)
    for batch in batches:
        with torch.cuda.stream(copying):
            ready = _on(batch, device, channels_last)
        computing = torch.cuda.current_stream(device)
        computing.wait_stream(copying)
        ready.used_on(computing)
        yield ready  # before the next is waited for: its copy runs beside this one's step, which is queued then


def normalised(image: UInt8[torch.Tensor, "B 3 H W"]) -> Float[torch.Tensor, "B 3 H W"]:
    """Apply ImageNet's normalisation to 8-bit images; device and memory layout stay the same."""
    mean, std = _imagenet(image.device)
    return (image - mean).div_(std)


@cache
def _imagenet(device: torch.device) -> tuple[Float[torch.Tensor, "3 1 1"], Float[torch.Tensor, "3 1 1"]]:
    """ImageNet's mean and deviation on a device: copied there once, because such a copy waits for the device."""
    mean, std = (torch.tensor(of, device=device)[:, None, None] for of in (IMAGENET_MEAN, IMAGENET_STD))
    return mean, std


def read_view(shard: Shard, row: int) -> View:
    """Read one person of a shard in the training skeleton, with the decoded image. Raises UnreadablePicture."""
    return view_of(shard.read(row), shard.info.skeleton, shard.place, shard.kind)


def view_of(sample: Sample, skeleton: str, source: str, kind: BodyKind = SMPL_KIND) -> View:
    """Decode a sample in the training skeleton. Raises UnreadablePicture with `source` in the message."""
    return looked_at(sample, skeleton, source, kind)[0]


def collate(items: Sequence[Item]) -> Batch:
    """Stack rows into a batch."""

    def stack(name: str) -> torch.Tensor:
        return torch.from_numpy(np.stack([getattr(item, name) for item in items]))

    real = None
    if bodies := [item.real for item in items if item.real]:
        pose, betas = (torch.from_numpy(np.stack(part)) for part in zip(*bodies, strict=True))
        real = BodyParams(rotvec_to_rotmat(pose), betas)
    return Batch(
        image=stack("image").permute(0, 3, 1, 2),  # a view: memory stays channels last
        keypoints2d=stack("keypoints2d"),
        keypoints3d=stack("keypoints3d"),
        rotmats=rotvec_to_rotmat(stack("pose")),
        betas=stack("betas"),
        has_body=stack("has_body"),
        row=stack("row"),
        skipped=tuple(name for item in items for name in item.skipped),
        key=stack("key"),
        real=real,
        is_trusted=None if items[0].is_trusted is None else stack("is_trusted"),
        place=conditioning([item.place for item in items if item.place]),
    )


def _finish(shard: Shard, row: int, view: View, needs_place: bool) -> Item:
    """The row of a batch, with zeros as labels that the person does not have, whatever the shard holds there."""
    has_body, betas = bool(shard.arrays["has_body"][row]), np.array(shard.arrays["betas"][row])
    return Item(
        image=exposed(view).image,
        keypoints2d=without_unlabelled(view.keypoints2d),
        keypoints3d=without_unlabelled(view.keypoints3d),
        pose=view.pose if has_body else np.zeros_like(view.pose),
        betas=betas if has_body else np.zeros_like(betas),
        has_body=has_body,
        row=row,
        place=place_of(shard, row, view) if needs_place else None,
    )


def _on(batch: Batch, device: torch.device, channels_last: bool) -> Batch:
    with record_function("hmrb: host to device"):
        there = batch.to(device)
        layout = torch.channels_last if channels_last else torch.contiguous_format
        return replace(there, image=normalised(there.image).contiguous(memory_format=layout))


def _without(item: Item, kinds: Sequence[LabelKind]) -> Item:
    """Remove these labels from the item: augmentations could use them, the losses cannot."""
    if "keypoints2d" in kinds:
        item = replace(item, keypoints2d=item.keypoints2d * np.array([1, 1, 0], np.float32))
    if "keypoints3d" in kinds:
        item = replace(item, keypoints3d=item.keypoints3d * np.array([1, 1, 1, 0], np.float32))
    return replace(item, has_body=item.has_body and "body" not in kinds)


def _one_thread(worker: int) -> None:
    """Initialise a worker: one thread, because workers share the cores with training, and no reaction to signals."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to every process by terminals and Slurm; the trainer decides
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)


def epoch_len(shards: Mapping[str, Shard], spec: DataSpec) -> int:
    """Number of draws per epoch: the spec's, or the size of the largest dataset (the study's rule)."""
    return spec.epoch_len or max(known_people(shards, spec).values())


def stream_seed(seed: int, stream: str) -> int:
    """A separate seed for each random stream of a run."""
    return mix64(seed, *stream.encode())
