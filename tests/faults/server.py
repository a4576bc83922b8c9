"""Runs `hmrb` again and again, each time in a process forked from this one, which has imported all of it.

Reads one JSON object a line (words, folder, environment, fault) and answers with one (code, out, err, log).
Started by machine.py, which puts shim.c into it; without a compiler, by_python.py strikes in its place.
"""

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import mmap
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

KINDS = ("open", "read", "write", "sync", "rename", "map", "mkdir", "remove", "list")
MODES = ("once", "from then on", "half")
LONG = ctypes.sizeof(ctypes.c_long)
LOG_BYTES = 1 << 20
HEAD = LONG * (len(KINDS) + 1)  # counts, and the bytes of the log
SECONDS = 120
KEPT: list[mmap.mmap] = []


def import_all() -> None:
    import timm  # noqa: F401
    import torch
    import torch.utils.tensorboard

    torch.set_num_threads(1)
    hmrb = importlib.import_module("hmrb")
    for module in pkgutil.walk_packages(hmrb.__path__, "hmrb."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    sys.modules["hmrb.training.loop"].LOG_EVERY = 1  # type: ignore[attr-defined]


def arm(shared: mmap.mmap, task: dict[str, Any]) -> None:
    """Counts from here on, and strikes as asked."""
    kind, at, number, mode = task["fault"] or (None, 0, 0, MODES[0])
    numbers = KINDS.index(kind) if kind else -1, at, number, MODES.index(mode)
    if "LD_PRELOAD" in os.environ:
        counts = ctypes.addressof(ctypes.c_char.from_buffer(shared))
        shim = ctypes.CDLL(None).arm
        shim.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_int, ctypes.c_int]
        shim(counts, os.fsencode(task["folder"]), *numbers)
    else:
        import by_python

        by_python.arm(shared, KINDS, task["folder"], *numbers)


def run(task: dict[str, Any], answers: Any) -> dict[str, Any] | None:
    """The answer; None in the forked process, which then runs hmrb."""
    shared = mmap.mmap(-1, HEAD + LOG_BYTES)
    KEPT.append(shared)  # the forked process counts in it to its end
    said = [tempfile.TemporaryFile(), tempfile.TemporaryFile()]  # noqa: SIM115
    child = os.fork()
    if not child:
        answers.close()
        signal.alarm(SECONDS)
        for descriptor, file in enumerate(said, 1):
            os.dup2(file.fileno(), descriptor)
        os.environ |= task["environment"]
        os.chdir(task["folder"])
        sys.argv = ["hmrb", *task["words"]]
        arm(shared, task)
        return None
    status = os.waitpid(child, 0)[1]
    texts = []
    for file in said:
        file.seek(0)
        texts.append(file.read().decode(errors="replace"))
        file.close()
    KEPT.clear()
    lines = shared[HEAD:].rstrip(b"\0").decode(errors="replace").splitlines()
    log = [(KINDS[int(kind)], path) for kind, _, path in (line.partition(" ") for line in lines)]
    return {"code": os.waitstatus_to_exitcode(status), "out": texts[0], "err": texts[1], "log": log}


def serve() -> None:
    """Returns in forked processes only, and at the end."""
    tasks, answers = sys.stdin, os.fdopen(os.dup(1), "w")
    import_all()
    gc.freeze()
    for line in tasks:
        answer = run(json.loads(line), answers)
        if answer is None:
            break
        print(json.dumps(answer), file=answers, flush=True)
    else:
        os._exit(0)


def end(command: Callable[[], None]) -> NoReturn:
    """Runs a command to the end of its process as Python does, but without taking all modules apart (1.4 s)."""
    code = 0
    try:
        command()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else bool(leaving.code)
    except BaseException:
        traceback.print_exc()
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    with contextlib.suppress(ValueError):  # closed by the command
        sys.stderr.flush()
    ctypes.CDLL(None).exit(code)  # HDF5 closes its files here
    raise AssertionError


if __name__ == "__main__":
    serve()
    from hmrb.cli import main

    end(main)
