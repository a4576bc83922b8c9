"""What benchmarks share: figures, the machine that they were measured on, and a JSON record of both."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Literal

import hmrb

ROOT = Path(__file__).parents[1]
LOADED = 0.2  # of a core: a higher load average before a benchmark is other work
VERSIONS = ("torch", "numpy", "opencv-python-headless", "h5py")
Better = Literal["higher", "lower"]


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, measured once or in turns: its name, values, unit, and which direction is better."""

    name: str
    values: Sequence[float]
    unit: str
    better: Better = "lower"


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """A parser with the option of all benchmarks: `-o FILE`."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--record", type=writable, help="also write figures and machine to this JSON file")
    parser.add_argument("--figures", type=Path, help=argparse.SUPPRESS)  # for all.py: only those, also of older code
    return parser


def writable(text: str) -> Path:
    """The path of a record, checked before anything is measured. Raises argparse.ArgumentTypeError."""
    path = Path(text)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        part = _part(path)
        part.touch()
        part.unlink()
    except OSError as error:
        why = error.strerror or error
        raise argparse.ArgumentTypeError(
            f"{text}: cannot be written ({why}); give a file in a folder of yours"
        ) from None
    return path


def finish(asked: argparse.Namespace, name: str, figures: Sequence[Figure]) -> None:
    """Ends a benchmark: prints the machine, and writes what was asked for."""
    table = {one.name: {"unit": one.unit, "better": one.better, "values": list(one.values)} for one in figures}
    if asked.figures:
        written(asked.figures, {"hmrb": str(Path(hmrb.__file__).parent), "figures": table})
        return
    if not getattr(asked, "json", False):
        print(f"machine  {described(machine())}")
    if asked.record:
        written(asked.record, record({name: {"arguments": given(sys.argv[1:]), "figures": table}}))


def given(words: Sequence[str]) -> list[str]:
    """The arguments that say what is measured: without the record's name."""
    kept = list(words)
    for option in ("-o", "--record"):
        if option in kept:
            at = kept.index(option)
            del kept[at : at + 2]
    return kept


def record_at(path: Path) -> dict[str, Any]:
    """A record that was written. Raises ValueError, which says what is wrong with it."""
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if not isinstance(kept, dict):
        raise ValueError(f"it is a {type(kept).__name__}, not a table")
    _check_has(kept, {"benchmarks": dict, "machine": dict, "commit": str, "date": str}, "it")
    for name, one in kept["benchmarks"].items():
        _check_has(one, {"arguments": list, "figures": dict}, f"its benchmark {name}")
    return kept


def _check_has(table: Any, kinds: Mapping[str, type], what: str) -> None:
    lacking = [key for key, kind in kinds.items() if not (isinstance(table, dict) and isinstance(table.get(key), kind))]
    if lacking:
        raise ValueError(f"{what} lacks {', '.join(lacking)}")


def record(benchmarks: Mapping[str, Any], note: str = "", load: float | None = None) -> dict[str, Any]:
    """Figures by benchmark, with all that is needed to judge them."""
    busy = os.getloadavg()[0] if load is None else load
    return {
        "machine": machine(),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit(ROOT),
        "load": round(busy, 2),
        "note": note,
        "benchmarks": dict(benchmarks),
    }


def machine() -> dict[str, Any]:
    """What figures depend on beside the code: those of two machines are not compared."""
    from hmrb.system import cores, instruction_sets, processor  # here: older code has none of them

    versions = {name: metadata.version(name) for name in VERSIONS}
    sets = list(instruction_sets())
    return {
        "processor": processor(),
        "instruction_sets": sets,
        "cores": cores(),
        "system": os.uname().sysname,
    } | versions


def described(about: Mapping[str, Any]) -> str:
    """A machine in a line."""
    sets = ", ".join(about["instruction_sets"]) or "instruction sets unknown"
    versions = ", ".join(f"{name} {about[name]}" for name in VERSIONS)
    return f"{about['processor']} ({sets}), {about['cores']} cores, {about['system']}; {versions}"


def commit(tree: Path) -> str:
    """The commit of a tree, with + behind it if files of the package or of the benchmarks differ from it."""
    sha = git("rev-parse", "--short=10", "HEAD", tree=tree)
    return sha + ("+" if git("status", "--porcelain", "--", "hmrb", "benchmarks/*.py", tree=tree) else "")


def git(*words: str, tree: Path = ROOT) -> str:
    """What git says; "" if it fails or is not there."""
    try:
        done = subprocess.run(["git", "-C", str(tree), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def written(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a JSON file, whole or not at all. Prints it and exits with 1 if the disk refuses."""
    text = json.dumps(content, indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = _part(path)
        part.write_text(text, encoding="utf-8")
        os.replace(part, path)
    except OSError as error:
        print(text, end="")
        sys.exit(f"{path}: could not be written ({error.strerror or error}); its content is printed instead: keep that")


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def spread(values: Sequence[float]) -> str:
    """The median with the least and the greatest value: `12.3 (11.9 to 12.8)`."""
    middle = number(median(values))
    return middle if len(values) < 2 else f"{middle} ({number(min(values))} to {number(max(values))})"


def number(value: float) -> str:
    """Three digits, never as a power of ten."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.5f}"
