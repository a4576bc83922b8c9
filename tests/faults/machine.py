"""A machine on which the k-th open, read, write, flush, rename or map of `hmrb` fails."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Fault:
    """The `at`-th operation of a kind fails with an errno: once, or it and all writes after it, or half is written."""

    kind: str
    at: int
    errno: str
    mode: str = "once"

    def __str__(self) -> str:
        return f"{self.kind} {self.at} {self.errno} {self.mode}"

    def words(self) -> tuple[str, int, int, str]:
        return self.kind, self.at, getattr(errno, self.errno), self.mode


# What each kind of operation fails with, and how.
WAYS: dict[str, tuple[tuple[str, str], ...]] = {
    "open": (("EACCES", "once"), ("EIO", "once"), ("ENOSPC", "once")),
    "read": (("EIO", "once"),),
    "write": (("EIO", "once"), ("ENOSPC", "from then on"), ("ENOSPC", "half")),
    "sync": (("EIO", "once"), ("ENOSPC", "once")),
    "rename": (("EIO", "once"), ("EACCES", "once"), ("ENOSPC", "once")),
    "map": (("ENOMEM", "once"), ("EACCES", "once")),
    "mkdir": (("EACCES", "once"), ("ENOSPC", "once")),
    "remove": (("EACCES", "once"), ("EIO", "once")),
    "list": (("EACCES", "once"), ("EIO", "once")),
}


@dataclass(frozen=True)
class Done:
    """What a command left behind: exit code, output, its operations on watched files as (kind, path)."""

    code: int
    out: str
    err: str
    log: list[tuple[str, str]]

    def paths(self, kind: str) -> list[str]:
        return [path for name, path in self.log if name == kind]


class Machine:
    """`hmrb` in processes that are forked from one that has imported it."""

    def __init__(self, folder: Path, by_python: bool = False) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
        environment.pop("LD_PRELOAD", None)
        compiler = None if by_python else shutil.which("gcc") or shutil.which("cc")
        self.by = "gcc" if compiler else "Python"
        if compiler:
            shim = folder / "shim.so"
            subprocess.run([compiler, "-O1", "-shared", "-fPIC", "-o", shim, HERE / "shim.c", "-ldl"], check=True)
            environment["LD_PRELOAD"] = str(shim)
        self._server = subprocess.Popen(
            [sys.executable, str(HERE / "server.py")], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=HERE,
        )  # fmt: skip

    def hmrb(self, words: Sequence[str], folder: Path, fault: Fault | None = None) -> Done:
        """`hmrb WORDS` in `folder`, with its store there; operations on files in the folder count."""
        task: dict[str, Any] = {
            "words": list(words), "folder": str(folder), "environment": {"HMRB_HOME": str(folder / "home")},
            "fault": fault.words() if fault else None,
        }  # fmt: skip
        assert self._server.stdin
        assert self._server.stdout
        print(json.dumps(task), file=self._server.stdin, flush=True)
        return Done(**json.loads(self._server.stdout.readline()))

    def close(self) -> None:
        assert self._server.stdin
        assert self._server.stdout
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()
