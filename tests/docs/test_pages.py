"""The tables in README.md, docs/small.md and docs/demo.md match `hmrb report` on the records in the repository."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from fill_tables import PAGES, TABLE, filled


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_tables_are_those_of_the_records(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert filled(text) == text, "stale: python scripts/fill_tables.py"
    assert filled(text.replace("| 0", "| 1")) == text  # edits by hand are overwritten
