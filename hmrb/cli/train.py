"""hmrb train: specs to trained, scored and drawn models, here or under Slurm."""

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmrb.cli.launch import CpuProcs, Gpus, Processes
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time
from hmrb.errors import RequestError

if TYPE_CHECKING:
    from hmrb.cli.many import Command
    from hmrb.parallel.world import World
    from hmrb.spec import Experiment
    from hmrb.store import Store


@dataclass(frozen=True, slots=True)
class Training:
    """One experiment in its folder, for every process of a world."""

    experiment: "Experiment"
    folder: Path
    store: "Store"
    resume: bool
    max_restarts: int

    @property
    def name(self) -> str:
        """The same on every machine that trains it, another for any other recipe."""
        return f"{self.experiment.name}-{self.experiment.sha()}"

    def prepare(self) -> None:
        """Makes what makes itself, looks for the rest, opens the folder. Raises RequestError and RunError."""
        from hmrb.check import file_problems

        make_missing([self.experiment], self.store)
        if problems := file_problems(self.experiment, self.store):
            raise RequestError("\n".join(problems))
        self.open_folder()

    def open_folder(self) -> None:
        """The run's folder with its resolved spec. Raises RequestError where it holds another run or is in use."""
        from hmrb.checkpoint import hold, open_run
        from hmrb.cli.launch import restarts

        with hold(self.folder):
            open_run(self.folder, self.experiment, self.resume or bool(restarts()))

    def run(self, world: "World") -> None:
        """Trains, scores and draws."""
        from hmrb.checkpoint import Run, clear_verdict, hold
        from hmrb.cli.launch import restarts, say
        from hmrb.run import run_experiment

        if world.max(int(not (self.folder / "spec.yaml").exists())):
            raise RequestError(
                f"{self.folder}: not on every machine; a run's folder has to be one that all of them see"
            )
        # The first process holds the folder, not the launcher: it may outlive a launcher that is killed by a step.
        held: AbstractContextManager[None] = hold(self.folder) if world.is_main else nullcontext()
        with held:
            if world.is_main and restarts():
                at_most = os.environ["TORCHELASTIC_MAX_RESTARTS"]
                say(f"a process was lost: restart {restarts()} of {at_most}, from the last checkpoint")
            elif world.is_main:
                clear_verdict(self.folder)
            run_experiment(self.experiment, Run(self.folder), self.store, world)

    def command(self, processes: Processes) -> "Command":
        """The same as a command line: it takes the spec from the folder, as it was when the folder was opened."""
        from hmrb.cli.many import Command

        folder = self.folder.absolute()
        words = ("train", str(folder / "spec.yaml"), "--out", str(folder), "--resume", *processes.words())
        words += ("--max-restarts", str(self.max_restarts))
        return Command(self.experiment.name, words, folder / "output.log", self.experiment.optim.epochs)


def train(
    specs: Annotated[list[Path], typer.Argument(help="Experiments, a YAML file each.", show_default=False)],
    gpus: Gpus = None,
    cpu_procs: CpuProcs = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines; each runs this same line, or --slurm starts it.")] = 1,
    rdzv: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="One of the machines, where all meet.", show_default=False)
    ] = "",
    parallel: Annotated[int, typer.Option(min=1, help="Of several specs: how many run at a time.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            help="The run's folder; of several specs, where theirs are.  [default: runs/NAME]", show_default=False
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the folder's last checkpoint.")] = False,
    max_restarts: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How often a run of which a process dies goes on by itself from its last checkpoint."
            "  [default: 3; with one process 0, which starts no other to watch over it]",
            show_default=False,
        ),
    ] = None,
    set_: Annotated[
        list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field, for a quick look.")
    ] = [],  # noqa: B006
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile a few steps on the way: a trace, and a table of shares.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the spec, print it resolved, stop.")] = False,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Train the model of a spec, score it, and draw a report. Several specs: one run each."""
    from hmrb.cli.launch import launch, plan_processes
    from hmrb.cli.many import run_commands, share_gpus
    from hmrb.cli.slurm import plan_nodes, request, submit
    from hmrb.spec import dump_experiment
    from hmrb.store import Store

    processes = plan_nodes(gpus, cpu_procs, nodes) if slurm else plan_processes(gpus, cpu_procs, nodes, rdzv)
    is_many = len(specs) > 1
    if is_many and not slurm:
        processes, slots = share_gpus(processes, parallel, gpus)
    overrides = [*set_, *(["speed.profile_steps=10"] if profile else [])]
    experiments = check_specs(specs, overrides, processes.total)
    if dry_run:
        typer.echo("---\n".join(dump_experiment(experiment) for experiment in experiments), nl=False)
        return
    store = Store.default()
    folders = [(out or Path("runs")) / e.name if is_many or not out else out for e in experiments]
    if max_restarts is None:
        max_restarts = 3 if processes.total > 1 else 0
    trainings = [
        Training(e, folder, store, resume, max_restarts) for e, folder in zip(experiments, folders, strict=True)
    ]
    if not is_many and not slurm:
        launch(processes, trainings[0], max_restarts)
        return
    workers = max(experiment.data.workers for experiment in experiments)
    asked = request(processes, workers, partition, time, sbatch, parallel) if slurm else None
    _prepare_all(trainings, store)
    commands = [training.command(processes) for training in trainings]
    if asked:
        submit(commands, asked, folders[0].absolute().parent / "slurm", follow)
    else:
        run_commands(commands, slots)


def check_specs(specs: Sequence[Path], overrides: Sequence[str], processes: int) -> "list[Experiment]":
    """The experiments of these files, resolved. Raises SpecError with every problem of all of them."""
    from hmrb.check import name_problems, resolve
    from hmrb.spec import SpecError, load_experiment

    problems: list[str] = []
    experiments = []
    for spec in specs:
        try:
            experiment = load_experiment(spec, tuple(overrides))
        except SpecError as error:
            problems.append(str(error))
            continue
        problems += [f"{spec}: {problem}" for problem in name_problems(experiment, processes)]
        experiments.append(experiment)
    counts = Counter(experiment.name for experiment in experiments)
    problems += [
        f"name: {count} of the specs are called '{name}', and would run in one folder"
        for name, count in counts.items()
        if count > 1
    ]
    if problems:
        raise SpecError("\n".join(problems))
    return [resolve(experiment) for experiment in experiments]


def make_missing(experiments: "Sequence[Experiment]", store: "Store") -> None:
    """Makes the datasets that the experiments need and that need nothing themselves."""
    from hmrb.check import missing_synthetic
    from hmrb.cli.convert_data import make_dataset

    for name in dict.fromkeys(name for experiment in experiments for name in missing_synthetic(experiment, store)):
        typer.echo(f"dataset '{name}' is not there yet: making it (hmrb convert-data {name})")
        make_dataset(name, store)


def _prepare_all(trainings: Sequence[Training], store: "Store") -> None:
    """As each would, but every problem of all of them comes at once, and before any folder is written."""
    from hmrb.check import file_problems

    make_missing([training.experiment for training in trainings], store)
    problems = [problem for training in trainings for problem in file_problems(training.experiment, store)]
    if not problems:
        for training in trainings:
            try:
                training.open_folder()
            except RequestError as error:
                problems.append(str(error))
    if problems:
        raise RequestError("\n".join(dict.fromkeys(problems)))
