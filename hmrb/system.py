"""What differs between Linux, macOS and Windows: the only file with calls that one of them lacks, each with a fallback.

docs/systems.md says what falls back where.
"""

import ctypes
import errno
import multiprocessing
import os
import platform
import shutil
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import IO, Any

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None  # type: ignore[assignment]

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of glibc's malloc.h
DIE_WITH_PARENT = 1  # prctl's PR_SET_PDEATHSIG
CPU_FACTS = Path("/proc/cpuinfo")  # of Linux
INSTRUCTION_SETS = (
    "avx2", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "asimd", "sve", "sve2", "bf16", "i8mm",
)  # fmt: skip
"""Those by which torch's kernels differ in speed, under the kernel's names: x86-64's, then 64-bit ARM's."""
SHARED_MEMORY = Path("/dev/shm")  # of Linux: batches go through it from the loading processes
NO_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
"""For os.open: a pipe without a writer does not wait; on Windows, which has no such pipes, bytes stay as they are."""


def lock(file: IO[Any], *, shared: bool = False, wait: bool = False) -> None:
    """Locks an open file until it is closed, however the process ends.

    Raises BlockingIOError if another process has the lock, another OSError if there are no locks here.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, "this system has no file locks for hmrb")
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


def reserve(file: IO[bytes], size: int, folder: Path) -> None:
    """Reserves bytes for an open file in `folder`; without such a call, looks whether they are free. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def cores() -> int:
    """The number of CPU cores of this process, or of the machine where nothing tells that."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """The processor's name, or only its kind where nothing tells."""
    return _cpu_fact("model name") or platform.processor() or platform.machine()


def instruction_sets() -> tuple[str, ...]:
    """Those of INSTRUCTION_SETS that the processor has; none where nothing tells."""
    has = (_cpu_fact("flags") or _cpu_fact("Features")).split()
    return tuple(name for name in INSTRUCTION_SETS if name in has)


def _cpu_fact(name: str) -> str:
    """What Linux says of the first core; "" if it says nothing of that name."""
    try:
        lines = CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((value.strip() for key, _, value in (line.partition(":") for line in lines) if key.strip() == name), "")


def memory_bytes() -> int | None:
    """The machine's memory; None where nothing tells."""
    names = getattr(os, "sysconf_names", {})
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= names.keys():
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def open_files() -> tuple[int, int] | None:
    """How many files a process may open, and how many it may ask for; None where there is no such limit."""
    return resource.getrlimit(resource.RLIMIT_NOFILE) if resource is not None else None


def worker_context(preload: Sequence[str]) -> BaseContext:
    """How worker processes start: forked from a process that has imported `preload` once, else each on its own."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context


def keep_memory() -> bool:
    """Makes malloc keep freed memory for reuse. Returns whether that worked (it needs glibc).

    A step on a CPU frees and allocates gigabytes. The system zeroes them page by page, which takes a fifth of the time
    of a ResNet-50 step of 32 pictures.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    tell = ctypes.CDLL(None).mallopt
    return bool(tell(M_MMAP_MAX, 0) and tell(M_TRIM_THRESHOLD, -1))


def apart() -> dict[str, Any]:
    """Arguments of Popen for a process that does not receive Ctrl-C or Slurm's warning.

    On Linux it also stops when this process dies.
    """
    if sys.platform == "win32":
        return {"creationflags": 0x200}  # CREATE_NEW_PROCESS_GROUP
    return {"start_new_session": True, "preexec_fn": _begin}


def _begin() -> None:
    """Runs in the new process before hmrb: ignores Slurm's warning, meant for the parent, and dies with the parent."""
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)
