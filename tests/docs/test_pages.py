"""The tables in README.md and docs match `hmrb report` on the records in the repository, and `hmrb list-models`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import fill_tables
from fill_tables import NOT_RUN, PAGES, ROOT, TABLE, filled


def test_what_has_not_been_run_says_so_and_what_has_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A figure's place names its file; a table or figure without its records holds no number of before."""
    pytest.importorskip("matplotlib", reason="pip install 'hmrb[plot]'")
    (tmp_path / "docs" / "results").mkdir(parents=True)
    for path in (ROOT / "docs" / "results" / "small").glob("small_baseline-*"):
        (tmp_path / "docs" / "results" / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(fill_tables, "ROOT", tmp_path)
    plot = "<!-- hmrb plot bars docs/results -o docs/small/bars.svg -->\n"
    absent = "<!-- hmrb report docs/results/absent -->\n"
    text = f"{plot}old\n<!-- /table -->\n{absent}| 3.1 |\n<!-- /table -->\n"
    figure = "![plot bars docs/results](small/bars.svg)\n"
    assert filled(text) == f"{plot}{figure}<!-- /table -->\n{absent}{NOT_RUN}<!-- /table -->\n"
    fill_tables.draw(text)
    assert (tmp_path / "docs" / "small" / "bars.svg").read_text().count("small_baseline") == 1


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_tables_are_those_of_the_records(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert TABLE.search(text)
    assert filled(text) == text, "stale: python scripts/fill_tables.py"
    assert (
        filled(text.replace("| 0", "| 1").replace("PA-MPJPE 4", "PA-MPJPE 3")) == text
    )  # edits by hand are overwritten
