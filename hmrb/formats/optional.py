"""Optional readers of file types that only raw datasets use."""

from importlib import import_module
from types import ModuleType

from hmrb.errors import RequestError


def needed(module: str, install: str = "'hmrb[convert]'") -> ModuleType:
    """Import an optional module. Raises RequestError with the install command if it is missing."""
    try:
        return import_module(module)
    except ImportError:
        raise RequestError(
            f"{module} is required to read these files but is not installed; run: pip install {install}"
        ) from None
