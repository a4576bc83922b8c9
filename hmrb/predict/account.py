"""What became of pictures: counts, files, what could not be done; of a block, and of a whole request."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hmrb.errors import RunError

SHOWN = 20  # problems that the last message lists
NAMED = 12  # files that are named one by one; more are counted by kind


@dataclass(slots=True)
class Account:
    """Counts of pictures that were predicted, and of their people and files; what went wrong, what is worth knowing.

    `named` are the first NAMED files, `kinds` the number of files of each kind, `passing` the pictures that the same
    request may read another time.
    """

    pictures: int = 0
    people: int = 0
    empty: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    named: list[str] = field(default_factory=list)
    cameras: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    passing: int = 0

    def wrote(self, path: Path, kind: str) -> None:
        """Count a written file."""
        self.kinds[f"{path.parent}/*{kind}"] += 1
        self.named += [str(path)] if len(self.named) < NAMED else []

    def add(self, other: "Account") -> None:
        """Add the account of other pictures."""
        for name in ("pictures", "people", "empty", "kinds", "cameras", "problems", "notes", "passing"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.named = (self.named + other.named)[:NAMED]

    def lines(self) -> list[str]:
        """The account in lines."""
        nobody = f", {self.empty} of them without people" if self.empty else ""
        cameras = [f"camera of {count} people: {said}" for said, count in sorted(self.cameras.items())]
        return [f"{self.people} people in {self.pictures} pictures{nobody}", *cameras, *self.files]

    @property
    def files(self) -> list[str]:
        """A line per written file, or per kind of file if there are many."""
        if self.kinds.total() <= NAMED:
            return self.named
        return [kind if count == 1 else f"{kind}: {count} files" for kind, count in self.kinds.items()]

    def json(self) -> str:
        """The account as JSON."""
        names = ("pictures", "people", "empty", "files", "cameras", "problems", "notes")
        return json.dumps({name: getattr(self, name) for name in names}, indent=1)

    def check(self) -> None:
        """Raises RunError with what could not be done."""
        if self.problems:
            more = f"\nand {len(self.problems) - SHOWN} more" if len(self.problems) > SHOWN else ""
            listed = "\n".join(self.problems[:SHOWN])
            again = f"\nrun the command again to try {self.passing} of them anew" if self.passing else ""
            raise RunError(f"{len(self.problems)} pictures or boxes were left out:\n{listed}{more}{again}")

    def tree(self) -> dict[str, Any]:
        """All of it, as JSON keeps it."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def of(cls, tree: dict[str, Any]) -> "Account":
        """An account from its tree. Raises TypeError if it is not one."""
        counted: dict[str, Any] = {name: Counter(tree.get(name)) for name in ("kinds", "cameras")}
        return cls(**tree | counted)


def total(accounts: Iterable[Account]) -> Account:
    """The account of all pictures."""
    out = Account()
    for one in accounts:
        out.add(one)
    return out
