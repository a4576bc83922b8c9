"""Counts the operations of a training step: what a GPU would launch, forward and backward, by phase."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode

VIEWS = {
    "view", "_unsafe_view", "_reshape_alias", "expand", "unsqueeze", "squeeze", "permute", "transpose", "t", "slice",
    "select", "detach", "alias", "unbind", "split", "split_with_sizes", "as_strided", "unfold", "diagonal",
    "is_same_size", "lift_fresh", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided",
    "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip
"""Operations that launch nothing: they move no data."""


class Launches(TorchDispatchMode):
    """Counts operations that are no views by (phase, name); `record_function` of the code names the phases."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.phase = "rest"

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).split(".")[1]
        if name not in VIEWS:
            self.counts[self.phase, name] += 1
        return func(*args, **(kwargs or {}))

    @contextlib.contextmanager
    def range(self, name: str) -> Iterator[None]:
        """Stands in for record_function: what runs inside counts for this phase."""
        before, self.phase = self.phase, name.removeprefix("hmrb: ")
        try:
            yield
        finally:
            self.phase = before

    def by_phase(self) -> Counter[str]:
        """Number of operations of each phase."""
        out: Counter[str] = Counter()
        for (phase, _), count in self.counts.items():
            out[phase] += count
        return out
