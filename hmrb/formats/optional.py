"""Readers of rare file types, which only converting raw data needs."""

from importlib import import_module
from types import ModuleType

from hmrb.errors import RequestError


def needed(module: str) -> ModuleType:
    """An optional module. Raises RequestError with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise RequestError(
            f"{module} is not installed; reading these files needs it: pip install 'hmrb[convert]'"
        ) from None
