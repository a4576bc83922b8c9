"""Checks hmrb on one GPU in under eight minutes, without a network: tests, correctness, speed, failures.

Run `python scripts/gpu_check.py` where hmrb is installed, or `PYTHONPATH=. python scripts/gpu_check.py`.
It prints a table, writes it as JSON (--out) and exits with 1 if a section failed or a figure shows a fault. Each
section runs in a process of its own and for its own time; one that fails or is late keeps the figures that it has.
--tiny runs everything small, on the CPU if there is no card. Sections:
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gpu_right
import gpu_speed
import torch
from gpu_setup import ROOT, Figure, Findings, Setup, make_tiny_store, read_figures

from hmrb.checkpoint import code_version

TOTAL_S = 470.0  # under eight minutes
TINY_TOTAL_S = 3600.0  # a busy machine without a card
ENDING_S = 5.0  # what the last section leaves for the table


@dataclass(frozen=True, slots=True)
class Section:
    """What is run, and the seconds that it may take; 0: all that is left."""

    run: Callable[[Setup, Findings], None]
    seconds: float


SECTIONS = {
    "quickstart": Section(gpu_speed.whole_quickstart, 90),  # first: it renders the people that others use
    "tests": Section(gpu_right.run_tests, 110),
    "curve": Section(gpu_right.curve, 30),
    "waits": Section(gpu_right.waits, 20),
    "precisions": Section(gpu_right.precisions, 20),
    "evaluation": Section(gpu_speed.evaluation, 30),
    "failures": Section(gpu_right.failures, 45),
    "training": Section(gpu_speed.training, 0),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """A section's figures, the seconds it took, and how it ended: `done`, `failed: ...` or `late`."""

    status: str
    seconds: float
    figures: list[Figure]


def main() -> int:
    """Runs the sections; returns the exit code."""
    listed = "\n".join(f"  {name:12} {section.run.__doc__}" for name, section in SECTIONS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}{listed}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), metavar="SECTION")
    parser.add_argument("--tiny", action="store_true", help="everything small, to test this script")
    parser.add_argument("--out", type=Path, default=Path("gpu_check.json"), help="default: %(default)s")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)  # of a section's own process: its folder
    asked = parser.parse_args()
    if not (asked.tiny or torch.cuda.is_available()):
        parser.error("torch sees no GPU here; --tiny runs on the CPU, to test this script")
    if asked.inside:
        run_section(asked.only[0], asked.inside, asked.tiny)
        return 0
    outcomes: dict[str, Outcome] = {}
    with tempfile.TemporaryDirectory(prefix="gpu_check-") as folder:
        deadline = time.monotonic() + (TINY_TOTAL_S if asked.tiny else TOTAL_S)
        for name in asked.only:
            print(f"{name}: {SECTIONS[name].run.__doc__}", flush=True)
            outcomes[name] = in_own_process(name, Path(folder), asked.tiny, deadline - time.monotonic())
            print("\n".join(table({name: outcomes[name]})), flush=True)
    record = {"machine": machine(), "tiny": asked.tiny, "sections": {n: asdict(one) for n, one in outcomes.items()}}
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    bad = faults(outcomes)
    print("\n".join([f"record: {asked.out}", *bad]) if bad else f"record: {asked.out}; no faults")
    return 1 if bad else 0


def run_section(name: str, folder: Path, tiny: bool) -> None:
    """Runs a section in this process; its figures go to `folder`."""
    device = torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")
    setup = Setup(device, folder, tiny)
    if tiny:
        make_tiny_store(setup)
    SECTIONS[name].run(setup, Findings(folder / f"{name}.jsonl"))


def in_own_process(name: str, folder: Path, tiny: bool, left_s: float) -> Outcome:
    """Runs a section within its time and ends every process that it has started."""
    seconds = min(left_s if tiny else SECTIONS[name].seconds or left_s, left_s - ENDING_S)
    words = [sys.executable, str(Path(__file__).absolute()), "--only", name, "--inside", str(folder)]
    start = time.monotonic()
    environment = os.environ | {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}  # reproducible products; read before the first
    errors = folder / f"{name}.err"
    with open(errors, "wb") as file:
        process = subprocess.Popen(
            [*words, *["--tiny"] * tiny], stderr=file, start_new_session=True, cwd=ROOT, env=environment
        )
        try:
            code = process.wait(timeout=max(seconds, 0))
            status = "done" if code == 0 else f"failed: {last_line(errors)}"
        except subprocess.TimeoutExpired:
            status = f"late: ended after {seconds:.0f} s"
        finally:
            end_session(process)
    return Outcome(status, time.monotonic() - start, read_figures(folder / f"{name}.jsonl"))


def end_session(process: "subprocess.Popen[bytes]") -> None:
    """Kills what is left of a process that leads a session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(path: Path) -> str:
    """The last line of a file, which ends a traceback."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")


def faults(outcomes: dict[str, Outcome]) -> list[str]:
    """Every section that did not end well and every figure that shows a fault, in words."""
    bad = [f"{name}: {one.status}" for name, one in outcomes.items() if one.status != "done"]
    figures = [(name, figure) for name, one in outcomes.items() for figure in one.figures if figure.good is False]
    return bad + [f"{name}: {figure.what}: {shown(figure)}" for name, figure in figures]


def table(outcomes: dict[str, Outcome]) -> list[str]:
    """The figures as lines."""
    out = []
    for name, one in outcomes.items():
        out += [f"  {figure.what:64} {shown(figure)}{_mark(figure)}" for figure in one.figures]
        out += [f"  {name}: {one.status}, {one.seconds:.0f} s"]
    return out


def shown(figure: Figure) -> str:
    """A figure's value in four digits, and its unit."""
    value = figure.value if isinstance(figure.value, str) else f"{figure.value:,.4g}"
    if isinstance(figure.value, float) and figure.value >= 1000:
        value = f"{figure.value:,.0f}"
    return f"{value} {figure.unit}".rstrip()


def _mark(figure: Figure) -> str:
    return "  <- fault" if figure.good is False else ""


def machine() -> dict[str, Any]:
    """The card and the versions that a record names; nothing else of the machine."""
    on_gpu = torch.cuda.is_available()
    return {
        "card": torch.cuda.get_device_name(0) if on_gpu else "none: a CPU",
        "cores": len(os.sched_getaffinity(0)),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda if on_gpu else None,
        "cudnn": torch.backends.cudnn.version() if on_gpu else None,
        "python": platform.python_version(),
        "hmrb": code_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def read_record(path: Path) -> tuple[dict[str, Any], dict[str, list[Figure]]]:
    """A record's machine, and its figures by section."""
    record = json.loads(path.read_text(encoding="utf-8"))
    figures = {name: [Figure(**one) for one in section["figures"]] for name, section in record["sections"].items()}
    return record["machine"], figures


if __name__ == "__main__":
    sys.exit(main())
