"""The runs that `hmrb train` is asked for: each spec, once for every seed and every combination of swept values."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hmrb.errors import RequestError

if TYPE_CHECKING:
    from hmrb.spec import Experiment

LONGEST = 200  # letters of a run's name, which is a folder's: file systems allow 255
LAST_SEED = 2**31 - 1  # as a spec allows
MOST = 1000  # runs of one command: Slurm's default MaxArraySize


class Setting(NamedTuple):
    """A field of a spec and a value for it, as they were written."""

    field: str
    value: str

    @property
    def override(self) -> str:
        """As `--set` takes it."""
        return f"{self.field}={self.value}"


@dataclass(frozen=True, slots=True)
class Sweep:
    """Seeds, counted from the spec's own, and values of fields; their product is run."""

    seeds: int | None = None
    axes: tuple[tuple[Setting, ...], ...] = ()

    def __bool__(self) -> bool:
        return self.seeds is not None or bool(self.axes)

    def combinations(self) -> list[tuple[Setting, ...]]:
        """One value for every swept field; the last field changes fastest."""
        return list(itertools.product(*self.axes))


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """A run that was asked for: its spec as it was asked for, what is swept in it, what that resolves to."""

    spec: Path
    settings: tuple[Setting, ...]
    experiment: "Experiment"
    has_seed: bool
    """Whether other seeds run too."""

    @property
    def name(self) -> str:
        """The run's own name: that of its recipe, and the seed if others run too."""
        return f"{self.experiment.name}.seed_{self.experiment.seed}" if self.has_seed else self.experiment.name


def read_sweep(seeds: int | None, sweeps: Sequence[str]) -> Sweep:
    """The sweep of these options. Raises RequestError if one is not FIELD=VALUE,VALUE or a field is swept twice."""
    axes = []
    for words in sweeps:
        field, equals, rest = words.partition("=")
        values = split_values(rest)
        if not field or not equals or not all(values):
            raise RequestError(f"--sweep {words}: write it as field.field=value,value, e.g. optim.lr=1e-4,3e-4")
        if field == "name":
            raise RequestError(f"--sweep {words}: runs are named by what is swept; omit it")
        if field == "seed" and seeds is not None:
            raise RequestError(f"--sweep {words}: --seeds {seeds} chooses the seeds already; omit one of them")
        if twice := [value for value, count in Counter(values).items() if count > 1]:
            raise RequestError(f"--sweep {words}: {', '.join(twice)} is there twice; give each value once")
        axes.append(tuple(Setting(field, value) for value in values))
    if again := [name for name, count in Counter(axis[0].field for axis in axes).items() if count > 1]:
        raise RequestError(f"--sweep {again[0]}: given twice; put all its values into one")
    return Sweep(seeds, tuple(axes))


def split_values(text: str) -> list[str]:
    """The parts between commas that are in no bracket and no quotes."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if letter == "," and not depth and not quote:
            parts.append("")
            continue
        parts[-1] += letter
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            depth += (letter in "[{") - (letter in "]}")
    return [part.strip() for part in parts]


def plan_runs(specs: Sequence[Path], overrides: Sequence[str], sweep: Sweep, processes: int) -> list[PlannedRun]:
    """Loads, validates and resolves the spec of every run, without torch. Raises SpecError with every problem."""
    from hmrb.check import resolve
    from hmrb.cli.shipped import spec_files
    from hmrb.spec import SpecError

    specs = [file for asked in specs for file in spec_files(asked)]
    many = len(specs) * len(sweep.combinations()) * (sweep.seeds or 1)
    if many > MOST:
        raise RequestError(f"the specs, --seeds and --sweep make {many} runs, at most {MOST} are allowed; take fewer")
    problems: dict[str, None] = {}
    runs: list[PlannedRun] = []
    for spec in specs:
        for settings in sweep.combinations():
            has_seed = sweep.seeds is not None or any(one.field == "seed" for one in settings)
            found = _load(spec, overrides, settings, sweep, processes, problems)
            runs += [PlannedRun(spec, settings, experiment, has_seed) for experiment in found]
    problems |= dict.fromkeys(_same_names(runs, sweep) + _too_long(runs))
    if problems:
        raise SpecError("\n".join(problems))
    runs = [replace(run, experiment=resolve(run.experiment)) for run in runs]
    _refuse_equal(runs)
    return runs


def run_table(runs: Sequence[PlannedRun], folders: Sequence[Path]) -> str:
    """A line per run, its name, seed, swept values and folder; then their number."""
    lines = []
    for run, folder in zip(runs, folders, strict=True):
        swept = [one.override for one in run.settings if one.field != "seed"]
        lines.append("  ".join([run.name, f"seed={run.experiment.seed}", *swept, str(folder)]))
    return "\n".join([*lines, f"{len(runs)} runs"]) + "\n"


def _load(
    spec: Path,
    overrides: Sequence[str],
    settings: tuple[Setting, ...],
    sweep: Sweep,
    processes: int,
    problems: dict[str, None],
) -> "list[Experiment]":
    """The experiments of a spec with these settings, one for every seed; adds what is wrong to `problems`."""
    from hmrb.check import name_problems
    from hmrb.cli.shipped import find_spec
    from hmrb.spec import load_experiment

    laid = tuple(setting.override for setting in settings)
    try:
        first = load_experiment(find_spec(spec), (*overrides, *laid))
    except RequestError as error:
        message = str(error)
        for one in laid:
            message = message.replace(f"--set {one}", f"--sweep {one}")
        problems |= dict.fromkeys(message.splitlines())
        return []
    problems |= dict.fromkeys(f"{spec}: {problem}" for problem in name_problems(first, processes))
    name = ".".join([first.name, *(_word(one) for one in settings if one.field != "seed")])
    seeds = range(first.seed, first.seed + (sweep.seeds or 1))
    if seeds[-1] > LAST_SEED:
        problems |= {f"{spec}: --seeds {sweep.seeds}: from seed {first.seed} on; the last seed is {LAST_SEED}": None}
    return [first.model_copy(update={"name": name, "seed": seed}) for seed in seeds]


def _word(setting: Setting) -> str:
    """A setting in a name: `optim.lr_1e-4`."""
    value = setting.value.strip("[]{}'\" ")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{setting.field}_{value}")


def _same_names(runs: Sequence[PlannedRun], sweep: Sweep) -> list[str]:
    what = "runs" if sweep else "specs"
    return [
        f"name: {count} of the {what} are named '{name}' and would share one folder"
        for name, count in Counter(run.name for run in runs).items()
        if count > 1
    ]


def _too_long(runs: Sequence[PlannedRun]) -> list[str]:
    return [
        f"name: '{run.name[:50]}...' has {len(run.name)} letters, at most {LONGEST} fit; sweep fewer or shorter values"
        for run in runs
        if len(run.name) > LONGEST
    ]


def _refuse_equal(runs: Sequence[PlannedRun]) -> None:
    """Raises RequestError if two runs of one spec are the same but for their name, as with 1e-4 and 0.0001."""
    names: dict[str, str] = {}
    for run in runs:
        key = json.dumps([str(run.spec), run.experiment.model_dump(mode="json", exclude={"name"})], sort_keys=True)
        if key in names:
            raise RequestError(f"'{names[key]}' and '{run.name}' are the same run; give each value once")
        names[key] = run.name
