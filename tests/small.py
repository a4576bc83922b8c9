"""`hmrb` with a synthetic set of a few people, for test_launch.py. FORK=1: training processes are forked."""

import os

from forked import fork_training_processes

import hmrb.data.sources.synthetic
from hmrb.cli import main

hmrb.data.sources.synthetic.TRAIN_PEOPLE = 8
hmrb.data.sources.synthetic.TEST_PEOPLE = 6
if os.environ.get("FORK"):
    fork_training_processes()
if __name__ == "__main__":  # training processes import this module again
    main()
