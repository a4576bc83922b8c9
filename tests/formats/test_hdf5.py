"""Every error of an HDF5 file is one message that tells access and content apart."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import person, write_shard

from hmrb.data.shard import Shard, ShardError
from hmrb.errors import RequestError
from hmrb.formats.files import what_it_is
from hmrb.formats.hdf5 import opened, read_arrays


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.EACCES, "not readable by this user"),
        (errno.EAGAIN, "held open for writing by another program"),
        (errno.ENOLCK, "on a file system without locks"),
        (errno.EIO, "input/output error"),
        (errno.ENOENT, "no such file"),
        (errno.ENOSPC, "the disk is full"),
        (errno.EROFS, "on a read-only file system"),
    ],
)
def test_why_a_file_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, words: str) -> None:
    path = write_shard(tmp_path / "a.h5", [person(0)])

    def refuse(*_: object, **__: object) -> None:
        raise OSError(code, "the system's words")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(ShardError, match=words) as error:
        Shard(path)
    assert "delete" not in str(error.value)


def test_a_file_that_another_program_writes_is_not_called_broken(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.h5", [person(0)])
    content = path.read_bytes()
    with open(path, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert len(Shard(path).arrays["box"]) == 1  # HDF5's lock does not matter to a reader
        file.truncate(len(content) // 2)
        with pytest.raises(ShardError, match="held open for writing by another program; wait") as error:
            Shard(path)
    assert "delete" not in str(error.value)


def test_a_shard_that_h5py_holds_open_is_read(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.h5", [person(0)])
    hold = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout
        other.stdout.readline()
        assert Shard(path).name(0) == "person/000"
        other.communicate("")


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "a Git LFS pointer"),
        (b"\n<!DOCTYPE html><html><body>Please log in", "an HTML page"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"%PDF-1.7", "a PDF document"),
        (b"", "an empty file"),
        (bytes(5000), "a file of zero bytes only"),
    ],
)
def test_another_file_is_named_as_what_it_is(tmp_path: Path, head: bytes, words: str) -> None:
    (tmp_path / "a.h5").write_bytes(head)
    assert what_it_is(tmp_path / "a.h5").startswith(words)
    with pytest.raises(ShardError, match=f"a.h5: not a readable HDF5 file; it is {words}"):
        Shard(tmp_path / "a.h5")


def test_arrays_that_are_larger_than_their_file_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["small"] = np.arange(3)
        file.create_dataset("junk", (1_250_000_000,), "f4", chunks=(1_000_000,))
    with pytest.raises(RequestError, match=r"junk of shape \(1250000000,\) needs 5,000,000,000 bytes, but"):
        read_arrays(tmp_path / "a.h5")
    assert list(read_arrays(tmp_path / "a.h5", "small".__eq__)) == ["small"]


def test_objects_and_arrays_elsewhere_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["texts"] = np.array(["a"], object)
    with pytest.raises(RequestError, match="texts has type object; allowed are real numbers and texts of fixed length"):
        read_arrays(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset("away", (5,), "u1", external=[("/etc/hostname", 0, 5)])
    with pytest.raises(RequestError, match="away is stored in another file"):
        read_arrays(tmp_path / "b.h5")


@pytest.mark.parametrize("error", [RuntimeError, KeyError, TypeError, ValueError, MemoryError, AttributeError])
def test_what_h5py_raises_is_one_message(tmp_path: Path, error: type[Exception]) -> None:
    with h5py.File(tmp_path / "a.h5", "w"):
        pass
    with pytest.raises(RequestError, match="a.h5: not a readable HDF5 file"):
        with opened(tmp_path / "a.h5"):
            raise error("as h5py does")
