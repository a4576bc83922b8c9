"""Fills the pages' tables anew from the records in docs/results: `python scripts/fill_tables.py`.

A table stands between a comment with the command that makes it, `<!-- hmrb report ... -->`, and `<!-- /table -->`.
A test says when one is stale.
"""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from hmrb.cli import app

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "small.md")
TABLE = re.compile(r"(<!-- hmrb (report [^\n]*?) -->\n)(.*?)(<!-- /table -->)", re.S)


def filled(text: str) -> str:
    """A page with its tables made anew."""

    def make(match: re.Match[str]) -> str:
        words = [str(ROOT / word) if word.startswith("docs/") else word for word in shlex.split(match[2])]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return f"{match[1]}{done.stdout}{match[4]}"

    return TABLE.sub(make, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
