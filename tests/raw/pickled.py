"""Pickles as written by Python 2 and other libraries, and one that would run a command."""

import os
import pickle
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any


def save_python2(path: Path, value: Any) -> None:
    """Pickle with protocol 2 and the old names of numpy's modules."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))


class Bomb:
    """Runs a command when its pickle is loaded unsafely."""

    def __init__(self, marker: Path) -> None:
        self.command = f"touch {marker}"

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@contextmanager
def library(**classes: str) -> Iterator[list[type]]:
    """Provide empty classes under full names, as if their libraries were installed."""
    made, modules = [], {}
    for full in classes.values():
        module, _, name = full.rpartition(".")
        parts = module.split(".")
        for end in range(1, len(parts) + 1):
            part = ".".join(parts[:end])
            modules.setdefault(part, ModuleType(part))
        made.append(type(name, (), {"__module__": module}))
        setattr(modules[module], name, made[-1])
    kept = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield made
    finally:
        for name, module in kept.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def with_state(kind: type, **state: Any) -> Any:
    made = kind()
    made.__dict__.update(state)
    return made
