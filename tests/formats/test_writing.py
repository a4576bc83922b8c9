import errno
from pathlib import Path

import numpy as np
import pytest

from hmrb.formats.files import is_about_the_file, reason
from hmrb.formats.writing import hdf5_file, replacing


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), replacing(path) as part:
        part.write_text("half")
        raise OSError(errno.ENOSPC, "full")
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"
    with replacing(path, older=tmp_path / "b.txt") as part:
        part.write_text("new")
    assert (path.read_text(), (tmp_path / "b.txt").read_text()) == ("new", "old")


def test_hdf5_survives_a_full_disk_and_tells_of_it() -> None:
    with pytest.raises(OSError, match="No space left") as failed, hdf5_file(Path("/dev/full")) as file:
        for number in range(50):
            file.create_dataset(f"a/{number}", data=np.arange(1000), compression="gzip")
    assert failed.value.errno == errno.ENOSPC


def test_a_system_error_is_found_where_a_library_has_wrapped_it() -> None:
    try:
        try:
            raise OSError(errno.EIO, "Input/output error")
        except OSError:
            raise ValueError("not a zip file")  # noqa: B904  as zipfile does
    except ValueError as error:
        wrapped = error
    hdf5 = RuntimeError("Object visitation failed (file read failed: errno = 5, error message = 'Input/output error')")
    for error in (wrapped, hdf5):
        assert not is_about_the_file(error)
        assert "input/output error" in reason(error)
    assert is_about_the_file(RuntimeError("errno = 22"))  # of an absurd offset in a damaged file
