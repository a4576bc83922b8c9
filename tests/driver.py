"""`hmrb` with a fault put in, once: FAULT=kind:N. Run by test_train.py and test_faults.py.

kill_step:N and term_step:N send SIGKILL and SIGTERM before step N, stop_step:N SIGSTOP to the last process; nan_step:N
breaks a label; kill_save:N and full_disk:N strike at the N-th file saved, disk_full_from:N at it and all after it. With
FAULT_ONCE=PATH a fault strikes only while there is no such file, and makes it. LOG_EVERY=N: steps between two lines of
the log; PACE_S: seconds that a step takes longer. FORK=1: training processes are forked.
"""

import os
import signal
import time
from pathlib import Path

import torch
from forked import fork_training_processes

import hmrb.training.loop
from hmrb.cli import main

kind, _, number = os.environ.get("FAULT", "").partition(":")
once = os.environ.get("FAULT_ONCE")
count = 0
step, save = hmrb.training.loop.train_step, torch.save
hmrb.training.loop.LOG_EVERY = int(os.environ.get("LOG_EVERY", "20"))


def strikes(wanted, is_now):
    if kind != wanted or not is_now or (once and Path(once).exists()):
        return False
    if once:
        Path(once).touch()
    return True


def faulty_step(learner, losses, batch, at, *rest):
    time.sleep(float(os.environ.get("PACE_S", "0")))
    is_last_process = int(os.environ.get("RANK", "0")) == int(os.environ.get("WORLD_SIZE", "1")) - 1
    for name, signum in (("kill_step", signal.SIGKILL), ("term_step", signal.SIGTERM), ("stop_step", signal.SIGSTOP)):
        if strikes(name, at == int(number or -1) and is_last_process):
            os.kill(os.getpid(), signum)
    if strikes("nan_step", at == int(number or -1)):
        batch.keypoints3d[1, 0, 0] = float("nan")
    return step(learner, losses, batch, at, *rest)


def faulty_save(content, file, **options):
    global count
    count += not options  # options: torch packing a tensor for another process
    if strikes("kill_save", count == int(number or -1)):
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if strikes("full_disk", count == int(number or -1)) or strikes("disk_full_from", count >= int(number or 1)):
        raise OSError(28, "No space left on device")
    save(content, file, **options)


hmrb.training.loop.train_step = faulty_step
if os.environ.get("FORK"):
    fork_training_processes()
torch.save = faulty_save
if __name__ == "__main__":  # training processes import this module again
    main()
