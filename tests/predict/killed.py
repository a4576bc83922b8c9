"""`hmrb predict` in blocks of four pictures that kills itself: KILL=before:N, half:N or after:N, at the N-th step.

A step is a file that is put in place, or removed. RANK_KILLED=1: only that process counts. FORK=1: processes are
forked, which spares each of them the import of torch.
"""

import os
import signal
from pathlib import Path

import torch
import torch.distributed.launcher.api

import hmrb.predict.plan
from hmrb.cli import main

when, _, number = os.environ.get("KILL", "").partition(":")
count = 0
replace, unlink = os.replace, Path.unlink
torch.set_num_threads(1)  # as of several processes: another number changes the last digits
hmrb.predict.plan.BLOCK, hmrb.predict.plan.TOGETHER = 4, 2


def step(act, path, *rest, **options):
    global count
    count += os.environ.get("RANK_KILLED") in (None, os.environ.get("RANK"))
    is_now = count == int(number or -1)
    if is_now and when == "half":
        Path(path).write_bytes(Path(path).read_bytes()[:-100])
    if is_now and when != "after":
        os.kill(os.getpid(), signal.SIGKILL)
    act(path, *rest, **options)
    if is_now:
        os.kill(os.getpid(), signal.SIGKILL)


os.replace = lambda path, to: step(replace, path, to)
Path.unlink = lambda path, **options: step(unlink, path, **options)
if os.environ.get("FORK"):
    launcher = torch.distributed.launcher.api
    spawning = launcher.LaunchConfig
    launcher.LaunchConfig = lambda **options: spawning(**options | {"start_method": "fork"})
if __name__ == "__main__":
    main()
