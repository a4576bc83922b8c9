"""Read MATLAB files as arrays: scipy reads up to v7, h5py reads v7.3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from hmrb.errors import RequestError, RunError
from hmrb.formats.hdf5 import opened
from hmrb.formats.optional import needed

_BROKEN = (OSError, ValueError, TypeError, KeyError, IndexError, EOFError, MemoryError, NotImplementedError)


def read_mat(path: Path, *names: str) -> dict[str, Any]:
    """Read the named variables of a file up to v7; cells are object arrays.

    Raises RequestError if there is no such file, RunError if it is damaged or a variable is missing.
    """
    reader = needed("scipy.io")
    try:
        values = reader.loadmat(path, variable_names=names)
    except FileNotFoundError:
        raise RequestError(f"{path}: no such file") from None
    except (*_BROKEN, reader.matlab.MatReadError) as error:
        raise RunError(f"{path}: not a MATLAB file up to v7, or truncated ({error}); download it again") from None
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
