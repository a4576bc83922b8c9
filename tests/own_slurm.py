"""A Slurm of one node on 127.0.0.1, or of two machines of our own, started by hand as root, without systemd.

Debian: apt-get install slurm-wlm munge.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from own_machines import ADDRESSES, NAMES, on_machine

CONF = """
ClusterName=hmrb
SlurmctldHost={host}({address})
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmdTimeout=10
SlurmUser=root
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
KillWait=30
SchedulerParameters=sched_min_interval=0,batch_sched_delay=0
{nodes}
PartitionName=small Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
"""


def slurmd(conf: Path, name: str) -> list[str]:
    """The command of a node's daemon."""
    return ["slurmd", "-D", "-N", name, "-f", str(conf)]


def missing() -> str:
    """Why no Slurm can be started here; empty where one can."""
    if os.geteuid():
        return "has to be root"
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch", "srun") if shutil.which(name) is None]
    return f"there is no {', '.join(programs)}" if programs else ""


@contextmanager
def own_slurm(folder: Path, machines: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """The environment in which sbatch, srun and scontrol speak to it; its daemons end with the block.

    On two `machines` they speak to it on the first.
    """
    folder.mkdir(parents=True)
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf = folder / "slurm.conf"
    host = socket.gethostname().partition(".")[0]
    where = dict(zip(NAMES, ADDRESSES, strict=True)) if machines else {host: "127.0.0.1"}
    nodes = [f"NodeName={name} NodeHostname={host} NodeAddr={at} CPUs=2 State=UNKNOWN" for name, at in where.items()]
    (address, *_), ports = where.values(), _free_ports(2)
    for name in where:
        (folder / "spool" / name).mkdir()
    conf.write_text(CONF.format(host=host, address=address, folder=folder, ports=ports, nodes="\n".join(nodes)))
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    munge = folder / "munge"
    begins = [on_machine(machine) for machine in machines] or [[]]
    daemons = {
        "munged": ["munged", "--foreground", "--force", f"--key-file={key}", f"--socket={munge / 'socket'}",
         f"--pid-file={munge / 'pid'}", f"--seed-file={munge / 'seed'}", f"--log-file={munge / 'log'}"],
        "slurmctld": [*begins[0], "slurmctld", "-D", "-i", "-f", str(conf)],
    }  # fmt: skip
    daemons |= {f"slurmd-{name}": [*begin, *slurmd(conf, name)] for begin, name in zip(begins, where, strict=True)}
    with ExitStack() as running:
        for name, command in daemons.items():
            log = running.enter_context(open(folder / f"{name}.log", "wb"))
            daemon = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            running.callback(_end, daemon)
            if name == "munged":
                _wait_for((munge / "socket").exists)
        _wait_for(lambda: _ask(environment, *begins[0], "sinfo", "--noheader", "--format=%T").split() == ["idle"])
        try:
            yield environment
        finally:
            _ask(environment, *begins[0], "scancel", "--user=root")
            _wait_for(lambda: not _ask(environment, *begins[0], "squeue", "--noheader"))


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
