"""A Slurm of one node on 127.0.0.1, started by hand as root: munged, slurmctld, slurmd, without systemd.

Debian: apt-get install slurm-wlm munge.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

CONF = """
ClusterName=hmrb
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=30
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=small Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
"""


def missing() -> str:
    """Why no Slurm can be started here; empty where one can."""
    if os.geteuid():
        return "has to be root"
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name) is None]
    return f"there is no {', '.join(programs)}" if programs else ""


@contextmanager
def own_slurm(folder: Path) -> Iterator[dict[str, str]]:
    """The environment in which sbatch, srun and scontrol speak to it; its daemons end with the block."""
    folder.mkdir(parents=True)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    conf.write_text(CONF.format(host=host, folder=folder, ports=_free_ports(2)))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = folder / "munge"
    daemons = [
        ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge / 'socket'}",
         f"--pid-file={munge / 'pid'}", f"--seed-file={munge / 'seed'}", f"--log-file={munge / 'log'}"],
        ["slurmctld", "-D", "-i", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]  # fmt: skip
    with ExitStack() as running:
        for command in daemons:
            log = running.enter_context(open(folder / f"{command[0]}.log", "wb"))
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            running.callback(_end, daemon)
            if command[0] == "munged":
                _wait_for((munge / "socket").exists)
        _wait_for(lambda: "idle" in _ask(environment, "sinfo", "--noheader", "--format=%T"))
        try:
            yield environment
        finally:
            _ask(environment, "scancel", "--user=root")
            _wait_for(lambda: not _ask(environment, "squeue", "--noheader"))


def _ask(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False).stdout


def _wait_for(is_so: object, seconds: float = 90) -> None:
    deadline = time.time() + seconds
    while not is_so():  # type: ignore[operator]
        if time.time() > deadline:
            raise TimeoutError("Slurm did not come up, or did not end its jobs; see its logs")
        time.sleep(0.2)


def _end(daemon: subprocess.Popen) -> None:
    daemon.terminate()
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
