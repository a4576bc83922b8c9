"""The real packages, without a network: W&B in its offline mode, MLflow with files."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from hmrb.spec import Experiment
from hmrb.training.trackers import TRACKERS, TrackedRun, Wandb
from hmrb.training.tracking import tracked

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # warnings of their own imports


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No login, no server, no telemetry, a folder of its own."""
    for name in list(os.environ):
        if name.startswith(("WANDB_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    monkeypatch.chdir(tmp_path)


def run_twice(name: str, experiment: Experiment, folder: Path) -> None:
    folder.mkdir()
    for step in (20, 40):
        with tracked((name,), experiment, folder) as tracking:
            tracking.numbers(step, "train", {"total": 1 / step, "lr": 1e-3})
            tracking.numbers(step, "3dpw-test/lsp14@1+382ee8", {"pa_mpjpe": 100.0 - step})


def test_mlflow_has_one_run_with_spec_losses_and_scores(tmp_path: Path, tiny_experiment: Experiment) -> None:
    pytest.importorskip("mlflow", reason="pip install 'hmrb[mlflow]'")
    from mlflow.tracking import MlflowClient

    run_twice("mlflow", tiny_experiment, tmp_path / "a-run")
    client = MlflowClient((tmp_path / "store").as_uri())
    experiment = client.get_experiment_by_name("hmrb")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_name, run.info.status) == ("a-run", "FINISHED")
    assert run.data.params["optim.lr"] == "0.001"
    assert run.data.tags == {"recipe": "tiny", "mlflow.runName": "a-run"}
    assert run.data.metrics["3dpw-test/lsp14_1_382ee8/pa_mpjpe"] == 60.0
    assert [one.step for one in client.get_metric_history(run.info.run_id, "train/total")] == [20, 40]


def test_mlflow_tags_say_where_scores_come_from_and_a_deleted_run_is_begun_anew(
    tmp_path: Path, tiny_experiment: Experiment
) -> None:
    pytest.importorskip("mlflow", reason="pip install 'hmrb[mlflow]'")
    made: Any = TRACKERS["mlflow"]()
    run = TrackedRun("a", "tiny", tmp_path, tiny_experiment.model_dump(mode="json"))
    name = made.begin(run, "0" * 32)
    assert name != "0" * 32
    made.results(40, {"p@1+a/mpjpe": 3.0}, {f"p@1+a/fact{i}": "x" * 9000 for i in range(150)})
    data = made._client.get_run(name).data
    assert data.metrics == {"p_1_a/mpjpe": 3.0}
    assert len(data.tags["p_1_a/fact149"]) == 5000


def test_wandb_keeps_an_offline_run_that_names_no_host_and_no_folder(
    tmp_path: Path, tiny_experiment: Experiment, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("wandb", reason="pip install 'hmrb[wandb]'")
    run_twice("wandb", tiny_experiment, tmp_path / "a-run")
    first, second = sorted((tmp_path / "a-run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert first.name == second.name  # one id
    written = first.read_bytes()
    for said in (b"train/total", b"3dpw-test/lsp14@1+382ee8/pa_mpjpe", b"a-run", b"keypoints3d"):
        assert said in written
    assert str(tmp_path).encode() not in written
    assert f"\x02{socket.gethostname()}".encode() not in written  # its host's field
    said_there = capsys.readouterr().err
    assert f"--track wandb: offline: wandb sync {tmp_path / 'a-run' / 'wandb' / 'offline-run-'}" in said_there


def test_wandb_is_offline_where_nobody_has_logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hmrb.training.trackers import _has_login

    assert not _has_login()
    (tmp_path / "netrc").write_text("machine example.org login a password b")
    assert not _has_login()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login a password b")
    assert _has_login()
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert not _has_login()
    monkeypatch.setenv("WANDB_API_KEY", "x")
    assert _has_login()


def test_wandb_without_an_answer_goes_on_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_experiment: Experiment
) -> None:
    pytest.importorskip("wandb", reason="pip install 'hmrb[wandb]'")
    monkeypatch.setattr("hmrb.training.trackers.INIT_S", 2.0)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    made = Wandb()
    name = made.begin(TrackedRun("a", "tiny", tmp_path, {}), "")
    made.numbers(1, {"train/total": 1.0})
    made.end(True)
    assert made.where().startswith("offline (")
    assert list(tmp_path.glob(f"wandb/offline-run-*/run-{name}.wandb"))
