"""Names to things: one way to find a row of a table, one message when it is not there."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hmrb.errors import RequestError

Row = TypeVar("Row")


class UnknownName(RequestError):
    """A name that no row of a table has."""


def find(kind: str, name: str, table: Mapping[str, Row]) -> Row:
    """The row called `name`; `-` and `_` are the same. Raises UnknownName with the nearest names."""
    key = name.replace("-", "_")
    if key in table:
        return table[key]
    raise UnknownName(f"no {kind} named '{name}'.{did_you_mean(key, table)} Known: {', '.join(sorted(table))}.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'flip'?`, or nothing where no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def bind(kind: str, function: Callable[..., Any], args: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments of `function`: those of `args`, checked, and the defaults. The signature is the schema.

    Raises RequestError with every wrong argument, and with what the function takes.
    """
    taken = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    hints = get_type_hints(function, include_extras=True)
    takes = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in taken.values()) or "none"
    problems: list[str] = []
    bound = {p.name: p.default for p in taken.values() if p.default is not p.empty}
    for name, value in args.items():
        if name not in taken:
            problems.append(f"{kind} '{function.__name__}' has no argument '{name}'; it takes {takes}")
            continue
        try:
            config = ConfigDict(strict=False)
            bound[name] = TypeAdapter(hints[name], config=config).validate_python(value)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            problems.append(f"{kind} '{function.__name__}': {name}={value!r}: {said}")
    if missing := [n for n, p in taken.items() if p.default is p.empty and n not in args]:
        problems.append(f"{kind} '{function.__name__}' needs {', '.join(missing)}")
    if problems:
        raise RequestError("\n".join(problems))
    return bound
