"""Compiles the parts of a step with torch.compile; a part that does not compile runs as it is, and says so."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from hmrb.parallel.world import World
from hmrb.training.learner import Learner
from hmrb.training.losses import Losses

# no compiler, no Triton, an unsupported Python; torch._dynamo's errors are RuntimeErrors
CANNOT_COMPILE = (RuntimeError, ImportError, OSError, NotImplementedError)


class CompiledPart:
    """A compiled function. If its first call does not compile, prints why and uses the function itself from then on."""

    def __init__(self, name: str, function: Callable[..., Any], learner: Learner, world: World) -> None:
        self._name, self._plain, self._learner, self._world = name, function, learner, world
        self._function, self._is_known = function, False
        try:
            self._function = torch.compile(function)
        except CANNOT_COMPILE as error:
            self._keep_plain(error)

    def __call__(self, *args: Any) -> Any:
        """The function's result."""
        if self._is_known:
            return self._function(*args)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Dynamo detected a call to a `functools.lru_cache`")
                result = self._function(*args)
        except CANNOT_COMPILE as error:
            if not _is_of_compiler(error):
                raise
            self._keep_plain(error)
            return self._plain(*args)
        self._is_known = True
        return result

    def _keep_plain(self, error: Exception) -> None:
        self._function, self._is_known = self._plain, True
        parts = [name for name in self._learner.knobs["compile"] if name != self._name]
        self._learner.knobs = {**self._learner.knobs, "compile": parts}
        if self._world.is_main:
            why = (str(error).strip() or type(error).__name__).splitlines()[0]
            line = f"speed.compile: torch.compile does not work here; the {self._name} runs uncompiled: {why}"
            print(line, flush=True)


def compile_parts(learner: Learner, losses: Losses, world: World) -> None:
    """Compiles backbone, head, body and losses; `learner.knobs["compile"]` lists those that are."""
    model = learner.model
    learner.knobs = {**learner.knobs, "compile": ["backbone", "head", "body", "losses"]}
    for name, owner, method in (
        ("backbone", model.backbone, "forward"),
        ("head", model.head, "forward"),
        ("body", losses, "pair"),
        ("losses", losses, "weighted"),
    ):
        setattr(owner, method, CompiledPart(name, getattr(owner, method), learner, world))


def _is_of_compiler(error: Exception) -> bool:
    """Whether an error is of torch.compile and not of the function, such as memory that ran out."""
    own = (torch._dynamo.exc.TorchDynamoException, ImportError)
    return isinstance(error, own) and not isinstance(error, torch.OutOfMemoryError)
