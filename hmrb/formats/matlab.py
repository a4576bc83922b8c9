"""Read MATLAB files as arrays: scipy reads up to v7, h5py reads v7.3."""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py

from hmrb.errors import RequestError, RunError
from hmrb.formats.files import instead, reason
from hmrb.formats.hdf5 import opened
from hmrb.formats.mat5 import check_mat5
from hmrb.formats.optional import needed

MOST_BYTES = 2 << 30  # of a file; MPI-INF-3DHP's are the largest, 30 MB
# A damaged or crafted file makes scipy's reader raise any of these.
_BROKEN = (
    ValueError, TypeError, LookupError, EOFError, MemoryError, NotImplementedError, AttributeError, ArithmeticError,
    RecursionError, zlib.error, struct.error,
)  # fmt: skip


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Read the named variables of a file up to v7; cells are object arrays.

    Raises RequestError if there is no such file, RunError if it is damaged or a variable is missing.
    """
    reader = needed("scipy.io")
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except OSError as error:
        raise RunError(f"{path}: {reason(error)}") from None
    try:
        if len(data) > MOST_BYTES:
            raise ValueError(f"larger than {MOST_BYTES:,} bytes")
        if data.startswith(b"MATLAB 5"):
            check_mat5(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a variable that could not be read, or is there twice
            values = reader.loadmat(BytesIO(data), variable_names=names)
    except (*_BROKEN, Warning, reader.matlab.MatReadError) as error:
        said = instead(path, "a MATLAB file") or f" ({' '.join(str(error).split())[:200]})"
        raise RunError(f"{path}: not a MATLAB file up to v7, or truncated{said}; download it again") from None
    if missing := [name for name in names if name not in values]:
        raise RunError(f"{path}: missing variables: {', '.join(missing)}")
    return {name: values[name] for name in names}


@contextmanager
def open_mat73(path: Path, *names: str) -> Iterator[h5py.File]:
    """Open a v7.3 file; the axes of its arrays are reversed. Raises as `read_mat`."""
    if not path.exists():
        raise RequestError(f"{path}: no such file")
    with opened(path, RunError, "; download it again") as file:
        if missing := [name for name in names if name not in file]:
            raise RunError(f"{path}: missing variables: {', '.join(missing)}")
        yield file
