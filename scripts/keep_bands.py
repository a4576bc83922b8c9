"""Keeps curves and end values of finished runs in specs/bands.json, which `hmrb compare --band RUN` reads.

Run `python scripts/keep_bands.py GROUP RUNS`, such as `small_study/loss runs`; RUNS is a folder with the runs of some
seeds of each recipe in specs/GROUP. The rows of the group are replaced.
"""

import argparse
from pathlib import Path

from hmrb.cli.shipped import shipped_folder
from hmrb.reports.kept_bands import FILE, kept_runs, read_kept, write_kept


def main() -> None:
    """Replaces the rows of one group."""
    words = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    words.add_argument("group")
    words.add_argument("runs", type=Path)
    given = words.parse_args()
    path = shipped_folder() / FILE
    others = {key: row for key, row in read_kept(path).items() if row.group != given.group} if path.exists() else {}
    runs = sorted(file.parent for file in given.runs.glob("*/spec.yaml"))
    write_kept(others | kept_runs(runs, given.group), path)


if __name__ == "__main__":
    main()
