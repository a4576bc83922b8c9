"""Trackers of runs: one small protocol, and what it calls in Weights & Biases and MLflow."""

import json
import netrc
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Protocol, runtime_checkable
from urllib.parse import urlsplit

from hmrb.errors import RequestError

PROJECT = "hmrb"  # unless $WANDB_PROJECT or $MLFLOW_EXPERIMENT_NAME names another
INIT_S, FINISH_S = 30.0, 30.0  # how long wandb may wait for its server at the start and at the end of a run
BATCH = 100  # params and tags in one request of MLflow: its documented limit
MAX_VALUE = 5000  # letters of a param or tag of MLflow, whose limits are 6000 and 8000


@dataclass(frozen=True, slots=True)
class TrackedRun:
    """A run as trackers see it: its own name, its recipe's name, its folder, its resolved spec without folders."""

    name: str
    recipe: str
    folder: Path
    spec: Mapping[str, Any]


@runtime_checkable  # tests check types
class Tracker(Protocol):
    """Where a run's numbers go. Each call may take long and raise anything: a thread of its own makes them."""

    def begin(self, run: TrackedRun, known: str) -> str:
        """Opens the run, the one with the id `known` unless that is "", and returns its id."""

    def where(self) -> str:
        """Where the run can be seen, in words; called after `begin`."""

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Losses, rates and scores at a step."""

    def results(self, step: int, scores: Mapping[str, float], provenance: Mapping[str, str]) -> None:
        """The scores of a checkpoint, by `protocol/metric`, and where they come from, by `protocol/fact`."""

    def end(self, is_done: bool) -> None:
        """Closes the run: it is done, or it failed or was stopped."""


class Wandb:
    """Weights & Biases; offline without a login or an answer, unless $WANDB_MODE says otherwise."""

    def __init__(self) -> None:
        import wandb

        self._wandb: Any = wandb
        self._run: Any = None
        self._why = ""

    def begin(self, run: TrackedRun, known: str) -> str:
        """Opens the run; without a login or a server in a folder of the run's, which `wandb sync` sends."""
        name = known or secrets.token_hex(4)
        mode = os.environ.get("WANDB_MODE") or ("online" if _has_login() else "offline")
        self._why = "" if mode == "online" else "offline"
        try:
            self._run = self._init(run, name, mode)
        except (self._wandb.errors.CommError, self._wandb.errors.UsageError) as error:
            self._why = f"offline ({_first_line(error)})"
            self._wandb.teardown()  # its service else holds the id of the run that did not begin
            self._run = self._init(run, name, "offline")
        self._run.define_metric("*", step_metric="step")  # its own steps only rise: a resumed run's may go back
        return name

    def where(self) -> str:
        """The address of the run's page, or the command that sends it."""
        return f"{self._why}: wandb sync {Path(self._run.dir).parent}" if self._why else str(self._run.url)

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """A row of the run's history."""
        self._run.log({**numbers, "step": step})

    def results(self, step: int, scores: Mapping[str, float], provenance: Mapping[str, str]) -> None:
        """The run's summary."""
        self._run.summary.update({**scores, **provenance})

    def end(self, is_done: bool) -> None:
        """Sends what is left, for at most FINISH_S."""
        self._run.finish(exit_code=0 if is_done else 1)

    def _init(self, run: TrackedRun, name: str, mode: str) -> Any:
        quiet = self._wandb.Settings(
            console="off", silent=True, host=PROJECT, x_disable_meta=True, x_disable_machine_info=True,
            disable_code=True, disable_git=True, init_timeout=INIT_S, finish_timeout=FINISH_S,
        )  # fmt: skip
        return self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), name=run.name, group=run.recipe, id=name,
            resume="allow" if mode == "online" else None, mode=mode, dir=str(run.folder), config=dict(run.spec),
            settings=quiet,
        )  # fmt: skip


def _has_login() -> bool:
    """Whether wandb would find a key, or would ask for one and wait: it looks in the same places."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    places = [os.environ["NETRC"]] if "NETRC" in os.environ else ["~/.netrc", "~/_netrc"]
    for place in places:
        with suppress(OSError, netrc.NetrcParseError):
            if host in netrc.netrc(os.path.expanduser(place)).hosts:
                return True
    return False


class Mlflow:
    """MLflow; its runs go where $MLFLOW_TRACKING_URI says, else where MLflow keeps them in this folder."""

    def __init__(self) -> None:
        import mlflow
        from mlflow import entities, exceptions
        from mlflow.tracking import MlflowClient

        self._entities, self._error = entities, exceptions.MlflowException
        self._uri = mlflow.get_tracking_uri()
        if self._uri.startswith("sqlite:") and find_spec("sqlalchemy") is None:  # mlflow-skinny has no database
            self._uri = Path("mlruns").absolute().as_uri()
        if self._uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # MLflow 3 refuses one without it
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its 7 take minutes for each call
        self._client = MlflowClient(tracking_uri=self._uri)  # unlike mlflow.start_run, it adds no path and no user
        self._id = self._experiment = ""

    def begin(self, run: TrackedRun, known: str) -> str:
        """Opens the run in its experiment; writes its spec as params."""
        self._experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        if known and self._goes_on(known):
            return self._id
        tags = {"recipe": run.recipe}
        self._id = self._client.create_run(self._find_experiment(), run_name=run.name, tags=tags).info.run_id
        params = [self._entities.Param(_allowed(key), text) for key, text in flat(run.spec).items()]
        for first in range(0, len(params), BATCH):
            self._client.log_batch(self._id, params=params[first : first + BATCH])
        return self._id

    def where(self) -> str:
        """The run's id, its experiment, and the folder if that is on this machine."""
        place = "" if self._uri.startswith(("http", "databricks")) else f": mlflow ui --backend-store-uri {self._uri}"
        return f"run {self._id} of experiment {self._experiment}{place}"

    def numbers(self, step: int, numbers: Mapping[str, float]) -> None:
        """Metrics at a step."""
        now = int(time.time() * 1000)
        metrics = [self._entities.Metric(_allowed(name), value, now, step) for name, value in numbers.items()]
        self._client.log_batch(self._id, metrics=metrics)

    def results(self, step: int, scores: Mapping[str, float], provenance: Mapping[str, str]) -> None:
        """Metrics at the checkpoint's step, and tags."""
        self.numbers(step, scores)
        tags = [self._entities.RunTag(_allowed(key), text[:MAX_VALUE]) for key, text in provenance.items()]
        for first in range(0, len(tags), BATCH):
            self._client.log_batch(self._id, tags=tags[first : first + BATCH])

    def end(self, is_done: bool) -> None:
        """Closes the run."""
        self._client.set_terminated(self._id, status="FINISHED" if is_done else "FAILED")

    def _goes_on(self, known: str) -> bool:
        """Reopens a run; False if the tracking server has none with this id."""
        try:
            self._client.update_run(known, status="RUNNING")
        except self._error as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
        self._id = known
        return True

    def _find_experiment(self) -> str:
        if found := self._client.get_experiment_by_name(self._experiment):
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._experiment))
        except self._error:  # another run has just made it
            found = self._client.get_experiment_by_name(self._experiment)
            if found is None:
                raise
            return str(found.experiment_id)


def _allowed(name: str) -> str:
    """A name as MLflow takes it: letters, digits, `_ - . : / ` and spaces."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def flat(tree: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """The values of nested tables by dotted names, as text; lists as JSON."""
    out: dict[str, str] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            out |= flat(value, f"{before}{key}.")
        else:
            out[f"{before}{key}"] = (value if isinstance(value, str) else json.dumps(value))[:MAX_VALUE]
    return out


def without_folders(value: Any) -> Any:
    """A value of a spec or record in which an absolute path is its last name: no folder of a machine is sent."""
    if isinstance(value, Mapping):
        return {str(key): without_folders(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(one) for one in value]
    if isinstance(value, str) and (value.startswith("~") or PurePosixPath(value).is_absolute()):
        return PurePosixPath(value).name
    if isinstance(value, str) and PureWindowsPath(value).is_absolute():
        return PureWindowsPath(value).name
    return value


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def check_trackers(names: list[str]) -> tuple[str, ...]:
    """The trackers of these names, each once. Raises RequestError with the pip line of each missing package."""
    chosen = tuple(dict.fromkeys(names))
    found = {name: find_spec(name) for name in chosen}
    absent = [name for name, spec in found.items() if spec is None or spec.origin is None]  # a folder is no package
    if absent:
        raise RequestError(
            "\n".join(f"--track {name} needs {name}: pip install 'hmrb[{name}]', or omit it" for name in absent)
        )
    return chosen


TRACKERS: dict[str, type[Tracker]] = {"wandb": Wandb, "mlflow": Mlflow}
