"""Makes docs/performance.md from the records in benchmarks/records: `python benchmarks/all.py --table`."""

import ast
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from record import LOADED, ROOT, described, spread

PAGE, RECORDS = ROOT / "docs" / "performance.md", ROOT / "benchmarks" / "records"
HEAD = """# Speed figures

Made by `python benchmarks/all.py --table` from the records in `benchmarks/records`; changes by hand are overwritten.

```bash
python benchmarks/all.py -o benchmarks/records/NAME.json    # every benchmark in small, some 6 minutes on two cores
python benchmarks/all.py --only convert_rate --repeats 5    # one of them
python benchmarks/all.py --against main                     # what became worse: this tree and a commit take turns
python benchmarks/all.py --against ../worktree              # the same with another tree
python benchmarks/all.py --against benchmarks/records/NAME.json
```

- A figure is the median of its repeats, with the least and the greatest. Sizes are small, so that all of it takes
  minutes: the figures compare versions of the code. Those of other pages are measured with whole sizes.
- Figures of different machines, or of different versions of torch, numpy, OpenCV and h5py, are not comparable:
  `--against RECORD` refuses them.
- `--against COMMIT` runs the same benchmark with the package of that commit and of this tree, in turn, and prints the
  ratio with an interval over the repeats: other load meets both. Use it to find out whether a change is slower.
"""


def page(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of the page."""
    parts = [HEAD, "## Machines\n", *machines(records)]
    names = sorted({name for record in records.values() for name in record["benchmarks"]})
    for name in names:
        parts += [f"\n## {name}\n", f"{about(name)}\n", f"`{command(name, records)}`\n", *table(name, records)]
    return "\n".join(parts) + "\n"


def machines(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A row for each record."""
    rows = ["| record | day | commit | machine | load average before |", "| --- | --- | --- | --- | --- |"]
    for name, record in records.items():
        is_loaded = record["load"] > LOADED
        load = f"{record['load']:g}" + (": other work ran on this machine" if is_loaded else "")
        note = f". {cell(record['note'])}" if record["note"] else ""
        cells = (cell(name), record["date"], record["commit"], cell(described(record["machine"])), load + note)
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def table(name: str, records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The figures of a benchmark, a column for each record that has it."""
    having = {
        key: record["benchmarks"][name]["figures"] for key, record in records.items() if name in record["benchmarks"]
    }
    rows = [f"| figure | unit | {' | '.join(map(cell, having))} |", "| --- | --- " + "| ---: " * len(having) + "|"]
    for figure in dict.fromkeys(figure for figures in having.values() for figure in figures):
        found = [figures.get(figure) for figures in having.values()]
        unit = next(one["unit"] for one in found if one)
        cells = " | ".join(spread(one["values"]) if one else "" for one in found)
        rows.append(f"| {cell(figure)} | {cell(unit)} | {cells} |")
    return rows


def about(name: str) -> str:
    """A benchmark's docstring, up to how it is run."""
    path = ROOT / "benchmarks" / f"{name}.py"
    doc = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else None) or name
    text = " ".join(doc.split()).split(" Run `")[0].split(": `python")[0]
    return text.rstrip(".:") + "."


def command(name: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """How the first record that has a benchmark ran it."""
    used = next(record["benchmarks"][name]["arguments"] for record in records.values() if name in record["benchmarks"])
    return " ".join(["python", f"benchmarks/{name}.py", *used])


def cell(text: str) -> str:
    """Text that does not end a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def kept(folder: Path = RECORDS) -> dict[str, dict[str, Any]]:
    """The records of the repository by name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
