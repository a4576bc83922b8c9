"""hmrb doctor: says what works on this machine, what is missing and what to do next."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from hmrb.errors import Need
    from hmrb.facts import Fact
    from hmrb.spec import Experiment
    from hmrb.store import Store

MARKS = {"ok": " ", "missing": "-", "broken": "!"}
LEGEND = "- not here   ! broken   One experiment: hmrb doctor SPEC"


def doctor(
    spec: Annotated[
        Path | None,
        typer.Argument(
            help="Only what this spec needs: a YAML file, or a name of hmrb list-specs.", show_default=False
        ),
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the network.")] = False,
    speed: Annotated[
        bool, typer.Option("--speed", help="Measure this machine's speed with each setting, in some 15 s.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Print only the facts, as JSON.")] = False,
) -> None:
    """Say what works here, what is missing and what to do next. Exit code 1 if something is broken."""
    from hmrb.cli.shipped import find_spec
    from hmrb.cli.speed_table import measure_speed
    from hmrb.errors import RequestError, RunError
    from hmrb.spec import load_experiment
    from hmrb.store import Store

    if speed and spec is not None:
        raise RequestError(f"--speed measures the machine, whatever the spec: leave out {spec}, or --speed")
    store = Store.default()
    if speed:
        measure_speed(store, json_)
        return
    if spec is None:
        facts = _everything(store, offline, json_)
    else:
        facts = _one(load_experiment(find_spec(spec)), str(spec), store, json_)
    if bad := [fact for fact in facts if fact.state == "broken"]:
        lines = [f"{fact.name}: {fact.found}{f'; {fact.step}' if fact.step else ''}" for fact in bad]
        raise RunError("\n".join([f"{len(bad)} broken:", *lines]))


def _everything(store: "Store", offline: bool, as_json: bool) -> "list[Fact]":
    """Prints all facts, and which experiments and benchmarks can run. Returns the facts."""
    import json
    from dataclasses import asdict

    from hmrb.cli.progress import waiting
    from hmrb.facts import all_facts

    with waiting("looking at this machine and its store"):
        facts = all_facts(store, Path("runs"), is_online=not offline)
        specs, benches = _specs(store), _benches(store)
    if as_json:
        wanted = {
            title: {name: [asdict(need) for need in needs] for name, needs in table.items()}
            for title, table in (("experiments", specs), ("benchmarks", benches))
        }
        typer.echo(json.dumps({"facts": [asdict(fact) for fact in facts], **wanted}, indent=1))
        return facts
    _print_facts(facts)
    is_online = all(fact.state == "ok" for fact in facts if fact.group == "network")
    families: dict[str, list[list[Need]]] = {}
    for name, needs in specs.items():
        families.setdefault(_family(name), []).append(needs)
    _print_next("experiments", families, is_online)
    of_datasets: dict[str, list[list[Need]]] = {}
    for name, needs in benches.items():
        of_datasets.setdefault(name.partition("/")[0], []).append(needs)
    _print_next("benchmarks", of_datasets, is_online)
    typer.echo(f"\n{LEGEND}")
    return facts


def _one(experiment: "Experiment", word: str, store: "Store", as_json: bool) -> "list[Fact]":
    """Prints what one spec needs. Returns the facts about the shards and bodies that it uses. Raises SpecError."""
    import json
    from dataclasses import asdict

    from hmrb.check import benches_of, known_benches, name_problems, resolve
    from hmrb.cli.needs import needs_text
    from hmrb.facts import body_facts, shard_facts
    from hmrb.missing import experiment_needs
    from hmrb.spec import SpecError

    if problems := name_problems(experiment):
        raise SpecError("\n".join(f"{word}: {problem}" for problem in problems))
    needs = experiment_needs(resolve(experiment), store)
    if as_json:
        typer.echo(json.dumps({"spec": experiment.name, "needs": [asdict(need) for need in needs]}, indent=1))
    elif needs:
        typer.echo(needs_text(needs, experiment.name, f"Then: hmrb train {word}"))
    else:
        typer.echo(f"{experiment.name}: every file is here. Next: hmrb train {word}")
    used = {f"{name}_train" for name in experiment.data.mix}
    used |= {f"{row.dataset}_{row.split}" for row in known_benches(benches_of(experiment))}
    facts = [fact for fact in shard_facts(store) if fact.name in used]
    return facts if experiment.body == "open" else [*facts, *body_facts(store)]


def _specs(store: "Store") -> "dict[str, list[Need]]":
    """What each spec of hmrb needs."""
    from hmrb.check import resolve
    from hmrb.cli.shipped import shipped_specs
    from hmrb.missing import experiment_needs
    from hmrb.spec import load_experiment

    specs = {name: resolve(load_experiment(path)) for name, path in shipped_specs().items()}
    return {name: experiment_needs(experiment, store) for name, experiment in sorted(specs.items())}


def _benches(store: "Store") -> "dict[str, list[Need]]":
    """What each benchmark needs to score SMPL, or the open body on synthetic people."""
    from hmrb.evaluation.protocols import ROWS
    from hmrb.missing import MAKE_THEMSELVES, bench_needs

    bodies = {row.name: "open" if row.dataset in MAKE_THEMSELVES else "smpl" for row in ROWS}
    return {row.name: bench_needs([row], bodies[row.name], store) for row in ROWS}


def _family(name: str) -> str:
    """The folder of a spec; the mixes are a family, the others of no folder are alone."""
    return name.partition("/")[0] if "/" in name else "mixes" if name.startswith("mix") else name


def _print_facts(facts: "Sequence[Fact]") -> None:
    """Prints groups of facts: mark, name, what was found, and below it the next step."""
    from hmrb.cli.lines import width, wrapped

    names = max(len(fact.name) for fact in facts)
    room = width() - names - 4
    group = ""
    for fact in facts:
        if fact.group != group:
            typer.echo(f"{'' if not group else chr(10)}{fact.group}")
            group = fact.group
        lines = wrapped(fact.found, room) + (wrapped(f"next: {fact.step}", room, "  ") if fact.step else [])
        for number, line in enumerate(lines):
            head = f"{MARKS[fact.state]} {fact.name:<{names}}" if number == 0 else " " * (names + 2)
            typer.echo(f"{head}  {line}".rstrip())


def _print_next(title: str, families: "dict[str, list[list[Need]]]", is_online: bool) -> None:
    """Prints how many of each family can run here, and for those that cannot the next step."""
    from hmrb.cli.lines import width, wrapped
    from hmrb.missing import is_blocking

    names = max(map(len, families))
    typer.echo(f"\n{title}: how many can run here, and the next step for the others")
    for family, members in families.items():
        blocked = [[need for need in needs if is_blocking(need, is_online=is_online)] for needs in members]
        firsts = [needs[0] for needs in blocked if needs]
        count = f"{len(members) - len(firsts)} of {len(members)}"
        head = f"{MARKS['missing' if firsts else 'ok']} {family:<{names}}  {count:>8}"
        step = f"{firsts[0].command}  {firsts[0].page}" if firsts else ""
        for number, line in enumerate(wrapped(step, width() - len(head) - 2)):
            typer.echo(f"{head if number == 0 else ' ' * len(head)}  {line}".rstrip())
