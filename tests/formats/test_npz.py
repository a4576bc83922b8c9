"""Arrays are refused before they are allocated, and objects wherever numpy reads numbers."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from hmrb.data.occluders import read_pascal
from hmrb.errors import RequestError
from hmrb.formats.npz import Npz, read_npy
from hmrb.formats.pickles import PickleError


def header(shape: tuple[int, ...], descr: str = "|u1") -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue()


def test_zeros_that_unpack_to_gigabytes_are_refused(tmp_path: Path) -> None:
    size = 400 << 20
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as file, file.open("pose.npy", "w") as member:
        member.write(header((size,)))
        for _ in range(400):
            member.write(bytes(1 << 20))
    assert (tmp_path / "a.npz").stat().st_size < 1 << 20
    with Npz(tmp_path / "a.npz") as file:
        with pytest.raises(PickleError, match=r"a.npz: pose of shape .* unpacks to 419,\d+,\d+ bytes; the limit for a"):
            file.read("pose")


def test_arrays_count_together(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.zeros(100), b=np.zeros(100))
    with Npz(tmp_path / "a.npz", most=1000) as file:
        assert len(file.read("a")) == 100
        with pytest.raises(PickleError, match=r"b of shape \(100,\) unpacks to 928 bytes; the limit"):
            file.read("b")


@pytest.mark.parametrize("kind", ["claims more", "objects", "cut", "zip", "html", "negative", "gone"])
def test_what_is_no_regressor_is_one_message(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"
    objects = io.BytesIO()
    np.save(objects, np.array([{}], object), allow_pickle=True)
    content = {
        "claims more": header((1 << 40,)) + b"1234", "objects": objects.getvalue(), "cut": header((3,))[:30],
        "zip": b"PK\3\4", "html": b"<html>", "negative": header((-1, 4)),
    }  # fmt: skip
    if kind in content:
        path.write_bytes(content[kind])
    words = {"claims more": "needs 1,099,511,627,776 bytes", "objects": "Python objects", "zip": "it is a zip archive"}
    with pytest.raises(PickleError, match=f"a.npy: .*{words.get(kind, '')}"):
        read_npy(path)


@pytest.mark.parametrize("kind", ["objects", "large sizes", "damaged"])
def test_what_are_no_occluders_is_one_message(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "pascal.npz"
    pixels, sizes = np.zeros((4, 4), np.uint8), np.array([[2, 2]])
    np.savez(path, pixels=pixels.astype(object) if kind == "objects" else pixels, sizes=sizes * 10**9)
    if kind == "damaged":
        path.write_bytes(b"PK\3\4" + path.read_bytes()[200:])
    with pytest.raises(RequestError, match="pascal.npz: cannot be read as occluders .*recreate it"):
        read_pascal(path)
