"""Convert packed annotation files of other projects to shards."""

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

from hmrb.data.convert.conversion import ConversionOptions, ProgressReporter, packing_of, refuse_regions
from hmrb.data.convert.own import shard_name
from hmrb.data.convert.packed_fields import Notes
from hmrb.data.convert.packed_files import pictures_in, read_4dhumans, read_bedlam, read_human_data, read_spin
from hmrb.data.convert.people import Tally, check_share, is_labelled, packed
from hmrb.data.convert.raw import raw_file
from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import ShardInfo
from hmrb.errors import RequestError, RunError
from hmrb.formats.files import files_in, short_sha, visible
from hmrb.formats.npz import Npz
from hmrb.lookup import find
from hmrb.records import Person, Photo, Sample
from hmrb.skeleton import TRAINING_SKELETON
from hmrb.store import Store

PERSON = tuple(Person.__dataclass_fields__)


def repack(
    kind: str,
    file: Path,
    images: Path | None,
    name: str,
    split: str,
    store: Store,
    making: ConversionOptions,
    ticker: ProgressReporter,
) -> ShardInfo:
    """Write the shard of a split from a packed file: of a dataset of the catalogue, or of the user's own.

    A folder stands for all files of the kind in it, in the order of their names. Raises RequestError for invalid
    options, RunError for a damaged file.
    """
    slug, own = shard_name(name, split)
    if making.compat:
        raise RequestError(f"{kind}: --compat applies to raw files only and has no effect here")
    files, notes = _files(kind, file), Notes(missing_limit=making.missing_limit)
    reads = [reader(kind, path, images) for path in files]
    if not file.exists():
        raise RequestError(f"{file}: no such file")
    if split != "train":
        refuse_regions(split, making)
    packing = packing_of(split, making, split != "train")
    path = store.shard(slug, split)
    ticker.part(path, 0)
    with ShardWriter(
        path, dataset=slug, split=split, skeleton=TRAINING_SKELETON, body="smpl", made_by=making.made_by,
        pictures=packing.name, selection=making.selection.name, source=source_of(kind, file, own, files),
    ) as writer, raw_file(file):  # fmt: skip
        people = labelled = 0
        tally = Tally(notes.left_out)
        for number, row in enumerate(chain.from_iterable(read(notes=notes) for read in reads)):
            ticker.done(row)
            people, labelled = people + 1, labelled + is_labelled(row)
            if making.selection.keeps(row.name, number):
                for sample in packed(_photo(row), packing, tally):
                    writer.add(sample)
        if people and not labelled:
            raise RunError(f"{file}: none of its {people} people has a label. {_keys(kind, files[0])}")
        check_share(str(file), tally, people, making.missing_limit)
    ticker.account(tally, list(notes.missing.values()), notes.changed)
    return writer.info


def _keys(kind: str, file: Path) -> str:
    """What a file of arrays has, and what is read of it."""
    if kind.replace("-", "_") == "4dhumans":
        return "Read are keypoints_2d, keypoints_3d, body_pose and betas"
    with Npz(file) as arrays:
        return f"It has {', '.join(sorted(arrays.keys))}; labels are read from {', '.join(LABELS[kind])}"


def reader(kind: str, file: Path, images: Path | None) -> Callable[..., Iterator[Sample]]:
    """Return the reader of a packed file's rows. Raises RequestError if the image folder is required but missing."""
    read = find("kind of packed file", kind, PACKED)
    if kind.replace("-", "_") == "4dhumans":
        return partial(read, file)
    if images is None or not images.is_dir():
        raise RequestError(f"{kind}: --images DIR must be the folder that the file's image names are relative to")
    scene = f"{file.stem}/png"
    if kind == "bedlam" and (images / scene).is_dir():
        return partial(_of_scene, scene, partial(read, file, pictures_in(images / scene)))
    return partial(read, file, pictures_in(images))


def _of_scene(scene: str, read: Callable[..., Iterator[Sample]], notes: Notes) -> Iterator[Sample]:
    """The people of a scene of BEDLAM, which has files of the same names as the others, in a folder of its own."""
    for sample in read(notes=notes):
        yield replace(sample, name=f"{scene}/{sample.name}")


def _files(kind: str, file: Path) -> list[Path]:
    """The file, or those of a kind in a folder. Raises RequestError if there is none."""
    if not file.is_dir():
        return [file]
    ending = ".tar" if kind.replace("-", "_") == "4dhumans" else ".npz"
    found = visible(files_in(file, f"*{ending}"))
    if not found:
        raise RequestError(f"--file {file}: a folder without any {ending}; {kind} reads such files")
    return found


def source_of(kind: str, file: Path, own: bool, files: Sequence[Path] = ()) -> str:
    """The shard's attribute `source`: what it was packed from. The sha of a folder is of those of its `files`."""
    name = re.sub(r"[^ -~]", "?", file.name)
    shas = [short_sha(path) for path in files or [file]]
    sha = shas[0]
    if file.is_dir():
        sha, name = hashlib.sha256(" ".join(shas).encode()).hexdigest()[:16], f"{name} ({len(files)} files)"
    return f"{'own' if own else 'packed'}: {name}, {kind.replace('-', '_')}, sha {sha}"


def _photo(sample: Sample) -> Photo:
    person = Person(**{key: getattr(sample, key) for key in PERSON})
    return Photo(name=sample.name, people=(person,), data=sample.jpeg)


LABELS = {
    "humandata": ("keypoints2d", "keypoints3d", "keypoints2d_smplx", "keypoints3d_smplx", "smpl"),
    "spin": ("part", "openpose", "S", "pose", "shape"),
    "bedlam": ("gtkps", "pose_cam", "pose", "shape"),
}
PACKED: dict[str, Callable[..., Iterator[Sample]]] = {
    "humandata": read_human_data,
    "spin": read_spin,
    "bedlam": read_bedlam,
    "4dhumans": read_4dhumans,
}
