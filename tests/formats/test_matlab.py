"""MATLAB files are checked before scipy's reader, which crashes on some damaged ones."""

from pathlib import Path

import numpy as np
import pytest
import scipy.io

from hmrb.errors import RunError
from hmrb.formats.mat5 import check_mat5
from hmrb.formats.matlab import read_mat


def cells() -> np.ndarray:
    out = np.empty((2, 3), object)
    for place in np.ndindex(out.shape):
        out[place] = {"points": np.ones((2, 3)), "name": "é", "on": np.array([True]), "e": []}
    return out


@pytest.mark.parametrize("is_compressed", [False, True])
def test_files_of_all_kinds_of_values_are_read(is_compressed: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": cells(), "b": np.zeros((3, 0), np.uint8)}, do_compression=is_compressed)
    found = read_mat(path, "a", "b")
    assert found["a"].shape == (2, 3)
    assert found["b"].shape == (3, 0)


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    """A reader that takes them as real drops half of them."""
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": np.array([1 + 2j])})
    with pytest.raises(RunError, match="a matrix of complex numbers; expected real ones"):
        read_mat(path, "a")


def test_values_of_another_number_than_the_shape_s_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": cells()})
    data = bytearray(path.read_bytes())
    at = data.index(b"\5\0\0\0\x08\0\0\0\2\0\0\0\3\0\0\0") + 8  # the shape of the cells
    data[at : at + 4] = b"\7\0\0\0"
    path.write_bytes(data)
    with pytest.raises(RunError, match=r"a\.mat: not a MATLAB file up to v7, or truncated \(.*\); download it again"):
        read_mat(path, "a")


def test_no_flipped_byte_gets_past_the_check_and_breaks_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"a": cells()[:1, :1]})
    whole, refused = path.read_bytes(), 0
    for at in range(128, len(whole)):
        data = bytearray(whole)
        data[at] ^= 0xFF
        try:
            check_mat5(bytes(data))
        except ValueError:
            refused += 1
    assert 100 < refused < len(whole)  # flips of values and names stay


def test_a_web_page_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_text("<!DOCTYPE html><html>")
    with pytest.raises(RunError, match=r"it is an HTML page"):
        read_mat(tmp_path / "a.mat", "a")
