"""`hmrb` with a synthetic set of a few people. torchrun and srun start it in test_launch.py."""

import hmrb.data.sources.synthetic
from hmrb.cli import main

hmrb.data.sources.synthetic.TRAIN_PEOPLE = 8
hmrb.data.sources.synthetic.TEST_PEOPLE = 6
if __name__ == "__main__":  # training processes import this module again
    main()
