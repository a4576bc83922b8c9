"""What shim.c does, without a compiler: it sees what Python opens, reads, writes, flushes, renames and maps itself.

Reads and maps of HDF5, and writes of C++, pass unseen: use shim.c where there is a compiler.
"""

import builtins
import io
import mmap
import os
import sys
from typing import Any

EVENTS = {"os.rename": "rename", "os.remove": "remove", "os.rmdir": "remove", "os.mkdir": "mkdir", "os.scandir": "list"}


def arm(shared: mmap.mmap, kinds: tuple[str, ...], folder: str, kind: int, at: int, number: int, mode: int) -> None:
    """Counts operations under `folder`; the `at`-th of a kind fails with an errno as `mode` says."""
    counts = [0] * len(kinds)
    head, used, is_full = 8 * (len(kinds) + 1), 0, False

    def strikes(name: str, path: Any) -> int:
        """0, or 2 if half is to be written. Raises OSError if it is to fail."""
        nonlocal used, is_full
        path = os.path.abspath(os.fsdecode(path)) if isinstance(path, str | bytes | os.PathLike) else ""
        if not path.startswith(folder):
            return 0
        now = kinds.index(name)
        counts[now] += 1
        line = f"{now} {path}\n".encode()
        shared[head + used : head + used + len(line)] = line
        used += len(line)
        if is_full and name == "write":
            raise OSError(number, os.strerror(number), path)
        if (now, counts[now]) != (kind, at):
            return 0
        is_full = mode > 0
        if mode == 2:
            return 2
        raise OSError(number, os.strerror(number), path)

    class Raw(io.FileIO):
        def write(self, data: Any) -> int:
            whole = memoryview(data).cast("B")
            half = strikes("write", self.name) == 2 and len(whole) > 1
            return super().write(whole[: len(whole) // 2] if half else whole) or 0

        def readinto(self, buffer: Any) -> int:
            strikes("read", self.name)
            return super().readinto(buffer) or 0

        def readall(self) -> bytes:
            strikes("read", self.name)
            return super().readall() or b""

    real = io.open

    def opened(file: Any, how: str = "r", buffering: int = -1, *rest: Any, **more: Any) -> Any:
        if isinstance(file, int) or more.get("opener") or len(rest) > 3:
            return real(file, how, buffering, *rest, **more)
        raw = Raw(file, how.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        kind_of = io.BufferedRandom if "+" in how else io.BufferedReader if "r" in how else io.BufferedWriter
        buffered = kind_of(raw)
        if "b" in how:
            return buffered
        names = dict(zip(("encoding", "errors", "newline"), rest, strict=False)) | more
        text = io.TextIOWrapper(buffered, **{key: value for key, value in names.items() if key != "closefd"})
        text.mode = how  # type: ignore[misc]
        return text

    def watched(name: str, call: Any) -> Any:
        def step(descriptor: int, *rest: Any) -> Any:
            strikes(name, os.readlink(f"/proc/self/fd/{descriptor}"))
            return call(descriptor, *rest)

        return step

    def hook(event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            strikes("open", values[0])
        elif event == "mmap.__new__" and values[0] >= 0:
            strikes("map", os.readlink(f"/proc/self/fd/{values[0]}"))
        elif event in EVENTS:
            strikes(EVENTS[event], values[1] if event == "os.rename" else values[0])

    io.open = builtins.open = opened
    os.fsync, os.posix_fallocate = watched("sync", os.fsync), watched("write", os.posix_fallocate)
    sys.addaudithook(hook)
