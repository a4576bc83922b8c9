"""What all pages have in common: templates, scripts that a page may run, the command that made it, whole files."""

import base64
import hashlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hmrb.errors import RunError
from hmrb.evaluation.intervals import interval_text
from hmrb.evaluation.metric_table import ARROWS, BETTER, HEADINGS, MEANINGS, TITLES, UNITS
from hmrb.formats.writing import replacing
from hmrb.urls import without_login

HIDDEN = ("--rdzv", "--sbatch", "--partition")  # options that name machines and accounts
FOLDERS = re.compile(r"(?:(?<=[=:,])|^)~?/(?:[^/]+/)*")  # of an absolute path


@dataclass(frozen=True, slots=True)
class Script:
    """A script of a page: its text, and the hash by which the page's policy allows it and no other."""

    text: Markup
    sha256: str

    @classmethod
    def of(cls, name: str) -> "Script":
        """A script of this package."""
        text = files("hmrb.reports").joinpath(name).read_text(encoding="utf-8")
        return cls(Markup(text), base64.b64encode(hashlib.sha256(text.encode()).digest()).decode())


@cache
def templates() -> Environment:
    """Escapes everything that comes from a file; a name that is not given is an error."""
    pages = Environment(
        loader=PackageLoader("hmrb.reports", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    pages.filters |= {"interval": interval_text}
    pages.globals |= {
        "titles": TITLES, "units": UNITS, "headings": HEADINGS, "meanings": MEANINGS, "better": BETTER,
        "arrows": ARROWS,
    }  # fmt: skip
    return pages


def command(words: Sequence[str] = ()) -> str:
    """The command line of this process, without folders and machines; "" if it is none of hmrb's."""
    first, *rest = words or sys.argv
    if Path(first).name != "hmrb" and Path(first).parts[-2:] != ("hmrb", "__main__.py"):
        return ""
    out = []
    for before, word in zip([first, *rest], rest, strict=False):
        name, is_set, _ = word.partition("=")
        if before in HIDDEN:
            word = "…"
        elif name in HIDDEN and is_set:
            word = f"{name}=…"
        out.append(FOLDERS.sub("", without_login(word).rstrip("/")) or "…")
    return " ".join(["hmrb", *(word if "…" in word else shlex.quote(word) for word in out)])


def put(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file of a report atomically. Raises RunError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            write(part)
    except OSError as error:
        raise RunError(f"{path}: could not write the report ({error.strerror or error})") from None
