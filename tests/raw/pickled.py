"""Pickles as Python 2 wrote them."""

import pickle
from pathlib import Path
from typing import Any


def save_python2(path: Path, value: Any) -> None:
    """Protocol 2, with numpy's modules under their old names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2).replace(b"cnumpy._core.", b"cnumpy.core."))
