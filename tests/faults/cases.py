"""Which operations are struck, and what must be true after each."""

import errno
import os
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from machine import WAYS, Done, Fault, Machine
from scenarios import Scenario, is_temporary, left_by

from hmrb.formats.files import REASONS


class Trial:
    """A scenario, the folder that it starts from, and what it leaves behind undisturbed."""

    def __init__(self, scenario: Scenario, machine: Machine, top: Path) -> None:
        self.scenario, self._machine = scenario, machine
        self._base, self._folder = top / f"{scenario.name}_before", top / scenario.name
        self._folder.mkdir()
        scenario.prepare(self._folder, machine)
        self._folder.rename(self._base)
        self._before = left_by(self._base, scenario)
        self.whole = self._start(None)
        assert self.whole.code == 0, self.whole.err
        self._expected = left_by(self._folder, scenario)

    def _start(self, fault: Fault | None) -> Done:
        shutil.rmtree(self._folder, ignore_errors=True)
        shutil.copytree(self._base, self._folder)
        return self._machine.hmrb(self.scenario.words, self._folder, fault)

    def faults(self) -> Iterator[Fault]:
        """The first, a middle and the last operation of each kind on each file; numbers in its name are one file."""
        for kind, ways in WAYS.items():
            of_file: dict[str, list[int]] = {}
            for at, path in enumerate(self.whole.paths(kind), 1):
                if os.path.relpath(self._folder / path, self._folder).startswith(self.scenario.spared):
                    continue
                of_file.setdefault(re.sub(r"\d+|tmp\w+|part-\w+", "N", path), []).append(at)
            for group in of_file.values():
                for at in sorted({group[0], group[len(group) // 2], group[-1]}):
                    yield from (Fault(kind, at, name, mode) for name, mode in ways)

    def problem(self, fault: Fault) -> str:
        """What is wrong after a run with a fault, or after the next without one; empty if nothing is."""
        done = self._start(fault)
        struck = done.paths(fault.kind)[fault.at - 1 :][:1]
        about = f"{self.scenario.name}, {fault}, {struck}: exit {done.code}\n{done.err[-1500:]}"
        if wrong := self._wrong_message(done, fault) or self._wrong_files(done.code == 0, done.out):
            return f"{wrong}: {about}"
        if done.code == 0:
            return "" if done.out == self.whole.out or self.scenario.name != "report" else f"another output: {about}"
        again = self._machine.hmrb(self.scenario.again, self._folder)
        if again.code:
            return f"the next run failed with {again.code}, {again.err[-1500:]}: {about}"
        if self.scenario.name == "report" and again.out != self.whole.out:
            return f"another output: {about}"
        wrong = self._wrong_files(True, again.out)
        return f"after the next run, {wrong}: {about}" if wrong else ""

    def _wrong_message(self, done: Done, fault: Fault) -> str:
        if "Traceback" in done.err or "HDF5-DIAG" in done.err:
            return "a traceback"
        if done.code == 0:
            return ""
        if done.code not in (1, 2):
            return "killed"
        said = [line for line in done.err.splitlines() if line.startswith("hmrb: ")]
        if len(said) != 1:
            return f"{len(said)} messages"
        number = getattr(errno, fault.errno)
        if not any(words in done.err for words in (os.strerror(number), REASONS.get(number, "\0"))):
            return "the message does not tell the reason"
        return ""

    def _wrong_files(self, is_end: bool, out: str) -> str:
        now = left_by(self._folder, self.scenario)
        if is_end:
            names = [name for name in {*now, *self._expected} if now.get(name, 0) != self._expected.get(name, 0)]
            said = out.replace("\n", "")
            names = [name for name in names if not (is_temporary(name) and str(Path(name).parent) in said)]
            return f"different: {sorted(names)}" if names else ""
        odd = [
            name for name, value in now.items()
            if not is_temporary(name) and value not in (self._expected.get(name), self._before.get(name))
            and not name.endswith((".pt", ".jsonl"))
        ]  # fmt: skip
        gone = [name for name in self._before if name not in now]
        return f"half-written: {odd}" if odd else f"lost: {gone}" if gone else ""


def sample(faults: list[Fault], count: int, seed: int) -> list[Fault]:
    """`count` of the faults, of every kind."""
    rng = random.Random(seed)
    kinds = sorted({fault.kind for fault in faults})
    chosen = [rng.choice([fault for fault in faults if fault.kind == kind]) for kind in kinds]
    return (chosen + rng.sample(faults, min(count, len(faults))))[:count]
