"""What one of Linux, macOS and Windows lacks is called in hmrb/system.py alone, and has a fallback there."""

import ast
import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hmrb
from hmrb import system
from hmrb.checkpoint import hold
from hmrb.data.convert.writer import _reserve

ROOT = Path(hmrb.__file__).parent
FILES = sorted(path for path in ROOT.rglob("*.py") if path.name != "system.py")
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "pty", "tty", "posix", "ctypes", "syslog", "readline"}
CALLS = {
    "os": {
        "fork", "forkpty", "register_at_fork", "killpg", "getpgid", "getpgrp", "setpgid", "setsid", "getuid", "geteuid",
        "getgid", "nice", "sched_getaffinity", "sched_setaffinity", "statvfs", "fstatvfs", "posix_fallocate",
        "posix_fadvise", "mkfifo", "mknod", "uname", "wait", "wait3", "wait4", "getloadavg", "sysconf", "chown",
        "sendfile", "pread", "preadv", "sync", "WNOHANG", "O_NONBLOCK", "O_DIRECTORY", "O_DIRECT", "O_CLOEXEC",
    },
    "signal": {
        "SIGKILL", "SIGSTOP", "SIGCONT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCHLD", "SIGQUIT", "alarm",
        "setitimer", "pause", "pthread_kill", "pthread_sigmask", "sigwait",
    },
    "socket": {"AF_UNIX", "socketpair", "SO_REUSEPORT"},
}  # fmt: skip
WORDS = {"preexec_fn", "start_new_session", "pass_fds", "process_group"}  # of Popen
PATHS = ("/proc/", "/dev/shm", "/dev/null", "/sys/", "/etc/", "/tmp")


def found_in(code: str) -> Iterator[str]:
    """Each call in a file that one of the systems lacks."""
    tree = ast.parse(code)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (f"import {one.name}" for one in names if one.name.partition(".")[0] in MODULES)
            case ast.ImportFrom(module=str(module)) if module.partition(".")[0] in MODULES:
                yield f"import {module}"
            case ast.ImportFrom(module=str(module), names=names) if module in CALLS:
                yield from (f"{module}.{one.name}" for one in names if one.name in CALLS[module])
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if name in CALLS.get(owner, ()):
                yield f"{owner}.{name}"
            case ast.keyword(arg=str(word)) if word in WORDS:
                yield word
            case ast.Call(func=ast.Attribute(attr="get_context"), args=[ast.Constant(value="fork" | "forkserver")]):
                yield "get_context"
            case ast.Constant(value=str(text)) if text.startswith(PATHS) and id(node) not in prose:
                yield text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_calls_what_a_system_lacks(path: Path) -> None:
    assert list(found_in(path.read_text(encoding="utf-8"))) == []


def test_such_calls_are_found() -> None:
    code = '''"""/proc/self"""
import fcntl, os.path
from signal import SIGKILL
os.fork()
open("/proc/self/status")
Popen(x, preexec_fn=f)
multiprocessing.get_context("fork")
'''
    assert set(found_in(code)) == {
        "import fcntl", "signal.SIGKILL", "os.fork", "/proc/self/status", "preexec_fn", "get_context",
    }  # fmt: skip
    assert len(set(found_in((ROOT / "system.py").read_text(encoding="utf-8")))) > 5


def test_without_file_locks_a_run_goes_on_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(system, "fcntl", None)
    with hold(tmp_path):
        pass
    assert "cannot be locked" in capsys.readouterr().err


def test_a_lock_is_held_until_the_file_is_closed(tmp_path: Path) -> None:
    with open(tmp_path / "a", "wb") as first, open(tmp_path / "a", "rb") as second:
        system.lock(first)
        with pytest.raises(BlockingIOError):
            system.lock(second, shared=True)
        first.close()
        system.lock(second, shared=True)


def test_without_fallocate_a_full_disk_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "posix_fallocate")
    _reserve(tmp_path, [10, 10])
    usage = shutil.disk_usage(tmp_path)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        _reserve(tmp_path, [10, usage.free + 1])


def test_cores_without_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert system.cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.cores() == 1


def test_facts_that_no_system_call_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (system.memory_bytes() or 0) > 1 << 28
    assert system.open_files() is not None
    monkeypatch.delattr(os, "sysconf_names")
    monkeypatch.setattr(system, "resource", None)
    assert (system.memory_bytes(), system.open_files()) == (None, None)


def test_the_processor_and_its_instruction_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system, "CPU_FACTS", tmp_path / "cpuinfo")
    assert system.instruction_sets() == ()
    assert system.processor() in (platform.processor(), platform.machine())
    said = "processor\t: 0\nmodel name\t: A CPU: fast\nflags\t\t: fpu amx_bf16 avx2\n\nprocessor\t: 1\nflags\t: sve\n"
    system.CPU_FACTS.write_text(said)
    assert (system.processor(), system.instruction_sets()) == ("A CPU: fast", ("avx2", "amx_bf16"))
    system.CPU_FACTS.write_text("processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert system.instruction_sets() == ("asimd", "bf16")


def test_workers_start_on_their_own_without_forkserver(monkeypatch: pytest.MonkeyPatch) -> None:
    assert system.worker_context([]).get_start_method() == "forkserver"
    monkeypatch.setattr(system.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert system.worker_context([]).get_start_method() == "spawn"


def test_a_process_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import signal; print(signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, **system.apart())
    assert done.stdout.strip() == "True"
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        assert system.apart() == {"creationflags": 0x200}
        patch.setattr(sys, "platform", "darwin")
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(system.ctypes, "CDLL", lambda _: pytest.fail("macOS has no prctl"))
        system.apart()["preexec_fn"]()
