"""Conversions: bytes do not depend on processes or interruptions, and the shard records its options."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from making import BLOCK, ITEMS, MISSING, make, read, source
from raw.eft import FILES, write

import hmrb.data.convert.conversion
import hmrb.data.convert.writer
from hmrb.data.convert.blocks import open_blocks
from hmrb.data.convert.conversion import (
    ConversionOptions,
    PhotoFilter,
    ProgressReporter,
    Raw,
    SplitPlan,
    _identity,
    convert,
    estimate,
)
from hmrb.data.convert.pack import Packing
from hmrb.data.shard import Shard, ShardError
from hmrb.errors import RequestError, RunError
from hmrb.records import Photo
from hmrb.store import Store

HERE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hmrb.data.convert.conversion, "BLOCK_PHOTOS", BLOCK)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shard written by one process without interruption, in one block."""
    home = tmp_path_factory.mktemp("undisturbed")
    make(home)
    return shard_at(home).read_bytes()


def shard_at(home: Path) -> Path:
    return Store(home).shard("lsp", "train")


def blocks_at(home: Path) -> Path:
    return shard_at(home).parent / ".lsp_train.blocks"


def start(home: Path, workers: int, fault: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "making.py", str(home), str(workers)],
        cwd=HERE, env={**os.environ, "FAULT": fault}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def names_in(home: Path) -> list[str]:
    return sorted(path.name for path in shard_at(home).parent.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_do_not_change_a_byte(workers: int, undisturbed: bytes, tmp_path: Path) -> None:
    make(tmp_path, workers)
    assert shard_at(tmp_path).read_bytes() == undisturbed
    assert names_in(tmp_path) == ["lsp_train.h5"]


def test_nor_does_the_size_of_blocks(undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 7, 256):
        monkeypatch.setattr(hmrb.data.convert.conversion, "BLOCK_PHOTOS", size)
        make(tmp_path / str(size))
        assert shard_at(tmp_path / str(size)).read_bytes() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("item", [0, 11])
def test_a_conversion_that_ended_in_the_middle_goes_on(item: int, undisturbed: bytes, tmp_path: Path) -> None:
    process = start(tmp_path, 1, f"exit:{item}")
    assert process.wait(60) == 9
    process.communicate()
    assert names_in(tmp_path) == [".lsp_train.blocks"]
    assert len(list(blocks_at(tmp_path).glob("*.json"))) == 1 + item // BLOCK  # the plan and the finished blocks
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed
    assert names_in(tmp_path) == ["lsp_train.h5"]


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_it_with_one_message(undisturbed: bytes, tmp_path: Path) -> None:
    process = start(tmp_path, 2, "kill:8")
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said == (
        f"{shard_at(tmp_path)}: a worker process was killed; if it ran out of memory, use fewer --workers."
        " Finished blocks are kept; run the command again to resume\n"
    )
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize("num_blocks", [1, 5])
def test_a_conversion_that_was_killed_goes_on(num_blocks: int, undisturbed: bytes, tmp_path: Path) -> None:
    process = start(tmp_path, 2, "slow")
    deadline = time.monotonic() + 60
    while len(list(blocks_at(tmp_path).glob("0*.json"))) < num_blocks or not blocks_at(tmp_path).exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    children = _children(process.pid)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{child}").exists() for child in children):  # no child is left
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not shard_at(tmp_path).exists()
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed
    assert names_in(tmp_path) == ["lsp_train.h5"]


def _children(parent: int) -> set[int]:
    """All descendants of a process."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {parent}
    while more := {child for child, above in parents.items() if above in found} - found:
        found |= more
    return found - {parent}


def test_blocks_of_another_plan_are_not_taken(undisturbed: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        make(tmp_path, selection=PhotoFilter(every=2), lacking=(17,))
    assert blocks_at(tmp_path).exists()
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed


def test_pictures_in_files_of_their_own_read_the_same(
    undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path / "one")
    monkeypatch.setattr(hmrb.data.convert.writer, "PICTURES_BYTES", 90_000)
    make(tmp_path / "many")
    one, many = Shard(shard_at(tmp_path / "one")), Shard(shard_at(tmp_path / "many"))
    assert many.info.num_files > 2
    files = [f"lsp_train.pictures-{number:03d}.h5" for number in range(many.info.num_files)]
    assert names_in(tmp_path / "many") == ["lsp_train.h5", *files]
    assert all((many.path.parent / name).stat().st_size < 95_000 for name in files)
    assert many.info.sha == one.info.sha
    for row in range(len(one)):
        before, after = one.read(row), many.read(row)
        assert (before.jpeg, before.name) == (after.jpeg, after.name)
        np.testing.assert_array_equal(before.keypoints2d, after.keypoints2d)
    assert many.jpeg(0) == one.jpeg(0)
    (shard_at(tmp_path / "many").parent / files[1]).unlink()
    with pytest.raises(ShardError, match=r"pictures-001\.h5: no such file; it must contain images of lsp_train\.h5"):
        Shard(many.path).jpeg(0)


def test_files_of_pictures_are_gone_when_one_file_is_enough(
    undisturbed: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(hmrb.data.convert.writer, "PICTURES_BYTES", 90_000)
        make(tmp_path)
    make(tmp_path)
    assert names_in(tmp_path) == ["lsp_train.h5"]
    assert shard_at(tmp_path).read_bytes() == undisturbed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "finished"),
    [
        (70_000, False),  # the only block does not fit
        (120_000, True),  # blocks of 3 do, the shard does not
    ],
)
def test_a_full_disk_leaves_finished_blocks_alone(limit: int, finished: bool, tmp_path: Path) -> None:
    """A file size limit simulates a full disk."""
    write(tmp_path / "raw", FILES["eft_lspet"]["train"], count=20)
    command = (
        "import resource, sys; import hmrb.data.convert.conversion as s; from hmrb.cli import main;"
        f"s.BLOCK_PHOTOS = {BLOCK if finished else 256};"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit})); main()"
    )
    words = ["convert-data", "eft-lspet", "--raw", str(tmp_path / "raw"), "--out", str(tmp_path / "home")]
    done = subprocess.run(
        [sys.executable, "-c", command, *words, "--workers", "1"], capture_output=True, text=True, check=False
    )
    path = Store(tmp_path / "home").shard("eft_lspet", "train")
    assert (done.returncode, done.stderr) == (
        1, f"hmrb: {path}: could not be written (File too large); nothing was left behind\n",
    )  # fmt: skip
    kept = sorted(file.name for file in (path.parent / ".eft_lspet_train.blocks").iterdir())
    blocks = [f"{number:06d}.{end}" for number in range(7) for end in ("h5", "json")] if finished else []
    assert kept == [".lock", *blocks, "plan.json"]
    assert [file.name for file in path.parent.iterdir()] == [".eft_lspet_train.blocks"]


def everything() -> list[str]:
    return [photo.name for item in range(ITEMS) for photo in read((), item)]


@pytest.mark.parametrize(
    ("selection", "said"),
    [
        (PhotoFilter(), ""),
        (PhotoFilter(every=3), "every 3"),
        (PhotoFilter(fraction=0.4), "fraction 0.4"),
        (PhotoFilter(match="outdoors/*"), "match outdoors/*"),
        (PhotoFilter(2, 0.7, "in*"), "every 2, fraction 0.7, match in*"),
    ],
)
def test_a_selection_is_kept_in_mind(selection: PhotoFilter, said: str, tmp_path: Path) -> None:
    make(tmp_path, 1, selection)
    shard = Shard(shard_at(tmp_path))
    assert shard.info.selection == said
    kept = list(dict.fromkeys(shard.name(row) for row in range(len(shard))))
    assert kept == [name for name in everything() if name in kept]
    if selection.match:
        assert all(fnmatch(name, selection.match) for name in kept)
    if selection == PhotoFilter(match="outdoors/*"):
        assert len(kept) == len([name for name in everything() if name.startswith("outdoors")])
    if selection == PhotoFilter(every=3):  # photos are counted by item and position in it
        assert kept == [name for name in everything() if (int(name[-8:-6]) + int(name[-5])) % 3 == 0]
    if selection == PhotoFilter(fraction=0.4):
        assert 0.2 < len(kept) / len(everything()) < 0.6
    if not said:
        assert kept == everything()


def test_a_share_is_the_same_people_however_they_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (1, 256):
        monkeypatch.setattr(hmrb.data.convert.conversion, "BLOCK_PHOTOS", size)
        make(tmp_path / str(size), 1, PhotoFilter(2, 0.6))
    assert shard_at(tmp_path / "1").read_bytes() == shard_at(tmp_path / "256").read_bytes()


def test_nothing_selected_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no person in 20 items was selected; nothing was written"):
        make(tmp_path, 1, PhotoFilter(match="nowhere"))
    assert not shard_at(tmp_path).exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_more_missing_pictures_than_allowed_end_it(workers: int, tmp_path: Path) -> None:
    with pytest.raises(RunError) as error:
        make(tmp_path, workers, lacking=MISSING, limit=1)
    assert str(error.value) == (
        f"{shard_at(tmp_path)}: 2 images cannot be used, --allow-missing allows 1:"
        " nowhere/outdoors/04_1.jpg: image cannot be read: no such file;"
        " nowhere/indoors/13_1.jpg: image cannot be read: no such file."
        " Finished blocks are kept; run the command again to resume"
    )
    assert not shard_at(tmp_path).exists()


def test_as_many_as_allowed_are_left_out_and_named(tmp_path: Path) -> None:
    said = make(tmp_path, lacking=MISSING, limit=2)
    assert said == [
        "left out: nowhere/outdoors/04_1.jpg: image cannot be read: no such file",
        "left out: nowhere/indoors/13_1.jpg: image cannot be read: no such file",
    ]
    shard = Shard(shard_at(tmp_path))
    names = {shard.name(row) for row in range(len(shard))}
    assert set(everything()) - names == {"outdoors/04_1.jpg", "indoors/13_1.jpg"}


def test_pictures_that_were_missing_are_looked_for_again(undisturbed: bytes, tmp_path: Path) -> None:
    with pytest.raises(RunError):
        make(tmp_path, lacking=MISSING, limit=1)
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed


def test_arrays_are_flat_so_that_they_can_be_mapped(tmp_path: Path) -> None:
    make(tmp_path)
    arrays: list[h5py.Dataset] = []
    with h5py.File(shard_at(tmp_path), "r") as file:
        file.visititems(lambda _, node: arrays.append(node) if isinstance(node, h5py.Dataset) else None)
        assert len(arrays) == 17 + 1  # and categories/sequence
        for array in arrays:
            assert (array.chunks, array.compression, array.id.get_offset() is None) == (None, None, False), array.name


def test_items_of_many_photos_make_small_blocks(undisturbed: bytes, tmp_path: Path) -> None:
    (part,) = source((19,)).plan(None)
    part = replace(part, photos_each=2)
    with pytest.raises(RunError):
        convert(
            source(),
            [part],
            Store(tmp_path),
            ConversionOptions("a test", packing=Packing("region", 64)),
            ProgressReporter(),
        )
    assert len(list(blocks_at(tmp_path).glob("0*.json"))) == ITEMS
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed


def test_what_it_will_take_is_told_from_a_few_items() -> None:
    (part,) = source().plan(None)
    about = estimate(part, ConversionOptions("a test", selection=PhotoFilter(every=2)), num_items=20)
    assert about.people == 57 / 2
    size = sum(len(photo.data) for item in range(ITEMS) for photo in read((), item))  # its people share it
    assert about.bytes == size / 2
    long = replace(part, photos_each=100)  # only the first 20 photos of an item are read
    assert estimate(long, ConversionOptions("a test"), num_items=20).people == 57 * 5


def half_done(home: Path) -> None:
    """A conversion that ended early, with finished blocks."""
    with pytest.raises(RunError):
        make(home, lacking=(19,))
    assert len(list(blocks_at(home).glob("0*.h5"))) == 7


@pytest.mark.parametrize("damage", ["gone", "other bytes", "another block"])
def test_a_block_that_is_gone_or_damaged_is_not_nobody(damage: str, undisturbed: bytes, tmp_path: Path) -> None:
    half_done(tmp_path)
    first, second = (blocks_at(tmp_path) / f"{number:06d}.h5" for number in (0, 1))
    if damage == "gone":
        first.unlink()  # written again at once
    if damage == "other bytes":
        content = bytearray(first.read_bytes())
        content[-1] ^= 1
        first.write_bytes(content)
    if damage == "another block":
        first.write_bytes(second.read_bytes())
    if damage != "gone":
        with pytest.raises(RunError, match=r"000000\.h5: this block of \d+ people is gone or damaged; run the"):
            make(tmp_path)
        assert not shard_at(tmp_path).exists()
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed


def test_two_conversions_at_once_do_not_share_blocks(undisturbed: bytes, tmp_path: Path) -> None:
    with open_blocks(shard_at(tmp_path), {}) as folder:
        (folder / "000000.h5").write_bytes(b"the other's")
        with pytest.raises(RequestError) as error:
            make(tmp_path)
        assert str(error.value) == (
            f"{shard_at(tmp_path)}: another conversion is writing it (process {os.getpid()}); wait for it, or write"
            " elsewhere with --out"
        )
        assert (folder / "000000.h5").read_bytes() == b"the other's"
    make(tmp_path)
    assert shard_at(tmp_path).read_bytes() == undisturbed
    assert names_in(tmp_path) == ["lsp_train.h5"]


def identity(**changes: object) -> dict[str, object]:
    (part,) = source().plan(None)
    making = replace(ConversionOptions("hmrb convert-data lsp --allow-missing 2"), **changes)
    return _identity(part, {"made_by": making.made_by}, making, 3)


def test_blocks_of_other_labels_or_code_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "labels").mkdir()
    read, beside = tmp_path / "labels" / "train.json", tmp_path / "other.pkl"
    read.write_text("1")
    beside.write_text("1")
    (tmp_path / "labels" / "a.jpg").write_text("1")

    def stamps() -> dict[str, tuple[int, int]]:
        raw = Raw(tmp_path)
        raw.need("labels")
        raw.file("labels/a.jpg")
        return raw.stamps()

    before = identity(inputs=stamps())
    assert list(stamps()) == ["labels/train.json", "other.pkl"]
    (tmp_path / "labels" / "a.jpg").write_text("12")
    assert identity(inputs=stamps()) == before
    assert identity(inputs=stamps(), made_by="hmrb convert-data lsp") == before  # --allow-missing changes no block
    assert identity(inputs=stamps(), made_by="hmrb convert-data lsp --every 2") != before
    for path in (read, beside):
        facts = path.stat()
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))
        assert identity(inputs=stamps()) != before
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        assert identity(inputs=stamps()) == before
    monkeypatch.setattr(hmrb.data.convert.conversion, "code_sha", lambda: "other code")
    assert identity(inputs=stamps()) != before


def test_the_files_that_were_looked_up_stay_in_the_first_process(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1")
    raw = Raw(tmp_path)
    raw.need("a.json")
    assert raw.reads == {tmp_path / "a.json"}
    assert pickle.loads(pickle.dumps(raw)).reads == set()


def test_people_that_cannot_be_used_are_left_out_and_counted(tmp_path: Path) -> None:
    nan = np.float32("nan")

    def spoilt(faults: int, item: int) -> Iterator[Photo]:
        for photo in read((), item):
            (first, *others) = photo.people
            if item < faults:
                points = first.keypoints2d.copy()
                points[3] = (nan, nan, 1)
                box = np.array([[nan, 0, 5, 5], [10, 10, 0, 0], [90, 90, -50, -50], first.box][item % 4], np.float32)
                first = replace(first, box=box, keypoints2d=points if item % 4 == 3 else first.keypoints2d)
            yield replace(photo, people=(first, *others))

    def told(faults: int, limit: int = 0) -> list[str]:
        said: list[str] = []
        ticker = ProgressReporter()
        ticker.say = said.append  # type: ignore[method-assign]
        part = SplitPlan("train", range(ITEMS), partial(spoilt, faults))
        convert(source(), [part], Store(tmp_path), ConversionOptions("a test", missing_limit=limit), ticker)
        return said

    assert told(1) == ["left out: 2 people: the box is not finite"]
    assert len(Shard(shard_at(tmp_path))) == 55
    with pytest.raises(RunError, match=r"8 of 57 people cannot be used, more than 5%: .* or set --allow-missing 8"):
        told(4)
    assert sorted(told(4, limit=8)) == [
        "left out: 2 people: keypoints2d are not finite",
        "left out: 2 people: the box is not finite",
        "left out: 4 people: the box has no size or a negative size",
    ]
    arrays = Shard(shard_at(tmp_path)).arrays
    assert len(arrays["box"]) == 49
    assert np.isfinite(arrays["keypoints2d"]).all()
    assert (arrays["box"][:, 2:] > 0).all()
