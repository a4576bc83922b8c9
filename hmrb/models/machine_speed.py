"""What `hmrb doctor --speed` measures: how many times as long a step of a ResNet-50 takes with each setting as without.

Settings take turns, one step each, so that other load meets all of them; steps of one thread are measured in CPU time,
which other load changes little. The ratios are kept in the store, by machine. Of the settings of a run they decide only
what changes no digit, and `optim.precision` as half_precision.py says.
"""

import json
import multiprocessing
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from statistics import median
from typing import Any, Literal

import torch

from hmrb import system
from hmrb.errors import RunError
from hmrb.formats.writing import replacing
from hmrb.models.backbones import build_backbone
from hmrb.objects import short_hash
from hmrb.spec import ModelSpec
from hmrb.store import Store

BACKBONE, PICTURES, SIDE_PX = "resnet50", 4, 96
SECONDS, MOST_ROUNDS = 10.0, 9  # of measuring; starting both processes takes some 5 s more
LONG, TIMES_AS_LONG = 8, 4  # steps that take an eighth of the measuring, or 4 times as long as others, come once
LATEST = 1.5  # times SECONDS within which a busy machine may complete the least rounds
LEAST_ROUNDS, CLEAR = 3, 2.0  # fewer rounds decide only by a ratio above CLEAR or below 1 / CLEAR
MARGIN = 1.05  # a ratio below 1 / MARGIN or above MARGIN is a difference


@dataclass(frozen=True, slots=True)
class StepKind:
    """How a step is computed. `fused` is of the optimiser; `kept`: malloc keeps freed memory."""

    precision: Literal["fp32", "bf16"] = "fp32"
    channels_last: bool = True
    fused: bool = True
    threads: int = 1
    kept: bool = True


@dataclass(frozen=True, slots=True)
class StepTime:
    """Seconds of a step by the clock, of its CPU time, and of the CPU time of its update alone."""

    clock: float
    cpu: float
    update: float


@dataclass(frozen=True, slots=True)
class Knob:
    """A setting that is measured: one time of the step with it, over that of the step without it."""

    name: str
    ratio: str
    given: dict[str, Any]
    other: dict[str, Any]
    time: Literal["clock", "cpu", "update"] = "cpu"


@dataclass(frozen=True, slots=True)
class Ratio:
    """Times as long: the median of all rounds, the least and the greatest."""

    median: float
    low: float
    high: float
    rounds: int

    @property
    def is_sure(self) -> bool:
        """Whether it may decide something."""
        return self.rounds >= LEAST_ROUNDS or not 1 / CLEAR < self.median < CLEAR

    @property
    def verdict(self) -> Literal["faster", "slower", "no difference", "too few rounds"]:
        """What all rounds agree on, if they differ by more than MARGIN in the median."""
        if not self.is_sure:
            return "too few rounds"
        if self.high < 1 and self.median < 1 / MARGIN:
            return "faster"
        return "slower" if self.low > 1 and self.median > MARGIN else "no difference"


@dataclass(frozen=True, slots=True)
class MachineSpeed:
    """The ratios of a machine, by knob, and the day on which they were measured. What it cannot do is not in them."""

    machine: dict[str, Any]
    date: str
    ratios: dict[str, Ratio]

    def sure(self, knob: str) -> Ratio | None:
        """The ratio of a knob, if it may decide something."""
        ratio = self.ratios.get(knob)
        return ratio if ratio and ratio.is_sure else None

    def says_slower(self, knob: str) -> bool:
        """Whether a knob makes steps slower here, as far as that is known."""
        return knob in self.ratios and self.ratios[knob].verdict == "slower"


def this_machine() -> dict[str, Any]:
    """What the ratios depend on."""
    return {
        "processor": system.processor(),
        "instruction_sets": list(system.instruction_sets()),
        "torch": str(torch.__version__),
        "cores": system.cores(),
    }


def remembered(store: Store) -> MachineSpeed | None:
    """What was measured on this machine; None if nothing was, or if it cannot be read."""
    machine = this_machine()
    try:
        found = _known(store)[_key(machine)]
        ratios = {
            str(name): Ratio(float(one["median"]), float(one["low"]), float(one["high"]), int(one["rounds"]))
            for name, one in found["ratios"].items()
        }
        if any(not 0 < ratio.median < float("inf") for ratio in ratios.values()):
            return None
        return MachineSpeed(machine, str(found["date"]), ratios)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return None


def remember(found: MachineSpeed, store: Store) -> None:
    """Keeps the ratios in the store. Raises RunError if it cannot be written."""
    path = store.speeds
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as part:
            text = json.dumps(_known(store) | {_key(found.machine): asdict(found)}, indent=1)
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); set HMRB_HOME to a folder that can"
        ) from None


def keeps_memory(choice: bool | Literal["auto"], store: Store) -> bool:
    """Whether malloc is to keep freed memory: as chosen, or unless it was found slower on this machine."""
    if choice != "auto":
        return choice
    return not ((found := remembered(store)) and found.says_slower("keep_memory"))


def measure(seconds: float = SECONDS, side_px: int = SIDE_PX, most_rounds: int = MOST_ROUNDS) -> MachineSpeed:
    """Measures all that this machine can do. Raises RunError if the process that measures ends early."""
    cores, context = system.cores(), multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=_serve, args=(there, side_px), daemon=True)
    child.start()
    there.close()
    steps = Steps(side_px)
    try:
        is_kept = bool(here.recv())

        def timed(kind: StepKind) -> StepTime:
            if not kind.kept:
                return steps(kind)
            here.send(kind)
            found: StepTime = here.recv()
            return found

        possible = {"keep_memory": is_kept, "threads": cores > 1}
        knobs = [
            replace(knob, other={"threads": cores}) if knob.name == "threads" else knob
            for knob in KNOBS
            if possible.get(knob.name, True)
        ]
        ratios = in_turn(knobs, timed, seconds, most_rounds)
    except (EOFError, OSError):
        raise RunError("the process that measures ended early; was it killed, or out of memory?") from None
    finally:
        here.close()
        child.join(5)
    return MachineSpeed(this_machine(), datetime.now(UTC).date().isoformat(), ratios)


class Steps:
    """Training steps of the network in this process, each of a kind."""

    def __init__(self, side_px: int) -> None:
        self._side_px = side_px
        self._made: dict[tuple[bool, bool], tuple[Any, Any, Any]] = {}

    def __call__(self, kind: StepKind) -> StepTime:
        """Computes a step; the number of threads of this process is then as before."""
        network, optimiser, image = self._parts(kind)
        before = torch.get_num_threads()
        torch.set_num_threads(kind.threads)
        begun, clock = time.process_time(), time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=kind.precision == "bf16"):
            features = network(image)
        features.float().square().mean().backward()
        middle = time.process_time()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        ended, clock = time.process_time(), time.perf_counter() - clock
        torch.set_num_threads(before)
        return StepTime(clock, ended - begun, ended - middle)

    def _parts(self, kind: StepKind) -> tuple[Any, Any, Any]:
        key = (kind.channels_last, kind.fused)
        if key not in self._made:
            layout = torch.channels_last if kind.channels_last else torch.contiguous_format
            network = build_backbone(ModelSpec(backbone=BACKBONE, weights="none"))[0].train().to(memory_format=layout)
            optimiser = torch.optim.Adam(network.parameters(), 1e-6, fused=kind.fused)
            image = torch.randn(PICTURES, 3, self._side_px, self._side_px).contiguous(memory_format=layout)
            self._made[key] = network, optimiser, image
        return self._made[key]


def in_turn(
    knobs: list[Knob], timed: Callable[[StepKind], StepTime], seconds: float, most_rounds: int
) -> dict[str, Ratio]:
    """The ratio of each knob, over as many rounds as there is time for; at least one, if possible LEAST_ROUNDS."""
    pairs = {knob.name: (replace(BASE, **knob.given), replace(BASE, **knob.other), knob.time) for knob in knobs}
    kinds = list(dict.fromkeys(kind for one, other, _ in pairs.values() for kind in (one, other)))
    begun = time.perf_counter()
    timed(BASE)  # memory and kernels
    first = {kind: timed(kind) for kind in kinds}
    longest = min(seconds / LONG, TIMES_AS_LONG * first[BASE].clock)
    often = [kind for kind in kinds if first[kind].clock < longest]
    rounds: list[dict[StepKind, StepTime]] = []
    while len(rounds) < most_rounds:
        limit = seconds * (LATEST if len(rounds) < LEAST_ROUNDS else 1)
        if rounds and time.perf_counter() - begun > limit:
            break
        rounds.append({kind: timed(kind) for kind in often})
        often = often[1:] + often[:1]
    out = {}
    for name, (one, other, part) in pairs.items():
        count = len(rounds) if {one, other} <= set(often) else 1
        times = [first | found for found in rounds[:count]]
        each = [getattr(found[one], part) / getattr(found[other], part) for found in times]
        out[name] = Ratio(median(each), min(each), max(each), count)
    return out


def _serve(asked: Connection, side_px: int) -> None:
    """In its own process, whose malloc keeps memory: one step for each kind that is asked for."""
    asked.send(system.keep_memory())
    steps = Steps(side_px)
    with suppress(EOFError, OSError):  # the parent closed the pipe
        while True:
            asked.send(steps(asked.recv()))


def _key(machine: dict[str, Any]) -> str:
    return short_hash(*(json.dumps(value) for value in machine.values()))


def _known(store: Store) -> dict[str, Any]:
    try:
        found = json.loads(store.speeds.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


BASE = StepKind()
KNOBS = (
    Knob("bf16", "step in bf16 / fp32", {"precision": "bf16"}, {}),
    Knob("channels_last", "step in channels_last / contiguous", {}, {"channels_last": False}),
    Knob("fused", "update fused / not fused", {}, {"fused": False}, "update"),
    Knob("keep_memory", "step with memory kept / returned", {}, {"kept": False}),
    Knob("threads", "step with 1 thread / one per core", {}, {}, "clock"),
)
