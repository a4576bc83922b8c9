"""Starting processes: torchrun's and srun's are used, several machines connect, and only rank 0 prepares."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import yaml
from command import hmrb, refused, spec_file
from conftest import tiny_tree
from forked import Forked, start_server
from own_machines import no_machines, on_machine, own_machines

from hmrb.checkpoint import load_checkpoint
from hmrb.parallel.world import first_host, launched

start_server()
SMALL = Path(__file__).parents[1] / "small.py"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder / "last.pt").model


def same(one: Path, two: Path) -> bool:
    a, b = weights(one), weights(two)
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


class Bench:
    """A folder with a spec and an initially empty store; runs commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny_tree()))
        self.environment = {**os.environ, "HMRB_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}

    def start(self, *words: str, **environment: str) -> subprocess.Popen:
        return subprocess.Popen(
            words, cwd=self.folder, env=self.environment | environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fork(self, *words: str, **environment: str) -> Forked:
        """Starts small.py in a tenth of the time; the training processes that it launches are forked too."""
        return Forked(SMALL, words, self.environment | environment | {"FORK": "1"}, self.folder)

    def __call__(self, *words: str, **environment: str) -> subprocess.CompletedProcess:
        return end(self.start(*words, **environment))


def end(process: subprocess.Popen | Forked) -> subprocess.CompletedProcess:
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("launch"))


@pytest.fixture(scope="module")
def by_torchrun(bench: Bench) -> subprocess.CompletedProcess:
    """Two processes of torchrun that find no data; must run first."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return bench(*torchrun, str(SMALL), "train", "tiny.yaml", "--out", "torchrun")


@pytest.fixture(scope="module")
def two(bench: Bench, by_torchrun: subprocess.CompletedProcess) -> Path:
    """The folder of a run with two processes that hmrb started."""
    done = end(bench.fork("train", "tiny.yaml", "--cpu-procs", "2", "--out", "two"))
    assert done.returncode == 0, done.stderr
    return bench.folder / "two"


def test_of_torchrun_s_processes_the_first_makes_the_data_and_the_others_wait(
    bench: Bench, by_torchrun: subprocess.CompletedProcess, two: Path
) -> None:
    assert by_torchrun.returncode == 0, by_torchrun.stderr
    assert by_torchrun.stdout.count("dataset 'synthetic' is missing: creating it") == 1
    record = json.loads((bench.folder / "torchrun" / "eval" / "synthetic.json").read_text())
    assert record["machine"]["processes"] == 2
    assert same(bench.folder / "torchrun", two)


def test_of_torchrun_s_processes_the_first_refuses_for_all(bench: Bench, two: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    ranks = [bench.fork("train", "tiny.yaml", "--out", "two", **place, RANK=r, LOCAL_RANK=r) for r in "01"]
    first, second = [end(rank) for rank in ranks]
    assert first.returncode == 2
    assert first.stderr.count("hmrb: two already holds a run: continue with --resume") == 1
    assert second.returncode != 0
    assert "already holds a run" not in second.stderr
    assert "hmrb: process" not in second.stderr


def test_srun_s_processes_are_used_as_they_are(bench: Bench, two: Path) -> None:
    step = {
        "SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_ID": "0", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2",
    }  # fmt: skip
    tasks = [
        bench.fork(
            "train", "tiny.yaml", "--out", "srun", **step, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)
        )
        for rank in range(2)
    ]  # fmt: skip
    done = [end(task) for task in tasks]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    assert [each.stdout.count("report: srun/report.html") for each in done] == [1, 0]
    assert same(bench.folder / "srun", two)


STEP = {"SLURM_JOB_ID": "71", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Sets environment variables and restores the environment after the test."""
    before = dict(os.environ)

    def set_all(**values: str) -> None:
        os.environ |= values

    yield set_all
    os.environ.clear()
    os.environ |= before


def test_srun_s_places_are_put_where_torchrun_has_its(environment: Callable[..., None]) -> None:
    environment(**STEP, SLURM_STEP_NODELIST="gpu[07-08]")
    assert launched()
    found = [os.environ[key] for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")]
    assert found == ["3", "4", "1", "gpu07", "20071"]
    environment(MASTER_PORT="1")
    assert launched()
    assert os.environ["MASTER_PORT"] == "1"


@pytest.mark.parametrize(
    ("what", "different"),
    [
        ("a batch script", {"SLURM_STEP_ID": ""}),
        ("a step of one process", {"SLURM_NTASKS": "1"}),
        ("the shell of a batch script's extern step", {"SLURM_STEP_ID": "extern"}),
    ],
)
def test_slurm_around_one_process_is_no_launch(
    what: str, different: dict[str, str], environment: Callable[..., None]
) -> None:
    environment(**(STEP | different), SLURM_STEP_NODELIST="gpu07")
    assert not launched(), what
    assert "RANK" not in os.environ


@pytest.mark.parametrize(
    ("hosts", "first"),
    [
        ("vm", "vm"), ("gpu07,gpu08", "gpu07"), ("gpu[07-09,12]", "gpu07"), ("gpu[3,5]-ib,x1", "gpu3-ib"),
        ("c1-[01-02],d[1-2]", "c1-01"), ("10.0.0.1", "10.0.0.1"),
    ],
)  # fmt: skip
def test_the_first_of_slurm_s_machines(hosts: str, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_STEP_NODELIST", hosts)
    assert first_host() == first


def test_what_can_t_be_launched_is_refused(tmp_path: Path) -> None:
    spec = spec_file(tmp_path)
    refused(
        hmrb("train", spec, "--nodes", "2"),
        "--nodes 2: set --rdzv HOST:PORT, where the machines connect, or use --slurm",
    )
    refused(
        hmrb("train", spec, "--rdzv", "a:1"), "--rdzv a:1: set --nodes N, the number of machines that connect there"
    )
    refused(hmrb("train", spec, "--nodes", "2", "--rdzv", "a"), "--rdzv a: write it as HOST:PORT")
    refused(
        hmrb("train", spec, "--nodes", "2", "--rdzv", "no.such.machine.invalid:1", "--cpu-procs", "2"),
        "--rdzv no.such.machine.invalid:1: unknown host 'no.such.machine.invalid'",
    )
    refused(
        hmrb("train", spec, "--nodes", "3", "--rdzv", "a:1"),
        "optim.batch: 4 can't be split evenly over 3 processes",
    )
    refused(
        hmrb("train", spec, "--nodes", "2", WORLD_SIZE="2", RANK="0"),
        "--nodes 2: torchrun or srun already started the processes; omit it",
    )


@pytest.fixture
def machines() -> Iterator[list[str]]:
    if why := no_machines():
        pytest.skip(why)
    with own_machines() as spaces:
        yield spaces


@pytest.mark.slow
def test_two_machines_train_as_one_with_two_processes(bench: Bench, two: Path, machines: list[str]) -> None:
    def start(index: int) -> subprocess.Popen:
        return bench.start(
            *on_machine(machines[index]), sys.executable, str(SMALL), "train", "tiny.yaml", "--out", "nodes",
            "--nodes", "2", "--rdzv", "10.77.0.1:29500",
        )  # fmt: skip

    done = [end(process) for process in [start(1), start(0)]]  # the rendezvous host may start last
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "hmrb: waiting for 2 machines at 10.77.0.1:29500; this one is 10.77.0.2" in done[0].stderr
    assert sum(each.stdout.count("report: nodes/report.html") for each in done) == 1
    assert same(bench.folder / "nodes", two)


@pytest.mark.heavy
def test_a_machine_that_is_lost_and_comes_back_is_met_again(bench: Bench, two: Path, machines: list[str]) -> None:
    """All its processes are killed; the other machine waits, and both continue from the last checkpoint."""
    driver = str(Path(__file__).parents[1] / "driver.py")

    def start(index: int, *more: str) -> subprocess.Popen:
        return bench.start(
            *on_machine(machines[index]), sys.executable, driver, "train", "tiny.yaml", "--out", "lost",
            "--nodes", "2", "--rdzv", "10.77.0.1:29500", *more, PACE_S="0.3",
        )  # fmt: skip

    stays, goes = start(0), start(1)
    deadline = time.monotonic() + 120
    while not (bench.folder / "lost" / "last.pt").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    for pid in subprocess.check_output(["ip", "netns", "pids", machines[1]], text=True).split():
        os.kill(int(pid), signal.SIGKILL)
    end(goes)
    done = [end(process) for process in [stays, start(1, "--resume")]]
    assert [each.returncode for each in done] == [0, 0], done[0].stderr + done[1].stderr
    assert "hmrb: a process died: restart 1 of 3, from the last checkpoint" in done[0].stderr
    assert same(bench.folder / "lost", two)


def test_a_machine_that_nobody_meets_says_so(bench: Bench, two: Path) -> None:
    with socket.socket() as taken:  # never answers
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        done = bench(
            sys.executable, "-c", "import hmrb.cli.launch as l; l.MEETING_S = 2; from hmrb.cli import main; main()",
            "train", "tiny.yaml", "--out", "alone", "--nodes", "2", "--rdzv", f"127.0.0.1:{port}",
        )  # fmt: skip
    assert done.returncode == 1
    assert f"hmrb: the 2 machines did not all connect to 127.0.0.1:{port}: start hmrb on each of them" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (bench.folder / "alone").exists()


LAST_ACT = """
import os, signal, time
from hmrb.cli.launch import Processes, launch
from hmrb.training.loop import Signals

class Job:
    name, folder = "last act", None
    def prepare(self): pass
    def run(self, world):
        with Signals():  # torch sends SIGINT when the launcher dies; after the last step it has no effect
            world.barrier()
            if world.is_main:
                print("done", flush=True)
                os.kill(os.getppid(), signal.SIGKILL)
            time.sleep(1)

if __name__ == "__main__":
    launch(Processes(2, False), Job())
"""


def test_processes_whose_launcher_dies_at_the_very_end_are_not_left_behind(tmp_path: Path) -> None:
    (tmp_path / "last_act.py").write_text(LAST_ACT)
    done = subprocess.run([sys.executable, "last_act.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "done\n")  # the pipe is closed: no process is left


TWO_FAULTS = """
import os, signal, sys, time
from pathlib import Path
from forked import fork_training_processes
from hmrb.cli.launch import Processes, launch, restarts
from hmrb.errors import RunError

class Job:
    name, folder = "two faults", Path("run")
    def prepare(self): pass
    def run(self, world):
        if world.rank:
            print(os.getpid(), flush=True)
        if restarts() == 0:
            world.barrier()
            if world.rank:
                os.kill(os.getpid(), signal.SIGSTOP)
            world.barrier()  # rank 0 waits here in vain
        if world.rank:
            raise RunError("it would fail again")
        world.barrier()

if __name__ == "__main__":
    Job.folder.mkdir()
    fork_training_processes()
    sys.exit(launch(Processes(2, False), Job(), max_restarts=3))
"""


def test_a_hung_process_is_named_and_started_again_and_a_known_failure_is_final(tmp_path: Path) -> None:
    """SIGSTOP closes no connection: without a heartbeat the others would wait forever."""
    (tmp_path / "two_faults.py").write_text(TWO_FAULTS)
    process = subprocess.Popen(
        [sys.executable, "two_faults.py"], cwd=tmp_path,
        env=os.environ | {"HMRB_PATIENCE_S": "3", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout
    assert process.stderr
    stopped = int(process.stdout.readline())
    line = process.stderr.readline()
    os.kill(stopped, signal.SIGKILL)  # the launcher would do so half a minute later
    done = end(process)
    said = line + done.stderr
    assert line.startswith("hmrb: process 0 waited "), said
    assert "s for process 1 (no heartbeat: stopped, or the machine is down)" in line
    assert process.returncode == 1
    assert len(done.stdout.split()) == 1  # one more process 1, and no third
    assert said.count("hmrb: it would fail again") == 1
    assert "lost its connection to the others" not in said
