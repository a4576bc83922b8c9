"""hmrb train: a spec to a trained, scored and drawn model."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    spec: Annotated[Path, typer.Argument(help="The experiment, a YAML file.", show_default=False)],
    gpus: Annotated[
        int | None,
        typer.Option(min=0, help="GPUs to train on, one process each; 0: the CPU.  [default: all]", show_default=False),
    ] = None,
    cpu_procs: Annotated[int, typer.Option(min=1, help="Without GPUs: processes of one thread each.")] = 1,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.  [default: runs/NAME]", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")] = False,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field, for a quick look.")
    ] = [],  # noqa: B006
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile a few steps on the way: a trace, and a table of shares.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the spec, print it resolved, stop.")] = False,
) -> None:
    """Train the model of a spec, score it, and draw a report."""
    from hmrb.check import name_problems, resolve
    from hmrb.cli.launch import launch, plan_processes
    from hmrb.spec import SpecError, dump_experiment, load_experiment

    experiment = load_experiment(spec, (*set_, *(["speed.profile_steps=10"] if profile else [])))
    processes = plan_processes(gpus, cpu_procs)
    if problems := name_problems(experiment, processes.count):
        raise SpecError("\n".join(f"{spec}: {problem}" for problem in problems))
    experiment = resolve(experiment)
    if dry_run:
        typer.echo(dump_experiment(experiment), nl=False)
        return

    from hmrb.check import file_problems, missing_synthetic
    from hmrb.checkpoint import hold, open_run
    from hmrb.cli.convert_data import make_dataset
    from hmrb.errors import RequestError
    from hmrb.store import Store

    store = Store.default()
    for name in missing_synthetic(experiment, store):
        typer.echo(f"dataset '{name}' is not there yet: making it (hmrb convert-data {name})")
        make_dataset(name, store)
    if problems := file_problems(experiment, store):
        raise RequestError("\n".join(problems))
    folder = out or Path("runs") / experiment.name
    with hold(folder):
        run = open_run(folder, experiment, resume)
    launch(processes, experiment, run, store)
