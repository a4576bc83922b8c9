"""Runs under Slurm: the job request, and, in tests marked slurm, runs under a real Slurm."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import yaml
from command import hmrb, refused, spec_file
from conftest import person, tiny_tree
from own_machines import no_machines, on_machine, own_machines
from own_slurm import missing, own_slurm, slurmd
from test_launch import SMALL, Bench, same

from hmrb.cli.launch import Processes
from hmrb.cli.many import Command
from hmrb.cli.slurm import Node, minutes, plan_nodes, request
from hmrb.errors import RequestError
from hmrb.store import Store

# Long enough to be disturbed three times.
LONG = [f"--set={field}" for field in ("optim.epochs=80", "evals.every=40", "data.epoch_len=20")]


def test_what_is_asked_of_slurm() -> None:
    asked = request(Processes(8, True, nodes=4), 6, "gpu", "2-12:30", ["account=lab", "--mem=200G", "exclusive"], 5)
    assert asked == {
        "nodes": 4,
        "ntasks_per_node": 1,
        "gpus_per_node": 8,
        "partition": "gpu",
        "time": 3630,
        "signal_delay_s": 180,
        "stderr_to_stdout": True,
        "array_parallelism": 5,
        "additional_parameters": {"requeue": True, "account": "lab", "mem": "200G", "exclusive": True},
    }
    alone = request(Processes(2, False), 3, None, "60", [], 1)
    assert alone["cpus_per_task"] == 2 * (1 + 3)
    assert not alone.keys() & {"partition", "gpus_per_node"}
    assert "cpus_per_task" not in request(Processes(2, False), 3, None, "60", ["cpus-per-task=3"], 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90), ("5:30", 6), ("12:00:00", 720), ("1:02:03", 63), ("2-0", 2880), ("1-2", 1560), ("1-2:30", 1590),
        ("1-00:00:00", 1440), ("0", 1),
    ],
)  # fmt: skip
def test_a_time_as_sbatch_takes_it(text: str, expected: int) -> None:
    assert minutes(text) == expected


@pytest.mark.parametrize("text", ["", "two hours", "1:2:3:4", "1-", "-5", "1.5"])
def test_a_time_that_is_none(text: str) -> None:
    with pytest.raises(RequestError, match="write it as minutes, HH:MM:SS or D-HH:MM:SS"):
        minutes(text)


def test_a_training_s_command_takes_the_spec_from_its_folder(tiny_experiment: object, tmp_path: Path) -> None:
    from hmrb.cli.train import Training

    command = Training(tiny_experiment, tmp_path, Store(tmp_path), False, 3).command(plan_nodes(8, 1, 4))
    folder = str(tmp_path)
    assert command.words == (
        "train", f"{folder}/spec.yaml", "--out", folder, "--resume", "--gpus", "8", "--max-restarts", "3",
    )  # fmt: skip
    assert command.log == tmp_path / "output.log"
    assert plan_nodes(0, 3).words() == ("--gpus", "0", "--cpu-procs", "3")


def test_what_a_node_queues_anew_runs_the_same(tmp_path: Path) -> None:
    submitit = pytest.importorskip("submitit")
    node = Node(Command("a", ("train",), tmp_path / "log"), nodes=2)
    anew = node.checkpoint()
    assert isinstance(anew, submitit.helpers.DelayedSubmission)
    assert anew.function == node


def test_what_slurm_can_t_be_asked_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_file(tmp_path)
    refused(hmrb("train", spec, "--slurm"), "--slurm: set --gpus N, the number of GPUs per node")
    refused(
        hmrb("train", spec, "--slurm", "--gpus", "4", "--time", "long"), "--time long: write it as minutes, HH:MM:SS"
    )
    refused(hmrb("train", spec, "--slurm", "--gpus", "4", "--sbatch", "=x"), "--sbatch =x: write it as OPTION=VALUE")
    refused(hmrb("train", spec, "--slurm", "--gpus", "8"), "optim.batch: 4 can't be split evenly over 8 processes")
    refused(hmrb("convert-data", "synthetic", "--slurm"), "--slurm: set --workers N, the number of cores to request")
    refused(hmrb("convert-data", "sinthetic", "--slurm", "--workers", "1"), "no dataset named 'sinthetic'")
    convert = ["convert-data", "synthetic", "--slurm", "--workers", "1"]
    monkeypatch.setenv("PATH", str(tmp_path))
    refused(hmrb(*convert, home=tmp_path), "hmrb: --slurm: srun not found; run this on a machine that submits")
    monkeypatch.setitem(sys.modules, "submitit", None)
    refused(hmrb(*convert, home=tmp_path), "hmrb: --slurm needs submitit: pip install 'hmrb[slurm]'")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A folder with specs, beside a Slurm of one node."""
    if why := missing():
        pytest.skip(f"a Slurm of our own: {why}")
    bench = Bench(tmp_path_factory.mktemp("slurm"))
    with own_slurm(bench.folder / "slurm") as environment:
        bench.environment |= {"SLURM_CONF": environment["SLURM_CONF"]}
        yield bench


@pytest.fixture(scope="module")
def whole(cluster: Bench) -> Path:
    """An uninterrupted run of two processes without Slurm. It also creates the data."""
    done = cluster(sys.executable, SMALL, "train", "tiny.yaml", *LONG, "--cpu-procs", "2", "--out", "whole")
    assert done.returncode == 0, done.stderr
    return cluster.folder / "whole"


def here(*words: str) -> list[str]:
    return [sys.executable, "-m", "hmrb", *words]


def wait_for(what: str, is_so: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.time() + seconds
    while not is_so():
        assert time.time() < deadline, f"waited in vain: {what}"
        time.sleep(0.3)


def steps(run: Path) -> int:
    """The number of steps in its log."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return max((json.loads(line)["step"] for line in lines if line.endswith("}")), default=0)


@pytest.mark.slurm
def test_a_run_that_slurm_stops_three_times_ends_with_the_weights_of_one_that_it_does_not(
    cluster: Bench, whole: Path
) -> None:
    """A job is requeued by hand, stopped in the grace period before preemption, and warned of its time limit."""
    done = cluster(*here("train", "tiny.yaml", *LONG, "--slurm", "--gpus", "0", "--cpu-procs", "2", "--out", "queued"))
    assert done.returncode == 0, done.stderr
    log = cluster.folder / "queued" / "output.log"
    job, _, rest = done.stdout.partition(":")
    assert rest.split() == ["tiny,", str(log)]
    number = job.removeprefix("job ")

    def state() -> str:
        return cluster("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T").stdout.strip()

    def hurried() -> str:
        """The job's state; lets a requeued job start at once instead of after Slurm's two minutes."""
        if (now := state()) == "PENDING":
            cluster("scontrol", "update", f"jobid={number}", "StartTime=now")
        return now

    for times, disturb in enumerate(
        (["scontrol", "requeue"], ["scancel", "--signal=TERM"], ["scancel", "--signal=USR2"]), 1
    ):
        done_before = steps(log.parent)
        wait_for("progress", lambda done_before=done_before: hurried() and steps(log.parent) > done_before)
        assert cluster(*disturb, number).returncode == 0
        wait_for(f"queued again after {disturb}", lambda: state() == "PENDING")
        assert log.read_text().count("by SIGTERM; continue with --resume") == times
    wait_for("the end", lambda: hurried() == "COMPLETED")
    assert same(cluster.folder / "queued", whole)


@pytest.mark.slurm
def test_one_of_an_array_fails_and_the_others_end(cluster: Bench, whole: Path) -> None:
    for name in ("one", "bad", "three"):
        tree = tiny_tree() | {"name": name}
        tree["optim"] |= {"lr": 1e18 if name == "bad" else 1e-3}
        (cluster.folder / f"{name}.yaml").write_text(yaml.safe_dump(tree))
    specs = [f"{name}.yaml" for name in ("one", "bad", "three")]
    done = cluster(*here("train", *specs, "--slurm", "--gpus", "0", "--parallel", "2", "--follow", "--out", "array"))
    assert done.returncode == 1, done.stderr
    assert "hmrb: 1 of 3 runs did not finish:\n  bad: FAILED: step " in done.stderr
    assert "is not finite" in done.stderr
    for name in ("one", "three"):
        assert (cluster.folder / "array" / name / "report.html").exists()
        assert f"{name}  COMPLETED  6 of 6" in done.stdout


@pytest.mark.slurm
def test_an_evaluation_follows_its_job(cluster: Bench, whole: Path) -> None:
    done = cluster(
        *here("eval", "whole", "--bench", "synthetic", "--slurm", "--gpus", "0", "--cpu-procs", "2", "--follow")
    )
    assert done.returncode == 0, done.stderr
    assert f"\nreport: {whole}/report.html\n" in done.stdout


@pytest.mark.slurm
def test_a_prediction_goes_on_where_slurm_stopped_it(cluster: Bench, whole: Path) -> None:
    """Its file is the one that a single process writes."""
    photos = cluster.folder / "photos"
    photos.mkdir()
    for i in range(3000):
        (photos / f"{i:04d}.jpg").write_bytes(person(i % 20).jpeg)
    asked = ["predict", "whole", "photos", "--whole", "--format", "h5"]
    alone = cluster(*here(*asked, "-o", "alone", "--device", "cpu"))
    assert alone.returncode == 0, alone.stderr
    done = cluster(
        *here(*asked, "-o", "out", "--slurm", "--gpus", "0", "--cpu-procs", "2", "--sbatch", "cpus-per-task=2")
    )
    assert done.returncode == 0, done.stderr
    number = done.stdout.partition(":")[0].removeprefix("job ")

    def state() -> str:
        return cluster("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T").stdout.strip()

    wait_for("a part", lambda: any((cluster.folder / "out").rglob("*.h5")))
    assert cluster("scontrol", "requeue", number).returncode == 0
    wait_for("queued again", lambda: state() == "PENDING")
    assert not (cluster.folder / "out" / "predictions.h5").exists()
    cluster("scontrol", "update", f"jobid={number}", "StartTime=now")
    wait_for("the end", lambda: state() == "COMPLETED")
    with h5py.File(cluster.folder / "out" / "predictions.h5") as one:
        with h5py.File(cluster.folder / "alone" / "predictions.h5") as other:
            assert one.keys() == other.keys()
            assert len(one["name"]) == 3000
            for key in one:
                np.testing.assert_array_equal(one[key][()], other[key][()])


@pytest.mark.slurm
def test_slurm_s_refusals_are_one_message(cluster: Bench, whole: Path) -> None:
    def asked(*options: str) -> subprocess.CompletedProcess:
        return cluster(*here("train", "tiny.yaml", "--slurm", "--out", "refused", *options))

    for options, message in (
        (["--gpus", "0", "--partition", "nope"], "Invalid partition name specified: --partition nope; known: small"),
        (["--gpus", "0", "--sbatch", "acount=lab"], "unrecognized option '--acount=lab'"),
        (["--gpus", "4"], "Invalid generic resource (gres) specification"),
    ):
        done = asked(*options)
        assert (done.returncode, done.stderr) == (2, f"hmrb: Slurm refused the job: {message}\n")


@pytest.mark.slurm
def test_srun_s_own_processes_are_used(cluster: Bench, whole: Path) -> None:
    done = cluster("srun", "--ntasks=2", *here("train", "tiny.yaml", "--out", "srun", "--set", "optim.epochs=1"))
    assert done.returncode == 0, done.stderr
    record = json.loads((cluster.folder / "srun" / "eval" / "synthetic.json").read_text())
    assert record["machine"]["processes"] == 2


@pytest.mark.slurm
def test_a_run_on_two_nodes_outlives_the_loss_of_one(tmp_path: Path) -> None:
    """Two nodes train like two processes of one machine; one dies with all its processes, and returns."""
    if why := missing() or no_machines():
        pytest.skip(f"a Slurm of two machines: {why}")
    bench = Bench(tmp_path)
    whole = bench(sys.executable, SMALL, "train", "tiny.yaml", *LONG, "--cpu-procs", "2", "--out", "whole")
    assert whole.returncode == 0, whole.stderr
    with own_machines() as machines, own_slurm(tmp_path / "slurm", machines) as environment:
        bench.environment |= {"SLURM_CONF": environment["SLURM_CONF"]}
        first = on_machine(machines[0])
        asked = ["--slurm", "--nodes", "2", "--gpus", "0", "--max-restarts", "0", "--out", "nodes"]
        done = bench(*first, *here("train", "tiny.yaml", *LONG, *asked))
        assert done.returncode == 0, done.stderr
        number = done.stdout.partition(":")[0].removeprefix("job ")

        def said(*words: str) -> str:
            return bench(*first, *words).stdout.strip()

        def state() -> str:
            return said("squeue", "--noheader", "--states=all", f"--jobs={number}", "--format=%T")

        wait_for("progress", lambda: steps(bench.folder / "nodes") > 20)
        for pid in subprocess.check_output(["ip", "netns", "pids", machines[1]], text=True).split():
            os.kill(int(pid), signal.SIGKILL)
        wait_for("the loss to be seen", lambda: "down" in said("sinfo", "--noheader", "--format=%T"))
        wait_for("queued again", lambda: state() == "PENDING")
        again = bench.start(*on_machine(machines[1]), *slurmd(Path(environment["SLURM_CONF"]), "node2"))
        try:
            wait_for("its return", lambda: said("sinfo", "--noheader", "--format=%T") == "idle")
            time.sleep(5)  # otherwise Slurm gives the node to the job but not to its step
            said("scontrol", "update", f"jobid={number}", "StartTime=now")
            wait_for("the end", lambda: state() == "COMPLETED")
        finally:
            again.kill()
            again.communicate()
    assert same(bench.folder / "nodes", bench.folder / "whole")
