"""Regenerates the tables in README.md, docs/small.md and docs/demo.md from the records in docs/results.

Run `python scripts/fill_tables.py`. A table is between a comment with its command, `<!-- hmrb report ... -->`, and
`<!-- /table -->`. A test fails if a table is stale.
"""

import re
import shlex
from pathlib import Path

from typer.testing import CliRunner

from hmrb.cli import app

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", ROOT / "docs" / "small.md", ROOT / "docs" / "demo.md")
TABLE = re.compile(r"(<!-- hmrb (report [^\n]*?) -->\n)(.*?)(<!-- /table -->)", re.S)


def filled(text: str) -> str:
    """The text of a page with regenerated tables."""

    def make(match: re.Match[str]) -> str:
        words = [str(ROOT / word) if word.startswith("docs/") else word for word in shlex.split(match[2])]
        done = CliRunner().invoke(app, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return f"{match[1]}{done.stdout}{match[4]}"

    return TABLE.sub(make, text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")
