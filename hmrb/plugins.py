"""Backbones, heads, losses, methods and datasets of other packages, found by their entry points.

A package offers one under its group, `[project.entry-points."hmrb.heads"] name = "package.module:function"`. It is
imported only where a spec or a command names it.
"""

import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any, Literal

from pydantic import TypeAdapter
from pydantic_core import PydanticSerializationError

from hmrb.errors import RequestError
from hmrb.lookup import UnknownName, bind, did_you_mean

Kind = Literal["backbone", "head", "loss", "method", "dataset"]
GROUPS: dict[Kind, str] = {
    "backbone": "hmrb.backbones",
    "head": "hmrb.heads",
    "loss": "hmrb.losses",
    "method": "hmrb.methods",
    "dataset": "hmrb.datasets",
}


@dataclass(frozen=True, slots=True)
class Plugin:
    """What an installed package offers under a name."""

    kind: Kind
    name: str
    package: str
    version: str
    entry: EntryPoint

    def __str__(self) -> str:
        return f"{self.kind} '{self.name}' of the package {self.package} {self.version}"

    def load(self) -> Callable[..., Any]:
        """Imports it. Raises RequestError if the package is broken."""
        try:
            found = self.entry.load()
        except (Exception, SystemExit) as error:  # of a package that hmrb does not know
            raise RequestError(
                f"the {self} cannot be imported from {self.entry.value}: {said(error)}; repair or uninstall"
                f" {self.package}"
            ) from None
        if not callable(found):
            raise RequestError(f"the {self}: {self.entry.value} is a {type(found).__name__}, not a function or class")
        return found

    def arguments(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Its keyword arguments: `args`, validated by its signature, and its defaults. Raises RequestError."""
        function = self.load()
        try:
            return bind(self.kind, function, args, self.name)
        except RequestError as error:
            raise RequestError(f"{error} (package {self.package} {self.version})") from None
        except Exception as error:  # a signature or type that cannot be read
            raise RequestError(f"the {self} has arguments that cannot be read: {said(error)}") from None

    def plain_arguments(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """The same as plain values, for a resolved spec."""
        try:
            plain: dict[str, Any] = TypeAdapter(dict[str, Any]).dump_python(self.arguments(args), mode="json")
        except PydanticSerializationError as error:
            raise RequestError(f"the {self} has a default that no spec can state: {said(error)}") from None
        return plain

    def build(self, args: Mapping[str, Any], *inputs: object) -> Any:
        """What it makes of `inputs` and a spec's `args`. Raises RequestError if it fails."""
        bound, function = self.arguments(args), self.load()
        return self.tried("cannot be built", lambda: function(*inputs, **bound))

    def tried(self, what: str, make: Callable[[], Any]) -> Any:
        """The result of `make`. Raises RequestError that names the package if it fails."""
        try:
            return make()
        except RequestError as error:
            raise RequestError(f"the {self} {what}: {error}") from None
        except Exception as error:  # of a package that hmrb does not know
            raise RequestError(f"the {self} {what}: {said(error)}") from None


def offered(kind: Kind) -> Mapping[str, list[Plugin]]:
    """What installed packages offer, by name; imports none of them."""
    return _offered(kind, tuple(sys.path))


@cache
def _offered(kind: Kind, path: tuple[str, ...]) -> Mapping[str, list[Plugin]]:
    found: dict[str, list[Plugin]] = {}
    for entry in entry_points(group=GROUPS[kind]):
        name = entry.name.replace("-", "_")
        package, number = (entry.dist.name, entry.dist.version) if entry.dist else ("unknown", "unknown")
        found.setdefault(name, []).append(Plugin(kind, name, package, number, entry))
    return found


def find_plugin(kind: Kind, name: str, own: Collection[str]) -> Plugin | None:
    """The plugin named `name`, or None if `own`, hmrb's names, have it; `-` and `_` are equivalent.

    Raises UnknownName with the nearest names, and RequestError if two packages offer it.
    """
    found = only_plugin(kind, name, own)
    if found or name.replace("-", "_") in own:
        return found
    known = [*own, *offered(kind)]
    raise UnknownName(f"no {kind} named '{name}'.{did_you_mean(name, known)} Known: {', '.join(sorted(known))}.")


def only_plugin(kind: Kind, name: str, own: Collection[str] = ()) -> Plugin | None:
    """The plugin named `name`, or None. Raises RequestError if two packages, or one and hmrb, have the name."""
    key = name.replace("-", "_")
    there = offered(kind).get(key, [])
    owners = ["hmrb itself"] * (key in own) + [f"{plugin.package} {plugin.version}" for plugin in there]
    if len(owners) > 1:
        raise RequestError(
            f"{kind} '{name}': {' and '.join(owners)} have this name; uninstall {there[-1].package}, or rename its own"
        )
    return there[0] if there else None


def refuse_arguments(kind: Kind, name: str, args: Mapping[str, Any]) -> None:
    """Raises RequestError if a spec gives arguments to something of hmrb's own."""
    if args:
        raise RequestError(f"{kind} '{name}' is of hmrb and takes no args, got {', '.join(args)}; leave them out")


def check_packages(packages: Mapping[str, str], label: str) -> None:
    """Raises RequestError if a package is missing or has another version than `packages` states."""
    problems = []
    for name, wanted in packages.items():
        try:
            here = version(name)
        except (PackageNotFoundError, ValueError):
            here = ""
        if here != wanted:
            instead = f"{here} is installed" if here else "it is not installed"
            problems.append(f"{label} needs the package {name} {wanted}, but {instead}: pip install {name}=={wanted}")
    if problems:
        raise RequestError("\n".join(problems))


def said(error: BaseException) -> str:
    """A foreign error in one line."""
    words = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
