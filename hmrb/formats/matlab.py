"""MATLAB's files as arrays: scipy's reader up to v7, HDF5 for v7.3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from hmrb.errors import RequestError
from hmrb.formats.optional import needed

_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MemoryError, NotImplementedError)


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """The named variables of a file up to v7; cells are arrays of objects. Raises RequestError where one is missing."""
    reader = needed("scipy.io")
    try:
        values = reader.loadmat(path, variable_names=names)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except (*_BROKEN, reader.matlab.MatReadError) as error:
        raise RequestError(
            f"{path}: no MATLAB file up to v7, or one that is cut short ({error}); get it again"
        ) from None
    if missing := [name for name in names if name not in values]:
        raise RequestError(f"{path}: no {', '.join(missing)} in it")
    return {name: values[name] for name in names}


@contextmanager
def open_mat73(path: Path, *names: str) -> Iterator[h5py.File]:
    """A v7.3 file with the named variables, axes reversed. Raises RequestError where one is missing."""
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except OSError:
        raise RequestError(f"{path}: no MATLAB v7.3 file, or one that is cut short; get it again") from None
    with file:
        if missing := [name for name in names if name not in file]:
            raise RequestError(f"{path}: no {', '.join(missing)} in it")
        yield file
