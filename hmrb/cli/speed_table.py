"""hmrb doctor --speed: measures this machine, keeps the ratios in the store and prints them."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from hmrb.models.machine_speed import Knob, MachineSpeed
    from hmrb.store import Store


def measure_speed(store: "Store", as_json: bool) -> None:
    """Measures and prints. Raises RunError if that fails, or if the store cannot be written."""
    from hmrb.cli.progress import waiting
    from hmrb.models.machine_speed import measure, remember

    with waiting("measuring this machine, some 15 s, or twice that if it is busy"):
        found = measure()
    remember(found, store)
    typer.echo(json.dumps(facts(found), indent=1) if as_json else "\n".join(lines(found)))


def facts(found: "MachineSpeed") -> "dict[str, object]":
    """For programs: the machine, the date, and of each setting the ratio and what to do."""
    from hmrb.models.machine_speed import KNOBS

    rows = {
        knob.name: {"ratio": knob.ratio, **asdict(found.ratios[knob.name]), "advice": advice(knob, found)}
        for knob in KNOBS
        if knob.name in found.ratios
    }
    return {"machine": found.machine, "date": found.date, "settings": rows}


def lines(found: "MachineSpeed") -> list[str]:
    """The table for people."""
    from hmrb.models.machine_speed import BACKBONE, KNOBS, PICTURES, SIDE_PX

    machine = found.machine
    sets = ", ".join(machine["instruction_sets"]) or "instruction sets unknown"
    rows = [(knob, found.ratios.get(knob.name)) for knob in KNOBS]
    width = max(len(knob.ratio) for knob in KNOBS)
    out = [
        f"{machine['processor']}: {sets}; {machine['cores']} cores, torch {machine['torch']}",
        f"{BACKBONE}, {PICTURES} pictures of {SIDE_PX} px, one thread, CPU time; rounds in which all take turns",
        "",
        f"{'times as long':<{width}}  median  least  greatest  rounds",
    ]
    for knob, ratio in rows:
        if ratio is None:
            out.append(f"{knob.ratio:<{width}}  not possible on this machine")
            continue
        out.append(f"{knob.ratio:<{width}}  {ratio.median:6.2f} {ratio.low:6.2f} {ratio.high:9.2f} {ratio.rounds:7}")
        out.append(f"    {advice(knob, found)}")
    return out


def advice(knob: "Knob", found: "MachineSpeed") -> str:
    """What a ratio means for a run: what hmrb does, or what to set."""
    from hmrb.models.half_precision import TOLERATED
    from hmrb.models.machine_speed import MARGIN

    ratio = found.ratios[knob.name]
    if not ratio.is_sure:
        return "too few rounds to decide: this machine was busy; measure again when it is idle"
    match knob.name:
        case "bf16":
            used = "is used where a spec asks for it" if ratio.median <= TOLERATED else "computes in fp32 here"
            return f"optim.precision: bf16 {used}"
        case "keep_memory":
            return f"speed.keep_memory: auto {'returns' if found.says_slower(knob.name) else 'keeps'} it"
        case "threads":
            cores = int(found.machine["cores"])
            gain = cores / ratio.median
            if ratio.median < 1:
                return "by the clock; one thread is faster than all cores: this machine is busy, or has fewer to give"
            many = f"by the clock; {cores} processes of one thread do up to {gain:.2f} times the pictures"
            return f"{many}: --cpu-procs {cores}" if gain > MARGIN else many
    if ratio.verdict == "slower":
        return f"slower here: --set speed.{knob.name}=false (changes results by rounding, so hmrb does not)"
    return f"{ratio.verdict}: leave it on"
