"""Untrusted pickles: the values are read and no code runs. The libraries they name are faked here, then removed."""

import io
import pickle
import struct
import sys
import time
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw.pickled import Bomb, library, with_state

from hmrb.formats.npz import Npz, read_npy
from hmrb.formats.pickles import Foreign, PickleError, load_pickle, read_pickle

PROTOCOLS = pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
VALUES = [
    {"text": ["a", "ü"], "number": 1.5, "nothing": None, "whole": 10**20, "many": {1, 2}, "pair": (1, (2,))},
    {b"bytes": b"\x00\xff", b"none": b""},
    OrderedDict(a=1, b=2),
    np.arange(6.0).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
    np.arange(4, dtype=">i4"),
    np.array([True, False]),
    np.array(["m", "female"]),
    np.array([b"im", b"im2"]),
    np.zeros((0, 3)),
    np.float32(2.5),
    np.array([{"x": np.ones(2)}, None, ["y"]], dtype=object),
]


def loads(data: bytes) -> Any:
    return load_pickle(io.BytesIO(data), "it.pkl")


def refuses(data: bytes, *said: str) -> None:
    with pytest.raises(PickleError) as refusal:
        loads(data)
    for words in ("it.pkl: ", *said):
        assert words in str(refusal.value)


@PROTOCOLS
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_plain_values_come_out_as_they_went_in(value: Any, protocol: int) -> None:
    got = loads(pickle.dumps(value, protocol))
    assert repr(got) == repr(dict(value) if isinstance(value, OrderedDict) else value)
    if isinstance(value, np.ndarray):
        assert (got.dtype, got.shape, got.flags.writeable) == (value.dtype, value.shape, True)


@PROTOCOLS
def test_a_body_of_chumpy_and_scipy_is_read_with_neither(protocol: int) -> None:
    shapes, dense = np.arange(24.0).reshape(4, 3, 2), np.array([[0, 0.5, 0, 0.5], [1, 0, 0, 0]])
    names = {
        "ch": "chumpy.ch.Ch",
        "select": "chumpy.reordering.Select",
        "columns": "scipy.sparse.csc.csc_matrix",
        "rows": "scipy.sparse._csr.csr_matrix",
    }
    with library(**names) as (ch, select, columns, rows):
        whole = with_state(ch, x=shapes, _dirty_vars=set(), _itr=None)
        body = {
            "shapedirs": whole,
            "v_template": with_state(select, a=whole, idxs=np.array([0, 2, 4]), preferred_shape=(3, 1)),
            "J_regressor": with_state(
                columns, _shape=(2, 4), indptr=np.array([0, 1, 2, 2, 3]), indices=np.array([1, 0, 0]),
                data=np.array([1, 0.5, 0.5]),
            ),
            "J_regressor_prior": with_state(
                rows, _shape=(2, 4), indptr=np.array([0, 2, 3]), indices=np.array([1, 3, 0]),
                data=np.array([0.5, 0.5, 1]),
            ),
            "bs_type": "lrotmin",
        }  # fmt: skip
        data = pickle.dumps(body, protocol)
    assert "chumpy" not in sys.modules
    got = loads(data)
    np.testing.assert_array_equal(got["shapedirs"], shapes)
    np.testing.assert_array_equal(got["v_template"], [[0], [2], [4]])
    np.testing.assert_array_equal(got["J_regressor"], dense)
    np.testing.assert_array_equal(got["J_regressor_prior"], dense)
    assert got["bs_type"] == "lrotmin"


def test_an_array_that_python_2_wrote() -> None:
    """Protocol 2 with raw bytes in a text string, as old numpy versions wrote them."""
    raw = np.array([1.5, -2.0], "<f8").tobytes()
    data = (
        b"\x80\x02}q\x01U\x01xcnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f8K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        b"U" + bytes([len(raw)]) + raw + b"tbs."
    )
    np.testing.assert_array_equal(loads(data)["x"], [1.5, -2.0])


def test_what_is_met_twice_stays_one_and_a_loop_stays_a_loop() -> None:
    shared: list[Any] = [np.ones(2)]
    loop: dict[str, Any] = {"a": shared, "b": shared}
    loop["self"] = loop
    got = loads(pickle.dumps(loop))
    assert got["a"] is got["b"]
    assert got["self"] is got


@PROTOCOLS
def test_a_bomb_is_named_and_does_not_go_off(protocol: int, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    data = pickle.dumps({"pose": [np.ones(3), Bomb(marker)]}, protocol)
    refuses(data, "asks for posix.system", "no code from the file was run")
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()  # the bomb was live


@pytest.mark.parametrize(
    "data",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"c__builtin__\ngetattr\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x0ctesting.runs\x93.",
        b"ccopyreg\n_reconstructor\n(cos\nsystem\nc__builtin__\nobject\nNtR.",
    ],
)
def test_no_other_global_is_looked_up(data: bytes) -> None:
    refuses(data, "asks for ")


@pytest.mark.parametrize(
    "data",
    [
        b"ccopyreg\n_reconstructor\n(c__builtin__\nset\nc__builtin__\nobject\nNtR.",  # an object of another class
        b"cnumpy\ndtype\nN}S'args'\nK\x00s\x86b.",  # sets an attribute of the stand-in itself
        b"cnumpy\nndarray\n.",  # a class where a value should be
        b"cnumpy\ndtype\n(S'V8'\ntR.",  # records: their state can point anywhere
        b"cbuiltins\nbytes\n(K\x05tR.",
        b"\x80\x04K\x01r\xff\xff\xff\xff",  # a place of the memo that would take 32 GB
        b"P1\n.",
        b"hello",
        b"\x89PNG\r\n",
        b"(" * 10 + b"." * 3,
    ],
)
def test_nonsense_and_tricks_are_one_message(data: bytes) -> None:
    with pytest.raises(PickleError, match=r"^it\.pkl: .*(not a pickle of plain values|truncated)"):
        loads(data)


def test_every_way_to_cut_a_pickle_short_is_one_message() -> None:
    for protocol in (0, 2, 4, 5):
        whole = pickle.dumps({"a": [1, 2.5, np.arange(40.0)], "b": "text"}, protocol)
        for end in range(len(whole)):
            refuses(whole[:end])
    refuses(b"", "file is truncated or empty")
    refuses(whole[:-30], "file is truncated")


def test_an_array_has_no_more_numbers_than_bytes() -> None:
    honest = pickle.dumps(np.arange(3.0), 2)
    assert honest.count(b"K\x03\x85") == 1  # its shape
    refuses(honest.replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"), "array of shape (2147483647,)", "has 24 bytes")
    objects = pickle.dumps(np.array([None] * 3), 2)
    refuses(objects.replace(b"K\x03\x85", b"J\xff\xff\xff\x7f\x85"), "has 3 objects")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"_shape": (10**6, 10**6)}, "unsupported sparse matrix shape (1000000, 1000000)"),
        ({"indptr": np.array([0, 1, 10**9])}, "inconsistent sparse matrix: 1 values at 1 indices"),
        ({"indices": np.array([7])}, "out of bounds"),
    ],
)
def test_a_sparse_matrix_is_no_larger_than_it_says(change: dict[str, Any], said: str) -> None:
    state = {"_shape": (2, 2), "indptr": np.array([0, 1, 1]), "indices": np.array([0]), "data": np.ones(1)} | change
    with library(columns="scipy.sparse.csc.csc_matrix") as (columns,):
        data = pickle.dumps(with_state(columns, **state))
    refuses(data, said)


def test_a_further_global_is_taught_by_a_stand_in() -> None:
    class Frame(Foreign):
        def value(self, plain: Any) -> Any:
            return plain(self.state["columns"])

    with library(frame="pandas.core.frame.DataFrame") as (frame,):
        data = pickle.dumps(with_state(frame, columns=[np.float64(3), "x"]))
    refuses(data, "asks for pandas.core.frame.DataFrame")
    got = load_pickle(io.BytesIO(data), "it.pkl", {"pandas.core.frame.DataFrame": Frame})
    assert got == [3.0, "x"]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PickleError, match=r"gone\.pkl: no such file"):
        read_pickle(tmp_path / "gone.pkl")
    (tmp_path / "here.pkl").write_bytes(pickle.dumps([1]))
    assert read_pickle(tmp_path / "here.pkl") == [1]


def npz(folder: Path, **arrays: Any) -> Path:
    path = folder / "file.npz"
    np.savez_compressed(path, **arrays)
    return path


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    """A reader that takes them as real drops half of them."""
    values = np.ones(3, complex)
    with pytest.raises(PickleError, match="an array of complex numbers; expected real ones"):
        loads(pickle.dumps({"pose": values}))
    with (
        Npz(npz(tmp_path, pose=values)) as file,
        pytest.raises(PickleError, match="pose has values of type complex128"),
    ):
        file.read("pose")
    np.save(tmp_path / "file.npy", values)
    with pytest.raises(PickleError, match="it has values of type complex128"):
        read_npy(tmp_path / "file.npy")


def test_an_npz_gives_arrays_objects_and_rows(tmp_path: Path) -> None:
    many = np.random.default_rng(0).normal(size=(5000, 190, 3)).astype(np.float32)  # several blocks
    path = npz(
        tmp_path,
        many=many,
        turned=np.asfortranarray(many[:4, :5, 0]),
        smpl={"betas": np.ones((2, 10))},
        names=np.array(["a", None], object),
        text=np.array("whole"),
        none=np.zeros((0, 3)),
    )
    with Npz(path) as file:
        assert "many" in file
        assert "few" not in file
        assert file.shape("many") == (5000, 190, 3)
        np.testing.assert_array_equal(list(file.rows("many")), many)
        np.testing.assert_array_equal(list(file.rows("turned")), many[:4, :5, 0])
        np.testing.assert_array_equal(file.read("turned"), many[:4, :5, 0])
        np.testing.assert_array_equal(file.read("smpl")["betas"], np.ones((2, 10)))
        assert list(file.rows("names")) == ["a", None]
        assert str(file.read("text")) == "whole"
        assert list(file.rows("none")) == []
        with pytest.raises(PickleError, match=r"file\.npz: no array named few; the file contains many, turned"):
            file.read("few")


def test_a_bomb_in_an_array_of_objects_does_not_go_off(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    inner = np.empty(1, object)
    inner[0] = [Bomb(marker)]
    path = npz(tmp_path, pose=np.ones(3), meta=np.array([{"deep": inner}], object))
    with Npz(path) as file:
        np.testing.assert_array_equal(file.read("pose"), np.ones(3))
        with pytest.raises(PickleError, match=r"file\.npz: meta: asks for posix\.system"):
            file.read("meta")
        with pytest.raises(PickleError, match="asks for posix"):
            list(file.rows("meta"))
    assert not marker.exists()


def test_an_npz_that_is_cut_short_or_lies(tmp_path: Path) -> None:
    path = npz(tmp_path, pose=np.random.default_rng(0).normal(size=(100, 3)))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(PickleError, match=r"file\.npz: not an \.npz file, or truncated"):
        Npz(path)
    path.write_bytes(whole[:300] + bytes(100) + whole[400:])
    with Npz(path) as file:
        with pytest.raises(PickleError, match=r"file\.npz: pose cannot be read"):
            file.read("pose")
        with pytest.raises(PickleError, match=r"file\.npz: pose cannot be read"):
            list(file.rows("pose"))
    member = io.BytesIO()
    np.save(member, np.ones((100, 3)))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pose.npy", member.getvalue().replace(b"(100, 3)", b"(10**9,)").replace(b"**", b"00"))
        archive.writestr("text.npy", b"no array")
    with Npz(path) as file:
        with pytest.raises(PickleError, match=r"pose of shape \(10009,\) .* needs 80072 bytes, but has 2400"):
            file.read("pose")
        with pytest.raises(PickleError, match=r"text cannot be read"):
            file.read("text")
    lying = bytearray(whole)
    at = lying.index(b"PK\x01\x02") + 24
    lying[at : at + 4] = struct.pack("<I", 2**31)
    path.write_bytes(lying)
    with pytest.raises(PickleError, match="declares more data than the file can contain"):
        Npz(path)


def test_lists_that_double_are_refused_at_once() -> None:
    """800 bytes of lists, each of which contains the one before twice."""
    content = b"\x80\x02K\x01" + b"".join(b"q%c0](h%ch%ce" % (i, i, i) for i in range(100)) + b"."
    begin = time.perf_counter()
    with pytest.raises(PickleError, match="its 200 values stand for .*, as lists contain others many times"):
        load_pickle(io.BytesIO(content), "a.pkl")
    assert time.perf_counter() - begin < 1


def test_shared_lists_are_read() -> None:
    row = [0.5] * 10
    assert load_pickle(io.BytesIO(pickle.dumps([row] * 100)), "a.pkl") == [row] * 100
