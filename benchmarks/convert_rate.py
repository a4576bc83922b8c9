"""Measures `hmrb convert-data` on raw trees of five kinds, against the plain way on the same pictures of 1280 x 720.

COCO's JSON, 3DPW's pickles and frames, Human3.6M's CDF files and frames (1000 x 1002), LSP's joints.mat, and a packed
HumanData file. The trees are made by code in the true formats, with textured pictures (JPEG of quality 92) and people
some 420 px tall. The plain way decodes a whole picture with OpenCV, cuts out and shrinks the same region of each
person, encodes it as JPEG and appends it and the labels to an HDF5 file. It is given the labels, whereas hmrb reads
them from the raw files (Human3.6M's masks among them), filters before it shrinks, checks each file and hashes the
shard. Each conversion has a process of its own, of one thread, and both ways take turns: pictures per second of CPU
time (per core), and the memory that a conversion adds to its process.
"""

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import cv2
import h5py
import numpy as np
import torch
from record import Figure, arguments, finish

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, Raw, convert, pick_parts
from hmrb.data.convert.from_packed import repack
from hmrb.data.convert.pack import QUALITY, Packing, _region
from hmrb.data.sources import CONVERTERS
from hmrb.records import Person, Photo
from hmrb.skeleton import SKELETONS
from hmrb.store import Store

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from raw import coco, h36m, leeds, pw3d, scenes  # type: ignore[import-not-found]

SIZE, FOCAL = (1280, 720), 900.0
H36M_SIZE, H36M_FOCAL = (1000, 1002), 1150.0
CROP_PX, TEXTURES, PHOTO_QUALITY = 224, 4, 92
PACKING = Packing("region", CROP_PX)
OPTIONS = ConversionOptions("a benchmark", packing=PACKING)
Ways = dict[str, Callable[[Store], object]]
LABELS = ("box", "keypoints2d", "keypoints3d", "pose", "betas")


@dataclass(frozen=True, slots=True)
class Tree:
    """A raw dataset, its pictures with people, and how hmrb converts its training split into a store."""

    photos: Sequence[Photo]
    by_hmrb: Callable[[Store], object]


def main() -> None:
    """Converts each tree both ways, in turn, and prints a table."""
    parser = arguments(__doc__)
    parser.add_argument("--photos", type=int, default=96, help="pictures of each tree, at least 8; LSP has at most 15")
    parser.add_argument("--turns", type=int, default=3)
    asked = parser.parse_args()
    if asked.photos < 8 or asked.turns < 1:
        parser.error("use --photos 8 or more, and --turns 1 or more")
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    figures: list[Figure] = []
    print("| data | pictures | hmrb, pictures/s | the plain way | times as fast | hmrb, MB | the plain way, MB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    for name, make in TREES.items():
        with tempfile.TemporaryDirectory() as folder:
            tree = make(Path(folder) / "raw", asked.photos)
            ways: Ways = {"hmrb": tree.by_hmrb, "the plain way": partial(plainly, tree.photos)}
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
            for turn in range(asked.turns):
                for way, work in ways.items():
                    found[way].append(apart(work, Store(Path(folder) / f"{way} {turn}"), len(tree.photos)))
        figures += [
            Figure(f"{name}: {way}{what}", [one[part] for one in runs], unit, "lower" if part else "higher")
            for way, runs in found.items()
            for part, (what, unit) in enumerate((("", "pictures/s"), (", memory", "MB")))
        ]
        ratios = [ours[0] / theirs[0] for ours, theirs in zip(*found.values(), strict=True)]
        figures.append(Figure(f"{name}: times as fast as the plain way", ratios, "times", "higher"))
        columns = [[median(column) for column in zip(*runs, strict=True)] for runs in found.values()]
        (ours, own_mb), (theirs, their_mb) = columns
        cells = (f"{ours:.1f}", f"{theirs:.1f}", f"{median(ratios):.2f}", f"{own_mb:.0f}", f"{their_mb:.0f}")
        print(f"| {name} | {len(tree.photos)} | {' | '.join(cells)} |", flush=True)
    finish(asked, "convert_rate", figures)


def apart(work: Callable[[Store], object], store: Store, pictures: int) -> tuple[float, float]:
    """Pictures per second of CPU time of a conversion in a fork of this process, and the MB that it adds to it."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    child = context.Process(target=_work, args=(work, store, there))
    child.start()
    there.close()
    seconds, megabytes = here.recv()
    child.join()
    return pictures / seconds, megabytes


def _work(work: Callable[[Store], object], store: Store, told: Connection) -> None:
    before = _resident_mb()
    begun = time.process_time()
    work(store)
    seconds = time.process_time() - begun
    told.send((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before))


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def plainly(photos: Sequence[Photo], store: Store) -> None:
    """The usual script: a picture after another, everything of a person appended to resizable arrays."""
    store.root.mkdir(parents=True)
    with h5py.File(store.root / "plain.h5", "w") as out:
        images = out.create_dataset("jpeg", (0,), h5py.vlen_dtype(np.uint8), maxshape=(None,))
        for photo in photos:
            whole = cv2.imread(str(photo.file))
            assert whole is not None
            for person in photo.people:
                jpeg = _cut(whole, person)
                images.resize(len(images) + 1, 0)
                images[-1] = np.frombuffer(jpeg, np.uint8)
                for key in LABELS:
                    value = np.asarray(getattr(person, key))
                    if key not in out:
                        out.create_dataset(key, (0, *value.shape), value.dtype, maxshape=(None, *value.shape))
                    out[key].resize(len(out[key]) + 1, 0)
                    out[key][-1] = value


def _cut(whole: np.ndarray, person: Person) -> bytes:
    """The region that hmrb would store, at the scale of hmrb."""
    region = _region(person.box, (whole.shape[1], whole.shape[0]), CROP_PX)
    left, top, right, bottom = region.edges.tolist()
    part = whole[top:bottom, left:right]
    if region.scale < 1:
        part = cv2.resize(part, None, fx=region.scale, fy=region.scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", part, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def of_coco(root: Path, count: int) -> Tree:
    """One or two people a picture."""
    with large(scenes, coco):
        coco.write_coco(root, pictures=count)
    return of_source("coco", root)


def of_3dpw(root: Path, count: int) -> Tree:
    """A sequence of two people."""
    with large(pw3d), mock.patch.object(pw3d, "FRAMES", count):
        pw3d.write(root)
    return of_source("3dpw", root)


def of_h36m(root: Path, count: int) -> Tree:
    """Clips of three kept frames."""
    root.mkdir(parents=True)
    with mock.patch.multiple(h36m, SIZE=H36M_SIZE, FOCAL=H36M_FOCAL):
        h36m.write_metadata(root / "metadata.xml")
        for clip in range(count // 3):
            h36m.write(root, "S1", f"Directions {clip}", h36m.FRONT, clip)
    return of_source("h36m", root)


def of_lsp(root: Path, count: int) -> Tree:
    """One person a picture; half of them are for training."""
    with large(scenes, leeds):
        leeds.write_lsp(root, people=2 * min(count, len(leeds.ODD) // 2))
    return of_source("lsp", root)


def of_human_data(root: Path, count: int) -> Tree:
    """One person a row of the file, as mmhuman3d writes it; a picture of two people has two rows."""
    rows: list[tuple[str, Person]] = []
    with large(scenes):
        for seed in range(count):
            name = f"{seed:05d}.jpg"
            for one in scenes.shoot(root / name, seed):
                points = np.nan_to_num(one.points2d("human_data"), nan=0.0)
                person = Person(box=one.box().astype(np.float32), keypoints2d=points, pose=one.pose, betas=one.betas)
                rows.append((name, person))
    people = [person for _, person in rows]
    points = np.stack([person.keypoints2d for person in people])
    pose = np.stack([person.pose for person in people])
    path = root.parent / "made_up.npz"
    np.savez_compressed(
        path,
        image_path=np.array([name for name, _ in rows]),
        bbox_xywh=np.stack([np.append(person.box, 1) for person in people]),
        keypoints2d=np.concatenate([points, (points != 0).all(2, keepdims=True)], 2),
        keypoints2d_mask=np.ones(len(SKELETONS["human_data"].joints)),
        smpl=np.array(
            {
                "global_orient": pose[:, 0], "body_pose": pose[:, 1:], "betas": np.stack([one.betas for one in people])
            },
            object,
        ),
    )  # fmt: skip
    textured(root)
    by_name: dict[str, list[Person]] = {}
    for name, person in rows:
        by_name.setdefault(name, []).append(person)
    photos = [Photo(name=name, people=tuple(those), file=root / name) for name, those in by_name.items()]
    return Tree(
        photos,
        lambda store: repack("humandata", path, root, "made_up", "train", store, OPTIONS, ProgressReporter()),
    )


@contextmanager
def large(*modules: Any) -> Iterator[None]:
    """Inside, these modules of tests/raw draw people three times as large, in pictures of SIZE."""
    with ExitStack() as stack:
        for module in modules:
            changed: Any = {"SIZE": SIZE} | ({"FOCAL": FOCAL} if hasattr(module, "FOCAL") else {})
            stack.enter_context(mock.patch.multiple(module, **changed))
        scenes.scene.cache_clear()
        yield
    scenes.scene.cache_clear()


def of_source(name: str, root: Path) -> Tree:
    """The training split of a raw tree."""
    textured(root)
    source = CONVERTERS[name]

    def by_hmrb(store: Store) -> object:
        parts = source.plan(Raw(root, store=store, name=name))
        return convert(source, pick_parts(parts, "train"), store, OPTIONS, ProgressReporter())

    (part,) = pick_parts(source.plan(Raw(root, name=name)), "train")
    photos = [photo for item in part.items for photo in part.read(item) if isinstance(photo, Photo) and photo.people]
    return Tree(photos, by_hmrb)


def textured(root: Path) -> None:
    """Gives each picture texture at every scale, as a camera does: a drawing alone is decoded too fast."""
    textures: dict[tuple[int, int], list[np.ndarray]] = {}
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        drawn = cv2.imread(str(path))
        assert drawn is not None
        height, width = drawn.shape[:2]
        if (width, height) not in textures:
            textures[width, height] = [grain(width, height, seed) for seed in range(TEXTURES)]
        pixels = drawn + textures[width, height][number % TEXTURES]
        cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, PHOTO_QUALITY])


def grain(width: int, height: int, seed: int) -> np.ndarray:
    """Noise of all scales, some 20 levels in the mean."""
    rng, out = np.random.default_rng(seed), np.zeros((height, width, 3), np.float32)
    for level in range(8):
        small = rng.normal(0, 12, (max(height >> level, 2), max(width >> level, 2), 3)).astype(np.float32)
        out += cv2.resize(small * (0.3 + level / 4), (width, height), interpolation=cv2.INTER_CUBIC)
    return out / 2


TREES: dict[str, Callable[[Path, int], Tree]] = {
    "COCO, JSON": of_coco,
    "3DPW, pickles and frames": of_3dpw,
    "Human3.6M, CDF and frames": of_h36m,
    "LSP, joints.mat": of_lsp,
    "HumanData, a packed npz": of_human_data,
}

if __name__ == "__main__":
    main()
