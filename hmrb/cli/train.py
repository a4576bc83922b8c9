"""hmrb train: trains and evaluates the models of specs and writes their reports, here or under Slurm."""

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hmrb.cli.launch import PANEL, CpuProcs, Gpus, Processes
from hmrb.cli.slurm import Follow, Partition, Sbatch, Slurm, Time
from hmrb.errors import RequestError, joined

if TYPE_CHECKING:
    from hmrb.cli.many import Command
    from hmrb.parallel.world import World
    from hmrb.spec import Experiment
    from hmrb.store import Store


MANY = "Seeds and sweeps"


class TrackerName(StrEnum):
    """Where else the numbers of a run go."""

    wandb = "wandb"
    mlflow = "mlflow"


@dataclass(frozen=True, slots=True)
class Training:
    """A training job: one experiment in its folder."""

    experiment: "Experiment"
    folder: Path
    store: "Store"
    resume: bool
    max_restarts: int
    word: str = ""
    """The spec as it was asked for."""
    label: str = ""
    """The run's name among others; "" is the experiment's."""
    track: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The same on every machine; different for every recipe."""
        return f"{self.experiment.name}-{self.experiment.sha()}"

    def prepare(self) -> None:
        """Renders missing synthetic data, checks all other files, opens the folder. Raises RequestError, RunError."""
        make_ready([self.experiment], self.store, self.word)
        self.open_folder()

    def open_folder(self) -> None:
        """Creates the run's folder with its resolved spec. Raises RequestError if it is in use or holds another run."""
        from hmrb.checkpoint import hold, open_run
        from hmrb.cli.launch import restarts, say

        with hold(self.folder):
            run = open_run(self.folder, self.experiment, self.resume or bool(restarts()))
        if self.resume and not restarts() and not (run.last.exists() or run.before.exists()):
            say(f"{self.folder}: no checkpoint to resume from; the run starts at step 0")

    def is_done(self) -> bool:
        """Whether its folder has a report, and results of all benchmarks that are newer than its last checkpoint."""
        from hmrb.checkpoint import Run
        from hmrb.evaluation.protocols import find_benchmark

        last = Run(self.folder).last
        stems = [find_benchmark(name).file_stem for name in self.experiment.evals.benches]
        results = [self.folder / "report.html", *(self.folder / "eval" / f"{stem}.json" for stem in stems)]
        if not stems or not all(file.exists() for file in (last, *results)):
            return False
        return all(result.stat().st_mtime_ns >= last.stat().st_mtime_ns for result in results)

    def run(self, world: "World") -> None:
        """Trains, evaluates and writes the report."""
        from hmrb.checkpoint import Run, forget_exit_code, hold
        from hmrb.cli.launch import restarts, say
        from hmrb.run import run_experiment

        if world.max(int(not (self.folder / "spec.yaml").exists())):
            raise RequestError(
                f"{self.folder}: not visible on every machine; a run's folder must be on a file system that all share"
            )
        # Rank 0 locks the folder, not the launcher: it may outlive a killed launcher by a step.
        held: AbstractContextManager[None] = hold(self.folder) if world.is_main else nullcontext()
        with held:
            if world.is_main and restarts():
                at_most = os.environ["TORCHELASTIC_MAX_RESTARTS"]
                say(f"a process died: restart {restarts()} of {at_most}, from the last checkpoint")
            elif world.is_main:
                forget_exit_code(self.folder)
            run_experiment(self.experiment, Run(self.folder), self.store, world, self.track)

    def command(self, processes: Processes) -> "Command":
        """The same job as a command line; it reads the spec that was saved in the folder."""
        from hmrb.cli.many import Command

        folder = self.folder.absolute()
        words = ("train", str(folder / "spec.yaml"), "--out", str(folder), "--resume", *processes.words())
        words += ("--max-restarts", str(self.max_restarts), *(word for one in self.track for word in ("--track", one)))
        return Command(self.label or self.experiment.name, words, folder / "output.log", self.experiment.optim.epochs)


def train(
    specs: Annotated[
        list[Path],
        typer.Argument(help="Specs: YAML files, folders of them, or names of hmrb list-specs.", show_default=False),
    ],
    gpus: Gpus = None,
    cpu_procs: CpuProcs = 1,
    nodes: Annotated[
        int,
        typer.Option(
            min=1, help="Number of machines; run the same command on each, or use --slurm.", rich_help_panel=PANEL
        ),
    ] = 1,
    rdzv: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="One of the machines; all connect to it.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = "",
    parallel: Annotated[
        int, typer.Option(min=1, help="With several runs: how many at a time.", rich_help_panel=PANEL)
    ] = 1,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="The run's folder; with several runs, the parent of theirs.  [default: runs/NAME]",
            show_default=False,
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Resume from the folder's last checkpoint.")] = False,
    max_restarts: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="How often to restart from the last checkpoint after a process dies."
            "  [default: 3; for a single process 0, which needs no watching process]",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None,
    set_: Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE", help="Override a field of the spec.")] = [],  # noqa: B006
    seeds: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Train with N seeds, counted from the spec's: one run each.",
            show_default=False,
            rich_help_panel=MANY,
        ),
    ] = None,
    sweep: Annotated[
        list[str],
        typer.Option(
            metavar="A.B=X,Y",
            help="Train with each of these values of a field; repeated: with every combination.",
            show_default=False,
            rich_help_panel=MANY,
        ),
    ] = [],  # noqa: B006
    track: Annotated[
        list[TrackerName],
        typer.Option(help="Send the numbers to a tracker too; may be repeated: docs/tracking.md.", show_default=False),
    ] = [],  # noqa: B006
    profile: Annotated[
        bool, typer.Option("--profile", help="Profile a few steps: writes a trace and a table of time shares.")
    ] = False,
    find_batch: Annotated[
        bool, typer.Option("--find-batch", help="Find the largest speed.device_batch that fits a GPU, then exit.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Validate the spec, print it with all defaults, or list the runs of a sweep, then exit."
        ),
    ] = False,
    slurm: Slurm = False,
    partition: Partition = None,
    time: Time = "1-00:00:00",
    sbatch: Sbatch = [],  # noqa: B006
    follow: Follow = False,
) -> None:
    """Train and evaluate the model of a spec. Writes a report. Several specs, seeds or values: one run each."""
    from hmrb.check import batch_problems
    from hmrb.cli.forecast import forecast
    from hmrb.cli.launch import launch, plan_processes
    from hmrb.cli.many import run_commands, share_gpus
    from hmrb.cli.slurm import check_slurm, plan_nodes, request, submit
    from hmrb.cli.sweep import plan_runs, read_sweep, run_table
    from hmrb.missing import experiments_needs, refuse_missing, subject_of
    from hmrb.spec import dump_experiment
    from hmrb.store import Store
    from hmrb.training.trackers import check_trackers

    overrides = [*set_, *(["speed.profile_steps=10"] if profile else [])]
    requested = (gpus or cpu_procs) * nodes  # the machine's own GPUs, which torch counts, are checked below
    trackers, swept = check_trackers([one.value for one in track]), read_sweep(seeds, sweep)
    runs = plan_runs(specs, overrides, swept, requested)
    experiments = [run.experiment for run in runs]
    store, about = Store.default(), "" if len(specs) > 1 else str(specs[0])
    is_many = len(runs) > 1 or bool(swept)
    folders = [(out or Path("runs")) / run.name if is_many or not out else out for run in runs]
    if dry_run:
        listed = run_table(runs, folders) if swept else "---\n".join(map(dump_experiment, experiments))
        typer.echo(listed, nl=False)
        _print_missing(experiments, store, about)
        return
    if not {"WORLD_SIZE", "SLURM_STEP_ID"} & set(os.environ):  # else one of the processes says it for all
        refuse_missing(experiments_needs(experiments, store), subject_of(experiments), about)
    if any(experiment.speed.deterministic for experiment in experiments):
        from hmrb.models.numerics import reserve_workspace

        reserve_workspace()
    processes = plan_nodes(gpus, cpu_procs, nodes) if slurm else plan_processes(gpus, cpu_procs, nodes, rdzv)
    if find_batch and (is_many or slurm):
        raise RequestError("--find-batch: takes one run, on this machine; omit --slurm, --seeds, --sweep, other specs")
    if is_many and not slurm:
        processes, slots = share_gpus(processes, parallel, gpus)
    if problems := [problem for e in experiments for problem in batch_problems(e, processes.total)]:
        raise RequestError("\n".join(problems))
    if find_batch:
        print_device_batch(experiments[0], store, processes)
        return
    if max_restarts is None:
        max_restarts = 3 if processes.total > 1 else 0
    trainings = [
        Training(run.experiment, folder, store, resume, max_restarts, str(run.spec), run.name, trackers)
        for run, folder in zip(runs, folders, strict=True)
    ]
    if not is_many and not slurm:
        launch(processes, trainings[0], max_restarts)
        return
    workers = max(e.data.workers_for(math.inf, processes.use_gpu) for e in experiments)
    asked = request(processes, workers, partition, time, sbatch, parallel) if slurm else None
    if slurm:
        check_slurm()
    _prepare_all(trainings, store)
    waiting = [training for training in trainings if not (resume and training.is_done())]
    commands = [training.command(processes) for training in waiting]
    if not asked:
        typer.echo(forecast(waiting, len(trainings), len(slots), processes.use_gpu))
    if asked:
        submit(commands, asked, folders[0].absolute().parent / "slurm", follow)
    else:
        run_commands(commands, slots)


def make_ready(experiments: "Sequence[Experiment]", store: "Store", about: str = "") -> None:
    """Refuses missing files, then renders missing synthetic data, then checks what all files hold. RequestError."""
    from hmrb.missing import experiments_needs, refuse_missing, subject_of

    refuse_missing(experiments_needs(experiments, store), subject_of(experiments), about)
    from hmrb.preflight import require_files  # torch, which takes seconds

    make_missing(experiments, store)
    require_files(experiments, store, about)


def make_missing(experiments: "Sequence[Experiment]", store: "Store") -> None:
    """Renders what the store lacks of the synthetic datasets that the experiments need; shards that are there stay."""
    from hmrb.cli.benches import render_split
    from hmrb.cli.convert_data import make_dataset
    from hmrb.data.sources import CONVERTERS
    from hmrb.preflight import missing_synthetic

    lacks = {name: splits for one in experiments for name, splits in missing_synthetic(one, store).items()}
    for name, splits in lacks.items():
        if len(splits) == len(CONVERTERS[name].splits):
            typer.echo(f"dataset '{name}' is missing: creating it (hmrb convert-data {name})")
            make_dataset(name, store)
        else:
            for split in splits:
                render_split(name, split, store)


def _print_missing(experiments: "Sequence[Experiment]", store: "Store", about: str) -> None:
    """Prints to stderr what the experiments need and the store lacks."""
    from hmrb.cli.needs import more, needs_text
    from hmrb.missing import experiments_needs, subject_of

    if needs := experiments_needs(experiments, store):
        typer.echo(needs_text(needs, subject_of(experiments), more(about)), err=True)


def print_device_batch(experiment: "Experiment", store: "Store", processes: Processes) -> None:
    """Tries steps of an experiment on this machine's first GPU and prints the largest micro-batch that fits."""
    if not processes.use_gpu:
        raise RequestError("--find-batch: needs a GPU; the system ends a process that takes too much of a CPU's memory")
    import torch

    from hmrb.parallel.world import World
    from hmrb.training.fitting import find_device_batch

    make_ready([experiment], store)
    world = World(0, 1, torch.device("cuda", torch.cuda.current_device()))
    typer.echo(find_device_batch(experiment, store, processes.total, world))


def _prepare_all(trainings: Sequence[Training], store: "Store") -> None:
    """Prepares all trainings; collects every problem of all of them before it writes any folder."""
    make_ready([training.experiment for training in trainings], store)
    problems = []
    for training in trainings:
        try:
            training.open_folder()
        except RequestError as error:
            problems.append(error)
    if problems:
        raise joined(problems)
