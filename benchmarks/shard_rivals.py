"""Other loaders over the people of a shard, each with the packages that it needs, for `shard_rate.py`."""

import importlib
import importlib.util
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.random import default_rng

from hmrb.data.augment import augmenter
from hmrb.data.loader import IMAGENET_MEAN, IMAGENET_STD, view_of
from hmrb.data.shard import Shard
from hmrb.data.warp import exposed
from hmrb.records import Sample
from hmrb.spec import DataSpec

Step = Callable[[int], object]
LABELS = ("box", "keypoints2d", "keypoints3d", "pose")
BATCH = 32


def webdataset_same_steps(folder: Path, shard: Shard, crop_px: int) -> Step:
    """The same pictures and labels from a tar file, with hmrb's augmentation and warp."""
    import webdataset

    tar = folder / "made_up.tar"
    with tarfile.open(tar, "w") as out:
        for row in range(len(shard)):
            for kind, data in _files(shard, row).items():
                member = tarfile.TarInfo(f"{row:06d}.{kind}")
                member.size = len(data)
                out.addfile(member, io.BytesIO(data))
    people = iter(webdataset.WebDataset(str(tar), shardshuffle=False, empty_check=False).repeat())
    return _same_steps(lambda _: next(people), crop_px)


def mosaicml_streaming_same_steps(folder: Path, shard: Shard, crop_px: int) -> Step:
    """The same pictures and labels from MDS files, with hmrb's augmentation and warp."""
    streaming = importlib.import_module("streaming")
    place = folder / "mds"
    with streaming.MDSWriter(out=str(place), columns={"jpg": "bytes", "npz": "bytes"}) as out:
        for row in range(len(shard)):
            out.write(_files(shard, row))
    people = streaming.StreamingDataset(local=str(place), shuffle=False, batch_size=1)
    return _same_steps(lambda i: people[i % len(shard)], crop_px)


def torchvision_and_dataloader(folder: Path, shard: Shard, crop_px: int) -> Step:
    """Files of the same regions through torchvision's decoder and transforms and a DataLoader in this process.

    Colour factors, mirroring, rotation and scale are drawn from the same ranges; labels are not transformed.
    """
    from torch.utils.data import DataLoader, Dataset
    from torchvision.io import ImageReadMode, decode_jpeg, read_file
    from torchvision.transforms import v2

    files = []
    for row in range(len(shard)):
        files.append(folder / f"region-{row:06d}.jpg")
        files[-1].write_bytes(shard.jpeg(row))
    augment = v2.Compose([
        v2.RandomHorizontalFlip(),
        v2.RandomAffine(60, scale=(0.6, 1.0), interpolation=v2.InterpolationMode.BILINEAR),
        v2.CenterCrop(crop_px),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([mean / 255 for mean in IMAGENET_MEAN], [std / 255 for std in IMAGENET_STD]),
    ])  # fmt: skip

    class Regions(Dataset[Any]):
        def __len__(self) -> int:
            return 1 << 30

        def __getitem__(self, i: int) -> torch.Tensor:
            picture = decode_jpeg(read_file(str(files[i % len(files)])), ImageReadMode.RGB)
            gain = torch.empty(3, 1, 1).uniform_(0.6, 1.4)
            crop: torch.Tensor = augment(picture)
            return crop * gain

    return _one_by_one(iter(DataLoader(Regions(), batch_size=BATCH)))


def rivals(folder: Path, shard: Shard, crop_px: int) -> tuple[dict[str, Step], dict[str, str]]:
    """The alternatives whose package is installed, and the others with the reason."""
    found, absent = {}, {}
    for name, (package, make) in RIVALS.items():
        if importlib.util.find_spec(package) is None:
            absent[name] = f"{package} is not installed"
            continue
        try:
            found[name] = make(folder, shard, crop_px)
        except (ImportError, OSError, RuntimeError) as error:
            absent[name] = f"{package} does not run here: {str(error).splitlines()[0]}"
    return found, absent


def _files(shard: Shard, row: int) -> dict[str, bytes]:
    labels = io.BytesIO()
    np.savez(labels, **{key: shard.arrays[key][row] for key in LABELS})
    return {"jpg": shard.jpeg(row), "npz": labels.getvalue()}


def _same_steps(member: Callable[[int], Any], crop_px: int) -> Step:
    augment = augmenter(DataSpec(mix={"made_up": 1.0}).augment, "made_up")

    def step(i: int) -> object:
        files = member(i)
        with np.load(io.BytesIO(files["npz"]), allow_pickle=False) as labels:
            sample = Sample(jpeg=files["jpg"], name="", **{key: labels[key] for key in labels.files})
        view = augment(view_of(sample, "smpl_54", "another"), default_rng([0, i]), crop_px)
        return exposed(view).image

    return step


def _one_by_one(batches: Iterator[Any]) -> Step:
    """One picture a call: a batch is made when the last one is used up."""
    left = [0]

    def step(_: int) -> object:
        if not left[0]:
            left[0] = len(next(batches))
        left[0] -= 1
        return None

    return step


RIVALS: dict[str, tuple[str, Callable[[Path, Shard, int], Step]]] = {
    "webdataset, same steps": ("webdataset", webdataset_same_steps),
    "MosaicML Streaming, same steps": ("streaming", mosaicml_streaming_same_steps),
    "torchvision and DataLoader": ("torchvision", torchvision_and_dataloader),
}
