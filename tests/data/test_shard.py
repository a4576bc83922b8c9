import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import person, write_shard

from hmrb.data.convert.writer import ShardWriter
from hmrb.data.shard import LAYOUT_VERSION, Shard, ShardError, open_shard
from hmrb.errors import RunError
from hmrb.records import without_unlabelled


@pytest.fixture
def shard(tmp_path: Path) -> Shard:
    return Shard(write_shard(tmp_path / "synthetic_train.h5", [person(i) for i in range(5)]))


def test_a_person_comes_back_as_it_was(shard: Shard) -> None:
    for row in range(5):
        before, after = person(row), shard.read(row)
        assert (after.jpeg, after.name, after.gender, after.has_body) == (
            before.jpeg, before.name, before.gender, before.has_body,
        )  # fmt: skip
        for field in ("keypoints2d", "keypoints3d"):
            np.testing.assert_array_equal(getattr(after, field), without_unlabelled(getattr(before, field)))
        for field in ("pose", "betas", "transl"):
            np.testing.assert_array_equal(getattr(after, field), before.has_body * getattr(before, field))
        for field in ("box", "origin"):
            np.testing.assert_array_equal(getattr(after, field), getattr(before, field))
        assert after.columns == pytest.approx(before.columns)


def test_arrays_are_mapped_not_read(shard: Shard) -> None:
    assert all(isinstance(array.base, np.memmap) for array in shard.arrays.values())
    assert not shard.arrays["pose"].flags.writeable


def test_a_shard_goes_to_another_process_as_its_path(shard: Shard) -> None:
    _ = shard.arrays
    sent = pickle.dumps(shard)
    assert len(sent) < 500
    assert pickle.loads(sent).name(3) == "person/003"


def test_people_of_one_picture_share_it(tmp_path: Path) -> None:
    from dataclasses import replace

    jpeg = person(0).jpeg
    shard = Shard(write_shard(tmp_path / "a.h5", [replace(person(i), jpeg=jpeg) for i in range(3)]))
    assert (shard.info.num_people, shard.info.num_images) == (3, 1)
    assert shard.jpeg(2) == jpeg


def test_the_same_people_make_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_shard(tmp_path / name, [person(i) for i in range(4)]) for name in ("a.h5", "b.h5"))
    assert first.read_bytes() == second.read_bytes()
    other = write_shard(tmp_path / "c.h5", [person(i, seed=1) for i in range(4)])
    assert Shard(other).info.sha != Shard(first).info.sha


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    about = {"dataset": "a", "split": "train", "skeleton": "smpl54", "body": "open", "made_by": "test"}
    with pytest.raises(KeyboardInterrupt), ShardWriter(tmp_path / "a.h5", **about) as writer:
        writer.add(person(0))
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_older_shard_survives_a_failed_rewrite(shard: Shard) -> None:
    before = shard.path.read_bytes()
    about = {"dataset": "a", "split": "train", "skeleton": "smpl54", "body": "open", "made_by": "test"}
    with pytest.raises(ZeroDivisionError), ShardWriter(shard.path, **about) as writer:
        writer.add(person(9))
        _ = 1 / 0
    assert shard.path.read_bytes() == before


def test_a_full_disk_is_one_message_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError, match=r"a\.h5: could not be written \(No space left on device\); nothing was left"):
        write_shard(tmp_path / "a.h5", [person(0)])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_while_people_are_written(tmp_path: Path) -> None:
    """A file size limit simulates a full disk."""
    script = (
        "import resource, signal, sys; from pathlib import Path; from conftest import person, write_shard\n"
        "from hmrb.errors import RunError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "try: write_shard(Path(sys.argv[1]), [person(i) for i in range(200)])\n"
        "except RunError as error: print(error)"
    )
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "a.h5")], cwd=here, capture_output=True, text=True, check=False
    )
    assert "could not be written (File too large); nothing was left behind" in done.stdout, done.stderr
    assert list(tmp_path.iterdir()) == []
    assert done.returncode != -signal.SIGXFSZ


def test_a_missing_shard_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"no shard of 'h36m' at .*h36m_train\.h5; create it: hmrb convert-data h36m"):
        open_shard(tmp_path / "h36m_train.h5", "h36m")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_truncated_shard_is_refused(shard: Shard, share: float) -> None:
    content = shard.path.read_bytes()
    shard.path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ShardError, match="file is truncated|not a readable HDF5 file"):
        open_shard(shard.path, "synthetic")


def test_another_layout_is_refused(shard: Shard) -> None:
    with h5py.File(shard.path, "r+") as file:
        file.attrs["layout"] = 99
    with pytest.raises(ShardError) as error:
        Shard(shard.path)
    expected = f"{shard.path}: has layout 99, but this hmrb reads {LAYOUT_VERSION}; run hmrb convert-data synthetic"
    assert str(error.value) == expected


def test_what_is_no_shard_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("not at all")
    with pytest.raises(ShardError, match="not a readable HDF5 file"):
        Shard(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["x"] = [1, 2, 3]
    with pytest.raises(ShardError, match="an HDF5 file, but not an hmrb shard"):
        Shard(tmp_path / "b.h5")


def test_a_shard_without_an_array_is_refused(shard: Shard) -> None:
    with h5py.File(shard.path, "r+") as file:
        del file["betas"]
    with pytest.raises(ShardError, match="missing arrays: betas; recreate it: a test"):
        _ = Shard(shard.path).arrays
