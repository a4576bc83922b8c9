"""Read untrusted pickles as plain values through an allow-list of stand-ins; no code from the file runs.

numpy arrays, scipy sparse matrices and chumpy arrays become numpy arrays; scipy and chumpy need not be installed.
A file cannot call numpy's own functions either: crafted array types can point anywhere in memory.
"""

import math
import pickle
import re
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from io import BufferedIOBase
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.errors import RequestError
from hmrb.formats.files import PICKLE, instead, reason

DENSE_NUMBERS = 1 << 24  # largest size of a sparse matrix made dense; SMPL's regressor has 165,360
FREE_VALUES, MULTIPLES = 1_000_000, 4  # values after unfolding shared lists: at most so many times what is written
# A damaged or crafted pickle can raise any of these.
_BROKEN = (
    pickle.UnpicklingError, AttributeError, ValueError, TypeError, LookupError, ArithmeticError, MemoryError,
    RecursionError, ImportError, NotImplementedError, AssertionError,
)  # fmt: skip
_CUT_SHORT = ("truncated", "exhausted", "index out of range")


class PickleError(RequestError):
    """A file that is not a pickle, is damaged, or asks to run code."""


class _Sealed(type):
    """Forbids setting class attributes: a pickle can set attributes of any object it names."""

    def __setattr__(cls, name: str, value: Any) -> None:
        raise pickle.UnpicklingError(f"attempt to set {name} of {cls.__name__}")


class Foreign(metaclass=_Sealed):
    """Stands in for an object of another library while a file is read; `value` returns the value it represents.

    To support one more global, map it in `also` to a subclass. The constructor's arguments are stored in `args`, the
    pickled state in `state`.
    """

    args: tuple[Any, ...] = ()
    state: Any = None

    def __new__(cls, *args: Any) -> Any:
        """Return the result of calling the global."""
        made = super().__new__(cls)
        made.args = args
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def value(self, plain: Callable[[Any], Any]) -> Any:
        """Return the value this represents; `plain` converts the parts of `args` and `state` in the same way."""
        raise TypeError(f"{type(self).__name__} has no value")


Allowed = Mapping[str, Any]


def read_pickle(path: Path, also: Allowed | None = None, longest: int = sys.maxsize) -> Any:
    """Read a pickle written by Python 2 or later as a plain value; byte strings are decoded as latin1.

    `also` maps further globals, `module.name`, to subclasses of Foreign. Arrays longer than `longest` bytes are
    discarded while reading and become None. Raises PickleError.
    """
    try:
        with open(path, "rb") as file:
            return load_pickle(file, str(path), also, longest)
    except PickleError as error:
        raise PickleError(f"{error}{instead(path, PICKLE, 'an empty file')}") from None
    except OSError as error:
        raise PickleError(f"{path}: {reason(error)}") from None


def load_pickle(file: BufferedIOBase, source: str, also: Allowed | None = None, longest: int = sys.maxsize) -> Any:
    """Like read_pickle, for an open file; error messages start with `source`."""
    try:
        value = _plain(_Unpickler(file, source, {**PLAIN, **(also or {})}, longest).load(), {})
        _refuse_multiples(value)
        return value
    except (EOFError, struct.error):
        raise PickleError(f"{source}: file is truncated or empty; download it again") from None
    except _BROKEN as error:
        if any(words in str(error) for words in _CUT_SHORT):
            raise PickleError(f"{source}: file is truncated; download it again") from None
        reason = str(error) if re.search("[a-z]", str(error)) else type(error).__name__
        raise PickleError(f"{source}: not a pickle of plain values, or damaged ({reason})") from None


class _Unpickler(pickle._Unpickler):
    """Python's implementation: the C one allocates memory for any memo index that a file names."""

    dispatch = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: BufferedIOBase, source: str, allowed: Allowed, longest: int) -> None:
        super().__init__(file, encoding="latin1")
        self._source, self._allowed, self.longest = source, allowed, longest

    def find_class(self, module: str, name: str) -> Any:
        wanted = f"{module}.{name}"
        if wanted in self._allowed:
            return self._allowed[wanted]
        raise PickleError(
            f"{self._source}: asks for {wanted}, which is not one of the plain values and arrays that hmrb reads;"
            " no code from the file was run"
        )


class _Gone:
    """Replaces a byte string longer than the limit."""


def _letting_go(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def step(unpickler: Any) -> None:
        load(unpickler)
        if len(unpickler.stack[-1]) > unpickler.longest:
            unpickler.stack[-1] = _Gone()

    return step


for _code in (pickle.BINBYTES, pickle.BINBYTES8, pickle.BYTEARRAY8, pickle.BINUNICODE, pickle.BINUNICODE8):
    _Unpickler.dispatch[_code[0]] = _letting_go(_Unpickler.dispatch[_code[0]])


def _plain(value: Any, done: dict[int, Any]) -> Any:
    """`value` with every stand-in replaced by its value. Shared objects stay shared, and cycles stay cycles."""
    if id(value) in done:
        return done[id(value)]
    plain = partial(_plain, done=done)
    if isinstance(value, dict):
        table = done[id(value)] = {}
        table.update((plain(key), plain(part)) for key, part in value.items())
        return table
    if isinstance(value, list):
        row: list[Any] = []
        done[id(value)] = row
        row.extend(plain(part) for part in value)
        return row
    if isinstance(value, tuple | set | frozenset):
        done[id(value)] = type(value)(plain(part) for part in value)
    elif isinstance(value, Foreign):
        done[id(value)] = value.value(plain)
    elif isinstance(value, type):
        raise TypeError(f"expected a value, got the class {value.__name__}")
    else:
        return value
    return done[id(value)]


def _refuse_multiples(value: Any) -> None:
    """Refuse lists that contain others many times: a few hundred bytes could stand for any number of values."""
    unfolded: dict[int, int] = {}
    written = 0

    def count(part: Any) -> int:
        nonlocal written
        if isinstance(part, dict):
            children: Any = part.values()
        elif isinstance(part, list | tuple | set | frozenset):
            children = part
        elif isinstance(part, np.ndarray) and part.dtype.hasobject:
            children = part.flat
        else:
            return 1
        if id(part) not in unfolded:
            unfolded[id(part)] = 1  # while it is counted: a list may contain itself
            written += part.size if isinstance(part, np.ndarray) else len(part)
            unfolded[id(part)] = 1 + sum(map(count, children))
        return unfolded[id(part)]

    total = count(value)
    if total > max(FREE_VALUES, MULTIPLES * written):
        raise ValueError(f"its {written:,} values stand for {total:,}, as lists contain others many times")


class _Name(Foreign):
    """A class that is only passed as an argument to other globals."""


class _DefaultDict(Foreign):
    """A defaultdict, read as a dict without its default."""

    def __new__(cls, *args: Any) -> Any:
        return {}


class _Made(Foreign):
    """copyreg's object constructor; it accepts only stand-ins."""

    def __new__(cls, *args: Any) -> Any:
        kind = args[0]
        if not (isinstance(kind, type) and issubclass(kind, Foreign)):
            raise TypeError(f"cannot construct an object of {kind!r}")
        return kind()


class _Bytes(Foreign):
    """Bytes as Python 3 writes them for Python 2: encode(text, 'latin1')."""

    def __new__(cls, *args: Any) -> Any:
        text, encoding = args or ("", "latin1")
        if encoding != "latin1":
            raise TypeError(f"unsupported bytes encoding {encoding}")
        if isinstance(text, _Gone):
            return text
        return text.encode("latin1")


class _DType(Foreign):
    """A numpy dtype of numbers, text or objects; records and dates are rejected."""

    def value(self, plain: Callable[[Any], Any]) -> np.dtype[Any]:
        code = self.args[0]
        match = re.fullmatch(r"[<>=|]?([?biufcSUO])(\d*)", code) if isinstance(code, str) else None
        if not match:
            raise TypeError(f"unsupported array type {code!r}")
        kind, size = match.groups()
        if kind == "c":
            raise TypeError("an array of complex numbers; expected real ones")
        if kind == "O":
            return np.dtype(object)
        return np.dtype(f"{kind}{size}").newbyteorder(self.state[1] if self.state else "=")


class _Array(Foreign):
    """A numpy array, created empty and then given its state."""

    def value(self, plain: Callable[[Any], Any]) -> Any:
        shape, dtype, fortran, data = self.state[-4:]  # a version number may come first
        return _array(data, dtype, shape, "F" if fortran else "C", plain)


class _Buffer(Foreign):
    """A numpy array as pickle protocol 5 writes it."""

    def value(self, plain: Callable[[Any], Any]) -> Any:
        data, dtype, shape, order = self.args
        return _array(data, dtype, shape, order, plain)


class _Scalar(Foreign):
    """A numpy scalar."""

    def value(self, plain: Callable[[Any], Any]) -> Any:
        dtype, data = self.args
        return _array(data, dtype, (), "C", plain)[()]


def _array(data: Any, dtype: Any, shape: Any, order: str, plain: Callable[[Any], Any]) -> Any:
    """An array; its shape must match the amount of data. Returns None if the data was discarded."""
    if isinstance(data, _Gone):
        return None
    kind = plain(dtype)
    if not isinstance(kind, np.dtype) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise TypeError(f"unsupported array of type {kind!r} and shape {shape!r}")
    count = math.prod(shape)
    if kind.hasobject:
        if len(data) != count:
            raise ValueError(f"array of shape {shape} has {len(data)} objects")
        objects = np.empty(count, object)
        for row, part in enumerate(data):
            objects[row] = plain(part)
        return objects.reshape(shape, order="F" if order == "F" else "C")
    raw = data.encode("latin1") if isinstance(data, str) else bytes(data)
    if len(raw) != count * kind.itemsize:
        raise ValueError(f"array of shape {shape} and type {kind} has {len(raw)} bytes")
    numbers: np.ndarray = np.frombuffer(raw, kind, count) if count else np.empty(0, kind)
    return numbers.reshape(shape, order="F" if order == "F" else "C").copy()


class _Chumpy(Foreign):
    """A chumpy array: its value when it was written."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        return np.asarray(plain(self.state["x"]))


class _ChumpySelect(Foreign):
    """A chumpy selection: elements of another array, reshaped."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        parts = {key: plain(part) for key, part in self.state.items() if key in ("a", "idxs", "preferred_shape")}
        picked: np.ndarray = np.asarray(parts["a"]).ravel()[np.asarray(parts["idxs"])]
        return picked.reshape(tuple(parts["preferred_shape"])) if "preferred_shape" in parts else picked


class _Columns(Foreign):
    """A scipy matrix in compressed sparse column (CSC) format, made dense."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        (num_rows, num_columns), starts, numbers, indices = self._parts(plain)
        columns = np.repeat(np.arange(num_columns), np.diff(starts))
        matrix = np.zeros((num_rows, num_columns), numbers.dtype)
        np.add.at(matrix, (indices, columns), numbers)  # duplicate entries are summed
        return matrix

    def _parts(self, plain: Callable[[Any], Any]) -> tuple[tuple[int, int], np.ndarray, np.ndarray, np.ndarray]:
        num_rows, num_columns = (int(n) for n in plain(self.state["_shape" if "_shape" in self.state else "shape"]))
        starts, numbers, indices = (plain(self.state[key]) for key in ("indptr", "data", "indices"))
        if not 0 <= num_rows * num_columns <= DENSE_NUMBERS:
            raise ValueError(f"unsupported sparse matrix shape ({num_rows}, {num_columns})")
        if starts[0] != 0 or not len(numbers) == len(indices) == starts[-1] or (np.diff(starts) < 0).any():
            raise ValueError(f"inconsistent sparse matrix: {len(numbers)} values at {len(indices)} indices")
        return (num_rows, num_columns), starts, numbers, indices


class _Rows(_Columns):
    """A scipy matrix in compressed sparse row (CSR) format, made dense."""

    def value(self, plain: Callable[[Any], Any]) -> np.ndarray:
        (num_rows, num_columns), starts, numbers, indices = self._parts(plain)
        matrix = np.zeros((num_rows, num_columns), numbers.dtype)
        np.add.at(matrix, (np.repeat(np.arange(num_rows), np.diff(starts)), indices), numbers)
        return matrix


_NUMPY = ("numpy.core", "numpy._core")
_BUILTINS = ("builtins", "__builtin__")
PLAIN: Allowed = {
    **{f"{module}.multiarray._reconstruct": _Array for module in _NUMPY},
    **{f"{module}.multiarray.scalar": _Scalar for module in _NUMPY},
    **{f"{module}.numeric._frombuffer": _Buffer for module in _NUMPY},
    "numpy.dtype": _DType,
    "numpy.ndarray": _Name,
    **{f"{module}._reconstructor": _Made for module in ("copyreg", "copy_reg")},
    "_codecs.encode": _Bytes,
    **{f"{module}.{kind.__name__}": kind for module in _BUILTINS for kind in (set, frozenset)},
    **{f"{module}.bytes": _Bytes for module in _BUILTINS},
    **{f"{module}.{name}": _Name for module in _BUILTINS for name in ("object", "list", "dict", "int", "float")},
    "collections.OrderedDict": OrderedDict,
    "collections.defaultdict": _DefaultDict,
    **{f"scipy.sparse.{module}.csc_matrix": _Columns for module in ("csc", "_csc")},
    **{f"scipy.sparse.{module}.csr_matrix": _Rows for module in ("csr", "_csr")},
    "chumpy.ch.Ch": _Chumpy,
    "chumpy.reordering.Select": _ChumpySelect,
}
