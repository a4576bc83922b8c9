"""`python -m hmrb`."""

from hmrb.cli import main

if __name__ == "__main__":  # training processes import this module again
    main()
