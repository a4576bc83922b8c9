"""Runs every benchmark in small, writes a record, and says what became worse.

`python benchmarks/all.py -o benchmarks/records/NAME.json` takes some 6 minutes on two cores. `--only NAME` chooses.
`--against COMMIT` (or the folder of a tree) runs each benchmark with the package of both, in turn; `--against RECORD`
runs them again on the same machine. `--table` writes docs/performance.md from the records. The exit code is 1 if a
benchmark failed or if a figure became worse by more than noise, 2 for a wrong request.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from compare import Change, differing, of_pairs, of_records, told
from page import PAGE, kept, page
from record import LOADED, ROOT, described, git, machine, record, record_at, writable, written

LONGEST_S = 600.0  # of one run


@dataclass(frozen=True, slots=True)
class Small:
    """Arguments with which a benchmark is short, and how often a record repeats it: once if it has turns inside."""

    arguments: tuple[str, ...] = ()
    repeats: int = 3


class LeftOut(Exception):
    """A benchmark that did not run: `is_absent` if only a package is not installed."""

    def __init__(self, why: str, is_absent: bool = False) -> None:
        super().__init__(why)
        self.is_absent = is_absent


def main(words: Sequence[str] | None = None) -> int:
    """Runs what is asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=sorted(SMALL), default=list(SMALL))
    parser.add_argument("-o", "--record", type=writable, help="write figures and machine to this JSON file")
    parser.add_argument("--against", metavar="WHAT", help="a commit, the folder of a tree, or a record (.json)")
    parser.add_argument("--repeats", type=int, help="repeats of each; with a commit or tree 4, else its own number")
    parser.add_argument("--note", default="", help="for the record")
    parser.add_argument("--table", action="store_true", help="only write docs/performance.md from the records")
    asked = parser.parse_args(words)
    if asked.repeats is not None and asked.repeats < 1:
        parser.error(f"--repeats {asked.repeats}: use at least 1")
    if asked.table:
        PAGE.write_text(page(kept()), encoding="utf-8")
        return 0
    if asked.against is None:
        return alone(asked)
    if asked.against.endswith(".json"):
        return against_record(asked, parser)
    if asked.record:
        parser.error("-o is for one tree; --against a commit or tree compares two and writes nothing")
    with other_tree(asked.against, parser) as tree:
        return in_turn(asked.only, tree, asked.repeats or 4)


def alone(asked: argparse.Namespace) -> int:
    """Runs the benchmarks of this tree and writes their record."""
    made, failed = measured(asked)
    if asked.record:
        written(asked.record, made)
    return int(failed)


def measured(asked: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """A record of all that is asked for, and whether a benchmark failed."""
    load, found, failed = os.getloadavg()[0], {}, False
    print(described(machine()))
    if load > LOADED:
        print(f"load average {load:.2f}: other work runs on this machine")
    for name in asked.only:
        small, figures, begun = SMALL[name], dict[str, Any](), time.perf_counter()
        try:
            for _ in range(asked.repeats or small.repeats):
                add(figures, run(name, ROOT))
        except LeftOut as why:
            print(f"{name}: left out: {why}", flush=True)
            failed |= not why.is_absent
            continue
        found[name] = {"arguments": list(small.arguments), "figures": figures}
        for figure, one in figures.items():
            print(f"{name:16} {figure:60} {median(one['values']):12.4g} {one['unit']}")
        print(f"{name:16} took {time.perf_counter() - begun:.0f} s", flush=True)
    return record(found, asked.note, load), failed


def against_record(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Compares a record with a new run on the same machine."""
    try:
        old = record_at(Path(asked.against))
    except (ValueError, RecursionError) as error:
        parser.error(f"--against {asked.against}: no record that can be read: {error}; all.py -o FILE writes one")
    benchmarks, there = old["benchmarks"], old["machine"]
    if found := differing(there, machine()):
        parser.error(
            f"--against {asked.against}: its figures are of another machine or other versions, which cannot be compared"
            f" ({'; '.join(found)}). Use --against COMMIT, which measures both here"
        )
    asked.only = [name for name in asked.only if name in benchmarks]
    new, failed = measured(asked)
    if asked.record:
        written(asked.record, new)
    changes = list[Change]()
    for name, one in new["benchmarks"].items():
        if one["arguments"] != benchmarks[name]["arguments"]:
            print(f"{name}: not compared: the record ran it with {' '.join(benchmarks[name]['arguments'])}")
            continue
        changes += compared(name, benchmarks[name]["figures"], one["figures"], is_paired=False)
    print(f"\n{asked.against}, commit {old['commit']}, {old['date']}, and this tree, commit {new['commit']}")
    return verdict(changes, failed)


def in_turn(names: Sequence[str], tree: Path, repeats: int) -> int:
    """Compares this tree with another: in each repeat both run, and the first of them changes."""
    changes, failed = list[Change](), False
    for name in names:
        sides: dict[Path, dict[str, Any]] = {tree: {}, ROOT: {}}
        try:
            for repeat in range(repeats):
                for side in (tree, ROOT) if repeat % 2 else (ROOT, tree):
                    add(sides[side], {key: only_median(one) for key, one in run(name, side).items()})
        except LeftOut as why:
            print(f"{name}: left out: {why}", flush=True)
            failed |= not why.is_absent
            continue
        changes += compared(name, sides[tree], sides[ROOT], is_paired=True)
        print(f"{name}: {repeats} times each", flush=True)
    print()
    return verdict(changes, failed)


def verdict(changes: Sequence[Change], failed: bool) -> int:
    """Prints the comparison. Returns 1 if something failed or became worse."""
    print("\n".join(told(changes)))
    return int(failed or any(one.verdict == "worse" for one in changes))


def compared(name: str, old: Mapping[str, Any], new: Mapping[str, Any], *, is_paired: bool) -> list[Change]:
    """The figures that both sides have; says which cannot be compared."""
    both = {
        key: (of_pairs if is_paired else of_records)(f"{name}: {key}", old[key], new[key]) for key in new if key in old
    }
    absent = [*(key for key in {**old, **new} if key not in both), *(key for key, one in both.items() if one is None)]
    if absent:
        print(f"{name}: not compared: {', '.join(absent)}")
    return [one for one in both.values() if one is not None]


def run(name: str, tree: Path) -> dict[str, Any]:
    """The figures of a benchmark of this tree with the package of `tree`, in a fresh process. Raises LeftOut."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "figures.json"
        words = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *SMALL[name].arguments, "--figures", str(out)]
        environment = os.environ | {"PYTHONPATH": str(tree), "HMRB_HOME": f"{folder}/home"}
        try:
            done = subprocess.run(
                words, cwd=tree, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise LeftOut(f"it ran for more than {LONGEST_S:.0f} s") from None
        said = (done.stderr.strip().splitlines() or ["nothing on stderr"])[-1]
        if done.returncode:
            raise LeftOut(
                f"with {tree}: {said}", is_absent="ModuleNotFoundError: No module named" in said and "hmrb" not in said
            )
        told = json.loads(out.read_text(encoding="utf-8"))
    if Path(told["hmrb"]).resolve() != (tree / "hmrb").resolve():
        raise LeftOut(f"it imported {told['hmrb']} instead of {tree / 'hmrb'}")
    figures: dict[str, Any] = told["figures"]
    return figures


def add(figures: dict[str, Any], more: Mapping[str, Any]) -> None:
    """Adds the values of another repeat."""
    for name, one in more.items():
        figures.setdefault(name, {**one, "values": []})["values"] += one["values"]


def only_median(figure: Mapping[str, Any]) -> dict[str, Any]:
    """A figure of one run, as one value."""
    return {**figure, "values": [median(figure["values"])]}


@contextmanager
def other_tree(word: str, parser: argparse.ArgumentParser) -> Iterator[Path]:
    """A folder with hmrb, or a worktree of a commit that is removed at the end."""
    if (Path(word) / "hmrb" / "__init__.py").is_file():
        yield Path(word).resolve()
        return
    if not (sha := git("rev-parse", "--verify", "--quiet", f"{word}^{{commit}}")):
        parser.error(f"--against {word}: neither a record (.json), nor a folder with hmrb, nor a commit of {ROOT}")
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder).resolve() / "tree"
        git("worktree", "add", "--detach", str(tree), sha)
        if not tree.is_dir():
            parser.error(f"--against {word}: git worktree add failed; make the tree yourself and give its folder")
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree))


SMALL = {
    "augment_rate": Small(("--repeats", "40")),
    "convert_rate": Small(("--photos", "48"), 1),
    "detect_people": Small(("--most", "6")),
    "eval_originals": Small(("--people", "8", "--turns", "2", "--workers", "0"), 1),
    "eval_rate": Small(("--frames", "1000", "--plain", "200")),
    "first_step": Small(("--runs", "3", "--made-up"), 1),
    "jpeg_quality": Small(("--people", "4")),
    "picture_camera": Small((), 1),
    "predict_rate": Small(("--photos", "12")),
    "remote_rate": Small(("--rate", "40", "--seconds", "2"), 1),
    "scale": Small(("--check", "--processes", "1", "--steps", "10"), 1),
    "shard_rate": Small(("--photos", "8", "--seconds", "0.6", "--many", "20000")),
    "step_rate": Small(("--only", "train", "--backbone", "resnet18", "--steps", "3"), 1),
    "synthetic_rate": Small(("--people", "40")),
}

if __name__ == "__main__":
    sys.exit(main())
