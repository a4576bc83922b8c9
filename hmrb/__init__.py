"""hmrb: train, evaluate and compare human mesh recovery models. Every number states its protocol.

The Python API is imported when it is first used, so that `import hmrb` is instant.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hmrb.api import People, Predictor, Samples, evaluate, load, open_shard, train

__all__ = ["People", "Predictor", "Samples", "evaluate", "load", "open_shard", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'hmrb' has no attribute '{name}'; it has {', '.join(__all__)}")
    from hmrb import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
