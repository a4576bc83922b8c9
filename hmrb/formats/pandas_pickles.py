"""Tables that pandas pickled (1.x to 3.x) and tensors that torch pickled, as plain values, with no pandas there."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hmrb.formats.pickles import Allowed, Foreign, PickleError, read_pickle

Plain = Callable[[Any], Any]


def read_frame(path: Path, longest: int = sys.maxsize) -> dict[str, list[Any]]:
    """A table's columns by name, their rows in order; arrays in it of more than `longest` bytes come out as None."""
    frame = read_pickle(path, FRAMES, longest)
    if not isinstance(frame, _Table):
        raise PickleError(f"{path}: no table of pandas in it")
    return dict(frame)


def read_tensors(path: Path) -> Any:
    """What a pickle holds, its tensors as numpy arrays."""
    return read_pickle(path, TENSORS)


class _Table(dict[str, list[Any]]):
    """The columns of a table: told apart from any other dict."""


class _Frame(Foreign):
    def value(self, plain: Plain) -> _Table:
        (columns, rows), blocks = plain(self.state["_mgr" if "_mgr" in self.state else "_data"])
        table: dict[int, list[Any]] = {}
        for values, placement in blocks:
            numbers = np.arange(len(columns))[placement]
            for number, row in zip(numbers.tolist(), np.reshape(values, (len(numbers), len(rows))), strict=True):
                table[number] = row.tolist()
        return _Table({str(column): table[number] for number, column in enumerate(columns)})


class _Blocks(Foreign):
    """The axes of a table, and its columns of one type with their places: as arguments, or in the state until 1.2."""

    def value(self, plain: Plain) -> Any:
        if self.args:
            blocks, axes = self.args
            return plain(list(axes)), [plain(block) for block in blocks]
        named = self.state[3]["0.14.1"]
        return plain(named["axes"]), [(plain(b["values"]), plain(b["mgr_locs"])) for b in named["blocks"]]


class _Block(Foreign):
    def value(self, plain: Plain) -> Any:
        values, placement, _ = self.args
        return plain(values), plain(placement)


class _Index(Foreign):
    """Labels of an axis; of a range, its numbers."""

    def value(self, plain: Plain) -> list[Any]:
        table = self.args[1]
        if "data" in table:
            return list(plain(table["data"]))
        return list(range(table["start"], table["stop"], table["step"]))


class _Strings(Foreign):
    def value(self, plain: Plain) -> np.ndarray:
        return np.asarray(plain(self.state[1]))


class _Slice(Foreign):
    def value(self, plain: Plain) -> slice:
        return slice(*self.args)


class _Kind(Foreign):
    """A class that is only named, or made without meaning for what is read."""

    def value(self, plain: Plain) -> str:
        return type(self).__name__


class _Storage(Foreign):
    def value(self, plain: Plain) -> torch.Tensor:
        try:
            stored = torch.load(io.BytesIO(plain(self.args[0])), map_location="cpu", weights_only=True)
            return torch.tensor([], dtype=stored.dtype).set_(stored)
        except (RuntimeError, EOFError, AttributeError) as error:
            raise ValueError(f"a tensor's numbers can't be read: {error}") from None


class _Tensor(Foreign):
    def value(self, plain: Plain) -> np.ndarray:
        storage, offset, size, stride = self.args[:4]
        try:
            return plain(storage).as_strided(size, stride, offset).numpy().copy()
        except RuntimeError as error:
            raise ValueError(f"a tensor beyond its numbers: {error}") from None


class _Parameter(Foreign):
    def value(self, plain: Plain) -> Any:
        return plain(self.args[0])


_INDEXES = ("base.Index", "range.RangeIndex", *(f"numeric.{kind}Index" for kind in ("Int64", "UInt64", "Float64")))
FRAMES: Allowed = {
    "pandas.core.frame.DataFrame": _Frame,
    "pandas.DataFrame": _Frame,
    "pandas.core.internals.managers.BlockManager": _Blocks,
    "pandas._libs.internals._unpickle_block": _Block,
    "pandas.core.indexes.base._new_Index": _Index,
    **{f"pandas.core.indexes.{kind}": _Kind for kind in _INDEXES},
    **{f"pandas.{kind}": _Kind for kind in ("Index", "RangeIndex", "StringDtype", "arrays.StringArray")},
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": _Strings,
    **{f"{module}.slice": _Slice for module in ("builtins", "__builtin__")},
}
TENSORS: Allowed = {
    "torch.storage._load_from_bytes": _Storage,
    "torch._utils._rebuild_tensor_v2": _Tensor,
    "torch._utils._rebuild_parameter": _Parameter,
}
