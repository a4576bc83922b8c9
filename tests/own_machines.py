"""Two machines of our own, for root: network namespaces at 10.77.0.1 and 10.77.0.2, joined by a cable alone."""

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ADDRESSES = ("10.77.0.1", "10.77.0.2")
NAMES = ("node1", "node2")
HOSTS = Path(tempfile.gettempdir()) / f"hmrb-hosts-{os.getpid()}"  # what each takes for /etc/hosts


def no_machines() -> str:
    """Why they can't be had; empty where they can."""
    if os.geteuid():
        return "has to be root"
    if shutil.which("ip") is None:
        return "there is no ip"
    name = f"hmrb-{os.getpid()}"
    can = subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0
    subprocess.run(["ip", "netns", "delete", name], capture_output=True, check=False)
    return "" if can else "no network namespace may be made"


@contextmanager
def own_machines() -> Iterator[list[str]]:
    """Their namespaces. In them node1 and node2 are their names, and this host's own name is that of each."""
    spaces = [f"hmrb{index}-{os.getpid()}" for index in range(2)]
    wire = [f"hmrb{index}" for index in range(2)]
    HOSTS.mkdir()

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        for index, space in enumerate(spaces):
            ip("netns", "add", space)
            known = [("127.0.0.1", "localhost"), *zip(ADDRESSES, NAMES, strict=True)]
            known.append((ADDRESSES[index], socket.gethostname()))
            (HOSTS / space).write_text("".join(f"{address} {name}\n" for address, name in known))
        ip("link", "add", wire[0], "netns", spaces[0], "type", "veth", "peer", "name", wire[1], "netns", spaces[1])
        for index, space in enumerate(spaces):
            ip("-n", space, "address", "add", f"{ADDRESSES[index]}/24", "dev", wire[index])
            for link in ("lo", wire[index]):
                ip("-n", space, "link", "set", link, "up")
        yield spaces
    finally:
        for space in spaces:
            subprocess.run(["ip", "netns", "delete", space], capture_output=True, check=False)
        shutil.rmtree(HOSTS)


def on_machine(space: str) -> list[str]:
    """Words before a command that is to run there. `ip netns exec` would hide /sys/fs/cgroup, which Slurm asks for."""
    enter = f'mount --bind {HOSTS / space} /etc/hosts && exec "$@"'
    return ["nsenter", f"--net=/run/netns/{space}", "unshare", "--mount", "sh", "-c", enter, "sh"]
