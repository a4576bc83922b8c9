"""`hmrb` with a fault put in: FAULT=kill_step:N, kill_save:N, nan_step:N or term_step:N. Run by test_train.py."""

import os
import signal

import torch

import hmrb.train
from hmrb.cli import main

kind, _, number = os.environ.get("FAULT", "").partition(":")
count = 0
step, save = hmrb.train.train_step, torch.save


def faulty_step(learner, losses, batch, at, *rest):
    if kind == "kill_step" and at == int(number):
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "term_step" and at == int(number):
        os.kill(os.getpid(), signal.SIGTERM)
    if kind == "nan_step" and at == int(number):
        batch.keypoints3d[1, 0, 0] = float("nan")
    return step(learner, losses, batch, at, *rest)


def faulty_save(content, file, **options):
    global count
    count += not options  # options: torch packing a tensor for another process
    if kind == "kill_save" and count == int(number):
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "full_disk" and count == int(number):
        raise OSError(28, "No space left on device")
    save(content, file, **options)


hmrb.train.train_step = faulty_step
torch.save = faulty_save
if __name__ == "__main__":  # training processes import this module again
    main()
