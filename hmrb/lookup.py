"""Looks up names in tables, and suggests near matches for unknown names."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from hmrb.errors import RequestError

Row = TypeVar("Row")


class UnknownName(RequestError):
    """A name that is not in the table."""


def find(kind: str, name: str, table: Mapping[str, Row]) -> Row:
    """The row named `name`; `-` and `_` are equivalent. Raises UnknownName with the nearest names."""
    key = name.replace("-", "_")
    if key in table:
        return table[key]
    raise UnknownName(f"no {kind} named '{name}'.{did_you_mean(key, table)} Known: {', '.join(sorted(table))}.")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` Did you mean 'flip'?`, or an empty string if no known name is near."""
    near = difflib.get_close_matches(name, list(known), n=2, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def bind(kind: str, function: Callable[..., Any], args: Mapping[str, Any], name: str = "") -> dict[str, Any]:
    """Keyword arguments for `function`: `args`, validated against its signature, plus the defaults.

    Messages call it `name`, by default its own.

    Raises RequestError with every invalid argument and the arguments that the function takes.
    """
    taken = {p.name: p for p in inspect.signature(function).parameters.values() if p.kind is p.KEYWORD_ONLY}
    typed: Any = vars(function).get("__init__", function) if isinstance(function, type) else function
    hints = get_type_hints(typed, include_extras=True)
    title = name or function.__name__
    takes = ", ".join(p.name if p.default is p.empty else f"{p.name}={p.default}" for p in taken.values()) or "none"
    problems: list[str] = []
    bound = {p.name: p.default for p in taken.values() if p.default is not p.empty}
    for key, value in args.items():
        if key not in taken:
            problems.append(f"{kind} '{title}' has no argument '{key}'; it takes {takes}")
            continue
        hint = hints.get(key, Any)
        if is_of_numbers(hint) and (where := truth_in(value)) is not None:
            problems.append(f"{kind} '{title}': {key}={value!r}: {where}must be a number, not true or false")
            continue
        try:
            config = ConfigDict(strict=False)
            bound[key] = TypeAdapter(hint, config=config).validate_python(value)
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            problems.append(f"{kind} '{title}': {key}={value!r}: {said}")
    if missing := [n for n, p in taken.items() if p.default is p.empty and n not in args]:
        problems.append(f"{kind} '{title}' needs {', '.join(missing)}")
    if problems:
        raise RequestError("\n".join(problems))
    return bound


def is_of_numbers(kind: Any) -> bool:
    """Whether a type holds numbers and no booleans, which Python takes for 0 and 1."""
    kinds = type_parts(kind)
    return (int in kinds or float in kinds) and bool not in kinds


def truth_in(value: object) -> str | None:
    """Where a boolean is: "" for the value itself, `key: ` for one in a table or list; None if nowhere."""
    if isinstance(value, bool):
        return ""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else ()
    return next((f"{key}: " for key, inner in items if isinstance(inner, bool)), None)


def type_parts(kind: Any) -> list[Any]:
    """A type and every type inside its brackets."""
    return [kind] + [inner for part in get_args(kind) for inner in type_parts(part)]
