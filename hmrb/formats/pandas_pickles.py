"""Read pickled pandas tables (1.x to 3.x) and pickled torch tensors as plain values, without importing pandas."""

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from hmrb.formats.pickles import Allowed, Foreign, PickleError, read_pickle

Plain = Callable[[Any], Any]


def read_frame(path: Path, longest: int = sys.maxsize) -> dict[str, list[Any]]:
    """Read a table as lists of rows keyed by column name; arrays longer than `longest` bytes become None."""
    frame = read_pickle(path, FRAMES, longest)
    if not isinstance(frame, _Table):
        raise PickleError(f"{path}: does not contain a pandas table")
    return dict(frame)


def read_tensors(path: Path) -> Any:
    """Read a pickle with its tensors as numpy arrays."""
    return read_pickle(path, TENSORS)


class _Table(dict[str, list[Any]]):
    """The columns of a table; a subclass so that a table differs from any other dict."""


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
    """A table's axes and blocks (columns of one type and their positions); until pandas 1.2 they are in the state."""

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
    """The labels of an axis, or the numbers of a range."""

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
    """A class that is only named, or whose instances do not affect the values read."""

    def value(self, plain: Plain) -> str:
        return type(self).__name__


class _Storage(Foreign):
    def value(self, plain: Plain) -> Any:
        import torch  # only here: names of datasets are known without it

        try:
            stored = torch.load(io.BytesIO(plain(self.args[0])), map_location="cpu", weights_only=True)
            return torch.tensor([], dtype=stored.dtype).set_(stored)
        except (RuntimeError, EOFError, AttributeError) as error:
            raise ValueError(f"tensor storage cannot be read: {error}") from None


class _Tensor(Foreign):
    def value(self, plain: Plain) -> np.ndarray:
        storage, offset, size, stride = self.args[:4]
        try:
            return plain(storage).as_strided(size, stride, offset).numpy().copy()
        except RuntimeError as error:
            raise ValueError(f"tensor exceeds its storage: {error}") from None


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
