"""Runs that are killed, stopped or given a full disk end like an undisturbed run and leave no processes or files."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import tiny_tree, write_tiny_store
from test_train import HERE, Command

from hmrb.checkpoint import Run, hold, load_checkpoint
from hmrb.errors import RequestError

SEED = int(os.environ.get("HMRB_KILL_SEED", time.time_ns() % 2**31))
EPOCHS = 6  # of 5 steps
CODES = {  # exit codes of a disturbed run; all disturbances but the first two may come after its end
    "worker": (0,),
    "checkpoint": (0,),
    "launcher": (0, -signal.SIGKILL),
    "all": (0, -signal.SIGKILL),
    "full disk": (0, 1),
    "stop": (0, 128 + signal.SIGTERM, -signal.SIGTERM),  # the last if it comes before the signal handler is set
}


class Disturbed(Command):
    """`hmrb train` in two processes, identified by a token in their environment."""

    def __init__(self, folder: Path) -> None:
        super().__init__(write_tiny_store(folder / "home"), folder)
        tree = tiny_tree()
        tree["optim"]["epochs"] = EPOCHS
        tree["checkpoints"] = {"minutes": 0.005, "every_epochs": 3, "keep": 2}
        tree["evals"]["benches"] = []
        self.spec.write_text(yaml.safe_dump(tree))
        self.token = f"HMRB_TEST_TOKEN={uuid.uuid4().hex}"
        name, _, value = self.token.partition("=")
        self.environment |= {name: value, "LOG_EVERY": "1", "PACE_S": "0"}

    def start(self, run: str, *options: str, fault: str = "") -> subprocess.Popen:
        """A new Python, as users start it: the token is found in its environment."""
        words = ["train", str(self.spec), "--out", str(self.folder / run), *options]
        return subprocess.Popen(
            [sys.executable, str(HERE / "driver.py"), *words], env=self.environment | {"FAULT": fault},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def alive(self) -> list[int]:
        """The processes of this test, without zombies."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.token in (process / "environ").read_text(errors="replace").split("\0"):
                    found.append(int(process.name))
            except OSError:
                continue
        return found

    def workers(self, launcher: int) -> list[int]:
        """The training processes of a launcher."""
        try:
            children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
            return [int(c) for c in children if "spawn_main" in Path(f"/proc/{c}/cmdline").read_text()]
        except OSError:
            return []

    def wait_for_end_of_all(self) -> None:
        deadline = time.monotonic() + 90
        while left := self.alive():
            assert time.monotonic() < deadline, [Path(f"/proc/{pid}/cmdline").read_text() for pid in left]
            time.sleep(0.1)


def left_by(folder: Path) -> dict[str, Any]:
    """The output of a finished run that must not depend on interruptions."""
    run = Run(folder)
    last, best = load_checkpoint(run.last), load_checkpoint(run.best)
    lines = [json.loads(line) for line in run.log.read_text().splitlines()]
    log = [line for line in lines if not line.keys() & {"knobs", "limit"}]  # of each start
    return {
        "last": (last.step, last.model, last.training),
        "best": (best.step, best.score, best.model),
        "epochs": [(path.name, load_checkpoint(path).model) for path in run.of_epochs],
        "log": [{k: v for k, v in line.items() if k not in ("images_per_s", "data_wait")} for line in log],
        "parts": sorted(path.name for path in folder.glob(".*.part")),
    }


def same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(same(one[key], two[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(same, one, two))
    return one == two


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    for part in one:
        assert same(one[part], two[part]), part


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory: pytest.TempPathFactory) -> Disturbed:
    return Disturbed(tmp_path_factory.mktemp("faults"))


@pytest.fixture(scope="module")
def whole(disturbed: Disturbed) -> tuple[dict[str, Any], float]:
    """The output of the undisturbed run, and its seconds."""
    start = time.monotonic()
    done = disturbed("whole", "--cpu-procs", "2")
    assert done.returncode == 0, done.stderr
    left = left_by(disturbed.folder / "whole")
    steps = [line["step"] for line in left["log"] if "total" in line]
    assert steps == list(range(1, 5 * EPOCHS + 1))
    assert [name for name, _ in left["epochs"]] == ["epoch_0003.pt", "epoch_0006.pt"]
    return left, time.monotonic() - start


@pytest.fixture(scope="module")
def alone(disturbed: Disturbed) -> dict[str, Any]:
    """The output of the undisturbed run of one process."""
    done = disturbed("alone")
    assert done.returncode == 0, done.stderr
    return left_by(disturbed.folder / "alone")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk in memory with room for four checkpoints of 42 MB; a run needs three."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=170m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted here: {mounted.stderr.decode().strip()}")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with open(ballast, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(2**16))
        except OSError:
            return ballast


def disturb(command: Disturbed, kind: str, run: str, rng: random.Random, seconds: float, disk: Path) -> str:
    """Disturbs one run at a random moment, then resumes it to its end. Returns its stderr."""
    options = ["--cpu-procs", "2"]
    fault = f"kill_save:{rng.randint(1, 12)}" if kind == "checkpoint" else ""
    command.environment |= {"FAULT_ONCE": str(command.folder / f"{run}.struck"), "PACE_S": "0.05"}
    process = command.start(run, *options, fault=fault)
    moment = rng.uniform(0, seconds)
    print(f"{kind} at {moment:.2f} s of {seconds:.2f} s {fault}", flush=True)
    try:
        process.wait(timeout=moment)
    except subprocess.TimeoutExpired:
        if kind == "worker":
            workers = command.workers(process.pid)
            if workers:
                os.kill(rng.choice(workers), signal.SIGKILL)
        if kind == "launcher":
            process.kill()
        if kind == "stop":
            os.kill(rng.choice([process.pid, *command.workers(process.pid)]), signal.SIGTERM)
        if kind == "all":
            for pid in command.alive():
                os.kill(pid, signal.SIGKILL)
        if kind == "full disk":
            ballast = fill(disk)
            time.sleep(rng.uniform(0, 3))
            ballast.unlink()
    said = process.communicate(timeout=300)[1]
    print(said)
    command.wait_for_end_of_all()
    assert process.returncode in CODES[kind], said
    if process.returncode:
        again = command(run, "--resume", *options)
        assert again.returncode == 0, said + again.stderr
        command.wait_for_end_of_all()
    return said


@pytest.mark.heavy  # by default: tests/cli/test_launch.py starts a job again, test_train.py resumes a run
def test_a_killed_process_is_started_again_and_the_run_ends_as_it_would_have(
    disturbed: Disturbed, whole: tuple[dict[str, Any], float]
) -> None:
    rng = random.Random(SEED)
    disturbed.environment["FAULT_ONCE"] = str(disturbed.folder / "struck")
    fault = rng.choice([f"kill_step:{rng.randint(0, 5 * EPOCHS - 1)}", f"kill_save:{rng.randint(1, 12)}"])
    done = disturbed("killed", "--cpu-procs", "2", fault=fault)
    assert done.returncode == 0, f"{fault}: {done.stderr}"
    assert "hmrb: a process died: restart 1 of 3, from the last checkpoint" in done.stderr
    assert "Traceback" not in done.stderr
    assert_same(left_by(disturbed.folder / "killed"), whole[0])
    assert disturbed.alive() == []


@pytest.mark.heavy  # by default: a job that does not train, tests/cli/test_launch.py
def test_a_process_that_hangs_is_named_and_the_run_goes_on(
    disturbed: Disturbed, whole: tuple[dict[str, Any], float]
) -> None:
    """SIGSTOP closes no connection: without a timeout the others would wait forever."""
    disturbed.environment |= {"FAULT_ONCE": str(disturbed.folder / "stopped"), "HMRB_PATIENCE_S": "4"}
    process = disturbed.start("hung", "--cpu-procs", "2", fault="stop_step:12")
    assert process.stderr
    line = process.stderr.readline()
    assert line.startswith("hmrb: process 0 waited "), line + process.communicate()[1]
    assert "s for process 1 (no heartbeat: stopped, or the machine is down)" in line
    for worker in disturbed.workers(process.pid):
        if "(stopped)" in Path(f"/proc/{worker}/status").read_text():
            os.kill(worker, signal.SIGKILL)  # the launcher would do so half a minute later
    said = process.communicate(timeout=300)[1]
    assert process.returncode == 0, said
    assert "restart 1 of 3" in said
    del disturbed.environment["HMRB_PATIENCE_S"]
    assert_same(left_by(disturbed.folder / "hung"), whole[0])


@pytest.mark.heavy  # by default: several processes are started again
def test_one_process_is_started_again_where_that_was_asked_for(disturbed: Disturbed, alone: dict[str, Any]) -> None:
    disturbed.environment["FAULT_ONCE"] = str(disturbed.folder / "struck alone")
    done = disturbed("one", "--max-restarts", "1", fault="kill_step:13")
    assert done.returncode == 0, done.stderr
    assert "restart 1 of 1" in done.stderr
    assert_same(left_by(disturbed.folder / "one"), alone)


@pytest.mark.heavy  # by default: tests/test_checkpoint.py
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_taken(disturbed: Disturbed, alone: dict[str, Any]) -> None:
    disturbed.environment["FAULT_ONCE"] = ""
    assert disturbed("damaged", fault="kill_step:23").returncode == -signal.SIGKILL
    run = Run(disturbed.folder / "damaged")
    older, content = load_checkpoint(run.before), bytearray(run.last.read_bytes())
    content[len(content) // 2] ^= 1  # one bit
    run.last.write_bytes(content)
    again = disturbed("damaged", "--resume")
    assert again.returncode == 0, again.stderr
    said = again.stdout.replace("\n", "")
    assert "damaged/last.pt: refused: not an hmrb checkpoint, truncated, or it would run code" in said
    assert f"the run continues from last.1.pt, step {older.step}" in said
    assert_same(left_by(run.folder), alone)
    assert run.damaged.read_bytes() == content


@pytest.mark.heavy  # by default: the same job
def test_what_would_fail_again_is_not_tried_again(disturbed: Disturbed) -> None:
    disturbed.environment["FAULT_ONCE"] = ""
    failed = disturbed("nan", "--cpu-procs", "2", fault="nan_step:6")
    assert failed.returncode == 1
    assert "keypoints3d is not finite" in failed.stderr
    assert "restart" not in failed.stderr
    assert "lost its connection to the others" not in failed.stderr


@pytest.mark.heavy  # by default: tests/faults
def test_a_full_disk_is_said_and_outlived(disturbed: Disturbed, alone: dict[str, Any], small_disk: Path) -> None:
    """A run whose disk is full for a while, and one whose disk stays full, each with one process."""
    disturbed.environment["PACE_S"] = "0.2"
    process = disturbed.start(str(small_disk / "run"))
    wait_for(small_disk / "run" / "last.pt")
    ballast = fill(small_disk)
    time.sleep(2)
    ballast.unlink()
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert ".pt: could not write the checkpoint (No space left on device); the previous one is kept" in out
    assert_same(left_by(small_disk / "run"), alone)
    shutil.rmtree(small_disk / "run")
    process = disturbed.start(str(small_disk / "again"))
    wait_for(small_disk / "again" / "last.pt")
    ballast = fill(small_disk)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 1
    assert said.count("hmrb: ") == 1, said
    assert "could not write the checkpoint (No space left on device); the previous one is kept" in said
    assert "Traceback" not in said
    ballast.unlink()
    disturbed.environment["PACE_S"] = "0"
    again = disturbed(str(small_disk / "again"), "--resume")
    assert again.returncode == 0, again.stderr
    assert_same(left_by(small_disk / "again"), alone)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.02)


def test_a_folder_on_a_full_disk_is_held(small_disk: Path) -> None:
    with hold(small_disk / "run"):
        pass
    fill(small_disk)
    with hold(small_disk / "run"), pytest.raises(RequestError, match="in use"), hold(small_disk / "run"):
        pass


@pytest.mark.heavy
@pytest.mark.parametrize("kind", CODES)
@pytest.mark.parametrize("time_of_20", range(20))
def test_a_disturbed_run_ends_as_the_undisturbed(
    kind: str, time_of_20: int, disturbed: Disturbed, whole: tuple[dict[str, Any], float], small_disk: Path
) -> None:
    """The seed is printed; HMRB_KILL_SEED=N repeats its moments."""
    print(f"HMRB_KILL_SEED={SEED}")
    rng = random.Random(f"{SEED} {kind} {time_of_20}")
    run = str(small_disk / "run") if kind == "full disk" else f"{kind} {time_of_20}"
    said = disturb(disturbed, kind, run, rng, whole[1], small_disk)
    assert "Traceback" not in said
    assert_same(left_by(disturbed.folder / run), whole[0])
    shutil.rmtree(disturbed.folder / run)
