"""jaxtyping's checks where a signature names an array, beartype's alone elsewhere: a call costs 1 µs, not 10.

A function inside a function would be decorated each time that the outer one runs, 0.5 ms; it has no checks. Nor
has one without arrays whose annotations are quoted, as the names in them may be mypy's alone.

Import this before `hmrb`, whose functions are decorated as pyproject.toml's `--jaxtyping-packages` says.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from typing import Any, get_args

import jaxtyping
from jaxtyping import AbstractArray

_by_jaxtyping = jaxtyping.jaxtyped
_QUOTED = re.compile(rf"\b({'|'.join(name for name in dir(jaxtyping) if name[0].isupper())})\[")


def names_array(annotation: Any) -> bool:
    """Whether an annotation names an array."""
    if isinstance(annotation, str):
        return bool(_QUOTED.search(annotation))
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
                function.__init__ = _plainly(create, typechecker)
            return function
    if inspect.isfunction(function):
        if "<locals>" in function.__qualname__:
            return function
        if not any(map(names_array, function.__annotations__.values())):
            return _plainly(function, typechecker)
    return _by_jaxtyping(function, typechecker=typechecker)


def _plainly(function: Callable[..., Any], typechecker: Callable[..., Any]) -> Callable[..., Any]:
    """beartype's checks, unless annotations are quoted."""
    return (
        function if any(isinstance(hint, str) for hint in function.__annotations__.values()) else typechecker(function)
    )


jaxtyping.jaxtyped = jaxtyped  # type: ignore[assignment]
