"""Regenerates the tables in README.md and in pages of docs/ from the records in docs/results.

Run `python scripts/fill_tables.py`. A table is between a comment with its command, `<!-- hmrb report ... -->` or
`<!-- hmrb list-models ... -->` (docs/models.md), and `<!-- /table -->`. A test fails if a table is stale. Those of
docs/scale.md are made by gpu_table.py.
"""

import re
import shlex
from pathlib import Path

import gpu_table
from typer.testing import CliRunner

from hmrb.cli import app

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *(ROOT / "docs" / name for name in ("small.md", "demo.md", "models.md", "methods.md")))
TABLE = re.compile(r"(<!-- hmrb ((?:report|list-models) [^\n]*?) -->\n)(.*?)(<!-- /table -->)", re.S)


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
    gpu_table.PAGE.write_text(gpu_table.filled(gpu_table.PAGE.read_text(encoding="utf-8")), encoding="utf-8")
