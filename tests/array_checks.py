"""jaxtyping's checks where a signature names an array, beartype's alone elsewhere: a call costs 1 µs, not 10.

A function inside a function is decorated each time that the outer one runs, 0.5 ms: it has checks only if it names an
array.

Import this before `hmrb`, whose functions are decorated as pyproject.toml's `--jaxtyping-packages` says.
"""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any, get_args

import jaxtyping
from jaxtyping import AbstractArray

_by_jaxtyping = jaxtyping.jaxtyped


def names_array(annotation: Any) -> bool:
    """Whether an annotation names an array, or may: one in quotes is not looked into."""
    if isinstance(annotation, str):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, AbstractArray):
        return True
    return any(map(names_array, annotation if isinstance(annotation, list) else get_args(annotation)))


def jaxtyped(function: Any = None, *, typechecker: Callable[..., Any]) -> Any:
    """What the import hook decorates functions and classes with."""
    if function is None:
        return partial(jaxtyped, typechecker=typechecker)
    if is_dataclass(function):
        create = function.__init__
        if not any(map(names_array, create.__annotations__.values())):
            if not hasattr(create, "__wrapped__"):
                function.__init__ = typechecker(create)
            return function
    if inspect.isfunction(function) and not any(map(names_array, function.__annotations__.values())):
        return function if "<locals>" in function.__qualname__ else typechecker(function)
    return _by_jaxtyping(function, typechecker=typechecker)


jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]
