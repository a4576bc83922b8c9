"""Regenerates the tables in README.md and in pages of docs/ from the records in docs/results.

Run `python scripts/fill_tables.py`. A table is between a comment with its command, `<!-- hmrb report ... -->` or
`<!-- hmrb list-models ... -->` (docs/models.md), and `<!-- /table -->`. A test fails if a table is stale. A figure is
between `<!-- hmrb plot ... -o docs/NAME.svg -->` and the same; it is drawn too, if matplotlib is there. Where the
records are not there yet, the page says so. Tables of docs/scale.md are made by gpu_table.py.
"""

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import gpu_table
from typer.testing import CliRunner

from hmrb.cli import app

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / name for name in ("small.md", "demo.md", "models.md", "methods.md")))
TABLE = re.compile(r"(<!-- hmrb ((?:report|list-models|plot) [^\n]*?) -->\n)(.*?)(<!-- /table -->)", re.S)
NOT_RUN = "Not run yet.\n"


def filled(text: str) -> str:
    """The text of a page with regenerated tables, and with the places of its figures."""

    def make(match: re.Match[str]) -> str:
        words = shlex.split(match[2])
        if not is_run(words):
            made = NOT_RUN
        elif words[0] == "plot":
            made = f"![{match[2].partition(' -o ')[0]}]({drawn_to(words).removeprefix('docs/')})\n"
        else:
            made = hmrb(words)
        return f"{match[1]}{made}{match[4]}"

    return TABLE.sub(make, text)


def draw(text: str) -> None:
    """Draws the figures of a page."""
    for match in TABLE.finditer(text):
        words = shlex.split(match[2])
        if words[0] == "plot" and is_run(words):
            (ROOT / drawn_to(words)).parent.mkdir(exist_ok=True)
            hmrb(words)


def hmrb(words: list[str]) -> str:
    """What a command prints; its files are in the repository's docs."""
    done = CliRunner().invoke(
        app, [str(ROOT / word) if word.startswith("docs/") else word for word in words], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def is_run(words: list[str]) -> bool:
    """Whether the records of a command are there."""
    return all((ROOT / word).exists() for word in words if word.startswith("docs/results/"))


def drawn_to(words: list[str]) -> str:
    """The file of a figure."""
    return words[words.index("-o") + 1]


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
        if find_spec("matplotlib"):
            draw(page.read_text(encoding="utf-8"))
    gpu_table.PAGE.write_text(gpu_table.filled(gpu_table.PAGE.read_text(encoding="utf-8")), encoding="utf-8")
