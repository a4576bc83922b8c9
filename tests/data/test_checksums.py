"""Each shard is compared with its hash once, before it is scored or trained on."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from hmrb.data import checksums
from hmrb.data.checksums import NOT_VERIFIED, check_once, is_verified, marked_sha
from hmrb.data.shard import Shard, ShardError
from hmrb.store import Store


@pytest.fixture
def copied(tiny_store: Store) -> tuple[Path, Store]:
    return tiny_store.shard("synthetic", "test"), tiny_store


def flip(path: Path, array: str, at: int) -> None:
    with h5py.File(path, "r+") as file:
        place = file[array].id.get_offset()
    with open(path, "r+b") as raw:
        raw.seek(place + at)
        byte = raw.read(1)[0]
        raw.seek(place + at)
        raw.write(bytes([byte ^ 1]))


@pytest.mark.parametrize(("array", "at"), [("pose", 40), ("keypoints3d", 8), ("jpeg/bytes", 300), ("gender", 0)])
def test_one_flipped_bit_is_noticed(copied: tuple[Path, Store], array: str, at: int) -> None:
    path, store = copied
    assert check_once(Shard(path), store)
    flip(path, array, at)
    os.utime(path, ns=(1, 1))  # another time of change, whatever the file system's resolution is
    with pytest.raises(ShardError, match="the shard is damaged or was modified; recreate it: a test"):
        check_once(Shard(path), store)


def test_a_shard_is_hashed_once(copied: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    path, store = copied
    count = 0

    def counted(shard: Shard) -> str:
        nonlocal count
        count += 1
        return str(shard.info.sha)

    monkeypatch.setattr(checksums, "computed_sha", counted)
    assert marked_sha(Shard(path), store).endswith(NOT_VERIFIED)
    for _ in range(3):
        assert check_once(Shard(path), store)
        monkeypatch.setattr(checksums, "_seen", {})  # as another process
    assert count == 1
    assert marked_sha(Shard(path), store) == Shard(path).info.sha
    (path.parent / "verified.json").write_text("[" * 100_000)  # damaged notes are no notes
    assert is_verified(Shard(path), store)  # this process has seen it
    monkeypatch.setattr(checksums, "_seen", {})
    assert not is_verified(Shard(path), store)
    assert check_once(Shard(path), store)
    assert list(json.loads((path.parent / "verified.json").read_text())) == [str(path)]


def test_a_large_shard_is_not_hashed_without_being_asked(
    copied: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, store = copied
    monkeypatch.setattr(checksums, "AUTOMATIC_BYTES", 1000)
    assert not check_once(Shard(path), store)
    assert f"hmrb verify {path} checks it once" in capsys.readouterr().err
    checksums.remember(Shard(path), store)  # as hmrb verify does
    assert check_once(Shard(path), store)


def test_a_flip_is_neither_scored_nor_trained_on(copied: tuple[Path, Store]) -> None:
    from hmrb.errors import RequestError
    from hmrb.evaluation.protocols import find_benchmark
    from hmrb.run import score_predictions

    path, store = copied
    flip(path, "pose", 41)
    shard = Shard(path)
    predictions = store.root / "p.npz"
    np.savez(predictions, pose=shard.arrays["pose"], betas=shard.arrays["betas"])
    with pytest.raises(RequestError, match="damaged or was modified"):
        score_predictions(predictions, [find_benchmark("synthetic")], store, store.root / "out")
    assert not (store.root / "out").exists()


def test_an_old_note_of_a_store_that_cannot_be_written_is_not_asked_again(
    copied: tuple[Path, Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, store = copied
    assert check_once(Shard(path), store)
    os.utime(path, ns=(1, 1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checksums.os, "replace", full)
    assert check_once(Shard(path), store)
    assert is_verified(Shard(path), store)
