"""Optional modules: readers of rare raw files, export."""

from importlib import import_module
from types import ModuleType

from hmrb.errors import RequestError


def needed(module: str, install: str = "'hmrb[convert]'", purpose: str = "to read these files") -> ModuleType:
    """Import an optional module. Raises RequestError with the install command if it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise RequestError(f"{module} is required {purpose} but is not installed; run: pip install {install}") from None
